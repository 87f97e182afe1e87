//! What a plugin needs: `use millstream_sdk::prelude::*`.

pub use crate::{
    Error, Message, NoConfig, Outgoing, Output, Record, Result, Sink, Source, Transform, log, metrics, sink,
    source, transform,
};
