//! Lines for the broker's log, which adds the pipeline, stage and plugin to each.
//!
//! The host limits how many lines a second it takes and how long they are. Natively, lines go to the
//! [`testing`](crate::testing) harness of the same thread.

/// For whoever follows single records.
pub fn trace(message: impl AsRef<str>) {
    write(Level::Trace, message.as_ref());
}

/// For whoever looks for a fault.
pub fn debug(message: impl AsRef<str>) {
    write(Level::Debug, message.as_ref());
}

/// For the operator, as a matter of course.
pub fn info(message: impl AsRef<str>) {
    write(Level::Info, message.as_ref());
}

/// For the operator, who might want to do something.
pub fn warn(message: impl AsRef<str>) {
    write(Level::Warn, message.as_ref());
}

/// For the operator, who has to do something.
pub fn error(message: impl AsRef<str>) {
    write(Level::Error, message.as_ref());
}

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// See [`trace`].
    Trace,
    /// See [`debug`].
    Debug,
    /// See [`info`].
    Info,
    /// See [`warn`].
    Warn,
    /// See [`error`].
    Error,
}

#[cfg(target_family = "wasm")]
fn write(level: Level, message: &str) {
    crate::guest::log(level, message);
}

#[cfg(not(target_family = "wasm"))]
fn write(level: Level, message: &str) {
    crate::testing::log(level, message);
}
