//! What netstack tells, as events of the protocol. Header values, queries and bodies are in none.

use netstack::http::{Refusal, RequestRecord};
use netstack::{DenyReason, Dropped, Event as FlowEvent, FlowEnd, dns, http};
use nix::errno::Errno;
use protocol::v1;
use protocol::v1::network_event::Event;

use super::flow::flow;
use crate::limits::{REASON_BYTES, RECORD_ADDRESSES};

/// An event of the flows, if the owner is told of it.
pub(super) fn of_flow(event: FlowEvent) -> Option<Event> {
    Some(match event {
        FlowEvent::Denied { flow: of, reason, detail } => {
            tracing::info!(flow = of.id.0, transport = %of.transport, destination = %of.destination,
                ?reason, detail, "flow denied");
            Event::Denied(v1::FlowDenied {
                flow: Some(flow(&of)),
                reason: denial(reason).into(),
                detail: if detail.is_empty() { denied(reason).to_owned() } else { short(detail) },
            })
        }
        FlowEvent::DialFailed { flow: of, errno } => {
            let errno = errno_name(errno);
            tracing::info!(flow = of.id.0, transport = %of.transport, destination = %of.destination,
                errno, "flow failed");
            Event::Failed(v1::FlowFailed { flow: Some(flow(&of)), errno })
        }
        FlowEvent::Opened { flow: of } => {
            tracing::info!(flow = of.id.0, transport = %of.transport, destination = %of.destination,
                "flow accepted");
            return None;
        }
        FlowEvent::Closed { flow: of, sent, received, end } => {
            tracing::debug!(flow = of.id.0, sent, received, ?end, "flow ended");
            Event::Closed(v1::FlowClosed {
                flow: Some(flow(&of)),
                sent_bytes: sent,
                received_bytes: received,
                end: ending(end).into(),
            })
        }
        FlowEvent::Dropped { cause, total } => {
            tracing::debug!(?cause, total, "packets dropped");
            Event::Dropped(v1::PacketsDropped { cause: dropped(cause), total })
        }
        other => {
            tracing::debug!(?other, "an event that is not told");
            return None;
        }
    })
}

/// What became of a question to the resolver.
pub(super) fn of_dns(event: dns::Event) -> Event {
    tracing::debug!(flow = event.flow.0, name = event.name, kind = event.record_type,
        outcome = ?event.outcome, "question to the resolver");
    let (outcome, detail, addresses) = match event.outcome {
        dns::Outcome::Answered { code, cached: true, addresses } => {
            (v1::DnsOutcome::Cached, code, addresses)
        }
        dns::Outcome::Answered { code, cached: false, addresses } => {
            (v1::DnsOutcome::Answered, code, addresses)
        }
        dns::Outcome::Refused { reason } => (v1::DnsOutcome::Refused, reason, Vec::new()),
        dns::Outcome::Failed { reason } => (v1::DnsOutcome::Failed, reason, Vec::new()),
    };
    Event::Dns(v1::DnsRecord {
        flow_id: event.flow.0,
        name: event.name,
        record_type: event.record_type,
        outcome: outcome.into(),
        detail: short(detail),
        addresses: addresses.iter().take(RECORD_ADDRESSES).map(ToString::to_string).collect(),
    })
}

/// An event of intercepted connections, if the owner is told of it.
pub(super) fn of_http(event: http::Event) -> Option<Event> {
    Some(match event {
        http::Event::Request(record) => Event::Http(request(record)),
        http::Event::Refused { flow, destination, name, refusal: why, detail } => {
            tracing::info!(flow = flow.0, %destination, name, refusal = ?why, detail,
                "connection refused under interception");
            Event::Refused(v1::ConnectionRefused {
                flow_id: flow.0,
                destination: destination.to_string(),
                name: short(name.unwrap_or_default()),
                refusal: refusal(Some(why)).into(),
                detail: short(detail),
            })
        }
        // Its flow's end is told.
        http::Event::Relayed { flow, destination, name, sent, received } => {
            tracing::debug!(flow = flow.0, %destination, name, sent, received, "TLS relayed");
            return None;
        }
        other => {
            tracing::debug!(?other, "an event that is not told");
            return None;
        }
    })
}

fn request(record: RequestRecord) -> v1::HttpRecord {
    tracing::info!(flow = record.flow.0, destination = %record.destination, method = record.method,
        host = record.host, path = record.path, status = record.status, refusal = ?record.refusal,
        detail = record.detail, "request");
    v1::HttpRecord {
        flow_id: record.flow.0,
        destination: record.destination.to_string(),
        method: short(record.method),
        host: short(record.host),
        path: short(record.path),
        status: record.status.into(),
        sent_bytes: record.sent,
        received_bytes: record.received,
        refusal: refusal(record.refusal).into(),
        detail: short(record.detail),
    }
}

/// What the guest makes as long as it likes; cut off where there is an ellipsis.
pub(super) fn short(mut text: String) -> String {
    if text.len() > REASON_BYTES {
        text.truncate(text.floor_char_boundary(REASON_BYTES - '…'.len_utf8()));
        text.push('…');
    }
    text
}

fn denial(reason: DenyReason) -> v1::FlowDenial {
    match reason {
        DenyReason::Policy => v1::FlowDenial::Policy,
        DenyReason::Deadline => v1::FlowDenial::Deadline,
        DenyReason::PolicyFailed => v1::FlowDenial::PolicyFailed,
        DenyReason::Unsuitable => v1::FlowDenial::Unsuitable,
        DenyReason::Address => v1::FlowDenial::Address,
        DenyReason::Limit => v1::FlowDenial::Limit,
    }
}

