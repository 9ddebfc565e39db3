//! A guest without an operating system, for tests: it finds the virtio-mmio devices of its machine
//! and does with them what the host tells it over the control port, however senseless.
//!
//! ```text
//! harness ── "run 2 0 o:0000… i:512 i:1" ──► control port ──► guest ──► device 2, queue 0
//!         ◄── "in 512 SUM HEX", "in 1 …", "ok 513" ◄─────────┘
//! ```
//! The guest knows rings and registers, and of device types only what its own control port needs;
//! what a block or a FUSE request is, and what the answer must be, the harness knows. So the guest
//! stays small, and every chain that a hostile driver could make can be written down in a test.
//!
//! [`KERNEL`] is an ELF file that is entered in 64-bit mode with Linux' zero page, or in 32-bit mode
//! as PVH says. It takes interrupts never, waits for a device for a bounded time, and uses only
//! instructions that hosts understand which emulate the guest's kernel mode.
//!
//! `src/guest/command.rs` lists what it can be told; [`Guest`] says it.
//!
//! To read first: virtio 1.2 (2.7 split rings, 4.2 MMIO, 5.3 console).

#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod chain;
mod client;
pub mod guest;
mod pattern;

pub use chain::Chain;
pub use client::{DeviceFound, Guest, Input, Taken};
pub use pattern::{checksum, pattern};

/// The guest, as an ELF file.
pub const KERNEL: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/payload-guest"));

/// Where the guest takes memory for chains from: nothing that a test gives as an address of its
/// own collides with anything else of the guest between this and [`FREE_END`], while no chains are
/// under way.
pub const FREE_BEGIN: u64 = guest::DATA;
/// The end of that memory.
pub const FREE_END: u64 = guest::DATA_END;
