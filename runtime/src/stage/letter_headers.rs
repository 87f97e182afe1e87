//! The headers that a dead letter has beside those of its record. They are one block behind them, which begins with
//! [`REASON`]: a letter that is rejected once more has two blocks, and the last one is that of the last rejection.

/// What all of them begin with.
pub const PREFIX: &str = "millstream.error.";
pub const REASON: &str = "millstream.error.reason";
/// Name and version. Not there if it was not a plugin that rejected the record.
pub const PLUGIN: &str = "millstream.error.plugin";
/// The hash of that plugin's component, in full.
pub const PLUGIN_SHA256: &str = "millstream.error.plugin.sha256";
/// Pipeline and stage, with a dot between them.
pub const STAGE: &str = "millstream.error.stage";
pub const TOPIC: &str = "millstream.error.topic";
pub const PARTITION: &str = "millstream.error.partition";
/// -1 of a record that was rejected before it was stored.
pub const OFFSET: &str = "millstream.error.offset";
/// Of the record, in milliseconds. That of the letter is another one where its topic does not take this one.
pub const TIMESTAMP: &str = "millstream.error.timestamp";
/// The value is a whole record batch that could not be opened, with so many records.
pub const BATCH_RECORDS: &str = "millstream.error.batch.records";
/// The value is only the beginning of one with so many bytes. The key and the record's own headers may be missing.
pub const TRUNCATED: &str = "millstream.error.truncated";
