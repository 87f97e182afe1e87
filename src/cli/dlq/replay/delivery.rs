//! What became of the letters that were sent: which one was not taken, so that a replay can stop in front of it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::DeliveryResult;

use crate::cli::delivery;
use crate::cli::failure::explain;

/// Counted by the client as delivery reports arrive.
#[derive(Debug, Default)]
pub(super) struct Deliveries(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    delivered: u64,
    /// Of each partition of the letters the first.
    refused: BTreeMap<i32, Refused>,
}

/// A letter that the cluster has not taken.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refused {
    pub(super) offset: i64,
    pub(super) reason: String,
    pub(super) code: Option<RDKafkaErrorCode>,
}

/// Where a letter lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) partition: i32,
    pub(super) offset: i64,
}

impl Deliveries {
    pub(super) fn delivered(&self) -> u64 {
        self.lock().delivered
    }

    /// The first letter of each partition that was not taken since this was asked before.
    pub(super) fn take_refused(&self) -> BTreeMap<i32, Refused> {
        std::mem::take(&mut self.lock().refused)
    }

    fn refuse(&self, Place { partition, offset }: Place, error: &KafkaError) {
        let code = error.rdkafka_error_code();
        let reason = code.map_or_else(|| error.to_string(), explain);
        let refused = Refused { offset, reason, code };
        let mut counts = self.lock();
        let first = counts.refused.entry(partition).or_insert_with(|| refused.clone());
        // Reports of several targets come in any order.
        if refused.offset < first.offset {
            *first = refused;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl delivery::Deliveries for Deliveries {
    type Sent = Box<Place>;

    fn report(&self, result: &DeliveryResult<'_>, place: Box<Place>) {
        match result {
            Ok(_) => self.lock().delivered += 1,
            Err((error, _)) => self.refuse(*place, error),
        }
    }
}

/// Where each partition of the letters goes on: in front of what was not taken, which is sent again then with all that
/// is behind it.
pub(super) fn positions(next: BTreeMap<i32, i64>, refused: &BTreeMap<i32, Refused>) -> BTreeMap<i32, i64> {
    let position = |(partition, next): (i32, i64)| {
        (partition, refused.get(&partition).map_or(next, |refused| next.min(refused.offset)))
    };
    next.into_iter().map(position).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_goes_on_in_front_of_the_first_letter_that_was_not_taken() {
        let deliveries = Deliveries::default();
        let too_large = KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge);
        let timed_out = KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut);
        for (partition, offset, error) in
            [(0, 9, &timed_out), (0, 7, &too_large), (0, 8, &timed_out), (2, 3, &too_large)]
        {
            deliveries.refuse(Place { partition, offset }, error);
        }
        let refused = deliveries.take_refused();
        assert_eq!((refused[&0].offset, refused[&0].code), (7, Some(RDKafkaErrorCode::MessageSizeTooLarge)));
        let next = BTreeMap::from([(0, 20), (1, 20), (2, 2)]);
        assert_eq!(positions(next, &refused), BTreeMap::from([(0, 7), (1, 20), (2, 2)]));
        assert_eq!(deliveries.take_refused(), BTreeMap::new(), "they are told once");
    }
}
