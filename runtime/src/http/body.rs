//! Bodies under a limit, in pieces: neither is ever in memory as a whole.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep_until};
use wasmtime_wasi_http::{Error, WasiBody};

use super::exchange::{Over, failed};

/// What a plugin sends.
pub(super) struct SentBody {
    body: WasiBody,
    sent: u64,
    bytes_max: u64,
}

impl SentBody {
    pub(super) fn new(body: WasiBody, bytes_max: u64) -> Self {
        Self { body, sent: 0, bytes_max }
    }
}

impl Body for SentBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            self.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
            if self.sent > self.bytes_max {
                return Poll::Ready(Some(Err(Error::HttpRequestBodySize(Some(self.sent)))));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What a plugin gets.
pub(super) struct ReceivedBody {
    /// None after an error.
    body: Option<Incoming>,
    received: u64,
    bytes_max: u64,
    between_bytes: Duration,
    /// Runs while the plugin waits.
    timer: Pin<Box<Sleep>>,
    is_waiting: bool,
    /// Set if the exchange was ended in the middle.
    over: Arc<OnceLock<Over>>,
    /// As long as a part of the response is in memory, it counts for its instance.
    _place: Arc<OwnedSemaphorePermit>,
}

impl ReceivedBody {
    pub(super) fn new(
        body: Incoming,
        bytes_max: u64,
        between_bytes: Duration,
        over: Arc<OnceLock<Over>>,
        place: Arc<OwnedSemaphorePermit>,
    ) -> Self {
        let timer = Box::pin(sleep_until(Instant::now()));
        Self {
            body: Some(body),
            received: 0,
            bytes_max,
            between_bytes,
            timer,
            is_waiting: false,
            over,
            _place: place,
        }
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.body = None;
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for ReceivedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.is_waiting = false;
                self.received += frame.data_ref().map_or(0, |data| data.len() as u64);
                if self.received > self.bytes_max {
                    let received = self.received;
                    return self.fail(Error::HttpResponseBodySize(Some(received)));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(ended) => {
                // Whatever it looks like: what comes after a connection was cut is no end.
                if let Some(over) = self.over.get() {
                    let error = over.error();
                    return self.fail(error);
                }
                match ended {
                    Some(Err(error)) => self.fail(failed(&error)),
                    _ => {
                        self.body = None;
                        Poll::Ready(None)
                    }
                }
            }
            Poll::Pending => {
                if !self.is_waiting {
                    self.is_waiting = true;
                    let until = Instant::now() + self.between_bytes;
                    self.timer.as_mut().reset(until);
                }
                ready!(self.timer.as_mut().poll(cx));
                self.fail(Error::ConnectionReadTimeout)
            }
        }
    }
}
