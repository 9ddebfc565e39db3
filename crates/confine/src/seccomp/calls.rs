//! The lists of system calls, by what they are for.
//!
//! A call with a condition is allowed when one of its conditions holds; one without in any case.

use libc::{self as c, AF_INET, AF_INET6, AF_UNIX, CLONE_THREAD, PROT_EXEC, c_long};

/// A condition on one argument.
#[derive(Debug, Clone, Copy)]
pub(super) enum When {
    /// The argument, 32 bits of it, is this.
    Is(u8, u64),
    /// The argument is no address.
    Null(u8),
    /// The argument, 32 bits of it, has these bits set so.
    Bits(u8, u64, u64),
}

/// A list of calls.
pub(super) type List = &'static [(c_long, Option<When>)];

const fn always(call: c_long) -> (c_long, Option<When>) {
    (call, None)
}

const fn when(call: c_long, when: When) -> (c_long, Option<When>) {
    (call, Some(when))
}

const fn domain(call: c_long, family: i32) -> (c_long, Option<When>) {
    when(call, When::Is(0, family.cast_unsigned() as u64))
}

macro_rules! all {
    ($($name:ident)*) => { [$(always(c::$name)),*] };
}

/// What every thread of the Rust runtime and the C library does. Memory is never executable.
pub(super) const COMMON: List = &[
    always(c::SYS_read),
    always(c::SYS_write),
    always(c::SYS_readv),
    always(c::SYS_writev),
    always(c::SYS_close),
    always(c::SYS_fstat),
    always(c::SYS_newfstatat),
    always(c::SYS_statx),
    // The C library's allocator asks for the number of processors, and how memory is committed.
    when(c::SYS_openat, When::Bits(2, (c::O_ACCMODE | c::O_CREAT | c::O_TRUNC) as u64, 0)),
    always(c::SYS_lseek),
    when(c::SYS_mmap, When::Bits(2, PROT_EXEC as u64, 0)),
    when(c::SYS_mprotect, When::Bits(2, PROT_EXEC as u64, 0)),
    always(c::SYS_munmap),
    always(c::SYS_mremap),
    always(c::SYS_madvise),
    always(c::SYS_brk),
    always(c::SYS_futex),
    always(c::SYS_sched_yield),
    always(c::SYS_sched_getaffinity),
    always(c::SYS_getcpu),
    always(c::SYS_set_robust_list),
    always(c::SYS_rseq),
    always(c::SYS_rt_sigaction),
    always(c::SYS_rt_sigprocmask),
    always(c::SYS_rt_sigreturn),
    always(c::SYS_sigaltstack),
    always(c::SYS_gettid),
    always(c::SYS_getpid),
    always(c::SYS_getuid),
    always(c::SYS_geteuid),
    always(c::SYS_getgid),
    always(c::SYS_getegid),
    // Within the process: see where filters are made.
    always(c::SYS_tgkill),
    always(c::SYS_exit),
    always(c::SYS_exit_group),
    always(c::SYS_clock_gettime),
    always(c::SYS_clock_getres),
    always(c::SYS_clock_nanosleep),
    always(c::SYS_nanosleep),
    always(c::SYS_gettimeofday),
    always(c::SYS_getrandom),
    always(c::SYS_poll),
    always(c::SYS_ppoll),
    always(c::SYS_restart_syscall),
    always(c::SYS_membarrier),
    always(c::SYS_uname),
    always(c::SYS_sysinfo),
    always(c::SYS_fcntl),
    // A thread's name; and giving up more.
    when(c::SYS_prctl, When::Is(0, c::PR_SET_NAME as u64)),
    when(c::SYS_prctl, When::Is(0, c::PR_GET_NAME as u64)),
    when(c::SYS_prctl, When::Is(0, c::PR_SET_NO_NEW_PRIVS as u64)),
    when(c::SYS_prctl, When::Is(0, c::PR_CAPBSET_READ as u64)),
    when(c::SYS_prctl, When::Is(0, PR_SET_VMA)),
    always(c::SYS_seccomp),
    always(c::SYS_capget),
    always(c::SYS_capset),
    // Limits are asked for, not set.
    when(c::SYS_prlimit64, When::Null(2)),
    always(c::SYS_getrlimit),
    // Answered with ENOSYS: what it is to do is said in memory, where no filter can look.
    always(c::SYS_clone3),
];

/// Naming memory; the C library does for its own.
const PR_SET_VMA: u64 = 0x5356_4d41;

/// Waiting for many things.
pub(super) const EVENTS: List = &all! {
    SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_wait SYS_epoll_pwait SYS_epoll_pwait2 SYS_eventfd2
    SYS_pipe2 SYS_dup SYS_dup3 SYS_timerfd_create SYS_timerfd_settime
};

/// Starting threads, not processes.
pub(super) const THREADS: List =
    &[when(c::SYS_clone, When::Bits(0, CLONE_THREAD as u64, CLONE_THREAD as u64))];

/// Opening and reading files.
pub(super) const FILES: List = &[
    always(c::SYS_open),
    always(c::SYS_openat),
    always(c::SYS_openat2),
    always(c::SYS_readlink),
    always(c::SYS_readlinkat),
    always(c::SYS_stat),
    always(c::SYS_lstat),
    always(c::SYS_statfs),
    always(c::SYS_fstatfs),
    always(c::SYS_access),
    always(c::SYS_faccessat),
    always(c::SYS_faccessat2),
    always(c::SYS_getdents64),
    always(c::SYS_pread64),
    always(c::SYS_preadv),
    always(c::SYS_preadv2),
    always(c::SYS_fadvise64),
    always(c::SYS_getcwd),
];

