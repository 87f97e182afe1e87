//! Standard output and error of a plugin: lines of its log.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::log::{GuardedLog, LogLevel};

/// What Rust's standard library says behind a panic's message, and means nothing here.
const BACKTRACE_NOTE: &str = "note: run with `RUST_BACKTRACE";
/// Lines that say why a plugin died.
const LAST_LINES: usize = 6;
/// How Rust's standard library begins: with a thread, of which there is one, and a place that the log has.
const PANIC: (&str, &str) = ("thread '", " panicked at ");
/// A line without an end is cut here.
const PENDING_BYTES_MAX: usize = 4096;
/// What a guest may write in one go.
pub(super) const WRITE_BYTES_MAX: usize = 16 * 1024;

/// One of the two streams. Clones are the same stream, as WASI wants it.
#[derive(Clone)]
pub(super) struct PluginStdio {
    log: Arc<Mutex<GuardedLog>>,
    level: LogLevel,
    lines: Arc<Mutex<Lines>>,
}

#[derive(Default)]
struct Lines {
    pending: Vec<u8>,
    /// That say something.
    last: VecDeque<String>,
}

impl PluginStdio {
    pub(super) fn new(log: Arc<Mutex<GuardedLog>>, level: LogLevel) -> Self {
        Self { log, level, lines: Arc::default() }
    }

    /// The last lines written since this was asked before, complete or not. They say why a plugin died: its language may
    /// need several to say so, and put what matters first.
    pub(super) fn take_last_lines(&self) -> Option<String> {
        let mut lines = self.lines.lock().expect("no code panics while it holds this lock");
        if !lines.pending.is_empty() {
            self.end_line(&mut lines);
        }
        let last = mem::take(&mut lines.last);
        (!last.is_empty()).then(|| Vec::from(last).join(" "))
    }

    /// What was said until now is no reason for what happens from now on.
    pub(super) fn forget_last_lines(&self) {
        self.lines.lock().expect("no code panics while it holds this lock").last.clear();
    }

    pub(super) fn append(&self, mut bytes: &[u8]) {
        let mut lines = self.lines.lock().expect("no code panics while it holds this lock");
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            lines.push(&bytes[..end]);
            self.end_line(&mut lines);
            bytes = &bytes[end + 1..];
        }
        lines.push(bytes);
    }

    fn end_line(&self, lines: &mut Lines) {
        let line = String::from_utf8_lossy(&lines.pending).into_owned();
        lines.pending.clear();
        self.log.lock().expect("no code panics while it holds this lock").line(self.level, &line);
        if line.starts_with(PANIC.0) && line.contains(PANIC.1) {
            // The message follows. What was said before is no reason.
            return lines.last.clear();
        }
        if !line.trim().is_empty() && !line.starts_with(BACKTRACE_NOTE) {
            if lines.last.len() == LAST_LINES {
                lines.last.pop_front();
            }
            lines.last.push_back(line.trim().to_owned());
        }
    }
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) {
        let room = PENDING_BYTES_MAX.saturating_sub(self.pending.len());
        self.pending.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

impl IsTerminal for PluginStdio {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for PluginStdio {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for PluginStdio {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.append(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

#[async_trait]
impl Pollable for PluginStdio {
    async fn ready(&mut self) {}
}

impl AsyncWrite for PluginStdio {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.append(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::plugin::log::tests::Lines as LogLines;

    fn last_lines(written: &str) -> Option<String> {
        let log = GuardedLog::new(Arc::new(LogLines::default()), SystemClock::shared(), 1000);
        let stdio = PluginStdio::new(Arc::new(Mutex::new(log)), LogLevel::Warn);
        stdio.append(b"said long before\n");
        stdio.forget_last_lines();
        stdio.append(written.as_bytes());
        let lines = stdio.take_last_lines();
        assert_eq!(stdio.take_last_lines(), None, "they are told once");
        lines
    }

    /// Symptom: of a crash in JavaScript the status told its last line, a bracket.
    #[test]
    fn what_a_plugin_said_last_is_told_whole() {
        let told = |written: &str, expected: &str| assert_eq!(last_lines(written).as_deref(), Some(expected));
        told("Error: boom\n  at transform (plugin.js:3)\n\n)\n", "Error: boom at transform (plugin.js:3) )");
        told("no end", "no end");
        // Rust names the place first, which the log has, and what was said before that is no reason.
        let panic = "working\nthread 'main' (1) panicked at src/lib.rs:3:5:\nboom\nnote: run with `RUST_BACKTRACE=1`\n";
        told(panic, "boom");
        told("1\n2\n3\n4\n5\n6\n7\n", "2 3 4 5 6 7");
        assert_eq!(last_lines("\n \n"), None);
    }
}
