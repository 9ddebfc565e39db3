//! A query, checked once: from the guest's bytes to ours, and back to an answer that fits.

use bytes::Bytes;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as Asked, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};

use super::gate::Question;

/// Length of a message's header (RFC 1035, 4.1.1).
const HEADER: usize = 12;
/// Longest query: one name, one OPT record, and room for options that we do not look at.
const LONGEST_QUERY: usize = 4_096;
/// What UDP carries without EDNS (RFC 1035, 4.2.1).
const PLAIN_PAYLOAD: u16 = 512;
/// What we send over UDP at most, whatever the guest would take.
const LARGEST_PAYLOAD: u16 = 4_096;
/// What we say that we take: safe from fragmentation (RFC 9715, 3.1).
pub(super) const OUR_PAYLOAD: u16 = 1_232;

/// A query that can be asked.
#[derive(Clone, Debug)]
pub(super) struct Query {
    id: u16,
    asked: Asked,
    recursion_desired: bool,
    authentic_data: bool,
    checking_disabled: bool,
    edns: Option<GuestEdns>,
}

#[derive(Clone, Copy, Debug)]
struct GuestEdns {
    payload: u16,
    dnssec_ok: bool,
}

/// Why a query is not asked.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Not a query at all: answering could go round for ever.
    Silence,
    /// Answered with this.
    Reply(Bytes),
}

impl Query {
    /// Checks a message from the guest.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.len() < HEADER || bytes[2] & 0x80 != 0 {
            return Err(Refusal::Silence);
        }
        let id = u16::from_be_bytes([bytes[0], bytes[1]]);
        let refuse = |code| Refusal::Reply(bare(id, code));
        if bytes.len() > LONGEST_QUERY {
            return Err(refuse(ResponseCode::FormErr));
        }
        if bytes[2] & 0x78 != 0 {
            return Err(refuse(ResponseCode::NotImp));
        }
        let message = Message::from_vec(bytes).map_err(|_| refuse(ResponseCode::FormErr))?;
        let [asked] = &message.queries[..] else { return Err(refuse(ResponseCode::FormErr)) };
        if !message.answers.is_empty() || !message.authorities.is_empty() {
            return Err(refuse(ResponseCode::FormErr));
        }
        let mut asked = asked.clone();
        asked.name.set_fqdn(true);
        let query = Self {
            id,
            recursion_desired: message.metadata.recursion_desired,
            authentic_data: message.metadata.authentic_data,
            checking_disabled: message.metadata.checking_disabled,
            edns: message.edns.as_ref().map(|edns| GuestEdns {
                payload: edns.max_payload().clamp(PLAIN_PAYLOAD, LARGEST_PAYLOAD),
                dnssec_ok: edns.flags().dnssec_ok,
            }),
            asked,
        };
        let refuse = |code| Refusal::Reply(query.fit(query.reply(code), query.payload()));
        if message.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return Err(refuse(ResponseCode::BADVERS));
        }
        // Zones are copied between servers, not to stub resolvers; other classes have none.
        let kind = query.asked.query_type;
        if query.asked.query_class != DNSClass::IN
            || matches!(kind, RecordType::AXFR | RecordType::IXFR)
        {
            return Err(refuse(ResponseCode::Refused));
        }
        Ok(query)
    }

    pub(super) fn name(&self) -> &Name {
        &self.asked.name
    }

    pub(super) fn record_type(&self) -> RecordType {
        self.asked.query_type
    }

    pub(super) fn wants_signatures(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec_ok)
    }

    pub(super) fn checking_disabled(&self) -> bool {
        self.checking_disabled
    }

    pub(super) fn question(&self) -> Question {
        Question {
            name: self.asked.name.to_ascii(),
            record_type: self.asked.query_type.to_string(),
        }
    }

    /// Bytes of the largest answer over UDP.
    pub(super) fn payload(&self) -> usize {
        self.edns.map_or(PLAIN_PAYLOAD, |edns| edns.payload).into()
    }

    /// The query as we ask it.
    pub(super) fn to_server(&self, id: u16, with_edns: bool) -> Message {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.authentic_data = self.authentic_data;
        message.metadata.checking_disabled = self.checking_disabled;
        message.add_query(self.asked.clone());
        if with_edns {
            message.set_edns(our_edns(self.wants_signatures()));
        }
        message
    }

    /// Whether a message from a server answers this.
    pub(super) fn is_answered_by(&self, message: &Message, id: u16) -> bool {
        message.metadata.message_type == MessageType::Response
            && message.metadata.op_code == OpCode::Query
            && message.metadata.id == id
            && matches!(&message.queries[..], [asked] if asked.query_type == self.asked.query_type
                && asked.query_class == self.asked.query_class
                && asked.name.eq_ignore_root(&self.asked.name))
    }

    /// An empty answer.
    pub(super) fn reply(&self, code: ResponseCode) -> Message {
        let mut message = Message::new(self.id, MessageType::Response, OpCode::Query);
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.recursion_available = true;
        message.metadata.checking_disabled = self.checking_disabled;
        message.metadata.response_code = code;
        message.add_query(self.asked.clone());
        message
    }

    /// A server's answer, as the answer to this.
    pub(super) fn adopt(&self, answer: Message) -> Message {
        let mut message = self.reply(answer.metadata.response_code);
        message.metadata.authentic_data = answer.metadata.authentic_data;
        message.answers = answer.answers;
        message.authorities = answer.authorities;
        message.additionals = answer.additionals;
        message
    }

    /// The bytes of an answer, of `most` at most: cut off and marked so if need be.
    pub(super) fn fit(&self, mut message: Message, most: usize) -> Bytes {
        message.edns = self.edns.map(|edns| our_edns(edns.dnssec_ok));
        if self.edns.is_none() && message.metadata.response_code.high() > 0 {
            message.metadata.response_code = ResponseCode::ServFail;
        }
        match message.to_vec() {
            Ok(bytes) if bytes.len() <= most => bytes.into(),
            Ok(_) => message.truncate().to_vec().map_or_else(|_| self.failure(), Bytes::from),
            Err(_) => self.failure(),
        }
    }

    fn failure(&self) -> Bytes {
        bare(self.id, ResponseCode::ServFail)
    }
}

fn our_edns(dnssec_ok: bool) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(OUR_PAYLOAD).set_version(0).set_dnssec_ok(dnssec_ok);
    edns
}

/// A header alone.
fn bare(id: u16, code: ResponseCode) -> Bytes {
    let [high, low] = id.to_be_bytes();
    Bytes::copy_from_slice(&[high, low, 0x80, 0x80 | code.low(), 0, 0, 0, 0, 0, 0, 0, 0])
}
