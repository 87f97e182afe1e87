//! What a plugin needs: `use millstream_sdk::prelude::*`.

pub use crate::{Error, NoConfig, Output, Record, Result, Transform, log, transform};
