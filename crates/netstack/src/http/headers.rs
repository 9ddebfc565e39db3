//! Which header fields cross from one connection to the other (RFC 9110, 7.6.1; RFC 9113, 8.2.2).

use http::header::{
    ALT_SVC, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue};

/// Belong to one connection.
static HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TRANSFER_ENCODING,
    UPGRADE,
];
/// What the middleware cannot change: they frame the message, or are checked.
static PROTECTED: [HeaderName; 6] =
    [HOST, CONTENT_LENGTH, TE, TRAILER, EXPECT, HeaderName::from_static("http2-settings")];
/// Shorter values say nothing when they turn up in a response.
const SHORTEST_INJECTED: usize = 6;

/// Takes out what belongs to the connection. `TE: trailers` stays: gRPC needs it.
pub(super) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let trailers = headers.get_all(TE).iter().any(|value| has_token(value, "trailers"));
    for name in named.iter().chain(&HOP_BY_HOP) {
        // What says who is meant, and how long the message is, is nobody's to take away.
        if *name != HOST && *name != CONTENT_LENGTH {
            headers.remove(name);
        }
    }
    headers.remove(TE);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Takes out of a response what would lead the guest past us.
pub(super) fn strip_response(headers: &mut HeaderMap) {
    strip(headers);
    headers.remove(TE);
    headers.remove(ALT_SVC);
}

/// The protocol that the guest wants to upgrade to.
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let wanted = headers.get_all(CONNECTION).iter().any(|value| has_token(value, "upgrade"));
    headers.get(UPGRADE).filter(|value| wanted && !has_token(value, "h2c")).cloned()
}

/// Says that the connection is to be upgraded.
pub(super) fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

fn has_token(value: &HeaderValue, token: &str) -> bool {
    let Ok(value) = value.to_str() else { return false };
    let name = |part: &str| part.split(';').next().unwrap_or_default().trim().to_owned();
    value.split(',').any(|part| name(part).eq_ignore_ascii_case(token))
}

/// Undoes what the middleware must not change.
pub(super) fn restore(original: &HeaderMap, headers: &mut HeaderMap) {
    for name in &PROTECTED {
        headers.remove(name);
        for value in original.get_all(name) {
            headers.append(name, value.clone());
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// The values that the guest did not send. They are marked, so that no table keeps them.
pub(super) fn injected(original: &HeaderMap, headers: &mut HeaderMap) -> Vec<HeaderValue> {
    let mut found = Vec::new();
    for (name, value) in headers.iter_mut() {
        if !original.get_all(name).iter().any(|sent| *sent == *value) {
            value.set_sensitive(true);
            found.push(value.clone());
        }
    }
    found
}

/// Takes out of a response the fields in which an injected value turns up.
pub(super) fn scrub(headers: &mut HeaderMap, injected: &[HeaderValue]) {
    let needles: Vec<&[u8]> = injected.iter().flat_map(needles).collect();
    if needles.is_empty() {
        return;
    }
    let tells = |value: &HeaderValue| {
        let bytes = value.as_bytes();
        needles.iter().any(|needle| bytes.windows(needle.len()).any(|part| part == *needle))
    };
    let kept: Vec<_> = headers
        .iter()
        .filter(|(_, value)| !tells(value))
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect();
    if kept.len() < headers.len() {
        headers.clear();
        for (name, value) in kept {
            headers.append(name, value);
        }
    }
}

/// A value, and what follows the scheme in credentials.
fn needles(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let whole = value.as_bytes();
    let rest = whole.iter().position(|&byte| byte == b' ').map(|at| &whole[at + 1..]);
    [Some(whole), rest].into_iter().flatten().filter(|bytes| bytes.len() >= SHORTEST_INJECTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&str, &str)| (name.parse().unwrap(), value.parse().unwrap());
        fields.iter().map(field).collect::<Vec<(HeaderName, HeaderValue)>>().into_iter().collect()
    }

    #[test]
    fn what_belongs_to_the_connection_stays_there() {
        let mut headers = map(&[
            ("connection", "close, X-Mine, host"),
            ("x-mine", "1"),
            ("host", "a"),
            ("te", "gzip, trailers;q=1"),
            ("transfer-encoding", "chunked"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
        ]);
        strip(&mut headers);
        let rest = map(&[("host", "a"), ("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers")]);
        assert_eq!(headers, rest);
    }

    #[test]
    fn the_middleware_cannot_reframe_a_message() {
        let original = map(&[("host", "a"), ("content-length", "3")]);
        let mut changed = map(&[
            ("host", "b"),
            ("transfer-encoding", "chunked"),
            ("connection", "x"),
            ("x-y", "z"),
        ]);
        restore(&original, &mut changed);
        assert_eq!(changed, map(&[("host", "a"), ("content-length", "3"), ("x-y", "z")]));
    }

    #[test]
    fn injected_values_do_not_come_back() {
        let original = map(&[("accept", "text/html"), ("authorization", "none at all")]);
        let mut sent = original.clone();
        sent.insert("authorization", "Bearer abcdefgh".parse().unwrap());
        let injected = injected(&original, &mut sent);
        assert_eq!(injected, ["Bearer abcdefgh"]);
        assert!(sent["authorization"].is_sensitive() && !sent["accept"].is_sensitive());
        let mut response = map(&[
            ("location", "https://a/?t=abcdefgh"),
            ("x-echo", "Bearer abcdefgh"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
        ]);
        scrub(&mut response, &injected);
        assert_eq!(response, map(&[("set-cookie", "a=1"), ("set-cookie", "b=2")]));
    }
}
