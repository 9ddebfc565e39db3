//! What confines the program, tried from inside of it. Debug builds have the attempts.

use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use crate::helper::spawn;
use crate::program;

/// What a refusal looks like: of the filter of system calls, and of Landlock.
const REFUSED: [&str; 2] = ["EPERM", "EACCES"];

/// The attempts of a program with these arguments: thread and name, and the outcome.
fn attempts(arguments: &[&str]) -> Vec<(String, String)> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "mine").unwrap();
    let tcp = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let name = format!("lanebox-attempt-{}-{}", std::process::id(), arguments.len());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let (child, _connection) = spawn(program(), |command| {
        command.arg("--attempt").arg(folder.path()).arg(std::process::id().to_string());
        command.arg(tcp.local_addr().unwrap().port().to_string()).arg(&name).args(arguments);
    });
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let outcomes = said.lines().filter_map(|line| line.rsplit_once(' '));
    outcomes.map(|(what, outcome)| (what.to_owned(), outcome.to_owned())).collect()
}

fn outcome<'a>(of: &'a [(String, String)], what: &str) -> &'a str {
    &of.iter().find(|(name, _)| name == what).unwrap().1
}

#[tokio::test]
async fn every_attempt_to_break_out_is_refused_by_name() {
    let tried = attempts(&[]);
    assert!(tried.len() > 100, "{tried:?}");
    for (what, outcome) in &tried {
        assert!(REFUSED.contains(&outcome.as_str()), "{what}: {outcome}\n{tried:?}");
    }
}

#[tokio::test]
async fn the_same_attempts_succeed_in_a_program_that_does_not_confine_itself() {
    let tried = attempts(&["--confinement", "off"]);
    for what in ["read-file", "create-file", "list-root", "kill", "make-code", "connect-tcp"] {
        assert_eq!(outcome(&tried, &format!("pool {what}")), "done", "{tried:?}");
    }
}

#[tokio::test]
async fn a_network_is_the_only_thing_that_network_gives() {
    let given = ["connect-tcp", "make-ipv6-socket", "make-raw-socket"];
    let tried = attempts(&["--network"]);
    assert_eq!(outcome(&tried, "main connect-tcp"), "done", "{tried:?}");
    for (what, outcome) in &tried {
        let name = what.split(' ').next_back().unwrap();
        let fine = given.contains(&name) || REFUSED.contains(&outcome.as_str());
        assert!(fine, "{what}: {outcome}\n{tried:?}");
    }
}
