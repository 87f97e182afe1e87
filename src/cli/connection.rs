//! How a command reaches a cluster: the bootstrap address, the client settings, the clients made from them.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use clap::Args;
use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::admin::AdminClient;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, ProducerContext};

use super::failure::Failure;

pub(crate) const DEFAULT_BOOTSTRAP: &str = "127.0.0.1:9092";
const DEFAULT_PORT: u16 = 9092;

/// How long a bootstrap address may take to accept a connection before the next one is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the cluster may take to answer one question; creating thousands of partitions takes seconds.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The options that all Kafka clients of the command line share.
#[derive(Clone, Debug, Args)]
pub(crate) struct Connection {
    /// Where the cluster is; several addresses are separated by commas
    #[arg(long, short, value_name = "HOST:PORT", default_value = DEFAULT_BOOTSTRAP, env = "MILLSTREAM_BOOTSTRAP")]
    pub(crate) bootstrap: String,

    /// A setting of the Kafka client (librdkafka), such as fetch.wait.max.ms=100; may be repeated
    #[arg(long, short = 'X', value_name = "NAME=VALUE", value_parser = name_and_value)]
    client_config: Vec<(String, String)>,
}

impl Connection {
    /// Fails, within seconds and saying why, where none of the bootstrap addresses accepts a connection.
    /// librdkafka would go on trying in the background and report no more than a timeout.
    pub(crate) fn reach(&self) -> Result<(), Failure> {
        let mut reason = "no address given".to_owned();
        for address in self.bootstrap.split(',').map(str::trim).filter(|address| !address.is_empty()) {
            match connect(address) {
                Ok(()) => return Ok(()),
                Err(error) => reason = error,
            }
        }
        Err(Failure::Unreachable { bootstrap: self.bootstrap.clone(), reason })
    }

    /// A client configuration with `settings`; what the user gave on the command line wins.
    fn client_config(&self, settings: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("client.id", "millstream-cli");
        for (name, value) in settings {
            config.set(*name, *value);
        }
        for (name, value) in &self.client_config {
            config.set(name, value);
        }
        let verbose = tracing::enabled!(target: "librdkafka", tracing::Level::DEBUG);
        config.set_log_level(if verbose { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Warning });
        config
    }

    pub(crate) fn admin(&self) -> Result<AdminClient<LogToTracing>, Failure> {
        self.reach()?;
        self.client_config(&[]).create_with_context(LogToTracing).map_err(|error| self.refused(&error))
    }

    pub(crate) fn consumer<C: ConsumerContext>(
        &self,
        settings: &[(&str, &str)],
        context: C,
    ) -> Result<BaseConsumer<C>, Failure> {
        self.reach()?;
        self.client_config(settings).create_with_context(context).map_err(|error| self.refused(&error))
    }

    pub(crate) fn producer<C: ProducerContext>(
        &self,
        settings: &[(&str, &str)],
        context: C,
    ) -> Result<BaseProducer<C>, Failure> {
        self.reach()?;
        self.client_config(settings).create_with_context(context).map_err(|error| self.refused(&error))
    }

    fn refused(&self, error: &KafkaError) -> Failure {
        Failure::kafka(format!("start a client for {}", self.bootstrap), error)
    }
}

/// Hands librdkafka's log lines to `tracing`; by itself it writes them to stderr.
#[derive(Clone, Debug)]
pub(crate) struct LogToTracing;

impl ClientContext for LogToTracing {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_to_tracing(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(target: "librdkafka", %error, "{reason}");
    }
}

impl ConsumerContext for LogToTracing {}

/// See [`LogToTracing`]; for contexts that do more than that.
pub(crate) fn log_to_tracing(level: RDKafkaLogLevel, facility: &str, line: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => tracing::error!(target: "librdkafka", "{facility}: {line}"),
        RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", "{facility}: {line}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "librdkafka", "{facility}: {line}");
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", "{facility}: {line}"),
    }
}

fn connect(address: &str) -> Result<(), String> {
    // librdkafka takes a security protocol in front, as Kafka's own listener settings do.
    let address = address.split_once("://").map_or(address, |(_, address)| address);
    let resolved = address.to_socket_addrs().or_else(|_| (address, DEFAULT_PORT).to_socket_addrs());
    let mut reason = "the host name can't be resolved".to_owned();
    for address in resolved.into_iter().flatten() {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(_) => return Ok(()),
            Err(error) => {
                reason = match error.kind() {
                    std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
                    std::io::ErrorKind::TimedOut => "no answer in time".to_owned(),
                    _ => error.to_string(),
                };
            }
        }
    }
    Err(reason)
}

/// Parses `NAME=VALUE`; the value may hold further equals signs.
pub(crate) fn name_and_value(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::{Connection, name_and_value};
    use crate::cli::failure::Failure;

    fn connection(bootstrap: String) -> Connection {
        Connection { bootstrap, client_config: Vec::new() }
    }

    #[test]
    fn one_reachable_address_is_enough() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = listener.local_addr().unwrap();
        connection(format!("{gone}, PLAINTEXT://{here}")).reach().unwrap();

        let Err(Failure::Unreachable { reason, .. }) = connection(gone.to_string()).reach() else {
            panic!("nobody listens on {gone}")
        };
        assert_eq!(reason, "connection refused");
    }

    #[test]
    fn an_address_that_is_none_is_said_to_be_one() {
        let Err(Failure::Unreachable { reason, .. }) = connection("not a host".into()).reach() else {
            panic!("a name with blanks is no host")
        };
        assert_eq!(reason, "the host name can't be resolved");
    }

    #[test]
    fn settings_are_names_and_values() {
        assert_eq!(name_and_value("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(name_and_value("a="), Ok(("a".into(), String::new())));
        assert!(name_and_value("a").is_err());
        assert!(name_and_value("=b").is_err());
    }
}
