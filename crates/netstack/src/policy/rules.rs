//! Decisions as data: what needs no question.
//!
//! The first rule that allows a flow decides. A flow that no rule allows goes to the policy behind
//! the rules; without one it is denied.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Decision, Grants, Policy};
use crate::address::{AddressClass, Cidr};
use crate::dns::HOST_NAME;
use crate::flow::{Flow, Transport};
use crate::link::is_host;
use crate::service::{Interceptor, Resolver};

#[cfg(test)]
mod tests;

/// Why QUIC is refused.
pub const QUIC: &str = "QUIC to a host that is allowed as HTTP: use TCP";

/// What a rule allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Allow {
    /// Questions to the gateway's resolver; with `to`, flows to port 53 of those addresses.
    Dns,
    /// TCP under interception, at ports 80 and 443 unless others are named.
    Http,
    /// TCP as it is.
    Tcp,
    /// UDP as it is.
    Udp,
}

/// One rule. Every condition that is given must hold.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What it allows.
    pub allow: Allow,
    /// A trusted name of the destination. For [`Allow::Dns`] the resolver looks at it, not the flow.
    pub host: Option<HostPattern>,
    /// Blocks of addresses, one of which holds the destination. Empty: any.
    pub to: Vec<Cidr>,
    /// Ports, one of which is the destination's. Empty: any, or the usual ones of `allow`.
    pub ports: Vec<RangeInclusive<u16>>,
    /// Whether a trusted name may point at an address that is not of the public Internet. Without
    /// it such an answer (a rebinding) matches only where `to` names the address too; the host's own
    /// name needs neither.
    pub allow_private: bool,
}

impl Rule {
    /// A rule without conditions.
    #[must_use]
    pub fn new(allow: Allow) -> Self {
        Self { allow, host: None, to: Vec::new(), ports: Vec::new(), allow_private: false }
    }

    fn port_fits(&self, port: u16) -> bool {
        if self.ports.is_empty() {
            return match self.allow {
                Allow::Dns => port == 53,
                Allow::Http => matches!(port, 80 | 443),
                Allow::Tcp | Allow::Udp => true,
            };
        }
        self.ports.iter().any(|range| range.contains(&port))
    }

    /// A block that names the destination, or none where none is needed.
    fn block(&self, address: IpAddr) -> Option<Option<&Cidr>> {
        if self.to.is_empty() {
            return Some(None);
        }
        self.to.iter().find(|block| block.contains(address)).map(Some)
    }

    /// The trusted name that fits, or none where none is needed.
    fn name(&self, address: IpAddr, names: &dyn TrustedNames) -> Option<Option<String>> {
        let Some(pattern) = &self.host else { return Some(None) };
        let class = AddressClass::of(address);
        let trusted = class.public_internet || self.allow_private || !self.to.is_empty();
        // The host's own name leads where it has to.
        let own = |name: &str| is_host(address) && name == HOST_NAME;
        let fits = |name: &String| pattern.matches(name) && (trusted || own(name));
        names.names_of(address).into_iter().find(fits).map(Some)
    }
}

/// What is behind the rules that need more than a relay.
#[derive(Clone, Default)]
pub struct Services {
    /// Makes resolvers for [`Allow::Dns`].
    pub dns: Option<Arc<dyn DnsService>>,
    /// Knows which names led to which addresses.
    pub names: Option<Arc<dyn TrustedNames>>,
    /// Makes interceptors for [`Allow::Http`].
    pub http: Option<Arc<dyn HttpService>>,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services")
            .field("dns", &self.dns.is_some())
            .field("names", &self.names.is_some())
            .field("http", &self.http.is_some())
            .finish()
    }
}

/// Names that the guest got an address from, in answers that can be relied on.
pub trait TrustedNames: Send + Sync + 'static {
    /// The names of an address: lower case, without the last dot.
    fn names_of(&self, address: IpAddr) -> Vec<String>;
}

/// Makes resolvers.
pub trait DnsService: Send + Sync + 'static {
    /// The resolver for a flow to the gateway's resolver that rule number `rule` allows.
    fn resolver(&self, rule: usize) -> Arc<dyn Resolver>;
}

/// One for all rules.
impl<R: Resolver> DnsService for Arc<R> {
    fn resolver(&self, _rule: usize) -> Arc<dyn Resolver> {
        self.clone()
    }
}

/// Makes interceptors for HTTP.
pub trait HttpService: Send + Sync + 'static {
    /// The interceptor for a flow that rule number `rule` allows to the host of that trusted name.
    fn interceptor(&self, rule: usize, host: Option<&str>) -> Arc<dyn Interceptor>;
}

