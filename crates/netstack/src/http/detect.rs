//! What a connection speaks, by its first bytes.

/// The first bytes of HTTP/2 (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longest method; the registered ones have 17 letters at most.
const LONGEST_METHOD: usize = 32;

/// A protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detected {
    /// Not to be said yet.
    More,
    Tls,
    Http1,
    Http2,
    /// None that is let through.
    Other,
}

pub(super) fn detect(bytes: &[u8]) -> Detected {
    match bytes {
        [] | [22] => return Detected::More,
        [22, 3, ..] => return Detected::Tls,
        _ => (),
    }
    if bytes.starts_with(PREFACE) {
        return Detected::Http2;
    }
    if PREFACE.starts_with(bytes) {
        return Detected::More;
    }
    let start = &bytes[..bytes.len().min(LONGEST_METHOD + 1)];
    let method = start.iter().position(|&byte| byte == b' ');
    let letters =
        |bytes: &[u8]| bytes.iter().all(|byte| byte.is_ascii_alphabetic() || *byte == b'-');
    match method {
        Some(0) => Detected::Other,
        Some(end) if letters(&start[..end]) => Detected::Http1,
        None if start.len() <= LONGEST_METHOD && letters(start) => Detected::More,
        _ => Detected::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_told_by_their_first_bytes() {
        for (bytes, protocol) in [
            (&b""[..], Detected::More),
            (b"\x16", Detected::More),
            (b"\x16\x03\x01", Detected::Tls),
            (b"\x16\x02", Detected::Other),
            (b"GET / HTTP/1.1\r\n", Detected::Http1),
            (b"VERSION-CONTROL /", Detected::Http1),
            (b"GE", Detected::More),
            (b"PRI * HT", Detected::More),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Detected::Http2),
            (b"PRI * HTTP/1.1", Detected::Http1),
            (b" GET", Detected::Other),
            (b"\r\nGET", Detected::Other),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Detected::Other),
            (b"\x00\x00", Detected::Other),
            (b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", Detected::Other),
        ] {
            assert_eq!(detect(bytes), protocol, "{bytes:?}");
        }
    }
}
