//! `BootRequest.network` and policies, checked.
//!
//! What a secret or a header field holds is in no error: it may be a credential.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use netstack::dns::Server;
use netstack::http::{InvalidSecret, Secret, SecretValue, Secrets};
use netstack::policy::{Allow, HostPattern, Rule};
use netstack::tls::{Trust, TrustError};
use protocol::v1;

use super::RequestError;
use crate::callback::check_id;
use crate::limits::{
    CALLBACK_DEFAULT, HEADER_BYTES, MAX_EXTRA_ROOT_BYTES, MAX_HEADERS, MAX_POLICY_DEADLINE_MS,
    MAX_RESOLVERS, MAX_RULE_ITEMS, MAX_RULES, MAX_SECRET_HOSTS, MAX_SECRETS, SECRET_BYTES,
};

/// Stands for what is not shown.
const HIDDEN: Hidden = Hidden;
/// Where the resolver listens.
const RESOLVER_PORT: u16 = 53;
/// Fields that frame a message or belong to a connection: they are not a rule's to set.
const FRAMING: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A network.
#[derive(Debug)]
pub struct NetworkPlan {
    /// What is allowed at first.
    pub policy: PolicyPlan,
    /// Credentials that the guest does not have.
    pub secrets: Secrets,
}

/// A policy.
#[derive(Debug, Default)]
pub struct PolicyPlan {
    /// In the order in which they are tried.
    pub rules: Vec<RulePlan>,
    /// Who is asked about the rest.
    pub callbacks: Option<CallbacksPlan>,
    /// Certificates in PEM, each of which can be read.
    pub extra_roots: Vec<String>,
}

/// Callbacks that decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallbacksPlan {
    /// The name of the attached stream.
    pub id: String,
    /// Time for each.
    pub deadline: Duration,
}

/// One rule.
#[derive(Debug)]
pub struct RulePlan {
    /// What it allows, and when.
    pub rule: Rule,
    /// Set in every request; marked as sensitive.
    pub headers: HeaderMap,
    /// Who is asked for names. Empty: whom the host asks.
    pub resolvers: Vec<Server>,
}

impl RulePlan {
    /// Whether it is about questions to the gateway's resolver.
    #[must_use]
    pub fn resolves(&self) -> bool {
        self.rule.allow == Allow::Dns && self.rule.to.is_empty()
    }
}

/// A port to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishPlan {
    /// Port of the guest.
    pub guest_port: u16,
    /// Port of the host; 0 for any.
    pub host_port: u16,
    /// Address of the host; the loopback of both families when absent.
    pub host: Option<IpAddr>,
}

/// Checks a network; `env` is the guest's environment, to which placeholders will be added.
pub(super) fn network(
    network: v1::Network,
    env: &HashMap<String, String>,
) -> Result<NetworkPlan, RequestError> {
    // Values are taken over first, so that they are wiped whatever else is wrong.
    let secrets: Vec<Given> = network.secrets.into_iter().map(Given::from).collect();
    let policy = policy("network.policy", network.policy.unwrap_or_default())?;
    Ok(NetworkPlan { policy, secrets: checked_secrets(secrets, env)? })
}

/// Checks a policy; `at` is its field in the request.
///
/// # Errors
/// [`RequestError`] names the first field that does not make sense.
pub fn policy(at: &str, policy: v1::NetworkPolicy) -> Result<PolicyPlan, RequestError> {
    at_most(format!("{at}.rules"), policy.rules.len(), MAX_RULES)?;
    let rules = policy.rules.into_iter().enumerate();
    let rules = rules.map(|(index, given)| rule(&format!("{at}.rules[{index}]"), given));
    let callbacks = policy.callbacks.map(|given| callbacks(&format!("{at}.callbacks"), given));
    let plan = PolicyPlan {
        rules: rules.collect::<Result<_, _>>()?,
        callbacks: callbacks.transpose()?,
        extra_roots: policy.extra_roots,
    };
    let bytes: usize = plan.extra_roots.iter().map(String::len).sum();
    if bytes > MAX_EXTRA_ROOT_BYTES {
        let reason = format!("they can have {MAX_EXTRA_ROOT_BYTES} bytes together");
        return Err(RequestError::new(format!("{at}.extra_roots"), bytes, reason));
    }
    match Trust::only(&plan.extra_roots) {
        Ok(_) => Ok(plan),
        Err(error) => {
            let index = match error {
                TrustError::NotPem(index) | TrustError::NotARoot(index, _) => index,
                TrustError::Tls(_) => 0,
            };
            let length = plan.extra_roots.get(index).map_or(0, String::len);
            let reason = "it must be certificates in PEM form that can be roots";
            let value = Bytes(length);
            Err(RequestError::new(format!("{at}.extra_roots[{index}]"), value, reason))
        }
    }
}

