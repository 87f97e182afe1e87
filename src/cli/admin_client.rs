//! The admin listener, as the command line asks it.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::StatusCode;

use super::failure::Failure;
use super::node_args::AdminConnection;
use super::progress;
use crate::signature::{SIGNATURE_HEADER, read_beside, signature_path};

/// Applying compiles plugins, which takes seconds for large ones; a node gives up before.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Status of ten thousand stages would be less.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

pub(super) struct AdminClient {
    agent: ureq::Agent,
    address: String,
}

impl AdminClient {
    pub(super) fn new(connection: &AdminConnection) -> Self {
        Self::with_timeout(connection, TIMEOUT)
    }

    /// For questions whose answer is at hand.
    pub(super) fn with_timeout(connection: &AdminConnection, timeout: Duration) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            // The listener is addressed as given; an environment's proxy is for other things.
            .proxy(None)
            .http_status_as_error(false)
            .build();
        Self { agent: config.into(), address: connection.admin.clone() }
    }

    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.answer(self.agent.get(self.url(path)).call())
    }

    /// An answer that goes on for as long as it is read.
    pub(super) fn stream(&self, path: &str) -> Result<impl Read + use<>, Failure> {
        let config = self.agent.get(self.url(path)).config();
        let sent = config.timeout_global(None).timeout_recv_response(Some(TIMEOUT)).build().call();
        let mut response = sent.map_err(|error| self.unreachable(&error))?;
        match response.status().is_success() {
            true => Ok(response.into_body().into_with_config().limit(u64::MAX).reader()),
            false => Err(self.refused(&mut response)),
        }
    }

    pub(super) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<T, Failure> {
        let waiting = progress::waiting(format!("waiting for {}", self.address));
        let sent = self.agent.post(self.url(path)).send_json(body);
        waiting.finish_and_clear();
        self.answer(sent)
    }

    pub(super) fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.answer(self.agent.delete(self.url(path)).call())
    }

    /// Uploads a plugin under the hash of its bytes, with the signature that lies beside its file.
    pub(super) fn put_plugin(&self, sha256: &str, bytes: &[u8], file: &Path) -> Result<(), Failure> {
        let unreadable = |source| Failure::Input { path: signature_path(file), source };
        let mut request = self.agent.put(self.url(&format!("/v1/plugins/{sha256}")));
        if let Some(signature) = read_beside(file).map_err(unreadable)? {
            request = request.header(SIGNATURE_HEADER, BASE64_STANDARD.encode(signature));
        }
        let bar = progress::bytes(format!("uploading {}", file.display()), bytes.len() as u64);
        let mut body = bar.wrap_read(bytes);
        // As it would have without the bar: a node refuses what is too long before it is sent.
        request = request.header("content-length", bytes.len());
        let sent = request.send(ureq::SendBody::from_reader(&mut body));
        bar.finish_and_clear();
        let mut response = sent.map_err(|error| self.unreachable(&error))?;
        match response.status() {
            StatusCode::NO_CONTENT => Ok(()),
            _ => Err(self.refused(&mut response)),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn answer<T: DeserializeOwned>(
        &self,
        sent: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<T, Failure> {
        let mut response = sent.map_err(|error| self.unreachable(&error))?;
        if !response.status().is_success() {
            return Err(self.refused(&mut response));
        }
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        body.read_json().map_err(|error| Failure::Admin {
            address: self.address.clone(),
            reason: format!("the answer can't be read ({error}); is this a Millstream admin listener?"),
        })
    }

    fn refused(&self, response: &mut ureq::http::Response<ureq::Body>) -> Failure {
        let status = response.status();
        let body: Value = response.body_mut().read_json().unwrap_or_default();
        let problems: Vec<String> =
            body["problems"].as_array().into_iter().flatten().map(problem_text).collect();
        if !problems.is_empty() {
            return Failure::Problems(problems);
        }
        let reason = body["error"].as_str().map_or_else(|| status.to_string(), str::to_owned);
        let address = self.address.clone();
        match status {
            StatusCode::SERVICE_UNAVAILABLE => Failure::Busy { address, reason },
            _ => Failure::Admin { address, reason },
        }
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        Failure::Unreachable { bootstrap: self.address.clone(), reason: error.to_string() }
    }
}

/// A name as a part of a URL's path.
pub(super) fn path_segment(name: &str) -> String {
    name.bytes().fold(String::new(), |mut segment, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                segment.push(char::from(byte))
            }
            _ => segment.push_str(&format!("%{byte:02X}")),
        }
        segment
    })
}

/// A problem of a pipeline file as a compiler would print it.
pub(super) fn problem_text(problem: &Value) -> String {
    let text = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
    let number = |key: &str| problem[key].as_u64().unwrap_or_default();
    let place = format!("{}:{}:{}", text("file"), number("line"), number("column"));
    let remedy = match text("remedy") {
        remedy if remedy.is_empty() => String::new(),
        remedy => format!("; {remedy}"),
    };
    format!("{place}: {}: {}{remedy}", text("severity"), text("message"))
}
