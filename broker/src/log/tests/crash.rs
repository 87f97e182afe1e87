//! Power loss at any operation of the disk, and again during the recovery, against a model.
//!
//! Commands are committed in the order in which they were queued, and a commit is whole or not at
//! all: so what a crash leaves is the state after some number of the commands, not fewer than were
//! acknowledged, in all logs alike.

use super::*;

use crate::ids::{ProducerEpoch, ProducerId};
use crate::log::disk::Disk;
use crate::log::inspect::{Finding, verify};
use crate::log::state::{Change, LogState};
use crate::log::testing::{Faults, SeededRandom};
use millstream_record::RecordBatch;

const SEEDS: u64 = 200;
const LOGS: i32 = 4;

/// A log as the model has it.
#[derive(Clone, Default)]
struct ModelLog {
    state: LogState,
    /// The batches and their offsets.
    batches: Vec<(i64, i64, Bytes)>,
}

impl ModelLog {
    fn fold(&mut self, change: &Change, bytes: Option<Bytes>) {
        self.state.fold(change);
        match change {
            Change::Append(meta) => self.batches.push((
                meta.base_offset.0,
                meta.last_offset.0,
                bytes.expect("an append has bytes"),
            )),
            Change::Truncate(end) => self.batches.retain(|(_, last, _)| last < &end.0),
            Change::Restart(_) => self.batches.clear(),
            Change::AdvanceLogStart(_) => {}
        }
    }

    fn contents(&self) -> Vec<u8> {
        let start = self.state.log_start_offset.0;
        let live = self.batches.iter().filter(|(_, last, _)| *last >= start);
        live.flat_map(|(_, _, bytes)| bytes.iter().copied()).collect()
    }
}

/// One thing that the test asked of storage.
enum Asked {
    Create(i32),
    Delete(i32),
    Change(i32, Change, Option<Bytes>),
}

type Model = std::collections::BTreeMap<i32, ModelLog>;

fn fold(model: &mut Model, asked: &Asked) {
    match asked {
        Asked::Create(partition) => drop(model.insert(*partition, ModelLog::default())),
        Asked::Delete(partition) => drop(model.remove(partition)),
        Asked::Change(partition, change, bytes) => {
            model.get_mut(partition).expect("it was created").fold(change, bytes.clone());
        }
    }
}

/// How the logs that were found are not those of the model.
fn differences(found: &[FoundLog], model: &Model) -> Vec<String> {
    let mut differences = Vec::new();
    for (partition, state, contents) in found {
        match model.get(partition) {
            None => differences.push(format!("log {partition} shouldn't be there")),
            Some(log) if log.state != *state => {
                differences.push(format!("log {partition}: expected {:?}, found {state:?}", log.state));
            }
            Some(log) if log.contents() != *contents => {
                let (expected, found) = (offsets(&log.contents()), offsets(contents));
                differences.push(format!("log {partition}: expected batches {expected:?}, found {found:?}"));
            }
            Some(_) => {}
        }
    }
    let missing = model.keys().filter(|partition| !found.iter().any(|(found, ..)| found == *partition));
    differences.extend(missing.map(|partition| format!("log {partition} is missing")));
    differences
}

/// The base offsets of batches, and their lengths.
fn offsets(batches: &[u8]) -> Vec<(i64, usize)> {
    let batches = RecordBatch::batches(batches).map(|batch| batch.expect("whole batches are read"));
    batches.map(|batch| (batch.base_offset(), batch.size_in_bytes())).collect()
}

type FoundLog = (i32, LogState, Vec<u8>);

