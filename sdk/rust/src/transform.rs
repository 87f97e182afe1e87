//! What a plugin implements.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Output, Record, Result};

/// A transform with configuration or state.
///
/// ```
/// use millstream_sdk::prelude::*;
///
/// #[derive(serde::Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Config { every: u64 }
///
/// struct Sample { every: u64, seen: u64 }
///
/// #[transform]
/// impl Transform for Sample {
///     type Config = Config;
///
///     fn new(config: Config) -> Result<Self> {
///         if config.every == 0 {
///             return Err(Error::stop("`every` is 0: use 1 or more"));
///         }
///         Ok(Self { every: config.every, seen: 0 })
///     }
///
///     fn record(&mut self, record: Record, out: &mut Output) -> Result<()> {
///         self.seen += 1;
///         if self.seen % self.every == 0 {
///             out.keep(&record);
///         }
///         Ok(())
///     }
/// }
/// ```
///
/// There is one instance for each task of the stage, and a task works on several partitions. What an instance
/// holds is lost when the stage stops, when it is deployed anew and when a call traps: keep bounded what grows
/// with the input, and only what may begin again from nothing.
pub trait Transform: Sized + 'static {
    /// The pipeline's `config:`. Without one in the pipeline, it is read from an empty object. Let serde deny
    /// unknown fields, so that a misspelt key is an error when the pipeline is applied; [`NoConfig`] does.
    type Config: DeserializeOwned;

    /// Makes an instance. It is also how a pipeline is checked before it is applied: an error refuses the
    /// configuration, and its reason is shown, so name the key and what it should be.
    fn new(config: Self::Config) -> Result<Self>;

    /// Decides what becomes of one record. Not to emit anything drops it.
    fn record(&mut self, record: Record<'_>, out: &mut Output<'_>) -> Result<()>;
}

/// The configuration of a transform that has none: any key is an error.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}
