//! How members of a consumer group write down what they want and what they get: opaque to the coordinator, shared
//! by the clients of all languages.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use millstream_wire::consumer_protocol_assignment::{
    ConsumerProtocolAssignment, TopicPartition as AssignedTopic,
};
use millstream_wire::consumer_protocol_subscription::ConsumerProtocolSubscription;
use millstream_wire::{DecodeError, EncodeError, decode_versioned_forward, encode_versioned};

use super::range_assignor::Partitions;
use millstream_runtime::stage::TopicPartition;

pub(crate) const PROTOCOL_TYPE: &str = "consumer";
pub(crate) const RANGE: &str = "range";

/// The version that every client since Kafka 0.9 reads. The later ones add what only the cooperative assignors and
/// racks use.
const VERSION: i16 = 0;

/// What a member can't make of another's bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConsumerProtocolError {
    #[error("write for the group")]
    Encode(#[from] EncodeError),
    #[error("read what another member of the group wrote")]
    Decode(#[from] DecodeError),
}

pub(crate) fn encode_subscription(topics: &[Arc<str>]) -> Result<Bytes, ConsumerProtocolError> {
    let mut names: Vec<Cow<'_, str>> = topics.iter().map(|topic| Cow::Borrowed(&**topic)).collect();
    names.sort_unstable();
    names.dedup();
    let subscription = ConsumerProtocolSubscription { topics: names, ..Default::default() };
    Ok(encode_versioned(&subscription, VERSION)?)
}

/// The topics that a member of any client subscribes to.
pub(crate) fn decode_subscription(bytes: &[u8]) -> Result<Vec<String>, ConsumerProtocolError> {
    let (_, subscription) = decode_versioned_forward::<ConsumerProtocolSubscription<'_>>(bytes)?;
    Ok(subscription.topics.into_iter().map(Cow::into_owned).collect())
}

pub(crate) fn encode_assignment(partitions: &Partitions) -> Result<Bytes, ConsumerProtocolError> {
    let topics = partitions.iter().map(|(topic, partitions)| AssignedTopic {
        topic: Cow::Borrowed(topic),
        partitions: partitions.clone(),
    });
    let assignment = ConsumerProtocolAssignment { assigned_partitions: topics.collect(), user_data: None };
    Ok(encode_versioned(&assignment, VERSION)?)
}

/// A member's partitions, in order. No bytes at all mean none.
pub(crate) fn decode_assignment(bytes: &[u8]) -> Result<Vec<TopicPartition>, ConsumerProtocolError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let (_, assignment) = decode_versioned_forward::<ConsumerProtocolAssignment<'_>>(bytes)?;
    let mut topics: BTreeMap<Arc<str>, Vec<i32>> = BTreeMap::new();
    for assigned in assignment.assigned_partitions {
        topics.entry(assigned.topic.as_ref().into()).or_default().extend(assigned.partitions);
    }
    let mut partitions = Vec::new();
    for (topic, mut indexes) in topics {
        indexes.sort_unstable();
        indexes.dedup();
        partitions.extend(
            indexes.into_iter().map(|partition| TopicPartition { topic: Arc::clone(&topic), partition }),
        );
    }
    Ok(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_is_as_kafka_writes_it() {
        let bytes = encode_subscription(&["b".into(), "a".into(), "b".into()]).unwrap();
        let expected = b"\0\0\0\0\0\x02\0\x01a\0\x01b\xff\xff\xff\xff";
        assert_eq!(bytes, expected[..]);
        assert_eq!(decode_subscription(&bytes).unwrap(), ["a", "b"]);
    }

    #[test]
    fn an_assignment_comes_back() {
        let partitions = Partitions::from([("t".to_owned(), vec![2, 0]), ("s".to_owned(), vec![1])]);
        let bytes = encode_assignment(&partitions).unwrap();
        let found = decode_assignment(&bytes).unwrap();
        let found: Vec<_> = found.iter().map(|found| (&*found.topic, found.partition)).collect();
        assert_eq!(found, [("s", 1), ("t", 0), ("t", 2)]);
    }

    #[test]
    fn no_assignment_is_an_empty_one() {
        assert_eq!(decode_assignment(b"").unwrap(), []);
    }

    #[test]
    fn a_version_of_the_future_is_read_as_far_as_known() {
        let mut bytes = b"\0\x09\0\0\0\x01\0\x01a".to_vec();
        bytes.extend_from_slice(b"\xff\xff\xff\xff"); // no user data
        bytes.extend_from_slice(b"\0\0\0\0\xff\xff\xff\xff\xff\xff"); // no owned partitions, generation or rack
        bytes.extend_from_slice(b"news");
        assert_eq!(decode_subscription(&bytes).unwrap(), ["a"]);
    }

    #[test]
    fn another_members_nonsense_is_an_error() {
        assert!(decode_subscription(b"\0\0\x7f\xff\xff\xff").is_err());
        assert!(decode_assignment(b"\0").is_err());
    }
}
