//! The errors of this crate.

use std::io;
use std::time::Duration;

use crate::Exit;
use crate::probe::EngineKind;

/// An option of a [`crate::VmSpec`] that no engine can do.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{option} is {value}, but {reason}")]
pub struct SpecError {
    /// Name of the field.
    pub option: &'static str,
    /// What it was, for people.
    pub value: String,
    /// What is wrong with it, and what would be right.
    pub reason: String,
}

/// Why a machine did not start. Nothing of it is left when one of these is returned.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The specification does not make sense.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The guest's memory can never fit into this host.
    #[error("The guest is to have {asked_mib} MiB of memory, but this host allows {limit_mib} MiB")]
    NotEnoughMemory {
        /// `VmSpec::memory_mib`.
        asked_mib: u64,
        /// What the host, or the control group this process is in, has in all.
        limit_mib: u64,
    },
    /// This version does not have that engine.
    #[error("The engine {0} is not built into this version")]
    EngineNotBuilt(EngineKind),
    /// The engine's program is not installed, or is too old. The text is the finding's.
    #[error("{detail}")]
    EngineUnusable {
        /// What was found.
        detail: String,
        /// What the user can do.
        remedy: String,
    },
    /// A socket, pipe or thread could not be made.
    #[error("Cannot make {what} for the engine")]
    Resource {
        /// What was to be made.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// KVM refused a call that sets a machine up.
    #[error("KVM does not do {call}: {problem}")]
    Kvm {
        /// Name of the call.
        call: &'static str,
        /// What it said.
        problem: String,
    },
    /// A device that every machine has could not be served.
    #[error("The {device} cannot be served")]
    Device {
        /// Which.
        device: &'static str,
        /// What is wrong.
        source: virtio::DeviceError,
    },
    /// A device could not be served.
    #[error("The disk {serial:?} cannot be served")]
    Disk {
        /// `DiskSpec::serial`.
        serial: String,
        /// What is wrong.
        source: virtio::DeviceError,
    },
    /// A device could not be served.
    #[error("The filesystem {tag:?} cannot be served")]
    Filesystem {
        /// `FilesystemSpec::tag`.
        tag: String,
        /// What is wrong.
        source: virtio::DeviceError,
    },
    /// The engine's program could not be started.
    #[error("Cannot start {program}")]
    Spawn {
        /// Path of the program.
        program: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The engine ended before the machine was set up.
    #[error("The engine ended while it was starting: {}", .0.last_words)]
    Ended(Exit),
    /// The engine was not set up in time, and was killed.
    #[error("The engine was not ready after {} s: {}", .waited.as_secs(), .exit.last_words)]
    NotReady {
        /// How long it was given.
        waited: Duration,
        /// How it ended.
        exit: Exit,
    },
    /// The engine's control channel said something that makes no sense.
    #[error("The engine cannot be controlled")]
    Control(#[from] ControlError),
}

impl StartError {
    /// Of a call of KVM.
    pub(crate) fn kvm(call: &'static str) -> impl Fn(kvm_ioctls::Error) -> Self {
        move |error| Self::Kvm { call, problem: error.to_string() }
    }
}

/// Why a running machine did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The engine is gone, or has closed its control channel.
    #[error("The engine is gone")]
    Gone,
    /// No answer came in time.
    #[error("The engine did not answer within {} s", .0.as_secs())]
    Deadline(Duration),
    /// What it sent is not what the channel's protocol allows.
    #[error("The engine broke its control protocol: {0}")]
    Protocol(String),
    /// It refused.
    #[error("The engine refused: {0}")]
    Refused(String),
}
