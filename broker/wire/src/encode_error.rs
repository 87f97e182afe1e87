//! Why a message can't be written at the version asked for.

/// What an encoder refuses. `field` is `Struct.Field` in Kafka's spelling.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    #[error("write {message}: version {version} is not supported")]
    UnsupportedVersion { message: &'static str, version: i16 },
    /// The version lacks the field, its value is not the default, and dropping it would change
    /// the message's meaning.
    #[error("write {field}: version {version} lacks the field")]
    FieldNotInVersion { field: &'static str, version: i16 },
    #[error("write {field}: null, which version {version} does not allow")]
    UnexpectedNull { field: &'static str, version: i16 },
    #[error("write {field}: {length} exceeds what its length prefix can say")]
    TooLong { field: &'static str, length: usize },
    #[error("write a frame: {length} bytes exceed what its length prefix can say")]
    FrameTooLong { length: usize },
}
