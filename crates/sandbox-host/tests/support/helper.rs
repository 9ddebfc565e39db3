//! The real program, with a socket as its file descriptor 3.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

use tokio::net::UnixStream;

/// A command that runs the program with `third` as its file descriptor 3. The shell moves it there,
/// since the standard library can only pass the first three.
pub(crate) fn command(program: &Path, third: impl Into<OwnedFd>) -> Command {
    let mut command = shell("exec \"$0\" \"$@\" 3<&0 </dev/null", program);
    command.stdin(Stdio::from(third.into()));
    command
}

/// A command that runs a script of the shell with the program as `$0`.
pub(crate) fn shell(script: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(program).stderr(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Waits for the end of the program, while the tasks of this runtime go on.
pub(crate) async fn ended(mut child: Child) -> (ExitStatus, Option<ChildStderr>) {
    let stderr = child.stderr.take();
    let waited = tokio::task::spawn_blocking(move || child.wait().unwrap());
    let patience = std::time::Duration::from_secs(60);
    let status = tokio::time::timeout(patience, waited).await.expect("it must end").unwrap();
    (status, stderr)
}

/// Starts the program; returns it and our end of its connection.
pub(crate) fn spawn(program: &Path, adjust: impl FnOnce(&mut Command)) -> (Child, UnixStream) {
    let (ours, theirs) = StdStream::pair().unwrap();
    let mut command = command(program, theirs);
    adjust(&mut command);
    let child = command.spawn().unwrap();
    ours.set_nonblocking(true).unwrap();
    (child, UnixStream::from_std(ours).unwrap())
}
