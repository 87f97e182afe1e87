//! One call into a guest: its time limit, and what a failure means.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use wasmtime::{Store, Trap, WasmBacktrace};

use super::bindings::types::{BatchInfo, Position as WitPosition};
use super::error::PluginError;
use super::host::{Denied, HostState};
use crate::batch::{InputBatch, Position};
use crate::engine::Place;
use crate::outputs::cut;

/// Frames of a backtrace that are kept.
const FRAMES_MAX: usize = 12;
/// The epoch interrupts a guest that computes; this one is for a guest that waits in a host call, and leaves the
/// epoch the first shot.
pub(super) const TIMEOUT_GRACE: Duration = Duration::from_millis(50);

/// How a call ended.
pub(super) enum Call<T> {
    Returned(T),
    Failed(wasmtime::Error),
    TimedOut,
}

impl<T> Call<T> {
    /// The error of a call that did not return; none if it ran out of time.
    pub(super) fn into_failure(self) -> Option<wasmtime::Error> {
        match self {
            Self::Failed(error) => Some(error),
            Self::TimedOut => None,
            Self::Returned(_) => unreachable!("only calls that did not return are asked"),
        }
    }
}

/// What it waits for a core is no part of its time.
pub(super) async fn timed<T>(
    budget: Duration,
    place: &mut Place,
    call: impl Future<Output = wasmtime::Result<T>>,
) -> Call<T> {
    match within(budget + TIMEOUT_GRACE, place, call).await {
        Some(Ok(value)) => Call::Returned(value),
        Some(Err(error)) => Call::Failed(error),
        None => Call::TimedOut,
    }
}

/// None, if `work` takes longer than that, beside what it waits for a core.
pub(super) async fn within<T>(time: Duration, place: &mut Place, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut computing = place.computing();
    let end = Instant::now() + time;
    let mut deadline = end;
    loop {
        let step = poll_fn(|context| computing.poll(context, work.as_mut()));
        if let Ok(done) = timeout_at(deadline, step).await {
            return Some(done);
        }
        deadline = end + computing.waited();
        if deadline <= Instant::now() {
            return None;
        }
    }
}

/// What a failed call means to the stage.
pub(super) fn classify(
    failure: Option<wasmtime::Error>,
    store: &mut Store<HostState>,
    budget: Duration,
) -> PluginError {
    let state = store.data_mut();
    let (last_words, denied) = (state.take_last_words(), state.limiter.take_denied());
    let last_words = last_words.map(|words| state.mask(&words));
    match (failure, denied) {
        (Some(error), denied) => crash(&error, last_words, denied, budget),
        (None, Some(Denied::ByNode { limit_bytes })) => PluginError::NodeMemory { limit_bytes },
        (None, _) => PluginError::Timeout { budget },
    }
}

/// What a call's error means, beside what the plugin has said last and whether it was refused memory.
pub(super) fn crash(
    error: &wasmtime::Error,
    last_words: Option<String>,
    denied: Option<Denied>,
    budget: Duration,
) -> PluginError {
    match denied {
        // Also if it has used up its time then: a collector does, that finds nothing to collect.
        Some(Denied::ByNode { limit_bytes }) => return PluginError::NodeMemory { limit_bytes },
        _ if matches!(error.downcast_ref::<Trap>(), Some(Trap::Interrupt)) => {
            return PluginError::Timeout { budget };
        }
        Some(Denied::ByPlugin { limit_bytes }) => return PluginError::MemoryLimit { limit_bytes },
        None => {}
    }
    let cause = match error.downcast_ref::<wasmtime_wasi::I32Exit>() {
        Some(exit) => format!("it exited with status {}", exit.0),
        None => error.root_cause().to_string(),
    };
    let message = match last_words {
        Some(words) => format!("{cause} ({words})"),
        None => cause,
    };
    PluginError::Trap { message: cut(&message), backtrace: backtrace(error) }
}

fn backtrace(error: &wasmtime::Error) -> Vec<String> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    let name = |frame: &wasmtime::FrameInfo| match frame.func_name() {
        Some(name) => cut(name),
        None => format!("function {}", frame.func_index()),
    };
    backtrace.frames().iter().take(FRAMES_MAX).map(name).collect()
}

pub(super) fn batch_info(input: &InputBatch) -> BatchInfo<'_> {
    let position = match input.position {
        Position::Stream => WitPosition::Stream,
        Position::Ingest => WitPosition::Ingest,
        Position::View => WitPosition::View,
    };
    BatchInfo {
        position,
        topic: &input.topic,
        partition: input.partition.unsigned_abs(),
        base_offset: input.base_offset,
        base_timestamp: input.base_timestamp,
        append_time: input.append_time,
        record_count: input.count(),
    }
}
