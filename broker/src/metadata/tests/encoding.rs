//! What lies on disk and travels between brokers stays as it is: golden bytes, round trips, damage.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use openraft::{BasicNode, CommittedLeaderId, EntryPayload, LogId, Membership, StoredMembership, Vote};
use proptest::prelude::*;
use uuid::Uuid;

use super::super::delta::{MetadataDelta, RowKey};
use super::super::raft::{AppliedState, Entry, Identity};
use super::super::snapshot;
use super::super::*;
use super::{
    add, allocate, change, configure, create, delete, drop_document, drop_view, image, put, register,
    topic_id, view,
};
use crate::codec::{self, Encoded};
use crate::ids::BrokerId;

fn log_id(index: u64) -> LogId<u64> {
    LogId::new(CommittedLeaderId::new(3, 1), index)
}

fn cluster_id() -> ClusterId {
    ClusterId(Uuid::from_u128(7))
}

fn member(id: i32, incarnation: u128, address: &str) -> Command {
    let incarnation = Uuid::from_u128(incarnation);
    Command::PutMember { broker_id: BrokerId(id), incarnation, address: address.to_owned() }
}

/// One of each command.
fn every_command() -> Vec<Command> {
    vec![
        register(1),
        Command::RegisterBroker {
            broker_id: BrokerId(2),
            host: "b".to_owned(),
            port: 1,
            rack: Some("r".to_owned()),
        },
        create("a", 1, &[&[1, 2], &[2]]),
        create("b", 2, &[&[1]]),
        add(2, 1, &[&[2]]),
        change(0, Some(Some(2)), Some(&[2])),
        configure(ConfigResource::Topic(topic_id(1)), &[("k", Some("v")), ("l", None)]),
        configure(ConfigResource::Broker(None), &[("k", Some("v"))]),
        configure(ConfigResource::Broker(Some(BrokerId(1))), &[("k", Some("v"))]),
        allocate(1, 0, 1000),
        put("p", b"yaml", Some(0)),
        put("q", b"yaml", None),
        drop_document("q", Some(2)),
        create("c", 3, &[&[1]]),
        delete(3),
        view("a.view", 4, 1),
        view("b.view", 5, 2),
        drop_view(5),
        member(1, 7, "127.0.0.1:9192"),
        member(2, 8, "b:1"),
        Command::RemoveMember { broker_id: BrokerId(2) },
    ]
}

fn line<T: Encoded>(golden: &mut String, name: &str, value: &T) {
    let bytes = codec::encode(value).unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(golden, "{name} {hex}").unwrap();
}

fn golden() -> String {
    let mut golden = String::new();
    let members = Membership::new(vec![[1].into()], BTreeMap::from([(1, BasicNode::new("h:1"))]));
    line(&mut golden, "vote", &Vote::new_committed(3, 1));
    line(&mut golden, "log-id", &log_id(300));
    line(&mut golden, "identity", &Identity { node_id: BrokerId(1), cluster_id: cluster_id() });
    let membership = StoredMembership::new(Some(log_id(1)), members.clone());
    line(&mut golden, "applied", &AppliedState { last_applied: Some(log_id(300)), membership });
    line(&mut golden, "blank", &Entry { log_id: log_id(1), payload: EntryPayload::Blank });
    line(&mut golden, "members", &Entry { log_id: log_id(1), payload: EntryPayload::Membership(members) });
    for command in every_command() {
        let payload = EntryPayload::Normal(CommandBatch(vec![command]));
        line(&mut golden, "commands", &Entry { log_id: log_id(1), payload });
    }
    let image = image(&every_command());
    for key in image.row_keys() {
        let at: String = key.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        line(&mut golden, &format!("row {at}"), &image.row(&key).unwrap());
    }
    golden
}

#[test]
fn golden_bytes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/metadata/tests/golden.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, golden()).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    for (found, expected) in golden().lines().zip(expected.lines()) {
        assert_eq!(found, expected, "files written before would no longer be read");
    }
    assert_eq!(golden().lines().count(), expected.lines().count());
}

#[test]
fn keys_sort_like_their_bytes() {
    let mut commands =
        vec![register(1), register(300), configure(ConfigResource::Broker(None), &[("k", Some("v"))])];
    commands.push(configure(ConfigResource::Broker(Some(BrokerId(300))), &[("k", Some("v"))]));
    commands.push(create("a", 1, &[&[1][..]; 300]));
    commands.push(create("b", u128::MAX, &[&[1][..]; 2]));
    commands.extend([put("p", b"", None), put("pp", b"", None)]);
    commands.extend([view("w", 9, 1), view("v", u128::MAX - 1, 1)]);
    let image = image(&commands);
    let keys: Vec<_> = image.row_keys().map(|key| key.to_bytes()).collect();
    assert!(keys.is_sorted() && keys.len() == 1 + 2 + 2 + 2 + 302 + 2 + 2);
    // Names that run into each other are kept apart.
    let document =
        |kind: &str, name: &str| RowKey::Document { kind: kind.to_owned(), name: name.to_owned() }.to_bytes();
    assert_ne!(document("ab", "c"), document("a", "bc"));
}

