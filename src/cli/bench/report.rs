//! What a bench found, for people and as JSON.

use serde::Serialize;

use super::percentiles::Percentiles;
use super::{LoadArgs, TopicArgs};
use crate::cli::failure::Failure;
use crate::cli::output::{Output, human_bytes};

#[derive(Serialize)]
pub(super) struct Report<'a> {
    pub(super) bench: &'static str,
    bootstrap: &'a str,
    topic: &'a str,
    partitions: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) load: Option<LoadSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) consumers: Option<usize>,
    /// Records that arrived, and the bytes of their values.
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) failed: u64,
    pub(super) seconds: f64,
    records_per_second: f64,
    megabytes_per_second: f64,
    /// From the start until the first record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_record_ms: Option<f64>,
    /// From a record's due time until it was acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) delivery_ms: Option<Percentiles>,
    /// From a record's due time until a consumer had it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) end_to_end_ms: Option<Percentiles>,
    /// How late the sender itself was at worst: more than a few milliseconds mean that this machine, not the
    /// cluster, was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sender_late_ms_max: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

#[derive(Serialize)]
pub(super) struct LoadSettings {
    records: u64,
    size: usize,
    rate: Option<f64>,
    acks: &'static str,
    compression: &'static str,
    linger_ms: f64,
    batch_bytes: u64,
    keys: bool,
    idempotent: bool,
}

impl LoadSettings {
    pub(super) fn new(load: &LoadArgs, rate: Option<f64>) -> Self {
        Self {
            records: load.records,
            size: load.size,
            rate,
            acks: load.delivery.acks.setting(),
            compression: load.delivery.compression.setting(),
            linger_ms: load.linger_ms,
            batch_bytes: load.batch_bytes,
            keys: !load.no_key,
            idempotent: load.idempotent,
        }
    }
}

impl<'a> Report<'a> {
    /// A report of `records` records with values of `bytes` bytes in all.
    #[expect(clippy::cast_precision_loss, reason = "rates are shown with few digits")]
    pub(super) fn new(
        bench: &'static str,
        args: &'a TopicArgs,
        topic: &'a super::topic::BenchTopic,
        (records, bytes, seconds): (u64, u64, f64),
    ) -> Self {
        let per_second = |amount: u64| if seconds > 0.0 { amount as f64 / seconds } else { 0.0 };
        Self {
            bench,
            bootstrap: &args.connection.bootstrap,
            topic: &topic.name,
            partitions: topic.partitions.len(),
            load: None,
            consumers: None,
            records,
            bytes,
            failed: 0,
            seconds,
            records_per_second: per_second(records),
            megabytes_per_second: per_second(bytes) / 1e6,
            first_record_ms: None,
            delivery_ms: None,
            end_to_end_ms: None,
            sender_late_ms_max: None,
            error: None,
        }
    }

    /// Prints the report, and fails where not every record made it.
    pub(super) fn print(&self, output: &mut Output) -> Result<(), Failure> {
        if output.json() {
            output.document(self)?;
        } else {
            self.print_for_people(output)?;
        }
        match &self.error {
            None => Ok(()),
            Some(error) => Err(Failure::Incomplete(error.clone())),
        }
    }

    fn print_for_people(&self, output: &mut Output) -> Result<(), Failure> {
        output.line(format_args!(
            "{}: {} records, {} over {} partition(s) in {:.2} s",
            self.bench,
            self.records,
            human_bytes(self.bytes),
            self.partitions,
            self.seconds
        ))?;
        output.line(format_args!(
            "throughput  {:.0} records/s  {:.1} MB/s",
            self.records_per_second, self.megabytes_per_second
        ))?;
        if let Some(ms) = self.first_record_ms {
            output.line(format_args!("first record after {ms:.1} ms"))?;
        }
        if let Some(percentiles) = &self.delivery_ms {
            output.line(format_args!("delivery    {percentiles}"))?;
        }
        if let Some(percentiles) = &self.end_to_end_ms {
            output.line(format_args!("end to end  {percentiles}"))?;
        }
        if let Some(late) = self.sender_late_ms_max {
            output.line(format_args!("the sender was late by {late:.3} ms at most"))?;
        }
        Ok(())
    }
}
