//! What is built is read back, and what is not a batch is refused without a panic.

use millstream_record::{
    AppendError, BatchBuilder, BatchError, Compression, DecompressError, Header, RecordBatch, RecordBody,
    RecordIter, RecordsError, decompress, varint,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

const BATCH_BYTES_MAX: usize = 1 << 20;
const RECORDS_BYTES_MAX: usize = 1 << 20;

type Bytes = Vec<u8>;

#[derive(Clone, Debug, PartialEq)]
struct Owned {
    timestamp: i64,
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Vec<(Bytes, Option<Bytes>)>,
}

fn record() -> impl Strategy<Value = Owned> {
    let bytes = || vec(any::<u8>(), 0..200);
    let headers = vec((vec(any::<u8>(), 0..20), option::of(bytes())), 0..4);
    let timestamp = prop_oneof![any::<i64>(), 1_700_000_000_000..1_700_000_100_000_i64];
    (timestamp, option::of(bytes()), option::of(bytes()), headers)
        .prop_map(|(timestamp, key, value, headers)| Owned { timestamp, key, value, headers })
}

fn build(records: &[Owned], compression: Compression) -> Bytes {
    let mut builder =
        BatchBuilder::new(BATCH_BYTES_MAX).base_offset(7).producer(5, 6, 8).compression(compression);
    for record in records {
        let headers = record.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() });
        builder
            .append(record.timestamp, record.key.as_deref(), record.value.as_deref(), headers)
            .expect("the records fit the batch");
    }
    builder.finish().expect("there is a record")
}

fn read(batch: RecordBatch<'_>) -> Vec<Owned> {
    let section = batch.uncompressed_records(RECORDS_BYTES_MAX).expect("the records can be decompressed");
    batch.validate_records(&section).expect("the records are valid");
    RecordIter::new(&section)
        .map(|record| {
            let record = record.expect("the record is valid");
            assert_eq!(record.headers.len(), record.headers.clone().count());
            Owned {
                timestamp: batch.timestamp_of(&record),
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: record
                    .headers
                    .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
                    .collect(),
            }
        })
        .collect()
}

