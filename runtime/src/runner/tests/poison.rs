//! Finding the records that a plugin crashes at.

use std::time::Duration;

use super::*;
use crate::batch::InputBatch;
use crate::runner::poison::{NotKept, Poison, Suspicion, of};

const NOW: Duration = Duration::from_secs(100);

/// Records of a partition, from an offset on.
fn polled(of: i32, from: i64, count: usize, value: &[u8]) -> InputBatch {
    let mut reading = reading(&[of]);
    assert!(reading.accept(fetched(of, from, &[count], value)).is_ok());
    let Ok(mut taken) = reading.take(count, None) else { panic!("the batch can be opened") };
    taken.batches.remove(0)
}

/// Partition, first and last offset.
fn found(suspicion: &Suspicion) -> Vec<(i32, i64, i64)> {
    let Suspicion::Found(batches) = suspicion else { panic!("{suspicion:?}") };
    let ends = |batch: &InputBatch| {
        let offset = |at: usize| batch.offset(&batch.records[at]);
        (batch.partition, offset(0), offset(batch.len() - 1))
    };
    batches.iter().map(ends).collect()
}

/// A sink on one partition whose plugin crashes at these offsets and commits what it has got through. Returns which
/// records were found, and with how many crashes.
fn hunt(poison_at: &[i64], records: i64, poll: usize) -> (Vec<i64>, u32) {
    let mut poison = Poison::default();
    let (mut committed, mut crashes, mut out) = (0, 0, Vec::new());
    while committed < records {
        let left = usize::try_from(records - committed).unwrap();
        let count = if poison.is_alone() { 1 } else { poll.min(left) };
        let batch = polled(0, committed, count, b"v");
        let next = committed + count as i64;
        assert!(!poison.is_holding(NOW), "everything is committed");
        poison.polled(&[batch], NOW);
        if !(committed..next).any(|offset| poison_at.contains(&offset) && !out.contains(&offset)) {
            committed = next;
            poison.committed(&[(partition(0), committed)]);
            continue;
        }
        crashes += 1;
        assert!(crashes < 1000, "it never ends");
        match poison.crashed() {
            Suspicion::None => panic!("records were outstanding"),
            Suspicion::From(of, first) => assert_eq!((of, first), (partition(0), committed)),
            suspicion => {
                assert_eq!(found(&suspicion), [(0, committed, committed)]);
                out.push(committed);
                committed += 1;
                poison.committed(&[(partition(0), committed)]);
            }
        }
    }
    assert!(!poison.is_alone(), "full speed is resumed");
    (out, crashes)
}

#[test]
fn exactly_the_records_that_crash_are_found() {
    assert_eq!(hunt(&[], 100, 10), (vec![], 0));
    assert_eq!(hunt(&[0], 1, 10), (vec![0], 4));
    assert_eq!(hunt(&[7], 100, 10), (vec![7], 4));
    // Together twice, then each of them alone twice.
    assert_eq!(hunt(&[3, 4, 9], 100, 10), (vec![3, 4, 9], 8));
    assert_eq!(hunt(&[3, 50, 99], 100, 10), (vec![3, 50, 99], 12));
    let all: Vec<i64> = (0..20).collect();
    assert_eq!(hunt(&all, 20, 20), (all, 42));
}

/// While records are handed over alone the next one waits for a commit, and a plugin that never commits is not held for
/// ever.
#[test]
fn a_record_that_is_handed_over_alone_is_alone() {
    let mut poison = Poison::default();
    for _ in 0..2 {
        poison.polled(&[polled(0, 5, 3, b"v"), polled(1, 9, 1, b"v")], NOW);
        assert!(!poison.is_holding(NOW));
        assert!(matches!(poison.crashed(), Suspicion::From(..)));
    }
    assert!(poison.is_alone() && !poison.is_holding(NOW));
    poison.polled(&[polled(1, 9, 1, b"v")], NOW);
    assert!(
        poison.is_holding(NOW + Duration::from_secs(9)) && !poison.is_holding(NOW + Duration::from_secs(10))
    );
    poison.committed(&[(partition(1), 10)]);
    assert!(!poison.is_holding(NOW) && poison.is_alone());
    // The crashes before were for both of them: alone, each has two of its own.
    poison.polled(&[polled(0, 5, 1, b"v")], NOW);
    assert!(matches!(poison.crashed(), Suspicion::From(of, 5) if of == partition(0)));
    poison.polled(&[polled(0, 5, 1, b"v")], NOW);
    assert_eq!(found(&poison.crashed()), [(0, 5, 5)]);
    // One that commits only when it has several records is to blame for all of them.
    for _ in 0..2 {
        poison.polled(&[polled(0, 6, 1, b"v")], NOW);
        poison.polled(&[polled(0, 7, 1, b"v")], NOW);
        let suspicion = poison.crashed();
        if !matches!(suspicion, Suspicion::From(..)) {
            assert_eq!(found(&suspicion), [(0, 6, 6), (0, 7, 7)]);
        }
    }
    poison.committed(&[(partition(0), 8)]);
    assert!(!poison.is_alone());
}

