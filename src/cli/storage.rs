//! `millstream storage`: looks into the log dirs of a stopped node, without changing them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_broker::clock::SystemClock;
use millstream_broker::log::SegmentKind;
use millstream_broker::log::disk::{Disk, FileDisk};
use millstream_broker::log::inspect::{inspect, verify};
use serde_json::json;

use super::failure::Failure;
use super::node_args::StorageCommand;
use super::output::{Output, Table, human_bytes};
use super::up::chain;

pub(super) fn run(command: StorageCommand, output: &mut Output) -> Result<(), Failure> {
    match command {
        StorageCommand::Dump(args) => dump(&args.dir, output),
        StorageCommand::Verify(args) => check(&args.dir, output),
    }
}

fn dump(dir: &Path, output: &mut Output) -> Result<(), Failure> {
    let disk: Arc<dyn Disk> = Arc::new(FileDisk);
    for log_dir in log_dirs(dir)? {
        let segments = inspect(&log_dir, &disk).map_err(|error| Failure::Node(chain(&error)))?;
        for segment in segments {
            let state = match (segment.is_sealed, segment.kind) {
                (false, _) => "active",
                (true, SegmentKind::Appended) => "sealed",
                (true, SegmentKind::Rewritten) => "rewritten",
                (true, SegmentKind::Compacted) => "compacted",
            };
            if output.json() {
                let log = |log: &millstream_broker::log::inspect::LogReport| {
                    json!({
                        "log": log.log.0, "partition": log.partition.map(|id| id.to_string()),
                        "first_offset": log.first_offset.0, "end_offset": log.end_offset.0,
                        "batches": log.batches, "bytes": log.bytes,
                    })
                };
                output.document(&json!({
                    "path": segment.path, "format_version": segment.format_version, "state": state,
                    "file_bytes": segment.file_bytes, "batch_bytes": segment.batch_bytes,
                    "batches": segment.batches, "commits": [segment.commits.0, segment.commits.1],
                    "logs": segment.logs.iter().map(log).collect::<Vec<_>>(),
                }))?;
                continue;
            }
            output.line(format_args!(
                "{}: {state}, format {}, {}, {} batches of {}, commits {} to {}",
                segment.path.display(),
                segment.format_version,
                human_bytes(segment.file_bytes),
                segment.batches,
                human_bytes(segment.batch_bytes),
                segment.commits.0,
                segment.commits.1,
            ))?;
            let mut table = Table::new(["LOG", "TOPIC ID-PARTITION", "OFFSETS", "BATCHES", "BYTES"]);
            for log in &segment.logs {
                let partition = log.partition.map(|id| id.to_string()).unwrap_or_default();
                let offsets = format!("{} to {}", log.first_offset, log.end_offset);
                let (batches, bytes) = (log.batches.to_string(), human_bytes(log.bytes));
                table.row([log.log.0.to_string(), partition, offsets, batches, bytes]);
            }
            output.table(&table)?;
        }
    }
    Ok(())
}

fn check(dir: &Path, output: &mut Output) -> Result<(), Failure> {
    let disk: Arc<dyn Disk> = Arc::new(FileDisk);
    let mut damaged = 0;
    for log_dir in log_dirs(dir)? {
        let checked = verify(&log_dir, &disk, SystemClock::shared());
        let checked = checked.map_err(|error| Failure::Node(chain(&error)))?;
        damaged += checked.findings.len();
        if output.json() {
            let findings = checked.findings.iter();
            output.document(&json!({
                "log_dir": log_dir, "segments": checked.segments, "batches": checked.batches,
                "bytes": checked.bytes,
                "findings": findings.map(|f| json!({"path": f.path, "what": f.what})).collect::<Vec<_>>(),
            }))?;
            continue;
        }
        output.line(format_args!(
            "{}: {} segments, {} batches of {} checked, {} findings",
            log_dir.display(),
            checked.segments,
            checked.batches,
            human_bytes(checked.bytes),
            checked.findings.len(),
        ))?;
        checked.findings.iter().try_for_each(|finding| output.line(format_args!("  {finding}")))?;
    }
    match damaged {
        0 => Ok(()),
        _ => Err(Failure::Incomplete(format!("the storage is damaged: {damaged} findings"))),
    }
}

/// `dir` itself if it holds segments, else the log dirs in it.
fn log_dirs(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |source| Failure::Input { path: dir.to_owned(), source };
    let holds_segments = |dir: &Path| -> std::io::Result<bool> {
        let mut names = fs::read_dir(dir)?.filter_map(Result::ok).map(|entry| entry.file_name());
        Ok(names.any(|name| is_segment(&name.to_string_lossy())))
    };
    if holds_segments(dir).map_err(unreadable)? {
        return Ok(vec![dir.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)?.filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() && holds_segments(&path).map_err(unreadable)? {
            found.push(path);
        }
    }
    found.sort();
    match found.is_empty() {
        true => {
            Err(Failure::Usage(format!("{} holds no log dir: name a node's data directory", dir.display())))
        }
        false => Ok(found),
    }
}

fn is_segment(name: &str) -> bool {
    name.strip_suffix(".redb")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}
