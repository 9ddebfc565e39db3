//! Where HTTP without TLS may be spoken: on this machine's own loopback, and to registries that
//! the caller names.

use std::net::IpAddr;

use crate::error::{Error, Result};
use crate::shown::shown;

/// The hosts that are spoken to in the clear.
#[derive(Debug, Clone, Default)]
pub struct PlainHttp {
    named: Vec<String>,
}

impl PlainHttp {
    /// Loopback and these, each `HOST:PORT`.
    ///
    /// # Errors
    ///
    /// [`Error::Reference`] for one that is not a host and a port.
    pub fn with(named: &[String]) -> Result<Self> {
        for name in named {
            let good = name.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty()
                    && host
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b".-[]:".contains(&byte))
                    && port.parse::<u16>().is_ok()
            });
            if !good {
                return Err(Error::Reference {
                    reference: shown(name.as_bytes()),
                    reason: "an insecure registry is given as HOST:PORT".to_owned(),
                });
            }
        }
        Ok(Self { named: named.iter().map(|name| name.to_lowercase()).collect() })
    }

    /// Whether a registry, `HOST[:PORT]`, is spoken to in the clear.
    #[must_use]
    pub fn allows(&self, registry: &str) -> bool {
        is_loopback(host_of(registry)) || self.named.contains(&registry.to_lowercase())
    }
}

/// Whether the host is this machine by its very name: nothing is resolved for it.
pub(crate) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn host_of(registry: &str) -> &str {
    match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => registry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_named_registries_go_without_tls() {
        let plain = PlainHttp::with(&["Registry.local:5000".to_owned()]).unwrap();
        for yes in
            ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "registry.local:5000"]
        {
            assert!(plain.allows(yes), "{yes}");
        }
        for no in [
            "registry.local",
            "registry.local:5001",
            "localhost.evil.example",
            "127.0.0.1.example:80",
            "10.0.0.1:5000",
        ] {
            assert!(!plain.allows(no), "{no}");
        }
    }

    #[test]
    fn an_insecure_registry_needs_a_port() {
        for wrong in ["registry", "registry:", ":5000", "http://registry:5000", "registry:99999"] {
            assert!(PlainHttp::with(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
