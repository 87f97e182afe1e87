//! Requests by `wasi:http`.

use std::time::Duration;

use wasip2::clocks::monotonic_clock;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingResponse, Method, OutgoingBody,
    OutgoingRequest, RequestOptions, Scheme,
};
use wasip2::io::poll::{self, Pollable};
use wasip2::io::streams::StreamError;

use super::run::bindings::millstream::plugin::timers;
use crate::run::http::{Request, Response, Url};
use crate::{Error, Result};

/// Bytes of one read.
const READ_BYTES: u64 = 64 * 1024;

pub(crate) fn http(request: &Request) -> Result<Response> {
    exchange(request).map_err(|error| if timers::stopping() { Error::Stopping } else { error })
}

/// When a request has taken too long.
struct Deadline(Option<Pollable>);

impl Deadline {
    fn new(timeout: Option<Duration>) -> Self {
        Self(timeout.map(|timeout| monotonic_clock::subscribe_duration(nanos(timeout))))
    }

    fn wait(&self, ready: &Pollable) -> Result<()> {
        let Some(deadline) = &self.0 else {
            ready.block();
            return Ok(());
        };
        if poll::poll(&[ready, deadline]).contains(&0) {
            return Ok(());
        }
        Err(Error::retry("it took longer than its timeout"))
    }
}

fn exchange(request: &Request) -> Result<Response> {
    let url = Url::parse(request.url())?;
    let (timeout, body_bytes_max) = request.limits();
    let at = format!("{} {}", request.method(), url.authority);
    let deadline = Deadline::new(timeout);
    let pending = send(request, &url, timeout, &deadline).map_err(|error| told(&at, error))?;
    let response = head(&pending, &deadline).map_err(|error| told(&at, error))?;
    let headers = response.headers().entries();
    let status = response.status();
    let unread = |()| Error::stop(format!("{at}: the body was taken already"));
    let body = response.consume().map_err(unread)?;
    let body = read(&body, body_bytes_max, &deadline).map_err(|error| told(&at, error))?;
    Ok(Response::read(status, headers, body))
}

/// An error with whom it is about.
fn told(at: &str, error: Error) -> Error {
    match error {
        Error::Retry(reason) => Error::Retry(format!("{at}: {reason}")),
        Error::Stop(reason) => Error::Stop(format!("{at}: {reason}")),
        other => other,
    }
}

fn send(
    request: &Request,
    url: &Url<'_>,
    timeout: Option<Duration>,
    deadline: &Deadline,
) -> Result<FutureIncomingResponse> {
    let body = request.sent_body();
    let mut headers = request.headers().to_vec();
    if !body.is_empty() {
        headers.push(("Content-Length".to_owned(), body.len().to_string().into_bytes()));
    }
    let headers =
        Fields::from_list(&headers).map_err(|error| Error::stop(format!("one of its headers: {error:?}")))?;
    let outgoing = OutgoingRequest::new(headers);
    let invalid = |what: &'static str| move |()| Error::stop(format!("its {what} is none"));
    outgoing.set_method(&method(request.method())).map_err(invalid("method"))?;
    let scheme = if url.is_https { Scheme::Https } else { Scheme::Http };
    outgoing.set_scheme(Some(&scheme)).map_err(invalid("scheme"))?;
    outgoing.set_authority(Some(url.authority)).map_err(invalid("host"))?;
    outgoing.set_path_with_query(Some(url.path_with_query)).map_err(invalid("path"))?;
    let sent = match body {
        [] => None,
        _ => Some(outgoing.body().map_err(invalid("body"))?),
    };
    let options = timeout.map(|timeout| {
        let options = RequestOptions::new();
        // A host that can't limit them has limits of its own.
        let _ = options.set_connect_timeout(Some(nanos(timeout)));
        let _ = options.set_first_byte_timeout(Some(nanos(timeout)));
        let _ = options.set_between_bytes_timeout(Some(nanos(timeout)));
        options
    });
    let pending = outgoing_handler::handle(outgoing, options).map_err(failed)?;
    if let Some(sent) = sent {
        write(&sent, body, deadline)?;
        // If it failed, the response says why.
        let _ = OutgoingBody::finish(sent, None);
    }
    Ok(pending)
}

fn write(sent: &OutgoingBody, mut body: &[u8], deadline: &Deadline) -> Result<()> {
    let stream = sent.write().map_err(|()| Error::stop("its body was written already"))?;
    let ready = stream.subscribe();
    while !body.is_empty() {
        let Ok(room) = stream.check_write() else { return Ok(()) };
        if room == 0 {
            deadline.wait(&ready)?;
            continue;
        }
        let room = usize::try_from(room).unwrap_or(usize::MAX).min(body.len());
        let (piece, rest) = body.split_at(room);
        // A server may answer before it has read everything.
        if stream.write(piece).is_err() {
            return Ok(());
        }
        body = rest;
    }
    Ok(())
}

fn head(pending: &FutureIncomingResponse, deadline: &Deadline) -> Result<IncomingResponse> {
    let ready = pending.subscribe();
    loop {
        match pending.get() {
            Some(Ok(response)) => return response.map_err(failed),
            Some(Err(())) => return Err(Error::stop("its response was taken already")),
            None => deadline.wait(&ready)?,
        }
    }
}

fn read(body: &IncomingBody, bytes_max: usize, deadline: &Deadline) -> Result<Vec<u8>> {
    let stream = body.stream().map_err(|()| Error::stop("the body was taken already"))?;
    let ready = stream.subscribe();
    let mut bytes = Vec::new();
    loop {
        match stream.read(READ_BYTES) {
            Ok(piece) if piece.is_empty() => deadline.wait(&ready)?,
            Ok(piece) if piece.len() > bytes_max - bytes.len() => {
                return Err(Error::stop(format!("the response has more than {bytes_max} bytes")));
            }
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(Error::retry(format!("the response: {}", error.to_debug_string())));
            }
        }
    }
}

/// What may get better by itself is to be tried again.
fn failed(code: ErrorCode) -> Error {
    let text = format!("{code:?}");
    let text = text.strip_prefix("ErrorCode::").unwrap_or(&text);
    match code {
        ErrorCode::HttpRequestDenied => Error::stop(format!("{text}: the pipeline does not grant this host")),
        ErrorCode::DestinationIpProhibited
        | ErrorCode::HttpRequestUriInvalid
        | ErrorCode::HttpRequestMethodInvalid
        | ErrorCode::HttpRequestBodySize(_)
        | ErrorCode::HttpRequestHeaderSectionSize(_)
        | ErrorCode::HttpResponseBodySize(_) => Error::stop(text),
        _ => Error::retry(text),
    }
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
