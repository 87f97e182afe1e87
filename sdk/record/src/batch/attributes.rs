//! The bits of a batch's `attributes`.

use crate::compression::{Compression, UnknownCompression};

const COMPRESSION_MASK: i16 = 0x07;
const TIMESTAMP_TYPE_BIT: i16 = 1 << 3;
const TRANSACTIONAL_BIT: i16 = 1 << 4;
const CONTROL_BIT: i16 = 1 << 5;
const DELETE_HORIZON_BIT: i16 = 1 << 6;

/// The attributes of a batch. Bits that the format does not define are kept as they are, as Kafka does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub i16);

/// Who set the timestamps of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer: each record has its own.
    #[default]
    CreateTime,
    /// The broker: `max_timestamp` stands for every record.
    LogAppendTime,
}

impl Attributes {
    /// How the records section is compressed.
    pub const fn compression(self) -> Result<Compression, UnknownCompression> {
        Compression::from_id(self.0 & COMPRESSION_MASK)
    }

    /// Who set the timestamps.
    #[must_use]
    pub const fn timestamp_type(self) -> TimestampType {
        if self.has(TIMESTAMP_TYPE_BIT) { TimestampType::LogAppendTime } else { TimestampType::CreateTime }
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub const fn is_transactional(self) -> bool {
        self.has(TRANSACTIONAL_BIT)
    }

    /// Whether the batch holds a marker instead of an application's records.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self.has(CONTROL_BIT)
    }

    /// Whether `base_timestamp` is the time from which compaction may drop the batch's tombstones.
    #[must_use]
    pub const fn has_delete_horizon(self) -> bool {
        self.has(DELETE_HORIZON_BIT)
    }

    /// The same, with another codec.
    #[must_use]
    pub const fn with_compression(self, compression: Compression) -> Self {
        Self((self.0 & !COMPRESSION_MASK) | compression.id())
    }

    /// The same, with another timestamp type.
    #[must_use]
    pub const fn with_timestamp_type(self, timestamp_type: TimestampType) -> Self {
        self.with(TIMESTAMP_TYPE_BIT, matches!(timestamp_type, TimestampType::LogAppendTime))
    }

    /// The same, inside or outside a transaction.
    #[must_use]
    pub const fn with_transactional(self, transactional: bool) -> Self {
        self.with(TRANSACTIONAL_BIT, transactional)
    }

    /// The same, as a control batch or not.
    #[must_use]
    pub const fn with_control(self, control: bool) -> Self {
        self.with(CONTROL_BIT, control)
    }

    /// The same, with `base_timestamp` as the time from which compaction may drop tombstones, or without.
    #[must_use]
    pub const fn with_delete_horizon(self, set: bool) -> Self {
        self.with(DELETE_HORIZON_BIT, set)
    }

    const fn has(self, bit: i16) -> bool {
        self.0 & bit != 0
    }

    const fn with(self, bit: i16, set: bool) -> Self {
        Self(if set { self.0 | bit } else { self.0 & !bit })
    }
}
