//! What shows on stderr that something goes on, where that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Records between two looks at the bar.
pub(super) const RECORDS_PER_STEP: u64 = 1024;

/// So often a wait shows that it goes on.
const TICK: Duration = Duration::from_millis(100);

/// A bar for `records` records; invisible where stderr is no terminal.
pub(super) fn bar(verb: &'static str, records: u64) -> ProgressBar {
    let bar = ProgressBar::new(records);
    let style = ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}");
    bar.set_style(style.expect("the template is valid"));
    bar.set_message(verb);
    bar
}

/// A bar for so many bytes that are sent.
pub(super) fn bytes(what: String, bytes: u64) -> ProgressBar {
    let bar = ProgressBar::new(bytes);
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes}");
    bar.set_style(style.expect("the template is valid"));
    bar.set_message(what);
    bar
}

/// Until it is finished: what is waited for, and how long already.
pub(super) fn waiting(what: String) -> ProgressBar {
    let spinner = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}");
    spinner.set_style(style.expect("the template is valid"));
    spinner.set_message(what);
    spinner.enable_steady_tick(TICK);
    spinner
}
