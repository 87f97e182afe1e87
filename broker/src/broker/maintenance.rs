//! What the broker does by itself: follows the metadata, and lets go of old records.

use std::sync::Arc;
use std::time::Duration;

use super::Broker;
use crate::log::retention::RetentionPolicy;

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
        tokio::select! {
            biased;
            () = broker.stopping.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
        let checked = Arc::clone(&broker);
        if let Err(error) = tokio::task::spawn_blocking(move || retain(&checked)).await {
            std::panic::resume_unwind(error.into_panic());
        }
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
    broker.topics.with_log_dirs(|dir| {
        if let Err(error) = dir.reclaim() {
            let error = &*error as &dyn std::error::Error;
            tracing::error!(dir = %dir.path().display(), error, "can't reclaim space");
        }
    });
}
