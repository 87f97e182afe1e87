//! `millstream bench produce`.

use std::sync::Arc;

use clap::Args;

use super::load::{Deliveries, Load, producer, rate};
use super::payload::Payload;
use super::report::{LoadSettings, Report};
use super::topic::with_topic;
use super::{LoadArgs, TopicArgs};
use crate::cli::clock::Stopwatch;
use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupt;
use crate::cli::output::Output;
use crate::cli::progress;

#[derive(Debug, Args)]
pub(crate) struct ProduceArgs {
    #[command(flatten)]
    topic: TopicArgs,

    #[command(flatten)]
    load: LoadArgs,

    /// Records per second; without it, as many as the cluster takes
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
}

pub(super) fn run(args: &ProduceArgs, output: &mut Output) -> Result<(), Failure> {
    args.load.check_size()?;
    let interrupt = Interrupt::watch().map_err(Failure::Signals)?;
    with_topic(&args.topic, |_, topic| {
        let watch = Stopwatch::start();
        let deliveries = Arc::new(Deliveries::new(watch, 0));
        let producer = producer(&args.topic, &args.load, Arc::clone(&deliveries))?;
        let payload = Payload::new(args.load.size, args.load.shape());
        let load = Load {
            producer: &producer,
            topic: &topic.name,
            args: &args.load,
            payload: &payload,
            rate: args.rate,
            stamp: None,
            watch,
            interrupt: &interrupt,
        };
        let sent = load.send_all(&progress::bar("producing", args.load.records))?;
        let counts = deliveries.counts();
        let seconds = seconds_between(sent.started_nanos, counts.last_nanos);
        let bytes = counts.delivered * args.load.size as u64;
        let mut report = Report::new("produce", &args.topic, topic, (counts.delivered, bytes, seconds));
        report.load = Some(LoadSettings::new(&args.load, args.rate));
        report.failed = counts.failed;
        report.delivery_ms = counts.latencies.percentiles();
        report.sender_late_ms_max = args.rate.map(|_| millis(sent.late_nanos_max));
        report.error = counts
            .first_error
            .as_ref()
            .map(|error| format!("{} record(s) were not delivered: {error}", counts.failed));
        report.print(output)
    })
}

#[expect(clippy::cast_precision_loss, reason = "shown with few digits")]
pub(super) fn seconds_between(start_nanos: u64, end_nanos: u64) -> f64 {
    end_nanos.saturating_sub(start_nanos) as f64 / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "shown with few digits")]
pub(super) fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}
