//! Why bytes are not the message they were taken for.

/// What a decoder found wrong. `field` is `Struct.Field` in Kafka's spelling.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    #[error("read {field}: the bytes end too early")]
    Truncated { field: &'static str },
    #[error("read {field}: invalid length {length}")]
    InvalidLength { field: &'static str, length: i64 },
    /// An array declares more elements than the bytes that follow can hold.
    #[error("read {field}: {count} elements do not fit into the {remaining} bytes that follow")]
    CountTooLarge { field: &'static str, count: u32, remaining: usize },
    #[error("read {field}: the variable-length integer does not fit 32 bits")]
    VarintTooLong { field: &'static str },
    #[error("read {field}: not UTF-8")]
    InvalidUtf8 { field: &'static str },
    #[error("read {field}: null, which this version does not allow")]
    UnexpectedNull { field: &'static str },
    #[error("read {field}: the tagged field does not have the size it declares")]
    TagSizeMismatch { field: &'static str },
    /// The decoded message would take more memory than its frame justifies.
    #[error("read {field}: the message exceeds its memory limit")]
    TooLarge { field: &'static str },
    #[error("read {message}: version {version} is not supported")]
    UnsupportedVersion { message: &'static str, version: i16 },
    #[error("read a message: unknown API key {0}")]
    UnknownApiKey(i16),
    /// Only from [`Reader::finish`](crate::Reader::finish): Kafka itself tolerates trailing bytes.
    #[error("read a message: {0} bytes are left over")]
    TrailingBytes(usize),
}
