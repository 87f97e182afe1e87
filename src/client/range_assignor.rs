//! Kafka's range assignor: each topic's partitions, in order, in ranges of equal length to its members, in order.
//! What Java's `RangeAssignor` gives without racks, so that our members and others may take turns as leader.

use std::collections::BTreeMap;

/// A member as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subscriber {
    pub(crate) member_id: String,
    pub(crate) group_instance_id: Option<String>,
    pub(crate) topics: Vec<String>,
}

/// Partitions by topic.
pub(crate) type Partitions = BTreeMap<String, Vec<i32>>;

/// Each member's partitions; a member without any has an entry too. A topic whose size is not known is left out.
pub(crate) fn assign(
    subscribers: &[Subscriber],
    partitions_of: impl Fn(&str) -> Option<i32>,
) -> BTreeMap<String, Partitions> {
    let mut ordered: Vec<&Subscriber> = subscribers.iter().collect();
    ordered.sort_by(|a, b| order(a).cmp(&order(b)));
    let mut by_topic: BTreeMap<&str, Vec<&Subscriber>> = BTreeMap::new();
    for subscriber in ordered {
        for topic in &subscriber.topics {
            let members = by_topic.entry(topic).or_default();
            // A topic that a subscription names twice counts once.
            if members.last().is_none_or(|last| last.member_id != subscriber.member_id) {
                members.push(subscriber);
            }
        }
    }
    let mut assignment: BTreeMap<String, Partitions> =
        subscribers.iter().map(|subscriber| (subscriber.member_id.clone(), Partitions::new())).collect();
    for (topic, members) in by_topic {
        let Some(count) = partitions_of(topic).and_then(|count| usize::try_from(count).ok()) else {
            continue;
        };
        let (each, extra) = (count / members.len(), count % members.len());
        let mut partitions = 0i32..;
        for (place, member) in members.into_iter().enumerate() {
            let taken: Vec<i32> = partitions.by_ref().take(each + usize::from(place < extra)).collect();
            if !taken.is_empty()
                && let Some(assigned) = assignment.get_mut(&member.member_id)
            {
                assigned.insert(topic.to_owned(), taken);
            }
        }
    }
    assignment
}

/// Static members come first, by instance id: they keep their partitions when their member id changes.
fn order(subscriber: &Subscriber) -> (bool, &str, &str) {
    let instance = subscriber.group_instance_id.as_deref();
    (instance.is_none(), instance.unwrap_or(""), &subscriber.member_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members are `id:topic,topic` or `id@instance:topic`, topics `name=count`; the answer is
    /// `id topic[partitions] ...` for each member.
    fn check(members: &str, topics: &str, expected: &[&str]) {
        let subscribers: Vec<Subscriber> = members.split_whitespace().map(subscriber).collect();
        let count = |name: &str| {
            let mut sizes = topics.split_whitespace().filter_map(|topic| topic.split_once('='));
            sizes.find(|(topic, _)| *topic == name).map(|(_, count)| count.parse().unwrap())
        };
        let assignment = assign(&subscribers, count);
        let found: Vec<String> = assignment
            .iter()
            .map(|(member, partitions)| {
                let partitions = partitions.iter().map(|(topic, list)| format!(" {topic}{list:?}"));
                format!("{member}{}", partitions.collect::<String>()).replace(", ", ",")
            })
            .collect();
        assert_eq!(found, expected, "{members} / {topics}");
    }

    fn subscriber(text: &str) -> Subscriber {
        let (id, topics) = text.split_once(':').unwrap();
        let (member_id, instance) = id.split_once('@').map_or((id, None), |(id, at)| (id, Some(at)));
        Subscriber {
            member_id: member_id.to_owned(),
            group_instance_id: instance.map(str::to_owned),
            topics: topics.split(',').filter(|topic| !topic.is_empty()).map(str::to_owned).collect(),
        }
    }

    // The cases of Kafka's RangeAssignorTest, in this notation.
    #[test]
    fn one_member() {
        check("a:", "", &["a"]);
        check("a:t", "", &["a"]);
        check("a:t", "t=0", &["a"]);
        check("a:t", "t=3", &["a t[0,1,2]"]);
        check("a:t", "t=3 other=3", &["a t[0,1,2]"]);
        check("a:t,u", "t=1 u=2", &["a t[0] u[0,1]"]);
    }

    #[test]
    fn several_members() {
        check("a:t b:t", "t=1", &["a t[0]", "b"]);
        check("a:t b:t", "t=2", &["a t[0]", "b t[1]"]);
        check("b:t a:t", "t=3", &["a t[0,1]", "b t[2]"]);
        check("a:t b:t,u c:t", "t=3 u=2", &["a t[0]", "b t[1] u[0,1]", "c t[2]"]);
        check("a:t,u b:t,u", "t=3 u=3", &["a t[0,1] u[0,1]", "b t[2] u[2]"]);
        check("a:t b:t c:t", "t=7", &["a t[0,1,2]", "b t[3,4]", "c t[5,6]"]);
    }

    #[test]
    fn static_members_come_first() {
        check("x@2:t a:t y@1:t", "t=3", &["a t[2]", "x t[1]", "y t[0]"]);
    }

    #[test]
    fn a_topic_named_twice_counts_once() {
        check("a:t,t b:t", "t=2", &["a t[0]", "b t[1]"]);
    }
}