/// Changing a file that is open, and giving one its name.
pub(super) const STORE: List = &all! {
    SYS_pwrite64 SYS_pwritev SYS_pwritev2 SYS_ftruncate SYS_fallocate SYS_fsync SYS_fdatasync
    SYS_sync_file_range SYS_flock SYS_copy_file_range SYS_linkat SYS_unlink SYS_unlinkat
};

/// Directories of the host, from which the guest reads.
pub(super) const READ_DIRECTORIES: List = &all! {
    SYS_getxattr SYS_lgetxattr SYS_fgetxattr SYS_listxattr SYS_llistxattr SYS_flistxattr
    SYS_syncfs SYS_inotify_init1 SYS_inotify_add_watch SYS_inotify_rm_watch
};

/// Directories of the host that the guest changes.
pub(super) const WRITE_DIRECTORIES: List = &all! {
    SYS_mkdirat SYS_mknodat SYS_symlinkat SYS_renameat SYS_renameat2 SYS_fchownat SYS_fchown
    SYS_fchmod SYS_fchmodat SYS_fchmodat2 SYS_utimensat SYS_setxattr SYS_fsetxattr SYS_removexattr
    SYS_fremovexattr SYS_mkdir SYS_rename
};

/// Following changes.
pub(super) const WATCHES: List =
    &all! { SYS_inotify_init1 SYS_inotify_add_watch SYS_inotify_rm_watch };

/// Using sockets that are there.
pub(super) const SOCKETS: List = &[
    always(c::SYS_sendto),
    always(c::SYS_recvfrom),
    always(c::SYS_sendmsg),
    always(c::SYS_recvmsg),
    always(c::SYS_sendmmsg),
    always(c::SYS_recvmmsg),
    always(c::SYS_shutdown),
    always(c::SYS_getsockname),
    always(c::SYS_getpeername),
    always(c::SYS_getsockopt),
    always(c::SYS_setsockopt),
    when(c::SYS_ioctl, When::Is(1, c::FIONBIO)),
    when(c::SYS_ioctl, When::Is(1, c::FIOCLEX)),
    when(c::SYS_ioctl, When::Is(1, c::FIONREAD)),
];

/// Making sockets inside this machine.
pub(super) const LOCAL_SOCKETS: List =
    &[domain(c::SYS_socketpair, AF_UNIX), domain(c::SYS_socket, AF_UNIX)];

/// Being called, at the debug socket.
pub(super) const DEBUG_SOCKET: List = &all! { SYS_bind SYS_listen SYS_accept4 SYS_fchmod };

/// Calling and being called over the network.
pub(super) const INTERNET: List = &[
    domain(c::SYS_socket, AF_INET),
    domain(c::SYS_socket, AF_INET6),
    always(c::SYS_connect),
    always(c::SYS_bind),
    always(c::SYS_listen),
    always(c::SYS_accept4),
];

/// Waiting for a process, and killing it.
pub(super) const CHILDREN: List =
    &all! { SYS_wait4 SYS_waitid SYS_pidfd_open SYS_pidfd_send_signal SYS_kill };

/// Memory that the guest and its devices share.
pub(super) const SHARED_MEMORY: List = &all! { SYS_memfd_create SYS_ftruncate SYS_fallocate };

/// A virtual processor takes the signal that interrupts it, and writes to the console's socket.
pub(super) const PROCESSOR: List = &all! { SYS_rt_sigtimedwait SYS_sendto };

/// Everything that KVM does is an ioctl of type 0xAE (Documentation/userspace-api/ioctl).
pub(super) const KVM: List = &[when(c::SYS_ioctl, When::Bits(1, 0xff00, 0xae00))];

/// From fork to the end of QEMU: the preparation of the child, the loader, and QEMU itself, which
/// makes code and forbids itself more (`-sandbox`).
pub(super) const ENGINE: List = &all! {
    SYS_clone SYS_vfork SYS_execve SYS_wait4 SYS_setpgid SYS_getpgid SYS_getppid SYS_dup SYS_dup2 SYS_dup3
    SYS_chdir SYS_fchdir SYS_close_range SYS_prlimit64 SYS_prctl SYS_arch_prctl SYS_set_tid_address
    SYS_mmap SYS_mprotect SYS_open SYS_openat SYS_stat SYS_lstat SYS_statx SYS_access SYS_faccessat
    SYS_faccessat2 SYS_readlink SYS_readlinkat SYS_getcwd SYS_getdents64 SYS_statfs SYS_fstatfs
    SYS_pread64 SYS_pwrite64 SYS_preadv SYS_pwritev SYS_fadvise64 SYS_ftruncate SYS_fallocate
    SYS_fsync SYS_fdatasync SYS_flock SYS_pipe SYS_pipe2 SYS_eventfd2 SYS_signalfd4
    SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_wait SYS_epoll_pwait SYS_epoll_pwait2 SYS_select
    SYS_pselect6 SYS_timerfd_create SYS_timerfd_settime SYS_timer_create SYS_timer_settime
    SYS_timer_delete SYS_memfd_create SYS_socketpair SYS_sendto SYS_recvfrom SYS_sendmsg
    SYS_recvmsg SYS_shutdown SYS_getsockname SYS_getpeername SYS_getsockopt SYS_setsockopt
    SYS_rt_sigtimedwait SYS_rt_sigpending SYS_rt_sigsuspend SYS_umask SYS_getrusage
    SYS_times SYS_sched_getparam SYS_sched_getscheduler SYS_sched_setaffinity SYS_getpgrp
    SYS_getsid SYS_getgroups SYS_getresuid SYS_getresgid SYS_ioctl SYS_msync SYS_mincore SYS_unlink
    SYS_fchmod SYS_get_robust_list SYS_set_mempolicy SYS_get_mempolicy SYS_mbind
};
