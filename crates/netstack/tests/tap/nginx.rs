//! nginx behind interception, and the clients of nghttp2: many streams of many connections at once,
//! each with the credential, or nginx refuses it.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::daemon::{Daemon, free_ports};
use crate::guest::noise;
use crate::lane::{CREDENTIAL, Lane, NAME, installed};
use crate::paper::Paper;

/// Where nginx listens.
#[derive(Clone, Copy)]
struct Ports {
    /// HTTP/1.1.
    plain: u16,
    /// HTTP/2 without TLS.
    prior: u16,
    /// TLS, with either.
    secure: u16,
    /// The same; a connection ends after a hundred requests.
    brief: u16,
}

struct World {
    /// Before the folder, in which it works.
    _nginx: Daemon,
    lane: Lane,
    folder: TempDir,
    ports: Ports,
}

fn config(folder: &Path, ports: Ports) -> String {
    let Ports { plain, prior, secure, brief } = ports;
    let folder = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"))
        .concat();
    let check = format!("if ($http_authorization != \"{CREDENTIAL}\") {{ return 403; }}");
    let listen = |rest: &str| format!("server {{ listen 127.0.0.1:{rest}; {check} }}\n");
    format!(
        "daemon off; master_process off; pid {folder}/pid; error_log stderr warn;
        events {{ worker_connections 512; }}
        http {{
        access_log off; root {folder}/root; dav_methods PUT; client_max_body_size 64m;
        ssl_certificate {folder}/chain.pem; ssl_certificate_key {folder}/key.pem;
        {temporary}{}{}{}{}}}",
        listen(&plain.to_string()),
        listen(&format!("{prior} http2")),
        listen(&format!("{secure} ssl http2")),
        listen(&format!("{brief} ssl http2; keepalive_requests 100")),
    )
}

fn world(test: &str, client: &str) -> Option<World> {
    if !installed(test, "nginx") || !installed(test, client) {
        return None;
    }
    let [plain, prior, secure, brief] = free_ports();
    let ports = Ports { plain, prior, secure, brief };
    let paper = Paper::new(NAME);
    let all = [plain, prior, secure, brief];
    let lane = Lane::intercepted(test, &paper.root, &all)?;
    let folder = TempDir::new().expect("a folder");
    let path = folder.path();
    std::fs::create_dir(path.join("root")).expect("a folder");
    for (name, text) in [
        ("chain.pem", paper.leaf.as_bytes()),
        ("key.pem", paper.key.as_bytes()),
        ("nginx.conf", config(path, ports).as_bytes()),
        ("root/small", b"small"),
        ("root/large", &noise(3, 4 << 20)),
    ] {
        std::fs::write(path.join(name), text).expect("written");
    }
    let mut nginx = Command::new("nginx");
    nginx.args(["-e", "stderr", "-p"]).arg(path).arg("-c").arg(path.join("nginx.conf"));
    let _nginx = Daemon::start(nginx, path, &all);
    Some(World { lane, folder, ports, _nginx })
}

#[test]
fn nghttp_and_nginx_exchange_bodies_on_many_streams() {
    let test = "nghttp_and_nginx_exchange_bodies_on_many_streams";
    let Some(world) = world(test, "nghttp") else { return };
    let root = world.folder.path().join("root");
    let variables = [("ROOT", root.to_str().expect("text")), ("FLAGS", "-t 90")];
    for (scheme, port) in [("https", world.ports.secure), ("http", world.ports.prior)] {
        let url = format!("{scheme}://{NAME}:{port}");
        let run = |script: &str| {
            let script = format!("export SSL_CERT_FILE=\"$CA\" URL={url}\n{script}");
            let said = world.lane.must_run(&script, &variables);
            // It goes on with a certificate that it does not believe, and says so.
            assert!(!said.contains("WARNING"), "{said}");
            said
        };
        let said = run(r#"nghttp $FLAGS -ns -m 100 "$URL/small""#);
        let answers =
            said.lines().filter(|line| line.contains(" 200 ") && line.ends_with("/small"));
        assert_eq!(answers.count(), 100, "{said}");
        run(r#"nghttp $FLAGS "$URL/large" | cmp - "$ROOT/large""#);
        let put = format!("/{scheme}");
        let said =
            run(&format!(r#"nghttp $FLAGS -v -H ':method: PUT' -d "$ROOT/large" "$URL{put}""#));
        assert!(said.contains(":status: 201"), "{said}");
        let arrived = std::fs::read(root.join(scheme)).expect("it has arrived");
        assert!(arrived == noise(3, 4 << 20), "what arrived is something else");
    }
    world.lane.end();
}

#[test]
fn every_request_of_h2load_succeeds() {
    let test = "every_request_of_h2load_succeeds";
    let Some(world) = world(test, "h2load") else { return };
    let url = |scheme: &str, port: u16| format!("{scheme}://{NAME}:{port}/small");
    let Ports { plain, prior, secure, .. } = world.ports;
    world.lane.load("-c 10 -m 20", 2_000, &url("https", secure));
    world.lane.load("-c 10 -m 20", 1_000, &url("http", prior));
    world.lane.load("-c 10 --h1", 500, &url("http", plain));
    world.lane.load("-c 10 --h1", 500, &url("https", secure));
    world.lane.end();
}

#[test]
fn requests_outlive_connections_that_the_upstream_ends() {
    let test = "requests_outlive_connections_that_the_upstream_ends";
    let Some(world) = world(test, "h2load") else { return };
    let url = format!("https://{NAME}:{}/small", world.ports.brief);
    world.lane.load("-c 2 -m 1", 500, &url);
    world.lane.load("-c 2 -m 20", 1_000, &url);
    world.lane.load("-c 2 --h1", 500, &url);
    world.lane.end();
}
