//! The application protocols that can be carried on (RFC 7301).

/// An application protocol, as negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Alpn {
    /// Nothing was negotiated: HTTP/1.1.
    None,
    /// `http/1.1`.
    Http1,
    /// `h2`.
    Http2,
}

impl Alpn {
    /// From its name on the wire; `None` for what we do not speak.
    #[must_use]
    pub fn from_wire(name: &[u8]) -> Option<Self> {
        match name {
            b"http/1.1" => Some(Self::Http1),
            b"h2" => Some(Self::Http2),
            _ => None,
        }
    }

    pub(crate) fn to_wire(self) -> Vec<Vec<u8>> {
        match self {
            Self::None => Vec::new(),
            Self::Http1 => vec![b"http/1.1".to_vec()],
            Self::Http2 => vec![b"h2".to_vec()],
        }
    }

    pub(crate) fn negotiated(name: Option<&[u8]>) -> Self {
        name.and_then(Self::from_wire).unwrap_or(Self::None)
    }
}
