//! What a replay did, and what is left.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cli::dlq::letter::{Error, Letter};
use crate::cli::failure::Failure;
use crate::cli::output::{Output, remark};

/// Letters that are named one by one.
const NAMED_MAX: usize = 20;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    topic: String,
    /// Remembers how far it has come.
    pub(super) group: Option<String>,
    dry_run: bool,
    /// What was sent, or would be, to each topic.
    to: BTreeMap<String, u64>,
    /// What the cluster has confirmed.
    pub(super) delivered: u64,
    /// Letters that are not the record that they were.
    unreplayable: u64,
    /// The first of them.
    named: Vec<Named>,
    /// Letters that the filter does not want.
    pub(super) others: u64,
    /// Letters that the next replay begins with.
    pub(super) left: Option<u64>,
    pub(super) interrupted: bool,
    /// What the group has committed.
    pub(super) positions: BTreeMap<i32, i64>,
    /// The first letters of a dry run, for people.
    #[serde(skip)]
    plan: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Named {
    partition: i32,
    offset: i64,
    why: &'static str,
}

impl Report {
    pub(super) fn new(topic: &str, group: Option<String>, dry_run: bool) -> Self {
        Self {
            topic: topic.to_owned(),
            group,
            dry_run,
            to: BTreeMap::new(),
            delivered: 0,
            unreplayable: 0,
            named: Vec::new(),
            others: 0,
            left: None,
            interrupted: false,
            positions: BTreeMap::new(),
            plan: Vec::new(),
        }
    }

    pub(super) fn count(&mut self, topic: &str, letter: &Letter, error: &Error) {
        *self.to.entry(topic.to_owned()).or_default() += 1;
        if self.dry_run && self.plan.len() < NAMED_MAX {
            let Error { topic: from, partition, offset, .. } = error;
            self.plan.push(format!(
                "{} would go to {topic}: it was {from}-{partition} offset {offset}",
                letter.place()
            ));
        }
    }

    pub(super) fn leave(&mut self, letter: &Letter, why: &'static str) {
        self.unreplayable += 1;
        if self.named.len() < NAMED_MAX {
            self.named.push(Named { partition: letter.partition, offset: letter.offset, why });
        }
    }

    fn left_line(&self) -> Option<String> {
        let group = self.group.as_ref()?;
        Some(match self.left {
            Some(left) => format!("{left} letters are left for the next replay (group {group})"),
            None => format!("how many letters are left is not known (group {group})"),
        })
    }

    pub(super) fn print(&self, output: &mut Output) -> Result<(), Failure> {
        if output.json() {
            return output.document(self);
        }
        self.plan.iter().try_for_each(|line| output.line(line))?;
        let to: Vec<String> =
            self.to.iter().map(|(topic, letters)| format!("{letters} to {topic}")).collect();
        let done = match (self.dry_run, to.is_empty()) {
            (_, true) => "nothing to replay".to_owned(),
            (true, false) => format!("would replay {}: nothing was written", to.join(", ")),
            (false, false) => format!("sent {}; {} confirmed", to.join(", "), self.delivered),
        };
        output.line(format_args!("{}: {done}", self.topic))?;
        if self.others > 0 {
            output.line(format_args!("{} letters are not among those that were asked for", self.others))?;
        }
        if let Some(line) = self.left_line() {
            output.line(line)?;
        }
        output.flush()?;
        for Named { partition, offset, why } in &self.named {
            remark(format_args!("not replayed: partition {partition} offset {offset}: {why}"));
        }
        if self.unreplayable > self.named.len() as u64 {
            remark(format_args!("not replayed: {} more", self.unreplayable - self.named.len() as u64));
        }
        if self.interrupted {
            remark(self.interrupted_remark());
        }
        Ok(())
    }

    fn interrupted_remark(&self) -> &'static str {
        match (&self.group, self.dry_run) {
            (Some(_), false) => "interrupted: the next replay goes on behind what was confirmed",
            _ => "interrupted: nothing is remembered of this, the next replay begins where this one did",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_replay_goes_on_only_where_something_is_remembered() {
        let group = || Some("g".to_owned());
        let remark = |group, dry_run| Report::new("dead", group, dry_run).interrupted_remark();
        assert!(remark(group(), false).contains("goes on"));
        for other in [remark(None, false), remark(group(), true)] {
            assert!(other.contains("nothing is remembered"), "{other}");
        }
    }

    #[test]
    fn a_report_is_whole_without_what_is_left() {
        let mut report = Report::new("dead", Some("g".to_owned()), false);
        assert_eq!(report.left_line().unwrap(), "how many letters are left is not known (group g)");
        report.left = Some(1);
        assert_eq!(report.left_line().unwrap(), "1 letters are left for the next replay (group g)");
        report.group = None;
        assert_eq!(report.left_line(), None, "nothing is remembered");
    }
}
