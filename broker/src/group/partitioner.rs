//! Which partition of `__consumer_offsets` a group lives in, as every Kafka tool expects it.

use crate::ids::PartitionIndex;

use super::GroupId;

/// Kafka's rule: the absolute value of the id's Java hash code, modulo the number of partitions.
pub fn partition_for(group_id: &GroupId, partition_count: i32) -> PartitionIndex {
    assert!(partition_count > 0, "a topic has at least one partition");
    let hash = java_hash_code(group_id.as_str());
    // Kafka's Utils.abs: the one value without a positive counterpart counts as 0.
    let hash = hash.checked_abs().unwrap_or(0);
    PartitionIndex(hash % partition_count)
}

/// `java.lang.String.hashCode`: over UTF-16 code units, in wrapping 32-bit arithmetic.
fn java_hash_code(text: &str) -> i32 {
    text.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_like_java() {
        // Each from jshell: "...".hashCode()
        let cases = [
            ("", 0),
            ("a", 97),
            ("my-group", -1_906_497_762),
            ("console-consumer-12345", 158_455_506),
            ("grüße", 98_768_023),
            ("\u{1f600}", 1_772_899),
            ("polygenelubricants", i32::MIN),
        ];
        for (text, expected) in cases {
            assert_eq!(java_hash_code(text), expected, "{text:?}");
        }
    }

    #[test]
    fn stays_within_the_topic() {
        let cases = [("", 0), ("a", 47), ("polygenelubricants", 0), ("my-group", 12)];
        for (text, expected) in cases {
            assert_eq!(partition_for(&GroupId::new(text), 50), PartitionIndex(expected), "{text:?}");
        }
    }
}
