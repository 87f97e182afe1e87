//! What a producer plugin works with.

use std::time::Duration;

use super::{Outgoing, host};
use crate::Result;

/// A producer with a position of its own. There is one, which the host lends to the function under `#[source]`.
#[derive(Debug)]
pub struct Source(pub(crate) ());

impl Source {
    #[doc(hidden)]
    #[must_use]
    pub const fn __new() -> Self {
        Self(())
    }

    /// Queues a message for the pipeline's `to:`. It is written with the next `save_position` or `flush`, and before
    /// `sleep` waits.
    pub fn send(&mut self, message: Outgoing) -> Result<()> {
        host::send(message)
    }

    /// Writes what is queued.
    pub fn flush(&mut self) -> Result<()> {
        host::flush()
    }

    /// Where the plugin was, in this or an earlier life; none, if it never said.
    pub fn load_position(&mut self) -> Result<Option<Vec<u8>>> {
        host::load_position()
    }

    /// Writes what was sent, and behind it the position, in one commit. After a crash the plugin finds this position or a
    /// later one; what was sent behind it is sent again.
    pub fn save_position(&mut self, position: impl AsRef<[u8]>) -> Result<()> {
        host::save_position(position.as_ref())
    }

    /// Waits.
    pub fn sleep(&mut self, time: Duration) -> Result<()> {
        host::sleep(time)
    }
}
