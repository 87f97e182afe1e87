//! Bytes of a socket to request frames: a 4-byte big-endian length, then the request.

use std::io;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use millstream_wire::ApiKey;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::Instant;

use super::budget::{Lease, Share};

/// What one read asks of the socket. Small frames share such a buffer.
const READ_BYTES: usize = 64 * 1024;
/// A frame's buffer starts no larger than this, whatever the frame declares; it then doubles as bytes arrive.
/// Until they do, it is address space and no memory.
const FRAME_START_BYTES: usize = 1024 * 1024;
/// What a frame may hold of the budget before more of it has arrived: little enough that half a frame on each
/// of `max.connections` leaves room for the others.
const LEASE_START_BYTES: usize = 4 * 1024;
/// What it may hold, over what has arrived.
const LEASE_GROWTH: usize = 4;
/// Room for the frames behind this one, so that a burst of small ones costs few reads.
const READ_AHEAD_BYTES: usize = 16 * 1024;
const LENGTH_BYTES: usize = 4;
/// The length, and the API key, which says what kind of frame it is.
const KIND_BYTES: usize = LENGTH_BYTES + 2;
/// What a request that carries no records has at most: decoded, it may take a multiple of that.
const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A request of this size is small.
const SMALL_BYTES_MAX: usize = 64 * 1024;
/// A frame that comes more slowly than this, after a grace of `stall_max`, holds up memory for too long.
const FRAME_BYTES_PER_SECOND_MIN: u64 = 128 * 1024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("frame declares {0} bytes, which is no request")]
    Length(i32),
    #[error("frame declares {declared} bytes, more than socket.request.max.bytes = {limit}")]
    TooLarge { declared: usize, limit: usize },
    #[error(
        "frame declares {declared} bytes, more than the {REQUEST_BYTES_MAX} of a request without records"
    )]
    TooLargeRequest { declared: usize },
    #[error("frame stalled: no byte came for {0:?}")]
    Stalled(Duration),
    #[error("frame comes too slowly: {received} of {declared} bytes in {waited:?}")]
    TooSlow { received: usize, declared: usize, waited: Duration },
    #[error("idle for longer than connections.max.idle.ms")]
    Idle,
    #[error("connection ended in the middle of a frame")]
    Truncated,
    #[error(transparent)]
    Io(#[from] io::Error),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct FrameLimits {
    pub(crate) frame_bytes_max: usize,
    /// Between frames.
    pub(crate) idle_max: Duration,
    /// Between two reads inside a frame.
    pub(crate) stall_max: Duration,
}

pub(crate) struct FrameReader<R> {
    reader: R,
    buffer: BytesMut,
    limits: FrameLimits,
    share: Share,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(reader: R, limits: FrameLimits, share: Share) -> Self {
        Self { reader, buffer: BytesMut::new(), limits, share }
    }

