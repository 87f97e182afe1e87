//! How many partitions topics have.

use std::borrow::Cow;
use std::collections::BTreeMap;

use millstream_wire::ErrorCode;
use millstream_wire::metadata_request::{MetadataRequest, MetadataRequestTopic};

use super::connection::Connection;
use super::error::ClientError;
use super::transport::Transport;

/// The number of partitions of each topic that exists. Names that no topic can have do not exist either.
pub(crate) async fn partition_counts<T: Transport>(
    connection: &Connection<T>,
    topics: impl IntoIterator<Item = &str>,
) -> Result<BTreeMap<String, i32>, ClientError> {
    let named = |topic| MetadataRequestTopic { name: Some(Cow::Borrowed(topic)), ..Default::default() };
    let topics: Vec<_> = topics.into_iter().map(named).collect();
    if topics.is_empty() {
        return Ok(BTreeMap::new());
    }
    let request =
        MetadataRequest { topics: Some(topics), allow_auto_topic_creation: false, ..Default::default() };
    let counts = connection.call(&request, |response, _| {
        let mut counts = BTreeMap::new();
        for topic in response.topics {
            let name = topic.name.unwrap_or_default().into_owned();
            match topic.error_code {
                ErrorCode::NONE => {
                    counts.insert(name, i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX));
                }
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::INVALID_TOPIC_EXCEPTION => {}
                code => return Err(ClientError::Topic { topic: name, code }),
            }
        }
        Ok(counts)
    });
    counts.await?
}
