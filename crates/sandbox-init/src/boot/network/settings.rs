//! `Network` of the request, checked.

use std::net::IpAddr;

use protocol::guest::v1::{InterfaceAddress, Network as Request};

use crate::error::Error;

const MAX_ADDRESSES: usize = 16;
/// What the C library reads of them (resolv.conf(5), MAXNS).
const MAX_RESOLVERS: usize = 3;
const MAX_CERTIFICATE: usize = 64 * 1024;

/// How the network is to be set up.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    /// Bytes of the largest packet.
    pub(crate) mtu: u32,
    /// Addresses of the interface, with their prefix lengths.
    pub(crate) addresses: Vec<(IpAddr, u8)>,
    /// Default routes.
    pub(crate) gateways: Vec<IpAddr>,
    /// Whom to ask for names.
    pub(crate) resolvers: Vec<IpAddr>,
    /// Whom to believe.
    pub(crate) authority: Option<Authority>,
}

/// A certificate authority.
#[derive(Debug, Clone)]
pub(crate) struct Authority {
    /// Its certificate.
    pub(crate) pem: String,
    /// The name that OpenSSL looks for it by.
    pub(crate) link: Option<String>,
}

impl Network {
    /// Checks a request.
    pub(crate) fn new(request: Request) -> Result<Self, Error> {
        if !(1280..=65_520).contains(&request.mtu) {
            return Err(invalid(format!("network.mtu {} is not possible", request.mtu)));
        }
        if request.addresses.len() > MAX_ADDRESSES {
            return Err(invalid("network.addresses are too many".into()));
        }
        let gateways = addresses("network.gateways", &request.gateways)?;
        if gateways.iter().filter(|ip| ip.is_ipv4()).count() > 1
            || gateways.iter().filter(|ip| ip.is_ipv6()).count() > 1
        {
            return Err(invalid("network.gateways has two of one family".into()));
        }
        let resolvers = addresses("network.resolvers", &request.resolvers)?;
        if resolvers.len() > MAX_RESOLVERS {
            return Err(invalid("network.resolvers are too many".into()));
        }
        let link = request.certificate_link;
        Ok(Self {
            mtu: request.mtu,
            addresses: request.addresses.iter().map(prefix).collect::<Result<_, _>>()?,
            gateways,
            resolvers,
            authority: authority(request.certificate_authority, link)?,
        })
    }
}

fn authority(pem: String, link: String) -> Result<Option<Authority>, Error> {
    if pem.is_empty() {
        return Ok(None);
    }
    if pem.len() > MAX_CERTIFICATE || !pem.starts_with("-----BEGIN CERTIFICATE-----\n") {
        return Err(invalid("network.certificate_authority is no certificate in PEM".into()));
    }
    let hash = |link: &str| {
        let digits = link.strip_suffix(".0").unwrap_or_default();
        digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    if !link.is_empty() && !hash(&link) {
        return Err(invalid(format!("network.certificate_link {link:?} is malformed")));
    }
    Ok(Some(Authority { pem, link: Some(link).filter(|link| !link.is_empty()) }))
}

fn prefix(address: &InterfaceAddress) -> Result<(IpAddr, u8), Error> {
    let InterfaceAddress { ip, prefix_length } = address;
    let ip: IpAddr =
        ip.parse().map_err(|_| invalid(format!("network.addresses.ip {ip:?} is malformed")))?;
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    match u8::try_from(*prefix_length) {
        Ok(length) if length <= longest => Ok((ip, length)),
        _ => Err(invalid(format!("network.addresses.prefix_length {prefix_length} is malformed"))),
    }
}

fn addresses(what: &str, texts: &[String]) -> Result<Vec<IpAddr>, Error> {
    let parse = |text: &String| text.parse().map_err(|_| invalid(format!("{what} has {text:?}")));
    texts.iter().map(parse).collect()
}

fn invalid(text: String) -> Error {
    Error::InvalidRequest(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            mtu: 65_520,
            addresses: vec![InterfaceAddress { ip: "10.0.2.15".into(), prefix_length: 24 }],
            gateways: vec!["10.0.2.1".into(), "fd00::1".into()],
            resolvers: vec!["10.0.2.1".into()],
            certificate_authority: "-----BEGIN CERTIFICATE-----\n".into(),
            certificate_link: "0123abcd.0".into(),
        }
    }

    #[test]
    fn sound_network_is_taken_as_it_is() {
        let network = Network::new(request()).unwrap();
        assert_eq!(network.addresses, [("10.0.2.15".parse().unwrap(), 24)]);
        assert_eq!(network.authority.unwrap().link.as_deref(), Some("0123abcd.0"));
        let bare = Request { mtu: 1280, ..Request::default() };
        assert!(Network::new(bare).unwrap().authority.is_none());
    }

    #[test]
    fn network_that_makes_no_sense_is_refused() {
        let changes: [fn(&mut Request); 9] = [
            |request| request.mtu = 1279,
            |request| request.addresses[0].ip = "10.0.2".into(),
            |request| request.addresses[0].prefix_length = 33,
            |request| request.gateways[1] = "10.0.2.3".into(),
            |request| request.gateways[1] = "gateway".into(),
            |request| request.resolvers = vec!["10.0.2.1".into(); 4],
            |request| request.certificate_authority = "/etc/passwd".into(),
            |request| request.certificate_link = "../../etc/passwd".into(),
            |request| request.certificate_link = "0123abcd.1".into(),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut request = request();
            change(&mut request);
            let refused = Network::new(request);
            assert!(matches!(refused, Err(Error::InvalidRequest(_))), "change {index}");
        }
    }
}
