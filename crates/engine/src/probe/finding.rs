//! The words of the probe.

use std::fmt;

/// What runs a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EngineKind {
    /// libkrun inside this process, on the host's hardware virtualization.
    Krun,
    /// `qemu-system-x86_64` as a child process, in software.
    Qemu,
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Krun => "krun",
            Self::Qemu => "qemu",
        })
    }
}

/// What stands between guest and host, weaker first: `Emulated < Hardware`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IsolationKind {
    /// Software emulation, which QEMU does not count among its security boundaries.
    Emulated,
    /// The processor's virtualization.
    Hardware,
}

impl fmt::Display for IsolationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Emulated => "emulated",
            Self::Hardware => "hardware",
        })
    }
}

/// What is known about one engine on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The engine.
    pub engine: EngineKind,
    /// The isolation it gives when it can be used.
    pub isolation: IsolationKind,
    /// Whether it can be used, and if not, what kind of obstacle there is.
    pub code: FindingCode,
    /// What was seen, one sentence.
    pub detail: String,
    /// What the user can do about this obstacle; empty with [`FindingCode::Ok`].
    pub remedy: String,
}

/// The kinds of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FindingCode {
    /// It can be used.
    Ok,
    /// There is no /dev/kvm.
    NoDevice,
    /// There is one that this user may not open.
    NoPermission,
    /// It opens, but no machine can be made or run with it.
    DeviceBroken,
    /// It runs machines, but emulates their kernel mode instruction by instruction.
    KernelModeEmulated,
    /// The host would do; this version has no such engine in it.
    EngineNotBuilt,
    /// The engine's program is not installed.
    EngineMissing,
    /// It is installed, but is older than what we need, or does not tell its version.
    EngineTooOld,
}