/// A policy made of rules, and of another policy for what they do not settle.
pub struct Rules {
    rules: Vec<Rule>,
    services: Services,
    otherwise: Option<Arc<dyn Policy>>,
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl Rules {
    /// Rules, in the order in which they are tried.
    #[must_use]
    pub fn new(rules: Vec<Rule>, services: Services, otherwise: Option<Arc<dyn Policy>>) -> Self {
        Self { rules, services, otherwise }
    }

    /// The verdict of the rules alone; `None` when no rule allows the flow.
    #[must_use]
    pub fn settle(&self, flow: &Flow) -> Option<Decision> {
        if self.is_quic_to_http(flow) {
            return Some(Decision::deny(QUIC));
        }
        self.rules.iter().enumerate().find_map(|(index, rule)| self.apply(index, rule, flow))
    }

    /// HTTP over QUIC would pass interception by. Clients fall back to TCP when it is refused.
    fn is_quic_to_http(&self, flow: &Flow) -> bool {
        let Some(names) = &self.services.names else { return false };
        let (address, port) = (flow.destination.ip(), flow.destination.port());
        let intercepts = |rule: &Rule| {
            rule.allow == Allow::Http
                && rule.host.is_some()
                && rule.port_fits(port)
                && rule.block(address).is_some()
                && rule.name(address, names.as_ref()).is_some()
        };
        flow.is_quic() && self.rules.iter().any(intercepts)
    }

    fn apply(&self, index: usize, rule: &Rule, flow: &Flow) -> Option<Decision> {
        let fits = match rule.allow {
            Allow::Dns => flow.transport != Transport::Icmp,
            Allow::Http | Allow::Tcp => flow.transport == Transport::Tcp,
            Allow::Udp => flow.transport == Transport::Udp,
        };
        if !fits || flow.is_to_resolver() != (rule.allow == Allow::Dns && rule.to.is_empty()) {
            return None;
        }
        if !rule.port_fits(flow.destination.port()) {
            return None;
        }
        let address = flow.destination.ip();
        let block = rule.block(address)?;
        if rule.allow == Allow::Dns {
            return match (block, &self.services.dns) {
                (Some(_), _) => Some(Decision::Accept(granted(block))),
                (None, Some(dns)) => Some(Decision::Resolve(dns.resolver(index))),
                (None, None) => Some(Decision::deny("there is no resolver")),
            };
        }
        let unnamed = NoNames;
        let names = self.services.names.as_deref().unwrap_or(&unnamed);
        let name = rule.name(address, names)?;
        if rule.allow == Allow::Http {
            let Some(http) = &self.services.http else {
                return Some(Decision::deny("there is nothing that speaks HTTP"));
            };
            let interceptor = http.interceptor(index, name.as_deref());
            return Some(Decision::Intercept(interceptor, granted(block)));
        }
        Some(Decision::Accept(granted(block)))
    }
}

/// A block inside the link-local range grants it; one that merely holds it does not.
fn granted(block: Option<&Cidr>) -> Grants {
    Grants { link_local: block.is_some_and(Cidr::is_link_local) }
}

struct NoNames;

impl TrustedNames for NoNames {
    fn names_of(&self, _address: IpAddr) -> Vec<String> {
        Vec::new()
    }
}

#[async_trait]
impl Policy for Rules {
    async fn decide(&self, flow: &Flow) -> Decision {
        match (self.settle(flow), &self.otherwise) {
            (Some(decision), _) => decision,
            (None, Some(policy)) => policy.decide(flow).await,
            (None, None) => Decision::deny("no rule allows it"),
        }
    }

    fn settle(&self, flow: &Flow) -> Option<Decision> {
        let settled = Self::settle(self, flow);
        match &self.otherwise {
            Some(policy) => settled.or_else(|| policy.settle(flow)),
            None => Some(settled.unwrap_or_else(|| Decision::deny("no rule allows it"))),
        }
    }
}

/// A host name, or `*.` and a name for all below it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPattern {
    name: String,
    below: bool,
}

impl HostPattern {
    /// Whether a name (in any case, with or without the last dot) fits.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if !self.below {
            return name == self.name;
        }
        // An escaped byte may be a dot that divides no labels.
        if name.contains('\\') {
            return false;
        }
        name.strip_suffix(&self.name)
            .and_then(|rest| rest.strip_suffix('.'))
            .is_some_and(|rest| !rest.is_empty())
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.below { "*." } else { "" }, self.name)
    }
}

/// A text that is no host name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a host name, and not \"*.\" and a host name")]
pub struct InvalidHost(String);

impl FromStr for HostPattern {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let (below, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let name = rest.strip_suffix('.').unwrap_or(rest).to_ascii_lowercase();
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        let fits = name.len() <= 253 && name.split('.').all(label);
        // An address is matched with `to`.
        if fits && name.parse::<IpAddr>().is_err() {
            Ok(Self { name, below })
        } else {
            Err(InvalidHost(text.to_owned()))
        }
    }
}
