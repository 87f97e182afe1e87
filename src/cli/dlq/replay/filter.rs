//! Which letters are replayed.

use clap::Args;

use crate::cli::dlq::letter::Letter;
use crate::cli::position::Position;

/// All of it must hold. Without any, a replay goes on where the last one ended.
#[derive(Debug, Default, Args)]
pub(crate) struct Filter {
    /// Letters of this partition
    #[arg(long, short, value_name = "P")]
    pub(super) partition: Option<i32>,

    /// The letter at this offset
    #[arg(long, short, value_name = "O", requires = "partition", conflicts_with = "from")]
    pub(super) offset: Option<i64>,

    /// Letters from there on: beginning, an offset, or @TIME (ms since 1970, or RFC 3339)
    #[arg(long, value_name = "POSITION")]
    pub(super) from: Option<Position>,

    /// Letters that this plugin rejected, whatever its version
    #[arg(long, value_name = "NAME")]
    plugin: Option<String>,

    /// Letters of this stage, as STAGE or PIPELINE.STAGE
    #[arg(long, value_name = "STAGE")]
    stage: Option<String>,

    /// Letters whose reason contains this
    #[arg(long, value_name = "TEXT")]
    reason_contains: Option<String>,
}

impl Filter {
    pub(super) fn is_empty(&self) -> bool {
        let Self { partition, offset, from, plugin, stage, reason_contains } = self;
        partition.is_none()
            && offset.is_none()
            && from.is_none()
            && plugin.is_none()
            && stage.is_none()
            && reason_contains.is_none()
    }

    /// Whether a letter of the partitions and offsets in question is one of those. What is no letter is for whoever
    /// takes all.
    pub(super) fn matches(&self, letter: &Letter) -> bool {
        let Some(error) = &letter.error else {
            return self.plugin.is_none() && self.stage.is_none() && self.reason_contains.is_none();
        };
        let is_stage = |stage: &str| {
            error.stage == stage
                || error.stage.strip_suffix(stage).is_some_and(|pipeline| pipeline.ends_with('.'))
        };
        self.plugin.as_ref().is_none_or(|plugin| error.plugin.as_ref() == Some(plugin))
            && self.stage.as_deref().is_none_or(is_stage)
            && self.reason_contains.as_ref().is_none_or(|text| error.reason.contains(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::dlq::letter::tests::letter;

    #[test]
    fn each_condition_must_hold() {
        let some = |text: &str| Some(text.to_owned());
        let check = |plugin: Option<&str>, stage: Option<&str>, reason: Option<&str>, expected: bool| {
            let filter = Filter {
                plugin: plugin.and_then(some),
                stage: stage.and_then(some),
                reason_contains: reason.and_then(some),
                ..Filter::default()
            };
            assert_eq!(filter.matches(&letter("not JSON")), expected, "{filter:?}");
        };
        check(None, None, None, true);
        check(Some("a@b"), Some("p.s"), Some("JSON"), true);
        check(None, Some("s"), None, true);
        check(None, Some("p"), None, false);
        check(None, Some(".s"), None, false);
        check(Some("a"), None, None, false);
        check(Some("a@b"), None, Some("json"), false);
        let no_letter = Letter { error: None, ..letter("") };
        assert!(Filter::default().matches(&no_letter));
        assert!(!Filter { stage: some("s"), ..Filter::default() }.matches(&no_letter));
    }

    #[test]
    fn a_filter_is_one_as_soon_as_it_says_something() {
        assert!(Filter::default().is_empty());
        assert!(!Filter { partition: Some(0), ..Filter::default() }.is_empty());
        assert!(!Filter { from: Some(Position::Beginning), ..Filter::default() }.is_empty());
    }
}
