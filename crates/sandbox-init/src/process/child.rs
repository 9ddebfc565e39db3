//! From fork to exec: what the copy of PID 1 does before it is the command. Read execve(2),
//! credentials(7), and "Command Search and Execution" of the shell (POSIX.1-2024, XCU 2.9.1.4).
//!
//! Statuses are those of a shell: nothing found is 127, something that does not run is 126. As in
//! bash 5.2 and dash, a script whose interpreter is missing counts as not found; the message names
//! the interpreter.

use std::convert::Infallible;
use std::ffi::{CStr, CString, OsStr};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open};
use nix::libc;
use nix::sys::prctl::set_no_new_privs;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::stat::Mode;
use nix::unistd::{
    AccessFlags, Gid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, faccessat, fchown,
    setgid, setgroups, setsid, setuid,
};

use super::accounts::{self, Identity};
use super::failure::{Failure, Stage};
use super::request::Command;
use crate::limits::OPEN_FILES;
use crate::sys::descriptors::close_others;
use crate::sys::signal::default_sigpipe;
use crate::sys::terminal::take_control;

/// PATH of a process whose environment has none: that of Debian's root.
pub(crate) const DEFAULT_PATH: &CStr =
    c"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// TERM of a process with a terminal whose environment has none: what most terminals are like.
const DEFAULT_TERM: &CStr = c"xterm-256color";
const SHELL: &CStr = c"/bin/sh";
/// How far a file is read to tell a script from another machine's program (bash reads 80 bytes).
const SAMPLE: u64 = 256;

/// What the child gets. All descriptors are close-on-exec.
#[derive(Debug)]
pub(crate) struct Ends<'a> {
    /// Standard input, output and error.
    pub(crate) standard: Standard<'a>,
    /// Where a [`Failure`] goes.
    pub(crate) report: OwnedFd,
}

/// The child's standard input, output and error.
#[derive(Debug)]
pub(crate) enum Standard<'a> {
    /// Its ends of pipes.
    Pipes {
        /// `None` for /dev/null.
        stdin: Option<OwnedFd>,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
    /// Its side of a terminal.
    Terminal(BorrowedFd<'a>),
}

/// Becomes the command, or reports why not and returns the status to exit with.
pub(crate) fn run(command: &Command, ends: &Ends<'_>) -> i32 {
    let failure = match become_command(command, ends) {
        Err(failure) => failure,
        Ok(never) => match never {},
    };
    // Without a reader there is nobody to tell.
    let _ = nix::unistd::write(&ends.report, &failure.encode());
    127
}

fn become_command(command: &Command, ends: &Ends<'_>) -> Result<Infallible, Failure> {
    let step = |what: &'static str| move |errno| Failure::setup(what, errno);
    setsid().map_err(step("Making a session"))?;
    attach(ends).map_err(step("Setting up standard input and output"))?;
    default_sigpipe().map_err(step("Resetting SIGPIPE"))?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
        .map_err(step("Resetting the signal mask"))?;
    getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES.min(hard), hard))
        .map_err(step("Setting RLIMIT_NOFILE"))?;
    let identity = identity(command)?;
    if command.terminal.is_some() {
        let (owner, terminal) = (Uid::from_raw(identity.uid), std::io::stdin());
        fchown(terminal, Some(owner), None).map_err(step("Giving the terminal to the user"))?;
    }
    for limit in &command.limits {
        limit.set().map_err(step("Setting a resource limit"))?;
    }
    let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).map_err(step("Setting the groups"))?;
    setgid(Gid::from_raw(identity.gid)).map_err(step("Setting the group"))?;
    setuid(Uid::from_raw(identity.uid)).map_err(step("Setting the user"))?;
    chdir(command.cwd.as_c_str()).map_err(|errno| {
        let cwd = command.cwd.to_string_lossy();
        Failure::setup(&format!("Working directory {cwd:?}"), errno)
    })?;
    if command.no_new_privileges {
        set_no_new_privs().map_err(step("Setting PR_SET_NO_NEW_PRIVS"))?;
    }
    Err(execute(command, &identity))
}

fn attach(ends: &Ends<'_>) -> nix::Result<()> {
    match &ends.standard {
        Standard::Pipes { stdin, stdout, stderr } => {
            match stdin {
                Some(stdin) => dup2_stdin(stdin)?,
                None => {
                    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
                    dup2_stdin(open(c"/dev/null", flags, Mode::empty())?.as_fd())?;
                }
            }
            dup2_stdout(stdout)?;
            dup2_stderr(stderr)?;
        }
        Standard::Terminal(terminal) => {
            take_control(terminal)?;
            dup2_stdin(terminal)?;
            dup2_stdout(terminal)?;
            dup2_stderr(terminal)?;
        }
    }
    close_others(ends.report.as_fd())
}

