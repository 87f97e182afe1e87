//! The one place that looks into member metadata: which topics a consumer subscribes to.
//!
//! For every other protocol type the bytes are opaque. Every version of the consumer protocol's subscription
//! begins like version 0: a version, then the topics.

use std::collections::HashSet;

use super::member::Member;

/// `protocol.type` of the consumers of all client libraries.
pub(super) const PROTOCOL_TYPE: &str = "consumer";

/// The topics that the members subscribe to, or `None` when any of them can't be read.
pub(super) fn subscribed_topics<'a>(
    members: impl Iterator<Item = &'a Member>,
    protocol_name: &str,
) -> Option<HashSet<String>> {
    let mut topics = HashSet::new();
    for member in members {
        read_topics(&member.metadata(Some(protocol_name)), &mut topics)?;
    }
    Some(topics)
}

fn read_topics(metadata: &[u8], topics: &mut HashSet<String>) -> Option<()> {
    let (version, mut rest) = metadata.split_first_chunk::<2>()?;
    if i16::from_be_bytes(*version) < 0 {
        return None;
    }
    let (count, after) = rest.split_first_chunk::<4>()?;
    rest = after;
    // The count is not trusted: each topic has to be there before the next is looked for.
    for _ in 0..u32::try_from(i32::from_be_bytes(*count)).ok()? {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let length = usize::try_from(i16::from_be_bytes(*length)).ok()?;
        let (name, after) = after.split_at_checked(length)?;
        topics.insert(std::str::from_utf8(name).ok()?.to_owned());
        rest = after;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(metadata: &[u8], expected: Option<&[&str]>) {
        let mut topics = HashSet::new();
        let read = read_topics(metadata, &mut topics).map(|()| topics);
        let expected = expected.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(read, expected, "{metadata:?}");
    }

    #[test]
    fn reads_the_common_prefix_of_all_versions() {
        check(&[0, 0, 0, 0, 0, 0, 255, 255, 255, 255], Some(&[]));
        check(&[0, 3, 0, 0, 0, 2, 0, 1, b'a', 0, 2, b'b', b'c', 9, 9], Some(&["a", "bc"]));
    }

    #[test]
    fn gives_up_on_anything_else() {
        check(b"", None);
        check(&[0, 0, 0, 0], None);
        check(&[255, 255, 0, 0, 0, 0], None);
        check(&[0, 0, 255, 255, 255, 255], None);
        check(&[0, 0, 127, 255, 255, 255, 0, 1, b'a'], None);
        check(&[0, 0, 0, 0, 0, 1, 0, 5, b'a'], None);
        check(&[0, 0, 0, 0, 0, 1, 255, 255], None);
        check(&[0, 0, 0, 0, 0, 1, 0, 1, 0xff], None);
    }
}
