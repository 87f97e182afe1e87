//! Where a port wants partitions read from, on its way to the task that reads them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use millstream_runtime::stage::{SeekTo, TopicPartition};
use tokio::sync::watch;

/// See the module. Seeks are numbered from 1 on; of a partition the last one counts.
#[derive(Default)]
pub(crate) struct Seeks {
    last: watch::Sender<u64>,
    wanted: Mutex<Wanted>,
}

#[derive(Default)]
struct Wanted {
    /// The membership that the partitions are of.
    serial: u64,
    last: HashMap<TopicPartition, (u64, SeekTo)>,
}

impl Seeks {
    pub(crate) fn ask(&self, serial: u64, partition: &TopicPartition, to: SeekTo) {
        let mut wanted = self.lock();
        if wanted.serial != serial {
            *wanted = Wanted { serial, last: HashMap::new() };
        }
        self.last.send_modify(|last| {
            *last += 1;
            wanted.last.insert(partition.clone(), (*last, to));
        });
    }

    /// What was asked under that membership behind the seek of that number, in any order: there is one for a partition.
    pub(crate) fn behind(&self, serial: u64, number: u64) -> Vec<(u64, TopicPartition, SeekTo)> {
        let wanted = self.lock();
        if wanted.serial != serial {
            return Vec::new();
        }
        let later = wanted.last.iter().filter(|(_, (at, _))| *at > number);
        later.map(|(partition, (at, to))| (*at, partition.clone(), *to)).collect()
    }

    /// The number of the last seek of a partition under that membership.
    pub(crate) fn number_of(&self, serial: u64, partition: &TopicPartition) -> u64 {
        let wanted = self.lock();
        if wanted.serial != serial {
            return 0;
        }
        wanted.last.get(partition).map_or(0, |(number, _)| *number)
    }

    /// Waits for a seek behind that one.
    pub(crate) async fn wait_behind(&self, number: u64) {
        // The sender is ours.
        let _ = self.last.subscribe().wait_for(|last| *last > number).await;
    }

    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
