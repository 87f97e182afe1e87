//! Passes every record on, with the SDK of Redpanda's data transforms: the least that a module can do, to measure what one
//! costs.

use redpanda_transform_sdk::{RecordWriter, WriteError, WriteEvent, on_record_written};

fn main() {
    on_record_written(identity)
}

fn identity(event: WriteEvent<'_>, writer: &mut RecordWriter<'_>) -> Result<(), WriteError> {
    writer.write(event.record)
}