proptest! {
    #[test]
    fn a_built_batch_is_read_back(records in vec(record(), 1..40), compression in select(&Compression::ALL)) {
        let bytes = build(&records, compression);
        let (batch, rest) = RecordBatch::split_first(&bytes).expect("the batch is whole");
        prop_assert!(rest.is_empty());
        prop_assert_eq!(batch.verify_crc(), Ok(()));
        prop_assert_eq!(batch.validate_client_header(), Ok(()));
        prop_assert_eq!(batch.compression(), Ok(compression));
        prop_assert_eq!(batch.records_count() as usize, records.len());
        prop_assert_eq!(batch.next_offset(), 7 + records.len() as i64);
        prop_assert_eq!((batch.producer_id(), batch.producer_epoch(), batch.base_sequence()), (5, 6, 8));
        let max_timestamp = records.iter().map(|record| record.timestamp).max().unwrap_or(-1);
        prop_assert_eq!(batch.max_timestamp(), max_timestamp.max(-1));
        prop_assert_eq!(read(batch), records);
    }

    #[test]
    fn bodies_move_to_another_batch(records in vec(record(), 1..10)) {
        let source = build(&records, Compression::None);
        let source = RecordBatch::new(&source).unwrap();
        let mut builder = BatchBuilder::new(BATCH_BYTES_MAX);
        for record in RecordIter::new(source.records_section()) {
            let record = record.unwrap();
            prop_assert_eq!(RecordBody::parse(record.body.as_bytes()), Ok(record.body));
            let (key, value, headers) = record.body.fields();
            prop_assert_eq!((key, value), (record.key, record.value));
            prop_assert!(headers.eq(record.headers.clone()));
            builder.append_body(source.timestamp_of(&record), record.body).unwrap();
        }
        let moved = builder.finish().unwrap();
        prop_assert_eq!(read(RecordBatch::new(&moved).unwrap()), records);
    }

    #[test]
    fn a_batch_cut_anywhere_is_incomplete(records in vec(record(), 1..4), compression in select(&Compression::ALL)) {
        let bytes = build(&records, compression);
        for cut in 0..bytes.len() {
            match RecordBatch::split_first(&bytes[..cut]) {
                Err(BatchError::Incomplete { needed, available }) => {
                    prop_assert!(available == cut && needed > cut && needed <= bytes.len());
                }
                other => prop_assert!(false, "{other:?} at {cut}"),
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_found(records in vec(record(), 1..4), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let mut bytes = build(&records, Compression::None);
        let at = 21 + at.index(bytes.len() - 21);
        bytes[at] ^= 1_u8 << bit;
        prop_assert!(RecordBatch::new(&bytes).unwrap().verify_crc().is_err());
    }

    #[test]
    fn leftovers_and_wrong_counts_are_refused(records in vec(record(), 2..6)) {
        let bytes = build(&records, Compression::None);
        let batch = RecordBatch::new(&bytes).unwrap();
        let mut section = batch.records_section().to_vec();
        let last = RecordIter::new(&section).last().unwrap().unwrap().raw.len();
        let declared = batch.records_count();
        prop_assert_eq!(
            batch.validate_records(&section[..section.len() - last]),
            Err(RecordsError::CountMismatch { declared, found: declared - 1 })
        );
        section.push(0);
        prop_assert_eq!(batch.validate_records(&section), Err(RecordsError::TrailingBytes(1)));
    }

    #[test]
    fn the_limit_holds_to_the_byte(records in vec(record(), 1..10), compression in select(&Compression::ALL)) {
        let bytes = build(&records, compression);
        let batch = RecordBatch::new(&bytes).unwrap();
        let size = batch.uncompressed_records(RECORDS_BYTES_MAX).unwrap().len();
        prop_assert_eq!(batch.uncompressed_records(size).unwrap().len(), size);
        let limit = size - 1;
        prop_assert_eq!(batch.uncompressed_records(limit), Err(DecompressError::LimitExceeded { limit }));
    }

    #[test]
    fn the_builder_keeps_its_limit(records in vec(record(), 1..40), limit in 61..2000_usize) {
        let mut builder = BatchBuilder::new(limit);
        for record in &records {
            let before = (builder.size_in_bytes(), builder.records_count());
            match builder.append(record.timestamp, record.key.as_deref(), record.value.as_deref(), []) {
                Ok(()) => prop_assert!(builder.size_in_bytes() <= limit),
                Err(AppendError::Full { needed, .. }) => {
                    prop_assert!(needed > limit);
                    prop_assert_eq!((builder.size_in_bytes(), builder.records_count()), before);
                }
                Err(error) => prop_assert!(false, "{error}"),
            }
        }
        let size = builder.size_in_bytes();
        if !builder.is_empty() {
            prop_assert_eq!(builder.finish().unwrap().len(), size);
        }
    }

    #[test]
    fn varints_lead_back(int in any::<i32>(), long in any::<i64>()) {
        let mut bytes = Vec::new();
        varint::put_varint(&mut bytes, int);
        prop_assert_eq!(bytes.len(), varint::varint_bytes(int));
        varint::put_varlong(&mut bytes, long);
        prop_assert_eq!(bytes.len(), varint::varint_bytes(int) + varint::varlong_bytes(long));
        let mut rest = bytes.as_slice();
        prop_assert_eq!(varint::take_varint(&mut rest), Ok(int));
        prop_assert_eq!(varint::take_varlong(&mut rest), Ok(long));
        prop_assert!(rest.is_empty());
    }
}

proptest! {
    // Each case tries every cut.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_section_cut_anywhere_is_refused(records in vec(record(), 1..4), compression in select(&Compression::ALL)) {
        let bytes = build(&records, compression);
        let batch = RecordBatch::new(&bytes).unwrap();
        let section = batch.records_section();
        let whole = batch.uncompressed_records(RECORDS_BYTES_MAX).unwrap();
        for cut in 0..section.len() {
            let mut out = vec![1, 2, 3];
            let result = decompress(compression, &section[..cut], RECORDS_BYTES_MAX, &mut out);
            if result.is_err() {
                prop_assert_eq!(&out, &[1, 2, 3], "an error leaves nothing behind");
            }
            let refused = match result {
                Ok(()) => batch.validate_records(&out[3..]).is_err(),
                Err(error) => matches!(error, DecompressError::Corrupt { .. }),
            };
            // A snappy stream has no end mark and may be cut between chunks, or lose an empty one.
            prop_assert!(refused || out[3..] == *whole, "{compression} at {cut}");
        }
    }
}
