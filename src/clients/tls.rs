//! One way to trust: Zimbra's own authority as the only root, or one pinned certificate or key.

use std::error::Error as StdError;
use std::fs;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::config::Trust;
use crate::error::{Context, Error, Kind, Result};

/// The TLS configuration of every client; fails with [`Kind::Config`] when the authority cannot be read.
pub fn client_config(trust: &Trust) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .context(Kind::Config, || "tls: choosing protocol versions".into())?;
    let config = match trust {
        Trust::Ca(path) => {
            let reading = || format!("{}: reading the authorities", path.display());
            let pem = fs::read(path).context(Kind::Config, reading)?;
            builder.with_root_certificates(roots(&pem).context(Kind::Config, reading)?)
        }
        Trust::Pin(pin) => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Pinned { pin: *pin, provider }))
        }
    };
    Ok(Arc::new(config.with_no_client_auth()))
}

fn roots(pem: &[u8]) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.context(Kind::Config, || "tls: parsing a certificate".into())?;
        roots.add(certificate).context(Kind::Config, || "tls: taking a certificate as an authority".into())?;
    }
    if roots.is_empty() { Err(Error::new(Kind::Config, "tls: no certificate in the file")) } else { Ok(roots) }
}

/// The TLS failure that an error was caused by, as a refusal with advice; none for any other error.
pub fn refusal<'a>(error: &'a (dyn StdError + 'static)) -> Option<(&'static str, &'a rustls::Error)> {
    let tls = find(error)?;
    let advice = match tls {
        // An authority that was made anew has its old name, and a signature that does not fit.
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "its certificate is signed by another authority; set ca to the CA file of that Zimbra (conf/ca/ca.pem), or set pin"
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is for another name; connect by the name in it, or set pin",
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "its certificate has expired; renew it (zmcertmgr), or set pin"
        }
        rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure) => {
            "its certificate is not the pinned one; if it was renewed, set pin to the new one"
        }
        rustls::Error::InvalidCertificate(_) => "its certificate is not usable; set pin to trust exactly this one",
        _ => return None,
    };
    Some((advice, tls))
}

/// Errors hide what they wrap in different ways: as their source, or inside an i/o error.
fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => error.source(),
        };
    }
    None
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let rustls::SupportedCipherSuite::Tls13(suite) = ring::cipher_suite::TLS13_AES_128_GCM_SHA256 else {
        unreachable!("a suite named TLS13 is one of TLS 1.3")
    };
    let digest = suite.common.hash_provider.hash(bytes);
    digest.as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

/// Takes one certificate, or any with one public key. What it is signed by, its name and its dates do not
/// matter; that the server holds its private key does.
#[derive(Debug)]
struct Pinned {
    pin: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let key =
            ParsedCertificate::try_from(end_entity).map(|certificate| sha256(&certificate.subject_public_key_info()));
        if sha256(end_entity) == self.pin || key == Ok(self.pin) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_as_everybody_does() {
        assert_eq!(sha256(b"abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
    }

    #[test]
    fn an_authority_must_be_there() {
        assert_eq!(client_config(&Trust::Ca("/nonexistent".into())).unwrap_err().kind(), Kind::Config);
        assert!(roots(b"no certificate").is_err());
    }

    #[test]
    fn finds_tls_inside_of_io() {
        let tls = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let io = std::io::Error::other(tls);
        assert!(refusal(&io).unwrap().0.contains("another authority"));
        assert!(refusal(&std::io::Error::other("x")).is_none());
    }
}
