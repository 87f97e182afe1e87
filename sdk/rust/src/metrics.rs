//! Numbers for the node's `/metrics`, where they carry the names of the pipeline and the plugin.
//!
//! A name has 1 to 100 letters, digits, `_`, `-` and `.`, and a plugin at most 100 of them. Anything else is an error,
//! and so is a name that is another kind of number already.

use crate::Result;
use crate::run::host;

/// Adds to a counter: `millstream_plugin_counter_total{pipeline,plugin,name}`.
pub fn counter(name: &str, by: u64) -> Result<()> {
    host::counter(name, by)
}

/// Sets a gauge: `millstream_plugin_gauge`.
pub fn gauge(name: &str, value: f64) -> Result<()> {
    host::gauge(name, value)
}

/// Enters a value into a histogram, whose buckets end at 0.0001, 0.0003, 0.001 and so on up to 10,000:
/// `millstream_plugin_histogram`.
pub fn histogram(name: &str, value: f64) -> Result<()> {
    host::histogram(name, value)
}
