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

#[cfg(not(target_family = "wasm"))]
fn flood(_: &str, _: usize) -> String {
    String::new()
}
