//! Requests name each topic once, with a list of what concerns its partitions.

use std::sync::Arc;

/// `items` by topic, in the order in which topics and items first appear.
pub(crate) fn by_topic<I, P>(items: I) -> Vec<(Arc<str>, Vec<P>)>
where
    I: IntoIterator<Item = (Arc<str>, P)>,
{
    let mut grouped: Vec<(Arc<str>, Vec<P>)> = Vec::new();
    for (topic, item) in items {
        // Items of a topic mostly come together, and topics are few.
        match grouped.iter_mut().rev().find(|(seen, _)| *seen == topic) {
            Some((_, list)) => list.push(item),
            None => grouped.push((topic, vec![item])),
        }
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept() {
        let items = [("b", 1), ("a", 2), ("b", 3)].map(|(topic, item)| (Arc::from(topic), item));
        assert_eq!(by_topic(items), [("b".into(), vec![1, 3]), ("a".into(), vec![2])]);
    }
}
