//! Taps: somebody looks at the records of a stage as they pass. While nobody does, a batch costs one atomic load. A tap
//! has a bounded queue; what does not fit is counted and not waited for, so that no tap slows its stage down.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use millstream_record::RecordBody;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::chain::{ChainOutput, ChainRecord};
use super::rejections::Rejection;
use crate::batch::{InputBatch, InputRecord};

/// Taps of one stage: each copies what it wants.
const TAPS_MAX: usize = 4;
/// Records that wait in a tap's queue, and bytes of them.
const RECORDS_MAX: usize = 1000;
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// Of a key, a value or a header; the rest is cut.
const FIELD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;

/// The taps of a stage.
#[derive(Default)]
pub(crate) struct Taps {
    open: AtomicUsize,
    taps: Mutex<Vec<Arc<Queue>>>,
}

/// What somebody looks at. The stage forgets it when this is dropped.
pub struct Tap {
    queue: Arc<Queue>,
    taps: Weak<Taps>,
}

struct Queue {
    filter: TapFilter,
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Default)]
struct Waiting {
    records: VecDeque<TapRecord>,
    bytes: usize,
    missed: u64,
    over: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TapError {
    #[error(
        "no stage, ingest or view {stage:?} of pipeline {pipeline:?} runs: `millstream status` shows those that do"
    )]
    NoStage { pipeline: String, stage: String },
    #[error("{TAPS_MAX} taps are open at this stage already: close one")]
    TooMany,
}

/// Before the stage, or after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TapSide {
    In,
    Out,
}

/// What became of a record that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TapFate {
    /// It has outputs.
    Passed,
    Dropped,
    /// Rejected, and left out.
    Skipped,
    /// Rejected, and put aside.
    DeadLettered,
    /// An ingest or a view has turned its batch away.
    Refused,
}

/// Which records are looked at: all of it must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TapFilter {
    /// None is both.
    pub side: Option<TapSide>,
    pub partition: Option<i32>,
    pub key: Option<String>,
    /// Of records that come in.
    pub fate: Option<TapFate>,
    /// In the part of the value that is shown.
    pub value_contains: Option<String>,
}

/// A record that passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TapRecord {
    pub side: TapSide,
    /// Where it lies; of an output, where it goes.
    pub topic: Arc<str>,
    pub partition: i32,
    /// Of the record that came in; of an output, of the one that it was made from.
    pub offset: i64,
    /// Of a record that came in.
    pub fate: Option<TapFate>,
    pub outputs: usize,
    /// The plugin that rejected it, if one did, and why.
    pub plugin: Option<String>,
    pub reason: Option<String>,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Something is longer than it is shown.
    pub cut: bool,
}

/// What a tap has got since it was asked before.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TapNews {
    pub records: Vec<TapRecord>,
    /// Records that did not fit.
    pub missed: u64,
    /// The stage was stopped, or is another one now.
    pub over: bool,
}

/// A batch that was mapped.
pub(crate) struct TappedBatch<'a> {
    pub(crate) input: &'a InputBatch,
    /// None if nothing comes of it.
    pub(crate) output: Option<&'a ChainOutput<'a>>,
    /// In the order of the input, each record once.
    pub(crate) rejections: &'a [Rejection],
    /// What becomes of those.
    pub(crate) rejected: TapFate,
    /// What becomes of the others that have no output.
    pub(crate) without_output: TapFate,
}

impl Taps {
    pub(crate) fn open(self: &Arc<Self>, filter: TapFilter) -> Result<Tap, TapError> {
        let mut taps = self.lock();
        if taps.len() >= TAPS_MAX {
            return Err(TapError::TooMany);
        }
        let queue = Arc::new(Queue { filter, waiting: Mutex::default(), changed: Notify::new() });
        taps.push(Arc::clone(&queue));
        self.open.store(taps.len(), Ordering::Relaxed);
        Ok(Tap { queue, taps: Arc::downgrade(self) })
    }

