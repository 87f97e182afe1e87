//! Which batches go out together.

use std::collections::HashMap;

use super::pending_batch::PendingBatch;
use crate::client::config::{PRODUCE_BYTES_MAX, PRODUCES_IN_FLIGHT_MAX};

/// The requests of one round, each with the places of its batches: at most one of each partition, a partition's
/// batches in order, and no more requests than a broker can tell repetitions in. What finds no room waits for
/// the next round.
pub(super) fn plan(pending: &[PendingBatch]) -> Vec<Vec<usize>> {
    let sizes = pending.iter().map(|batch| (&batch.partition, batch.len()));
    plan_sizes(sizes, PRODUCE_BYTES_MAX, PRODUCES_IN_FLIGHT_MAX)
}

fn plan_sizes<P: Eq + std::hash::Hash>(
    batches: impl Iterator<Item = (P, usize)>,
    request_bytes_max: usize,
    requests_max: usize,
) -> Vec<Vec<usize>> {
    let mut requests: Vec<(usize, Vec<usize>)> = Vec::new();
    let mut first_allowed: HashMap<P, usize> = HashMap::new();
    for (at, (partition, bytes)) in batches.enumerate() {
        let allowed = first_allowed.entry(partition).or_insert(0);
        let has_room = |taken: usize| taken + bytes <= request_bytes_max;
        let found = requests.iter().enumerate().skip(*allowed).find(|(_, (taken, _))| has_room(*taken));
        let place = found.map_or(requests.len().max(*allowed), |(place, _)| place);
        // Those behind it in its partition must wait as well.
        *allowed = place + 1;
        if place >= requests_max {
            continue;
        }
        if place == requests.len() {
            requests.push((0, Vec::new()));
        }
        let (taken, places) = &mut requests[place];
        *taken += bytes;
        places.push(at);
    }
    requests.into_iter().map(|(_, places)| places).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batches are a letter for the partition and a digit for the size; a request takes 9, and there are 3 at most.
    fn check(batches: &str, expected: &[&[usize]]) {
        let batches = batches.split_whitespace().map(|batch| (&batch[..1], batch[1..].parse().unwrap()));
        assert_eq!(plan_sizes(batches, 9, 3), expected);
    }

    #[test]
    fn partitions_share_requests() {
        check("", &[]);
        check("a1 b1 c1", &[&[0, 1, 2]]);
        check("a1 a1 b1 a1", &[&[0, 2], &[1], &[3]]);
    }

    #[test]
    fn what_has_no_room_waits() {
        check("a5 b5 c4", &[&[0, 2], &[1]]);
        check("a1 a1 a1 a1 b1", &[&[0, 4], &[1], &[2]]);
        // One batch above the limit goes alone; the next of its partition stays behind it.
        check("a20 b1 a1 b1", &[&[0], &[1, 2], &[3]]);
        check("a9 b9 c9 d9 d1", &[&[0], &[1], &[2]]);
    }
}
