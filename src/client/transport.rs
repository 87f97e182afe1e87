//! How requests reach a broker. The client neither knows nor cares whether a socket is involved.

use std::error::Error;
use std::future::Future;

use bytes::Bytes;

/// Why a request has no answer. Whether it took effect is unknown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransportError {
    /// The request or its answer was lost; another attempt may succeed.
    #[error("reach the broker")]
    #[cfg_attr(not(test), expect(dead_code, reason = "a broker in the same process is always reached"))]
    Unreachable(#[source] Box<dyn Error + Send + Sync>),
    /// The broker takes the request for malformed, and would again.
    #[error("be understood by the broker")]
    Refused(#[source] Box<dyn Error + Send + Sync>),
}

/// A connection on which calls may be made at the same time. Calls that are first polled one after the other
/// take effect in that order.
pub(crate) trait Transport: Send + Sync + 'static {
    /// Sends a request, header included, without the length in front. The answer is in chunks, and without its
    /// length too.
    fn call(&self, request: Bytes) -> impl Future<Output = Result<Vec<Bytes>, TransportError>> + Send;
}

/// Makes connections: a request that waits at the broker (Fetch, JoinGroup) holds up what follows it on the same
/// connection, so a port has several.
pub(crate) trait Connector: Send + Sync + 'static {
    type Transport: Transport;

    /// `principal` is who the client is, where the broker has no other way to learn it.
    fn connect(&self, client_id: &str, principal: &str) -> Self::Transport;
}
