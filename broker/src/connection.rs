//! One client connection: frames in, responses out, in order.
//!
//! ```text
//!   socket -> FrameReader -> api::begin -> Exchange --bounded queue--> respond -> socket
//! ```
//! Kafka answers a connection's requests in the order in which they came. Here, too; but a Produce is begun
//! (checked, given its offsets or its turn to get them, queued for the disk or for its hook) as soon as it is read,
//! while the responses before it are still being waited for, as long as those are Produces themselves: that is
//! what lets one commit serve a client's whole pipeline. Any other request begins when its turn to be answered comes, so it sees the effect
//! of all before it.

mod budget;
mod frame;
mod response_budget;

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use self::budget::RequestBudget;
pub(crate) use self::frame::FrameLimits;
use self::frame::{FrameError, FrameReader};
pub(crate) use self::response_budget::{ResponseBudget, ResponseLease};
use crate::api::{self, RequestError};
use crate::broker::Broker;
use crate::ids::Principal;

/// Requests of one connection that are read and not yet answered.
const PIPELINE_MAX: usize = 512;
/// Responses gathered before the socket is written to.
const WRITE_GATHER_BYTES: usize = 256 * 1024;
const WRITE_SLICES_MAX: usize = 64;
/// A peer that takes no byte of its responses for so long is not coming back.
const WRITE_STALL_MAX: Duration = Duration::from_secs(60);
/// One that takes them more slowly than this, after a grace of `WRITE_STALL_MAX`, holds up memory for too long.
const WRITE_BYTES_PER_SECOND_MIN: u64 = 128 * 1024;
/// How long a peer that stopped speaking still gets answers: it may have closed one direction only.
const CLOSED_GRACE: Duration = Duration::from_secs(10);

/// Who is at the other end.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) principal: Principal,
}

/// What became of a request: the response's chunks (length prefix included), or nothing to say (acks=0).
pub(crate) type Outcome = Result<Option<Vec<Bytes>>, RequestError>;

/// A request between its start and its answer.
struct Exchange {
    outcome: BoxFuture<'static, Outcome>,
    /// Still to begin when its turn comes.
    deferred: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("can't write to the peer")]
    Write(#[source] io::Error),
}

/// Why reading ended without an error.
enum ReadEnd {
    Closed,
    Shutdown,
}

/// Serves one connection until the peer closes it, breaks the protocol, or `shutdown` fires. Requests that were
/// read by then are answered first; for a peer that stopped speaking that has a limit, since it may be gone and
/// its request may wait for minutes.
pub(crate) async fn serve(
    stream: TcpStream,
    peer: Peer,
    broker: Arc<Broker>,
    limits: FrameLimits,
    shutdown: CancellationToken,
) -> Result<(), ConnectionError> {
    let (reader, writer) = stream.into_split();
    let (queue, exchanges) = mpsc::channel(PIPELINE_MAX);
    let deferred = AtomicUsize::new(0);
    let frames = FrameReader::new(reader, limits, broker.request_budget.share());
    let mut read = pin!(read_requests(frames, &peer, &broker, queue, &deferred, &shutdown));
    let mut write = pin!(write_responses(writer, exchanges, &deferred));
    let read = tokio::select! {
        // A broken writer ends the reader at once; it never ends well before the reader does.
        written = &mut write => return written,
        read = &mut read => read,
    };
    match read {
        Ok(ReadEnd::Shutdown) => write.await,
        Ok(ReadEnd::Closed) => tokio::time::timeout(CLOSED_GRACE, write).await.unwrap_or(Ok(())),
        Err(error) => {
            // What was asked before is answered, if the peer can still hear it.
            let _ = tokio::time::timeout(CLOSED_GRACE, write).await;
            Err(error)
        }
    }
}

