//! What is wrong with a pipeline file, where, and what to do about it.

use std::fmt;

use serde::Serialize;

use crate::printable::printable;

/// Longest message that is kept.
const MESSAGE_BYTES_MAX: usize = 8 * 1024;

/// Line and column, from 1; 0 if the place is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    pub line: u64,
    pub column: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The pipeline cannot be applied.
    Error,
    /// It can, but probably not as meant.
    Warning,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub severity: Severity,
    pub file: String,
    #[serde(flatten)]
    pub place: Place,
    pub message: String,
    /// What to do.
    pub remedy: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, file, place, message, remedy } = self;
        let severity = match severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{file}:{}:{}: {severity}: {message}", place.line, place.column)?;
        match remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

/// Collects the problems of one file.
#[derive(Debug)]
pub(super) struct Problems {
    file: String,
    pub(super) list: Vec<Problem>,
}

impl Problems {
    pub(super) fn new(file: &str) -> Self {
        Self { file: file.to_owned(), list: Vec::new() }
    }

    pub(super) fn error(&mut self, place: Place, message: impl Into<String>, remedy: Option<String>) {
        self.add(Severity::Error, place, message.into(), remedy);
    }

    pub(super) fn warning(&mut self, place: Place, message: impl Into<String>, remedy: Option<String>) {
        self.add(Severity::Warning, place, message.into(), remedy);
    }

    pub(super) fn error_count(&self) -> usize {
        self.list.iter().filter(|problem| problem.severity == Severity::Error).count()
    }

    fn add(&mut self, severity: Severity, place: Place, message: String, remedy: Option<String>) {
        // Messages quote what components call their parts.
        let message = printable(&message, MESSAGE_BYTES_MAX);
        self.list.push(Problem { severity, file: self.file.clone(), place, message, remedy });
    }

    /// In the order of the file.
    pub(super) fn into_sorted(mut self) -> Vec<Problem> {
        self.list.sort_by_key(|problem| problem.place);
        self.list
    }
}

/// The candidate that `name` is most likely a slip of, as a remedy.
pub(super) fn did_you_mean<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    let near = candidates.map(|candidate| (distance(name, candidate), candidate)).min()?;
    let (distance, candidate) = near;
    (distance <= 1 + candidate.len() / 3).then(|| format!("did you mean {candidate:?}?"))
}

/// Levenshtein's distance. Names come from a file of limited size and are cut, so that it stays quick.
fn distance(a: &str, b: &str) -> usize {
    const COMPARED_MAX: usize = 64;
    let a: Vec<char> = a.chars().take(COMPARED_MAX).collect();
    let b: Vec<char> = b.chars().take(COMPARED_MAX).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let keys = || ["topics", "plugins", "stages"].into_iter();
        assert_eq!(did_you_mean("topcis", keys()).as_deref(), Some("did you mean \"topics\"?"));
        assert_eq!(did_you_mean("stage", keys()).as_deref(), Some("did you mean \"stages\"?"));
        assert_eq!(did_you_mean("colour", keys()), None);
    }
}
