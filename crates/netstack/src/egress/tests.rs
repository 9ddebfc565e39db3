use super::*;

fn to(text: &str) -> SocketAddr {
    text.parse().expect("an endpoint")
}

const EVERYTHING: Grants = Grants { link_local: true };

#[test]
fn the_host_is_dialled_at_its_loopback() {
    for (asked, real) in [("10.0.2.2:80", "127.0.0.1:80"), ("[fd00::2]:81", "[::1]:81")] {
        assert_eq!(target(to(asked), Grants::default()).expect("allowed"), to(real));
    }
}

#[test]
fn what_could_reach_loopback_is_never_dialled() {
    for literal in [
        "127.0.0.1:80",
        "127.1.2.3:80",
        "[::1]:80",
        "[::ffff:127.0.0.1]:80",
        "[::127.0.0.1]:80",
        "[64:ff9b::127.0.0.1]:80",
        "0.0.0.0:80",
        "0.1.2.3:80",
        "[::]:80",
        "[::ffff:0.0.0.0]:80",
        "224.0.0.1:80",
        "[ff02::1]:80",
        "255.255.255.255:80",
        "10.0.2.1:80",
        "10.0.2.15:80",
        "10.0.2.255:80",
        "[fd00::1]:80",
        "[fe80::1]:80",
        "[fd00::99]:80",
    ] {
        let refused = target(to(literal), EVERYTHING);
        assert!(matches!(refused, Err(DialError::Forbidden(_))), "{literal}: {refused:?}");
    }
}

#[test]
fn link_local_needs_its_grant() {
    for literal in ["169.254.169.254:80", "[::ffff:169.254.169.254]:80", "[fe80::2]:80"] {
        assert!(target(to(literal), Grants::default()).is_err(), "{literal}");
        assert!(target(to(literal), EVERYTHING).is_ok(), "{literal}");
    }
}

#[test]
fn mapped_addresses_are_dialled_as_what_they_are() {
    let real = target(to("[::ffff:192.0.2.1]:443"), Grants::default()).expect("allowed");
    assert_eq!(real, to("192.0.2.1:443"));
}

#[tokio::test]
async fn a_refused_connection_says_so() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    drop(listener);
    let egress = Egress::new(EgressOptions::default());
    let error = egress.connect(to(&format!("10.0.2.2:{port}")), Grants::default()).await;
    assert_eq!(error.expect_err("nobody listens").errno(), libc::ECONNREFUSED);
}

#[tokio::test]
async fn connections_in_the_making_wait_for_their_turn() {
    let options = EgressOptions { connect_timeout: Duration::from_millis(10), half_open: 0 };
    let error = Egress::new(options).connect(to("10.0.2.2:9"), Grants::default()).await;
    assert!(matches!(error, Err(DialError::TimedOut)));
}