async fn read_requests<R: tokio::io::AsyncRead + Unpin>(
    mut frames: FrameReader<R>,
    peer: &Peer,
    broker: &Arc<Broker>,
    queue: mpsc::Sender<Exchange>,
    deferred: &AtomicUsize,
    shutdown: &CancellationToken,
) -> Result<ReadEnd, ConnectionError> {
    loop {
        let frame = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(ReadEnd::Shutdown),
            () = queue.closed() => return Ok(ReadEnd::Closed),
            frame = frames.next() => match frame? {
                Some(frame) => frame,
                None => return Ok(ReadEnd::Closed),
            },
        };
        // The place in the queue comes first: what has begun must be answered.
        let Ok(place) = queue.reserve().await else { return Ok(ReadEnd::Closed) };
        broker.metrics.bytes_in(frame.len());
        let may_begin = deferred.load(Ordering::Acquire) == 0;
        let request = api::begin(broker, peer, frame, may_begin)?;
        if request.deferred {
            deferred.fetch_add(1, Ordering::AcqRel);
        }
        place.send(Exchange { outcome: request.outcome, deferred: request.deferred });
    }
}

async fn write_responses<W: AsyncWrite + Unpin>(
    mut writer: W,
    mut exchanges: mpsc::Receiver<Exchange>,
    deferred: &AtomicUsize,
) -> Result<(), ConnectionError> {
    let mut gathered = Gathered::default();
    while let Some(mut exchange) = exchanges.recv().await {
        loop {
            // What is ready is written together; what is not goes out before we wait.
            let outcome = match exchange.outcome.as_mut().now_or_never() {
                Some(outcome) => outcome,
                None => {
                    gathered.write_to(&mut writer).await.map_err(ConnectionError::Write)?;
                    exchange.outcome.as_mut().await
                }
            };
            if exchange.deferred {
                deferred.fetch_sub(1, Ordering::AcqRel);
            }
            match outcome {
                Ok(Some(chunks)) => gathered.extend(chunks),
                Ok(None) => {}
                Err(error) => {
                    // The connection closes, but not on the answers before.
                    gathered.write_to(&mut writer).await.map_err(ConnectionError::Write)?;
                    return Err(error.into());
                }
            }
            if gathered.bytes >= WRITE_GATHER_BYTES {
                break;
            }
            match exchanges.try_recv() {
                Ok(next) => exchange = next,
                Err(_) => break,
            }
        }
        gathered.write_to(&mut writer).await.map_err(ConnectionError::Write)?;
    }
    // The peer may be gone already; there is nothing left to tell it.
    let _ = writer.shutdown().await;
    Ok(())
}

/// Response chunks on their way to the socket.
#[derive(Default)]
struct Gathered {
    chunks: VecDeque<Bytes>,
    bytes: usize,
}

impl Gathered {
    fn extend(&mut self, chunks: Vec<Bytes>) {
        self.bytes += chunks.iter().map(Bytes::len).sum::<usize>();
        self.chunks.extend(chunks.into_iter().filter(|chunk| !chunk.is_empty()));
    }

    async fn write_to<W: AsyncWrite + Unpin>(&mut self, writer: &mut W) -> io::Result<()> {
        let transfer = Duration::from_secs(self.bytes as u64 / WRITE_BYTES_PER_SECOND_MIN);
        let deadline = Instant::now() + WRITE_STALL_MAX + transfer;
        while !self.chunks.is_empty() {
            let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
            let mut count = 0;
            for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
                *slice = IoSlice::new(chunk);
                count += 1;
            }
            let writing = writer.write_vectored(&slices[..count]);
            let until = deadline.min(Instant::now() + WRITE_STALL_MAX);
            let mut written = tokio::time::timeout_at(until, writing).await??;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            while let Some(first) = self.chunks.front_mut() {
                if written < first.len() {
                    first.advance(written);
                    break;
                }
                written -= first.len();
                self.chunks.pop_front();
            }
        }
        self.bytes = 0;
        Ok(())
    }
}
