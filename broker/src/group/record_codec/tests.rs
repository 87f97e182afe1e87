//! Kafka's bytes, made with the classes of kafka-group-coordinator 4.3.0.

use super::*;

const TIMESTAMP_MS: i64 = 1_767_225_600_123;
const GROUP_KEY: &str = "000200076772c3bcc39f65";
const OFFSET_KEY: &str = "000100016700017400000003";
const GROUP_V0: &str = "00000008636f6e73756d657200000007000572616e676500036d2d310000000200036d2d31000163000a2f3132372e302e302e3100002710000000020102000000010300036d2d3200000000000000020000000000000000";
const GROUP_V3: &str = "00030008636f6e73756d657200000007000572616e676500036d2d310000019b76daa87b0000000200036d2d31000169000163000a2f3132372e302e302e310000ea6000002710000000020102000000010300036d2d32ffff0000000000000001000000020000000000000000";
const GROUP_EMPTY_V3: &str = "0003000000000000ffffffff000000000000000500000000";
const OFFSET_V3: &str = "0003000000000000002a0000000500046d6574610000019b76daa87b";
const OFFSET_V4: &str =
    "0004000000000000002a00000005056d6574610000019b76daa87b0100100102030405060708090a0b0c0d0e0f10";
const OFFSET_V4_NO_TOPIC_ID: &str = "0004000000000000002affffffff056d6574610000019b76daa87b00";
const OFFSET_V1: &str = "0001000000000000002a00046d6574610000019b76daa87b0000019b76dc2f1b";

fn bytes(hex: &str) -> Bytes {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn record(key: &str, value: Option<&str>) -> LogRecord {
    LogRecord { key: bytes(key), value: value.map(bytes) }
}

fn check(stored: &LogRecord, expected: &GroupRecord) {
    assert_eq!(decode(stored).unwrap().as_ref(), Some(expected));
    assert_eq!(encode(expected), *stored);
}

fn group(value: Option<GroupMetadata>) -> GroupRecord {
    GroupRecord::GroupMetadata { group_id: GroupId::new("grüße"), value }
}

fn metadata() -> GroupMetadata {
    let member = |id: &str| MemberMetadata {
        member_id: MemberId::new(id),
        group_instance_id: None,
        client_id: "".into(),
        client_host: "".into(),
        rebalance_timeout_ms: 1,
        session_timeout_ms: 2,
        subscription: Bytes::new(),
        assignment: Bytes::new(),
    };
    let first = MemberMetadata {
        group_instance_id: Some(GroupInstanceId::new("i")),
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout_ms: 60_000,
        session_timeout_ms: 10_000,
        subscription: Bytes::from_static(&[1, 2]),
        assignment: Bytes::from_static(&[3]),
        ..member("m-1")
    };
    GroupMetadata {
        protocol_type: Some("consumer".into()),
        generation_id: GenerationId(7),
        protocol_name: Some("range".into()),
        leader: Some(MemberId::new("m-1")),
        state_timestamp_ms: Some(TIMESTAMP_MS),
        members: vec![first, member("m-2")],
    }
}

fn offset(value: Option<CommittedOffset>) -> GroupRecord {
    let key = OffsetKey {
        group_id: GroupId::new("g"),
        topic: TopicName::new("t").unwrap(),
        partition: PartitionIndex(3),
    };
    GroupRecord::OffsetCommit { key, value }
}

fn committed() -> CommittedOffset {
    CommittedOffset {
        offset: Offset(42),
        leader_epoch: Some(LeaderEpoch(5)),
        metadata: "meta".into(),
        commit_timestamp_ms: TIMESTAMP_MS,
        expire_timestamp_ms: None,
        topic_id: Some(TopicId(Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10))),
    }
}

#[test]
fn writes_and_reads_what_kafka_writes() {
    check(&record(GROUP_KEY, Some(GROUP_V3)), &group(Some(metadata())));
    check(&record(GROUP_KEY, None), &group(None));
    let empty = GroupMetadata {
        protocol_type: None,
        generation_id: GenerationId(0),
        protocol_name: None,
        leader: None,
        state_timestamp_ms: Some(5),
        members: Vec::new(),
    };
    check(&record(GROUP_KEY, Some(GROUP_EMPTY_V3)), &group(Some(empty)));
    check(&record(OFFSET_KEY, Some(OFFSET_V4)), &offset(Some(committed())));
    check(&record(OFFSET_KEY, None), &offset(None));
    let bare = CommittedOffset { leader_epoch: None, topic_id: None, ..committed() };
    check(&record(OFFSET_KEY, Some(OFFSET_V4_NO_TOPIC_ID)), &offset(Some(bare.clone())));
    let expiring = CommittedOffset { expire_timestamp_ms: Some(TIMESTAMP_MS + 100_000), ..bare };
    check(&record(OFFSET_KEY, Some(OFFSET_V1)), &offset(Some(expiring)));
}

#[test]
fn reads_what_older_versions_wrote() {
    let old = record(OFFSET_KEY, Some(OFFSET_V3));
    let expected = offset(Some(CommittedOffset { topic_id: None, ..committed() }));
    assert_eq!(decode(&old).unwrap(), Some(expected));
    let mut expected = metadata();
    expected.state_timestamp_ms = None;
    for member in &mut expected.members {
        member.group_instance_id = None;
        member.rebalance_timeout_ms = member.session_timeout_ms;
    }
    assert_eq!(decode(&record(GROUP_KEY, Some(GROUP_V0))).unwrap(), Some(group(Some(expected))));
    // The key's type 0 is that of commits before type 1.
    let key = OFFSET_KEY.replacen("0001", "0000", 1);
    assert_eq!(decode(&record(&key, None)).unwrap(), Some(offset(None)));
}

#[test]
fn leaves_other_kinds_of_groups_alone() {
    // A member of a consumer group of the new protocol.
    assert_eq!(decode(&record("0005000167000161", Some("0000"))).unwrap(), None);
}

#[test]
fn damage_is_an_error_and_no_panic() {
    for (key, value) in [(GROUP_KEY, GROUP_V3), (OFFSET_KEY, OFFSET_V4), (OFFSET_KEY, OFFSET_V1)] {
        for length in 0..key.len() / 2 {
            let cut = LogRecord { key: bytes(key).slice(..length), value: Some(bytes(value)) };
            assert!(decode(&cut).is_err(), "key cut to {length}");
        }
        for length in 0..value.len() / 2 {
            let cut = LogRecord { key: bytes(key), value: Some(bytes(value).slice(..length)) };
            assert!(decode(&cut).is_err(), "value cut to {length}");
        }
        for at in 0..value.len() / 2 {
            let mut flipped = bytes(value).to_vec();
            flipped[at] ^= 0xff;
            let _any = decode(&LogRecord { key: bytes(key), value: Some(flipped.into()) });
        }
    }
    // A topic name that no topic can have.
    assert!(decode(&record("000100016700012f00000003", None)).is_err());
}

#[test]
fn a_records_size_is_bounded_from_above() {
    let cases = [group(Some(metadata())), group(None), offset(Some(committed())), offset(None)];
    for record in cases {
        let stored = encode(&record);
        let stored = stored.key.len() + stored.value.map_or(0, |value| value.len());
        // A record's own lengths, deltas and headers take at most 30 bytes more.
        assert!(record.size_bound() >= stored + 30, "{record:?}");
    }
}
