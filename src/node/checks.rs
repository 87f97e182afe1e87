//! Checks of pipelines, which compile plugins and run their code: one at a time, each on a thread of its own and within
//! a deadline, so that they take nothing from the threads that serve reads.
//!
//! | thread | owner | ends when |
//! | --- | --- | --- |
//! | `plugin-check`, at most one | whoever waits for the check | it is done; its deadline is over; nobody waits for it any more; the node stops |

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

/// All plugins of a pipeline together have so long to be compiled and to start. Clients wait a little longer.
const CHECK_TIME_MAX: Duration = Duration::from_secs(100);
/// Checks that run or wait for their turn. Each holds a pipeline's file in memory.
const CHECKS_MAX: usize = 16;

#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    #[error("{CHECKS_MAX} pipelines are being checked or wait for it: try again later")]
    Busy,
    #[error("start a thread for the check: {0}")]
    Thread(#[source] io::Error),
    #[error("the check broke off: the node's log says why")]
    Panicked,
}

pub(super) struct Checks {
    queue: Semaphore,
    turn: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Checks {
    /// Every check is given up when `stop` fires.
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self { queue: Semaphore::new(CHECKS_MAX), turn: Arc::new(Semaphore::new(1)), stop }
    }

    /// Runs `check` when it is its turn. The token that it gets fires when it should come to an end: its time is over,
    /// the node stops, or this future was dropped.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        check: impl FnOnce(&CancellationToken) -> T + Send + 'static,
    ) -> Result<T, CheckError> {
        let _queued = self.queue.try_acquire().map_err(|_| CheckError::Busy)?;
        let turn = Arc::clone(&self.turn).acquire_owned().await.expect("the semaphore is never closed");
        let stop = self.stop.child_token();
        let _unless_dropped = stop.clone().drop_guard();
        let in_thread = stop.clone();
        let (sender, mut checked) = oneshot::channel();
        let work = move || {
            // Nobody may be there to receive it.
            let _ = sender.send(check(&in_thread));
            drop(turn);
        };
        let spawned = thread::Builder::new().name("plugin-check".to_owned()).spawn(work);
        let thread = spawned.map_err(CheckError::Thread)?;
        let outcome = match tokio::time::timeout(CHECK_TIME_MAX, &mut checked).await {
            Ok(outcome) => outcome,
            Err(_) => {
                stop.cancel();
                checked.await
            }
        };
        match (outcome, thread) {
            (Ok(checked), _) => Ok(checked),
            // It has said why on standard error. Whoever asked goes on.
            (Err(_), thread) => {
                drop(thread.join());
                Err(CheckError::Panicked)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Symptom: checks went on after their clients had gone, on the threads that reads need. Cause: they ran on tokio's
    /// blocking threads, which know no cancellation. Fix: one thread, and a token.
    #[tokio::test]
    async fn a_check_that_nobody_waits_for_ends_and_the_next_has_its_turn() {
        let checks = Checks::new(CancellationToken::new());
        let (ended, end) = mpsc::channel();
        let until_told = move |stop: &CancellationToken| {
            while !stop.is_cancelled() {
                thread::yield_now();
            }
            ended.send(()).unwrap();
        };
        let abandoned = tokio::time::timeout(Duration::from_millis(10), checks.run(until_told)).await;
        assert!(abandoned.is_err(), "it runs until it is told");
        assert!(checks.run(|_| ()).await.is_ok());
        assert_eq!(end.try_recv(), Ok(()), "the first one ended before the second began");
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_has_a_deadline() {
        let checks = Checks::new(CancellationToken::new());
        let checked = checks.run(|stop| {
            while !stop.is_cancelled() {
                thread::yield_now();
            }
        });
        assert!(checked.await.is_ok());
    }

    #[tokio::test]
    async fn few_checks_wait() {
        let stop = CancellationToken::new();
        let checks = Checks::new(stop.clone());
        let waiting = || {
            checks.run(|stop| {
                while !stop.is_cancelled() {
                    thread::yield_now();
                }
            })
        };
        let all = futures_util::future::join_all((0..CHECKS_MAX).map(|_| waiting()));
        let refused = async {
            tokio::task::yield_now().await;
            let refused = checks.run(|_| ()).await;
            stop.cancel();
            refused
        };
        let (all, refused) = tokio::join!(all, refused);
        assert!(all.iter().all(Result::is_ok), "a node that stops gives them up, one after the other");
        assert!(matches!(refused, Err(CheckError::Busy)));
    }
}
