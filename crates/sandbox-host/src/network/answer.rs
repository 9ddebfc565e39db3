//! `NetworkAnswer`, checked against what was asked.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use netstack::dns::Server;
use netstack::names::HostName;
use netstack::{Grants, Transport};
use protocol::v1;
use protocol::v1::flow_decision::Decision;
use protocol::v1::http_verdict::Verdict;
use protocol::v1::network_answer::Answer;

use crate::callback::{Gather, Taken};
use crate::limits::{REASON_BYTES, VERDICT_BODY_BYTES, VERDICT_HEADER_BYTES, VERDICT_HEADERS};
use crate::request::resolvers;

/// What a question is to be answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// A verdict on a flow.
    Decision {
        /// It goes to the gateway's resolver.
        to_resolver: bool,
        /// What carries it.
        transport: Transport,
        /// The names that were in the question.
        names: Vec<HostName>,
    },
    /// A verdict on a request.
    Verdict,
}

/// A verdict on a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlowVerdict {
    /// It is relayed.
    Accept(Grants),
    /// It is refused, for this reason.
    Deny(String),
    /// Its questions are answered, by these servers or the host's.
    Resolve(Vec<Server>),
    /// Only HTTP and TLS are let through.
    Http(HttpFlow),
}

/// What HTTP and TLS are let through for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpFlow {
    /// For these names; for the address when there are none.
    pub names: Vec<HostName>,
    /// Which may lead to addresses that are not public.
    pub allow_private: bool,
    /// Every request is asked about.
    pub middleware: bool,
}

/// A verdict on a request.
#[derive(Debug)]
pub enum RequestVerdict {
    /// It goes on, with these fields.
    Forward(HeaderMap),
    /// It is answered.
    Respond(StatusCode, HeaderMap, Bytes),
    /// It is refused, for this reason.
    Deny(String),
}

/// How a question ends.
#[derive(Debug)]
pub enum Outcome {
    /// With a verdict on a flow.
    Decision(FlowVerdict),
    /// With a verdict on a request.
    Verdict(RequestVerdict),
    /// The callback failed.
    Failed(String),
    /// The answer cannot be.
    Wrong(String),
}

/// The answer to one question, which comes in one piece.
#[derive(Debug)]
pub struct Gathering(pub Expected);

impl Gather for Gathering {
    type Answer = v1::NetworkAnswer;
    type Outcome = Outcome;

    fn held(&self) -> usize {
        0
    }

    fn clear(&mut self) {}

    fn take(&mut self, answer: v1::NetworkAnswer) -> Taken<Outcome> {
        let outcome = match (answer.answer, &self.0) {
            (Some(Answer::Problem(problem)), _) => {
                Ok(Outcome::Failed(words(problem, "the callback failed and did not say why")))
            }
            (Some(Answer::Decision(given)), expected @ Expected::Decision { .. }) => {
                decision(given, expected).map(Outcome::Decision)
            }
            (Some(Answer::Verdict(given)), Expected::Verdict) => {
                verdict(given).map(Outcome::Verdict)
            }
            (Some(_), Expected::Decision { .. }) => {
                Err("it answered about a flow with a verdict on a request".to_owned())
            }
            (Some(_), Expected::Verdict) => {
                Err("it answered about a request with a decision about a flow".to_owned())
            }
            (None, _) => Err("it gave an empty answer".to_owned()),
        };
        Taken { outcome: Some(outcome.unwrap_or_else(Outcome::Wrong)), more: false }
    }
}

fn decision(given: v1::FlowDecision, expected: &Expected) -> Result<FlowVerdict, String> {
    let Expected::Decision { to_resolver, transport, names } = expected else {
        return Err("it answered what was not asked".to_owned());
    };
    match given.decision {
        None => Err("it gave an empty decision".to_owned()),
        Some(Decision::Accept(v1::AcceptFlow { link_local })) => {
            Ok(FlowVerdict::Accept(Grants { link_local }))
        }
        Some(Decision::Deny(v1::DenyFlow { reason })) => {
            Ok(FlowVerdict::Deny(words(reason, "the policy denied it")))
        }
        Some(Decision::Resolve(_)) if !to_resolver => {
            Err("it answered `resolve` for a flow that is not to the resolver".to_owned())
        }
        Some(Decision::Resolve(v1::ResolveFlow { resolvers: given })) => {
            let servers = resolvers("resolve.resolvers", &given);
            Ok(FlowVerdict::Resolve(servers.map_err(|error| error.to_string())?))
        }
        Some(Decision::Http(_)) if *transport != Transport::Tcp || *to_resolver => {
            Err("it answered `http` for a flow that cannot be HTTP".to_owned())
        }
        Some(Decision::Http(given)) => {
            let asked = |name: &String| {
                let found = HostName::parse(name).filter(|name| names.contains(name));
                found.ok_or_else(|| {
                    let name = words(name.clone(), "");
                    format!("it answered with the name {name:?}, which was not in the question")
                })
            };
            Ok(FlowVerdict::Http(HttpFlow {
                names: given.names.iter().map(asked).collect::<Result<_, _>>()?,
                allow_private: given.allow_private,
                middleware: given.middleware,
            }))
        }
    }
}

fn verdict(given: v1::HttpVerdict) -> Result<RequestVerdict, String> {
    match given.verdict {
        None => Err("it gave an empty verdict".to_owned()),
        Some(Verdict::Forward(forward)) => Ok(RequestVerdict::Forward(fields(forward.headers)?)),
        Some(Verdict::Deny(v1::DenyRequest { reason })) => {
            Ok(RequestVerdict::Deny(words(reason, "the policy denied it")))
        }
        Some(Verdict::Respond(v1::RespondToRequest { status, headers, body })) => {
            let status = u16::try_from(status).ok().filter(|status| (200..=599).contains(status));
            let Some(Ok(status)) = status.map(StatusCode::from_u16) else {
                return Err("it responded with a status that is not from 200 to 599".to_owned());
            };
            if body.len() > VERDICT_BODY_BYTES {
                return Err(format!("it responded with more than {VERDICT_BODY_BYTES} bytes"));
            }
            Ok(RequestVerdict::Respond(status, fields(headers)?, body))
        }
    }
}

/// Header fields; what they hold is in no error.
fn fields(given: Vec<v1::HttpHeader>) -> Result<HeaderMap, String> {
    let bytes: usize = given.iter().map(|field| field.name.len() + field.value.len()).sum();
    if given.len() > VERDICT_HEADERS || bytes > VERDICT_HEADER_BYTES {
        return Err(format!(
            "it answered with more than {VERDICT_HEADERS} header fields or {VERDICT_HEADER_BYTES} \
             bytes of them"
        ));
    }
    let mut headers = HeaderMap::with_capacity(given.len());
    for field in given {
        let Ok(name) = HeaderName::from_bytes(field.name.as_bytes()) else {
            let name = words(field.name, "");
            return Err(format!("it answered with a header field named {name:?}"));
        };
        let Ok(value) = HeaderValue::from_maybe_shared(field.value) else {
            return Err(format!("it answered with a value that cannot stand in {name:?}"));
        };
        headers.append(name, value);
    }
    Ok(headers)
}

/// The words of a client, shortened, or others when there are none.
fn words(mut text: String, otherwise: &str) -> String {
    text.truncate(text.floor_char_boundary(REASON_BYTES));
    if text.trim().is_empty() { otherwise.to_owned() } else { text }
}

#[cfg(test)]
mod tests;
