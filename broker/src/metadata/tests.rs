//! Commands in, image out.

mod cluster;
mod disk;
mod encoding;
mod storage;
mod whole;

use std::collections::BTreeMap;

use uuid::Uuid;

use super::delta::MetadataDelta;
use super::raft::Origin;
use super::*;
use crate::ids::{BrokerId, LeaderEpoch, PartitionIndex, ProducerId, TopicId, TopicName};

/// Of a broker that begins a cluster.
pub(super) fn origin() -> Origin {
    Origin { incarnation: Uuid::from_u128(1), is_founder: true }
}

pub(super) fn topic_id(n: u128) -> TopicId {
    TopicId(Uuid::from_u128(n))
}

pub(super) fn register(id: i32) -> Command {
    Command::RegisterBroker { broker_id: BrokerId(id), host: format!("host-{id}"), port: 9092, rack: None }
}

pub(super) fn create(name: &str, id: u128, replicas: &[&[i32]]) -> Command {
    Command::CreateTopic {
        name: TopicName::new(name).unwrap(),
        topic_id: topic_id(id),
        replicas: assignments(replicas),
        configs: BTreeMap::new(),
    }
}

fn assignments(replicas: &[&[i32]]) -> Vec<Vec<BrokerId>> {
    replicas.iter().map(|ids| ids.iter().copied().map(BrokerId).collect()).collect()
}

fn add(id: u128, expected_count: i32, replicas: &[&[i32]]) -> Command {
    Command::CreatePartitions { topic_id: topic_id(id), expected_count, replicas: assignments(replicas) }
}

fn delete(id: u128) -> Command {
    Command::DeleteTopic { topic_id: topic_id(id) }
}

fn change(epoch: i32, leader: Option<Option<i32>>, isr: Option<&[i32]>) -> Command {
    Command::PartitionChange(PartitionChange {
        topic_id: topic_id(1),
        partition: PartitionIndex(0),
        expected_partition_epoch: epoch,
        leader: leader.map(|leader| leader.map(BrokerId)),
        isr: isr.map(|ids| ids.iter().copied().map(BrokerId).collect()),
        replicas: None,
    })
}

fn configure(resource: ConfigResource, changes: &[(&str, Option<&str>)]) -> Command {
    let changes = changes.iter().map(|(k, v)| ((*k).to_owned(), v.map(str::to_owned))).collect();
    Command::ConfigChange { resource, changes }
}

fn allocate(id: i32, epoch: i64, count: i32) -> Command {
    Command::AllocateProducerIds { broker_id: BrokerId(id), broker_epoch: BrokerEpoch(epoch), count }
}

pub(super) fn put(name: &str, bytes: &[u8], expected_version: Option<u64>) -> Command {
    let (kind, name) = ("pipeline".to_owned(), name.to_owned());
    Command::PutDocument { kind, name, bytes: bytes.to_vec(), expected_version }
}

fn drop_document(name: &str, expected_version: Option<u64>) -> Command {
    Command::DeleteDocument { kind: "pipeline".to_owned(), name: name.to_owned(), expected_version }
}

fn view(name: &str, id: u128, source: u128) -> Command {
    let name = TopicName::new(name).unwrap();
    Command::PutView { name, topic_id: topic_id(id), source_id: topic_id(source) }
}

fn drop_view(id: u128) -> Command {
    Command::DeleteView { topic_id: topic_id(id) }
}

/// Applies what must succeed.
pub(super) fn image(commands: &[Command]) -> MetadataImage {
    let mut image = MetadataImage::default();
    for command in commands {
        image.apply(command, &mut MetadataDelta::default()).unwrap();
    }
    image
}

