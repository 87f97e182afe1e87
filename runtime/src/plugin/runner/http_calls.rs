//! The contract's own `http`: a request and its response in one call, over what `wasi:http` goes over.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use ::http::{HeaderName, HeaderValue, Method, Request, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full};
use wasmtime_wasi_http::{Error as SendError, WasiBody, WasiHttpHooks as _};

use super::RunnerState;
use crate::http::{HEAD_BYTES_MAX, REQUEST_BODY_BYTES_MAX, STOPPING};
use crate::outputs::cut;
use crate::plugin::bindings::imports::http;

/// A whole response is in the node's memory before it is in the plugin's.
const RESPONSE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Of a request: a plugin's limit on what it hands to the host would let it have millions.
const HEADERS_MAX: usize = 100;
const METHOD_BYTES_MAX: usize = 32;

/// They say how a message is sent: a server and we must not differ about where it ends.
const OWN_HEADERS: [&str; 9] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

impl http::Host for RunnerState {
    async fn send(&mut self, request: http::Request) -> Result<http::Response, http::Error> {
        let time_max = request.timeout_ms.map(|millis| Duration::from_millis(millis.into()));
        let request = made(request).map_err(http::Error::Invalid)?;
        self.host.begin_time();
        self.end_turn(false);
        self.settle().await;
        // What was sent before is written before, as it is in front of other waits. What can't be written now is later.
        let _ = self.session.flush().await;
        let half = self.host.limiter.memory_bytes_max() / 2;
        let bytes_max = usize::try_from(half).unwrap_or(usize::MAX).min(RESPONSE_BYTES_MAX);
        let answered = self.exchange(request, bytes_max, time_max).await;
        self.turn.begin(0);
        match answered {
            Err(_) if self.session.stop().is_cancelled() => Err(http::Error::Stopping),
            answered => answered,
        }
    }
}

impl RunnerState {
    async fn exchange(
        &mut self,
        request: Request<WasiBody>,
        bytes_max: usize,
        time_max: Option<Duration>,
    ) -> Result<http::Response, http::Error> {
        let late = || {
            let millis = time_max.unwrap_or_default().as_millis();
            http::Error::Unavailable(format!("it took longer than {millis} ms"))
        };
        let deadline = async {
            match time_max {
                Some(time_max) => tokio::time::sleep(time_max).await,
                None => std::future::pending().await,
            }
        };
        let mut deadline = pin!(deadline);
        let sent = self.http.requests.send_request(request, None, Box::new(async { Ok(()) }));
        let (response, moving) = tokio::select! {
            biased;
            sent = Box::into_pin(sent) => sent.map_err(of_send)?,
            () = &mut deadline => {
                self.host.lent.metrics.http_request("timeout");
                return Err(late());
            }
        };
        let (head, body) = response.into_parts();
        let reading = async {
            let mut read = pin!(whole(body, bytes_max));
            tokio::select! {
                biased;
                body = &mut read => body,
                // It has all that the connection brought.
                _ = Box::into_pin(moving) => read.await,
            }
        };
        let body = tokio::select! {
            biased;
            body = reading => body?,
            () = &mut deadline => return Err(late()),
        };
        let header = |(name, value): (&HeaderName, &HeaderValue)| http::Header {
            name: name.as_str().to_owned(),
            value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
        };
        let headers = head.headers.iter().map(header).collect();
        Ok(http::Response { status: head.status.as_u16(), headers, body })
    }
}

