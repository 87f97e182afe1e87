//! What any plugin may call: the log, its configuration, numbers, and WASI.

use serde_json::Value;

use crate::arguments::text;
use crate::bindings::millstream::plugin::{config, log, metrics};
use crate::{Answer, wasi};

pub fn make(name: &str, call: &Value) -> Option<Answer> {
    let done = |()| Value::Null;
    Some(match name {
        "config.get" => Ok(serde_json::from_str(&config::get()).unwrap_or_default()),
        "log.log" => {
            log::log(level(&call["level"]), &text(&call["message"]));
            Ok(Value::Null)
        }
        "metrics.counter" => {
            let by = call["by"].as_u64().unwrap_or_default();
            metrics::counter(&text(&call["name"]), by).map(done).map_err(metric_error)
        }
        "metrics.gauge" => metrics::gauge(&text(&call["name"]), number(call)).map(done).map_err(metric_error),
        "metrics.histogram" => {
            metrics::histogram(&text(&call["name"]), number(call)).map(done).map_err(metric_error)
        }
        name if name.starts_with("wasi.") => wasi::make(name),
        _ => return None,
    })
}

fn level(value: &Value) -> log::Level {
    match value.as_str() {
        Some("trace") => log::Level::Trace,
        Some("debug") => log::Level::Debug,
        Some("warn") => log::Level::Warn,
        Some("error") => log::Level::Error,
        _ => log::Level::Info,
    }
}

/// JSON has no numbers that are none.
fn number(call: &Value) -> f64 {
    if call["value"] == "nan" { f64::NAN } else { call["value"].as_f64().unwrap_or_default() }
}

fn metric_error(error: metrics::Error) -> (&'static str, String) {
    match error {
        metrics::Error::Invalid(says) => ("invalid", says),
    }
}
