//! A progress bar on stderr, where that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// Records between two looks at the bar.
pub(super) const RECORDS_PER_STEP: u64 = 1024;

/// A bar for `records` records; invisible where stderr is no terminal.
pub(super) fn bar(verb: &'static str, records: u64) -> ProgressBar {
    let bar = ProgressBar::new(records);
    let style = ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}");
    bar.set_style(style.expect("the template is valid"));
    bar.set_message(verb);
    bar
}
