//! Whom requests trust: the public certificate authorities, and those that the node's configuration names.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

/// Why the configured certificates can't be trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("read {path:?}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path:?} is no PEM file of certificates: {message}")]
    Certificate { path: PathBuf, message: String },
}

pub(super) fn public_connector() -> TlsConnector {
    connector_of(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() })
}

pub(super) fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, TrustError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = ca_file {
        let text =
            std::fs::read(path).map_err(|source| TrustError::Read { path: path.to_owned(), source })?;
        add(&mut roots, &text)
            .map_err(|message| TrustError::Certificate { path: path.to_owned(), message })?;
    }
    Ok(connector_of(roots))
}

fn add(roots: &mut RootCertStore, text: &[u8]) -> Result<(), String> {
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(text) {
        let certificate = certificate.map_err(|error: pem::Error| error.to_string())?;
        roots.add(certificate).map_err(|error: rustls::Error| error.to_string())?;
        count += 1;
    }
    if count == 0 { Err("there is no certificate in it".to_owned()) } else { Ok(()) }
}

fn connector_of(roots: RootCertStore) -> TlsConnector {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has what TLS 1.2 and 1.3 take")
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}
