//! Opening batches: what is skipped, what is refused.

use millstream_record::{BatchBuilder, Compression, Header};

use super::*;

/// A batch of records with key `k<i>` and value `v<i>`, timestamps 1000, 1001 and so on.
pub(crate) fn batch_bytes(base_offset: i64, count: usize, compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(1 << 20).base_offset(base_offset).compression(compression);
    for index in 0..count {
        let (key, value) = (format!("k{index}"), format!("v{index}"));
        let header = Header { key: b"h", value: Some(b"x") };
        let timestamp = 1000 + i64::try_from(index).unwrap();
        builder.append(timestamp, Some(key.as_bytes()), Some(value.as_bytes()), [header]).unwrap();
    }
    builder.finish().unwrap().into()
}

pub(crate) fn open(bytes: &Bytes, position: i64) -> Result<Option<InputBatch>, InputError> {
    let batch = RecordBatch::new(bytes)?;
    InputBatch::open(Position::Stream, &"orders".into(), 3, &batch, bytes, position)
}

pub(crate) fn sample(count: usize) -> InputBatch {
    open(&batch_bytes(100, count, Compression::None), 100).unwrap().unwrap()
}

fn keys(batch: &InputBatch) -> Vec<String> {
    let key = |record| batch.fields(record).fields().0.map(|key| String::from_utf8(key.to_vec()).unwrap());
    batch.records.iter().filter_map(key).collect()
}

#[test]
fn records_below_the_position_are_left_out() {
    for compression in Compression::ALL {
        let bytes = batch_bytes(100, 5, compression);
        let batch = open(&bytes, 103).unwrap().unwrap();
        assert_eq!(keys(&batch), ["k3", "k4"]);
        assert_eq!(batch.offset(&batch.records[0]), 103);
        assert_eq!(batch.records[0].timestamp, 1003);
        assert_eq!(batch.body(&batch.records[1]), b"\x04k4\x04v4\x02\x02h\x02x");
        assert_eq!(RecordIter::new(&batch.section).count(), 2);
    }
}

#[test]
fn a_batch_below_the_position_has_nothing_left() {
    assert!(open(&batch_bytes(100, 5, Compression::None), 105).unwrap().is_none());
}

#[test]
fn control_batches_are_skipped() {
    let mut builder = BatchBuilder::new(1024).control(true).producer(1, 0, -1);
    builder.append(0, Some(&[0, 0, 0, 1]), Some(&[0; 6]), []).unwrap();
    assert!(open(&builder.finish().unwrap().into(), 0).unwrap().is_none());
}

#[test]
fn append_time_is_the_timestamp_of_every_record() {
    let mut builder = BatchBuilder::new(1024).append_time(7777);
    builder.append(1, None, Some(b"a"), []).unwrap();
    builder.append(2, None, Some(b"b"), []).unwrap();
    let batch = open(&builder.finish().unwrap().into(), 0).unwrap().unwrap();
    assert_eq!(batch.append_time, Some(7777));
    assert!(batch.records.iter().all(|record| record.timestamp == 7777));
}

#[test]
fn a_flipped_bit_is_found() {
    let mut bytes = batch_bytes(0, 3, Compression::None).to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    assert!(matches!(open(&bytes.into(), 0), Err(InputError::Crc(_))));
}

#[test]
fn a_bomb_is_not_inflated() {
    let zeros = vec![0; UNCOMPRESSED_BYTES_MAX];
    let mut builder = BatchBuilder::new(UNCOMPRESSED_BYTES_MAX + 4096).compression(Compression::Zstd);
    builder.append(0, None, Some(&zeros), []).unwrap();
    let bytes: Bytes = builder.finish().unwrap().into();
    assert!(bytes.len() < 1 << 20);
    assert!(matches!(open(&bytes, 0), Err(InputError::Decompress(_))));
}
