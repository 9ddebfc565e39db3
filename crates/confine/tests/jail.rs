//! A process that has confined itself tries to break out: each attempt is refused, by name, and
//! succeeds or fails otherwise where nothing confines it.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says what it skips"
)]

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What a refusal looks like: of the filter of system calls, and of Landlock.
const REFUSED: [&str; 2] = ["EPERM", "EACCES"];

struct Setup {
    folder: tempfile::TempDir,
    tcp: TcpListener,
    socket: String,
    _socket: UnixListener,
}

fn set_up(name: &str) -> Setup {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "mine").unwrap();
    let tcp = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let socket = format!("lanebox-jail-{name}-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&socket).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    Setup { folder, tcp, socket, _socket: listener }
}

/// The program of the tests, beside this one.
fn jailed() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().and_then(|deps| deps.parent()).unwrap().join("examples/jailed")
}

impl Setup {
    /// What came of each attempt.
    fn run(&self, more: &[&str]) -> BTreeMap<String, String> {
        self.run_by(Command::new(jailed()), more)
    }

    /// The same where the program is started by another one.
    fn run_by(&self, mut command: Command, more: &[&str]) -> BTreeMap<String, String> {
        command.arg(self.folder.path()).arg(std::process::id().to_string());
        command.arg(self.tcp.local_addr().unwrap().port().to_string()).arg(&self.socket);
        let output = command.args(more).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
        said.lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(name, outcome)| (name.to_owned(), outcome.to_owned()))
            .collect()
    }
}

fn assert_refused(outcomes: &BTreeMap<String, String>, but: &[&str]) {
    let others = ["report", "missing", "told"];
    let attempts = outcomes.iter().filter(|(name, _)| !others.contains(&name.as_str()));
    let mut count = 0;
    for (name, outcome) in attempts.filter(|(name, _)| !but.contains(&name.as_str())) {
        assert!(REFUSED.contains(&outcome.as_str()), "{name}: {outcome}\n{outcomes:?}");
        count += 1;
    }
    assert!(count > 40, "{outcomes:?}");
}

#[test]
fn the_same_attempts_succeed_where_nothing_confines_the_process() {
    let setup = set_up("free");
    let free = setup.run(&["--off"]);
    let common = [
        "read-file",
        "write-file",
        "create-file",
        "list-root",
        "change-mode",
        "truncate-file",
        "fork",
        "make-code",
        "kill",
        "connect-tcp",
        "connect-abstract",
        "become-dumpable",
    ];
    for name in common {
        assert_eq!(free.get(name).map(String::as_str), Some("done"), "{name}: {free:?}");
    }
    assert!(!setup.folder.path().join("file").exists(), "it was removed");
}

#[test]
fn nothing_gets_out_of_a_process_without_grants_whatever_its_threads_are_for() {
    let setup = set_up("none");
    for role in ["Main", "Blocking", "Device", "DeviceControl", "Keeper", "Network", "Log"] {
        let outcomes = setup.run(&[role]);
        assert_refused(&outcomes, &[]);
        // Those of the filter are told; Landlock's are errors of calls that are allowed.
        let told: usize = outcomes["told"].parse().unwrap();
        assert!(told > 30, "{role}: {outcomes:?}");
    }
    assert_eq!(fs::read(setup.folder.path().join("file")).unwrap(), b"mine");
    assert!(!setup.folder.path().join("new").exists());
}

#[test]
fn a_virtual_processor_and_the_one_who_makes_it_get_no_further() {
    let setup = set_up("machine");
    for role in ["Machine", "Processor", "Watch"] {
        assert_refused(&setup.run(&[role]), &[]);
    }
}

#[test]
fn the_network_opens_the_network_alone() {
    let setup = set_up("network");
    let outcomes = setup.run(&["Network", "network"]);
    assert_refused(&outcomes, &["connect-tcp", "make-ipv6-socket", "make-raw-socket"]);
    assert_eq!(outcomes["connect-tcp"], "done", "{outcomes:?}");
    assert!(!outcomes["make-raw-socket"].contains("done"), "{outcomes:?}");
    assert!(!outcomes["report"].contains("network namespaces"), "{outcomes:?}");
}

