//! Receives the delivery reports of a command's producer.

use std::sync::Arc;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::util::IntoOpaque;

use super::connection::log_to_tracing;

/// What became of the records that were sent, counted as the reports arrive.
pub(crate) trait Deliveries: Send + Sync + 'static {
    /// What is remembered of a record until then.
    type Sent: IntoOpaque;

    fn report(&self, result: &DeliveryResult<'_>, sent: Self::Sent);
}

/// See the module.
pub(crate) struct DeliveryContext<D>(pub(crate) Arc<D>);

impl<D: Send + Sync + 'static> ClientContext for DeliveryContext<D> {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_to_tracing(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(target: "librdkafka", %error, "{reason}");
    }
}

impl<D: Deliveries> ProducerContext for DeliveryContext<D> {
    type DeliveryOpaque = D::Sent;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: D::Sent) {
        self.0.report(result, sent);
    }
}
