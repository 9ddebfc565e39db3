//! One `Run`: the client's stream and the guest's, joined.
//!
//! ```text
//! client ── RunRequest ──► input (checked) ──► guest
//! client ◄── RunResponse ── output ◄── guest::RunStream (checked)
//! ```
//! Nothing is buffered here: each side is pulled when the other has room, so HTTP/2 flow control
//! carries from end to end. Dropping the output, which is what a client's cancel does, ends the
//! input and cancels the guest's call.

pub mod file;
mod input;
mod output;

pub use output::{Output, explain, start};
