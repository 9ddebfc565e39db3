//! Programs as they come, through the resolver and interception: each fetches over HTTP and over HTTPS,
//! with nothing but the authority's certificate to make it believe, and the origin sees a credential
//! that none of them has. A program that is not installed is skipped by name.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, HeaderValue};
use netstack::dns::{Dns, Server, Servers};
use netstack::http::{Http, HttpRules, Limits, Observer, Options, Secrets, SetHeaders};
use netstack::names::Names;
use netstack::policy::{Allow, Rule, Rules, Services};
use netstack::tls::{Alpn, Authority, Trust};
use netstack::{Config, HOST_V4, dns};
use tokio::runtime::Runtime;

use crate::guest::Guest;
use crate::servers::{Log, name_server, origin};

const NAME: &str = "api.example.com";
const CREDENTIAL: &str = "Bearer for-the-origin-only";

/// A program, and how it fetches `$URL`, trusting the certificate in `$CA`.
const CLIENTS: [(&str, &str); 6] = [
    ("curl", r#"curl -sS --max-time 60 --cacert "$CA" "$URL""#),
    ("curl", r#"curl -sS --max-time 60 --http1.1 --cacert "$CA" "$URL""#),
    ("wget", r#"wget -q -T 60 -t 1 -O - --ca-certificate="$CA" "$URL""#),
    (
        "python3",
        r#"SSL_CERT_FILE="$CA" python3 -c 'import os, urllib.request as u
print(u.urlopen(os.environ["URL"], timeout=60).read().decode())'"#,
    ),
    (
        "python3",
        r#"REQUESTS_CA_BUNDLE="$CA" python3 -c 'import os, sys
try:
    import requests
except ImportError:
    sys.exit(77)
print(requests.get(os.environ["URL"], timeout=60).text)'"#,
    ),
    (
        "node",
        r#"NODE_EXTRA_CA_CERTS="$CA" node -e '
if (typeof fetch !== "function") process.exit(77);
fetch(process.env.URL).then(r => r.text()).then(console.log, e => { throw e; })'"#,
    ),
];
/// What a client ends with that lacks a part of itself.
const LACKS: i32 = 77;

struct World {
    guest: Guest,
    plain: (u16, Log),
    secure: (u16, Log),
    folder: std::path::PathBuf,
    _runtime: Runtime,
}

fn world(test: &str) -> Option<World> {
    let runtime = Runtime::new().expect("a runtime");
    let now = SystemTime::now();
    let roots = Authority::new(now).expect("an authority");
    let config = roots.server_config(NAME, Alpn::Http1, now).expect("a certificate");
    let (server, plain, secure) = runtime.block_on(async {
        (name_server(HOST_V4).await.0, origin(None).await, origin(Some(config)).await)
    });
    let names = Arc::new(Names::new());
    let servers = Servers::new(vec![Server::from(server)]);
    let resolver = Dns::new(servers, Arc::clone(&names), dns::Options::default());
    let authority = Arc::new(Authority::new(now).expect("an authority"));
    let http = Http::new(Options {
        names: Arc::clone(&names),
        authority: Arc::clone(&authority),
        trust: Arc::new(Trust::only(&[roots.certificate_pem()]).expect("a root")),
        secrets: Arc::new(Secrets::default()),
        limits: Limits::default(),
        observer: Observer::new(|event| eprintln!("{event:?}")),
    });
    let mut headers = HeaderMap::new();
    headers.insert("authorization", HeaderValue::from_static(CREDENTIAL));
    let middleware = Some(Arc::new(SetHeaders::new(headers)) as _);
    let mut rule = Rule::new(Allow::Http);
    rule.host = Some(NAME.parse().expect("a host"));
    rule.ports = vec![plain.0..=plain.0, secure.0..=secure.0];
    rule.allow_private = true;
    let services = Services {
        dns: Some(Arc::new(Arc::new(resolver))),
        names: Some(names),
        http: Some(Arc::new(HttpRules::new(http).rule(false, None).rule(true, middleware))),
    };
    let policy = Rules::new(vec![Rule::new(Allow::Dns), rule], services, None);
    let guest = Guest::with(test, Config::default(), Arc::new(policy))?;
    let folder = std::env::temp_dir().join(format!("netstack-clients-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("ca.pem"), authority.certificate_pem()).expect("written");
    std::fs::write(folder.join("resolv.conf"), "nameserver 10.0.2.1\n").expect("written");
    Some(World { guest, plain, secure, folder, _runtime: runtime })
}

/// Runs a script in the guest's network with the guest's resolver. Its status and what it said.
fn run(world: &World, script: &str, url: &str) -> (Option<i32>, String) {
    let shell = format!("mount --bind \"$RESOLV\" /etc/resolv.conf || exit 78\n{script}");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &shell]);
    command.env("URL", url);
    command.env("CA", world.folder.join("ca.pem"));
    command.env("RESOLV", world.folder.join("resolv.conf"));
    for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
    {
        command.env_remove(name);
    }
    let output = world.guest.run(move || command.output()).expect("unshare is here");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| Path::new(&folder).join(program).exists())
}

#[test]
fn programs_fetch_through_interception_and_never_see_the_credential() {
    let test = "programs_fetch_through_interception_and_never_see_the_credential";
    let Some(world) = world(test) else { return };
    if run(&world, "true", "").0 != Some(0) {
        eprintln!("skipped: {test}: no mount namespace");
        return;
    }
    let mut fetched = 0;
    for (number, (program, script)) in CLIENTS.iter().enumerate() {
        if !installed(program) {
            eprintln!("skipped: {test}: {program} is not installed");
            continue;
        }
        for (scheme, port) in [("http", world.plain.0), ("https", world.secure.0)] {
            let url = format!("{scheme}://{NAME}:{port}/{program}-{number}");
            let (status, said) = run(&world, script, &url);
            if status == Some(LACKS) {
                eprintln!("skipped: {test}: {program} lacks what client {number} needs");
                break;
            }
            assert_eq!(status, Some(0), "{program} over {scheme}: {said}");
            assert!(said.contains(&format!("asked for /{program}-{number}")), "{said}");
            assert!(!said.contains(CREDENTIAL), "{said}");
            fetched += 1;
        }
    }
    let heads = [world.plain.1.all(), world.secure.1.all()].concat();
    assert_eq!(heads.len(), fetched);
    for head in heads {
        assert!(head.to_ascii_lowercase().contains(&CREDENTIAL.to_ascii_lowercase()), "{head}");
    }
    // Another name is not resolved, and leads nowhere.
    if installed("curl") {
        let url = format!("https://evil.example:{}/", world.secure.0);
        assert_ne!(run(&world, CLIENTS[0].1, &url).0, Some(0));
    }
    std::fs::remove_dir_all(&world.folder).expect("removed");
    world.guest.end();
}
