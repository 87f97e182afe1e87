//! Where a plugin's lines go. A plugin is not trusted with a terminal or a disk: lines are cut, control characters
//! replaced, and so many a second pass and no more.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::SharedClock;
use crate::printable::printable;

/// Longest line; the rest of it is dropped.
const LINE_BYTES_MAX: usize = 4096;
/// At once, of those that may come in a second.
const BURST: u32 = 2;

/// Values of a secret that lines are looked through for: what it is, and what it was before it was changed.
const HIDDEN_VALUES_MAX: usize = 2;
/// The shortest of them.
const HIDDEN_BYTES_MIN: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// Takes the lines of one plugin.
pub trait PluginLog: Send + Sync {
    fn line(&self, level: LogLevel, line: &str);
}

/// Passes the lines on to `tracing`, with the names of their origin.
pub struct TracingLog {
    pub pipeline: String,
    pub stage: String,
    pub plugin: String,
}

impl PluginLog for TracingLog {
    fn line(&self, level: LogLevel, line: &str) {
        let Self { pipeline, stage, plugin } = self;
        match level {
            LogLevel::Trace => tracing::trace!(target: "plugin", pipeline, stage, plugin, "{line}"),
            LogLevel::Debug => tracing::debug!(target: "plugin", pipeline, stage, plugin, "{line}"),
            LogLevel::Info => tracing::info!(target: "plugin", pipeline, stage, plugin, "{line}"),
            LogLevel::Warn => tracing::warn!(target: "plugin", pipeline, stage, plugin, "{line}"),
            LogLevel::Error => tracing::error!(target: "plugin", pipeline, stage, plugin, "{line}"),
        }
    }
}

/// The limits in front of a [`PluginLog`]. Owned by one instance.
pub(super) struct GuardedLog {
    log: Arc<dyn PluginLog>,
    clock: SharedClock,
    lines_per_second: u32,
    tokens: u32,
    refilled: Duration,
    dropped: u64,
    /// What lines don't show: the newest values of each secret, the last one at the end. There are as many as the instance
    /// is granted, at most.
    hidden: BTreeMap<String, Vec<String>>,
}

impl GuardedLog {
    pub(super) fn new(log: Arc<dyn PluginLog>, clock: SharedClock, lines_per_second: u32) -> Self {
        let refilled = clock.monotonic();
        let tokens = lines_per_second.saturating_mul(BURST);
        Self { log, clock, lines_per_second, tokens, refilled, dropped: 0, hidden: BTreeMap::new() }
    }

    /// From now on lines show something else in the place of this value of a granted secret. What is shorter may be a part
    /// of anything.
    pub(super) fn hide(&mut self, name: &str, secret: &[u8]) {
        let Ok(secret) = std::str::from_utf8(secret) else { return };
        if secret.len() < HIDDEN_BYTES_MIN {
            return;
        }
        let values = self.hidden.entry(name.to_owned()).or_default();
        if values.last().is_some_and(|last| last == secret) {
            return;
        }
        values.retain(|value| value != secret);
        values.push(secret.to_owned());
        if values.len() > HIDDEN_VALUES_MAX {
            values.remove(0);
        }
    }

