//! DeleteTopics: by name or, since version 6, by id.

use std::sync::Arc;

use millstream_wire::ErrorCode;
use millstream_wire::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use millstream_wire::delete_topics_response::{DeletableTopicResult, DeleteTopicsResponse};

use super::RequestContext;
use super::error_code::of_topic;
use crate::broker::{Broker, TopicError};
use crate::ids::TopicId;
use crate::metadata::TopicImage;

pub(super) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DeleteTopicsRequest<'_>,
) -> DeleteTopicsResponse<'static> {
    let by_name = |name| DeleteTopicState { name: Some(name), ..Default::default() };
    let wanted: Vec<_> = match context.version {
        ..6 => request.topic_names.into_iter().map(by_name).collect(),
        _ => request.topics,
    };
    let mut responses = Vec::with_capacity(wanted.len());
    for topic in wanted {
        let found = find(broker, &topic);
        let name = match &found {
            Ok(found) => Some(found.name.as_str().to_owned().into()),
            Err(_) => topic.name.clone().map(|name| name.into_owned().into()),
        };
        let topic_id = found.as_ref().map_or(topic.topic_id, |found| found.id.0);
        let deleted = match found {
            Ok(found) => broker.delete_topic(&found).await,
            Err(error) => Err(error),
        };
        let code = deleted.as_ref().map_or_else(of_topic, |()| ErrorCode::NONE);
        if code != ErrorCode::NONE {
            broker.metrics.error(context.api, code);
        }
        let error_message = deleted.err().map(|error| error.to_string().into());
        responses.push(DeletableTopicResult { name, topic_id, error_code: code, error_message });
    }
    DeleteTopicsResponse { responses, ..Default::default() }
}

fn find(broker: &Broker, wanted: &DeleteTopicState<'_>) -> Result<Arc<TopicImage>, TopicError> {
    let image = broker.metadata.image();
    let listed = match &wanted.name {
        Some(name) => image.listed(name).ok_or_else(|| TopicError::Unknown(name.clone().into_owned()))?,
        None => {
            let id = TopicId(wanted.topic_id);
            image.listed_by_id(id).ok_or(TopicError::UnknownId(id))?
        }
    };
    match listed.view() {
        Some(view) => Err(TopicError::IsView(view.name.clone())),
        None => Ok(listed.stored().clone()),
    }
}