/// What the image shows, as text.
fn shown(image: &MetadataImage) -> String {
    let mut topics: Vec<_> = image.topics().collect();
    topics.sort_by_key(|topic| &topic.name);
    let mut text = String::new();
    for topic in topics {
        text.push_str(&format!("{}{:?}:", topic.name, topic.configs));
        for (index, p) in topic.partitions() {
            let ids = |ids: &[BrokerId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            let leader = p.leader.map_or("none".to_owned(), |leader| leader.to_string());
            text.push_str(&format!(
                " {index}=leader {leader}@{} epoch {} replicas {} isr {}",
                p.leader_epoch.0,
                p.partition_epoch,
                ids(&p.replicas),
                ids(&p.isr)
            ));
        }
        text.push('\n');
    }
    text
}

/// After `given`, `command` answers `expected`; a rejection changes nothing.
#[track_caller]
fn check(given: &[Command], command: &Command, expected: Result<Response, Rejection>) {
    let mut image = image(given);
    let before = shown(&image);
    let mut delta = MetadataDelta::default();
    let answer = image.apply(command, &mut delta);
    assert_eq!(answer, expected);
    if answer.is_err() {
        assert_eq!(shown(&image), before);
        assert!(delta.rows.is_empty(), "a rejected command touches no row");
    }
}

#[test]
fn topics_come_grow_and_go() {
    let mut commands = vec![register(1), register(2), create("a", 1, &[&[1, 2], &[2, 1]])];
    assert_eq!(
        shown(&image(&commands)),
        "a{}: 0=leader 1@0 epoch 0 replicas 1,2 isr 1,2 1=leader 2@0 epoch 0 replicas 2,1 isr 2,1\n"
    );
    commands.push(add(1, 2, &[&[2]]));
    let grown = image(&commands);
    assert_eq!(grown.topic("a").unwrap().partition_count(), 3);
    assert_eq!(grown.partition_count(), 3);
    assert_eq!(grown.topic_by_id(topic_id(1)).unwrap().name.as_str(), "a");
    commands.push(delete(1));
    let gone = image(&commands);
    assert!(gone.topic("a").is_none() && gone.topic_by_id(topic_id(1)).is_none());
    assert_eq!((gone.topic_count(), gone.partition_count()), (0, 0));
    commands.push(create("a", 2, &[&[1]]));
    assert_eq!(image(&commands).topic("a").unwrap().id, topic_id(2));
}

#[test]
fn topics_that_can_not_be() {
    let brokers = [register(1), create("a", 1, &[&[1]])];
    let name = TopicName::new("a").unwrap();
    check(&brokers, &create("a", 2, &[&[1]]), Err(Rejection::TopicExists(name)));
    check(&brokers, &create("b", 1, &[&[1]]), Err(Rejection::TopicIdExists(topic_id(1))));
    check(&brokers, &create("b", 2, &[]), Err(Rejection::NoPartitions));
    check(&brokers, &create("b", 2, &[&[]]), Err(Rejection::InvalidReplicas));
    check(&brokers, &create("b", 2, &[&[1, 1]]), Err(Rejection::InvalidReplicas));
    check(&brokers, &create("b", 2, &[&[7]]), Err(Rejection::UnknownBroker(BrokerId(7))));
    check(&brokers, &delete(9), Err(Rejection::UnknownTopicId(topic_id(9))));
    check(&brokers, &add(9, 1, &[&[1]]), Err(Rejection::UnknownTopicId(topic_id(9))));
    check(&brokers, &add(1, 2, &[&[1]]), Err(Rejection::PartitionCount { expected: 2, found: 1 }));
    let one: &[i32] = &[1];
    let many = vec![one; PARTITIONS_PER_COMMAND_MAX + 1];
    check(
        &brokers,
        &create("b", 2, &many),
        Err(Rejection::TooManyPartitions { requested: 10_001, max: 10_000 }),
    );
    let mut full = vec![register(1)];
    for n in 0..PARTITIONS_MAX / PARTITIONS_PER_COMMAND_MAX {
        full.push(create(&format!("t{n}"), n as u128, &vec![one; PARTITIONS_PER_COMMAND_MAX]));
    }
    let full_cluster = Rejection::ClusterFull { total: 200_001, max: 200_000 };
    check(&full, &create("b", 99, &[&[1]]), Err(full_cluster));
}

#[test]
fn partitions_change_under_their_epoch() {
    let given = [register(1), register(2), create("a", 1, &[&[1, 2]])];
    let changed = |partition_epoch, leader_epoch| {
        Ok(Response::PartitionChanged { partition_epoch, leader_epoch: LeaderEpoch(leader_epoch) })
    };
    check(&given, &change(0, None, Some(&[1])), changed(1, 0));
    check(&given, &change(0, Some(Some(2)), None), changed(1, 1));
    check(&given, &change(0, Some(Some(1)), None), changed(1, 0));
    check(&given, &change(0, Some(None), Some(&[])), changed(1, 1));
    let stale = Rejection::StalePartitionEpoch { expected: 3, found: 0 };
    check(&given, &change(3, Some(Some(2)), None), Err(stale));
    check(&given, &change(0, Some(Some(2)), Some(&[1])), Err(Rejection::LeaderNotInSync(BrokerId(2))));
    check(&given, &change(0, None, Some(&[2])), Err(Rejection::LeaderNotInSync(BrokerId(1))));
    check(&given, &change(0, None, Some(&[1, 3])), Err(Rejection::NotAReplica(BrokerId(3))));
    check(&given, &change(0, None, Some(&[1, 1])), Err(Rejection::InvalidReplicas));
    let failover = [&given[..], &[change(0, Some(Some(2)), Some(&[2]))]].concat();
    assert_eq!(shown(&image(&failover)), "a{}: 0=leader 2@1 epoch 1 replicas 1,2 isr 2\n");
}

#[test]
fn configs_merge() {
    let mut commands = vec![register(1), create("a", 1, &[&[1]])];
    let topic = || ConfigResource::Topic(topic_id(1));
    commands.push(configure(topic(), &[("retention.ms", Some("1")), ("segment.ms", Some("2"))]));
    commands.push(configure(topic(), &[("retention.ms", None), ("segment.ms", Some("3"))]));
    commands.push(configure(ConfigResource::Broker(None), &[("x", Some("1"))]));
    let configured = image(&commands);
    assert_eq!(*configured.topic("a").unwrap().configs, [("segment.ms".to_owned(), "3".to_owned())].into());
    assert_eq!(configured.broker_configs(None), Some(&[("x".to_owned(), "1".to_owned())].into()));
    commands.push(configure(ConfigResource::Broker(None), &[("x", None)]));
    assert_eq!(image(&commands).broker_configs(None), None);
    let unknown = configure(ConfigResource::Broker(Some(BrokerId(9))), &[("x", None)]);
    check(&commands, &unknown, Err(Rejection::UnknownBroker(BrokerId(9))));
}

#[test]
fn producer_ids_are_given_out_once() {
    let given = [register(1), allocate(1, 0, 1000)];
    let block = |first| Ok(Response::ProducerIds { first: ProducerId(first), count: 1000 });
    check(&given[..1], &allocate(1, 0, 1000), block(0));
    check(&given, &allocate(1, 0, 1000), block(1000));
    check(&given, &allocate(1, 0, 0), Err(Rejection::InvalidBlock(0)));
    check(&given, &allocate(2, 0, 1000), Err(Rejection::UnknownBroker(BrokerId(2))));
    let again = [&given[..], &[register(1)]].concat();
    check(&again, &allocate(1, 0, 1000), Err(Rejection::StaleBrokerEpoch { broker_id: BrokerId(1) }));
    check(&again, &allocate(1, 1, 1000), block(1000));
}

#[test]
fn documents_are_guarded_by_versions() {
    let version = |version| Ok(Response::DocumentPut { version });
    let given = [put("p", b"1", Some(0)), put("q", b"2", None)];
    check(&[], &put("p", b"1", Some(0)), version(1));
    check(&given, &put("p", b"3", Some(1)), version(3));
    check(&given, &put("p", b"3", None), version(3));
    check(&given, &put("p", b"3", Some(0)), Err(Rejection::DocumentVersion { expected: 0, found: 1 }));
    check(&given, &drop_document("p", Some(2)), Err(Rejection::DocumentVersion { expected: 2, found: 1 }));
    let unknown = Rejection::UnknownDocument { kind: "pipeline".to_owned(), name: "r".to_owned() };
    check(&given, &drop_document("r", None), Err(unknown));
    check(&given, &put("", b"", None), Err(Rejection::InvalidDocumentName));
    let large = vec![0; DOCUMENT_BYTES_MAX + 1];
    let too_large = Rejection::DocumentTooLarge { bytes: large.len() as u64 };
    check(&given, &put("p", &large, None), Err(too_large));
    // A version is never used twice, so that a deleted document can't be mistaken for its successor.
    let again = [&given[..], &[drop_document("p", Some(1)), put("p", b"1", Some(0))]].concat();
    assert_eq!(image(&again).document("pipeline", "p").unwrap().version, 3);
    let names: Vec<_> = image(&again).documents("pipeline").map(|(name, _)| name.to_owned()).collect();
    assert_eq!(names, ["p", "q"]);
}

#[test]
fn a_view_has_its_sources_partitions_and_an_id_of_its_own() {
    let given = [register(1), create("a", 1, &[&[1], &[1]]), create("b", 2, &[&[1]]), view("a.view", 3, 1)];
    let before = image(&given);
    let listed = before.listed("a.view").unwrap();
    assert_eq!((listed.id(), listed.name().as_str(), listed.partition_count()), (topic_id(3), "a.view", 2));
    assert_eq!(before.listed_by_id(topic_id(3)).unwrap().stored().id, topic_id(1));
    assert!(before.topic("a.view").is_none() && before.topic_by_id(topic_id(3)).is_none());
    assert!(before.listed("a").unwrap().view().is_none());
    let mut names: Vec<_> = before.all_listed().map(|topic| topic.name().to_string()).collect();
    names.sort();
    assert_eq!(names, ["a", "a.view", "b"]);
    assert_eq!((before.partition_count(), before.listed_partition_count()), (3, 5));
    let grown = image(&[&given[..], &[add(1, 2, &[&[1]])]].concat());
    assert_eq!(grown.listed("a.view").unwrap().partition_count(), 3);
    // The same again changes nothing, least of all the id; another source makes it another topic.
    let again = image(&[&given[..], &[view("a.view", 9, 1)]].concat());
    assert_eq!(again.listed("a.view").unwrap().id(), topic_id(3));
    let moved = image(&[&given[..], &[view("a.view", 9, 2)]].concat());
    assert_eq!(moved.listed("a.view").unwrap().stored().id, topic_id(2));
    assert_eq!(moved.listed("a.view").unwrap().id(), topic_id(9));
    assert!(moved.listed_by_id(topic_id(3)).is_none() && moved.views_of(topic_id(1)).count() == 0);
    let dropped = image(&[&given[..], &[drop_view(3), delete(1)]].concat());
    assert!(dropped.listed("a.view").is_none() && dropped.listed("a").is_none());
}

#[test]
fn views_and_topics_share_names_and_ids() {
    let name = |name: &str| TopicName::new(name).unwrap();
    let given = [register(1), create("a", 1, &[&[1]]), view("a.view", 3, 1)];
    check(&given, &create("a.view", 4, &[&[1]]), Err(Rejection::TopicExists(name("a.view"))));
    check(&given, &create("b", 3, &[&[1]]), Err(Rejection::TopicIdExists(topic_id(3))));
    check(&given, &view("a", 4, 1), Err(Rejection::TopicExists(name("a"))));
    let internal = "__consumer_offsets";
    check(&given, &view(internal, 4, 1), Err(Rejection::TopicExists(name(internal))));
    check(&given, &view("b", 1, 1), Err(Rejection::TopicIdExists(topic_id(1))));
    check(&given, &view("b", 3, 1), Err(Rejection::TopicIdExists(topic_id(3))));
    check(&given, &view("b", 4, 7), Err(Rejection::UnknownTopicId(topic_id(7))));
    check(&given, &view("b", 4, 3), Err(Rejection::UnknownTopicId(topic_id(3))));
    check(&given, &drop_view(1), Err(Rejection::UnknownView(topic_id(1))));
    let source = Rejection::SourceOfView { topic: name("a"), view: name("a.view") };
    check(&given, &delete(1), Err(source));
}

/// What is listed goes into answers, so views count like topics.
#[test]
fn views_are_bounded() {
    let one: &[i32] = &[1];
    let mut many = vec![register(1), create("a", 1, &[&[1]])];
    many.extend((0..VIEWS_MAX).map(|n| view(&format!("v{n}"), 10 + n as u128, 1)));
    check(&many, &view("w", 5, 1), Err(Rejection::TooManyViews));
    check(&many, &view("v0", 5, 1), Ok(Response::Done));
    let mut full = vec![register(1), create("a", 1, &vec![one; 9_000])];
    let views = PARTITIONS_MAX / 9_000 - 1;
    full.extend((0..views).map(|n| view(&format!("v{n}"), 10 + n as u128, 1)));
    let listed = 9_000 * (1 + views as u64);
    let full_cluster = |total| Err(Rejection::ClusterFull { total, max: PARTITIONS_MAX as u64 });
    check(&full, &view("w", 5, 1), full_cluster(listed + 9_000));
    let more = PARTITIONS_MAX as u64 - listed + 1;
    check(&full, &create("b", 2, &vec![one; more as usize]), full_cluster(PARTITIONS_MAX as u64 + 1));
    let of_views = more.div_ceil(1 + views as u64) as usize;
    let total = listed + of_views as u64 * (1 + views as u64);
    check(&full, &add(1, 9_000, &vec![one; of_views]), full_cluster(total));
}

#[test]
fn the_delta_names_the_topics_that_differ() {
    let given = [register(1), create("a", 1, &[&[1]]), create("b", 2, &[&[1]]), create("c", 3, &[&[1]])];
    let old = image(&given);
    let mut new = old.clone();
    for command in [create("d", 4, &[&[1]]), add(2, 1, &[&[1]]), delete(3)] {
        new.apply(&command, &mut MetadataDelta::default()).unwrap();
    }
    let delta = new.topics_delta(&old);
    let names =
        |topics: &[std::sync::Arc<TopicImage>]| topics.iter().map(|t| t.name.to_string()).collect::<Vec<_>>();
    assert_eq!((names(&delta.created), names(&delta.deleted)), (vec!["d".to_owned()], vec!["c".to_owned()]));
    let (before, after) = &delta.changed[0];
    assert_eq!((delta.changed.len(), before.partition_count(), after.partition_count()), (1, 1, 2));
    assert!(new.topics_delta(&new).is_empty());
}
