//! CreatePartitions: grows topics.

use millstream_wire::ErrorCode;
use millstream_wire::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use millstream_wire::create_partitions_response::{CreatePartitionsResponse, CreatePartitionsTopicResult};

use super::RequestContext;
use super::error_code::of_topic;
use crate::broker::Broker;
use crate::ids::BrokerId;

pub(super) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: CreatePartitionsRequest<'_>,
) -> CreatePartitionsResponse<'static> {
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let assignment = assignment(&topic);
        let grown =
            broker.create_partitions(&topic.name, topic.count, assignment, request.validate_only).await;
        let code = grown.as_ref().map_or_else(of_topic, |()| ErrorCode::NONE);
        if code != ErrorCode::NONE {
            broker.metrics.error(context.api, code);
        }
        results.push(CreatePartitionsTopicResult {
            name: topic.name.into_owned().into(),
            error_code: code,
            error_message: grown.err().map(|error| error.to_string().into()),
        });
    }
    CreatePartitionsResponse { results, ..Default::default() }
}

fn assignment(topic: &CreatePartitionsTopic<'_>) -> Option<Vec<Vec<BrokerId>>> {
    let replicas = |ids: &[i32]| ids.iter().map(|&id| BrokerId(id)).collect();
    topic.assignments.as_ref().map(|all| all.iter().map(|one| replicas(&one.broker_ids)).collect())
}
