//! What somebody who has taken the process over would try. For tests, which ask a process that has
//! confined itself to try all of it; not in release builds.
//!
//! They are tried as root and unconfined too, to see that they can succeed: whatever could change
//! the machine is called in a way that is an error then.

#![allow(unsafe_code, reason = "system calls of which most have no wrapper")]

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc::{self, c_long};

/// What is there to be attacked.
#[derive(Debug)]
pub struct Targets {
    /// A directory that was not granted, with a file "file" in it.
    pub folder: PathBuf,
    /// A process of the same user outside.
    pub process: i32,
    /// A TCP port of 127.0.0.1 that listens.
    pub port: u16,
    /// The name of an abstract socket that listens.
    pub socket: String,
}

/// An attempt: its name, and what came of it.
type Outcome = (&'static str, Result<c_long, Errno>);

/// Tries everything, in order of the list. Nothing of it does harm where it succeeds, outside of
/// the folder and this process.
#[must_use]
pub fn attempts(targets: &Targets) -> Vec<Outcome> {
    let mut all = files(targets);
    all.extend(programs());
    all.extend(processes(targets));
    all.extend(sockets(targets));
    all.extend(kernel());
    all
}

fn files(targets: &Targets) -> Vec<Outcome> {
    let folder = c_path(&targets.folder);
    let file = c_path(&targets.folder.join("file"));
    let new = c_path(&targets.folder.join("new"));
    let at = c_long::from(libc::AT_FDCWD);
    let (read, write) = (c_long::from(libc::O_RDONLY), c_long::from(libc::O_RDWR));
    let create = c_long::from(libc::O_CREAT | libc::O_WRONLY);
    let open = |path: &CStr, flags| call(libc::SYS_openat, [at, address(path), flags, 0o600, 0, 0]);
    let one = |number, path: &CStr, argument| call(number, [address(path), argument, 0, 0, 0, 0]);
    let two =
        |number, from: &CStr, to: &CStr| call(number, [address(from), address(to), 0, 0, 0, 0]);
    vec![
        ("read-file", open(&file, read)),
        ("write-file", open(&file, write)),
        ("create-file", open(&new, create)),
        ("list-folder", open(&folder, read | c_long::from(libc::O_DIRECTORY))),
        ("read-passwords", open(c"/etc/shadow", read)),
        ("read-users", open(c"/etc/passwd", read)),
        ("list-root", open(c"/", read | c_long::from(libc::O_DIRECTORY))),
        ("truncate-file", one(libc::SYS_truncate, &file, 0)),
        ("change-mode", one(libc::SYS_chmod, &file, 0o777)),
        ("change-owner", one(libc::SYS_chown, &file, 12)),
        ("make-folder", one(libc::SYS_mkdir, &new, 0o700)),
        ("make-device", call(libc::SYS_mknod, [address(&new), 0o20600, 0x103, 0, 0, 0])),
        ("make-link", two(libc::SYS_link, &file, &new)),
        ("make-symlink", two(libc::SYS_symlink, &file, &new)),
        ("rename-file", two(libc::SYS_rename, &file, &new)),
        ("remove-file", one(libc::SYS_unlink, &file, 0)),
        ("open-by-handle", call(libc::SYS_open_by_handle_at, [at, 0, read, 0, 0, 0])),
        ("follow-filesystem", call(libc::SYS_fanotify_init, [0; 6])),
    ]
}

fn programs() -> Vec<Outcome> {
    let none: [*const libc::c_char; 1] = [std::ptr::null()];
    let nothing = none.as_ptr().addr() as c_long;
    let execute = [address(c"/bin/true"), nothing, nothing, 0, 0, 0];
    let executable = c_long::from(libc::PROT_READ | libc::PROT_EXEC);
    let anonymous = c_long::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    vec![
        ("fork", forked(libc::SYS_fork, 0)),
        ("clone-process", forked(libc::SYS_clone, libc::SIGCHLD.into())),
        // Where it would succeed this process would end, and no attempt be told.
        ("execute", if may_fork() { Ok(0) } else { call(libc::SYS_execve, execute) }),
        ("make-code", call(libc::SYS_mmap, [0, 4096, executable, anonymous, -1, 0])),
    ]
}

fn processes(targets: &Targets) -> Vec<Outcome> {
    let process = c_long::from(targets.process);
    let memory = c_string(&format!("/proc/{process}/mem"));
    let environment = c_string(&format!("/proc/{process}/environ"));
    let read = c_long::from(libc::O_RDONLY);
    let open =
        |path: &CStr| call(libc::SYS_openat, [libc::AT_FDCWD.into(), address(path), read, 0, 0, 0]);
    vec![
        // Signal 0 only asks whether one could be sent.
        ("kill", call(libc::SYS_kill, [process, 0, 0, 0, 0, 0])),
        ("kill-thread", call(libc::SYS_tgkill, [process, process, 0, 0, 0, 0])),
        ("trace", call(libc::SYS_ptrace, [0x4206, process, 0, 0, 0, 0])),
        ("trace-me", if may_fork() { Ok(0) } else { call(libc::SYS_ptrace, [0; 6]) }),
        ("read-memory", call(libc::SYS_process_vm_readv, [process, 0, 0, 0, 0, 0])),
        ("write-memory", call(libc::SYS_process_vm_writev, [process, 0, 0, 0, 0, 0])),
        ("open-memory", open(&memory)),
        ("open-environment", open(&environment)),
        ("steal-descriptor", call(libc::SYS_pidfd_getfd, [0; 6])),
    ]
}

fn sockets(targets: &Targets) -> Vec<Outcome> {
    let stream = c_long::from(libc::SOCK_STREAM | libc::SOCK_CLOEXEC);
    let make = |domain: i32| call(libc::SYS_socket, [domain.into(), stream, 0, 0, 0, 0]);
    let raw = c_long::from(libc::SOCK_RAW | libc::SOCK_CLOEXEC);
    let loopback = std::net::SocketAddr::from(([127, 0, 0, 1], targets.port));
    let tcp = std::net::TcpStream::connect(loopback).map(|_| 0).map_err(errno);
    vec![
        ("connect-tcp", tcp),
        ("make-ipv6-socket", make(libc::AF_INET6)),
        ("connect-abstract", abstract_socket(&targets.socket)),
        ("make-packet-socket", call(libc::SYS_socket, [libc::AF_PACKET.into(), raw, 0, 0, 0, 0])),
        ("make-raw-socket", call(libc::SYS_socket, [libc::AF_INET.into(), raw, 1, 0, 0, 0])),
        ("make-netlink-socket", call(libc::SYS_socket, [libc::AF_NETLINK.into(), raw, 0, 0, 0, 0])),
        ("make-vsock-socket", make(libc::AF_VSOCK)),
    ]
}

fn kernel() -> Vec<Outcome> {
    let user = c_long::from(libc::CLONE_NEWUSER);
    let dumpable = c_long::from(libc::PR_SET_DUMPABLE);
    let mut more = libc::rlimit { rlim_cur: 1 << 30, rlim_max: libc::RLIM_INFINITY };
    let more = (&raw mut more).addr() as c_long;
    let core = c_long::from(libc::RLIMIT_CORE);
    vec![
        ("mount", call(libc::SYS_mount, [0; 6])),
        // No path: where it is allowed it finds nothing to unmount.
        ("unmount", call(libc::SYS_umount2, [0; 6])),
        ("open-tree", call(libc::SYS_open_tree, [0; 6])),
        ("unshare", call(libc::SYS_unshare, [user, 0, 0, 0, 0, 0])),
        ("enter-namespace", call(libc::SYS_setns, [0; 6])),
        ("change-root", call(libc::SYS_chroot, [address(c"/"), 0, 0, 0, 0, 0])),
        ("pivot-root", call(libc::SYS_pivot_root, [0; 6])),
        ("become-user", call(libc::SYS_setuid, [12, 0, 0, 0, 0, 0])),
        ("become-group", call(libc::SYS_setgid, [12, 0, 0, 0, 0, 0])),
        ("become-dumpable", call(libc::SYS_prctl, [dumpable, 1, 0, 0, 0, 0])),
        ("raise-limit", call(libc::SYS_prlimit64, [0, core, more, 0, 0, 0])),
        ("bpf", call(libc::SYS_bpf, [0; 6])),
        ("io-uring", call(libc::SYS_io_uring_setup, [1, 0, 0, 0, 0, 0])),
        ("read-keys", call(libc::SYS_keyctl, [0; 6])),
        ("add-key", call(libc::SYS_add_key, [0; 6])),
        ("watch-performance", call(libc::SYS_perf_event_open, [0; 6])),
        ("handle-faults", call(libc::SYS_userfaultfd, [0; 6])),
        ("load-module", call(libc::SYS_finit_module, [-1, 0, 0, 0, 0, 0])),
        ("load-kernel", call(libc::SYS_kexec_load, [0, 0, 0, -1, 0, 0])),
        // Without the magic numbers, and without a name: nothing happens where it is allowed.
        ("reboot", call(libc::SYS_reboot, [0; 6])),
        ("host-name", call(libc::SYS_sethostname, [0, -1, 0, 0, 0, 0])),
        ("ports", call(libc::SYS_iopl, [3, 0, 0, 0, 0, 0])),
        ("kernel-log", call(libc::SYS_syslog, [3, 0, 0, 0, 0, 0])),
        ("personality", call(libc::SYS_personality, [0x0004_0000, 0, 0, 0, 0, 0])),
    ]
}

/// Whether this process is one that can still fork, in which some attempts would end it.
fn may_fork() -> bool {
    forked(libc::SYS_fork, 0).is_ok()
}

/// Forks; the child leaves at once.
fn forked(number: c_long, flags: c_long) -> Result<c_long, Errno> {
    let pid = call(number, [flags, 0, 0, 0, 0, 0])?;
    if pid == 0 {
        // SAFETY: it ends the child at once.
        unsafe { libc::_exit(0) };
    }
    Ok(pid)
}

fn abstract_socket(name: &str) -> Result<c_long, Errno> {
    use std::os::linux::net::SocketAddrExt;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name).map_err(errno)?;
    std::os::unix::net::UnixStream::connect_addr(&address).map(|_| 0).map_err(errno)
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

fn c_string(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

fn address(text: &CStr) -> c_long {
    text.as_ptr().addr() as c_long
}

fn call(number: c_long, arguments: [c_long; 6]) -> Result<c_long, Errno> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: every address that the callers give is of a string or structure that outlives the
    // call and is of the kind that the call reads; the other arguments are numbers or nothing.
    Errno::result(unsafe { libc::syscall(number, a, b, c, d, e, f) })
}
