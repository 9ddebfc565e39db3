//! The names that only this network knows.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::query::Query;
use crate::link::{HOST_V4, HOST_V6};

/// Stands for the host's loopback.
pub const HOST_NAME: &str = "host.lanebox.internal";
/// What lies under it is nobody else's.
const ZONE: &str = "lanebox.internal.";
/// Lifetime of the records, in seconds.
const TTL: u32 = 600;

/// The answer, if the name is one of ours or would have to be.
pub(super) fn answer(query: &Query) -> Option<Message> {
    let zone = Name::from_ascii(ZONE).ok()?;
    if !zone.zone_of(query.name()) {
        return None;
    }
    let host = Name::from_ascii(HOST_NAME).ok()?;
    if !query.name().eq_ignore_root(&host) {
        return Some(query.reply(ResponseCode::NXDomain));
    }
    let mut reply = query.reply(ResponseCode::NoError);
    let data = match query.record_type() {
        RecordType::A => RData::A(A(HOST_V4)),
        RecordType::AAAA => RData::AAAA(AAAA(HOST_V6)),
        _ => return Some(reply),
    };
    reply.add_answer(Record::from_rdata(query.name().clone(), TTL, data));
    Some(reply)
}
