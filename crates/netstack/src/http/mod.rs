//! HTTP and TLS in the middle of a connection (RFC 9110, 9112, 9113; WebSocket, RFC 6455).
//!
//! ```text
//! guest ──► detect ─┬─ TLS ──► ClientHello: the name ─┬─ nothing to change: relayed as it is
//!                   │                                 └─ TLS to the upstream, then to the guest
//!                   ├─ HTTP/1, HTTP/2 ──────────────────────┐      │
//!                   └─ else: reset                          ▼      ▼
//!   upstream ◄── pool ◄── secrets ◄── middleware ◄── binding ◄── head guard ◄── hyper
//! ```
//!
//! The name of a request must be one that an accepted DNS answer gave for the dialled address, and
//! be the same in the SNI and in `Host` or `:authority`. What is not HTTP or TLS fails closed. Heads
//! that two parsers could read in two ways are refused before the parser sees them, and every message
//! is made anew on the other side. What is injected goes upstream and never comes back.

mod activity;
mod binding;
mod body;
mod connection;
mod detect;
mod event;
mod exchange;
mod guard;
mod head;
mod headers;
mod middleware;
mod options;
mod pass_writes;
mod peeked;
mod pool;
mod record;
mod rules;
mod secrets;
mod serve;
mod service;
mod tunnel;
mod upstream;

#[cfg(test)]
mod tests;

pub use body::{Body, BodyError, full};
pub use event::{Event, Observer, Refusal, RequestRecord};
pub use middleware::{Destination, Middleware, Protocol, Request, TlsInfo, Verdict};
pub use options::{Limits, Options, Target};
pub use rules::{HttpRules, SetHeaders};
pub use secrets::{InvalidSecret, Secret, SecretValue, Secrets};
pub use service::Http;

/// Takes bytes for the first ones of a connection, and for requests on it. For fuzzing.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let _ = detect::detect(bytes);
    let _ = guard::fuzz(bytes);
}
