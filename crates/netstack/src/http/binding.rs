//! DNS name = SNI = `Host` or `:authority` = dialled address, or nothing.

use std::net::{IpAddr, SocketAddr};

use http::uri::Authority;
use rustls::pki_types::ServerName;

use super::event::Refusal;
use super::options::Target;
use crate::address::AddressClass;
use crate::dns::HOST_NAME;
use crate::link;
use crate::names::{HostName, Names};

/// Why a name is not let through, and for whom.
pub(super) type Unbound = (Refusal, String);

/// What names a connection may use.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    destination: SocketAddr,
    /// The trusted names that the policy allows; absent where the address itself was allowed.
    names: Option<Vec<HostName>>,
    allow_private: bool,
}

/// The server that a ClientHello asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) name: Option<HostName>,
    address: IpAddr,
}

impl Server {
    /// For the certificate that the guest gets to see.
    pub(super) fn subject(&self) -> String {
        self.name.as_ref().map_or_else(|| self.address.to_string(), |name| name.to_string())
    }

    /// For the certificate that the upstream has to show.
    pub(super) fn to_verify(&self) -> Option<ServerName<'static>> {
        match &self.name {
            Some(name) => ServerName::try_from(name.to_string()).ok(),
            None => Some(ServerName::IpAddress(self.address.into())),
        }
    }
}

impl Binding {
    /// The names that are trusted now. They stay so for the life of the connection.
    pub(super) fn new(names: &Names, target: &Target, destination: SocketAddr) -> Self {
        match target {
            Target::Address => Self { destination, names: None, allow_private: true },
            Target::Nothing => Self { destination, names: Some(Vec::new()), allow_private: false },
            Target::Names { names, allow_private } => {
                Self { destination, names: Some(names.clone()), allow_private: *allow_private }
            }
            Target::Named { host, allow_private } => {
                let mut names = names.names_of(destination.ip());
                names.retain(|name| host.matches(name));
                Self { destination, names: Some(names), allow_private: *allow_private }
            }
        }
    }

    /// The server that the SNI names.
    pub(super) fn server(&self, sni: Option<&str>) -> Result<Server, Unbound> {
        let address = self.destination.ip();
        let name = match sni {
            Some(sni) => Some(self.name(sni)?),
            None if self.names.is_none() => None,
            None => return Err((Refusal::Name, "the ClientHello has no name".to_owned())),
        };
        Ok(Server { name, address })
    }

    /// The name that a request is for, if it may be; `None` where it is for the address.
    pub(super) fn request(
        &self,
        authority: &str,
        server: Option<&Server>,
    ) -> Result<Option<HostName>, Unbound> {
        let refuse = |reason: &str| Err((Refusal::Name, reason.to_owned()));
        let Ok(authority) = authority.parse::<Authority>() else {
            return refuse("the host is ill-formed");
        };
        if authority.as_str().contains('@') {
            return refuse("the host has a user");
        }
        let host = authority.host();
        let port = &authority.as_str()[host.len()..];
        if !port.is_empty() && port[1..].parse() != Ok(self.destination.port()) {
            return refuse("the port is not the one that was dialled");
        }
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let name = match literal {
            Ok(_) if self.names.is_some() => return refuse("the host is an address"),
            Ok(literal) if literal.to_canonical() == self.destination.ip() => None,
            Ok(_) => return refuse("the host is not the address that was dialled"),
            Err(_) => Some(self.name(host)?),
        };
        match server {
            Some(server) if server.name != name => refuse("the host is not the name in the SNI"),
            _ => Ok(name),
        }
    }

