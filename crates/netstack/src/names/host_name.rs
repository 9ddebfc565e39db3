//! A host name that has been checked: RFC 1123 with the underscore, in lower case, without the last dot.

use std::borrow::Borrow;
use std::fmt;
use std::net::Ipv4Addr;
use std::ops::Deref;
use std::sync::Arc;

/// Longest name (RFC 1035, 2.3.4), without the last dot.
const LONGEST_NAME: usize = 253;
/// Longest label (RFC 1035, 2.3.4).
const LONGEST_LABEL: usize = 63;

/// A host name in its one spelling. Two that name the same host are equal.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(Arc<str>);

impl HostName {
    /// Checks a name. `None` when it is none: an address, a label that is empty or too long, or
    /// any byte that host names do not have.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.len() > LONGEST_NAME || name.parse::<Ipv4Addr>().is_ok() {
            return None;
        }
        let mut last = "";
        for label in name.split('.') {
            let fits = (1..=LONGEST_LABEL).contains(&label.len());
            let bytes = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            if !fits || !label.bytes().all(bytes) {
                return None;
            }
            last = label;
        }
        // What ends in a number is read as an address by many (WHATWG URL, 3.5).
        if is_number(last) {
            return None;
        }
        Some(Self(name.to_ascii_lowercase().into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_number(label: &str) -> bool {
    let hexadecimal = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    label.bytes().all(|byte| byte.is_ascii_digit())
        || hexadecimal.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

impl Deref for HostName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for HostName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_the_last_dot_do_not_matter() {
        let name = HostName::parse("API.Example.com.").unwrap();
        assert_eq!(name.as_str(), "api.example.com");
        assert_eq!(Some(name), HostName::parse("api.example.COM"));
    }

    #[test]
    fn what_is_not_a_host_name_is_refused() {
        let long_label = format!("{}.com", "a".repeat(64));
        let long_name = format!("{}com", "abcdefgh.".repeat(28));
        for name in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a.b..",
            "a b",
            "a\0b",
            "a\nb",
            "exämple.com",
            "a:80",
            "[::1]",
            "::1",
            "10.0.0.1",
            "10.0.0.1.",
            "1",
            "0x7f.1",
            "127.1",
            "a.0x7f",
            "a/b",
            "a@b",
            &long_label,
            &long_name,
        ] {
            assert_eq!(HostName::parse(name), None, "{name:?}");
        }
        assert!(HostName::parse("_dmarc.1password.com").is_some());
        assert!(HostName::parse("localhost").is_some());
    }
}
