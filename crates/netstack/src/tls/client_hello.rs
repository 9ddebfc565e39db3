//! The first message of a TLS client, read without answering (RFC 8446, 4.1.2 and 5.1; RFC 6066, 3).
//!
//! Bounded, and strict: what could be read in two ways is malformed.

/// Content type of handshake records.
const HANDSHAKE: u8 = 22;
/// Message type of a ClientHello.
const CLIENT_HELLO: u8 = 1;
/// Longest fragment (RFC 8446, 5.1).
const LONGEST_FRAGMENT: usize = 1 << 14;
/// Longest ClientHello; those with post-quantum keys have about 2 KiB.
const LONGEST_HELLO: usize = 32 << 10;
/// Extension numbers.
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

/// What a client says before anything is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The name of the server, as spelled.
    pub server_name: Option<String>,
    /// The application protocols, best first.
    pub alpn: Vec<Vec<u8>>,
}

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peeked {
    /// More bytes are needed.
    Incomplete,
    /// A whole ClientHello.
    Hello(ClientHello),
    /// None that can be relied on.
    Malformed(&'static str),
}

/// Looks at the first bytes of a connection.
#[must_use]
pub fn peek(bytes: &[u8]) -> Peeked {
    let message = match reassemble(bytes) {
        Ok(Some(message)) => message,
        Ok(None) => return Peeked::Incomplete,
        Err(reason) => return Peeked::Malformed(reason),
    };
    match parse(&message) {
        Some(Ok(hello)) => Peeked::Hello(hello),
        Some(Err(reason)) => Peeked::Malformed(reason),
        None => Peeked::Malformed("a length does not fit"),
    }
}

/// The body of the ClientHello, out of as many records as it is spread over.
fn reassemble(mut bytes: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    let mut message = Vec::new();
    loop {
        if let [kind, length @ ..] = &message[..] {
            if *kind != CLIENT_HELLO {
                return Err("the first message is no ClientHello");
            }
            if let [high, middle, low, body @ ..] = length {
                let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
                if length > LONGEST_HELLO {
                    return Err("the ClientHello is too long");
                }
                if body.len() >= length {
                    return Ok(Some(body[..length].to_vec()));
                }
            }
        }
        match bytes.first() {
            Some(&HANDSHAKE) => (),
            Some(_) => return Err("a record is no handshake"),
            None => return Ok(None),
        }
        if bytes.get(1).is_some_and(|&major| major != 3) {
            return Err("the version of a record is unknown");
        }
        let Some((header, rest)) = bytes.split_at_checked(5) else { return Ok(None) };
        let length: usize = u16::from_be_bytes([header[3], header[4]]).into();
        if length == 0 || length > LONGEST_FRAGMENT {
            return Err("the length of a record is wrong");
        }
        let whole = rest.len() >= length;
        let (fragment, rest) = rest.split_at(length.min(rest.len()));
        message.extend_from_slice(fragment);
        bytes = rest;
        if !whole && message.len() < 4 {
            return Ok(None);
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// What follows its length in one byte.
    fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(length.into())
    }

    /// What follows its length in two bytes.
    fn long(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length.into())
    }
}

/// `None` when a length does not fit.
fn parse(message: &[u8]) -> Option<Result<ClientHello, &'static str>> {
    let mut reader = Reader(message);
    reader.take(2 + 32)?;
    reader.short()?;
    reader.long()?;
    reader.short()?;
    let mut hello = ClientHello::default();
    if reader.0.is_empty() {
        return Some(Ok(hello));
    }
    let mut extensions = Reader(reader.long()?);
    if !reader.0.is_empty() {
        return None;
    }
    let mut seen = Vec::new();
    while !extensions.0.is_empty() {
        let (kind, body) = (extensions.number()?, extensions.long()?);
        if seen.contains(&kind) {
            return Some(Err("an extension stands there twice"));
        }
        seen.push(kind);
        match kind {
            SERVER_NAME => match server_name(body)? {
                Ok(name) => hello.server_name = Some(name),
                Err(reason) => return Some(Err(reason)),
            },
            ALPN => {
                let mut outer = Reader(body);
                let mut protocols = Reader(outer.long()?);
                if !outer.0.is_empty() {
                    return None;
                }
                while !protocols.0.is_empty() {
                    hello.alpn.push(protocols.short()?.to_vec());
                }
            }
            _ => (),
        }
    }
    Some(Ok(hello))
}

fn server_name(body: &[u8]) -> Option<Result<String, &'static str>> {
    let mut outer = Reader(body);
    let mut list = Reader(outer.long()?);
    let kind = list.take(1)?[0];
    let name = list.long()?;
    if kind != 0 || !list.0.is_empty() || !outer.0.is_empty() {
        return Some(Err("the server is named in an unknown way"));
    }
    let name = name.is_ascii().then(|| String::from_utf8(name.to_vec()).ok()).flatten();
    Some(name.ok_or("the server's name is not ASCII"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    fn hello(name: &str, alpn: &[&[u8]]) -> Vec<u8> {
        let mut config = ClientConfig::builder_with_provider(super::super::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let name = name.to_owned().try_into().unwrap();
        let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// The same message in records of a few bytes.
    fn fragmented(bytes: &[u8], size: usize) -> Vec<u8> {
        let records = bytes[5..].chunks(size);
        let length = |part: &[u8]| u8::try_from(part.len()).unwrap();
        records.flat_map(|part| [&[22, 3, 1, 0, length(part)][..], part].concat()).collect()
    }

    #[test]
    fn a_real_hello_is_read_however_it_arrives() {
        let bytes = hello("Api.Example.com", &[b"h2", b"http/1.1"]);
        let expected = Peeked::Hello(ClientHello {
            server_name: Some("Api.Example.com".to_ascii_lowercase()),
            alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        });
        let lower = |peeked| match peeked {
            Peeked::Hello(hello) => Peeked::Hello(ClientHello {
                server_name: hello.server_name.map(|name| name.to_ascii_lowercase()),
                ..hello
            }),
            other => other,
        };
        assert_eq!(lower(peek(&bytes)), expected);
        assert_eq!(lower(peek(&fragmented(&bytes, 7))), expected);
        for length in 0..bytes.len() {
            assert_eq!(peek(&bytes[..length]), Peeked::Incomplete, "{length}");
        }
    }

    #[test]
    fn without_a_name_there_is_none() {
        let Peeked::Hello(hello) = peek(&hello("192.0.2.1", &[])) else { panic!() };
        assert_eq!(hello, ClientHello::default());
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_malformed() {
        let good = hello("a.example", &[b"h2"]);
        let name = good.windows(9).position(|part| part == b"a.example").unwrap();
        let mut two_kinds = good.clone();
        two_kinds[name - 3] = 1;
        assert!(matches!(peek(&two_kinds), Peeked::Malformed(_)));
        let mut longer = good.clone();
        longer[name - 1] += 1;
        assert!(matches!(peek(&longer), Peeked::Malformed(_)));
        assert!(matches!(peek(b"\x16\x03\x01\x00\x00"), Peeked::Malformed(_)));
        assert!(matches!(peek(b"\x16\x03\x01\x00\x04\x01\x01\x00\x00"), Peeked::Malformed(_)));
        assert!(matches!(peek(b"\x16\x03\x01\x00\x01\x02"), Peeked::Malformed(_)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(
            bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..200, value: u8
        ) {
            let _ = peek(&bytes);
            let mut changed = hello("a.example", &[b"h2"]);
            let at = at % changed.len();
            changed[at] = value;
            let _ = peek(&changed);
        }
    }
}