    /// The next request, without its length; it holds its lease. `None` where the peer closed between two of
    /// them. Dropping the future between two frames loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        while self.buffer.len() < LENGTH_BYTES {
            if !self.fill_head().await? {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(FrameError::Truncated),
                };
            }
        }
        let declared = i32::from_be_bytes([self.buffer[0], self.buffer[1], self.buffer[2], self.buffer[3]]);
        let length = match usize::try_from(declared) {
            Ok(length) if length > 0 => length,
            _ => return Err(FrameError::Length(declared)),
        };
        if length > self.limits.frame_bytes_max {
            return Err(FrameError::TooLarge { declared: length, limit: self.limits.frame_bytes_max });
        }
        let total = LENGTH_BYTES + length;
        while self.buffer.len() < total.min(KIND_BYTES) {
            if !self.fill_head().await? {
                return Err(FrameError::Truncated);
            }
        }
        let is_produce = self.buffer[LENGTH_BYTES..].starts_with(&(ApiKey::Produce as i16).to_be_bytes());
        if length > REQUEST_BYTES_MAX && !is_produce {
            return Err(FrameError::TooLargeRequest { declared: length });
        }
        let mut lease = match total <= SMALL_BYTES_MAX && !is_produce {
            true => self.share.lease_small(),
            false => self.share.lease(),
        };
        lease.grow_to(total.min(self.buffer.len().max(LEASE_START_BYTES))).await;
        self.fill_to(total, &mut lease).await?;
        let mut frame = self.buffer.split_to(total).freeze();
        if self.buffer.is_empty() {
            // An idle connection keeps no buffer.
            self.buffer = BytesMut::new();
        }
        Ok(Some(lease.attach_to(frame.split_off(LENGTH_BYTES))))
    }

    /// Reads until `total` bytes are there, if they come fast enough.
    async fn fill_to(&mut self, total: usize, lease: &mut Lease) -> Result<(), FrameError> {
        let transfer = Duration::from_secs(total as u64 / FRAME_BYTES_PER_SECOND_MIN);
        // For the peer alone: what the budget makes it wait for is not its fault.
        let mut waited = Duration::ZERO;
        while self.buffer.len() < total {
            waited += self.fill_body(total, lease).await?;
            if waited > self.limits.stall_max + transfer {
                return Err(FrameError::TooSlow { received: self.buffer.len(), declared: total, waited });
            }
        }
        Ok(())
    }

    async fn fill_head(&mut self) -> Result<bool, FrameError> {
        let wait = if self.buffer.is_empty() { self.limits.idle_max } else { self.limits.stall_max };
        self.buffer.reserve(if self.buffer.is_empty() { LENGTH_BYTES * 128 } else { READ_BYTES });
        match tokio::time::timeout(wait, self.reader.read_buf(&mut self.buffer)).await {
            Ok(read) => Ok(read? > 0),
            Err(_) if self.buffer.is_empty() => Err(FrameError::Idle),
            Err(_) => Err(FrameError::Stalled(wait)),
        }
    }

    /// Reads once; answers how long that took.
    async fn fill_body(&mut self, total: usize, lease: &mut Lease) -> Result<Duration, FrameError> {
        if self.buffer.capacity() == self.buffer.len() {
            let step = self.buffer.len().max(FRAME_START_BYTES);
            self.buffer.reserve((total - self.buffer.len()).min(step).max(READ_AHEAD_BYTES));
        } else if self.buffer.capacity() < total.min(FRAME_START_BYTES) {
            self.buffer.reserve(total.min(FRAME_START_BYTES) - self.buffer.len());
        }
        let leased = total.min((self.buffer.len() * LEASE_GROWTH).max(LEASE_START_BYTES));
        lease.grow_to(leased).await;
        // The last read may go on into the frames behind.
        let room = if leased == total { usize::MAX } else { leased - self.buffer.len() };
        let mut leased_buffer = (&mut self.buffer).limit(room);
        let wait = self.limits.stall_max;
        let started = Instant::now();
        match tokio::time::timeout(wait, self.reader.read_buf(&mut leased_buffer)).await {
            Ok(read) => match read? {
                0 => Err(FrameError::Truncated),
                _ => Ok(started.elapsed()),
            },
            Err(_) => Err(FrameError::Stalled(wait)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::RequestBudget;
    use super::*;
    use tokio::io::AsyncWriteExt;

    const LIMITS: FrameLimits = FrameLimits {
        frame_bytes_max: 8 * 1024 * 1024,
        idle_max: Duration::from_secs(60),
        stall_max: Duration::from_secs(10),
    };

    async fn read_all(bytes: &[u8]) -> (Vec<Bytes>, Option<FrameError>) {
        let (mut near, far) = tokio::io::duplex(1000);
        let bytes = bytes.to_vec();
        let write = async move {
            // The reader hangs up on a bad frame; what is left can't be written then.
            let _ = near.write_all(&bytes).await;
        };
        let read = async {
            let mut reader = FrameReader::new(far, LIMITS, RequestBudget::new(1024 * 1024).share());
            let mut frames = Vec::new();
            loop {
                match reader.next().await {
                    // A copy: the frame itself holds its lease.
                    Ok(Some(frame)) => frames.push(Bytes::copy_from_slice(&frame)),
                    Ok(None) => return (frames, None),
                    Err(error) => return (frames, Some(error)),
                }
            }
        };
        tokio::join!(write, read).1
    }

    fn framed(bodies: &[&[u8]]) -> Vec<u8> {
        bodies.iter().flat_map(|b| [&(b.len() as i32).to_be_bytes()[..], b].concat()).collect()
    }

    #[tokio::test]
    async fn frames_of_every_size_come_out_whole_and_in_order() {
        let bodies: Vec<Vec<u8>> =
            [1, 3, 500, 511, 513, 70_000, 2, 3_000_000, 1].iter().map(|&n| vec![n as u8; n]).collect();
        let (frames, error) = read_all(&framed(&bodies.iter().map(|b| &b[..]).collect::<Vec<_>>())).await;
        assert!(error.is_none());
        assert_eq!(frames, bodies);
    }

    #[tokio::test]
    async fn lengths_that_are_none_end_the_connection() {
        for (length, text) in [
            (0, "frame declares 0 bytes, which is no request"),
            (-1, "frame declares -1 bytes, which is no request"),
            (i32::MIN, "frame declares -2147483648 bytes, which is no request"),
            (i32::MAX, "frame declares 2147483647 bytes, more than socket.request.max.bytes = 8388608"),
        ] {
            let (frames, error) = read_all(&length.to_be_bytes()).await;
            assert!(frames.is_empty());
            assert_eq!(error.map(|e| e.to_string()).as_deref(), Some(text));
        }
    }

    #[tokio::test]
    async fn an_end_inside_a_frame_is_told_from_a_clean_one() {
        let whole = framed(&[b"abc", b"defg"]);
        for cut in 0..whole.len() {
            let (frames, error) = read_all(&whole[..cut]).await;
            assert_eq!(frames.len(), usize::from(cut >= 7));
            assert_eq!(error.is_none(), cut == 0 || cut == 7, "cut at {cut}");
        }
    }

    /// Half a frame used to hold as much of the budget as its buffer was large, 1 MiB: a few dozen connections
    /// kept everybody else waiting until they were given up on.
    #[tokio::test(start_paused = true)]
    async fn half_frames_leave_the_budget_to_others() {
        const BUDGET_BYTES: usize = 1024 * 1024;
        let budget = RequestBudget::new(BUDGET_BYTES);
        let halves: Vec<_> = (0..BUDGET_BYTES / LEASE_START_BYTES - 1)
            .map(|_| {
                let budget = budget.clone();
                async move {
                    let (mut near, far) = tokio::io::duplex(1000);
                    near.write_all(b"\0\x7f\xff\xff half").await.unwrap();
                    FrameReader::new(far, LIMITS, budget.share()).next().await.err().map(|e| e.to_string())
                }
            })
            .collect();
        let whole = async {
            let (mut near, far) = tokio::io::duplex(100_000);
            // Long after the others, and long before they end.
            tokio::time::sleep(LIMITS.stall_max / 2).await;
            near.write_all(&framed(&[&[1; 50_000]])).await.unwrap();
            let mut reader = FrameReader::new(far, LIMITS, budget.share());
            tokio::time::timeout(LIMITS.stall_max / 10, reader.next()).await.map(|frame| frame.is_ok())
        };
        let (stalled, whole) = tokio::join!(futures_util::future::join_all(halves), whole);
        assert_eq!(whole, Ok(true));
        assert!(stalled.iter().flatten().all(|error| error.contains("stalled")), "{stalled:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_frame_and_an_idle_connection_are_closed() {
        for (sent, wanted) in
            [(&b""[..], "idle"), (&b"\0\0"[..], "stalled"), (&b"\0\0\0\x09abc"[..], "stalled")]
        {
            let (mut near, far) = tokio::io::duplex(1000);
            near.write_all(sent).await.unwrap();
            let mut reader = FrameReader::new(far, LIMITS, RequestBudget::new(1024 * 1024).share());
            let error = reader.next().await.err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains(wanted), "{error}");
        }
    }

    /// A byte now and then used to keep half a frame, and what it leased, for as long as the peer liked.
    #[tokio::test(start_paused = true)]
    async fn a_frame_that_trickles_in_is_given_up() {
        let (mut near, far) = tokio::io::duplex(1000);
        let trickle = async {
            near.write_all(&1_000_000_i32.to_be_bytes()).await.unwrap();
            while near.write_all(b"a").await.is_ok() {
                tokio::time::sleep(LIMITS.stall_max / 2).await;
            }
        };
        let read = async {
            let mut reader = FrameReader::new(far, LIMITS, RequestBudget::new(1024 * 1024).share());
            let started = Instant::now();
            let error = reader.next().await.unwrap_err();
            assert!(matches!(error, FrameError::TooSlow { declared: 1_000_004, .. }), "{error}");
            assert!(started.elapsed() < LIMITS.stall_max * 3);
        };
        tokio::join!(trickle, read);
    }

    #[tokio::test]
    async fn only_a_produce_may_be_large() {
        let frame = |api: i16, bytes: i32| [&bytes.to_be_bytes()[..], &api.to_be_bytes()].concat();
        let limits = FrameLimits { frame_bytes_max: 1 << 30, ..LIMITS };
        for (api, bytes, refused) in [(3, 16 << 20, false), (3, (16 << 20) + 1, true), (0, 100 << 20, false)]
        {
            let sent = frame(api, bytes);
            let mut reader = FrameReader::new(sent.as_slice(), limits, RequestBudget::new(1024).share());
            let error = reader.next().await.unwrap_err();
            assert_eq!(
                matches!(error, FrameError::TooLargeRequest { .. }),
                refused,
                "{api} {bytes}: {error}"
            );
        }
    }
}
