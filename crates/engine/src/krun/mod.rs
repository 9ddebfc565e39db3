//! Machines that this process runs itself on KVM, with libkrun's parts.
//!
//! ```text
//!  machine ── thread "engine-krun": builder::build, then waits for the end ── Exit
//!                 ├─ threads "engine-cpu-N": processor::run ◄─ control (run, pause, stop)
//!                 │        └─ ports: serial port, clock, reset    └─ transports: virtio-mmio
//!                 └─ a thread a device: virtio::LocalDevice ◄──────────────┘
//! ```
//! Of libkrun come the layout of memory, tables and registers at boot (`krun_arch`), the CPUID
//! filter (`krun_cpuid`), and the bus, the virtio-mmio transport and the legacy devices
//! (`krun_devices`). Not used are its builder and its loop for processors. They belong to a program
//! that is one machine and nothing else: signal handlers for the whole process that write to a
//! descriptor by its number, also after the machine has gone; an end by `_exit`; no word of why a
//! processor has stopped; an initial file system that is lost from 3.25 GiB of memory on; and
//! interrupts for eleven devices. So nothing that they add comes to the guest either: its command
//! line is made in [`kernel_parameters`], its devices in [`board`], and by nobody else.

mod board;
mod boot;
mod builder;
mod console;
mod control;
mod kernel;
mod kernel_parameters;
mod machine;
mod ports;
mod processor;
mod transport;

pub(crate) use machine::Machine;
