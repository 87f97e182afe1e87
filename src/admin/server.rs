//! Connections of the admin listener: few, with time limits, and gone soon after the node is told to stop.
//!
//! | task | owner | ends when |
//! | --- | --- | --- |
//! | one for a connection | the listener's `TaskTracker`, here | the peer closes or is too slow, its time is over, or a moment after `stop` |

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Further ones wait until one ends. Each may have a pipeline's file in memory.
const CONNECTIONS_MAX: usize = 64;
/// How long the head of a request may take to arrive, and how long a connection may be idle.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// Longer than any request takes: a peer that does not read its answers does not stay for ever.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10 * 60);
/// What is being answered has so long to end when the node stops.
const STOP_TIME_MAX: Duration = Duration::from_secs(3);
/// After an error such as too many open files, which passes when other connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop` fires.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    let accepting = async {
        loop {
            let place = Arc::clone(&room).acquire_owned().await.expect("the semaphore is never closed");
            match listener.accept().await {
                Ok((stream, _)) => {
                    let served = connection(stream, router.clone(), stop.clone());
                    connections.spawn(async move {
                        served.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin listener can't accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = accepting => {}
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(STOP_TIME_MAX, connection).await
        }
        ended = tokio::time::timeout(CONNECTION_TIME_MAX, connection.as_mut()) => ended,
    };
    // A peer that goes away or sends no HTTP is its own affair.
    if let Ok(Err(error)) = ended {
        tracing::debug!(%error, "a connection to the admin listener ended");
    }
}
