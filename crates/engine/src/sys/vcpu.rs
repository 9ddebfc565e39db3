//! Interrupting a processor of a machine, and what KVM says of its failures.
//!
//! The signal is blocked in the threads of processors, and let through by KVM_RUN alone, which it
//! ends: no handler runs, and none is missed between a look at an order and KVM_RUN.

#![allow(unsafe_code, reason = "takes a pending signal, and reads a union")]

use kvm_bindings::{KVM_EXIT_INTERNAL_ERROR, KVM_INTERNAL_ERROR_EMULATION};
use kvm_ioctls::VcpuFd;
use nix::errno::Errno;
use nix::libc;
use nix::sys::pthread::{Pthread, pthread_kill};
use nix::sys::signal::SigSet;

use super::kvm::INTERRUPT;

/// Blocks the signal in this thread, and those it starts from then on.
pub(crate) fn block_interrupt() -> Result<(), Errno> {
    SigSet::from(INTERRUPT).thread_block()
}

/// Interrupts a thread, which must not have been joined.
pub(crate) fn interrupt(thread: Pthread) {
    // It fails for a thread that has ended, which needs none.
    let _ = pthread_kill(thread, INTERRUPT);
}

/// Takes the signal, if it is pending for the current thread.
pub(crate) fn take_interrupt() {
    let signals = SigSet::from(INTERRUPT);
    let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both are valid for the call, and nobody wants to know who sent it.
    unsafe { libc::sigtimedwait(signals.as_ref(), std::ptr::null_mut(), &raw const none) };
}

/// What KVM says of a failure of its own, after KVM_RUN has ended with one.
pub(crate) fn internal_error(vcpu: &mut VcpuFd) -> String {
    let at = vcpu.get_regs().map(|registers| registers.rip).unwrap_or_default();
    let run = vcpu.get_kvm_run();
    if run.exit_reason != KVM_EXIT_INTERNAL_ERROR {
        return format!("KVM failed at instruction {at:#x}");
    }
    // SAFETY: the reason says that this is the part of the union that KVM filled in; all of it are
    // integers.
    let internal = unsafe { run.__bindgen_anon_1.internal };
    match internal.suberror {
        KVM_INTERNAL_ERROR_EMULATION => {
            format!("KVM could not emulate the instruction at {at:#x}")
        }
        number => format!("KVM failed at instruction {at:#x} with its error {number}"),
    }
}