/// The error says what is wrong with it.
fn made(request: http::Request) -> Result<Request<WasiBody>, String> {
    let http::Request { method, url, headers, body, timeout_ms: _ } = request;
    let head_bytes =
        url.len() + headers.iter().map(|header| header.name.len() + header.value.len()).sum::<usize>();
    if method.len() > METHOD_BYTES_MAX || headers.len() > HEADERS_MAX || head_bytes > HEAD_BYTES_MAX {
        return Err(format!(
            "a method of {} bytes, {} headers, and with the URL {head_bytes} bytes: {METHOD_BYTES_MAX}, {HEADERS_MAX} and \
             {HEAD_BYTES_MAX} at most",
            method.len(),
            headers.len()
        ));
    }
    let method =
        Method::from_bytes(method.as_bytes()).map_err(|_| format!("{:?} is no method", cut(&method)))?;
    let uri: Uri = url.parse().map_err(|error| format!("{:?} is no URL: {error}", cut(&url)))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(format!("{:?} begins with neither https:// nor http://", cut(&url)));
    }
    let bytes = body.as_ref().map_or(0, |body| body.len() as u64);
    if bytes > REQUEST_BODY_BYTES_MAX {
        return Err(format!("a body of {bytes} bytes: {REQUEST_BODY_BYTES_MAX} at most"));
    }
    let body: WasiBody = match body {
        None => Empty::new().map_err(never).boxed_unsync(),
        Some(body) => Full::new(Bytes::from(body)).map_err(never).boxed_unsync(),
    };
    let mut request = Request::new(body);
    (*request.method_mut(), *request.uri_mut()) = (method, uri);
    for http::Header { name, value } in headers {
        let key: HeaderName = name.parse().map_err(|_| format!("{:?} is no name of a header", cut(&name)))?;
        if OWN_HEADERS.contains(&key.as_str()) {
            return Err(format!("the header {key} is the host's"));
        }
        // The value may be a secret's.
        let value =
            value.parse().map_err(|_| format!("the value of the header {key} has control characters"))?;
        let added = request.headers_mut().try_append(key, value);
        added.map_err(|_| "there are too many headers".to_owned())?;
    }
    Ok(request)
}

fn never(never: Infallible) -> SendError {
    match never {}
}

async fn whole(mut body: WasiBody, bytes_max: usize) -> Result<Vec<u8>, http::Error> {
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(of_send)?.into_data() else { continue };
        if whole.len() + data.len() > bytes_max {
            let reason = format!("the response has more than {bytes_max} bytes; wasi:http reads larger ones");
            return Err(http::Error::Invalid(reason));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole)
}

fn of_send(error: SendError) -> http::Error {
    let text = match &error {
        SendError::InternalError(Some(text)) => text.clone(),
        other => other.to_string(),
    };
    match error {
        SendError::InternalError(Some(text)) if text == STOPPING => http::Error::Stopping,
        SendError::HttpRequestDenied | SendError::DestinationIpProhibited => http::Error::NotGranted(text),
        SendError::HttpRequestMethodInvalid
        | SendError::HttpRequestUriInvalid
        | SendError::HttpRequestHeaderSectionSize(_)
        | SendError::HttpRequestBodySize(_)
        | SendError::HttpResponseHeaderSectionSize(_)
        | SendError::HttpResponseHeaderSize { .. }
        | SendError::HttpResponseBodySize(_) => http::Error::Invalid(text),
        _ => http::Error::Unavailable(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(url: &str, headers: Vec<http::Header>) -> http::Request {
        http::Request { method: "GET".to_owned(), url: url.to_owned(), headers, body: None, timeout_ms: None }
    }

    fn header(name: &str, value: &str) -> http::Header {
        http::Header { name: name.to_owned(), value: value.to_owned() }
    }

    /// Symptom: a plugin that named 25,000 headers ended the thread that it ran on. Cause: a map of headers panics when it is
    /// full. Fix: they are counted before there is a map.
    #[test]
    fn a_request_has_limits_before_anything_is_made_of_it() {
        let many = (0..25_000).map(|number| header(&format!("a{number}"), "")).collect();
        for refused in [
            request("http://host/", many),
            request(&format!("http://host/{}", "x".repeat(HEAD_BYTES_MAX)), Vec::new()),
            http::Request { method: "M".repeat(33), ..request("http://host/", Vec::new()) },
        ] {
            let why = made(refused).expect_err("it is too large");
            assert!(why.contains("at most"), "{why}");
        }
        // What is shown of a guest's text is short.
        let why = made(request(&"\u{1}".repeat(60_000), Vec::new())).expect_err("it is no URL");
        assert!(why.len() < 10_000, "{} bytes", why.len());
        let fits = (0..HEADERS_MAX).map(|number| header(&format!("a{number}"), "v")).collect();
        assert_eq!(made(request("http://host/", fits)).unwrap().headers().len(), HEADERS_MAX);
    }
}