fn identity(command: &Command) -> Result<Identity, Failure> {
    let read = |path| {
        accounts::read_file(path).map_err(|error| {
            Failure::setup(path, Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
        })
    };
    accounts::resolve(&command.user, &read("/etc/passwd")?, &read("/etc/group")?).map_err(
        |unknown| {
            let text = format!("Cannot run as the user that was asked for: {unknown}");
            Failure { stage: Stage::Setup, errno: None, text }
        },
    )
}

fn execute(command: &Command, identity: &Identity) -> Failure {
    let mut env = command.env.clone();
    if let Ok(home) = CString::new(identity.home.clone()) {
        env.entry(c"HOME".to_owned()).or_insert(home);
    }
    if command.terminal.is_some() {
        env.entry(c"TERM".to_owned()).or_insert_with(|| DEFAULT_TERM.to_owned());
    }
    let path = env.get(c"PATH").map_or(DEFAULT_PATH, CString::as_c_str).to_owned();
    let env: Vec<CString> = env
        .iter()
        .filter_map(|(name, value)| {
            CString::new([name.to_bytes(), b"=", value.to_bytes()].concat()).ok()
        })
        .collect();
    search(&command.arguments, &env, &path)
}

/// Executes the first argument, looked up in `path` unless it holds a slash. Returns when that
/// fails.
fn search(arguments: &[CString], env: &[CString], path: &CStr) -> Failure {
    let Some(program) = arguments.first() else {
        return Failure::setup("The command", Errno::EINVAL);
    };
    if program.to_bytes().contains(&b'/') {
        return explain(program, attempt(program, arguments, env));
    }
    let mut best: Option<Failure> = None;
    for folder in path.to_bytes().split(|byte| *byte == b':') {
        // An empty element means the working directory.
        let folder = if folder.is_empty() { b"." } else { folder };
        let Ok(candidate) = CString::new([folder, b"/", program.to_bytes()].concat()) else {
            continue;
        };
        // Cheaper than an execve that fails; most folders of PATH do not have the command.
        if faccessat(AT_FDCWD, candidate.as_c_str(), AccessFlags::F_OK, AtFlags::empty()).is_err() {
            continue;
        }
        let errno = attempt(&candidate, arguments, env);
        // A folder is not what was looked for.
        if errno == Errno::EACCES && fs::metadata(path_of(&candidate)).is_ok_and(|it| it.is_dir()) {
            continue;
        }
        let failure = explain(&candidate, errno);
        if errno != Errno::EACCES && errno != Errno::ENOENT {
            return failure;
        }
        best.get_or_insert(failure);
    }
    best.unwrap_or_else(|| Failure {
        stage: Stage::NotFound,
        errno: Some(Errno::ENOENT),
        text: format!("{:?} is not found in PATH", program.to_string_lossy()),
    })
}

/// One execve, with the shell for scripts without "#!". Returns when it fails.
fn attempt(file: &CStr, arguments: &[CString], env: &[CString]) -> Errno {
    let errno = failed(execve(file, arguments, env));
    if errno != Errno::ENOEXEC || !is_text(path_of(file)) {
        return errno;
    }
    let mut shell = vec![SHELL.to_owned(), file.to_owned()];
    shell.extend(arguments.iter().skip(1).cloned());
    match failed(execve(SHELL, &shell, env)) {
        Errno::E2BIG => Errno::E2BIG,
        Errno::ENOMEM => Errno::ENOMEM,
        _ => Errno::ENOEXEC,
    }
}

fn failed(result: nix::Result<Infallible>) -> Errno {
    match result {
        Err(errno) => errno,
        Ok(never) => match never {},
    }
}

/// Why `file` did not run. ENOENT of a file that is there is about its interpreter.
fn explain(file: &CStr, errno: Errno) -> Failure {
    let path = path_of(file);
    let shown = file.to_string_lossy();
    let text = match errno {
        Errno::ENOENT if fs::metadata(path).is_ok() => match interpreter(path) {
            Some(interpreter) => format!("{shown:?} needs {interpreter:?}, which is missing"),
            None => format!("{shown:?} needs a dynamic loader that is missing"),
        },
        Errno::ENOEXEC => format!("{shown:?} is no program of this machine and no script"),
        Errno::EACCES if fs::metadata(path).is_ok_and(|found| found.is_dir()) => {
            format!("{shown:?} is a directory")
        }
        _ => format!("{shown:?}: {}", errno.desc()),
    };
    let stage = if errno == Errno::ENOENT { Stage::NotFound } else { Stage::NotExecutable };
    Failure { stage, errno: Some(errno), text }
}

/// What a "#!" line names.
fn interpreter(path: &Path) -> Option<String> {
    let sample = sample(path)?;
    let line = sample.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    String::from_utf8_lossy(line).split_whitespace().next().map(str::to_owned)
}

/// Whether the first line has no NUL: bash's test for what may be given to a shell.
fn is_text(path: &Path) -> bool {
    sample(path).is_some_and(|sample| {
        !sample.split(|byte| *byte == b'\n').next().unwrap_or_default().contains(&0)
    })
}

fn sample(path: &Path) -> Option<Vec<u8>> {
    let mut sample = Vec::new();
    File::open(path).ok()?.take(SAMPLE).read_to_end(&mut sample).ok()?;
    Some(sample)
}

fn path_of(file: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(file.to_bytes()))
}
