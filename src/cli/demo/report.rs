//! What the demo shows: errors as they come, and a summary at the end.

use std::collections::BTreeMap;

use serde_json::json;

use super::Counts;
use super::feed::{ErrorRecord, Sent};
use crate::cli::failure::Failure;
use crate::cli::output::{Output, Table, human_bytes};

/// Errors that are shown one by one; after that one in so many.
const SHOWN_ALL: u64 = 40;
const SHOWN_ONE_IN: u64 = 50;
/// Rows of the summary's table.
const TOP_ROWS: usize = 10;

/// Characters of a path that are shown.
const PATH_CHARS_MAX: usize = 80;

/// A path comes from whoever asked the web server: it must not control the terminal, or fill it.
fn shortened(path: &str) -> String {
    let mut shown: String =
        path.chars().take(PATH_CHARS_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if path.chars().nth(PATH_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

pub(super) struct Report {
    json: bool,
    shown: u64,
    by_status: BTreeMap<u16, u64>,
    by_path: BTreeMap<(u16, String), u64>,
}

impl Report {
    pub(super) fn new(json: bool) -> Self {
        Self { json, shown: 0, by_status: BTreeMap::new(), by_path: BTreeMap::new() }
    }

    /// Errors that were received.
    pub(super) fn shown(&self) -> u64 {
        self.shown
    }

    /// Shows an error, live.
    pub(super) fn show(&mut self, error: ErrorRecord, output: &mut Output) -> Result<(), Failure> {
        self.shown += 1;
        let path = shortened(error.path.as_deref().unwrap_or("-"));
        *self.by_status.entry(error.status).or_default() += 1;
        *self.by_path.entry((error.status, path.clone())).or_default() += 1;
        if !self.json && (self.shown <= SHOWN_ALL || self.shown.is_multiple_of(SHOWN_ONE_IN)) {
            output.line(format_args!("{} {path}  ({} so far)", error.status, error.count))?;
            output.flush()?;
        }
        Ok(())
    }

    pub(super) fn finish(
        &self,
        sent: &Sent,
        counts: &Counts,
        seconds: f64,
        output: &mut Output,
    ) -> Result<(), Failure> {
        #[expect(clippy::cast_precision_loss, reason = "a rate has three digits that count")]
        let rate = counts.read as f64 / seconds;
        if self.json {
            return output.document(&json!({
                "lines_sent": sent.lines, "bytes_sent": sent.bytes, "read": counts.read,
                "parsed": counts.parsed, "rejected": counts.rejected, "kept": counts.kept,
                "by_status": self.by_status, "seconds": seconds, "lines_per_second": rate,
            }));
        }
        output.line("")?;
        let mut table = Table::new(["STATUS", "PATH", "COUNT"]);
        let mut top: Vec<_> = self.by_path.iter().collect();
        top.sort_by_key(|&((status, path), count)| (std::cmp::Reverse(*count), *status, path.clone()));
        for ((status, path), count) in top.into_iter().take(TOP_ROWS) {
            table.row([status.to_string(), path.clone(), count.to_string()]);
        }
        output.table(&table)?;
        let statuses: Vec<String> =
            self.by_status.iter().map(|(status, count)| format!("{count} x {status}")).collect();
        output.line("")?;
        output.line(format_args!("read      {} lines, {}", counts.read, human_bytes(sent.bytes)))?;
        output.line(format_args!("parsed    {}", counts.parsed))?;
        output.line(format_args!(
            "rejected  {} (no access log lines; in topic access-log.rejected)",
            counts.rejected
        ))?;
        output.line(format_args!("kept      {} errors: {}", counts.kept, statuses.join(", ")))?;
        output.line(format_args!(
            "took      {seconds:.2} s, {rate:.0} lines/s through two plugins, every record on disk"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_neither_fills_the_terminal_nor_controls_it() {
        assert_eq!(shortened("/a?b=c"), "/a?b=c");
        assert_eq!(shortened("/\u{1b}[2J\n"), "/\u{fffd}[2J\u{fffd}");
        assert_eq!(shortened(&"é".repeat(200)), format!("{}…", "é".repeat(80)));
    }
}
