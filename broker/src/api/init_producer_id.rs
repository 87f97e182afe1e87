//! InitProducerId: an identity for an idempotent producer. Transactional ids need a transaction coordinator.

use millstream_wire::ErrorCode;
use millstream_wire::init_producer_id_request::InitProducerIdRequest;
use millstream_wire::init_producer_id_response::InitProducerIdResponse;

use super::RequestContext;
use crate::broker::Broker;

pub(super) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: InitProducerIdRequest<'_>,
) -> InitProducerIdResponse {
    let refuse = |code: ErrorCode| {
        broker.metrics.error(context.api, code);
        InitProducerIdResponse { error_code: code, producer_epoch: -1, ..Default::default() }
    };
    if request.transactional_id.is_some() {
        return refuse(ErrorCode::UNSUPPORTED_VERSION);
    }
    // A producer without a transactional id that lost its epoch gets a new id: nothing ties it to the old one.
    match broker.metadata.next_producer_id().await {
        Ok(id) => InitProducerIdResponse { producer_id: id.0, producer_epoch: 0, ..Default::default() },
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "can't allocate a producer id");
            refuse(ErrorCode::COORDINATOR_NOT_AVAILABLE)
        }
    }
}
