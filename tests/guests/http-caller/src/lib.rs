//! A producer that calls a host as its configuration says, and produces what came of it.

use std::time::Duration;

use millstream_sdk::prelude::*;
use millstream_sdk::run::{self, http};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    urls: Vec<String>,
    /// A secret, sent by its reference.
    #[serde(default)]
    secret: Option<String>,
    /// Bytes of the body.
    #[serde(default)]
    body: usize,
    #[serde(default)]
    timeout_ms: Option<u64>,
    /// So many requests at a time to the first of the URLs.
    #[serde(default)]
    flood: usize,
    /// Which names of methods and hosts can be had, and then so many headers at a time.
    #[serde(default)]
    hoard: usize,
    /// Whether to go on for ever.
    #[serde(default)]
    repeat: bool,
}

#[source]
fn http_caller(source: &mut Source, config: &Config) -> Result<()> {
    let reference = config.secret.as_deref().map(run::secret_reference).transpose()?;
    if let Some(reference) = &reference {
        // Whoever reads the log can do nothing with it.
        log::info(format!("the plugin has {reference}"));
    }
    if config.flood > 0 {
        let outcome = flood(&config.urls[0], config.flood);
        source.send(Outgoing::new(outcome))?;
        return source.flush();
    }
    if config.hoard > 0 {
        source.send(Outgoing::new(names()))?;
        source.flush()?;
        source.send(Outgoing::new(hoard(config.hoard)))?;
        return source.flush();
    }
    loop {
        for url in &config.urls {
            let mut request = http::Request::post(url).body(vec![b'x'; config.body]);
            if let Some(reference) = &reference {
                request = request.header("Authorization", format!("Bearer {reference}"));
            }
            if let Some(timeout) = config.timeout_ms {
                request = request.timeout(Duration::from_millis(timeout));
            }
            let outcome = match request.send() {
                Err(Error::Stopping) => return Err(Error::Stopping),
                Ok(response) => {
                    let text = String::from_utf8_lossy(response.body()).into_owned();
                    log::info(format!("it answers {text}"));
                    format!("{} {text}", response.status())
                }
                Err(Error::Retry(reason)) => format!("retry: {reason}"),
                Err(error) => format!("stop: {}", error.reason()),
            };
            source.send(Outgoing::new(outcome))?;
            source.flush()?;
        }
        if !config.repeat {
            // A source that is done is finished.
            return Ok(());
        }
    }
}

/// How many of so many requests are refused at once.
#[cfg(target_family = "wasm")]
fn flood(url: &str, count: usize) -> String {
    use wasip2::http::outgoing_handler;
    use wasip2::http::types::{ErrorCode, Fields, OutgoingRequest, Scheme};

    let authority = url.strip_prefix("http://");
    let request = || {
        let request = OutgoingRequest::new(Fields::new());
        let _ = request.set_scheme(Some(&Scheme::Http));
        let _ = request.set_authority(authority);
        let _ = request.set_path_with_query(Some("/"));
        request
    };
    let pending: Vec<_> = (0..count).map(|_| outgoing_handler::handle(request(), None)).collect();
    let (mut answered, mut refused, mut held) = (0, 0, Vec::new());
    for pending in pending.iter().flatten() {
        let ready = pending.subscribe();
        ready.block();
        match pending.get() {
            Some(Ok(Ok(response))) => {
                answered += 1;
                held.push(response);
            }
            Some(Ok(Err(ErrorCode::ConnectionLimitReached))) => refused += 1,
            _ => {}
        }
    }
    // The responses count as long as they are held.
    let once_more = || {
        let pending = outgoing_handler::handle(request(), None).ok()?;
        let ready = pending.subscribe();
        ready.block();
        drop(ready);
        pending.get()?.ok()
    };
    let while_held = matches!(once_more(), Some(Err(ErrorCode::ConnectionLimitReached)));
    drop(held);
    let afterwards = matches!(once_more(), Some(Ok(_)));
    format!(
        "answered {answered}, refused {refused}, while held refused {while_held}, afterwards answered {afterwards}"
    )
}

/// The lengths of methods and authorities that a request takes.
#[cfg(target_family = "wasm")]
fn names() -> String {
    use wasip2::http::types::{Fields, Method, OutgoingRequest};

    let request = OutgoingRequest::new(Fields::new());
    let lengths = [5, 32, 33, 1_000_000];
    let methods = lengths.map(|length| request.set_method(&Method::Other("M".repeat(length))).is_ok());
    let authorities =
        [253, 512, 513, 1_000_000].map(|length| request.set_authority(Some(&"a".repeat(length))).is_ok());
    format!("methods {methods:?}, authorities {authorities:?}")
}

/// Holds so many headers of each making.
#[cfg(target_family = "wasm")]
fn hoard(count: usize) -> String {
    use wasip2::http::types::Fields;

    let value = || vec![("x".to_owned(), b"y".to_vec())];
    // What is dropped doesn't count.
    (0..1000).for_each(|_| drop(Fields::from_list(&value())));
    let mut held = Vec::new();
    while held.len() < count {
        held.push(Fields::new());
        held.extend(Fields::from_list(&value()));
        let copies: Vec<_> = held.last().map(Fields::clone).into_iter().collect();
        held.extend(copies);
    }
    format!("holds {}", held.len())
}

#[cfg(not(target_family = "wasm"))]
fn names() -> String {
    String::new()
}

#[cfg(not(target_family = "wasm"))]
fn hoard(_: usize) -> String {
    String::new()
}

#[cfg(not(target_family = "wasm"))]
fn flood(_: &str, _: usize) -> String {
    String::new()
}
