//! HTTP to hosts that the pipeline grants (`grants: {http: [https://HOST]}`).
//!
//! ```
//! # use millstream_sdk::prelude::*;
//! use millstream_sdk::run::{self, http};
//!
//! # fn call() -> Result<()> {
//! let token = run::secret_reference("api-token")?;
//! let response = http::Request::post("https://api.example.com/events")
//!     .header("Authorization", format!("Bearer {token}"))
//!     .header("Content-Type", "application/json")
//!     .body(r#"{"is": "here"}"#)
//!     .send()?
//!     .success()?;
//! log::info(format!("{}", response.status()));
//! # Ok(())
//! # }
//! ```
//!
//! What may get better by itself (no connection, no response in time, too many requests at a time) is an
//! [`Error::Retry`], what does not (a host that is not granted, a URL that is none) an [`Error::Stop`], and
//! [`Error::Stopping`] says that the plugin is to stop. A response is no error, whatever its status, until
//! [`success`](Response::success) is asked of it. The host follows no redirects.

use std::time::Duration;

use super::host;
use crate::{Error, Result};

/// Bytes of a response's body, where a request states nothing else.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// A request. What it does not say is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    method: String,
    url: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    timeout: Option<Duration>,
    body_bytes_max: usize,
}

/// A response, read to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Request {
    /// A request with any method.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        let (method, url) = (method.into(), url.into());
        Self {
            method,
            url,
            headers: Vec::new(),
            body: Vec::new(),
            timeout: None,
            body_bytes_max: BODY_BYTES_MAX,
        }
    }

    /// GET.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// POST.
    pub fn post(url: impl Into<String>) -> Self {
        Self::new("POST", url)
    }

    /// With one more header. A [reference to a secret](super::secret_reference) in it is sent as the secret.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With that body.
    #[must_use]
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// So long all of it may take; the host has limits of its own, which this can only lower.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// So many bytes the response's body may have: 1 MiB where nothing is said.
    #[must_use]
    pub fn body_bytes_max(self, body_bytes_max: usize) -> Self {
        Self { body_bytes_max, ..self }
    }

    /// Sends it, and waits for the whole response.
    pub fn send(&self) -> Result<Response> {
        host::http(self)
    }

    /// For tests: what it asks for.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// For tests: whom it asks.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// For tests: the first header of that name, if it is text.
    pub fn header_value(&self, name: &str) -> Option<&str> {
        value(&self.headers, name)
    }

    /// For tests: what it sends.
    pub fn sent_body(&self) -> &[u8] {
        &self.body
    }
}

impl Response {
    /// For tests: a response without headers.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// For tests: with one more header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// 200, for instance.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The first header of that name, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        value(&self.headers, name)
    }

    /// All headers, in their order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body as text.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.body).map_err(|_| Error::stop("the response is not UTF-8"))
    }

    /// How long the server wants to be left alone, where it says so in seconds.
    pub fn retry_after(&self) -> Option<Duration> {
        self.header("retry-after")?.trim().parse().ok().map(Duration::from_secs)
    }

    /// Whether the status is one of success.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether the same request may succeed later: 408, 429 and 500 to 599.
    pub fn is_retriable(&self) -> bool {
        matches!(self.status, 408 | 429 | 500..600)
    }

    /// The response, if it is one of success; [`Error::Retry`] for what may succeed later, [`Error::Stop`] otherwise.
    pub fn success(self) -> Result<Self> {
        let reason = || format!("the server answers {}", self.status);
        match self.status {
            _ if self.is_success() => Ok(self),
            _ if self.is_retriable() => Err(Error::retry(reason())),
            _ => Err(Error::stop(reason())),
        }
    }
}

fn value<'a>(headers: &'a [(String, Vec<u8>)], name: &str) -> Option<&'a str> {
    let (_, value) = headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(value).ok()
}

/// The parts of a URL that a request goes by. Which hosts there are is for the host to say.
#[cfg(any(test, target_family = "wasm"))]
pub(crate) struct Url<'a> {
    pub(crate) is_https: bool,
    pub(crate) authority: &'a str,
    pub(crate) path_with_query: &'a str,
}

#[cfg(any(test, target_family = "wasm"))]
impl<'a> Url<'a> {
    pub(crate) fn parse(url: &'a str) -> Result<Self> {
        // A path can be a secret.
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let is_https = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(Error::stop("a URL begins with \"http://\" or \"https://\"")),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path_with_query) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.is_empty() {
            return Err(Error::stop("a URL names a host"));
        }
        Ok(Self { is_https, authority, path_with_query })
    }
}

#[cfg(target_family = "wasm")]
impl Request {
    pub(crate) fn headers(&self) -> &[(String, Vec<u8>)] {
        &self.headers
    }

    pub(crate) fn limits(&self) -> (Option<Duration>, usize) {
        (self.timeout, self.body_bytes_max)
    }
}

#[cfg(target_family = "wasm")]
impl Response {
    pub(crate) fn read(status: u16, headers: Vec<(String, Vec<u8>)>, body: Vec<u8>) -> Self {
        Self { status, headers, body }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let parts = |url| {
            let Url { is_https, authority, path_with_query } = Url::parse(url).ok()?;
            Some((is_https, authority, path_with_query))
        };
        assert_eq!(parts("https://a.b"), Some((true, "a.b", "")));
        assert_eq!(parts("http://a.b:8/c/d?e=f#g"), Some((false, "a.b:8", "/c/d?e=f")));
        assert_eq!(parts("http://[::1]?x"), Some((false, "[::1]", "?x")));
        for url in ["", "a.b/c", "ftp://a.b", "https:///c", "HTTPS://a"] {
            assert_eq!(parts(url), None, "{url}");
        }
    }

    #[test]
    fn statuses_say_what_to_do() {
        let of = |status| Response::new(status, "").success().map(|response| response.status());
        assert_eq!(of(204), Ok(204));
        for status in [408, 429, 500, 503, 599] {
            assert!(matches!(of(status), Err(Error::Retry(_))), "{status}");
        }
        for status in [301, 400, 404, 600] {
            assert!(matches!(of(status), Err(Error::Stop(_))), "{status}");
        }
        let wait = |value: &str| Response::new(503, "").with_header("Retry-After", value).retry_after();
        assert_eq!(wait(" 7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("Wed, 21 Oct 2026 07:28:00 GMT"), None);
    }
}
