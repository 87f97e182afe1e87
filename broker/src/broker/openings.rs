//! Opening record batches: on threads that may block, and few at a time, so that what compressed batches
//! expand to has a bound for the whole broker.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::blocking;

/// Batches that are open at a time; each may expand to [`OPENED_BYTES_MAX`](crate::log::batch::OPENED_BYTES_MAX).
const OPEN_MAX: usize = 2;

#[derive(Clone)]
pub(crate) struct Openings(Arc<Semaphore>);

impl Openings {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(OPEN_MAX)))
    }

    /// Runs `work`, which opens batches one after another, when its turn comes. It keeps its place until it
    /// ends, also if nobody waits for it any more.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let place = Arc::clone(&self.0).acquire_owned().await.expect("the semaphore is never closed");
        blocking(move || {
            let _place = place;
            work()
        })
        .await
    }
}
