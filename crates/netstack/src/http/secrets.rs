//! Secrets that the guest never holds: it has a placeholder, and the value takes its place upstream.
//!
//! Values do not print, are in no argument list and no event, and are wiped when dropped.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue};
use zeroize::Zeroizing;

use crate::names::HostName;
use crate::policy::HostPattern;

/// Random bytes of a placeholder.
const RANDOM: usize = 24;
/// What a placeholder begins with.
const PREFIX: &str = "lanebox-placeholder-";

/// A value that does not print and is wiped when dropped.
#[derive(Clone)]
pub struct SecretValue(Zeroizing<String>);

impl SecretValue {
    /// Takes the value over.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(..)")
    }
}

/// Why a secret cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// Nothing in it.
    #[error("secrets.{0}.value is empty")]
    Empty(String),
    /// It could never be sent.
    #[error("secrets.{0}.value cannot stand in a header")]
    NoHeader(String),
    /// It could never be used.
    #[error("secrets.{0}.hosts is empty")]
    NoHosts(String),
}

/// One secret.
#[derive(Clone, Debug)]
pub struct Secret {
    name: String,
    placeholder: String,
    value: SecretValue,
    hosts: Vec<HostPattern>,
    in_query: bool,
}

impl Secret {
    /// A secret for requests to these hosts, with a new placeholder. With `in_query` the value also
    /// takes its place in the query of the URL.
    ///
    /// # Errors
    /// When it could never be sent.
    pub fn new(
        name: &str,
        value: SecretValue,
        hosts: Vec<HostPattern>,
        in_query: bool,
    ) -> Result<Self, InvalidSecret> {
        if value.0.is_empty() {
            return Err(InvalidSecret::Empty(name.to_owned()));
        }
        if HeaderValue::from_str(&value.0).is_err() {
            return Err(InvalidSecret::NoHeader(name.to_owned()));
        }
        if hosts.is_empty() {
            return Err(InvalidSecret::NoHosts(name.to_owned()));
        }
        let random: [u8; RANDOM] = rand::random();
        let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let placeholder = format!("{PREFIX}{digits}");
        Ok(Self { name: name.to_owned(), placeholder, value, hosts, in_query })
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the guest holds instead.
    #[must_use]
    pub fn placeholder(&self) -> &str {
        &self.placeholder
    }

    fn is_for(&self, host: Option<&HostName>) -> bool {
        host.is_some_and(|host| self.hosts.iter().any(|pattern| pattern.matches(host)))
    }
}

/// All secrets of a guest.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Vec<Secret>);

/// A placeholder was on its way to a host that may not have the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blocked {
    /// The secret's name.
    pub(super) name: String,
}

impl Secrets {
    /// These secrets.
    #[must_use]
    pub fn new(secrets: Vec<Secret>) -> Self {
        Self(secrets)
    }

    /// The secrets, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = &Secret> {
        self.0.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts values in place of placeholders, or says which one must not go there.
    pub(super) fn apply(
        &self,
        host: Option<&HostName>,
        headers: &mut HeaderMap,
        target: &mut PathAndQuery,
    ) -> Result<(), Blocked> {
        for secret in &self.0 {
            let allowed = secret.is_for(host);
            for (name, value) in headers.iter_mut() {
                let plain = replace(value.as_bytes(), secret);
                let basic = || (*name == AUTHORIZATION).then(|| basic(value.as_bytes(), secret));
                let Some(new) = plain.or_else(|| basic().flatten()) else { continue };
                let new = HeaderValue::from_bytes(&new).ok().filter(|_| allowed);
                *value = new.ok_or_else(|| Blocked { name: secret.name.clone() })?;
                value.set_sensitive(true);
            }
            if target.as_str().contains(&secret.placeholder) {
                if !allowed {
                    return Err(Blocked { name: secret.name.clone() });
                }
                if secret.in_query {
                    *target = in_query(target, secret);
                }
            }
        }
        Ok(())
    }
}