/// Checks a port to publish.
///
/// # Errors
/// [`RequestError`] names the first field that does not make sense.
pub fn publish(request: &v1::PublishPortRequest) -> Result<PublishPlan, RequestError> {
    let host = match request.host.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| {
            RequestError::new("host", text, "it must be an IP address of this machine")
        })?),
    };
    let host_port = u16::try_from(request.host_port).map_err(|_| {
        RequestError::new("host_port", request.host_port, "it must be from 0 to 65535")
    })?;
    Ok(PublishPlan { guest_port: port("guest_port", request.guest_port)?, host_port, host })
}

fn callbacks(at: &str, given: v1::NetworkCallbacks) -> Result<CallbacksPlan, RequestError> {
    check_id(format!("{at}.id"), &given.id)?;
    let deadline = match given.deadline_ms {
        0 => CALLBACK_DEFAULT,
        ms @ 1..=MAX_POLICY_DEADLINE_MS => Duration::from_millis(ms.into()),
        ms => {
            let reason =
                format!("it must be from 1 to {MAX_POLICY_DEADLINE_MS}, or 0 for the default");
            return Err(RequestError::new(format!("{at}.deadline_ms"), ms, reason));
        }
    };
    Ok(CallbacksPlan { id: given.id, deadline })
}

fn rule(at: &str, given: v1::NetworkRule) -> Result<RulePlan, RequestError> {
    let allow = match given.allow() {
        v1::AllowedTraffic::Dns => Allow::Dns,
        v1::AllowedTraffic::Http => Allow::Http,
        v1::AllowedTraffic::Tcp => Allow::Tcp,
        v1::AllowedTraffic::Udp => Allow::Udp,
        v1::AllowedTraffic::Unspecified => {
            let reason = "it must be one of AllowedTraffic";
            return Err(RequestError::new(format!("{at}.allow"), given.allow, reason));
        }
    };
    let mut rule = Rule::new(allow);
    rule.allow_private = given.allow_private;
    if !given.host.is_empty() {
        rule.host = Some(host(format!("{at}.host"), &given.host)?);
    }
    at_most(format!("{at}.to"), given.to.len(), MAX_RULE_ITEMS)?;
    for (index, text) in given.to.iter().enumerate() {
        rule.to.push(text.parse().map_err(|_| {
            let reason = "it must be an address or a block of addresses such as \"10.0.0.0/8\"";
            RequestError::new(format!("{at}.to[{index}]"), text, reason)
        })?);
    }
    at_most(format!("{at}.ports"), given.ports.len(), MAX_RULE_ITEMS)?;
    for (index, range) in given.ports.iter().enumerate() {
        rule.ports.push(ports(&format!("{at}.ports[{index}]"), *range)?);
    }
    let plan = RulePlan {
        rule,
        headers: headers(at, given.headers)?,
        resolvers: resolvers(&format!("{at}.resolvers"), &given.resolvers)?,
    };
    fits_together(at, &plan)?;
    Ok(plan)
}

/// What is given must be able to mean something for what is allowed.
fn fits_together(at: &str, plan: &RulePlan) -> Result<(), RequestError> {
    let RulePlan { rule, headers, resolvers } = plan;
    if rule.allow != Allow::Http && !headers.is_empty() {
        let reason = "only a rule for HTTP has header fields";
        return Err(RequestError::new(format!("{at}.headers"), headers.len(), reason));
    }
    if !headers.is_empty() && rule.host.is_none() && rule.to.is_empty() {
        let reason = "they may be credentials, so the rule needs `host` or `to`";
        return Err(RequestError::new(format!("{at}.headers"), headers.len(), reason));
    }
    if !plan.resolves() && !resolvers.is_empty() {
        let reason = "only a rule for DNS without `to` has resolvers";
        return Err(RequestError::new(format!("{at}.resolvers"), resolvers.len(), reason));
    }
    if rule.allow != Allow::Dns {
        return Ok(());
    }
    if let (Some(host), false) = (&rule.host, rule.to.is_empty()) {
        let reason = "what is asked of other resolvers is not looked at, so `to` cannot have it";
        return Err(RequestError::new(format!("{at}.host"), host.to_string(), reason));
    }
    let listens = |range: &RangeInclusive<u16>| range.contains(&RESOLVER_PORT);
    if rule.to.is_empty() && !rule.ports.is_empty() && !rule.ports.iter().any(listens) {
        let reason = format!("the gateway's resolver has port {RESOLVER_PORT} only");
        return Err(RequestError::new(format!("{at}.ports"), &rule.ports, reason));
    }
    Ok(())
}

fn host(field: String, text: &str) -> Result<HostPattern, RequestError> {
    text.parse().map_err(|_| {
        let reason = "it must be a host name, or \"*.\" and a host name";
        RequestError::new(field, text, reason)
    })
}

fn port(field: impl Into<String>, port: u32) -> Result<u16, RequestError> {
    match u16::try_from(port) {
        Ok(port @ 1..) => Ok(port),
        _ => Err(RequestError::new(field.into(), port, "it must be from 1 to 65535")),
    }
}

fn ports(at: &str, range: v1::PortRange) -> Result<RangeInclusive<u16>, RequestError> {
    let first = port(format!("{at}.first"), range.first)?;
    let last = port(format!("{at}.last"), range.last)?;
    if last < first {
        let reason = format!("it must not be less than the first, {first}");
        return Err(RequestError::new(format!("{at}.last"), last, reason));
    }
    Ok(first..=last)
}

