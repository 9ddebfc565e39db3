//! Why a call of a client fails. `status` says how each of these looks from outside.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use engine::probe::Unavailable;
use engine::{Exit, StartError};

use crate::artifact::ArtifactError;
use crate::disk::DiskError;
use crate::flatten::FlattenFailure;
use crate::guest::GuestError;
use crate::lane::{Ended, State};
use crate::request::RequestError;

/// Why a call fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request does not make sense.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The client sent something in the wrong order, or nothing.
    #[error("{0}")]
    Sequence(&'static str),
    /// The call is for the owner of the helper only.
    #[error("{0} is served on file descriptor 3 only")]
    OwnerOnly(&'static str),
    /// A limit of `limits` was reached.
    #[error("There are {limit} {what} already, which is the limit")]
    Limit {
        /// Of what there are too many.
        what: &'static str,
        /// How many there can be.
        limit: u32,
    },
    /// No engine gives what was asked for.
    #[error(transparent)]
    Isolation(#[from] Unavailable),
    /// A file of ours is missing or wrong.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The root cannot be made writable.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// An image was not written.
    #[error(transparent)]
    Flatten(#[from] FlattenFailure),
    /// The machine did not come up.
    #[error("{0}")]
    Boot(Box<BootFailure>),
    /// Boot was called before.
    #[error("This helper has had its one boot already; its VM is {0}")]
    SecondBoot(State),
    /// There is no running machine yet.
    #[error("No VM runs yet: it is {0}")]
    NotRunning(State),
    /// The machine has no network.
    #[error("The VM was booted without a network")]
    NoNetwork,
    /// What the call names is not there.
    #[error("No {what} has the number {id}")]
    NoSuch {
        /// What was meant.
        what: &'static str,
        /// The number.
        id: u64,
    },
    /// A port cannot be published.
    #[error("Cannot listen on {address}: {source}")]
    Publish {
        /// Where.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// Shutdown was called.
    #[error("The VM is being closed")]
    Closed,
    /// The machine has ended.
    #[error("The VM has ended: {}", .0.message)]
    Ended(Arc<Ended>),
    /// The guest refused, was silent, or broke the protocol.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The helper is about to exit.
    #[error("The helper is exiting")]
    Exiting,
    /// A task of ours ended in a way that cannot be.
    #[error("{0} ended unexpectedly")]
    Defect(&'static str),
}

/// Where a boot stopped, and why.
#[derive(Debug, thiserror::Error)]
#[error("Boot stopped in step {step}: {cause}")]
pub struct BootFailure {
    /// The step that had begun last.
    pub step: String,
    /// What went wrong.
    pub cause: BootCause,
    /// The end of the guest's console.
    pub console_tail: String,
}

/// What can stop a boot beside its request and its files.
#[derive(Debug, thiserror::Error)]
pub enum BootCause {
    /// The engine did not start.
    #[error("{0}")]
    Engine(#[from] StartError),
    /// The network could not be set up.
    #[error("the network cannot be set up: {0}")]
    Network(String),
    /// The engine ended.
    #[error("the engine ended{}", last_words(.0))]
    Exit(Exit),
    /// The guest refused, was silent, or broke the protocol.
    #[error("{0}")]
    Guest(#[from] GuestError),
    /// The deadline passed.
    #[error("the deadline of {} ms passed", .0.as_millis())]
    Deadline(Duration),
    /// The caller cancelled.
    #[error("the caller cancelled it")]
    Cancelled,
}

fn last_words(exit: &Exit) -> String {
    match exit.last_words.trim() {
        "" => String::new(),
        words => format!(", saying: {words}"),
    }
}

/// An error with all that caused it, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