    /// Without what was hidden.
    pub(super) fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        // A value that is a part of another one would leave the rest of it.
        let mut values: Vec<_> = self.hidden.values().flatten().collect();
        values.sort_unstable_by_key(|value| std::cmp::Reverse(value.len()));
        for hidden in values {
            if text.contains(hidden.as_str()) {
                text = Cow::Owned(text.replace(hidden.as_str(), "[secret]"));
            }
        }
        text
    }

    pub(super) fn line(&mut self, level: LogLevel, line: &str) {
        self.refill();
        if self.tokens == 0 {
            self.dropped += 1;
            return;
        }
        self.tokens -= 1;
        if self.dropped > 0 {
            let dropped = std::mem::take(&mut self.dropped);
            self.log.line(
                LogLevel::Warn,
                &format!("{dropped} lines of this plugin were dropped: too many a second"),
            );
        }
        let line = self.mask(line.trim_end());
        self.log.line(level, &printable(&line, LINE_BYTES_MAX));
    }

    fn refill(&mut self) {
        let now = self.clock.monotonic();
        let elapsed = now.saturating_sub(self.refilled);
        let lines = elapsed.as_millis() * u128::from(self.lines_per_second) / 1000;
        if lines > 0 {
            let lines = u32::try_from(lines).unwrap_or(u32::MAX);
            self.tokens = self.tokens.saturating_add(lines).min(self.lines_per_second.saturating_mul(BURST));
            self.refilled = now;
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::clock::ManualClock;

    #[derive(Default)]
    pub(in crate::plugin) struct Lines(pub(in crate::plugin) Mutex<Vec<String>>);

    impl PluginLog for Lines {
        fn line(&self, level: LogLevel, line: &str) {
            self.0.lock().unwrap().push(format!("{level:?} {line}"));
        }
    }

    #[test]
    fn secrets_do_not_reach_the_log() {
        let lines = Arc::new(Lines::default());
        let clock = Arc::new(ManualClock::default());
        let mut log = GuardedLog::new(Arc::clone(&lines) as Arc<dyn PluginLog>, clock, 100);
        log.hide("token", b"s3cr3t-token");
        log.hide("pin", b"short");
        log.line(LogLevel::Info, "Bearer s3cr3t-token, short, s3cr3t-token");
        assert_eq!(*lines.0.lock().unwrap(), ["Info Bearer [secret], short, [secret]"]);
    }

    #[test]
    fn every_secret_is_hidden_and_its_newest_values_are() {
        let lines = Arc::new(Lines::default());
        let clock = Arc::new(ManualClock::default());
        let mut log = GuardedLog::new(Arc::clone(&lines) as Arc<dyn PluginLog>, clock, 100);
        for at in 0..100 {
            log.hide(&format!("token-{at}"), format!("value-of-{at:03}").as_bytes());
        }
        for at in [1, 2, 2, 3, 2, 4] {
            log.hide("changing", format!("changing-{at}").as_bytes());
        }
        log.hide("longer", b"changing-4-and-more");
        log.line(
            LogLevel::Info,
            "value-of-000 value-of-099 changing-3 changing-2 changing-4 changing-4-and-more",
        );
        let expected = "Info [secret] [secret] changing-3 [secret] [secret] [secret]";
        assert_eq!(*lines.0.lock().unwrap(), [expected]);
    }

    #[test]
    fn control_characters_do_not_reach_the_log() {
        let lines = Arc::new(Lines::default());
        let clock = Arc::new(ManualClock::default());
        let mut log = GuardedLog::new(Arc::clone(&lines) as Arc<dyn PluginLog>, clock, 100);
        log.line(LogLevel::Warn, "a\x1b[31mred\r\nb\n");
        log.line(LogLevel::Warn, &"\u{e9}".repeat(LINE_BYTES_MAX));
        let lines = lines.0.lock().unwrap();
        assert_eq!(lines[0], "Warn a\u{fffd}[31mred\u{fffd}\u{fffd}b");
        assert_eq!(lines[1].len(), "Warn ".len() + LINE_BYTES_MAX);
    }

    #[test]
    fn a_flood_is_cut_and_counted() {
        for lines_per_second in [100, 5] {
            let clock = Arc::new(ManualClock::default());
            let lines = Arc::new(Lines::default());
            let (taken, time) = (Arc::clone(&lines) as Arc<dyn PluginLog>, Arc::clone(&clock) as SharedClock);
            let mut log = GuardedLog::new(taken, time, lines_per_second);
            for _ in 0..1000 {
                log.line(LogLevel::Info, "again");
            }
            let at_once = lines_per_second * BURST;
            assert_eq!(lines.0.lock().unwrap().len(), at_once as usize);
            clock.advance(Duration::from_millis(200));
            log.line(LogLevel::Info, "later");
            let lines = lines.0.lock().unwrap();
            let dropped = 1000 - at_once;
            let told = format!("Warn {dropped} lines of this plugin were dropped: too many a second");
            assert_eq!(lines[lines.len() - 2..], [told, "Info later".to_owned()]);
        }
    }
}
