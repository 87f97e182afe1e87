//! The parent's side: starts the child, hands it the component, and bounds what it takes and gives.
//!
//! The child's memory and CPU time are limited by itself, its wall clock time and its output here. It is killed when
//! nobody waits for it any more; when this process goes away, the kernel kills it.

use std::ffi::OsString;
use std::io::{Read, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use tokio_util::sync::CancellationToken;

use super::{CODE_BYTES_MAX, CPU_TIME_MAX, CompileError, Compiler, MEMORY_BYTES_MAX, WALL_TIME_MAX};
use crate::clock::{SharedClock, SystemClock};

/// How soon it is noticed that the child has ended, or that nobody waits for it.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// What is read of what a child says about its failure.
const MESSAGE_BYTES_MAX: u64 = 4096;

/// Compiles in a process of its own, one component at a time.
pub struct ChildCompiler {
    program: PathBuf,
    args: Vec<OsString>,
    wall_time_max: Duration,
    code_bytes_max: u64,
    clock: SharedClock,
    turn: Mutex<()>,
}

impl ChildCompiler {
    /// `program`, run with `args`, must do what [`super::compile_in_child`] does: what it writes is run as it is.
    pub fn new(program: impl Into<PathBuf>, args: impl IntoIterator<Item = OsString>) -> Self {
        Self {
            program: program.into(),
            args: args.into_iter().collect(),
            wall_time_max: WALL_TIME_MAX,
            code_bytes_max: CODE_BYTES_MAX,
            clock: SystemClock::shared(),
            turn: Mutex::new(()),
        }
    }

    #[cfg(test)]
    pub(super) fn with_limits(self, wall_time_max: Duration, code_bytes_max: u64) -> Self {
        Self { wall_time_max, code_bytes_max, ..self }
    }

    /// Waits until no other compilation runs.
    fn turn(&self, stop: &CancellationToken) -> Result<MutexGuard<'_, ()>, CompileError> {
        loop {
            match self.turn.try_lock() {
                Ok(turn) => return Ok(turn),
                // It guards no data that a panic could have left half-changed.
                Err(TryLockError::Poisoned(turn)) => return Ok(turn.into_inner()),
                Err(TryLockError::WouldBlock) if stop.is_cancelled() => return Err(CompileError::GivenUp),
                Err(TryLockError::WouldBlock) => thread::sleep(LOOK_INTERVAL),
            }
        }
    }

    fn spawn(&self) -> std::io::Result<Child> {
        Command::new(&self.program)
            .args(&self.args)
            // Nothing of the node's environment shapes the code, or leaks into a process that hostile input runs in.
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    }

    /// Hands `child` the component and takes what it writes and says, until it ends.
    fn talk(
        &self,
        child: &mut Child,
        wasm: &[u8],
        stop: &CancellationToken,
    ) -> Result<Vec<u8>, CompileError> {
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (ended, code, said) = thread::scope(|scope| {
            // A child that ends before it has read everything says why.
            scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(wasm)));
            let code = scope.spawn(move || read(stdout, self.code_bytes_max + 1));
            let said = scope.spawn(move || read(stderr, MESSAGE_BYTES_MAX));
            // The pipes end with the child, and with them the threads, which have no way to panic.
            let ended = self.end(child, stop);
            (ended, code.join().unwrap_or_default(), said.join().unwrap_or_default())
        });
        let status = ended?;
        if code.len() as u64 > self.code_bytes_max {
            return Err(CompileError::TooMuchCode { limit_bytes: self.code_bytes_max });
        }
        match status.success() {
            true => Ok(code),
            false => Err(failure(status, &String::from_utf8_lossy(&said))),
        }
    }

    /// Waits for the child's end, or brings it about.
    fn end(&self, child: &mut Child, stop: &CancellationToken) -> Result<ExitStatus, CompileError> {
        let deadline = self.clock.monotonic() + self.wall_time_max;
        let why = loop {
            match child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if stop.is_cancelled() => break CompileError::GivenUp,
                Ok(None) if self.clock.monotonic() < deadline => thread::sleep(LOOK_INTERVAL),
                Ok(None) => break CompileError::TooSlow { limit: self.wall_time_max },
                Err(error) => break self.failed("wait for", &error),
            }
        };
        // It may have ended by itself in between; either way it is waited for, so that no zombie stays.
        let _ = child.kill();
        let _ = child.wait();
        Err(why)
    }

    fn failed(&self, what: &str, error: &std::io::Error) -> CompileError {
        CompileError::Process { message: format!("{what} {}: {error}", self.program.display()) }
    }
}

impl Compiler for ChildCompiler {
    fn compile(
        &self,
        _engine: &wasmtime::Engine,
        wasm: &[u8],
        stop: &CancellationToken,
    ) -> Result<Vec<u8>, CompileError> {
        let _turn = self.turn(stop)?;
        let mut child = self.spawn().map_err(|error| self.failed("start", &error))?;
        self.talk(&mut child, wasm, stop)
    }
}

/// All of a pipe, up to `bytes_max`; a pipe that breaks has ended.
fn read(pipe: Option<impl Read>, bytes_max: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        let _ = pipe.take(bytes_max).read_to_end(&mut bytes);
    }
    bytes
}

/// What the end of a child says about the component.
fn failure(status: ExitStatus, said: &str) -> CompileError {
    let is = |signal: Signal| status.signal() == Some(signal.as_raw());
    if is(Signal::XCPU) {
        return CompileError::TooSlow { limit: CPU_TIME_MAX };
    }
    // The standard library's words for an allocation that failed, before it aborts.
    if is(Signal::ABORT) && said.contains("memory allocation of") {
        return CompileError::TooMuchMemory { limit_bytes: MEMORY_BYTES_MAX };
    }
    // Names of a hostile component may be in it.
    let said: String = said.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match status.code() {
        Some(1) if !said.is_empty() => CompileError::Refused { message: said },
        _ => CompileError::Process { message: format!("it ended with {status}; it said: {said:?}") },
    }
}
