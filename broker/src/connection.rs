//! One client connection: frames in, responses out, in order.
//!
//! ```text
//!   socket -> FrameReader -> api::begin -> Exchange --bounded queue--> respond -> socket
//! ```
//! Kafka answers a connection's requests in the order in which they came. Here, too; but a Produce is begun
//! (checked, given its offsets, queued for the disk) as soon as it is read, while the responses before it are
//! still being waited for, as long as those are Produces themselves: that is what lets one commit serve a
//! client's whole pipeline. Any other request begins when its turn to be answered comes, so it sees the effect
//! of all before it.

mod budget;
mod frame;

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::budget::Lease;
pub(crate) use self::budget::RequestBudget;
pub(crate) use self::frame::FrameLimits;
use self::frame::{FrameError, FrameReader};
use crate::api::{self, RequestError};
use crate::broker::Broker;

/// Requests of one connection that are read and not yet answered.
const PIPELINE_MAX: usize = 512;
/// Responses gathered before the socket is written to.
const WRITE_GATHER_BYTES: usize = 256 * 1024;
const WRITE_SLICES_MAX: usize = 64;
/// A peer that takes no byte of its responses for so long is not coming back.
const WRITE_STALL_MAX: Duration = Duration::from_secs(60);

/// Who is at the other end.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
}

/// What became of a request: the response's chunks (length prefix included), or nothing to say (acks=0).
pub(crate) type Outcome = Result<Option<Vec<Bytes>>, RequestError>;

/// A request between its start and its answer.
struct Exchange {
    outcome: BoxFuture<'static, Outcome>,
    /// Still to begin when its turn comes.
    deferred: bool,
    _lease: Lease,
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

/// Serves one connection until the peer closes it, breaks the protocol, or `shutdown` fires; requests that
/// were read by then are answered first.
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
    let frames = FrameReader::new(reader, limits, broker.request_budget.clone());
    let read = read_requests(frames, &peer, &broker, queue, &deferred, &shutdown);
    let write = write_responses(writer, exchanges, &deferred);
    // A broken writer ends the reader at once; a reader that is done lets the writer finish its queue.
    let (read, write) = tokio::join!(read, write);
    write.and(read)
}

async fn read_requests<R: tokio::io::AsyncRead + Unpin>(
    mut frames: FrameReader<R>,
    peer: &Peer,
    broker: &Arc<Broker>,
    queue: mpsc::Sender<Exchange>,
    deferred: &AtomicUsize,
    shutdown: &CancellationToken,
) -> Result<(), ConnectionError> {
    loop {
        let frame = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            () = queue.closed() => return Ok(()),
            frame = frames.next() => match frame? {
                Some(frame) => frame,
                None => return Ok(()),
            },
        };
        // The place in the queue comes first: what has begun must be answered.
        let Ok(place) = queue.reserve().await else { return Ok(()) };
        broker.metrics.bytes_in(frame.bytes.len());
        let may_begin = deferred.load(Ordering::Acquire) == 0;
        let request = api::begin(broker, peer, frame.bytes, may_begin)?;
        if request.deferred {
            deferred.fetch_add(1, Ordering::AcqRel);
        }
        place.send(Exchange { outcome: request.outcome, deferred: request.deferred, _lease: frame.lease });
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
            if let Some(chunks) = outcome? {
                gathered.extend(chunks);
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
        while !self.chunks.is_empty() {
            let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
            let mut count = 0;
            for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
                *slice = IoSlice::new(chunk);
                count += 1;
            }
            let writing = writer.write_vectored(&slices[..count]);
            let mut written = tokio::time::timeout(WRITE_STALL_MAX, writing).await??;
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
