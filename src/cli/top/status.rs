//! What `millstream top` reads of `GET /v1/status`. What a node does not tell is nothing: it may be an older one.

use serde::Deserialize;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) node_id: i32,
    pub(super) version: String,
    pub(super) kafka: String,
    pub(super) stages: Vec<Stage>,
    pub(super) not_running: Vec<NotRunning>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Stage {
    pub(super) pipeline: String,
    pub(super) stage: String,
    pub(super) position: String,
    pub(super) state: String,
    pub(super) records_in: u64,
    pub(super) records_out: u64,
    pub(super) records_rejected: u64,
    pub(super) bytes_in: u64,
    pub(super) errors: u64,
    pub(super) lag: u64,
    pub(super) plugins: Vec<Plugin>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Plugin {
    pub(super) name: String,
    pub(super) number: u32,
    pub(super) version: String,
    pub(super) usage: Usage,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Usage {
    pub(super) calls: u64,
    pub(super) failed_calls: u64,
    pub(super) records_in: u64,
    pub(super) records_out: u64,
    pub(super) cpu_us: u64,
    pub(super) throttled_us: u64,
    pub(super) memory_bytes: u64,
    pub(super) call_us_p50: u64,
    pub(super) call_us_p99: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct NotRunning {
    pub(super) pipeline: String,
}
