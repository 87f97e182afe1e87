//! The stages' way to the broker of this node: a Kafka client whose requests need no socket.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use millstream_broker::broker::{LocalConnection, RunningBroker};
use millstream_broker::ids::{BrokerId, Principal};
use millstream_runtime::stage::{PortError, PortFactory, PortRequest};
use tokio_util::task::TaskTracker;

use crate::client::{ClientPort, Connector, PortConfig, Transport, TransportError};

/// The length in front of each response.
const LENGTH_BYTES: usize = 4;

pub(crate) struct LocalPorts {
    connector: LocalConnector,
    node_id: BrokerId,
    tasks: TaskTracker,
}

impl LocalPorts {
    pub(crate) fn new(broker: Arc<RunningBroker>, node_id: BrokerId, tasks: TaskTracker) -> Self {
        Self { connector: LocalConnector(broker), node_id, tasks }
    }
}

impl PortFactory for LocalPorts {
    type Port = ClientPort<LocalTransport>;

    async fn open(&self, request: PortRequest) -> Result<Self::Port, PortError> {
        let PortRequest { pipeline, stage, group, from, task, reads_as, writes_as } = request;
        let client_id = format!("millstream-{pipeline}-{stage}");
        let mut config = PortConfig::new(&client_id, &group, from);
        (config.reads_as, config.writes_as) = (reads_as, writes_as);
        // A static member: after a crash it takes its own place again, and nobody waits for the old session.
        config.group_instance_id = Some(format!("{client_id}-node-{}-task-{task}", self.node_id));
        Ok(ClientPort::open(&self.connector, config, &self.tasks))
    }
}

struct LocalConnector(Arc<RunningBroker>);

impl Connector for LocalConnector {
    type Transport = LocalTransport;

    fn connect(&self, client_id: &str, principal: &str) -> LocalTransport {
        LocalTransport::new(&self.0, client_id, Principal::new(principal))
    }
}

pub(crate) struct LocalTransport(LocalConnection);

impl LocalTransport {
    pub(crate) fn new(broker: &RunningBroker, client_id: &str, principal: Principal) -> Self {
        Self(broker.connect(client_id, principal))
    }
}

impl Transport for LocalTransport {
    async fn call(&self, request: Bytes) -> Result<Vec<Bytes>, TransportError> {
        let answered = self.0.call(request).await;
        let mut chunks =
            answered.map_err(|error| TransportError::Refused(Box::new(error)))?.unwrap_or_default();
        if let Some(first) = chunks.first_mut() {
            assert!(first.len() >= LENGTH_BYTES, "a response begins with its length, in one piece");
            first.advance(LENGTH_BYTES);
        }
        Ok(chunks)
    }
}
