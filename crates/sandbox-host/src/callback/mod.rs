//! Streams of callbacks: what is the same for mounts and for block stores.
//!
//! ```text
//! client ── Serve…(attach) ─► serve ─► Registry ─► taken by Boot
//! ask: credit ─► question (pending) ─► client        hear: answer ─► pending ─► who asked
//!   dropped ─► cancel; the credit stays with the question until it is answered
//!   the stream ends ─► every question, pending or later, is Gone
//! ```
//! - [`exchange`]: questions and answers of one stream, with its credits.
//! - [`registry`]: streams that are attached, by the names that Boot uses.
//! - [`stream`]: one call, from `attach` to its end.
//!
//! Refuses: more unanswered questions than the client gave credits; answers to what was never
//! asked. A client that breaks the protocol loses the stream.

pub mod exchange;
pub mod registry;
pub mod stream;

pub use exchange::{Dialogue, Exchange, Gather, Gone, Taken, Trouble};
pub use registry::Registry;
pub use stream::{Attached, Breach, CallbackStream, Responses};
pub(crate) use stream::{check_credits, check_id, serve};
