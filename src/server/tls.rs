//! TLS by rustls with ring, from PEM files. HTTP/2 and HTTP/1.1 are offered by ALPN; client certificates are asked for
//! where an authority for them is set.

use std::path::Path;
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::settings::Settings;
use crate::error::{Error, Result};

/// The acceptor of the settings' certificate, or none where TLS is off.
pub(super) fn acceptor(settings: &Settings) -> Result<Option<TlsAcceptor>> {
    let (Some(cert), Some(key)) = (&settings.tls_cert.0, &settings.tls_key.0) else {
        return Ok(None);
    };
    let chain = certificates("tls_cert", cert)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|e| unreadable("tls_key", key, e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::invalid("tls_cert", e.to_string()))?;
    let builder = match &settings.tls_client_ca.0 {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities(path)?), provider)
                .build()
                .map_err(|e| Error::invalid("tls_client_ca", e.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|e| Error::invalid("tls_cert", format!("does not go with tls_key: {e}")))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

fn authorities(path: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("tls_client_ca", path)? {
        roots.add(certificate).map_err(|e| Error::invalid("tls_client_ca", e.to_string()))?;
    }
    Ok(roots)
}

fn certificates(field: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|e| unreadable(field, path, e))?;
    if chain.is_empty() {
        return Err(Error::invalid(field, format!("{} holds no certificate", path.display())));
    }
    Ok(chain)
}

fn unreadable(field: &str, path: &Path, error: impl std::fmt::Display) -> Error {
    Error::invalid(field, format!("cannot read {}: {error}", path.display()))
}
