//! TLS 1.2 and 1.3 in the middle (RFC 8446, 5246): a certificate authority that lives as long as its
//! owner, leaves made for each name, the peeked ClientHello, and whom we trust upstream.
//!
//! The authority's key never leaves this process; its certificate is what the guest is told to trust.

mod alpn;
mod authority;
mod client_hello;
mod trust;

pub use alpn::Alpn;
pub use authority::{Authority, AuthorityError};
pub use client_hello::{ClientHello, Peeked, peek};
pub use trust::{Trust, TrustError};

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// TLS 1.3 first.
const VERSIONS: &[&rustls::SupportedProtocolVersion] =
    &[&rustls::version::TLS13, &rustls::version::TLS12];

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
