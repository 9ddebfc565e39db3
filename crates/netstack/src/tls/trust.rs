//! Whom we believe upstream: the roots of the host, and those that the caller adds.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::{Alpn, VERSIONS, provider};

/// The roots, and what is made of them.
pub struct Trust {
    roots: usize,
    /// One for each set of protocols to offer: nothing, HTTP/1.1, HTTP/2, both.
    configs: [Arc<ClientConfig>; 4],
}

/// Why the roots cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// One that the caller added holds no certificate.
    #[error("extraRoots[{0}] is not a certificate in PEM form")]
    NotPem(usize),
    /// One that the caller added is not a certificate.
    #[error("extraRoots[{0}] cannot be a root")]
    NotARoot(usize, #[source] rustls::Error),
    /// The library refuses.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

impl Trust {
    /// The host's roots and the certificates in these PEM texts.
    ///
    /// # Errors
    /// When one of the texts holds no certificate.
    pub fn host_and<S: AsRef<str>>(extra: &[S]) -> Result<Self, TrustError> {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "some roots of the host cannot be read");
        }
        let mut roots = RootCertStore::empty();
        let (_, odd) = roots.add_parsable_certificates(found.certs);
        tracing::debug!(roots = roots.len(), odd, "roots of the host");
        Self::build(roots, extra)
    }

    /// The certificates in these PEM texts alone.
    ///
    /// # Errors
    /// When one of the texts holds no certificate.
    pub fn only<S: AsRef<str>>(extra: &[S]) -> Result<Self, TrustError> {
        Self::build(RootCertStore::empty(), extra)
    }

    fn build<S: AsRef<str>>(mut roots: RootCertStore, extra: &[S]) -> Result<Self, TrustError> {
        for (index, text) in extra.iter().enumerate() {
            let mut certificates =
                CertificateDer::pem_slice_iter(text.as_ref().as_bytes()).peekable();
            if certificates.peek().is_none() {
                return Err(TrustError::NotPem(index));
            }
            for certificate in certificates {
                let certificate = certificate.map_err(|_| TrustError::NotPem(index))?;
                roots.add(certificate).map_err(|error| TrustError::NotARoot(index, error))?;
            }
        }
        let count = roots.len();
        let roots = Arc::new(roots);
        let config = |offers: &[Alpn]| {
            let mut config = ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(VERSIONS)?
                .with_root_certificates(Arc::clone(&roots))
                .with_no_client_auth();
            config.alpn_protocols = offers.iter().flat_map(|alpn| alpn.to_wire()).collect();
            Ok::<_, rustls::Error>(Arc::new(config))
        };
        let configs = [
            config(&[])?,
            config(&[Alpn::Http1])?,
            config(&[Alpn::Http2])?,
            config(&[Alpn::Http2, Alpn::Http1])?,
        ];
        Ok(Self { roots: count, configs })
    }

    /// How to connect, offering these protocols.
    pub(crate) fn client_config(&self, offers: &[Alpn]) -> Arc<ClientConfig> {
        let bit = |alpn, bit| if offers.contains(&alpn) { bit } else { 0 };
        Arc::clone(&self.configs[bit(Alpn::Http1, 1) | bit(Alpn::Http2, 2)])
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("roots", &self.roots).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_is_none_is_named() {
        let text = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(
            Trust::only(&["nonsense"]).unwrap_err().to_string(),
            "extraRoots[0] is not a certificate in PEM form"
        );
        assert!(matches!(Trust::only(&[text]), Err(TrustError::NotARoot(0, _))));
    }
}
