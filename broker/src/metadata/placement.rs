//! Which brokers hold the replicas of new partitions.

use super::image::MetadataImage;
use crate::ids::BrokerId;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    #[error("the number of partitions must be at least 1, not {0}")]
    Partitions(i32),
    #[error("the topic has {found} partitions already, {wanted} is no increase")]
    NoIncrease { found: i32, wanted: i32 },
    #[error("the replication factor must be at least 1, not {0}")]
    ReplicationFactor(i16),
    #[error("{wanted} replicas need as many brokers, and {brokers} are registered")]
    TooFewBrokers { wanted: i16, brokers: usize },
}

/// Spreads leaders and followers over the brokers, beginning anywhere, which is the caller's to choose.
pub fn place(
    image: &MetadataImage,
    partitions: i32,
    replication_factor: i16,
    start: usize,
) -> Result<Vec<Vec<BrokerId>>, PlacementError> {
    let count = usize::try_from(partitions).ok().filter(|count| *count > 0);
    let count = count.ok_or(PlacementError::Partitions(partitions))?;
    let factor = usize::try_from(replication_factor).ok().filter(|factor| *factor > 0);
    let factor = factor.ok_or(PlacementError::ReplicationFactor(replication_factor))?;
    let brokers: Vec<BrokerId> = image.brokers().map(|broker| broker.id).collect();
    if factor > brokers.len() {
        return Err(PlacementError::TooFewBrokers { wanted: replication_factor, brokers: brokers.len() });
    }
    let at = |n: usize| brokers[n % brokers.len()];
    let first = start % brokers.len();
    let others = brokers.len() - 1;
    let replicas = |partition: usize| {
        // Each round of leaders shifts the followers by one, so that a broker's followers are not all on its
        // neighbour.
        let (leader, shift) = (first + partition, partition / brokers.len());
        let followers = (1..factor).map(move |n| leader + 1 + (shift + n - 1) % others);
        std::iter::once(at(leader)).chain(followers.map(at)).collect()
    };
    // Refused by apply; not worth the memory here.
    let count = count.min(super::command::PARTITIONS_PER_COMMAND_MAX + 1);
    Ok((0..count).map(replicas).collect())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{image, register};
    use super::*;

    #[track_caller]
    fn check(
        brokers: i32,
        partitions: i32,
        factor: i16,
        start: usize,
        expected: Result<&str, PlacementError>,
    ) {
        let image = image(&(1..=brokers).map(register).collect::<Vec<_>>());
        let placed = place(&image, partitions, factor, start).map(|placed| {
            let text =
                |ids: &Vec<BrokerId>| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            placed.iter().map(text).collect::<Vec<_>>().join(" ")
        });
        assert_eq!(placed, expected.map(str::to_owned));
    }

    #[test]
    fn replicas_are_spread() {
        check(1, 3, 1, 5, Ok("1 1 1"));
        check(3, 3, 2, 0, Ok("1,2 2,3 3,1"));
        check(3, 6, 2, 1, Ok("2,3 3,1 1,2 2,1 3,2 1,3"));
        check(3, 2, 3, 0, Ok("1,2,3 2,3,1"));
        check(3, 0, 1, 0, Err(PlacementError::Partitions(0)));
        check(3, 1, 0, 0, Err(PlacementError::ReplicationFactor(0)));
        check(2, 1, 3, 0, Err(PlacementError::TooFewBrokers { wanted: 3, brokers: 2 }));
        check(0, 1, 1, 0, Err(PlacementError::TooFewBrokers { wanted: 1, brokers: 0 }));
    }

    #[test]
    fn an_absurd_number_of_partitions_costs_nothing() {
        let placed = place(&image(&[register(1)]), i32::MAX, 1, 0).unwrap();
        assert_eq!(placed.len(), super::super::PARTITIONS_PER_COMMAND_MAX + 1);
    }
}