/// One seed's run.
struct Run {
    random: SeededRandom,
    disk: FaultyDisk,
    config: LogDirConfig,
    /// The state that is on disk for sure, and what was asked since.
    acknowledged: Model,
    asked: Vec<Asked>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = SeededRandom::new(seed);
        let config = LogDirConfig {
            segment_bytes: 2_000 + random.below(20_000),
            segment_entries_max: 5 + random.below(60) as usize,
            commit_bytes_max: 500 + random.below(20_000) as usize,
            tail_cache_bytes: random.below(20_000) as usize,
            block_cache_bytes: random.below(20_000) as usize,
            open_segments_max: 1 + random.below(3) as usize,
            producer_id_expiration_ms: i64::MAX,
            ..LogDirConfig::default()
        };
        let disk = FaultyDisk::new(random.next_u64());
        Self { random, disk, config, acknowledged: Model::new(), asked: Vec::new() }
    }

    /// Queues something, in the log dir and in the model.
    fn ask(&mut self, dir: &LogDir) -> Result<(), ()> {
        let partition = self.random.below(LOGS as u64) as i32;
        let Some(log) = dir.log(&tp(partition)) else {
            dir.create_log(tp(partition)).map_err(drop)?;
            self.asked.push(Asked::Create(partition));
            return Ok(());
        };
        let next = log.next_offset();
        let (change, bytes) = match self.random.below(100) {
            0..2 => {
                dir.delete_log(&tp(partition)).map_err(drop)?;
                self.asked.push(Asked::Delete(partition));
                return Ok(());
            }
            2..4 => {
                let offset = Offset(self.random.below(200) as i64);
                log.truncate_fully_and_start_at(offset).map_err(drop)?;
                (Change::Restart(offset), None)
            }
            4..9 => {
                let back = self.random.below(30) as i64;
                let end = Offset((next.0 - back).max(0));
                log.truncate_to(end).map_err(drop)?;
                (Change::Truncate(end), None)
            }
            9..15 => {
                let start = Offset((next.0 - self.random.below(40) as i64).max(0));
                log.advance_log_start_offset(start).map_err(drop)?;
                (Change::AdvanceLogStart(start), None)
            }
            _ => return self.ask_append(partition, &log),
        };
        self.asked.push(Asked::Change(partition, change, bytes));
        Ok(())
    }

    fn ask_append(&mut self, partition: i32, log: &Arc<Log>) -> Result<(), ()> {
        let size = if self.random.chance(10) { 9_000 } else { 300 };
        let bytes = self.random.below(size) as usize;
        let records = 1 + self.random.below(5) as i32;
        let producer = self.random.chance(60).then(|| ProducerBatch {
            id: ProducerId(self.random.below(3) as i64),
            epoch: ProducerEpoch(self.random.below(2) as i16),
            base_sequence: self.random.below(1 << 31) as i32,
        });
        let next = log.next_offset();
        let stored = append_at(log, records, bytes, producer, next.0).map_err(drop)?;
        let meta = batch_meta(&stored, next, LeaderEpoch(3));
        self.asked.push(Asked::Change(partition, Change::Append(meta), Some(stored)));
        Ok(())
    }

    /// Works until the disk fails or the steps are done.
    fn work(&mut self, dir: &LogDir, steps: u64) {
        for _ in 0..steps {
            let went_well = match self.random.below(20) {
                0 | 1 => dir.flush().map(|()| self.acknowledge()).map_err(drop),
                2 => dir.reclaim().map(drop).map_err(drop),
                _ => self.ask(dir),
            };
            if went_well.is_err() {
                return;
            }
        }
    }

    fn acknowledge(&mut self) {
        for asked in self.asked.drain(..) {
            fold(&mut self.acknowledged, &asked);
        }
    }

    /// Compares what is on disk with the model after each number of commands that may have made it,
    /// and goes on from the one that is right.
    fn check(&mut self, dir: &LogDir, seed: u64) {
        let found =
            |log: &Arc<Log>| (log.topic_id_partition().partition.0, log.state(), read_all(log, 2_000));
        let found: Vec<FoundLog> = dir.logs().iter().map(found).collect();
        let mut model = self.acknowledged.clone();
        let mut asked = self.asked.drain(..);
        // The differences from the likeliest state, for whoever has to find out why.
        let mut fewest: Option<Vec<String>> = None;
        loop {
            let differences = differences(&found, &model);
            if differences.is_empty() {
                break;
            }
            if fewest.as_ref().is_none_or(|fewest| differences.len() < fewest.len()) {
                fewest = Some(differences);
            }
            match asked.next() {
                Some(asked) => fold(&mut model, &asked),
                None => panic!("seed {seed}: no state that was ever asked for: {fewest:#?}"),
            }
        }
        drop(asked);
        self.acknowledged = model;
    }

    /// Opens the log dir, with crashes in between perhaps.
    fn reopen(&mut self, seed: u64) -> LogDir {
        for _ in 0..self.random.below(3) {
            let crash_after = Some(self.random.below(30));
            self.disk.set_faults(Faults { crash_after, ..Faults::default() });
            let opened = open(&self.disk, &self.config);
            self.disk.restart();
            drop(opened);
        }
        open(&self.disk, &self.config).unwrap_or_else(|error| panic!("seed {seed}: {error}: {error:?}"))
    }
}

fn check_seed(seed: u64) {
    let mut run = Run::new(seed);
    let mut dir = run.reopen(seed);
    for _ in 0..3 {
        let crash_after = Some(run.random.below(400));
        run.disk.set_faults(Faults { crash_after, ..Faults::default() });
        run.work(&dir, 150);
        // The power goes off whether or not it came to that.
        run.disk.restart();
        drop(dir);
        dir = run.reopen(seed);
        run.check(&dir, seed);
    }
    // What was recovered can be written on, and closed.
    run.work(&dir, 30);
    dir.close().unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
    run.acknowledge();
    if seed.is_multiple_of(4) {
        check_verified(&run.disk, seed);
    }
    let dir = open(&run.disk, &run.config).unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
    run.check(&dir, seed);
}

/// Everything on disk agrees, but for the gaps that truncations within batches left.
fn check_verified(disk: &FaultyDisk, seed: u64) {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let verification = verify(&dir_path(), &disk, Arc::new(ManualClock::default())).unwrap();
    let findings = verification.findings.iter().filter(|finding| !finding.what.ends_with("are missing"));
    assert_eq!(findings.collect::<Vec<_>>(), Vec::<&Finding>::new(), "seed {seed}");
}

/// `MILLSTREAM_CRASH_SEED` runs one seed, `MILLSTREAM_CRASH_SEEDS` that many.
#[test]
fn what_was_acknowledged_survives_any_crash() {
    let from_env = |name| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    match from_env("MILLSTREAM_CRASH_SEED") {
        Some(seed) => check_seed(seed),
        None => (0..from_env("MILLSTREAM_CRASH_SEEDS").unwrap_or(SEEDS)).for_each(check_seed),
    }
}
