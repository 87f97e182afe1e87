//! The lag of stages and sinks that have stopped by themselves: nobody reads for them, and their lag is what an alarm is for.

use std::sync::Arc;
use std::time::Duration;

use millstream_broker::ids::Principal;
use millstream_runtime::stage::{StageState, StageStatus, TopicPartition};

use super::NodeState;
use super::ports::LocalTransport;
use crate::client::{
    ClientError, Connection, GroupClient, PortConfig, TIMESTAMP_EARLIEST, TIMESTAMP_LATEST, list_offsets,
};

const INTERVAL: Duration = Duration::from_secs(5);
const CLIENT_ID: &str = "millstream-lag";
/// As whom the node asks.
const PRINCIPAL: &str = "User:millstream";

impl NodeState {
    /// Looks at them every few seconds, until the node stops.
    pub(super) async fn watch_stalled(self: Arc<Self>) {
        while self.stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
            for status in self.runtime.status().iter().filter(|status| is_stalled(status)) {
                match self.lag_of(status).await {
                    Ok(lag) => self.runtime.set_stalled_lag(&status.pipeline, &status.stage, lag),
                    Err(error) => tracing::debug!(stage = status.stage, %error, "the lag can't be read now"),
                }
            }
        }
    }

    async fn lag_of(&self, status: &StageStatus) -> Result<i64, ClientError> {
        let transport = LocalTransport::new(&self.broker, CLIENT_ID, Principal::new(PRINCIPAL));
        let connection = Arc::new(Connection::new(transport, CLIENT_ID));
        let image = self.broker.metadata().image();
        let mut partitions = Vec::new();
        for topic in &status.from {
            let count = image.listed(topic).map_or(0, |listed| listed.partition_count());
            let topic: Arc<str> = topic.as_str().into();
            partitions
                .extend((0..count).map(|partition| TopicPartition { topic: Arc::clone(&topic), partition }));
        }
        let config = PortConfig::new(CLIENT_ID, &status.group, Vec::new());
        let group = GroupClient { connection: Arc::clone(&connection), config: Arc::new(config) };
        let committed = group.committed(&partitions).await?;
        let ends = list_offsets(&connection, partitions.iter().map(|of| (of, TIMESTAMP_LATEST))).await?;
        // Where nothing is committed, it would begin at the beginning.
        let unread = partitions.iter().filter(|of| !committed.contains_key(*of));
        let begins = list_offsets(&connection, unread.map(|of| (of, TIMESTAMP_EARLIEST))).await?;
        let lag = |of: &TopicPartition| {
            let stands = committed.get(of).or_else(|| begins.get(of)).copied().unwrap_or_default();
            ends.get(of).map_or(0, |end| end.saturating_sub(stands).max(0))
        };
        Ok(partitions.iter().map(lag).sum())
    }
}

fn is_stalled(status: &StageStatus) -> bool {
    !status.group.is_empty() && matches!(status.state, StageState::Failed(_))
}
