//! The last lines of all plugins of a node, for whoever asks. What a plugin may log is limited before it comes here.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use serde::Serialize;
use tokio::sync::watch;

use super::log::{LogLevel, PluginLog};
use crate::clock::SharedClock;

/// Lines that are kept, and bytes of them, whichever is less.
const LINES_MAX: usize = 10_000;
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// What a line takes beside its text.
const LINE_BYTES: usize = 64;
/// Lines of one answer, and bytes of their texts.
pub const ANSWER_LINES_MAX: usize = 1000;
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Who logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LineOrigin {
    pub pipeline: String,
    pub stage: String,
    pub plugin: String,
    /// The number of the version.
    pub version: u32,
}

/// One line, numbered from 1 on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptLine {
    pub seq: u64,
    pub time_ms: i64,
    pub level: LogLevel,
    #[serde(flatten, serialize_with = "shared")]
    pub origin: Arc<LineOrigin>,
    pub text: String,
}

fn shared<S: serde::Serializer>(origin: &Arc<LineOrigin>, serializer: S) -> Result<S::Ok, S::Error> {
    origin.as_ref().serialize(serializer)
}

/// Whose lines are asked for; none is all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LineFilter {
    pub pipeline: Option<String>,
    pub stage: Option<String>,
    pub plugin: Option<String>,
}

/// Lines in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptLines {
    pub lines: Vec<KeptLine>,
    /// What to ask behind the next time.
    pub after: u64,
    /// Lines of any plugin that were asked for and are not kept any more.
    pub lost: u64,
}

/// See the module. In one mutex, which is held for as long as it takes to copy an answer.
pub struct PluginLogs {
    state: Mutex<State>,
    /// The number of the last line.
    last: watch::Sender<u64>,
    clock: SharedClock,
    begun_ms: i64,
}

#[derive(Default)]
struct State {
    lines: VecDeque<KeptLine>,
    bytes: usize,
    last: u64,
}

impl LineFilter {
    fn matches(&self, origin: &LineOrigin) -> bool {
        let is = |wanted: &Option<String>, name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
        is(&self.pipeline, &origin.pipeline)
            && is(&self.stage, &origin.stage)
            && is(&self.plugin, &origin.plugin)
    }
}

impl PluginLogs {
    pub(crate) fn new(clock: SharedClock) -> Self {
        let begun_ms = clock.wall_ms();
        Self { state: Mutex::default(), last: watch::channel(0).0, clock, begun_ms }
    }

    /// When this began: with another one, lines have other numbers.
    pub fn begun_ms(&self) -> i64 {
        self.begun_ms
    }

    /// Keeps the lines of that origin, and passes them on to `log`.
    pub(crate) fn keep(self: &Arc<Self>, origin: LineOrigin, log: Arc<dyn PluginLog>) -> Arc<dyn PluginLog> {
        Arc::new(Keeping { logs: Arc::clone(self), origin: Arc::new(origin), log })
    }

    /// The lines behind number `after`, as many as an answer takes.
    pub fn after(&self, after: u64, filter: &LineFilter) -> KeptLines {
        let state = self.lock();
        let first = state.lines.front().map_or(state.last + 1, |line| line.seq);
        // Nobody has seen what is not there yet.
        let after = after.min(state.last);
        let lost = first.saturating_sub(after + 1);
        let mut answer = KeptLines { lines: Vec::new(), after: after + lost, lost };
        let mut bytes = 0;
        let from = usize::try_from(answer.after + 1 - first).expect("as many lines are in memory");
        for line in state.lines.range(from..) {
            let is_wanted = filter.matches(&line.origin);
            if is_wanted {
                if answer.lines.len() == ANSWER_LINES_MAX || bytes + line.text.len() > ANSWER_BYTES_MAX {
                    break;
                }
                bytes += line.text.len();
                answer.lines.push(line.clone());
            }
            answer.after = line.seq;
        }
        answer
    }

    /// The last lines, no more than an answer takes.
    pub fn newest(&self, lines: usize, filter: &LineFilter) -> KeptLines {
        let state = self.lock();
        let mut bytes = 0;
        let newest = state.lines.iter().rev().filter(|line| filter.matches(&line.origin));
        let newest = newest.take(lines.min(ANSWER_LINES_MAX)).take_while(|line| {
            bytes += line.text.len();
            bytes <= ANSWER_BYTES_MAX
        });
        let mut lines: Vec<KeptLine> = newest.cloned().collect();
        lines.reverse();
        KeptLines { lines, after: state.last, lost: 0 }
    }

    /// Waits until there is a line behind that number.
    pub async fn until_behind(&self, after: u64) {
        // The sender is ours.
        let _ = self.last.subscribe().wait_for(|last| *last > after).await;
    }

