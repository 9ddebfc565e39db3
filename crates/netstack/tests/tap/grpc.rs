//! A gRPC server behind interception, and a client in the guest: calls of all four shapes, with what
//! comes in trailers, both ways.

use std::process::Command;

use tempfile::TempDir;

use crate::daemon::{Daemon, free_ports};
use crate::lane::{CREDENTIAL, Lane, NAME, installed};
use crate::paper::Paper;

/// The client and the server.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tap/grpc.cjs");
/// The packages that they are made with.
const PACKAGES: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../clients/typescript/node_modules");
/// What the script ends with that lacks them.
const LACKS: i32 = 77;

fn node() -> Command {
    let mut node = Command::new("node");
    node.arg(SCRIPT).env("NODE_PATH", PACKAGES);
    node
}

struct World {
    /// Before the folder, in which it works.
    _server: Daemon,
    lane: Lane,
    folder: TempDir,
    url: String,
}

fn world(test: &str) -> Option<World> {
    if !installed(test, "node") {
        return None;
    }
    let probe = node().arg("probe").output().expect("it is installed");
    if probe.status.code() == Some(LACKS) {
        eprintln!("skipped: {test}: the packages of the TypeScript client are not installed");
        return None;
    }
    assert!(probe.status.success(), "{probe:?}");
    let [port] = free_ports();
    let paper = Paper::new(NAME);
    let lane = Lane::intercepted(test, &paper.root, &[port])?;
    let folder = TempDir::new().expect("a folder");
    let (leaf, key) = (folder.path().join("leaf.pem"), folder.path().join("key.pem"));
    std::fs::write(&leaf, paper.leaf).expect("written");
    std::fs::write(&key, paper.key).expect("written");
    let mut server = node();
    server.arg("serve").arg(port.to_string()).args([leaf, key]).arg(CREDENTIAL);
    let _server = Daemon::start(server, folder.path(), &[port]);
    Some(World { lane, folder, url: format!("https://{NAME}:{port}"), _server })
}

#[test]
fn grpc_calls_of_every_shape_are_answered() {
    let Some(world) = world("grpc_calls_of_every_shape_are_answered") else { return };
    let variables = [("SCRIPT", SCRIPT), ("NODE_PATH", PACKAGES), ("URL", &world.url)];
    let said = world.lane.must_run(r#"node "$SCRIPT" call "$URL" "$CA""#, &variables);
    assert!(said.contains("all calls are answered"), "{said}");
    world.lane.end();
}

#[test]
fn many_grpc_calls_at_once_are_answered() {
    let test = "many_grpc_calls_at_once_are_answered";
    if !installed(test, "h2load") {
        return;
    }
    let Some(world) = world(test) else { return };
    // A message of five letters, which comes back.
    let message = b"\0\0\0\0\x07\x0a\x05hello";
    let file = world.folder.path().join("message");
    std::fs::write(&file, message).expect("written");
    let arguments = format!(
        "-c 5 -m 20 -d {} -H 'content-type: application/grpc' -H 'te: trailers'",
        file.display()
    );
    let calls = 1_000;
    let said = world.lane.load(&arguments, calls, &format!("{}/talk.Talk/Repeat", world.url));
    // An error would be a status without a message.
    assert!(said.contains(&format!("({}) data", calls * message.len())), "{said}");
    world.lane.end();
}
