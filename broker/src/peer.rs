//! Brokers among each other: one listener, and a few requests of our own.
//!
//! Framing is Kafka's: a length of 4 bytes, then a request with its API key, version and correlation id, or a response with
//! that id and a status. The keys are private ones, and the bodies are values of the [codec](crate::codec). A connection
//! begins with `Hello`, by which both sides make sure that they mean the same cluster and each other; before that nothing
//! but it is read, and no more than a few kilobytes.
//!
//! ```text
//! Peers (who is where) -> Connection (one request at a time) == TCP ==> serve -> Service (one for each kind of request)
//! ```

#![cfg_attr(not(test), expect(unused_imports, reason = "brokers open no listener for each other yet"))]

mod connection;
mod message;
#[cfg_attr(not(test), expect(dead_code, reason = "brokers open no listener for each other yet"))]
mod serve;
mod transport;

pub(crate) use self::connection::{Connection, PeerError};
pub(crate) use self::message::{Call, Hello, Member, Welcome};
pub(crate) use self::serve::{Service, serve};
pub use self::transport::{BoxedStream, Connect, TcpConnector};
