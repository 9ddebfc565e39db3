//! What runs the virtual machine, and the probe that tells what this host can run.
//!
//! ```text
//! probe() ── findings ──► choose(minimum, engine) ── Choice ──► start(kind, VmSpec) ──► Vm
//!                                                                    ├── krun: in this process
//!                                                                    └── qemu: a child process
//! ```
//! Owns the engine's process, its devices' servers and the sockets between them: dropping a [`Vm`]
//! ends and frees all of it. Knows nothing of the protocol that the guest speaks on its control
//! port, of gRPC, or of where images come from. Refuses a downgrade: [`probe::choose`] never
//! answers with less isolation than was asked for, and [`start`] starts what it is told or fails.
//!
//! krun is there on Linux on x86-64; elsewhere choosing it is [`StartError::EngineNotBuilt`].

pub mod probe;

mod device_queues;
mod error;
mod exit;
mod files;
mod host_memory;
mod kernel_parameters;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod krun;
pub mod launcher;
mod qemu;
mod spec;
mod sys;
mod threads;
mod usage;
mod vm;

pub use error::{ControlError, SpecError, StartError};
pub use exit::{Exit, ExitReason};
pub use files::Files;
pub use spec::{DiskSpec, FilesystemSpec, NetworkSpec, VmSpec};
pub use usage::Usage;
pub use vm::{Vm, start};