    /// Whether anybody looks.
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    /// Shows a batch. `name` is a plugin by its place in the chain, `place` where an output goes.
    pub(crate) fn show(
        &self,
        batch: &TappedBatch<'_>,
        name: impl Fn(usize) -> String,
        place: impl Fn(&ChainRecord<'_>) -> (Arc<str>, i32),
    ) {
        let taps: Vec<Arc<Queue>> = self.lock().clone();
        let rejection = |origin: u32| {
            let found = batch.rejections.binary_search_by_key(&origin, |rejection| rejection.origin);
            found.ok().map(|at| &batch.rejections[at])
        };
        let each = |take: &mut dyn FnMut(&ChainRecord<'_>)| {
            let Some(output) = batch.output else { return };
            let Ok(()) = output.for_each(|record| {
                if rejection(record.origin).is_none() {
                    take(&record);
                }
                Ok::<(), std::convert::Infallible>(())
            });
        };
        let wanted = |side: TapSide| taps.iter().any(|tap| tap.wants(side));
        let mut outputs = vec![0_usize; batch.input.records.len()];
        if wanted(TapSide::In) {
            each(&mut |record| outputs[record.origin as usize] += 1);
        }
        let came_in = |origin: usize| {
            let (record, outputs) = (&batch.input.records[origin], outputs[origin]);
            let rejection =
                rejection(u32::try_from(origin).expect("a batch's records are counted by an i32"));
            let fate = match (rejection, outputs) {
                (Some(_), _) => batch.rejected,
                (None, 0) => batch.without_output,
                (None, _) => TapFate::Passed,
            };
            for tap in taps.iter().filter(|tap| tap.wants(TapSide::In)) {
                tap.offer(Some(fate), batch.input.partition, batch.input.fields(record), || TapRecord {
                    outputs,
                    plugin: rejection.and_then(|rejection| rejection.plugin).map(&name),
                    reason: rejection.map(|rejection| rejection.reason.to_string()),
                    ..incoming(batch.input, record, fate)
                });
            }
        };
        // Each record in front of what was made from it: of a batch that does not fit, both sides are seen.
        let mut shown = 0;
        if wanted(TapSide::Out) {
            each(&mut |record| {
                let behind = record.origin as usize + 1;
                (shown..behind).for_each(came_in);
                shown = shown.max(behind);
                let (topic, partition) = place(record);
                let origin = &batch.input.records[record.origin as usize];
                let body = RecordBody::parse(record.body).expect("bodies are checked when they enter");
                for tap in taps.iter().filter(|tap| tap.wants(TapSide::Out)) {
                    tap.offer(None, partition, body, || TapRecord {
                        side: TapSide::Out,
                        topic: Arc::clone(&topic),
                        partition,
                        fate: None,
                        timestamp: record.timestamp,
                        ..incoming(batch.input, origin, TapFate::Passed)
                    });
                }
            });
        }
        (shown..outputs.len()).for_each(came_in);
        taps.iter().for_each(|tap| tap.changed.notify_one());
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Queue>>> {
        self.taps.lock().expect("no code panics while it holds this lock")
    }
}

impl Drop for Taps {
    fn drop(&mut self) {
        for tap in self.lock().iter() {
            tap.lock().over = true;
            tap.changed.notify_one();
        }
    }
}

/// Everything but its fields.
fn incoming(input: &InputBatch, record: &InputRecord, fate: TapFate) -> TapRecord {
    TapRecord {
        side: TapSide::In,
        topic: Arc::clone(&input.topic),
        partition: input.partition,
        offset: input.offset(record),
        fate: Some(fate),
        outputs: 0,
        plugin: None,
        reason: None,
        timestamp: record.timestamp,
        key: None,
        value: None,
        headers: Vec::new(),
        cut: false,
    }
}

impl Queue {
    fn wants(&self, side: TapSide) -> bool {
        // An output has no fate.
        self.filter.side.is_none_or(|wanted| wanted == side)
            && (side == TapSide::In || self.filter.fate.is_none())
    }

    /// Copies a record, if it is wanted and there is room.
    fn offer(
        &self,
        fate: Option<TapFate>,
        partition: i32,
        body: RecordBody<'_>,
        record: impl FnOnce() -> TapRecord,
    ) {
        let (key, value, headers) = body.fields();
        let TapFilter { side: _, partition: of, key: with_key, fate: with_fate, value_contains: text } =
            &self.filter;
        let shown = |bytes: &[u8]| bytes.len().min(FIELD_BYTES_MAX);
        let contains = |text: &String| {
            text.is_empty() || value.is_some_and(|value| finds(&value[..shown(value)], text.as_bytes()))
        };
        let is_wanted = of.is_none_or(|of| of == partition)
            && with_key.as_ref().is_none_or(|wanted| key == Some(wanted.as_bytes()))
            && with_fate.is_none_or(|wanted| fate == Some(wanted))
            // Last, and of what is shown only: it costs the most. What is not looked for takes nobody's place.
            && text.as_ref().is_none_or(contains);
        if !is_wanted {
            return;
        }
        // Held elsewhere for as long as it takes to swap two queues.
        let mut waiting = self.lock();
        if waiting.records.len() >= RECORDS_MAX || waiting.bytes >= BYTES_MAX {
            waiting.missed += 1;
            return;
        }
        let mut cut = false;
        let mut copy = |bytes: &[u8]| {
            cut |= bytes.len() > FIELD_BYTES_MAX;
            bytes[..shown(bytes)].to_vec()
        };
        let mut record = record();
        (record.key, record.value) = (key.map(&mut copy), value.map(&mut copy));
        let mut bytes = record.key.as_ref().map_or(0, Vec::len) + record.value.as_ref().map_or(0, Vec::len);
        for (at, header) in headers.enumerate() {
            if at == HEADERS_MAX || bytes > 3 * FIELD_BYTES_MAX {
                cut = true;
                break;
            }
            let value = header.value.map(&mut copy);
            let name = String::from_utf8_lossy(&copy(header.key)).into_owned();
            bytes += name.len() + value.as_ref().map_or(0, Vec::len);
            record.headers.push((name, value));
        }
        record.cut = cut;
        waiting.bytes += bytes;
        waiting.records.push_back(record);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no code panics while it holds this lock")
    }
}

impl Tap {
    /// Waits for news. Those of a stage that is over end with that.
    pub async fn news(&self) -> TapNews {
        loop {
            let news = self.take();
            if news != TapNews::default() {
                return news;
            }
            self.queue.changed.notified().await;
        }
    }

    fn take(&self) -> TapNews {
        let Waiting { records, missed, over, .. } = {
            let mut waiting = self.queue.lock();
            let over = waiting.over;
            std::mem::replace(&mut *waiting, Waiting { over, ..Waiting::default() })
        };
        TapNews { records: records.into(), missed, over }
    }
}

fn finds(value: &[u8], text: &[u8]) -> bool {
    value.windows(text.len()).any(|window| window == text)
}

impl Drop for Tap {
    fn drop(&mut self) {
        let Some(taps) = self.taps.upgrade() else { return };
        let mut open = taps.lock();
        open.retain(|queue| !Arc::ptr_eq(queue, &self.queue));
        taps.open.store(open.len(), Ordering::Relaxed);
    }
}
