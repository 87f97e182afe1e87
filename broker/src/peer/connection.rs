//! One connection to another broker: a request at a time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::message::{
    Call, FRAME_BYTES_MAX, HELLO_BYTES_MAX, Hello, MessageError, Welcome, read_frame, request,
    split_response, write_frame,
};
use super::transport::{BoxedStream, Connect};
use crate::codec;

/// To connect, and once more to be greeted.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    #[error("can't reach {address}")]
    Unreachable {
        address: String,
        #[source]
        source: io::Error,
    },
    /// The other side has understood, and said no.
    #[error("{address} refuses: {reason}")]
    Refused { address: String, reason: String },
    #[error("the connection to {address} broke")]
    Broken {
        address: String,
        #[source]
        source: MessageError,
    },
}

/// See the module. Whoever drops a call in the middle can't make another one.
pub(crate) struct Connection {
    stream: BoxedStream,
    address: String,
    next_correlation: i32,
    /// A call is under way, or was left.
    is_busy: bool,
    /// Who is at the other end.
    pub(crate) peer: Welcome,
}

impl Connection {
    /// Connects, and says who asks. Who answers may differ from whom was asked for: then it says so itself.
    pub(crate) async fn open(
        connector: &Arc<dyn Connect>,
        address: &str,
        hello: &Hello,
    ) -> Result<Self, PeerError> {
        let unreachable = |source| PeerError::Unreachable { address: address.to_owned(), source };
        let late = |_| unreachable(io::ErrorKind::TimedOut.into());
        let stream = timeout(CONNECT_TIME_MAX, connector.connect(address)).await.map_err(late)?;
        let mut stream = stream.map_err(unreachable)?;
        let greeted = timeout(CONNECT_TIME_MAX, exchange(&mut stream, hello, 0, HELLO_BYTES_MAX)).await;
        let peer = greeted.map_err(late)?.map_err(|failure| failure.of(address))?;
        Ok(Self { stream, address: address.to_owned(), next_correlation: 1, is_busy: false, peer })
    }

    /// False after a call that failed, or that nobody waited for.
    pub(crate) fn is_usable(&self) -> bool {
        !self.is_busy
    }

    /// The answer, if it comes in that time.
    pub(crate) async fn call_within<C: Call>(
        &mut self,
        call: &C,
        time_max: Duration,
    ) -> Result<C::Response, PeerError> {
        let address = self.address.clone();
        let answered = timeout(time_max, self.call(call)).await;
        let source = || MessageError::Io(io::ErrorKind::TimedOut.into());
        answered.unwrap_or_else(|_| Err(PeerError::Broken { address, source: source() }))
    }

    pub(crate) async fn call<C: Call>(&mut self, call: &C) -> Result<C::Response, PeerError> {
        assert!(!self.is_busy, "a connection whose call was left is dropped");
        self.is_busy = true;
        let correlation = self.next_correlation;
        self.next_correlation = correlation.wrapping_add(1);
        match exchange(&mut self.stream, call, correlation, FRAME_BYTES_MAX).await {
            Ok(response) => {
                self.is_busy = false;
                Ok(response)
            }
            Err(failure) => {
                self.is_busy = matches!(failure, Failure::Message(_));
                Err(failure.of(&self.address))
            }
        }
    }
}

enum Failure {
    Message(MessageError),
    Refused(String),
}

impl Failure {
    fn of(self, address: &str) -> PeerError {
        let address = address.to_owned();
        match self {
            Self::Message(source) => PeerError::Broken { address, source },
            Self::Refused(reason) => PeerError::Refused { address, reason },
        }
    }
}

impl<E: Into<MessageError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Message(error.into())
    }
}

async fn exchange<C: Call>(
    stream: &mut BoxedStream,
    call: &C,
    correlation: i32,
    response_bytes_max: usize,
) -> Result<C::Response, Failure> {
    let frame = request(call, correlation)?;
    write_frame(stream, &frame).await?;
    let answer = read_frame(stream, response_bytes_max).await?;
    let answer = answer.ok_or(MessageError::Truncated(0))?;
    match split_response(&answer, correlation)? {
        Ok(body) => Ok(codec::decode(body)?),
        Err(reason) => Err(Failure::Refused(reason)),
    }
}
