//! Asks a URL again and again, and produces what it answers: the elements of a JSON array, or lines. What is new since
//! the last time is told by the server (ETag, Last-Modified), or by a cursor that it is sent.

mod split;

use std::time::Duration;

use millstream_sdk::prelude::*;
use millstream_sdk::run::{self, http};
use serde::{Deserialize, Serialize};

use split::{Found, Split, split};

/// A server that wants to be left alone for longer is asked all the same.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// So many answers in a row that nothing can be made of: a server may fail for a while and not say so in its status.
const BAD_ANSWERS_MAX: u32 = 5;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    url: String,
    #[serde(default = "default_interval_ms")]
    interval_ms: u64,
    /// The secret that is sent as `Authorization: Bearer`.
    #[serde(default)]
    token: Option<String>,
    #[serde(default = "default_timeout_ms")]
    timeout_ms: u64,
    /// Bytes of an answer.
    #[serde(default = "default_max_bytes")]
    max_bytes: usize,
    #[serde(default)]
    split: Split,
    /// Where the array lies in the answer, as a JSON pointer.
    #[serde(default)]
    items: String,
    /// Where the key of a record lies in an element, as a JSON pointer.
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    cursor: Option<Cursor>,
}

/// A value of the last element, sent with the next request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cursor {
    /// The name of the parameter in the URL's query.
    parameter: String,
    /// Where the value lies in an element, as a JSON pointer.
    pointer: String,
}

fn default_interval_ms() -> u64 {
    60_000
}

fn default_timeout_ms() -> u64 {
    30_000
}

fn default_max_bytes() -> usize {
    8 * 1024 * 1024
}

/// What is known of the last answer.
#[derive(Serialize, Deserialize, Default, Debug, PartialEq)]
struct Position {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_modified: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

#[source]
fn http_poll(source: &mut Source, config: &Config) -> Result<()> {
    let token = config.token.as_deref().map(run::secret_reference).transpose()?;
    let mut position: Position = match source.load_position()? {
        Some(position) => serde_json::from_slice(&position)
            .map_err(|_| Error::stop("the saved position is none of this plugin's"))?,
        None => Position::default(),
    };
    let mut bad_answers = 0;
    loop {
        let mut wait = Duration::from_millis(config.interval_ms);
        match request(config, token.as_deref(), &position).send() {
            Ok(response) if response.status() == 304 => {}
            Ok(response) if response.is_retriable() => {
                log::warn(format!("the server answers {}", response.status()));
                wait = wait.max(response.retry_after().unwrap_or_default().min(RETRY_AFTER_MAX));
            }
            // There is nothing, which is no JSON and no record.
            Ok(response) if response.is_success() && response.body().is_empty() => bad_answers = 0,
            Ok(response) => {
                let response = response.success()?;
                match records(config, &response) {
                    Ok(records) => {
                        produce(source, &mut position, &response, records)?;
                        bad_answers = 0;
                    }
                    Err(reason) => {
                        bad_answers += 1;
                        if bad_answers == BAD_ANSWERS_MAX {
                            return Err(Error::stop(format!("{reason}, {bad_answers} times in a row")));
                        }
                        log::warn(reason);
                    }
                }
            }
            // The next time may go better.
            Err(Error::Retry(reason)) => log::warn(reason),
            Err(error) => return Err(error),
        }
        source.sleep(wait)?;
    }
}

fn request(config: &Config, token: Option<&str>, position: &Position) -> http::Request {
    let mut url = config.url.clone();
    if let (Some(cursor), Some(value)) = (&config.cursor, &position.cursor) {
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str(&format!("{}={}", encoded(&cursor.parameter), encoded(value)));
    }
    let mut request = http::Request::get(url)
        .timeout(Duration::from_millis(config.timeout_ms))
        .body_bytes_max(config.max_bytes);
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    // With a cursor it is another question each time.
    if config.cursor.is_none() {
        if let Some(etag) = &position.etag {
            request = request.header("If-None-Match", etag.as_str());
        }
        if let Some(time) = &position.last_modified {
            request = request.header("If-Modified-Since", time.as_str());
        }
    }
    request
}

fn records<'a>(config: &Config, response: &'a http::Response) -> Result<Vec<Found<'a>>, String> {
    let pointers = split::Pointers {
        items: &config.items,
        key: config.key.as_deref(),
        cursor: config.cursor.as_ref().map(|cursor| cursor.pointer.as_str()),
    };
    split(response.body(), config.split, &pointers)
}

/// Sends the records of an answer, and in the same commit remembers that.
fn produce(
    source: &mut Source,
    position: &mut Position,
    response: &http::Response,
    records: Vec<Found<'_>>,
) -> Result<()> {
    metrics::counter("records", records.len() as u64)?;
    let header = |name| response.header(name).map(str::to_owned);
    let cursor = records.iter().rev().find_map(|record| record.cursor.clone());
    let next = Position {
        etag: header("etag"),
        last_modified: header("last-modified"),
        cursor: cursor.or_else(|| position.cursor.take()),
    };
    for record in records {
        let message = Outgoing::new(record.value);
        source.send(match record.key {
            Some(key) => message.key(key),
            None => message,
        })?;
    }
    *position = next;
    source.save_position(serde_json::to_vec(position)?)
}

fn encoded(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests;
