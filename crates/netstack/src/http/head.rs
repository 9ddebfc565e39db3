//! The head of an HTTP/1 request, checked for what parsers disagree about (RFC 9112, 2.2, 5, 6, 11.2).

/// Header fields of one request.
pub(super) const MOST_HEADERS: usize = 128;

/// Where the body of a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// After the last chunk and its trailers.
    Chunked,
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("a line ends without CR LF")]
    LineEnd,
    #[error("a NUL")]
    Nul,
    #[error("a header field is folded")]
    Folded,
    #[error("the head is too long")]
    TooLong,
    #[error("the head took too long")]
    TooSlow,
    #[error("the request line or a header field is ill-formed")]
    Syntax,
    #[error("Host is missing or stands there twice")]
    Host,
    #[error("the length of the body is given in two ways, or ill-formed")]
    Length,
    #[error("the transfer coding is not chunked alone")]
    Coding,
    #[error("a chunk is ill-formed")]
    Chunk,
}

/// Checks a whole head, the empty line included.
pub(super) fn check(head: &[u8]) -> Result<Framing, Malformed> {
    check_lines(head, 0)?;
    let mut fields = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => (),
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed::TooLong),
        _ => return Err(Malformed::Syntax),
    }
    let newest = request.version == Some(1);
    let mut hosts = 0;
    let mut length = None;
    let mut chunked = false;
    for field in request.headers.iter() {
        if field.name.eq_ignore_ascii_case("host") {
            hosts += 1;
        } else if field.name.eq_ignore_ascii_case("content-length") {
            if length.replace(parse_length(field.value)?).is_some() {
                return Err(Malformed::Length);
            }
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            if chunked || !newest || !field.value.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed::Coding);
            }
            chunked = true;
        }
    }
    if hosts > 1 || newest && hosts == 0 {
        return Err(Malformed::Host);
    }
    match (length, chunked) {
        (Some(_), true) => Err(Malformed::Length),
        (None, true) => Ok(Framing::Chunked),
        (length, false) => Ok(Framing::Length(length.unwrap_or(0))),
    }
}

/// Checks the bytes of lines, in a head or as far as it has arrived; `last` is the byte before.
pub(super) fn check_lines(bytes: &[u8], mut last: u8) -> Result<(), Malformed> {
    for &byte in bytes {
        match (last, byte) {
            (_, 0) => return Err(Malformed::Nul),
            (b'\r', b'\n') => (),
            (b'\r', _) | (_, b'\n') => return Err(Malformed::LineEnd),
            (b'\n', b' ' | b'\t') => return Err(Malformed::Folded),
            _ => (),
        }
        last = byte;
    }
    Ok(())
}

fn parse_length(value: &[u8]) -> Result<u64, Malformed> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| digits).ok_or(Malformed::Length)?;
    text.parse().map_err(|_| Malformed::Length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_end_where_their_head_says() {
        let get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(check(get), Ok(Framing::Length(0)));
        let post = b"POST /x HTTP/1.1\r\nhost: a\r\nContent-Length: 12\r\n\r\n";
        assert_eq!(check(post), Ok(Framing::Length(12)));
        let chunked = b"POST /x HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: Chunked\r\n\r\n";
        assert_eq!(check(chunked), Ok(Framing::Chunked));
        assert_eq!(check(b"GET / HTTP/1.0\r\n\r\n"), Ok(Framing::Length(0)));
    }

    #[test]
    fn what_parsers_disagree_about_is_refused() {
        for (fields, expected) in [
            ("Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n", Malformed::Length),
            ("Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n", Malformed::Length),
            ("Host: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n", Malformed::Length),
            ("Host: a\r\nContent-Length: 1, 1\r\n", Malformed::Length),
            ("Host: a\r\nContent-Length: +1\r\n", Malformed::Length),
            ("Host: a\r\nContent-Length:\r\n", Malformed::Length),
            ("Host: a\r\nContent-Length: 99999999999999999999\r\n", Malformed::Length),
            ("Host: a\r\nTransfer-Encoding: xchunked\r\n", Malformed::Coding),
            ("Host: a\r\nTransfer-Encoding: gzip, chunked\r\n", Malformed::Coding),
            (
                "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
                Malformed::Coding,
            ),
            ("Host: a\nX: b\r\n", Malformed::LineEnd),
            ("Host: a\rX: b\r\n", Malformed::LineEnd),
            ("Host: a\r\nX: b\r\n c\r\n", Malformed::Folded),
            ("Host: a\r\n\tX: b\r\n", Malformed::Folded),
            ("Host: a\0b\r\n", Malformed::Nul),
            ("Host : a\r\n", Malformed::Syntax),
            ("Host: a\r\nX y: b\r\n", Malformed::Syntax),
            ("Host: a\r\nHost: a\r\n", Malformed::Host),
            ("X: b\r\n", Malformed::Host),
        ] {
            let head = format!("POST / HTTP/1.1\r\n{fields}\r\n");
            assert_eq!(check(head.as_bytes()), Err(expected), "{fields:?}");
        }
        for line in
            ["GET  / HTTP/1.1", "GET /", "GET / HTTP/2.0", " GET / HTTP/1.1", "GET /a b HTTP/1.1"]
        {
            let head = format!("{line}\r\nHost: a\r\n\r\n");
            assert!(check(head.as_bytes()).is_err(), "{line:?}");
        }
        let many = "X: y\r\n".repeat(MOST_HEADERS);
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n");
        assert_eq!(check(head.as_bytes()), Err(Malformed::TooLong));
    }
}
