//! HTTP that plugins ask for. A request goes to a granted host, over a connection of its own to exactly the address that
//! was checked, and nothing about it is without a limit.
//!
//! ```text
//! wasi:http of a plugin (plugin/runner/http.rs) -> grant? place? -> resolve -> check the addresses -> TCP -> TLS -> HTTP/1.1
//! ```
//!
//! Everything here runs on the plugin's thread, as tasks that end with its instance; a look-up of a name, which can't be
//! given up, takes one of few places until it is done.
//!
//! Redirects are responses like others: whoever follows one asks for another request, which needs a grant.

mod address;
mod body;
mod connect;
mod exchange;
mod share;
mod tls;

use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::{Error, RequestOptions};

pub use tls::TrustError;

use crate::limits::HTTP_REQUESTS_CEILING;
use share::Shares;

pub(crate) use exchange::{Call, Exchanged, STOPPING};
pub(crate) use share::Share;

/// Requests at a time over all plugins of a node; more wait for their turn, as long as connecting may take.
const REQUESTS_MAX: usize = HTTP_REQUESTS_CEILING as usize;
/// Of those, of one instance; more are refused: it has the others in its hands.
pub(crate) const INSTANCE_REQUESTS_MAX: usize = 8;
/// Names that are looked up at a time. The system decides how long that takes.
const LOOKUPS_MAX: usize = 16;
/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 8;
/// The first line and the headers of a message, in either direction.
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;
pub(crate) const REQUEST_BODY_BYTES_MAX: u64 = 16 * 1024 * 1024;
const RESPONSE_BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How long the parts of an exchange may take, and how large bodies may be. Plugins can lower the first three.
#[derive(Debug, Clone, Copy)]
struct HttpLimits {
    /// To wait for a place, and once more to look up the name, to connect and to agree on keys.
    connect: Duration,
    /// From there to the head of the response.
    first_byte: Duration,
    /// Between two pieces of the response's body, while the plugin waits for one.
    between_bytes: Duration,
    /// All of it.
    total: Duration,
    request_body_bytes_max: u64,
    response_body_bytes_max: u64,
}

impl HttpLimits {
    fn lowered(self, options: Option<RequestOptions>) -> Self {
        let options = options.unwrap_or_default();
        let lower =
            |limit: Duration, wanted: Option<Duration>| wanted.map_or(limit, |wanted| wanted.min(limit));
        Self {
            connect: lower(self.connect, options.connect_timeout),
            first_byte: lower(self.first_byte, options.first_byte_timeout),
            between_bytes: lower(self.between_bytes, options.between_bytes_timeout),
            ..self
        }
    }
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(30),
            between_bytes: Duration::from_secs(30),
            total: Duration::from_secs(120),
            request_body_bytes_max: REQUEST_BODY_BYTES_MAX,
            response_body_bytes_max: RESPONSE_BODY_BYTES_MAX,
        }
    }
}

/// Finds the addresses of a name. May block.
trait Resolve: Send + Sync {
    fn resolve(&self, name: &str) -> std::io::Result<Vec<IpAddr>>;
}

/// As the system is configured: `/etc/hosts`, DNS.
struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
    }
}

/// Sends requests for all plugins of a node. Clones are the same.
#[derive(Clone)]
pub struct HttpClient {
    tls: TlsConnector,
    /// Whether names may stand for addresses of private networks.
    private_networks: bool,
    limits: HttpLimits,
    places: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
    shares: Shares,
    resolver: Arc<dyn Resolve>,
}

impl HttpClient {
    /// `ca_file` names certificates in PEM that are trusted beside the public ones. With `private_networks` names may
    /// stand for addresses of the node itself and of private networks.
    pub fn new(ca_file: Option<&Path>, private_networks: bool) -> Result<Self, TrustError> {
        Ok(Self::with_tls(tls::connector(ca_file)?, private_networks))
    }

    /// What a plugin may have of all this.
    pub(crate) fn share(&self, pipeline: &str, plugin: &str, requests_max: u32) -> Arc<Share> {
        self.shares.of(pipeline, plugin, requests_max)
    }

    fn with_tls(tls: TlsConnector, private_networks: bool) -> Self {
        Self {
            tls,
            private_networks,
            limits: HttpLimits::default(),
            places: Arc::new(Semaphore::new(REQUESTS_MAX)),
            lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)),
            shares: Shares::default(),
            resolver: Arc::new(SystemResolver),
        }
    }
}

impl Default for HttpClient {
    fn default() -> Self {
        Self::with_tls(tls::public_connector(), false)
    }
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClient").field("private_networks", &self.private_networks).finish_non_exhaustive()
    }
}

/// Why a request has no response.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What the plugin gets to know.
    pub(crate) error: Error,
    /// For its log, where that says more.
    pub(crate) line: Option<String>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, line: None }
    }
}

#[cfg(test)]
mod tests;
