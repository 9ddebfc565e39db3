//! Servers whose protocols are not ours to read, and their own clients: relayed byte by byte.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use netstack::HOST_V4;
use tempfile::TempDir;

use crate::daemon::{Daemon, free_ports};
use crate::guest::noise;
use crate::lane::{Lane, installed};
use crate::tcp::patient;

/// `sshd` in a mount namespace of its own, where the folder that it insists on is there.
const SSHD: &str =
    r#"mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec /usr/sbin/sshd -D -e -f "$1""#;

#[test]
fn openssh_speaks_first_and_exchanges_keys() {
    let test = "openssh_speaks_first_and_exchanges_keys";
    if !["sshd", "ssh-keygen", "ssh-keyscan"].iter().all(|program| installed(test, program)) {
        return;
    }
    let [port] = free_ports();
    let Some(lane) = Lane::relayed(test, &[port]) else { return };
    let folder = TempDir::new().expect("a folder");
    let (key, config) = (folder.path().join("key"), folder.path().join("sshd_config"));
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
        .arg(&key)
        .status();
    assert!(made.expect("it is installed").success());
    let text = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {}\nPidFile none\nUsePAM no\nUseDNS no\n\
         AuthenticationMethods none\nPermitRootLogin no\n",
        key.display()
    );
    std::fs::write(&config, text).expect("written");
    let mut sshd = Command::new("unshare");
    sshd.args(["--mount", "sh", "-c", SSHD, "sh"]).arg(&config);
    let _sshd = Daemon::start(sshd, folder.path(), &[port]);

    // Nothing is said by the client.
    let address = SocketAddr::from((HOST_V4, port));
    let stream = lane.guest().run(move || TcpStream::connect(address)).expect("a connection");
    let mut banner = String::new();
    BufReader::new(patient(stream)).read_line(&mut banner).expect("a banner");
    assert!(banner.starts_with("SSH-2.0-OpenSSH_") && banner.ends_with("\r\n"), "{banner:?}");

    let public = std::fs::read_to_string(key.with_extension("pub")).expect("the public key");
    let port = port.to_string();
    let scan = r#"ssh-keyscan -T 60 -t ed25519 -p "$PORT" 10.0.2.2"#;
    let said = lane.must_run(scan, &[("PORT", &port)]);
    assert!(said.contains(&format!("[10.0.2.2]:{port} {}", public.trim())), "{said}");
    lane.end();
}

#[test]
fn redis_takes_large_values_and_long_pipelines() {
    let test = "redis_takes_large_values_and_long_pipelines";
    if !["redis-server", "redis-cli"].iter().all(|program| installed(test, program)) {
        return;
    }
    let [port] = free_ports();
    let Some(lane) = Lane::relayed(test, &[port]) else { return };
    let folder = TempDir::new().expect("a folder");
    let value = folder.path().join("value");
    std::fs::write(&value, noise(7, 1 << 20)).expect("written");
    let mut commands = Vec::new();
    for number in 0..20_000 {
        write!(commands, "SET key:{number} value:{number}\r\n").expect("there is room");
    }
    std::fs::write(folder.path().join("commands"), commands).expect("written");
    let mut redis = Command::new("redis-server");
    redis.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"]);
    redis.arg(port.to_string()).arg("--dir").arg(folder.path());
    let _redis = Daemon::start(redis, folder.path(), &[port]);

    let port = port.to_string();
    let path = folder.path().to_str().expect("text");
    let variables = [("PORT", port.as_str()), ("FOLDER", path)];
    let redis = |rest: &str| {
        let script = format!(r#"redis() {{ redis-cli -h 10.0.2.2 -p "$PORT" "$@"; }}; {rest}"#);
        lane.must_run(&script, &variables).trim().to_owned()
    };
    assert_eq!(redis("redis PING"), "PONG");
    assert_eq!(redis(r#"redis -x SET value <"$FOLDER/value""#), "OK");
    // The client adds a line feed.
    redis(r#"redis --raw GET value | head -c -1 | cmp - "$FOLDER/value""#);
    let said = redis(r#"redis --pipe <"$FOLDER/commands""#);
    assert!(said.contains("errors: 0, replies: 20000"), "{said}");
    assert_eq!(redis("redis GET key:19999"), "value:19999");
    assert_eq!(redis("redis DBSIZE"), "20001");
    lane.end();
}