fn replace(value: &[u8], secret: &Secret) -> Option<Zeroizing<Vec<u8>>> {
    let placeholder = secret.placeholder.as_bytes();
    let mut new = Zeroizing::new(Vec::new());
    let mut rest = value;
    let find = |bytes: &[u8]| bytes.windows(placeholder.len()).position(|part| part == placeholder);
    while let Some(at) = find(rest) {
        new.extend_from_slice(&rest[..at]);
        new.extend_from_slice(secret.value.0.as_bytes());
        rest = &rest[at + placeholder.len()..];
    }
    if rest.len() == value.len() {
        return None;
    }
    new.extend_from_slice(rest);
    Some(new)
}

/// The same inside of `Basic` credentials (RFC 7617), as git and curl send tokens.
fn basic(value: &[u8], secret: &Secret) -> Option<Zeroizing<Vec<u8>>> {
    let (scheme, coded) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let plain = STANDARD.decode(coded.trim_ascii()).ok()?;
    let new = replace(&plain, secret)?;
    let coded = Zeroizing::new(STANDARD.encode(&*new));
    Some(Zeroizing::new([b"Basic ", coded.as_bytes()].concat()))
}

fn in_query(target: &PathAndQuery, secret: &Secret) -> PathAndQuery {
    let Some(query) = target.query() else { return target.clone() };
    let coded: String = secret.value.0.bytes().map(percent).collect();
    let query = query.replace(&secret.placeholder, &coded);
    format!("{}?{query}", target.path()).parse().unwrap_or_else(|_| target.clone())
}

fn percent(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(in_query: bool) -> Secret {
        let hosts = vec!["*.example.com".parse().unwrap()];
        Secret::new("TOKEN", SecretValue::new("s3cr&t".into()), hosts, in_query).unwrap()
    }

    fn apply(
        secret: &Secret,
        host: &str,
        header: &str,
        target: &str,
    ) -> Result<(String, String), Blocked> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, header.parse().unwrap());
        let mut target = target.parse().unwrap();
        let host = HostName::parse(host);
        Secrets::new(vec![secret.clone()]).apply(host.as_ref(), &mut headers, &mut target)?;
        Ok((headers[AUTHORIZATION].to_str().unwrap().to_owned(), target.to_string()))
    }

    #[test]
    fn the_value_takes_its_place_for_its_hosts_only() {
        let secret = secret(false);
        let header = format!("Bearer {0},{0}", secret.placeholder());
        let (sent, _) = apply(&secret, "api.example.com", &header, "/").unwrap();
        assert_eq!(sent, "Bearer s3cr&t,s3cr&t");
        for host in ["example.org", "api.example.com.evil.org", "192.0.2.1"] {
            let blocked = apply(&secret, host, &header, "/").unwrap_err();
            assert_eq!(blocked.name, "TOKEN");
        }
    }

    #[test]
    fn basic_credentials_are_looked_into() {
        let secret = secret(false);
        let coded = STANDARD.encode(format!("git:{}", secret.placeholder()));
        let header = format!("basic {coded}");
        let (sent, _) = apply(&secret, "git.example.com", &header, "/").unwrap();
        assert_eq!(sent, format!("Basic {}", STANDARD.encode("git:s3cr&t")));
        assert!(apply(&secret, "example.org", &header, "/").is_err());
    }

    #[test]
    fn the_query_is_opt_in() {
        let (with, without) = (secret(true), secret(false));
        let target = format!("/{0}?k={0}", with.placeholder());
        let (_, sent) = apply(&with, "api.example.com", "x", &target).unwrap();
        assert_eq!(sent, format!("/{}?k=s3cr%26t", with.placeholder()));
        let target = format!("/?k={}", without.placeholder());
        assert_eq!(apply(&without, "api.example.com", "x", &target).unwrap().1, target);
        assert!(apply(&without, "example.org", "x", &target).is_err());
    }

    #[test]
    fn values_do_not_print_and_useless_ones_are_refused() {
        let printed = format!("{:?}", Secrets::new(vec![secret(true)]));
        assert!(!printed.contains("s3cr"), "{printed}");
        let host = || vec!["a.example".parse().unwrap()];
        let new =
            |value: &str, hosts| Secret::new("T", SecretValue::new(value.into()), hosts, false);
        assert_eq!(new("", host()).unwrap_err(), InvalidSecret::Empty("T".into()));
        assert_eq!(new("a\r\nb", host()).unwrap_err(), InvalidSecret::NoHeader("T".into()));
        assert_eq!(new("a", Vec::new()).unwrap_err(), InvalidSecret::NoHosts("T".into()));
    }
}
