//! What a plugin may use. Every number has a ceiling, so that a pipeline cannot ask for the whole machine.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::stage::PARALLELISM_MAX;

/// Largest component that is accepted. Interpreters of scripting languages take some tens of megabytes.
pub const COMPONENT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Tasks of all stages of a node together: each is a thread and a member of a group.
pub const TASKS_MAX: u32 = 1024;
/// Live instances of plugins of all stages of a node together.
pub const INSTANCES_MAX: u32 = 2048;
/// What an operator may allow one plugin at most; the pool of linear memories is laid out for it.
pub const MEMORY_BYTES_CEILING: u64 = 1024 * 1024 * 1024;
/// A plugin with less than one page of memory cannot hold a batch.
pub const MEMORY_BYTES_FLOOR: u64 = 64 * 1024;
const TIMEOUT_MS_CEILING: u64 = 10 * 60 * 1000;
/// Whoever checks or applies a pipeline waits until its plugins have started, and so do others who want to.
const INIT_TIMEOUT_MS_CEILING: u64 = 30 * 1000;
const OUTPUT_BYTES_CEILING: u32 = 256 * 1024 * 1024;
const OUTPUTS_PER_RECORD_CEILING: u32 = 100_000;
/// Each thread of a part of a pipeline takes one core at most: this is no limit.
const CPU_PERCENT_CEILING: u32 = 100 * PARALLELISM_MAX;
const HANDLES_CEILING: u32 = 100_000;
/// The pool of tables is laid out for it.
pub const TABLE_ELEMENTS_CEILING: u32 = 100_000;
const LOG_LINES_PER_SECOND_CEILING: u32 = 10_000;
/// What a node has for all plugins together.
pub const HTTP_REQUESTS_CEILING: u32 = 64;
/// Outputs that a call may return whatever the size of its batch.
pub const OUTPUTS_BASE: usize = 1024;
/// Outputs of one call beyond which the fan-out no longer counts: a plugin may still keep every record of a larger
/// batch.
pub const OUTPUTS_CEILING: usize = 1_000_000;
/// Longest text that is kept of a plugin's reason or message.
pub const REASON_BYTES_MAX: usize = 1024;

/// One plugin's limits, as a pipeline states them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PluginLimits {
    /// Linear memory of one instance, all its modules together.
    pub memory_bytes_max: u64,
    /// One call of `transform`: what it computes and waits for its host, without what it waits for a core.
    pub call_timeout_ms: u64,
    /// Instantiation and `init`, likewise.
    pub init_timeout_ms: u64,
    /// What one call may return.
    pub output_bytes_max: u32,
    /// Outputs of one call: this for each input record, and [`OUTPUTS_BASE`].
    pub outputs_per_record_max: u32,
    /// Processor time over time, in percent of one core: of all instances of a version in a part of a pipeline together,
    /// on each node. What a call takes beyond it is paid for afterwards: the plugin waits before the next one.
    pub cpu_percent_max: u32,
    /// Handles to resources that an instance holds.
    pub handles_max: u32,
    /// Elements of each table of an instance.
    pub table_elements_max: u32,
    /// Lines of the log of one instance in the long run, and twice as many at once; what is more is counted.
    pub log_lines_per_second_max: u32,
    /// HTTP requests at a time of all instances together; more wait.
    pub http_requests_max: u32,
}

impl Default for PluginLimits {
    fn default() -> Self {
        Self {
            memory_bytes_max: 64 * 1024 * 1024,
            call_timeout_ms: 1000,
            init_timeout_ms: 5000,
            output_bytes_max: 32 * 1024 * 1024,
            outputs_per_record_max: 64,
            cpu_percent_max: CPU_PERCENT_CEILING,
            handles_max: 1000,
            table_elements_max: TABLE_ELEMENTS_CEILING,
            log_lines_per_second_max: 100,
            http_requests_max: 16,
        }
    }
}

/// A limit outside of what the runtime supports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {value}, but must be between {min} and {max}")]
pub struct LimitError {
    pub name: &'static str,
    pub value: u64,
    pub min: u64,
    pub max: u64,
}

