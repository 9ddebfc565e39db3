//! The guest's console as PID 1 uses it: last words, never waited for. A program in the guest can
//! stop the terminal (Ctrl-S); a message is then lost, and PID 1 goes on.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

/// Points our standard output and error at /dev/console without waiting, and standard input at
/// nothing.
pub(crate) fn attach() -> io::Result<()> {
    let null = OpenOptions::new().read(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    let console = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open("/dev/console")?;
    dup2_stdout(&console)?;
    dup2_stderr(&console)?;
    Ok(())
}

/// Prints one line, if the console takes it.
pub(crate) fn say(text: impl Display) {
    let line = format!("sandbox-init: {text}\n");
    // There is nobody to tell when the console does not work.
    let _ = nix::unistd::write(io::stderr(), line.as_bytes());
}
