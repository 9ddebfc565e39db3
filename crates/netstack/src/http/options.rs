//! How interception behaves.

use std::sync::Arc;
use std::time::Duration;

use super::event::Observer;
use super::secrets::Secrets;
use crate::names::{HostName, Names};
use crate::policy::HostPattern;
use crate::tls::{Authority, Trust};

/// What interception needs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The names that accepted DNS answers gave.
    pub names: Arc<Names>,
    /// Signs the certificates that the guest gets to see.
    pub authority: Arc<Authority>,
    /// Whom we believe upstream.
    pub trust: Arc<Trust>,
    /// What is put in place of placeholders.
    pub secrets: Arc<Secrets>,
    /// The bounds.
    pub limits: Limits,
    /// Is told what happens.
    pub observer: Observer,
}

/// What a connection is let through for.
#[derive(Clone, Debug)]
pub enum Target {
    /// For a name that an accepted DNS answer gave for the dialled address.
    Named {
        /// Which names.
        host: HostPattern,
        /// Whether they may lead to private, loopback and link-local addresses.
        allow_private: bool,
    },
    /// For exactly these, which accepted DNS answers gave for the dialled address when the flow was
    /// decided about. None: for nothing.
    Names {
        /// The names.
        names: Vec<HostName>,
        /// Whether they may lead to private, loopback and link-local addresses.
        allow_private: bool,
    },
    /// For the dialled address itself, which the guest knows from elsewhere.
    Address,
    /// For nothing: every request is refused.
    Nothing,
}

/// The bounds of interception.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a request's head.
    pub head_bytes: u32,
    /// How long the first bytes, a TLS handshake, or a head may take.
    pub head_deadline: Duration,
    /// How long a connection may be without a request.
    pub idle: Duration,
    /// How long the middleware may take.
    pub middleware_deadline: Duration,
    /// How long the upstream may take to begin its response.
    pub response_deadline: Duration,
    /// Connections at once.
    pub connections: usize,
    /// Requests of one HTTP/2 connection at once.
    pub streams: u32,
    /// Upstream connections that are kept without a request.
    pub pooled: usize,
    /// How long they are kept.
    pub pooled_idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 64 << 10,
            head_deadline: Duration::from_secs(30),
            idle: Duration::from_mins(5),
            middleware_deadline: Duration::from_secs(30),
            response_deadline: Duration::from_mins(15),
            connections: 1_024,
            streams: 256,
            pooled: 64,
            pooled_idle: Duration::from_secs(30),
        }
    }
}