#[test]
fn crashes_without_records_or_at_other_places_blame_none() {
    let mut poison = Poison::default();
    for offset in 0..20 {
        assert!(matches!(poison.crashed(), Suspicion::None));
        poison.polled(&[polled(0, offset, 1, b"v")], NOW);
        assert!(matches!(poison.crashed(), Suspicion::From(..)));
        assert!(!poison.is_alone(), "it has got on since the last crash");
    }
    // A partition that is another member's now is no reason to go slowly.
    poison.polled(&[polled(0, 19, 1, b"v")], NOW);
    poison.crashed();
    assert!(poison.is_alone());
    poison.retain(|partition| partition.partition != 0);
    assert!(!poison.is_alone());
}

#[test]
fn records_are_kept_until_they_are_committed_and_within_a_limit() {
    let mut poison = Poison::default();
    let missing = |found: Result<Option<InputBatch>, NotKept>| found.err();
    assert_eq!(missing(poison.find(&partition(0), 5)), Some(NotKept::NotOutstanding));
    poison.polled(&[polled(0, 5, 3, b"value")], NOW);
    let record = poison.find(&partition(0), 6).unwrap().unwrap();
    assert_eq!((of(&record), record.len(), record.offset(&record.records[0])), (partition(0), 1, 6));
    assert_eq!(record.fields(&record.records[0]).fields().1, Some(&b"value"[..]));
    poison.rejected(partition(0), 6);
    assert!(poison.find(&partition(0), 6).unwrap().is_none(), "it was rejected before");
    for offset in [4, 8] {
        assert_eq!(missing(poison.find(&partition(0), offset)), Some(NotKept::NotOutstanding));
    }
    poison.committed(&[(partition(0), 7)]);
    assert_eq!(missing(poison.find(&partition(0), 6)), Some(NotKept::NotOutstanding));
    assert!(poison.find(&partition(0), 7).unwrap().is_some());
    // Of what a plugin polls and never commits the last is kept.
    let large = vec![0; 1024 * 1024];
    for offset in 8..40 {
        poison.polled(&[polled(0, offset, 1, &large)], NOW);
    }
    assert_eq!(missing(poison.find(&partition(0), 8)), Some(NotKept::Dropped));
    assert!(poison.find(&partition(0), 39).unwrap().is_some());
    assert!(poison.find(&partition(0), 25).unwrap().is_some());
    poison.forget(&partition(0));
    assert_eq!(missing(poison.find(&partition(0), 39)), Some(NotKept::NotOutstanding));
}

/// Nor does a plugin that is given its records one at a time and never commits; of what is not kept nobody is blamed.
#[test]
fn what_a_plugin_keeps_to_itself_is_bounded() {
    let mut poison = Poison::default();
    let large = vec![0; 1024 * 1024];
    for _ in 0..2 {
        poison.polled(&[polled(0, 0, 60, b"v")], NOW);
        assert!(matches!(poison.crashed(), Suspicion::From(..)));
    }
    for _ in 0..3 {
        for offset in 0..40 {
            assert!(poison.is_alone());
            poison.polled(&[polled(0, offset, 1, &large)], NOW);
            poison.rejected(partition(0), offset);
        }
        let found = poison.find(&partition(0), 0);
        assert_eq!(found.err(), Some(NotKept::Dropped), "what is not kept is not remembered as rejected");
        assert!(poison.find(&partition(0), 39).unwrap().is_none(), "it was rejected before");
        assert!(matches!(poison.crashed(), Suspicion::From(_, 0)));
    }
}

#[test]
fn a_search_ends_where_its_records_can_not_come_any_more_and_in_time() {
    let searching = || {
        let mut poison = Poison::default();
        for _ in 0..2 {
            poison.polled(&[polled(0, 5, 3, b"v")], NOW);
            poison.crashed();
        }
        assert!(poison.is_alone());
        poison
    };
    let mut poison = searching();
    poison.rewound(&partition(0), Some(7));
    assert!(poison.is_alone());
    // Another member has committed it.
    poison.rewound(&partition(0), Some(8));
    assert!(!poison.is_alone());
    let mut poison = searching();
    poison.is_past(&partition(0), 8);
    assert!(!poison.is_alone());
    let mut poison = searching();
    poison.expire(NOW + Duration::from_secs(599));
    assert!(poison.is_alone());
    // As long as something comes of it, it goes on.
    poison.polled(&[polled(0, 5, 1, b"v")], NOW + Duration::from_secs(599));
    poison.committed(&[(partition(0), 6)]);
    poison.expire(NOW + Duration::from_secs(1198));
    assert!(poison.is_alone());
    poison.expire(NOW + Duration::from_secs(1199));
    assert!(!poison.is_alone());
}

#[test]
fn what_is_outstanding_follows_on_what_is_committed_or_not() {
    let mut poison = Poison::default();
    poison.sought(partition(0));
    poison.polled(&[polled(0, 5, 3, b"v")], NOW);
    poison.committed(&[(partition(0), 2)]);
    poison.crashed();
    assert!(poison.is_sought(&partition(0)), "it is known after the crash");
    poison.polled(&[polled(0, 5, 3, b"v")], NOW);
    poison.committed(&[(partition(0), 6)]);
    assert!(!poison.is_sought(&partition(0)));
    poison.committed(&[(partition(0), 3)]);
    assert!(poison.is_sought(&partition(0)), "it has committed what lies in front of that");
    poison.rewound(&partition(0), Some(3));
    assert!(!poison.is_sought(&partition(0)));
}
