//! Posts the records of its topics, in batches, to a URL, and commits what the server has taken. A server that is not
//! there, or says that it can't now, is asked again; what it refuses is up to the configuration.

mod event;

use std::time::Duration;

use millstream_sdk::prelude::*;
use millstream_sdk::run::{self, http};
use serde::Deserialize;

const BACKOFF_MIN: Duration = Duration::from_millis(500);
/// Short enough for the consumer group, which gives the partitions to others if it waits for longer.
const BACKOFF_MAX: Duration = Duration::from_secs(20);
/// A server that wants to be left alone for longer is asked all the same.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    url: String,
    /// The secret that is sent as `Authorization: Bearer`.
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    format: Format,
    /// Records of one request.
    #[serde(default = "default_max_records")]
    max_records: u32,
    #[serde(default = "default_timeout_ms")]
    timeout_ms: u64,
    /// So many times a batch is sent before it counts as refused; for ever where this is not said.
    #[serde(default)]
    attempts: Option<u32>,
    #[serde(default)]
    on_refused: OnRefused,
}

fn default_max_records() -> u32 {
    100
}

fn default_timeout_ms() -> u64 {
    10_000
}

/// How the records of a batch stand in a request.
#[derive(Deserialize, Clone, Copy, Default, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// An array.
    #[default]
    Json,
    /// One a line.
    Ndjson,
}

/// What becomes of a batch that the server does not take.
#[derive(Deserialize, Clone, Copy, Default)]
#[serde(rename_all = "lowercase")]
enum OnRefused {
    /// A person has to look.
    #[default]
    Stop,
    Skip,
}

/// What a server made of a batch.
enum Sent {
    Taken,
    Refused(String),
    Later { reason: String, after: Option<Duration> },
}

#[sink]
fn webhook(sink: &mut Sink, config: &Config) -> Result<()> {
    let token = config.token.as_deref().map(run::secret_reference).transpose()?;
    loop {
        let messages = sink.poll(config.max_records, Duration::from_secs(1))?;
        if messages.is_empty() {
            continue;
        }
        if let Some(reason) = deliver(sink, config, token.as_deref(), &messages)? {
            refused(config.on_refused, &messages, &reason)?;
        }
        sink.commit()?;
    }
}

/// Sends a batch until the server takes it, or for what reason it never will.
fn deliver(
    sink: &mut Sink,
    config: &Config,
    token: Option<&str>,
    messages: &[Message],
) -> Result<Option<String>> {
    let body = event::body(messages, config.format == Format::Ndjson);
    let mut backoff = BACKOFF_MIN;
    for attempt in 1_u32.. {
        match post(config, token, &body)? {
            Sent::Taken => {
                metrics::counter("delivered", messages.len() as u64)?;
                return Ok(None);
            }
            Sent::Refused(reason) => return Ok(Some(reason)),
            Sent::Later { reason, after } => {
                metrics::counter("retries", 1)?;
                if config.attempts.is_some_and(|attempts| attempt >= attempts) {
                    return Ok(Some(format!("{reason}, {attempt} times")));
                }
                let wait = after.map_or(backoff, |after| after.min(RETRY_AFTER_MAX));
                log::warn(format!("{reason}: once more in {wait:?}"));
                sink.sleep(wait)?;
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
    Ok(Some("it was sent often enough".to_owned()))
}

fn post(config: &Config, token: Option<&str>, body: &str) -> Result<Sent> {
    let content_type = match config.format {
        Format::Json => "application/json",
        Format::Ndjson => "application/x-ndjson",
    };
    let mut request = http::Request::post(&config.url)
        .header("Content-Type", content_type)
        .timeout(Duration::from_millis(config.timeout_ms))
        .body(body);
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let response = match request.send() {
        Ok(response) => response,
        Err(Error::Retry(reason)) => return Ok(Sent::Later { reason, after: None }),
        // Not granted, for instance: another batch would fare no better.
        Err(error) => return Err(error),
    };
    let reason = format!("the server answers {}", response.status());
    Ok(match response.status() {
        _ if response.is_success() => Sent::Taken,
        _ if response.is_retriable() => Sent::Later { reason, after: response.retry_after() },
        _ => Sent::Refused(reason),
    })
}

fn refused(on_refused: OnRefused, messages: &[Message], reason: &str) -> Result<()> {
    metrics::counter("refused", messages.len() as u64)?;
    let Message { topic, partition, offset, .. } = &messages[0];
    let said = format!("{} records from {topic}-{partition} at {offset} on: {reason}", messages.len());
    match on_refused {
        OnRefused::Stop => Err(Error::stop(said)),
        OnRefused::Skip => {
            log::warn(format!("skipped {said}"));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
