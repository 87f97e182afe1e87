//! Sources and sinks: producer plugins and consumer plugins, whose `run` goes on until it is told to stop.
//!
//! ```text
//! plugin's thread: instance ── host calls ──> Session ── requests, one at a time ──> desk (the node's runtime) ──> port
//!   (its own OS thread)                     what was polled                            owns the membership
//!                                           and not committed, what was sent
//! ```
//!
//! The session outlives its instances, and the port outlives both: a crash or another version of the plugin starts
//! another `run` in the same place of the group, at what is committed.
//!
//! | task | owner | ends when |
//! | --- | --- | --- |
//! | the desk, one for each task of the runner | the runner's `TaskTracker` | its thread has ended |
//! | the thread | the desk | it is told to stop, its plugin's work is done, or it fails |

mod check;
mod desk;
mod outgoing;
mod poison;
mod reading;
mod session;
mod spec;
mod thread;
mod writing;

pub use spec::{POSITIONS_TOPIC, RunnerKind, RunnerSpec};

pub(crate) use check::check;
pub(crate) use desk::run_runner;
pub(crate) use outgoing::Outgoing;
pub(crate) use session::{SeekPlace, Session, SessionError};
pub(crate) use writing::Writing;

#[cfg(test)]
mod tests;