impl PluginLimits {
    /// Every limit is within its floor and ceiling.
    pub fn validate(&self) -> Result<(), LimitError> {
        let check = |name, value, min, max| {
            if (min..=max).contains(&value) { Ok(()) } else { Err(LimitError { name, value, min, max }) }
        };
        check("memory_bytes_max", self.memory_bytes_max, MEMORY_BYTES_FLOOR, MEMORY_BYTES_CEILING)?;
        check("call_timeout_ms", self.call_timeout_ms, 1, TIMEOUT_MS_CEILING)?;
        check("init_timeout_ms", self.init_timeout_ms, 1, INIT_TIMEOUT_MS_CEILING)?;
        check("output_bytes_max", self.output_bytes_max.into(), 1024, OUTPUT_BYTES_CEILING.into())?;
        let outputs = self.outputs_per_record_max.into();
        check("outputs_per_record_max", outputs, 1, OUTPUTS_PER_RECORD_CEILING.into())?;
        check("cpu_percent_max", self.cpu_percent_max.into(), 1, CPU_PERCENT_CEILING.into())?;
        check("handles_max", self.handles_max.into(), 1, HANDLES_CEILING.into())?;
        let elements = self.table_elements_max.into();
        check("table_elements_max", elements, 1, TABLE_ELEMENTS_CEILING.into())?;
        let lines = self.log_lines_per_second_max.into();
        check("log_lines_per_second_max", lines, 1, LOG_LINES_PER_SECOND_CEILING.into())?;
        check("http_requests_max", self.http_requests_max.into(), 1, HTTP_REQUESTS_CEILING.into())
    }

    /// These limits with some of them changed, by their names.
    pub fn changed(&self, changes: &serde_json::Map<String, serde_json::Value>) -> Result<Self, String> {
        let mut all = serde_json::to_value(self).map_err(|error| error.to_string())?;
        for (name, value) in changes {
            all[name] = value.clone();
        }
        let changed: Self = serde_json::from_value(all).map_err(|error| error.to_string())?;
        changed.validate().map_err(|error| error.to_string())?;
        Ok(changed)
    }

    pub(crate) fn call_timeout(&self) -> Duration {
        Duration::from_millis(self.call_timeout_ms)
    }

    pub(crate) fn init_timeout(&self) -> Duration {
        Duration::from_millis(self.init_timeout_ms)
    }

    /// How many outputs a call with so many input records may return.
    pub fn outputs_max(&self, record_count: usize) -> usize {
        let fan_out = record_count.saturating_mul(self.outputs_per_record_max as usize);
        fan_out.saturating_add(OUTPUTS_BASE).min(OUTPUTS_CEILING.max(record_count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_the_ceilings() {
        assert_eq!(PluginLimits::default().validate(), Ok(()));
    }

    #[test]
    fn fan_out_has_a_ceiling_and_identity_has_none() {
        let limits = PluginLimits::default();
        assert_eq!(limits.outputs_max(10), 10 * 64 + OUTPUTS_BASE);
        assert_eq!(limits.outputs_max(100_000), OUTPUTS_CEILING);
        assert_eq!(limits.outputs_max(5_000_000), 5_000_000);
    }

    #[test]
    fn some_limits_are_changed_by_name() {
        let limits = PluginLimits { call_timeout_ms: 7, ..PluginLimits::default() };
        let change = |json: serde_json::Value| limits.changed(json.as_object().unwrap());
        let changed = change(serde_json::json!({"memory_bytes_max": 1_048_576})).unwrap();
        assert_eq!(changed, PluginLimits { memory_bytes_max: 1_048_576, ..limits.clone() });
        let refused = change(serde_json::json!({"memory": 1})).unwrap_err();
        assert!(refused.contains("unknown field `memory`, expected one of `memory_bytes_max`"), "{refused}");
        let refused = change(serde_json::json!({"call_timeout_ms": 0})).unwrap_err();
        assert!(refused.contains("call_timeout_ms is 0, but must be between 1"), "{refused}");
        assert!(change(serde_json::json!({"call_timeout_ms": "long"})).is_err());
    }

    #[test]
    fn a_limit_beyond_its_ceiling_is_named() {
        let limits = PluginLimits { memory_bytes_max: u64::MAX, ..PluginLimits::default() };
        let error = limits.validate().unwrap_err();
        assert_eq!(error.name, "memory_bytes_max");
        assert_eq!(error.max, MEMORY_BYTES_CEILING);
    }
}
