//! What the engine shows to Prometheus, read when it is asked for.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::PluginEngine;

/// Shows `engine` in `registry`.
pub fn register(engine: &Arc<PluginEngine>, registry: &mut Registry) {
    registry.register_collector(Box::new(EngineMetrics(Arc::clone(engine))));
}

struct EngineMetrics(Arc<PluginEngine>);

impl std::fmt::Debug for EngineMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EngineMetrics")
    }
}

impl Collector for EngineMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let memory = ConstGauge::new(i64::try_from(self.0.memory_bytes()).unwrap_or(i64::MAX));
        let help = "Linear memory of all plugins, of plugin.memory.bytes.max";
        let kind = memory.metric_type();
        memory.encode(encoder.encode_descriptor("node_plugin_memory", help, Some(&Unit::Bytes), kind)?)?;

        let waited = ConstCounter::new(self.0.waited_for_cores().as_secs_f64());
        let help = "Time that plugins have waited for one of the cores of plugin.cores.max, all together";
        let kind = waited.metric_type();
        waited.encode(encoder.encode_descriptor("node_plugin_core_wait", help, Some(&Unit::Seconds), kind)?)
    }
}
