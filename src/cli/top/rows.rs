//! From two answers of a node to what is shown: a row for each stage, and below it one for each of its plugins.

use serde::Serialize;

use super::status::{Plugin, Stage, Status};

/// What one frame shows.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Rows {
    pub(super) node: String,
    /// What the rates are of; none in the first frame.
    pub(super) seconds: Option<f64>,
    pub(super) rows: Vec<Row>,
    /// Pipelines that could not be started.
    pub(super) not_running: Vec<String>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Row {
    pub(super) pipeline: String,
    pub(super) stage: String,
    /// None in the row of the stage itself.
    pub(super) plugin: Option<String>,
    /// `stream`, `ingest` or `view`.
    pub(super) position: String,
    pub(super) state: Option<String>,
    /// Here and below: none where nothing was counted twice.
    pub(super) records_in_per_s: Option<f64>,
    pub(super) records_out_per_s: Option<f64>,
    pub(super) bytes_in_per_s: Option<f64>,
    pub(super) rejected: Option<u64>,
    pub(super) errors: u64,
    /// Ingests and views are never behind.
    pub(super) lag: Option<u64>,
    /// Of one processor.
    pub(super) cpu_share: Option<f64>,
    /// The plugin has waited because of its `cpu_percent_max`.
    pub(super) is_throttled: bool,
    pub(super) memory_bytes: u64,
    /// None if the plugin was never called.
    pub(super) call_us_p50: Option<u64>,
    pub(super) call_us_p99: Option<u64>,
}

impl Rows {
    /// `before` is the answer so many seconds before `now`.
    pub(super) fn new(before: Option<(&Status, f64)>, now: &Status) -> Self {
        let mut rows = Vec::new();
        for stage in &now.stages {
            let same = |other: &&Stage| (&other.pipeline, &other.stage) == (&stage.pipeline, &stage.stage);
            let rates = Rates {
                before: before.and_then(|(before, _)| before.stages.iter().find(same)),
                seconds: before.map_or(0.0, |(_, seconds)| seconds),
            };
            rows.push(rates.stage(stage));
            rows.extend(stage.plugins.iter().map(|plugin| rates.plugin(stage, plugin)));
        }
        let Status { node_id, version, kafka, .. } = now;
        Self {
            node: format!("node {node_id}, version {version}, Kafka clients on {kafka}"),
            seconds: before.map(|(_, seconds)| seconds),
            rows,
            not_running: now.not_running.iter().map(|pipeline| pipeline.pipeline.clone()).collect(),
        }
    }
}

/// A stage as it was before.
struct Rates<'a> {
    before: Option<&'a Stage>,
    seconds: f64,
}

