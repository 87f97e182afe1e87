//! Latencies, gathered in a histogram and reported in milliseconds.

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest latency that is told apart: ten minutes.
const LATENCY_MAX_US: u64 = 600_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

pub(super) struct Latencies {
    micros: Histogram<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Percentiles {
    pub(super) count: u64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
    #[serde(rename = "p99.9")]
    pub(super) p999: f64,
    pub(super) max: f64,
}

impl Latencies {
    pub(super) fn new() -> Self {
        let micros = Histogram::new_with_bounds(1, LATENCY_MAX_US, SIGNIFICANT_DIGITS);
        Self { micros: micros.expect("the bounds are valid") }
    }

    pub(super) fn record_nanos(&mut self, nanos: u64) {
        self.micros.saturating_record(nanos / 1000);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.micros.add(&other.micros).expect("the bounds are the same");
    }

    /// None where nothing was recorded.
    pub(super) fn percentiles(&self) -> Option<Percentiles> {
        if self.micros.is_empty() {
            return None;
        }
        let ms = |micros: u64| f64::from(u32::try_from(micros).unwrap_or(u32::MAX)) / 1000.0;
        let at = |quantile| ms(self.micros.value_at_quantile(quantile));
        Some(Percentiles {
            count: self.micros.len(),
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: ms(self.micros.max()),
        })
    }
}

impl std::fmt::Display for Percentiles {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { p50, p90, p95, p99, p999, max, .. } = self;
        write!(
            formatter,
            "p50 {p50:.3}  p90 {p90:.3}  p95 {p95:.3}  p99 {p99:.3}  p99.9 {p999:.3}  max {max:.3} ms"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Latencies;

    #[test]
    fn percentiles_are_in_milliseconds() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.percentiles(), None);
        for ms in 1..=1000 {
            latencies.record_nanos(ms * 1_000_000);
        }
        let mut merged = Latencies::new();
        merged.merge(&latencies);
        let percentiles = merged.percentiles().unwrap();
        assert_eq!(percentiles.count, 1000);
        let near = |got: f64, expected: f64| (got - expected).abs() <= expected * 0.001;
        assert!(near(percentiles.p50, 500.0), "{percentiles}");
        assert!(near(percentiles.p99, 990.0), "{percentiles}");
        assert!(near(percentiles.max, 1000.0), "{percentiles}");
    }
}
