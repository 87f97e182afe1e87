//! `wasi:http` for sources and sinks: whether a request may be sent, with which secrets, and what it counts as. What sends
//! it is `crate::http`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use http::{Method, Request, uri};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use super::RunnerState;
use super::references::References;
use crate::environment::Environment;
use crate::grants::{HostGrant, Origin, Scheme};
use crate::http::{Call, Exchanged, Failure, HEAD_BYTES_MAX, INSTANCE_REQUESTS_MAX, STOPPING, Share};
use crate::plugin::LogLevel;
use crate::plugin::host::HostState;
use crate::plugin::log::GuardedLog;
use crate::runner::Session;
use crate::stage::PluginMetrics;

/// Bytes of a request's body that wait for the connection; the plugin waits while there are so many.
const BODY_CHUNK_BYTES: usize = 16 * 1024;

/// What an instance has for HTTP.
pub(super) struct Http {
    ctx: WasiHttpCtx,
    pub(super) requests: Requests,
}

/// Sends an instance's requests.
pub(super) struct Requests {
    environment: Environment,
    granted: BTreeSet<HostGrant>,
    pub(super) references: References,
    share: Arc<Share>,
    places: Arc<Semaphore>,
    log: Arc<Mutex<GuardedLog>>,
    metrics: Arc<PluginMetrics>,
    stop: CancellationToken,
    /// The `init` of an instance reaches nobody.
    has_begun: bool,
}

impl Http {
    pub(super) fn new(session: &Session, host: &HostState, requests_max: u32) -> Self {
        let mut ctx = WasiHttpCtx::new();
        ctx.set_field_size_limit(HEAD_BYTES_MAX);
        let spec = &session.shared().spec;
        let plugin = spec.plugins.first().map_or("", |plugin| &plugin.name);
        let requests = Requests {
            share: host.lent.environment.http.share(&spec.pipeline, plugin, requests_max),
            environment: host.lent.environment.clone(),
            granted: host.lent.grants.http.clone(),
            references: References::default(),
            places: Arc::new(Semaphore::new(INSTANCE_REQUESTS_MAX)),
            log: host.log(),
            metrics: Arc::clone(&host.lent.metrics),
            stop: session.stop().clone(),
            has_begun: false,
        };
        Self { ctx, requests }
    }

    /// The instance's `run` begins.
    pub(super) fn begin(&mut self) {
        self.requests.has_begun = true;
    }
}

impl WasiHttpView for RunnerState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let Http { ctx, requests } = &mut self.http;
        WasiHttpCtxView { hooks: requests, table: self.host.table(), ctx }
    }
}

type Sent = Box<dyn Future<Output = Result<Exchanged, Error>> + Send>;

impl WasiHttpHooks for Requests {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _response_read: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Sent {
        let call = self.call(request, options);
        let client = self.environment.http.clone();
        let (log, metrics) = (Arc::clone(&self.log), Arc::clone(&self.metrics));
        Box::new(async move {
            let sent = match call {
                Ok(call) => client.send(call).await,
                Err(failure) => Err(failure),
            };
            metrics.http_request(outcome(&sent));
            sent.map_err(|Failure { error, line }| {
                if let Some(line) = line {
                    let mut log = log.lock().expect("no code panics while it holds this lock");
                    log.line(LogLevel::Warn, &line);
                }
                error
            })
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES
    }
}

impl Requests {
    fn call(&self, mut request: Request<WasiBody>, options: Option<RequestOptions>) -> Result<Call, Failure> {
        let refused = |why: &str| Error::InternalError(Some(why.to_owned()));
        if !self.has_begun {
            return Err(refused("requests are for run, not for init").into());
        }
        if self.stop.is_cancelled() {
            return Err(refused(STOPPING).into());
        }
        // A tunnel ends where nobody has looked.
        if request.method() == Method::CONNECT {
            return Err(Error::HttpRequestMethodInvalid.into());
        }
        let origin = origin(request.uri()).ok_or(Error::HttpRequestUriInvalid)?;
        if !self.granted.iter().any(|granted| granted.allows(&origin)) {
            let granted: Vec<_> = self.granted.iter().map(HostGrant::to_string).collect();
            let line = format!(
                "HTTP request to {origin} denied: the pipeline grants http: [{}]",
                granted.join(", ")
            );
            return Err(Failure { error: Error::HttpRequestDenied, line: Some(line) });
        }
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| Error::ConnectionLimitReached)?;
        let resolved =
            self.references.resolve(request.headers_mut(), &self.environment.secrets, HEAD_BYTES_MAX);
        let secrets = resolved.map_err(|reason| refused(&reason))?;
        // A server may answer with what it was sent.
        let mut log = self.log.lock().expect("no code panics while it holds this lock");
        secrets.iter().for_each(|(name, secret)| log.hide(name, secret.as_bytes()));
        drop(log);
        let share = Arc::clone(&self.share);
        Ok(Call { origin, request, options, share, place, stop: self.stop.clone() })
    }
}

fn origin(uri: &uri::Uri) -> Option<Origin> {
    let scheme = match uri.scheme_str()? {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return None,
    };
    Origin::new(scheme, uri.authority()?.as_str())
}

/// As what a request counts.
fn outcome(sent: &Result<Exchanged, Failure>) -> &'static str {
    match sent {
        Ok((response, _)) => match response.status().as_u16() {
            ..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            500.. => "5xx",
        },
        Err(failure) => match failure.error {
            Error::HttpRequestDenied | Error::DestinationIpProhibited => "denied",
            Error::ConnectionLimitReached => "limit",
            Error::ConnectionTimeout | Error::ConnectionReadTimeout | Error::HttpResponseTimeout => "timeout",
            _ => "error",
        },
    }
}
