//! What became of the records that were sent.

use std::sync::{Mutex, PoisonError};

use rdkafka::producer::DeliveryResult;
use serde::Serialize;

use crate::cli::delivery;
use crate::cli::failure::{Failure, explain};
use crate::cli::output::{Output, human_bytes};

/// Counted by the client as delivery reports arrive.
#[derive(Debug, Default)]
pub(crate) struct Deliveries(Mutex<Counts>);

#[derive(Clone, Debug, Default)]
struct Counts {
    records: u64,
    bytes: u64,
    failed: u64,
    first_error: Option<String>,
}

impl delivery::Deliveries for Deliveries {
    /// The bytes of key and value.
    type Sent = usize;

    fn report(&self, result: &DeliveryResult<'_>, bytes: usize) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(_) => {
                counts.records += 1;
                counts.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
            }
            Err((error, _)) => {
                counts.failed += 1;
                counts.first_error.get_or_insert_with(|| {
                    error.rdkafka_error_code().map_or_else(|| error.to_string(), explain)
                });
            }
        }
    }
}

#[derive(Serialize)]
pub(super) struct Summary<'a> {
    topic: &'a str,
    records: u64,
    bytes: u64,
    pub(super) failed: u64,
    seconds: f64,
    /// Whether the cluster said that it has the records.
    pub(super) confirmed: bool,
    #[serde(rename = "error")]
    pub(super) first_error: Option<String>,
}

impl<'a> Summary<'a> {
    pub(super) fn new(topic: &'a str, deliveries: &Deliveries, seconds: f64) -> Self {
        let counts = deliveries.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Self {
            topic,
            records: counts.records,
            bytes: counts.bytes,
            failed: counts.failed,
            seconds,
            confirmed: true,
            first_error: counts.first_error,
        }
    }

    pub(super) fn print(&self, output: &mut Output) -> Result<(), Failure> {
        if output.json() {
            return output.document(self);
        }
        let verb = if self.confirmed { "delivered" } else { "sent, unconfirmed," };
        output.line(format_args!(
            "{verb} {} record(s), {}, to {} in {:.1} s",
            self.records,
            human_bytes(self.bytes),
            self.topic,
            self.seconds
        ))
    }
}
