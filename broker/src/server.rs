//! The Kafka listener: accepts connections up to a limit and stops gracefully.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::Broker;
use crate::connection::{self, FrameLimits, Peer};
use crate::ids::Principal;

/// How long a stop waits for requests that were read before it.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// Pause after an accept error such as "too many open files", which would otherwise spin.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// A peer that takes no byte of a response for this long inside a frame is not coming back.
const FRAME_STALL: Duration = Duration::from_secs(30);

/// Serves connections of `listener` until `shutdown` fires; then answers what was read, for a bounded time.
pub(crate) async fn run(listener: TcpListener, broker: Arc<Broker>, shutdown: CancellationToken) {
    let config = &broker.config;
    let limits = FrameLimits {
        frame_bytes_max: usize::try_from(config.socket_request_max_bytes).unwrap_or(0),
        idle_max: Duration::from_millis(config.connections_max_idle_ms.unsigned_abs()),
        stall_max: FRAME_STALL,
    };
    let per_ip = Arc::new(PeerCounts::default());
    let places = Arc::new(Semaphore::new(usize::try_from(config.max_connections).unwrap_or(0)));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "can't accept a connection");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            broker.metrics.connection_refused();
            tracing::warn!(%address, limit = config.max_connections, "connection refused: max.connections reached");
            continue;
        };
        let Some(counted) = per_ip.enter(address.ip(), config.max_connections_per_ip) else {
            broker.metrics.connection_refused();
            tracing::warn!(%address, limit = config.max_connections_per_ip, "connection refused: max.connections.per.ip reached");
            continue;
        };
        let (broker, shutdown) = (Arc::clone(&broker), shutdown.clone());
        connections.spawn(async move {
            let _held = (place, counted);
            serve(stream, Peer { address, principal: Principal::anonymous() }, broker, limits, shutdown)
                .await;
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(STOP_GRACE, connections.wait()).await.is_err() {
        tracing::warn!(
            left = connections.len(),
            "connections still busy at the end of the stop's grace period"
        );
    }
}

/// Connections by the address they come from.
#[derive(Default)]
struct PeerCounts(Mutex<HashMap<IpAddr, i32>>);

/// One connection's part in its address' count.
struct Counted {
    counts: Arc<PeerCounts>,
    ip: IpAddr,
}

impl PeerCounts {
    /// Counts a connection, unless its address has `limit` already.
    fn enter(self: &Arc<Self>, ip: IpAddr, limit: i32) -> Option<Counted> {
        let mut counts = self.lock();
        let count = counts.entry(ip).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Counted { counts: Arc::clone(self), ip })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, i32>> {
        self.0.lock().expect("no code panics while it holds this lock")
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        if let Some(count) = counts.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.ip);
            }
        }
    }
}

async fn serve(
    stream: TcpStream,
    peer: Peer,
    broker: Arc<Broker>,
    limits: FrameLimits,
    shutdown: CancellationToken,
) {
    let address = peer.address;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%address, %error, "connection closed before it began");
        return;
    }
    let metrics = Arc::clone(&broker.metrics);
    metrics.connection_opened();
    if let Err(error) = connection::serve(stream, peer, broker, limits, shutdown).await {
        tracing::debug!(%address, error = &error as &dyn std::error::Error, "connection closed");
    }
    metrics.connection_closed();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_limit_and_gets_its_places_back() {
        let counts = Arc::new(PeerCounts::default());
        let (one, other) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let first = counts.enter(one, 2);
        let second = counts.enter(one, 2);
        assert!(first.is_some() && second.is_some() && counts.enter(one, 2).is_none());
        assert!(counts.enter(other, 2).is_some());
        drop(first);
        assert!(counts.enter(one, 2).is_some());
        drop(second);
        assert!(counts.lock().is_empty());
    }
}
