//! DescribeCluster: the brokers and who the controller is.

use millstream_wire::ErrorCode;
use millstream_wire::describe_cluster_request::DescribeClusterRequest;
use millstream_wire::describe_cluster_response::{DescribeClusterBroker, DescribeClusterResponse};

use super::RequestContext;
use crate::broker::Broker;

/// The endpoints of brokers; those of controllers (2) are not for clients (KIP-919).
const BROKERS: i8 = 1;
const NO_CONTROLLER: i32 = -1;

pub(super) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse<'static> {
    let image = broker.metadata.image();
    let cluster_id = image.cluster_id().to_string().into();
    if request.endpoint_type != BROKERS {
        let code = ErrorCode::UNSUPPORTED_ENDPOINT_TYPE;
        broker.metrics.error(context.api, code);
        return DescribeClusterResponse {
            error_code: code,
            error_message: Some("only the endpoints of brokers are served here".into()),
            endpoint_type: request.endpoint_type,
            cluster_id,
            ..Default::default()
        };
    }
    DescribeClusterResponse {
        cluster_id,
        controller_id: broker.metadata.controller().map_or(NO_CONTROLLER, |id| id.0),
        brokers: image
            .brokers()
            .map(|broker| DescribeClusterBroker {
                broker_id: broker.id.0,
                host: broker.host.clone().into(),
                port: i32::from(broker.port),
                rack: broker.rack.clone().map(Into::into),
                is_fenced: false,
            })
            .collect(),
        ..Default::default()
    }
}
