use super::*;

fn class(text: &str) -> AddressClass {
    AddressClass::of(text.parse().expect("an address"))
}

fn kinds(text: &str) -> Vec<&'static str> {
    let class = class(text);
    [
        (class.loopback, "loopback"),
        (class.private, "private"),
        (class.link_local, "link-local"),
        (class.multicast, "multicast"),
        (class.broadcast, "broadcast"),
        (class.documentation, "documentation"),
        (class.reserved, "reserved"),
        (class.public_internet, "public"),
        (class.host, "host"),
    ]
    .into_iter()
    .filter_map(|(holds, name)| holds.then_some(name))
    .collect()
}

fn check(table: &[(&str, &[&str])]) {
    for (address, expected) in table {
        assert_eq!(kinds(address), *expected, "{address}");
    }
}

/// First and last address of each entry of the registry, and their neighbours outside.
#[test]
fn ipv4_special_purpose_registry() {
    check(&[
        ("0.0.0.0", &["reserved"]),
        ("0.255.255.255", &["reserved"]),
        ("1.0.0.0", &["public"]),
        ("9.255.255.255", &["public"]),
        ("10.0.0.0", &["private"]),
        ("10.255.255.255", &["private"]),
        ("11.0.0.0", &["public"]),
        ("100.63.255.255", &["public"]),
        ("100.64.0.0", &["private"]),
        ("100.127.255.255", &["private"]),
        ("100.128.0.0", &["public"]),
        ("126.255.255.255", &["public"]),
        ("127.0.0.1", &["loopback"]),
        ("127.255.255.255", &["loopback"]),
        ("128.0.0.0", &["public"]),
        ("169.253.255.255", &["public"]),
        ("169.254.169.254", &["link-local"]),
        ("169.255.0.0", &["public"]),
        ("172.15.255.255", &["public"]),
        ("172.16.0.0", &["private"]),
        ("172.31.255.255", &["private"]),
        ("172.32.0.0", &["public"]),
        ("192.0.0.0", &["reserved"]),
        ("192.0.0.8", &["reserved"]),
        ("192.0.0.9", &["public"]),
        ("192.0.0.10", &["public"]),
        ("192.0.0.170", &["reserved"]),
        ("192.0.0.255", &["reserved"]),
        ("192.0.1.0", &["public"]),
        ("192.0.2.1", &["documentation"]),
        ("192.0.3.0", &["public"]),
        ("192.31.196.1", &["public"]),
        ("192.52.193.1", &["public"]),
        ("192.88.99.1", &["reserved"]),
        ("192.168.0.0", &["private"]),
        ("192.168.255.255", &["private"]),
        ("192.169.0.0", &["public"]),
        ("192.175.48.1", &["public"]),
        ("198.17.255.255", &["public"]),
        ("198.18.0.0", &["reserved"]),
        ("198.19.255.255", &["reserved"]),
        ("198.20.0.0", &["public"]),
        ("198.51.100.7", &["documentation"]),
        ("203.0.113.7", &["documentation"]),
        ("223.255.255.255", &["public"]),
        ("224.0.0.1", &["multicast"]),
        ("233.252.0.1", &["multicast", "documentation"]),
        ("239.255.255.255", &["multicast"]),
        ("240.0.0.0", &["reserved"]),
        ("255.255.255.254", &["reserved"]),
        ("255.255.255.255", &["broadcast", "reserved"]),
    ]);
}

#[test]
fn ipv6_special_purpose_registry() {
    check(&[
        ("::", &["reserved"]),
        ("::1", &["loopback"]),
        ("::2", &["reserved"]),
        ("::127.0.0.1", &["reserved"]),
        ("64:ff9b:1::1", &["private"]),
        ("64:ff9b:2::1", &["reserved"]),
        ("100::1", &["reserved"]),
        ("100:0:0:1::1", &["reserved"]),
        ("2000::", &["public"]),
        ("2001::1", &["reserved"]),
        ("2001:1::1", &["public"]),
        ("2001:1::3", &["public"]),
        ("2001:1::4", &["reserved"]),
        ("2001:2::1", &["reserved"]),
        ("2001:3::1", &["public"]),
        ("2001:4:112::1", &["public"]),
        ("2001:10::1", &["reserved"]),
        ("2001:20::1", &["public"]),
        ("2001:2f:ffff::1", &["public"]),
        ("2001:30::1", &["public"]),
        ("2001:1ff:ffff::1", &["reserved"]),
        ("2001:200::1", &["public"]),
        ("2001:db7:ffff::1", &["public"]),
        ("2001:db8::1", &["documentation"]),
        ("2001:db9::1", &["public"]),
        ("2002:7f00:1::1", &["reserved"]),
        ("2003::1", &["public"]),
        ("2606:4700::1111", &["public"]),
        ("2620:4f:8000::1", &["public"]),
        ("3ffe:ffff::1", &["public"]),
        ("3fff::1", &["documentation"]),
        ("3fff:fff:ffff::1", &["documentation"]),
        ("3fff:1000::1", &["public"]),
        ("4000::1", &["reserved"]),
        ("5f00::1", &["reserved"]),
        ("fbff::1", &["reserved"]),
        ("fc00::1", &["private"]),
        ("fdff::1", &["private"]),
        ("fe00::1", &["reserved"]),
        ("fe80::1", &["link-local"]),
        ("febf::1", &["link-local"]),
        ("fec0::1", &["private"]),
        ("ff02::1", &["multicast"]),
    ]);
}

#[test]
fn wrapped_ipv4_is_judged_by_what_is_inside() {
    check(&[
        ("::ffff:127.0.0.1", &["loopback"]),
        ("::ffff:169.254.169.254", &["link-local"]),
        ("::ffff:10.1.2.3", &["private"]),
        ("::ffff:8.8.8.8", &["public"]),
        ("64:ff9b::127.0.0.1", &["loopback"]),
        ("64:ff9b::8.8.8.8", &["public"]),
        ("64:ff9b::192.168.1.1", &["private"]),
    ]);
}

#[test]
fn the_host_has_its_two_addresses() {
    check(&[
        ("10.0.2.2", &["private", "host"]),
        ("fd00::2", &["private", "host"]),
        ("10.0.2.1", &["private"]),
        ("10.0.2.3", &["private"]),
        ("fd00::3", &["private"]),
    ]);
}

#[test]
fn blocks_contain_what_they_say() {
    let contains = |block: &str, address: &str| {
        block.parse::<Cidr>().expect("a block").contains(address.parse().expect("an address"))
    };
    assert!(contains("10.0.0.0/8", "10.255.0.1"));
    assert!(!contains("10.0.0.0/8", "11.0.0.0"));
    assert!(contains("0.0.0.0/0", "203.0.113.9"));
    assert!(!contains("0.0.0.0/0", "2001:db8::1"));
    assert!(contains("::/0", "2001:db8::1"));
    assert!(contains("2001:db8::/32", "2001:db8:ffff::1"));
    assert!(!contains("2001:db8::/32", "2001:db9::1"));
    assert!(contains("192.0.2.7", "192.0.2.7"));
    assert!(!contains("192.0.2.7", "192.0.2.8"));
    assert!(contains("192.0.2.7", "::ffff:192.0.2.7"));
}

#[test]
fn texts_that_are_no_blocks_are_refused() {
    for text in
        ["", "10.0.0.0/", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/+8", "::/129", "x/8", "10.0.0/8"]
    {
        assert!(text.parse::<Cidr>().is_err(), "{text}");
    }
}
