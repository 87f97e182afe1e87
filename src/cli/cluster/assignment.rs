//! A member's assignment as consumers write it: `ConsumerProtocolAssignment` of Kafka's message definitions.
//!
//! The bytes come from whoever joined the group, so counts in them are claims: nothing is allocated for them.

use super::TopicPartition;

/// The partitions in `bytes`; None where they are not an assignment.
pub(super) fn read(bytes: &[u8]) -> Option<Vec<TopicPartition>> {
    let mut rest = bytes;
    let version = i16::from_be_bytes(take(&mut rest)?);
    if version < 0 {
        return None;
    }
    let mut partitions = Vec::new();
    for _ in 0..count(&mut rest)? {
        let length = usize::try_from(i16::from_be_bytes(take(&mut rest)?)).ok()?;
        let (name, after) = rest.split_at_checked(length)?;
        rest = after;
        let topic = std::str::from_utf8(name).ok()?;
        for _ in 0..count(&mut rest)? {
            partitions.push((topic.to_owned(), i32::from_be_bytes(take(&mut rest)?)));
        }
    }
    partitions.sort();
    Some(partitions)
}

fn count(rest: &mut &[u8]) -> Option<u32> {
    u32::try_from(i32::from_be_bytes(take(rest)?)).ok()
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*bytes)
}

#[cfg(test)]
mod tests {
    use super::read;

    fn written(topics: &[(&str, &[i32])]) -> Vec<u8> {
        let mut bytes = vec![0, 1];
        bytes.extend(u32::try_from(topics.len()).unwrap().to_be_bytes());
        for (topic, partitions) in topics {
            bytes.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
            bytes.extend(topic.as_bytes());
            bytes.extend(u32::try_from(partitions.len()).unwrap().to_be_bytes());
            bytes.extend(partitions.iter().flat_map(|partition| partition.to_be_bytes()));
        }
        // User data: none.
        bytes.extend((-1_i32).to_be_bytes());
        bytes
    }

    #[test]
    fn partitions_are_read_in_order() {
        let bytes = written(&[("b", &[1, 0]), ("a", &[7])]);
        assert_eq!(read(&bytes), Some(vec![("a".into(), 7), ("b".into(), 0), ("b".into(), 1)]));
        assert_eq!(read(&written(&[])), Some(Vec::new()));
    }

    #[test]
    fn bytes_that_are_no_assignment_are_none() {
        let good = written(&[("topic", &[0, 1, 2])]);
        // User data is not read; anything shorter than the partitions is not an assignment.
        for length in 0..good.len() - 4 {
            assert_eq!(read(&good[..length]), None, "cut to {length} bytes");
        }
        assert_eq!(read(&[0xff; 64]), None);
        assert_eq!(read(&[0, 0, 0x7f, 0xff, 0xff, 0xff]), None, "a count that the bytes can't hold");
    }
}
