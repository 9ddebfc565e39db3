//! The guest's resolver (RFC 1035, 2308, 6891, 7766): asks the caller's servers, or the host's own.
//!
//! ```text
//! guest, UDP or TCP ──► query: checked ──► gate ──► built-in names
//!                                                ├─► cache
//!                                                └─► exchange ──► servers, one after the other
//!                       guest ◄── fitted ◄── names: pinned ◄── sift: lies refused ◄┘
//! ```
//!
//! Queries are taken apart and made anew, in both directions: what a guest or a server puts between
//! the lines goes nowhere. A query that the [`Gate`] refuses is answered REFUSED, and no packet leaves.

mod built_in;
mod cache;
mod event;
mod exchange;
mod gate;
mod query;
mod resolver;
mod rules;
mod servers;
mod sift;
mod stream;

#[cfg(test)]
mod tests;

pub use built_in::HOST_NAME;
pub use event::{Event, Observer, Outcome};
pub use gate::{Admission, AdmitAll, Gate, Question};
pub use resolver::{Dns, Options};
pub use rules::{DnsRules, Otherwise};
pub use servers::{InvalidServer, Server, Servers};

/// Reads one message as a server would send it in answer to a query for `a.example`, and as a guest
/// would ask it. For fuzzing.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    if let Ok(query) = query::Query::read(bytes) {
        let _ = query.fit(query.reply(hickory_proto::op::ResponseCode::NoError), 512);
    }
    if let Ok(mut message) = hickory_proto::op::Message::from_vec(bytes)
        && sift::sift(&mut message).is_ok()
    {
        let _ = cache::lifetime(&message);
        let _ = message.to_vec();
    }
}
