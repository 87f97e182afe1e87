//! Does with records what data transforms do, with the SDK of Redpanda: splits a value at the variable `SEPARATOR`, drops
//! empty parts, makes the others upper case, adds headers, and writes those that begin with `>` to the second topic. A
//! record without a value is written as it is.

use std::env;

use redpanda_transform_sdk::{
    BorrowedHeader, Record, RecordHeader, RecordWriter, WriteError, WriteEvent, WriteOptions,
    on_record_written,
};

struct Mapper {
    separator: String,
    source: String,
    other_topic: String,
}

fn main() {
    let variable = |name: &str| env::var(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mapper = Mapper {
        separator: variable("SEPARATOR"),
        source: variable("REDPANDA_INPUT_TOPIC"),
        other_topic: variable("REDPANDA_OUTPUT_TOPIC_1"),
    };
    on_record_written(|event, writer| mapper.map(&event, writer))
}

impl Mapper {
    fn map(&self, event: &WriteEvent<'_>, writer: &mut RecordWriter<'_>) -> Result<(), WriteError> {
        let record = &event.record;
        let Some(value) = record.value() else { return writer.write(record) };
        for part in String::from_utf8_lossy(value).split(&self.separator).filter(|part| !part.is_empty()) {
            let headers = record.headers().iter().map(BorrowedHeader::to_owned).collect();
            let key = record.key().map(<[u8]>::to_vec);
            let mut made = Record::new_with_headers(key, Some(part.to_uppercase().into_bytes()), headers);
            made.add_header(RecordHeader::new(b"source".to_vec(), Some(self.source.clone().into_bytes())));
            made.add_header(RecordHeader::new(b"nothing".to_vec(), None));
            match part.starts_with('>') {
                true => writer.write_with_options(&made, WriteOptions::to_topic(&self.other_topic))?,
                false => writer.write(&made)?,
            }
        }
        Ok(())
    }
}
