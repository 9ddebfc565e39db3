//! Where QEMU's program is, and how old.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{AccessFlags, access};

use super::qmp::Version;
use crate::launcher;

/// Name of the program.
pub(crate) const PROGRAM: &str = "qemu-system-x86_64";
/// The first version that has all we use (`-netdev stream`).
pub(crate) const MINIMUM: Version = Version { major: 7, minor: 2, micro: 0 };
/// What gets it, on the distributions that we name.
pub(crate) const INSTALL: &str = "Install QEMU 7.2 or newer; on Debian and Ubuntu: \
     sudo apt-get install --no-install-recommends qemu-system-x86";
/// Where distributions and hand-made installations put it; looked at after PATH, which the helper
/// may not have.
pub(crate) const STANDARD_DIRECTORIES: [&str; 4] =
    ["/usr/local/bin", "/usr/bin", "/bin", "/run/current-system/sw/bin"];
/// How long the program may take to tell its version.
const VERSION_DEADLINE: Duration = Duration::from_secs(5);
/// Bytes of its answer that are read.
const VERSION_LENGTH: usize = 4096;

/// [`find_in`] the PATH of this process and the standard directories.
pub(crate) fn find() -> Option<PathBuf> {
    find_in(std::env::var_os("PATH").as_deref(), &STANDARD_DIRECTORIES.map(Path::new))
}

/// The program, in the absolute directories of `path` first and then in `standard`.
pub(crate) fn find_in(path: Option<&OsStr>, standard: &[&Path]) -> Option<PathBuf> {
    let from_path = path.into_iter().flat_map(std::env::split_paths);
    from_path
        .chain(standard.iter().map(PathBuf::from))
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(PROGRAM))
        .find(|program| program.is_file() && access(program, AccessFlags::X_OK).is_ok())
}

/// The version that `program --version` tells.
///
/// # Errors
/// A sentence that says what it did instead.
pub(crate) fn version_of(program: &Path) -> Result<Version, String> {
    version_within(program, VERSION_DEADLINE)
}

fn version_within(program: &Path, deadline: Duration) -> Result<Version, String> {
    let answer = ask(program, deadline)?;
    let text = String::from_utf8_lossy(&answer);
    parse_version(&text).ok_or_else(|| {
        let first = text.lines().next().unwrap_or_default();
        format!("{} --version says {first:?}", program.display())
    })
}

fn parse_version(text: &str) -> Option<Version> {
    let rest = text.split_once("QEMU emulator version ")?.1;
    let number = rest.split(|c: char| c.is_whitespace() || c == '(').next()?;
    let mut parts = number.split('.').map(|part| {
        let digits = part.find(|c: char| !c.is_ascii_digit()).map_or(part, |end| &part[..end]);
        digits.parse().ok()
    });
    let mut next = || parts.next().flatten();
    Some(Version { major: next()?, minor: next()?, micro: next().unwrap_or(0) })
}

/// What the program writes to its standard output, bounded in time and length. Its whole process
/// group is killed in the end.
fn ask(program: &Path, deadline: Duration) -> Result<Vec<u8>, String> {
    let name = program.display();
    let mut command = Command::new(program);
    command.arg("--version").env_clear().env("LC_ALL", "C").current_dir("/").process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let (_, started) = launcher::start(command);
    let mut child = started.map_err(|error| format!("{name} does not start: {error}"))?;
    let mut answer = Vec::new();
    let result = match child.stdout.take() {
        None => Err("its output cannot be read".to_owned()),
        Some(output) => read_until(output, Instant::now() + deadline, &mut answer),
    };
    // Not waited for yet, so the number of the group is still its own.
    if let Ok(group) = i32::try_from(child.id()) {
        let group = nix::unistd::Pid::from_raw(group);
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
    }
    let _ = child.wait();
    result.map(|()| answer).map_err(|problem| format!("{name} --version: {problem}"))
}

fn read_until(
    mut output: std::process::ChildStdout,
    deadline: Instant,
    answer: &mut Vec<u8>,
) -> Result<(), String> {
    use std::os::fd::AsFd;
    let mut piece = [0; 512];
    while answer.len() < VERSION_LENGTH {
        let left = deadline.saturating_duration_since(Instant::now());
        let millis = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(output.as_fd(), PollFlags::POLLIN)], millis) {
            Ok(0) => return Err("no answer in time".to_owned()),
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => return Err(error.to_string()),
            Ok(_) => {}
        }
        match output.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&piece[..count]),
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn script(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(PROGRAM);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        (folder, path)
    }

    #[test]
    fn versions_are_read_as_distributions_write_them() {
        let version = |major, minor, micro| Some(Version { major, minor, micro });
        let say = |text: &str| parse_version(&format!("QEMU emulator version {text}\nCopyright"));
        assert_eq!(say("7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)"), version(7, 2, 22));
        assert_eq!(say("10.0.2"), version(10, 0, 2));
        assert_eq!(say("8.2.0-rc3"), version(8, 2, 0));
        assert_eq!(say("6.2(qemu-6.2)"), version(6, 2, 0));
        assert_eq!(parse_version("busybox 1.35"), None);
        assert_eq!(say("seven"), None);
    }

    #[test]
    fn older_versions_are_less_than_the_minimum() {
        assert!(Version { major: 7, minor: 1, micro: 9 } < MINIMUM);
        assert!(Version { major: 6, minor: 2, micro: 0 } < MINIMUM);
        assert!(Version { major: 10, minor: 0, micro: 0 } > MINIMUM);
    }

    #[test]
    fn path_comes_first_and_relative_directories_never() {
        let (mine, program) = script("true");
        let (other, standard) = script("true");
        let standard_directory = [other.path()];
        let path = std::env::join_paths([Path::new("."), Path::new(""), mine.path()]).unwrap();
        assert_eq!(find_in(Some(&path), &standard_directory), Some(program.clone()));
        assert_eq!(find_in(None, &standard_directory), Some(standard.clone()));
        fs::set_permissions(&standard, fs::Permissions::from_mode(0o644)).unwrap();
        if !nix::unistd::geteuid().is_root() {
            assert_eq!(find_in(None, &standard_directory), None);
        }
        assert_eq!(find_in(None, &[Path::new("/nonexistent")]), None);
    }

    #[test]
    fn a_program_that_says_something_else_is_an_error_with_its_words() {
        let (_folder, path) = script("echo Hello; yes | head -c 1000000");
        assert!(version_of(&path).unwrap_err().contains("Hello"));
        let (_folder, path) = script("exit 3");
        assert!(version_of(&path).is_err());
    }

    #[test]
    fn a_program_that_never_answers_ends_with_its_children() {
        let (folder, path) = script("sleep 1000 & echo $! > \"$(dirname \"$0\")/child\"; wait");
        let never = version_within(&path, Duration::from_secs(2));
        assert!(never.unwrap_err().contains("no answer"));
        let child = fs::read_to_string(folder.path().join("child")).unwrap();
        // A signal has been sent, not yet acted on.
        let gone = || {
            let state = fs::read_to_string(format!("/proc/{}/stat", child.trim()));
            state.map_or(true, |stat| stat.contains(") Z "))
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !gone() {
            assert!(Instant::now() < deadline, "{child} is alive");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