#[test]
fn a_granted_folder_opens_itself_alone() {
    let setup = set_up("grant");
    let read = format!("read:{}", setup.folder.path().display());
    let outcomes = setup.run(&["Main", &read]);
    assert_refused(&outcomes, &["read-file", "list-folder"]);
    assert_eq!(outcomes["read-file"], "done");
    assert_eq!(outcomes["write-file"], "EACCES");
    let write = format!("write:{}", setup.folder.path().display());
    let outcomes = setup.run(&["Main", &write]);
    let inside = [
        "read-file",
        "list-folder",
        "write-file",
        "create-file",
        "make-folder",
        "rename-file",
        "remove-file",
    ];
    assert_refused(&outcomes, &inside);
    assert_eq!(outcomes["write-file"], "done");
    // What is made is no device, and what is outside stays closed.
    assert_eq!(outcomes["make-device"], "EPERM");
    assert_eq!(outcomes["read-users"], "EACCES");
}

#[test]
fn a_file_that_is_to_be_made_opens_nothing_beside_it() {
    let setup = set_up("create");
    let create = format!("create:{}", setup.folder.path().join("disk").display());
    let outcomes = setup.run(&["Main", &create]);
    assert_refused(&outcomes, &[]);
    assert_eq!(outcomes["read-file"], "EACCES");
    assert_eq!(outcomes["create-file"], "EACCES");
}

#[test]
fn a_host_without_user_namespaces_is_told_and_the_other_walls_stand() {
    let setup = set_up("namespaces");
    // The limit is that of the namespace which is made here, and of those inside of it.
    let script = "echo 0 >/proc/sys/user/max_user_namespaces && exec \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", script]).arg(jailed());
    if !Command::new("unshare").args(["--user", "true"]).status().is_ok_and(|it| it.success()) {
        println!("skipped: this host gives no user namespaces in the first place");
        return;
    }
    let outcomes = setup.run_by(command, &["Main"]);
    assert!(outcomes["report"].contains("no namespaces of its own (ENOSPC)"), "{outcomes:?}");
    assert!(outcomes["missing"].contains("no user namespaces"), "{outcomes:?}");
    assert_refused(&outcomes, &[]);
}

#[test]
fn a_host_without_landlock_is_told_and_the_other_walls_stand() {
    let setup = set_up("landlock");
    let outcomes = setup.run(&["Main", "no-landlock"]);
    assert!(outcomes["report"].contains("no Landlock"), "{outcomes:?}");
    assert!(outcomes["missing"].contains("has no Landlock"), "{outcomes:?}");
    // What only Landlock forbids; nothing of it changes an attribute or runs a program.
    let open = [
        "read-file",
        "write-file",
        "create-file",
        "list-folder",
        "list-root",
        "read-users",
        "read-passwords",
        "make-link",
        "remove-file",
        "kill",
        "open-environment",
        "open-memory",
    ];
    assert_refused(&outcomes, &open);
    assert_eq!(outcomes["read-file"], "done", "{outcomes:?}");
    for name in ["execute", "fork", "change-mode", "connect-tcp", "trace", "make-code"] {
        assert_eq!(outcomes[name], "EPERM", "{name}");
    }
}

#[test]
fn the_report_tells_what_is_in_force() {
    let setup = set_up("report");
    let report = &setup.run(&["Main"])["report"];
    assert!(report.contains("seccomp") && report.contains("no capabilities"), "{report}");
    if nix::unistd::geteuid().is_root() {
        let write = format!("write:{}", setup.folder.path().display());
        let report = &setup.run(&["Main", &write])["report"];
        assert!(report.contains("chown+dac_override"), "{report}");
    }
}