fn headers(at: &str, given: Vec<v1::HttpHeader>) -> Result<HeaderMap, RequestError> {
    at_most(format!("{at}.headers"), given.len(), MAX_HEADERS)?;
    let bytes: usize = given.iter().map(|field| field.name.len() + field.value.len()).sum();
    if bytes > HEADER_BYTES {
        let reason = format!("they can have {HEADER_BYTES} bytes together");
        return Err(RequestError::new(format!("{at}.headers"), bytes, reason));
    }
    let mut headers = HeaderMap::new();
    for (index, field) in given.into_iter().enumerate() {
        let at = |part: &str| format!("{at}.headers[{index}].{part}");
        let name = HeaderName::from_lowercase(field.name.as_bytes()).map_err(|_| {
            let reason = "it must be a header field's name in lower case";
            RequestError::new(at("name"), &field.name, reason)
        })?;
        if FRAMING.contains(&name.as_str()) {
            let reason = "it frames the message or belongs to the connection";
            return Err(RequestError::new(at("name"), &field.name, reason));
        }
        // A copy: the message that the value is a part of has secrets in it.
        let mut value = HeaderValue::from_bytes(&field.value).map_err(|_| {
            let reason = "it must be what can stand in a header field";
            RequestError::new(at("value"), HIDDEN, reason)
        })?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

/// Checks addresses of resolvers.
pub(crate) fn resolvers(at: &str, given: &[String]) -> Result<Vec<Server>, RequestError> {
    at_most(at.to_owned(), given.len(), MAX_RESOLVERS)?;
    let server = |(index, text): (usize, &String)| {
        text.parse().map_err(|_| {
            let reason = "it must be \"ip\", \"ip:port\" or \"[v6]:port\"";
            RequestError::new(format!("{at}[{index}]"), text, reason)
        })
    };
    given.iter().enumerate().map(server).collect()
}

/// A secret as it was given; its value is wiped when this is dropped.
struct Given {
    name: String,
    value: Option<SecretValue>,
    length: usize,
    hosts: Vec<String>,
    in_query: bool,
}

impl From<v1::Secret> for Given {
    fn from(v1::Secret { name, value, hosts, in_query }: v1::Secret) -> Self {
        let length = value.len();
        Self { name, value: Some(SecretValue::new(value)), length, hosts, in_query }
    }
}

fn checked_secrets(
    given: Vec<Given>,
    env: &HashMap<String, String>,
) -> Result<Secrets, RequestError> {
    at_most("network.secrets".to_owned(), given.len(), MAX_SECRETS)?;
    let mut names = HashSet::new();
    let mut secrets = Vec::new();
    for (index, given) in given.into_iter().enumerate() {
        let at = |part: &str| format!("network.secrets[{index}].{part}");
        let refused = |reason: &str| Err(RequestError::new(at("name"), &given.name, reason));
        let byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let digit = given.name.starts_with(|first: char| first.is_ascii_digit());
        if given.name.is_empty() || digit || !given.name.bytes().all(byte) {
            return refused("it must be letters, digits and underscores, with no digit in front");
        }
        if env.contains_key(&given.name) {
            return refused("env has a variable of this name too");
        }
        if !names.insert(given.name.clone()) {
            return refused("another secret has it too");
        }
        secrets.push(secret(at, given)?);
    }
    Ok(Secrets::new(secrets))
}

fn secret(at: impl Fn(&str) -> String, mut given: Given) -> Result<Secret, RequestError> {
    if given.length > SECRET_BYTES {
        let reason = format!("it can have {SECRET_BYTES} bytes");
        return Err(RequestError::new(at("value"), Bytes(given.length), reason));
    }
    at_most(at("hosts"), given.hosts.len(), MAX_SECRET_HOSTS)?;
    let hosts = given.hosts.iter().enumerate();
    let hosts: Vec<HostPattern> = hosts
        .map(|(index, text)| host(format!("{}[{index}]", at("hosts")), text))
        .collect::<Result<_, _>>()?;
    let value = given.value.take().unwrap_or_else(|| SecretValue::new(String::new()));
    Secret::new(&given.name, value, hosts, given.in_query).map_err(|error| match error {
        InvalidSecret::Empty(_) => RequestError::new(at("value"), "", "it must not be empty"),
        InvalidSecret::NoHeader(_) => {
            RequestError::new(at("value"), HIDDEN, "it must be what can stand in a header field")
        }
        InvalidSecret::NoHosts(_) => {
            RequestError::new(at("hosts"), Vec::<&str>::new(), "there must be one at least")
        }
    })
}

fn at_most(field: String, count: usize, most: usize) -> Result<(), RequestError> {
    if count <= most {
        return Ok(());
    }
    Err(RequestError::new(field, count, format!("there can be {most} of them")))
}

/// A value that errors do not show.
struct Hidden;

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that is not shown")
    }
}

/// A value of which errors show the length.
struct Bytes(usize);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0)
    }
}

#[cfg(test)]
mod tests;