    fn name(&self, text: &str) -> Result<HostName, Unbound> {
        let Some(name) = HostName::parse(text) else {
            return Err((Refusal::Name, "the host is no host name".to_owned()));
        };
        if self.names.as_ref().is_some_and(|names| !names.contains(&name)) {
            let reason = format!("{name} is not a name that was answered for this address");
            return Err((Refusal::Name, reason));
        }
        let ip = self.destination.ip();
        let own = link::is_host(ip) && name.as_str() == HOST_NAME;
        if !self.allow_private && !own && !AddressClass::of(ip).public_internet {
            return Err((Refusal::Private, format!("{name} leads to {ip}, which is not public")));
        }
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn binding(address: &str, pins: &[&str], pattern: &str, allow_private: bool) -> Binding {
        let destination: SocketAddr = address.parse().unwrap();
        let names = Names::new();
        for name in pins {
            names.pin(&HostName::parse(name).unwrap(), destination.ip(), Duration::ZERO);
        }
        let target = Target::Named { host: pattern.parse().unwrap(), allow_private };
        Binding::new(&names, &target, destination)
    }

    #[test]
    fn only_the_trusted_name_passes_however_it_is_spelled() {
        let binding = binding("1.1.1.1:443", &["a.example", "b.example"], "a.example", false);
        for host in ["a.example", "A.Example.", "a.example:443", "a.EXAMPLE.:443"] {
            assert!(binding.request(host, None).is_ok(), "{host}");
        }
        for host in [
            "b.example",
            "evil.example",
            "a.example.evil",
            "xa.example",
            "1.1.1.1",
            "a.example:80",
            "u@a.example",
            "a.example:",
            "a.example:x",
            "",
            "a.example..",
            "[::1]",
            "a.example/b",
        ] {
            assert!(binding.request(host, None).is_err(), "{host}");
        }
        let server = binding.server(Some("A.example")).unwrap();
        assert!(binding.request("a.example", Some(&server)).is_ok());
        for sni in [None, Some("b.example"), Some("1.1.1.1"), Some("a\0.example")] {
            assert!(binding.server(sni).is_err(), "{sni:?}");
        }
    }

    #[test]
    fn two_names_of_one_address_do_not_mix() {
        let binding =
            binding("1.1.1.1:443", &["a.example.com", "b.example.com"], "*.example.com", false);
        let server = binding.server(Some("a.example.com")).unwrap();
        assert!(binding.request("a.example.com", Some(&server)).is_ok());
        let (refusal, _) = binding.request("b.example.com", Some(&server)).unwrap_err();
        assert_eq!(refusal, Refusal::Name);
    }

    #[test]
    fn a_connection_for_certain_names_is_for_no_other() {
        let destination: SocketAddr = "1.1.1.1:443".parse().unwrap();
        let names = Names::new();
        let [a, b, c] =
            ["a.example", "b.example", "c.example"].map(|n| HostName::parse(n).unwrap());
        for name in [&a, &b, &c] {
            names.pin(name, destination.ip(), Duration::ZERO);
        }
        let target = Target::Names { names: vec![a, b], allow_private: false };
        let binding = Binding::new(&names, &target, destination);
        assert!(binding.request("A.example.", None).is_ok());
        assert!(binding.request("b.example:443", None).is_ok());
        for host in ["c.example", "1.1.1.1", "x.a.example"] {
            assert_eq!(binding.request(host, None).unwrap_err().0, Refusal::Name, "{host}");
        }
        let inside = Binding::new(&names, &target, "10.0.0.1:443".parse().unwrap());
        assert_eq!(inside.request("a.example", None).unwrap_err().0, Refusal::Private);
        let nothing = Target::Names { names: Vec::new(), allow_private: true };
        assert!(Binding::new(&names, &nothing, destination).request("a.example", None).is_err());
    }

    #[test]
    fn a_name_that_leads_inside_is_refused_unless_allowed() {
        for address in [
            "127.0.0.1:80",
            "10.0.0.1:80",
            "169.254.169.254:80",
            "[::1]:80",
            "[fe80::1]:80",
            "10.0.2.2:80",
        ] {
            let (refusal, _) = binding(address, &["a.example"], "a.example", false)
                .request("a.example", None)
                .unwrap_err();
            assert_eq!(refusal, Refusal::Private, "{address}");
            let allowed = binding(address, &["a.example"], "a.example", true);
            assert!(allowed.request("a.example", None).is_ok());
        }
        let host = binding("10.0.2.2:80", &[HOST_NAME], HOST_NAME, false);
        assert!(host.request(HOST_NAME, None).is_ok());
    }

    #[test]
    fn an_address_typed_by_hand_needs_no_name() {
        let destination = "192.0.2.1:80".parse().unwrap();
        let binding = Binding::new(&Names::new(), &Target::Address, destination);
        assert_eq!(binding.request("192.0.2.1", None), Ok(None));
        assert!(binding.request("192.0.2.2", None).is_err());
        let server = binding.server(None).unwrap();
        assert!(binding.request("a.example", Some(&server)).is_err());
        assert_eq!(server.subject(), "192.0.2.1");
    }
}
