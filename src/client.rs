//! The Kafka client of stages, sources and sinks: a [`RunnerPort`](millstream_runtime::stage::RunnerPort) over Kafka's own
//! requests.
//!
//! ```text
//! stage_port     what a stage calls: poll, commit, topics, close
//!   member         the task behind it: joins the group, keeps the membership alive, fetches ahead
//!     membership     one life in the group: join, sync, heartbeat, leave
//!       range_assignor, consumer_protocol   who gets what, and how it is written down; pure
//!     seeks          where the port wants partitions read from
//!     fetcher        positions, Fetch requests and what came back
//!   producer       idempotent Produce: sequences, what is sent again and how
//!   offsets, topics, last_value   where a group stands, what a topic has and takes, what was said last under a key
//! connection     one request and its answer, at a version that both sides know
//!   transport      how bytes reach a broker: within the process, or by a socket
//! ```
//!
//! A port is one member of its group, and shares the group with any consumer of any other client. Its task is
//! spawned on the tracker that the port is opened with, and ends with the port. The task owns the membership and
//! the positions; the port owns the producer. Between them: a `watch` that says what the member owns, a
//! bounded channel with what was fetched, and a `watch` back that says what the stage has let go of.
//!
//! **Invariants**: a commit's outputs are written before its offsets are. What was fetched under one membership is
//! never handed out under another. A member joins again only when the stage has committed what it had in flight,
//! or when the group's patience is at its end.

mod backoff;
mod by_topic;
mod config;
mod connection;
mod consumer_protocol;
mod error;
mod fetcher;
mod last_value;
mod member;
mod membership;
mod offsets;
mod ownership;
mod producer;
mod range_assignor;
mod seeks;
mod stage_port;
mod topics;
mod transport;
mod versions;

pub(crate) use self::config::PortConfig;
pub(crate) use self::connection::Connection;
pub(crate) use self::error::ClientError;
pub(crate) use self::membership::GroupClient;
pub(crate) use self::offsets::{TIMESTAMP_EARLIEST, TIMESTAMP_LATEST, list_offsets};
pub(crate) use self::stage_port::ClientPort;
pub(crate) use self::transport::{Connector, Transport, TransportError};

#[cfg(test)]
mod tests;
