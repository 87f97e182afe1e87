//! From a host to a connection: the addresses that were checked are the ones that are connected to.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_rustls::rustls::{self, pki_types::ServerName};
use wasmtime_wasi_http::Error;

use super::address::Reach;
use super::{ADDRESSES_MAX, Failure, HttpClient, Share};
use crate::grants::{Origin, OriginHost, Scheme};

/// How long an address may take while there is another one.
const ATTEMPT_TIME_MAX: Duration = Duration::from_secs(3);
/// The name that everybody means this machine by.
const LOCALHOST: &str = "localhost";

/// A connection, with TLS or without.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Whoever asks for a connection, and counts until its look-up is done, even one that it has given up.
#[derive(Clone)]
pub(super) struct Asker {
    pub(super) share: Arc<Share>,
    /// One of its instance's.
    pub(super) _place: Arc<OwnedSemaphorePermit>,
}

impl HttpClient {
    pub(super) async fn connect(&self, origin: &Origin, asker: Asker) -> Result<Box<dyn Stream>, Failure> {
        let addresses = self.addresses(origin, asker).await?;
        let tcp = dial(&addresses).await?;
        // A request is small, and waits for nothing more.
        let _ = tcp.set_nodelay(true);
        match origin.scheme {
            Scheme::Http => Ok(Box::new(tcp)),
            Scheme::Https => self.encrypt(origin, tcp).await,
        }
    }

    async fn encrypt(&self, origin: &Origin, tcp: TcpStream) -> Result<Box<dyn Stream>, Failure> {
        let name = match &origin.host {
            OriginHost::Name(name) => ServerName::try_from(name.clone()),
            OriginHost::Address(address) => Ok(ServerName::from(*address)),
        };
        let name = name.map_err(|_| Error::HttpRequestUriInvalid)?;
        match self.tls.connect(name, tcp).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => {
                let line = Some(format!("TLS with {origin} failed: {error}"));
                Err(Failure { error: tls_error(&error), line })
            }
        }
    }

    /// Where a host may be connected to.
    async fn addresses(&self, origin: &Origin, asker: Asker) -> Result<Vec<SocketAddr>, Failure> {
        let name = match &origin.host {
            // Only a grant of this very address allows it.
            OriginHost::Address(address) => return Ok(vec![SocketAddr::new(*address, origin.port)]),
            OriginHost::Name(name) => name,
        };
        // Its own before the node's: who waits for it keeps no other plugin waiting.
        let own = Arc::clone(&asker.share.lookups).acquire_owned().await;
        let node = Arc::clone(&self.lookups).acquire_owned().await;
        let [own, node] = [own, node].map(|place| place.expect("nobody closes the semaphore"));
        let (resolver, wanted) = (Arc::clone(&self.resolver), name.clone());
        let found = tokio::task::spawn_blocking(move || {
            let found = resolver.resolve(&wanted);
            // Not before: whoever asked may have gone away long ago.
            drop((own, node, asker));
            found
        });
        let unknown = |reason: String| Error::DnsError { rcode: Some(reason), info_code: None };
        let found = found.await.map_err(|_| unknown("the node is stopping".to_owned()))?;
        let found = found.map_err(|error| unknown(error.to_string()))?;
        let Some(first) = found.first() else {
            return Err(unknown("the name has no address".to_owned()).into());
        };
        let allowed = found.iter().filter(|address| self.may_be(name, **address)).take(ADDRESSES_MAX);
        let allowed: Vec<_> = allowed.map(|address| SocketAddr::new(*address, origin.port)).collect();
        if allowed.is_empty() {
            let line = format!(
                "HTTP request to {origin} denied: the name stands for {first}, which is no public address (grant the \
                 address itself, or set plugin.http.private.networks)"
            );
            return Err(Failure { error: Error::DestinationIpProhibited, line: Some(line) });
        }
        Ok(allowed)
    }

    fn may_be(&self, name: &str, address: IpAddr) -> bool {
        match Reach::of(address) {
            Reach::Public => true,
            Reach::Loopback => self.private_networks || name == LOCALHOST,
            Reach::Private => self.private_networks,
            Reach::Special => false,
        }
    }
}

async fn dial(addresses: &[SocketAddr]) -> Result<TcpStream, Error> {
    let mut failed = Error::DestinationUnavailable;
    for (at, address) in addresses.iter().enumerate() {
        let connecting = TcpStream::connect(address);
        let connected = match at + 1 < addresses.len() {
            true => timeout(ATTEMPT_TIME_MAX, connecting).await,
            // What limits it is around all of this.
            false => Ok(connecting.await),
        };
        match connected {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failed = refused(&error),
            Err(_) => failed = Error::ConnectionTimeout,
        }
    }
    Err(failed)
}

fn refused(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => Error::ConnectionTerminated,
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => Error::DestinationIpUnroutable,
        _ => Error::DestinationUnavailable,
    }
}

fn tls_error(error: &io::Error) -> Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
        Some(rustls::Error::AlertReceived(alert)) => {
            Error::TlsAlertReceived { alert_id: Some((*alert).into()), alert_message: None }
        }
        Some(_) => Error::TlsProtocolError,
        None => refused(error),
    }
}