    fn push(&self, origin: &Arc<LineOrigin>, level: LogLevel, text: &str) {
        let time_ms = self.clock.wall_ms();
        let mut state = self.lock();
        state.last += 1;
        let seq = state.last;
        state.bytes += text.len() + LINE_BYTES;
        let (origin, text) = (Arc::clone(origin), text.to_owned());
        state.lines.push_back(KeptLine { seq, time_ms, level, origin, text });
        while state.lines.len() > LINES_MAX || state.bytes > BYTES_MAX {
            let oldest = state.lines.pop_front().expect("a line takes less than all may");
            state.bytes -= oldest.text.len() + LINE_BYTES;
        }
        // Inside of the lock, so that it never goes back.
        self.last.send_replace(seq);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }
}

struct Keeping {
    logs: Arc<PluginLogs>,
    origin: Arc<LineOrigin>,
    log: Arc<dyn PluginLog>,
}

impl PluginLog for Keeping {
    fn line(&self, level: LogLevel, line: &str) {
        self.logs.push(&self.origin, level, line);
        self.log.line(level, line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::plugin::log::tests::Lines;

    struct Fixture {
        logs: Arc<PluginLogs>,
        passed_on: Arc<Lines>,
    }

    impl Fixture {
        fn new() -> Self {
            let logs = Arc::new(PluginLogs::new(Arc::new(ManualClock::default())));
            Self { logs, passed_on: Arc::default() }
        }

        fn log(&self, stage: &str, line: &str) {
            let name = |name: &str| name.to_owned();
            let origin =
                LineOrigin { pipeline: name("p"), stage: name(stage), plugin: name("x"), version: 1 };
            let log = self.logs.keep(origin, Arc::clone(&self.passed_on) as Arc<dyn PluginLog>);
            log.line(LogLevel::Info, line);
        }

        fn after(&self, after: u64, stage: Option<&str>) -> (Vec<String>, u64, u64) {
            texts(self.logs.after(after, &of(stage)))
        }
    }

    fn of(stage: Option<&str>) -> LineFilter {
        LineFilter { stage: stage.map(str::to_owned), ..LineFilter::default() }
    }

    fn texts(lines: KeptLines) -> (Vec<String>, u64, u64) {
        (lines.lines.into_iter().map(|line| line.text).collect(), lines.after, lines.lost)
    }

    fn owned(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn lines_are_passed_on_and_found_by_their_origin() {
        let fixture = Fixture::new();
        [("a", "one"), ("b", "two"), ("a", "three")]
            .iter()
            .for_each(|(stage, line)| fixture.log(stage, line));
        assert_eq!(*fixture.passed_on.0.lock().unwrap(), ["Info one", "Info two", "Info three"]);
        assert_eq!(fixture.after(0, None), (owned(&["one", "two", "three"]), 3, 0));
        assert_eq!(fixture.after(0, Some("b")), (owned(&["two"]), 3, 0));
        assert_eq!(fixture.after(1, Some("a")), (owned(&["three"]), 3, 0));
        assert_eq!(fixture.after(3, None), (Vec::new(), 3, 0));
        assert_eq!(fixture.after(99, None), (Vec::new(), 3, 0), "nobody has seen that much");
        assert_eq!(texts(fixture.logs.newest(1, &of(Some("a")))), (owned(&["three"]), 3, 0));
        assert_eq!(texts(fixture.logs.newest(9, &of(None))).0.len(), 3);
        assert_eq!(fixture.logs.newest(1, &of(Some("none"))).lines, []);
    }

    #[test]
    fn what_is_overwritten_is_said_to_be_lost() {
        let fixture = Fixture::new();
        (0..LINES_MAX + 5).for_each(|line| fixture.log("a", &line.to_string()));
        let (lines, after, lost) = fixture.after(2, None);
        assert_eq!((lines.len(), after, lost), (ANSWER_LINES_MAX, 5 + ANSWER_LINES_MAX as u64, 3));
        assert_eq!(lines[0], "5");
        // The next answer begins where that one ended.
        assert_eq!(fixture.after(after, None).0[0], (5 + ANSWER_LINES_MAX).to_string());
        assert_eq!(fixture.after(0, Some("b")), (Vec::new(), LINES_MAX as u64 + 5, 5));
        // Long lines count by their bytes.
        (0..2000).for_each(|_| fixture.log("a", &"x".repeat(4096)));
        let state = fixture.logs.lock();
        assert!(state.bytes <= BYTES_MAX && state.lines.len() < 1100, "{} lines", state.lines.len());
        drop(state);
        let (lines, ..) = fixture.after(0, None);
        assert_eq!(lines.len(), ANSWER_BYTES_MAX / 4096);
        assert_eq!(fixture.logs.newest(5000, &of(None)).lines.len(), ANSWER_BYTES_MAX / 4096);
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_by_the_next_line() {
        let fixture = Fixture::new();
        fixture.log("a", "one");
        fixture.logs.until_behind(0).await;
        let waiting = fixture.logs.until_behind(1);
        let mut waiting = std::pin::pin!(waiting);
        assert!(
            std::future::poll_fn(|context| std::task::Poll::Ready(waiting.as_mut().poll(context)))
                .await
                .is_pending()
        );
        fixture.log("a", "two");
        waiting.await;
    }
}
