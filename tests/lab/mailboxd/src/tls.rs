//! One trust for everything: the certificate authority of the installation.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// The client side: servers must show a certificate signed by this authority.
///
/// # Errors
/// The path and what is wrong with it.
pub fn client(ca: &Path) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|e| format!("{}: cannot trust certificate: {e}", ca.display()))?;
    }
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}

/// The server side.
///
/// # Errors
/// The path and what is wrong with it.
pub fn server(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    let chain = certificates(certificate)?;
    let secret =
        PrivateKeyDer::from_pem_file(key).map_err(|e| format!("{}: cannot read private key: {e}", key.display()))?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, secret);
    config.map(Arc::new).map_err(|e| format!("{}: cannot use certificate: {e}", certificate.display()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let at = |e: rustls::pki_types::pem::Error| format!("{}: cannot read certificate: {e}", path.display());
    CertificateDer::pem_file_iter(path).map_err(at)?.collect::<Result<_, _>>().map_err(at)
}
