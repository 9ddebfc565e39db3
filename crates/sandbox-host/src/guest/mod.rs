//! The host's side of `lanebox.guest.v1`: one HTTP/2 connection over the control port.
//!
//! The guest is hostile. Nothing it says is believed before it went through `check`: order, lengths,
//! numbers, names. It can only answer what was asked or fill a stream that was opened; a message that
//! breaks the protocol ends the call it came on with [`GuestError::Protocol`]. There is no second
//! connection: when this one is lost, [`Guest::lost`] fires and every call fails.

mod check;
mod client;
mod error;
mod file;
#[doc(hidden)]
pub mod fuzz;
mod run;

pub use client::Guest;
pub use error::{GuestError, Refusal};
pub use file::{Check, Content, Directory, Empty, Link, Stat};
pub use run::RunStream;
