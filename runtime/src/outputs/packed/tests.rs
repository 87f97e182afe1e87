//! The encoding by example, and that no bytes at all break the decoder.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::outputs::Transformed;

fn topics() -> Vec<Arc<str>> {
    vec!["out".into(), "foo".into()]
}

fn decode_all(packed: &[u8], record_count: usize) -> Result<Vec<OutputRecord>, OutputError> {
    let topics = topics();
    let rules = OutputRules { record_count, outputs_max: 100, output_bytes_max: 1 << 16, topics: &topics };
    let mut outputs = Vec::new();
    decode(packed, &rules, &mut outputs)?;
    Ok(outputs)
}

fn unchanged(index: u32) -> OutputRecord {
    OutputRecord { index, topic: None, partition: None, timestamp: None, body: None }
}

/// The examples of the contract's README, and one with everything.
#[test]
fn the_examples_of_the_contract() {
    let check = |packed: &[u8], expect: &[OutputRecord]| {
        assert_eq!(decode_all(packed, 3).unwrap(), expect, "{packed:02x?}");
    };
    let body = Some(Span { start: 3, end: 8 });
    check(&[], &[]);
    check(&[0x10, 0x02, 0x06], &[unchanged(0), unchanged(1), unchanged(2)]);
    check(&[0x00, 0x02, 0x00, 0x04], &[unchanged(0), unchanged(2)]);
    check(&[0x01, 0x02, 0x0a, 0x01, 0x04, b'h', b'i', 0x00], &[OutputRecord { body, ..unchanged(0) }]);
    check(&[0x02, 0x02, 0x06, b'f', b'o', b'o'], &[OutputRecord { topic: Some(1), ..unchanged(0) }]);
    check(
        &[0x00, 0x02, 0x01, 0x00, 0x0a, 0x01, 0x04, b'h', b'i', 0x00],
        &[unchanged(0), OutputRecord { body: Some(Span { start: 5, end: 10 }), ..unchanged(0) }],
    );
    check(
        &[0x0f, 0x06, 0x06, b'o', b'u', b't', 0x0c, 0xd0, 0x0f, 0x06, 0x01, 0x01, 0x00],
        &[OutputRecord {
            index: 2,
            topic: Some(0),
            partition: Some(6),
            timestamp: Some(1000),
            body: Some(Span { start: 10, end: 13 }),
        }],
    );
    check(&[0x00, 0x06, 0x00, 0x01], &[unchanged(2), unchanged(1)]);
}

#[test]
fn each_fault_is_named() {
    let check = |packed: &[u8], expect: OutputFault| {
        assert_eq!(
            decode_all(packed, 3),
            Err(OutputError::Output { output: 0, fault: expect }),
            "{packed:02x?}"
        );
    };
    check(&[0x20], OutputFault::Flags(0x20));
    check(&[0x11, 0x02], OutputFault::Flags(0x11));
    check(&[0x18, 0x02], OutputFault::Flags(0x18));
    check(&[0x00], OutputFault::Truncated);
    check(&[0x00, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01], OutputFault::VarintTooLong);
    check(&[0x00, 0x00], OutputFault::Index { index: -1, record_count: 3 });
    check(&[0x00, 0x08], OutputFault::Index { index: 3, record_count: 3 });
    check(&[0x10, 0x02, 0x08], OutputFault::Index { index: 3, record_count: 3 });
    check(&[0x10, 0x02, 0x00], OutputFault::RunLength(0));
    check(&[0x10, 0x02, 0x01], OutputFault::RunLength(-1));
    check(
        &[0x10, 0x02, 0xfe, 0xff, 0xff, 0xff, 0x0f],
        OutputFault::Index { index: 0x7fff_fffe, record_count: 3 },
    );
    check(&[0x02, 0x02, 0x02, b'x'], OutputFault::UnknownTopic("x".to_owned()));
    check(&[0x02, 0x02, 0x02, 0xff], OutputFault::TopicNotUtf8);
    check(&[0x02, 0x02, 0x01], OutputFault::Length(-1));
    check(&[0x04, 0x02, 0x01], OutputFault::Partition(-1));
    check(&[0x08, 0x02, 0x01], OutputFault::Timestamp(-1));
    check(&[0x01, 0x02, 0x7e, 0x00], OutputFault::Truncated);
    check(
        &[0x01, 0x02, 0x08, 0x01, 0x01, 0x00, 0x00],
        OutputFault::Body(millstream_record::RecordFault::TrailingBytes(1)),
    );
}

#[test]
fn runs_do_not_multiply_beyond_the_limit() {
    let mut packed = vec![0x10, 0x02, 0x06];
    for _ in 0..40 {
        packed.extend([0x10, 0x03, 0x06]); // Back by two, and all three again.
    }
    assert_eq!(decode_all(&packed, 3), Err(OutputError::TooMany { max: 100 }));
}

#[test]
fn output_beyond_the_limit_is_not_looked_at() {
    let packed = vec![0xff; (1 << 16) + 1];
    assert_eq!(decode_all(&packed, 3), Err(OutputError::TooLarge { size: packed.len(), max: 1 << 16 }));
}

#[test]
fn a_record_is_written_or_rejected_but_not_both() {
    let rejecting = |outputs: &[u32], rejected: &[u32]| {
        let mut out = Transformed::default();
        out.outputs.extend(outputs.iter().map(|index| unchanged(*index)));
        rejected.iter().for_each(|index| out.reject(*index, "bad"));
        out.check_rejected(3)
    };
    assert_eq!(rejecting(&[0, 2], &[1]), Ok(()));
    assert_eq!(rejecting(&[0, 1], &[1]), Err(OutputError::RejectedTwice { index: 1 }));
    assert_eq!(rejecting(&[], &[1, 1]), Err(OutputError::RejectedTwice { index: 1 }));
    assert_eq!(rejecting(&[], &[3]), Err(OutputError::RejectedIndex { index: 3, record_count: 3 }));
}

fn arbitrary_output() -> impl Strategy<Value = Vec<u8>> {
    // Mostly well-formed pieces, so that the decoder gets past the first byte.
    let piece = prop_oneof![
        Just(vec![0x00, 0x02]),
        Just(vec![0x10, 0x02, 0x04]),
        Just(vec![0x01, 0x00, 0x06, 0x01, 0x01, 0x00]),
        Just(vec![0x02, 0x01, 0x06, b'f', b'o', b'o']),
        Just(vec![0x0c, 0x02, 0x04, 0x7e]),
        proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn whatever_comes_back_stays_within_the_rules(packed in arbitrary_output(), record_count in 1_usize..8) {
        crate::outputs::fuzz::check_packed(&packed, record_count);
    }

    #[test]
    fn arbitrary_bytes_are_no_surprise(packed in proptest::collection::vec(any::<u8>(), 0..200)) {
        crate::outputs::fuzz::check_packed(&packed, 5);
    }
}
