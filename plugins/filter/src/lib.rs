//! Keeps or drops records by a header or by a field of their JSON value.
//!
//! ```yaml
//! config:
//!   field: status     # or `header: NAME`; a dotted path, or a JSON Pointer if it begins with a slash
//!   gt: 399           # all conditions that are given must hold
//!   lt: 500
//!   action: keep      # keep what matches (the default), or drop it
//! ```
//!
//! | condition | holds if the field |
//! | --- | --- |
//! | `equals: V` | is V |
//! | `not_equals: V` | is something else, or is not there |
//! | `in: [V, …]` | is one of them |
//! | `matches: P` | is text that begins with P |
//! | `exists: true` or `false` | is there, or is not |
//! | `gt: N`, `gte: N`, `lt: N`, `lte: N` | is a number, and greater, less, … |
//!
//! A value V is text, a number, a boolean or null. Numbers are compared as numbers (1 is 1.0). The value of a header is
//! text, which is compared with V's text; `gt` and the like read a number in it. A record whose value is null has
//! no fields; one whose value is not JSON is rejected, where a field is asked for.

mod condition;
mod config;
mod field;

use condition::{Condition, Found};
use config::{Action, Config};
use field::Path;
use millstream_sdk::prelude::*;

struct Filter {
    subject: Subject,
    conditions: Vec<Condition>,
    action: Action,
}

/// What the conditions are about.
enum Subject {
    Header(String),
    Field(Path),
}

#[cfg_attr(not(feature = "typed"), transform)]
#[cfg_attr(feature = "typed", transform(typed))]
impl Transform for Filter {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        let (subject, conditions) = config.check().map_err(Error::stop)?;
        Ok(Self { subject, conditions, action: config.action })
    }

    fn record(&mut self, record: Record<'_>, out: &mut Output<'_>) -> Result<()> {
        let found = match (&self.subject, record.value()) {
            (Subject::Header(name), _) => match record.header(name) {
                Some(header) => Found::Header(header.value.map(String::from_utf8_lossy)),
                None => Found::Nothing,
            },
            (Subject::Field(_), None) => Found::Nothing,
            (Subject::Field(path), Some(value)) => match path.find(value) {
                Ok(Some(field)) => Found::Field(field),
                Ok(None) => Found::Nothing,
                Err(error) => return Err(Error::reject(format!("the value is not JSON: {error}"))),
            },
        };
        let is_match = self.conditions.iter().all(|condition| condition.holds(&found));
        if is_match == (self.action == Action::Keep) {
            out.keep(&record);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
