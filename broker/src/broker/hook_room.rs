//! How many batches are at hooks at a time, and how many bytes: of all topics together, and of each, so that one whose
//! hook is slow leaves room for the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::ids::TopicId;

/// Batches at hooks.
const BATCHES_MAX: usize = 64;
/// Of one topic.
const TOPIC_BATCHES_MAX: usize = 16;
/// Bytes of them, as they came. A larger batch is alone.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// A semaphore counts in `u32`, and nobody needs single bytes.
const UNIT_BYTES: usize = 1024;
const UNITS_MAX: usize = BYTES_MAX / UNIT_BYTES;
/// Places beside all these, for batches that nobody is ahead of.
const RESERVE: usize = 8;

#[derive(Clone)]
pub(super) struct HookRoom {
    batches: Arc<Semaphore>,
    units: Arc<Semaphore>,
    reserve: Arc<Semaphore>,
    /// Of each topic that has batches at its hook or waiting for it.
    topics: Arc<Mutex<HashMap<TopicId, OfTopic>>>,
}

struct OfTopic {
    batches: Arc<Semaphore>,
    /// Batches that wait or are there.
    users: usize,
}

/// A batch's place at a hook.
pub(super) struct HookPlace {
    _permits: Vec<OwnedSemaphorePermit>,
    _user: Option<User>,
}

/// Part of a topic's count.
struct User {
    room: HookRoom,
    topic: TopicId,
}

impl HookRoom {
    pub(super) fn new() -> Self {
        Self {
            batches: Arc::new(Semaphore::new(BATCHES_MAX)),
            units: Arc::new(Semaphore::new(UNITS_MAX)),
            reserve: Arc::new(Semaphore::new(RESERVE)),
            topics: Arc::default(),
        }
    }

    /// Waits until there is room for a batch of so many bytes.
    pub(super) async fn enter(&self, topic: TopicId, bytes: usize) -> HookPlace {
        let (user, of_topic) = self.user(topic);
        let units = bytes.div_ceil(UNIT_BYTES).min(UNITS_MAX);
        let permits = vec![
            acquire(of_topic, 1).await,
            acquire(Arc::clone(&self.units), units).await,
            acquire(Arc::clone(&self.batches), 1).await,
        ];
        HookPlace { _permits: permits, _user: Some(user) }
    }

    /// The same for a batch whose turn has come. Batches keep their places until their turn comes, so those that hold
    /// them all may be waiting for this one.
    pub(super) async fn enter_first(&self) -> HookPlace {
        HookPlace { _permits: vec![acquire(Arc::clone(&self.reserve), 1).await], _user: None }
    }

    fn user(&self, topic: TopicId) -> (User, Arc<Semaphore>) {
        let mut topics = self.topics();
        let of_topic = topics
            .entry(topic)
            .or_insert_with(|| OfTopic { batches: Arc::new(Semaphore::new(TOPIC_BATCHES_MAX)), users: 0 });
        of_topic.users += 1;
        let batches = Arc::clone(&of_topic.batches);
        (User { room: self.clone(), topic }, batches)
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<TopicId, OfTopic>> {
        self.topics.lock().expect("no code panics while it holds this lock")
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let mut topics = self.room.topics();
        if let Some(of_topic) = topics.get_mut(&self.topic) {
            of_topic.users -= 1;
            if of_topic.users == 0 {
                topics.remove(&self.topic);
            }
        }
    }
}

async fn acquire(semaphore: Arc<Semaphore>, permits: usize) -> OwnedSemaphorePermit {
    let permits = u32::try_from(permits).unwrap_or(u32::MAX);
    semaphore.acquire_many_owned(permits).await.expect("the semaphore is never closed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use uuid::Uuid;

    fn topic(n: u128) -> TopicId {
        TopicId(Uuid::from_u128(n))
    }

    #[tokio::test]
    async fn a_topic_leaves_room_for_the_others() {
        let room = HookRoom::new();
        let mut slow = Vec::new();
        for _ in 0..TOPIC_BATCHES_MAX {
            slow.push(room.enter(topic(1), 100).await);
        }
        assert!(room.enter(topic(1), 100).now_or_never().is_none());
        let other = room.enter(topic(2), 100).await;
        slow.pop();
        assert!(room.enter(topic(1), 100).now_or_never().is_some());
        drop((slow, other));
        assert!(room.topics().is_empty());
    }

    #[tokio::test]
    async fn whom_the_others_wait_for_has_a_place() {
        let room = HookRoom::new();
        let mut held = Vec::new();
        for _ in 0..TOPIC_BATCHES_MAX {
            held.push(room.enter(topic(1), 100).await);
        }
        for _ in 0..RESERVE {
            held.push(room.enter_first().await);
        }
        assert!(room.enter_first().now_or_never().is_none());
    }

    #[tokio::test]
    async fn batches_and_bytes_have_a_bound() {
        let room = HookRoom::new();
        let mut places = Vec::new();
        for n in 0..BATCHES_MAX as u128 {
            places.push(room.enter(topic(n), 1).await);
        }
        assert!(room.enter(topic(1000), 1).now_or_never().is_none());
        places.clear();
        let large = room.enter(topic(1), 10 * BYTES_MAX).await;
        assert!(room.enter(topic(2), 1).now_or_never().is_none(), "a batch larger than all is alone");
        drop(large);
        assert!(room.enter(topic(2), BYTES_MAX - UNIT_BYTES).now_or_never().is_some());
        assert!(room.topics().is_empty());
    }
}
