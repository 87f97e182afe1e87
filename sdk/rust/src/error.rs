//! How a transform says that it cannot go on, and how far that reaches.

use std::fmt;

/// What a transform returns.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// Why a transform cannot go on.
///
/// `?` makes a rejection out of anything that can be displayed: any error, `ok_or("no status")`, a `format!`.
/// For that to be possible this type itself is not a [`std::error::Error`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// This record is bad. The others of the batch are not affected; what was emitted for it is taken back, and
    /// the stage's `on_error` policy decides about it.
    Reject(String),
    /// The batch cannot be processed now. Nothing of it is written, and the host calls again later with the same
    /// records, a limited number of times.
    Retry(String),
    /// The stage cannot go on until a person has looked. Nothing of the batch is written.
    Stop(String),
    /// The host has told a producer or consumer plugin to stop. To return it is no error.
    Stopping,
}

impl Error {
    /// This record is bad, and this is why.
    pub fn reject(reason: impl fmt::Display) -> Self {
        Self::Reject(reason.to_string())
    }

    /// The same batch again, later.
    pub fn retry(reason: impl fmt::Display) -> Self {
        Self::Retry(reason.to_string())
    }

    /// Stop the stage.
    pub fn stop(reason: impl fmt::Display) -> Self {
        Self::Stop(reason.to_string())
    }

    /// What was given as the reason.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Reject(reason) | Self::Retry(reason) | Self::Stop(reason) => reason,
            Self::Stopping => "told to stop",
        }
    }
}

impl<E: fmt::Display> From<E> for Error {
    fn from(error: E) -> Self {
        Self::reject(error)
    }
}
