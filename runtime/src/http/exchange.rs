//! One request and its response.

use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::body::{ReceivedBody, SentBody};
use super::connect::Asker;
use super::{Failure, HEAD_BYTES_MAX, HttpClient, Share};
use crate::grants::Origin;

/// How long an exchange may go on when its plugin is told to stop: what is left of the plugin's time is for what it makes
/// of the response.
const STOP_GRACE: Duration = Duration::from_secs(3);
/// What is said to a plugin that is to stop.
pub(crate) const STOPPING: &str = "the plugin is to stop";

/// What is to be done.
pub(crate) struct Call {
    pub(crate) origin: Origin,
    pub(crate) request: Request<WasiBody>,
    pub(crate) options: Option<RequestOptions>,
    /// Its plugin's.
    pub(crate) share: Arc<Share>,
    /// One of its instance's.
    pub(crate) place: OwnedSemaphorePermit,
    /// Tells the instance to stop.
    pub(crate) stop: CancellationToken,
}

/// A response whose body is to be read, and what moves its connection on meanwhile.
pub(crate) type Exchanged = (Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

/// Why an exchange was ended in the middle.
#[derive(Debug, Clone, Copy)]
pub(super) enum Over {
    Late,
    Stopping,
}

impl Over {
    pub(super) fn error(self) -> Error {
        match self {
            Self::Late => Error::HttpResponseTimeout,
            Self::Stopping => Error::InternalError(Some(STOPPING.to_owned())),
        }
    }
}

type Watch = Pin<Box<dyn Future<Output = Over> + Send>>;

fn watch(stop: CancellationToken, total: Duration) -> Watch {
    let deadline = Instant::now() + total;
    Box::pin(async move {
        let stopped = async {
            stop.cancelled().await;
            sleep(STOP_GRACE).await;
        };
        tokio::select! {
            () = stopped => Over::Stopping,
            () = sleep_until(deadline) => Over::Late,
        }
    })
}

impl HttpClient {
    /// Returns with the head of the response.
    pub(crate) async fn send(self, call: Call) -> Result<Exchanged, Failure> {
        let Call { origin, mut request, options, share, place, stop } = call;
        let place = Arc::new(place);
        let asker = Asker { share, _place: Arc::clone(&place) };
        let held = asker.clone();
        let limits = self.limits.lowered(options);
        to_origin(&mut request, &origin)?;
        let mut watch = watch(stop, limits.total);
        let exchange = async {
            let places = async {
                let own = Arc::clone(&asker.share.places).acquire_owned().await;
                [own, Arc::clone(&self.places).acquire_owned().await]
            };
            let places = timeout(limits.connect, places).await.map_err(|_| Error::ConnectionLimitReached)?;
            let places = places.map(|place| place.expect("nobody closes the semaphore"));
            let connected = timeout(limits.connect, self.connect(&origin, asker)).await;
            let stream = connected.map_err(|_| Error::ConnectionTimeout)??;
            let mut builder = http1::Builder::new();
            builder.max_buf_size(HEAD_BYTES_MAX);
            let (mut sender, connection) =
                builder.handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
            let request = request.map(|body| SentBody::new(body, limits.request_body_bytes_max));
            let mut connection = Box::pin(connection);
            let head = async {
                let mut sending = Box::pin(sender.send_request(request));
                tokio::select! {
                    biased;
                    sent = &mut sending => (sent, true),
                    // What it had is with whoever waits for it.
                    _ = &mut connection => (sending.await, false),
                }
            };
            let (sent, is_open) =
                timeout(limits.first_byte, head).await.map_err(|_| Error::ConnectionReadTimeout)?;
            let response = sent.map_err(|error| failed(&error))?;
            Ok::<_, Failure>((response, is_open.then_some(connection), places))
        };
        let (response, connection, places) = tokio::select! {
            biased;
            over = &mut watch => return Err(over.error().into()),
            exchanged = exchange => exchanged?,
        };
        let announced = hyper::body::Body::size_hint(response.body()).lower();
        if announced > limits.response_body_bytes_max {
            return Err(Error::HttpResponseBodySize(Some(announced)).into());
        }
        let over = Arc::new(OnceLock::new());
        let is_over = Arc::clone(&over);
        let response = response.map(|body| {
            ReceivedBody::new(body, limits.response_body_bytes_max, limits.between_bytes, over, place)
                .boxed_unsync()
        });
        let io = async move {
            if let Some(mut connection) = connection {
                tokio::select! {
                    biased;
                    why = watch => {
                        // Before the connection is gone, which the body might take for its end.
                        let _ = is_over.set(why);
                    }
                    // What went wrong is the body's to tell.
                    _ = &mut connection => {}
                }
            }
            // What is left of the response is its instance's alone: whoever doesn't read it keeps nobody else waiting.
            drop((held, places));
            Ok(())
        };
        Ok((response, Box::new(io)))
    }
}

/// The form that a server wants: the path alone, and the host in a header.
fn to_origin(request: &mut Request<WasiBody>, origin: &Origin) -> Result<(), Error> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    // A query alone has no path in front of it.
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let host = origin.to_string();
    let host = host.split_once("://").map_or(&*host, |(_, host)| host);
    let host = HeaderValue::from_str(host).map_err(|_| Error::HttpRequestUriInvalid)?;
    *request.uri_mut() = path.parse::<Uri>().map_err(|_| Error::HttpRequestUriInvalid)?;
    request.headers_mut().insert(header::HOST, host);
    // A connection has one request.
    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    let headers = request.headers().iter();
    let size: usize = headers.map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if size + path.len() > HEAD_BYTES_MAX {
        let size = u32::try_from(size + path.len()).ok();
        return Err(Error::HttpRequestHeaderSectionSize(size));
    }
    Ok(())
}

/// What hyper's errors are to a plugin.
pub(super) fn failed(error: &hyper::Error) -> Error {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(Error::HttpRequestBodySize(size)) = cause.downcast_ref() {
            return Error::HttpRequestBodySize(*size);
        }
        let is_cut = |error: &io::Error| error.kind() == io::ErrorKind::UnexpectedEof;
        if cause.downcast_ref().is_some_and(is_cut) {
            return Error::HttpResponseIncomplete;
        }
        source = cause.source();
    }
    if error.is_parse_too_large() {
        Error::HttpResponseHeaderSectionSize(u32::try_from(HEAD_BYTES_MAX).ok())
    } else if error.is_parse() {
        Error::HttpProtocolError
    } else if error.is_incomplete_message() || error.is_body_write_aborted() {
        Error::HttpResponseIncomplete
    } else if error.is_user() {
        // The plugin has not finished its body.
        Error::HttpRequestBodySize(None)
    } else {
        Error::ConnectionTerminated
    }
}
