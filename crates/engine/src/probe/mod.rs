//! What this host can run.
//!
//! [`probe`] looks, [`choose`] decides from what it found. A finding says what is wrong in words
//! and what helps; a hardware engine is only reported as usable when guest kernel code was seen to
//! run at the processor's speed, because some hosts offer a /dev/kvm that emulates it at a
//! thousandth of that, on which other monitors hang for seconds without a word.

mod choose;
mod finding;
mod host;
mod kvm;
mod qemu;

pub use choose::{Choice, Unavailable, choose};
pub use finding::{EngineKind, Finding, FindingCode, IsolationKind};
pub use host::probe;
