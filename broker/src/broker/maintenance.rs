//! What the broker does by itself: follows the metadata, and lets go of old records.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Broker, blocking};
use crate::log::compaction::{Compacted, CompactionPolicy};
use crate::log::partition::Log;
use crate::log::retention::RetentionPolicy;
use crate::log::scrub::Scrub;

/// Between two steps of a scrub, each of which reads what it may read in that time.
const SCRUB_STEP: Duration = Duration::from_secs(1);

impl Broker {
    /// Sleeps; false if the broker stops meanwhile.
    async fn sleep(&self, duration: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => false,
            () = tokio::time::sleep(duration) => true,
        }
    }
}

/// Brings the partitions here in line with each new image, whoever changed it.
pub(super) async fn follow_metadata(broker: Arc<Broker>) {
    let mut watch = broker.metadata.watch();
    loop {
        let image = tokio::select! {
            biased;
            () = broker.stopping.cancelled() => return,
            image = watch.changed() => image,
        };
        if image.is_none() {
            return;
        }
        broker.reconcile();
    }
}

/// Moves the log starts that retention asks for and gives back the space, every
/// `log.retention.check.interval.ms`.
pub(super) async fn enforce_retention(broker: Arc<Broker>) {
    let interval = Duration::from_millis(broker.config.log_retention_check_interval_ms.unsigned_abs());
    loop {
        if !broker.sleep(interval).await {
            return;
        }
        let checked = Arc::clone(&broker);
        blocking(move || retain(&checked)).await;
    }
}

fn retain(broker: &Broker) {
    let now_ms = broker.clock.wall_ms();
    for topic in broker.topics.all() {
        for partition in topic.partitions() {
            partition.expire_producers(i64::from(broker.config.producer_id_expiration_ms));
            if !topic.config().cleanup_policy.delete {
                continue;
            }
            let policy = RetentionPolicy {
                retention_ms: Some(topic.config().retention_ms).filter(|&ms| ms >= 0),
                retention_bytes: u64::try_from(topic.config().retention_bytes).ok(),
            };
            let high_watermark = partition.bounds().high_watermark;
            if let Err(error) = partition.log().enforce_retention(&policy, now_ms, high_watermark) {
                let error = &error as &dyn std::error::Error;
                tracing::error!(partition = %partition.id(), error, "can't enforce retention");
            }
        }
    }
    for dir in broker.topics.log_dirs() {
        // A call rewrites one segment at most, so that a stop needs not wait for all of them.
        loop {
            match dir.reclaim() {
                Ok(reclaimed) if reclaimed.rewritten_segments > 0 && !broker.stopping.is_cancelled() => {}
                Ok(_) => break,
                Err(error) => {
                    let error = &*error as &dyn std::error::Error;
                    tracing::error!(dir = %dir.path().display(), error, "can't reclaim space");
                    break;
                }
            }
        }
    }
}

/// Compacts the partitions that are due, every `log.cleaner.backoff.ms`.
pub(super) async fn compact(broker: Arc<Broker>) {
    let interval = Duration::from_millis(broker.config.log_cleaner_backoff_ms.unsigned_abs());
    let keys_bytes_max = usize::try_from(broker.config.log_cleaner_dedupe_buffer_size).unwrap_or(usize::MAX);
    while broker.sleep(interval).await {
        let compacting = Arc::clone(&broker);
        let compacted = tokio::task::spawn_blocking(move || compact_all(&compacting, keys_bytes_max)).await;
        // It works on bytes that clients chose: what one log does to it must not keep it from all the others.
        if let Err(error) = compacted {
            tracing::error!(%error, "compaction panicked, and begins anew");
        }
    }
}

fn compact_all(broker: &Broker, keys_bytes_max: usize) {
    let mut partitions = HashMap::new();
    for topic in broker.topics.all() {
        for partition in topic.partitions().filter(|_| topic.config().cleanup_policy.compact) {
            let id = partition.log().topic_id_partition();
            partitions.insert(id, (Arc::clone(topic.config()), Arc::clone(partition)));
        }
    }
    if partitions.is_empty() {
        return;
    }
    // How far it may go is asked when it goes.
    let policy = |log: &Log| {
        let (config, partition) = partitions.get(&log.topic_id_partition())?;
        Some(CompactionPolicy {
            min_cleanable_dirty_ratio: config.min_cleanable_dirty_ratio,
            min_compaction_lag_ms: config.min_compaction_lag_ms,
            max_compaction_lag_ms: config.max_compaction_lag_ms,
            delete_retention_ms: config.delete_retention_ms,
            segment_bytes: config.segment_bytes.unsigned_abs().into(),
            segment_ms: config.segment_ms,
            retention_ms: Some(config.retention_ms).filter(|&ms| config.cleanup_policy.delete && ms >= 0),
            upper_bound: partition.bounds().last_stable,
        })
    };
    let stop = || broker.stopping.is_cancelled();
    for dir in broker.topics.log_dirs() {
        // A call takes on so much that a stop, or whoever gives space back, needs not wait for long.
        while !stop() {
            match dir.compact(broker.clock.wall_ms(), keys_bytes_max, policy, &stop) {
                Ok(compacted) if compacted.logs > 0 => {
                    let Compacted { logs, bytes_before, bytes_after } = compacted;
                    tracing::debug!(dir = %dir.path().display(), logs, bytes_before, bytes_after, "compacted");
                }
                Ok(_) => break,
                Err(_) if stop() => return,
                Err(error) => {
                    let error = &*error as &dyn std::error::Error;
                    tracing::error!(dir = %dir.path().display(), error, "can't compact");
                    break;
                }
            }
        }
    }
}

/// Reads what is on disk to check it, slowly, every `log.scrub.interval.ms`.
pub(super) async fn scrub(broker: Arc<Broker>) {
    let Ok(interval) = u64::try_from(broker.config.log_scrub_interval_ms) else { return };
    let step_bytes = broker.config.log_scrub_bytes_per_second.unsigned_abs();
    loop {
        for dir in 0..broker.topics.log_dirs().len() {
            let mut pass = Scrub::default();
            loop {
                if !broker.sleep(SCRUB_STEP).await {
                    return;
                }
                let scrubbing = Arc::clone(&broker);
                let (after, scrubbed) = blocking(move || {
                    let scrubbed = scrubbing.topics.log_dirs()[dir].scrub(&mut pass, step_bytes);
                    (pass, scrubbed)
                })
                .await;
                pass = after;
                if scrubbed.is_done {
                    break;
                }
            }
        }
        if !broker.sleep(Duration::from_millis(interval)).await {
            return;
        }
    }
}