/// A small world, so that commands meet: three brokers, four topics, two documents, three views that share their names
/// and ids with topics.
fn any_command() -> impl Strategy<Value = Command> {
    let id = 1..5u128;
    let broker = 1..4i32;
    let replicas = || proptest::collection::vec(proptest::collection::vec(1..4i32, 1..3), 1..4);
    let ids = |lists: Vec<Vec<i32>>| -> Vec<Vec<BrokerId>> {
        lists.into_iter().map(|list| list.into_iter().map(BrokerId).collect()).collect()
    };
    prop_oneof![
        broker.clone().prop_map(register),
        (id.clone(), replicas()).prop_map(move |(n, lists)| {
            let Command::CreateTopic { name, topic_id, configs, .. } = create(&format!("t{n}"), n, &[])
            else {
                unreachable!()
            };
            Command::CreateTopic { name, topic_id, configs, replicas: ids(lists) }
        }),
        (id.clone(), 1..4i32, replicas()).prop_map(move |(n, expected_count, lists)| {
            Command::CreatePartitions { topic_id: topic_id(n), expected_count, replicas: ids(lists) }
        }),
        id.clone().prop_map(delete),
        (0..3i32, broker.clone(), proptest::collection::vec(1..4i32, 0..3))
            .prop_map(|(epoch, leader, isr)| change(epoch, Some(Some(leader)), Some(&isr))),
        (id, any::<bool>()).prop_map(|(n, set)| {
            configure(ConfigResource::Topic(topic_id(n)), &[("k", set.then_some("v"))])
        }),
        (broker, 0..4i64).prop_map(|(id, epoch)| allocate(id, epoch, 1000)),
        ("[pq]", 0..4u64).prop_map(|(name, version)| put(&name, b"yaml", Some(version))),
        "[pq]".prop_map(|name| drop_document(&name, None)),
        (3..6u128, 3..7u128, 1..5u128).prop_map(|(n, id, source)| view(&format!("t{n}"), id, source)),
        (3..7u128).prop_map(drop_view),
    ]
}

proptest! {
    /// The same commands make the same state, byte for byte; the rows that a delta names are all that changed; and
    /// a snapshot is the whole of it.
    #[test]
    fn commands_alone_make_the_state(commands in proptest::collection::vec(any_command(), 0..60)) {
        let (mut one, mut two) = (MetadataImage::of_cluster(cluster_id()), MetadataImage::of_cluster(cluster_id()));
        let mut stored = BTreeMap::new();
        for command in &commands {
            let mut delta = MetadataDelta::default();
            let answer = one.apply(command, &mut delta);
            prop_assert_eq!(&answer, &two.apply(command, &mut MetadataDelta::default()));
            prop_assert!(answer.is_ok() || delta.rows.is_empty());
            for key in &delta.rows {
                match one.row(key) {
                    Some(row) => stored.insert(key.to_bytes(), codec::encode(&row).unwrap()),
                    None => stored.remove(&key.to_bytes()),
                };
            }
        }
        let bytes = snapshot::encode(&one).unwrap();
        prop_assert_eq!(&bytes, &snapshot::encode(&two).unwrap());
        let mut rows: BTreeMap<_, _> =
            one.row_keys().map(|key| (key.to_bytes(), codec::encode(&one.row(&key).unwrap()).unwrap())).collect();
        // A cluster in which nothing was counted has no row of counters.
        stored.entry(RowKey::Cluster.to_bytes()).or_insert_with(|| rows[&RowKey::Cluster.to_bytes()].clone());
        prop_assert_eq!(&stored, &rows);
        rows.clear();

        let read = snapshot::decode(&bytes, cluster_id()).unwrap();
        prop_assert_eq!(snapshot::encode(&read).unwrap(), bytes);
        prop_assert_eq!(read.partition_count(), one.partition_count());
        prop_assert_eq!(read.partition_count(), one.topics().map(|topic| topic.partitions.len()).sum::<usize>());
        prop_assert!(one.topics().all(|topic| read.topic(topic.name.as_str()) == Some(topic)));
        prop_assert!(one.views().eq(read.views()));
        prop_assert!(one.views().all(|view| read.listed(view.name.as_str()).is_some_and(|listed| listed.id() == view.id)));
        prop_assert_eq!(read.topic_count(), one.topic_count());
    }

    /// A peer's bytes make an error or an image, never a panic.
    #[test]
    fn a_damaged_snapshot_is_told(at in any::<prop::sample::Index>(), bit in 0..8u8, cut in any::<bool>()) {
        let mut bytes = snapshot::encode(&image(&every_command())).unwrap();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1 << bit;
        }
        prop_assert!(snapshot::decode(&bytes, cluster_id()).is_err());
    }
}