impl Rates<'_> {
    fn stage(&self, stage: &Stage) -> Row {
        let rate = |count: fn(&Stage) -> u64| self.rate(self.before.map(count), count(stage));
        let cpu = |stage: &Stage| stage.plugins.iter().map(|plugin| plugin.usage.cpu_us).sum();
        Row {
            pipeline: stage.pipeline.clone(),
            stage: stage.stage.clone(),
            position: stage.position.clone(),
            state: Some(stage.state.clone()),
            records_in_per_s: rate(|stage| stage.records_in),
            records_out_per_s: rate(|stage| stage.records_out),
            bytes_in_per_s: rate(|stage| stage.bytes_in),
            rejected: Some(stage.records_rejected),
            errors: stage.errors,
            lag: (stage.position == "stream").then_some(stage.lag),
            cpu_share: self.share(self.before.map(cpu), cpu(stage)),
            memory_bytes: stage.plugins.iter().map(|plugin| plugin.usage.memory_bytes).sum(),
            ..Row::default()
        }
    }

    fn plugin(&self, stage: &Stage, plugin: &Plugin) -> Row {
        let before = self.before.and_then(|stage| stage.plugins.iter().find(|b| b.name == plugin.name));
        let rate = |count: fn(&Plugin) -> u64| self.rate(before.map(count), count(plugin));
        let usage = &plugin.usage;
        let version = match plugin.number {
            0 => plugin.version.clone(),
            number => format!("v{number}"),
        };
        let called = |us: u64| (usage.calls > 0).then_some(us);
        Row {
            pipeline: stage.pipeline.clone(),
            stage: stage.stage.clone(),
            plugin: Some(format!("{}@{version}", plugin.name)),
            position: stage.position.clone(),
            records_in_per_s: rate(|plugin| plugin.usage.records_in),
            records_out_per_s: rate(|plugin| plugin.usage.records_out),
            errors: usage.failed_calls,
            cpu_share: self.share(before.map(|plugin| plugin.usage.cpu_us), usage.cpu_us),
            is_throttled: before.is_some_and(|plugin| plugin.usage.throttled_us < usage.throttled_us),
            memory_bytes: usage.memory_bytes,
            call_us_p50: called(usage.call_us_p50),
            call_us_p99: called(usage.call_us_p99),
            ..Row::default()
        }
    }

    /// For a second. None without a count before, or if it was begun anew since then.
    #[expect(clippy::cast_precision_loss, reason = "a few digits are shown")]
    fn rate(&self, before: Option<u64>, now: u64) -> Option<f64> {
        let more = now.checked_sub(before?)?;
        (self.seconds > 0.0).then(|| more as f64 / self.seconds)
    }

    /// From microseconds to the share of a processor.
    fn share(&self, before: Option<u64>, now: u64) -> Option<f64> {
        self.rate(before, now).map(|us| us / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(records: u64, cpu_us: u64) -> Status {
        let usage = json!({
            "calls": 4, "failed_calls": 1, "records_in": records * 2, "records_out": records, "cpu_us": cpu_us,
            "memory_bytes": 65_536, "throttled_us": cpu_us / 10, "call_us_p50": 20, "call_us_p99": 90,
        });
        let status = json!({
            "node_id": 1, "version": "1.2.3", "kafka": "k:1", "what comes later": true,
            "not_running": [{"pipeline": "broken", "problems": []}],
            "stages": [{
                "pipeline": "p", "stage": "s", "position": "stream", "state": "running", "records_in": records * 2,
                "records_out": records, "records_rejected": 3, "bytes_in": records * 100, "errors": 5, "lag": 7,
                "plugins": [{"name": "a", "number": 2, "version": "0f1e", "usage": usage}],
            }],
        });
        serde_json::from_value(status).unwrap()
    }

    #[test]
    fn rates_are_differences_between_two_answers() {
        let rows = Rows::new(Some((&status(100, 1_000_000), 2.0)), &status(300, 1_500_000));
        assert_eq!(rows.not_running, ["broken"]);
        let [stage, plugin] = &rows.rows[..] else { panic!("a stage and its plugin: {rows:?}") };
        assert_eq!((stage.records_in_per_s, stage.records_out_per_s), (Some(200.0), Some(100.0)));
        assert_eq!((stage.bytes_in_per_s, stage.cpu_share), (Some(10_000.0), Some(0.25)));
        assert_eq!((stage.rejected, stage.errors, stage.lag), (Some(3), 5, Some(7)));
        assert_eq!(plugin.plugin.as_deref(), Some("a@v2"));
        assert_eq!((plugin.records_in_per_s, plugin.records_out_per_s), (Some(200.0), Some(100.0)));
        assert_eq!((plugin.errors, plugin.cpu_share, plugin.memory_bytes), (1, Some(0.25), 65_536));
        assert_eq!((plugin.call_us_p50, plugin.call_us_p99), (Some(20), Some(90)));
        assert!(plugin.is_throttled && !stage.is_throttled);
        let rows = Rows::new(Some((&status(100, 1_000_000), 2.0)), &status(300, 1_000_000));
        assert!(!rows.rows[1].is_throttled, "it was before, and is no more");
    }

    #[test]
    fn what_was_not_counted_twice_has_no_rate() {
        let now = status(100, 1000);
        // There is nothing before; the stage is new; it was started again.
        for before in [None, Some((&Status::default(), 1.0)), Some((&status(200, 2000), 1.0))] {
            let rows = Rows::new(before, &now);
            let rates = |row: &Row| (row.records_in_per_s, row.records_out_per_s, row.cpu_share);
            assert!(rows.rows.iter().all(|row| rates(row) == (None, None, None)), "{rows:?}");
        }
    }

    #[test]
    fn an_older_node_is_understood() {
        let status: Status =
            serde_json::from_value(json!({"stages": [{"plugins": [{"name": "a"}]}]})).unwrap();
        let rows = Rows::new(None, &status);
        assert_eq!((rows.rows.len(), rows.rows[1].call_us_p50), (2, None));
    }
}
