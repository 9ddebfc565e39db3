//! One processor: runs the guest, and answers what it asks of devices.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use krun_devices::Bus;
use kvm_bindings::{KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN};
use kvm_ioctls::{VcpuExit, VcpuFd};
use nix::errno::Errno;
use nix::libc;

use super::control::{Control, End};
use super::ports::resets;
use crate::sys::guest_vm::GuestVm;
use crate::sys::kvm::{INTERRUPT, only_interrupted_by};
use crate::sys::vcpu;

/// A processor that is ready to run.
pub(super) struct Processor {
    // Freed in this order.
    pub(super) vcpu: VcpuFd,
    pub(super) _vm: Arc<GuestVm>,
    pub(super) ports: Bus,
    pub(super) transports: Bus,
}

impl Processor {
    /// Runs until the machine ends.
    pub(super) fn run(mut self, control: &Control) {
        let end = catch_unwind(AssertUnwindSafe(|| self.run_until_end(control)));
        match end {
            Ok(end) => control.end(end),
            Err(_) => control.end(End::Failed("A device of the machine panicked".to_owned())),
        }
        // Before anybody is told that nothing of it is left.
        drop(self);
        control.leave();
    }

    fn run_until_end(&mut self, control: &Control) -> End {
        if let Err(failure) = only_interrupted_by(&self.vcpu, INTERRUPT) {
            return End::Failed(format!("KVM: {failure:?}"));
        }
        loop {
            if control.is_interrupted() {
                if !control.may_run() {
                    // Another one was first with its reason.
                    return End::Killed;
                }
                // So that the guest's watchdog does not take a pause for a hang. A guest that does
                // not use KVM's clock has none of it.
                let _ = self.vcpu.kvmclock_ctrl();
            }
            if let Some(end) = self.step() {
                return end;
            }
        }
    }

    /// Runs the guest until it needs something, and gives it that.
    fn step(&mut self) -> Option<End> {
        match self.vcpu.run() {
            Ok(VcpuExit::IoOut(port, data)) => {
                // Of all ports that are there a byte at a time is written, if need be several.
                for byte in data {
                    if resets(port, *byte) {
                        return Some(End::Reset);
                    }
                    self.ports.write(0, port.into(), std::slice::from_ref(byte));
                }
            }
            Ok(VcpuExit::IoIn(port, data)) => {
                for byte in data {
                    // Where nothing is the lines are high.
                    *byte = u8::MAX;
                    self.ports.read(0, port.into(), std::slice::from_mut(byte));
                }
            }
            Ok(VcpuExit::MmioRead(address, data)) => {
                data.fill(0);
                if !self.transports.read(0, address, data) {
                    data.fill(u8::MAX);
                }
            }
            Ok(VcpuExit::MmioWrite(address, data)) => {
                self.transports.write(0, address, data);
            }
            Ok(VcpuExit::Intr) => vcpu::take_interrupt(),
            // Three faults at once, which is how processors are reset.
            Ok(VcpuExit::Shutdown) => return Some(End::Reset),
            Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET | KVM_SYSTEM_EVENT_SHUTDOWN, _)) => {
                return Some(End::Reset);
            }
            Ok(VcpuExit::InternalError) => {
                return Some(End::Failed(vcpu::internal_error(&mut self.vcpu)));
            }
            Ok(VcpuExit::FailEntry(reason, cpu)) => {
                let what = format!("Processor {cpu} cannot enter the guest: reason {reason:#x}");
                return Some(End::Failed(what));
            }
            Ok(other) => return Some(End::Failed(format!("KVM ended with {other:?}"))),
            Err(error) => return self.interrupted_or_failed(error.errno()),
        }
        None
    }

    fn interrupted_or_failed(&mut self, errno: i32) -> Option<End> {
        match errno {
            libc::EINTR => {
                vcpu::take_interrupt();
                None
            }
            libc::EAGAIN => None,
            libc::EFAULT | libc::ENOMEM => {
                let what = format!(
                    "The host has no memory for the guest: KVM_RUN says {}",
                    Errno::from_raw(errno)
                );
                Some(End::Failed(what))
            }
            other => Some(End::Failed(format!("KVM_RUN says {}", Errno::from_raw(other)))),
        }
    }
}
