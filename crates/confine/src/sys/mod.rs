//! The system calls that have no safe wrapper.
#![allow(unsafe_code, reason = "fork, a handler of SIGSYS, and landlock_create_ruleset")]

#[cfg(debug_assertions)]
pub(crate) mod attempts;

use std::io;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::libc;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

/// The version of Landlock that the kernel has; `None` when it has none, or it is switched off.
pub(crate) fn landlock_version() -> Option<u8> {
    const VERSION: libc::c_uint = 1;
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: with this flag and no attributes the call only returns a number.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0, VERSION) };
    u8::try_from(version).ok().filter(|version| *version > 0)
}

/// Runs `child` in a copy of this process, beside `parent` in this one, and returns what both
/// returned. There must be no other thread.
pub(crate) fn beside<T>(
    child: impl FnOnce() -> u8,
    parent: impl FnOnce() -> T,
) -> io::Result<(T, Option<u8>)> {
    // SAFETY: there is no second thread that could hold a lock, by contract; the child only runs
    // the closure and leaves without running anything of this process.
    let forked = unsafe { fork() }?;
    let pid = match forked {
        ForkResult::Child => {
            // It may hold the other end of what the child waits for.
            drop(parent);
            let code = child();
            // SAFETY: it ends the process at once.
            unsafe { libc::_exit(code.into()) }
        }
        ForkResult::Parent { child } => child,
    };
    let result = parent();
    loop {
        match waitpid(pid, None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok((result, u8::try_from(code).ok())),
            Ok(_) => return Ok((result, None)),
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Where the handler writes.
static REFUSED: AtomicI32 = AtomicI32::new(-1);

/// Has a refused system call fail with EPERM, and its number written, as four bytes, to a
/// descriptor that must not block and is never closed.
pub(crate) fn tell_refused(to: libc::c_int) -> io::Result<()> {
    REFUSED.store(to, Ordering::SeqCst);
    // SAFETY: all zeros is a valid sigaction: no flags, an empty mask, the default handler.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = refused as *const () as libc::sighandler_t;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER | libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: the handler makes one system call and touches its own arguments.
    let result = unsafe { libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `siginfo_t` as far as a SIGSYS fills it in (sigaction(2)); libc has no accessor.
#[repr(C)]
struct SystemCallInfo {
    signo: libc::c_int,
    errno: libc::c_int,
    code: libc::c_int,
    address: *mut libc::c_void,
    number: libc::c_int,
}

extern "C" fn refused(
    _signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel gives a handler with SA_SIGINFO its information, of this layout.
    let number = unsafe { (*info.cast::<SystemCallInfo>()).number };
    let bytes = number.to_le_bytes();
    let to = REFUSED.load(Ordering::SeqCst);
    // SAFETY: four bytes of this stack are read; a descriptor that is full or bad says so.
    let _ = unsafe { libc::write(to, bytes.as_ptr().cast(), bytes.len()) };
    let context = context.cast::<libc::ucontext_t>();
    let result = libc::REG_RAX as usize;
    // SAFETY: the kernel gives such a handler the registers, which are taken back when it returns;
    // the system call returns what is in RAX.
    unsafe { (*context).uc_mcontext.gregs[result] = -libc::c_longlong::from(libc::EPERM) };
}
