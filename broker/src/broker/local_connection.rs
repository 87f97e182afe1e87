//! A client connection inside the process: the same requests and answers, without a socket.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;

use super::Broker;
use crate::api::{self, RequestError};
use crate::connection::Peer;
use crate::ids::Principal;

/// A request that could not be answered; over a socket, the connection would have been closed.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct LocalError(#[from] RequestError);

#[derive(Clone)]
pub struct LocalConnection {
    broker: Arc<Broker>,
    peer: Peer,
    client_id: Arc<str>,
}

impl LocalConnection {
    pub(super) fn new(broker: Arc<Broker>, client_id: &str, principal: Principal) -> Self {
        let peer = Peer { address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0), principal };
        Self { broker, peer, client_id: client_id.into() }
    }

    /// What the client calls itself in its request headers.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Answers one request, header included, without the length in front. The answer is in chunks and begins
    /// with its length; there is none for a Produce with acks=0.
    pub async fn call(&self, request: Bytes) -> Result<Option<Vec<Bytes>>, LocalError> {
        let begun = api::begin(&self.broker, &self.peer, request, true)?;
        Ok(begun.outcome.await?)
    }
}
