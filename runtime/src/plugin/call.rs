//! One call into a guest: its time limit, and what a failure means.

use std::time::Duration;

use wasmtime::{Store, Trap, WasmBacktrace};

use super::bindings::types::{BatchInfo, Position as WitPosition};
use super::error::PluginError;
use super::host::HostState;
use crate::batch::{InputBatch, Position};
use crate::limits::PluginLimits;
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

pub(super) async fn timed<T>(budget: Duration, call: impl Future<Output = wasmtime::Result<T>>) -> Call<T> {
    match tokio::time::timeout(budget + TIMEOUT_GRACE, call).await {
        Ok(Ok(value)) => Call::Returned(value),
        Ok(Err(error)) => Call::Failed(error),
        Err(_) => Call::TimedOut,
    }
}

/// What a failed call means to the stage.
pub(super) fn classify(
    failure: Option<wasmtime::Error>,
    store: &mut Store<HostState>,
    limits: &PluginLimits,
    budget: Duration,
) -> PluginError {
    let Some(error) = failure else { return PluginError::Timeout { budget } };
    let state = store.data_mut();
    let (last_words, denied) = (state.take_last_words(), state.limiter.take_denied());
    crash(&error, last_words, denied, limits, budget)
}

/// What a call's error means, beside what the plugin has said last and whether it was refused memory.
pub(super) fn crash(
    error: &wasmtime::Error,
    last_words: Option<String>,
    denied: bool,
    limits: &PluginLimits,
    budget: Duration,
) -> PluginError {
    if matches!(error.downcast_ref::<Trap>(), Some(Trap::Interrupt)) {
        return PluginError::Timeout { budget };
    }
    if denied {
        return PluginError::MemoryLimit { limit_bytes: limits.memory_bytes_max };
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
