//! Programs as they come, through the resolver and interception: each fetches over HTTP and over HTTPS,
//! with nothing but the authority's certificate to make it believe, and the origin sees a credential
//! that none of them has. A program that is not installed is skipped by name.

use std::time::SystemTime;

use netstack::tls::{Alpn, Authority};
use tokio::runtime::Runtime;

use crate::lane::{CREDENTIAL, Lane, NAME, installed};
use crate::servers::origin;

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

#[test]
fn programs_fetch_through_interception_and_never_see_the_credential() {
    let test = "programs_fetch_through_interception_and_never_see_the_credential";
    let runtime = Runtime::new().expect("a runtime");
    let now = SystemTime::now();
    let roots = Authority::new(now).expect("an authority");
    let config = roots.server_config(NAME, Alpn::Http1, now).expect("a certificate");
    let (plain, secure) =
        runtime.block_on(async { (origin(None).await, origin(Some(config)).await) });
    let ports = [plain.0, secure.0];
    let Some(lane) = Lane::intercepted(test, roots.certificate_pem(), &ports) else { return };
    let mut fetched = 0;
    for (number, (program, script)) in CLIENTS.iter().enumerate() {
        if !installed(test, program) {
            continue;
        }
        for (scheme, port) in [("http", plain.0), ("https", secure.0)] {
            let url = format!("{scheme}://{NAME}:{port}/{program}-{number}");
            let (status, said) = lane.run(script, &[("URL", &url)]);
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
    let heads = [plain.1.all(), secure.1.all()].concat();
    assert_eq!(heads.len(), fetched);
    for head in heads {
        assert!(head.to_ascii_lowercase().contains(&CREDENTIAL.to_ascii_lowercase()), "{head}");
    }
    // Another name is not resolved, and leads nowhere.
    if installed(test, "curl") {
        let url = format!("https://evil.example:{}/", secure.0);
        assert_ne!(lane.run(CLIENTS[0].1, &[("URL", &url)]).0, Some(0));
    }
    lane.end();
}