/// Words for a denial that came without any.
fn denied(reason: DenyReason) -> &'static str {
    match reason {
        DenyReason::Policy => "the policy denied it",
        DenyReason::Deadline => "the policy did not answer in time",
        DenyReason::PolicyFailed => "the policy failed",
        DenyReason::Unsuitable => "the verdict cannot be carried out for such a flow",
        DenyReason::Address => "this address is not dialled",
        DenyReason::Limit => "there are too many flows",
    }
}

fn ending(end: FlowEnd) -> v1::FlowEnd {
    match end {
        FlowEnd::Finished => v1::FlowEnd::Finished,
        FlowEnd::GuestReset => v1::FlowEnd::GuestReset,
        FlowEnd::UpstreamReset => v1::FlowEnd::UpstreamReset,
        FlowEnd::Expired => v1::FlowEnd::Expired,
        FlowEnd::Shutdown => v1::FlowEnd::Shutdown,
    }
}

fn refusal(refusal: Option<Refusal>) -> v1::HttpRefusal {
    match refusal {
        None => v1::HttpRefusal::Unspecified,
        Some(Refusal::NotHttp) => v1::HttpRefusal::NotHttp,
        Some(Refusal::Name) => v1::HttpRefusal::Name,
        Some(Refusal::Private) => v1::HttpRefusal::Private,
        Some(Refusal::Malformed) => v1::HttpRefusal::Malformed,
        Some(Refusal::Method) => v1::HttpRefusal::Method,
        Some(Refusal::Middleware) => v1::HttpRefusal::Middleware,
        Some(Refusal::Secret) => v1::HttpRefusal::Secret,
        Some(Refusal::UpstreamTls) => v1::HttpRefusal::UpstreamTls,
        Some(Refusal::Limit) => v1::HttpRefusal::Limit,
        // Whatever comes to be: it was not let through.
        Some(_) => v1::HttpRefusal::Upstream,
    }
}

/// `SpoofedSource` as "spoofed-source".
fn dropped(cause: Dropped) -> String {
    let mut words = String::new();
    for letter in format!("{cause:?}").chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push('-');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

/// The name as the manual spells it; the deadline that passed is `ETIMEDOUT`.
fn errno_name(errno: i32) -> String {
    match Errno::from_raw(errno) {
        _ if errno == 0 => "ETIMEDOUT".to_owned(),
        Errno::UnknownErrno => "EIO".to_owned(),
        known => format!("{known:?}"),
    }
}

#[cfg(test)]
mod tests {
    use netstack::{Flow, FlowId, Origin, Transport};

    use super::*;

    fn of() -> Flow {
        Flow {
            id: FlowId(3),
            transport: Transport::Tcp,
            source: "10.0.2.15:1".parse().unwrap(),
            destination: "192.0.2.1:2".parse().unwrap(),
            origin: Origin::Guest,
        }
    }

    #[test]
    fn a_denied_flow_always_has_a_reason() {
        for reason in [
            DenyReason::Policy,
            DenyReason::Deadline,
            DenyReason::PolicyFailed,
            DenyReason::Unsuitable,
            DenyReason::Address,
            DenyReason::Limit,
        ] {
            let event = FlowEvent::Denied { flow: of(), reason, detail: String::new() };
            let Some(Event::Denied(denied)) = of_flow(event) else { panic!("{reason:?}") };
            assert!(!denied.detail.is_empty(), "{reason:?}");
            assert_ne!(denied.reason(), v1::FlowDenial::Unspecified);
            assert_eq!(denied.flow.unwrap().id, 3);
        }
    }

    #[test]
    fn errors_and_causes_have_their_usual_names() {
        for (errno, name) in [(0, "ETIMEDOUT"), (111, "ECONNREFUSED"), (99_999, "EIO")] {
            let event = FlowEvent::DialFailed { flow: of(), errno };
            let Some(Event::Failed(failed)) = of_flow(event) else { panic!("{errno}") };
            assert_eq!(failed.errno, name);
        }
        assert_eq!(dropped(Dropped::SpoofedSource), "spoofed-source");
        assert_eq!(dropped(Dropped::Fragment), "fragment");
        assert!(of_flow(FlowEvent::Opened { flow: of() }).is_none());
    }

    #[test]
    fn what_the_guest_makes_long_is_cut() {
        let event = dns::Event {
            flow: FlowId(1),
            name: "a.".to_owned(),
            record_type: "A".to_owned(),
            outcome: dns::Outcome::Answered {
                code: "No Error".to_owned(),
                cached: true,
                addresses: vec![[192, 0, 2, 1].into(); 100],
            },
        };
        let Event::Dns(record) = of_dns(event) else { panic!("no record") };
        assert_eq!((record.outcome(), record.addresses.len()), (v1::DnsOutcome::Cached, 64));
        let event = http::Event::Refused {
            flow: FlowId(1),
            destination: "192.0.2.1:443".parse().unwrap(),
            name: Some("ü".repeat(5000)),
            refusal: Refusal::Name,
            detail: String::new(),
        };
        let Some(Event::Refused(refused)) = of_http(event) else { panic!("no event") };
        assert!(refused.name.len() <= REASON_BYTES && refused.name.ends_with("ü…"));
        assert_eq!(refused.refusal(), v1::HttpRefusal::Name);
    }
}
