//! What of an answer belongs to its question, and which names it makes trusted.
//!
//! Records of the answer section must be reachable from the question through CNAMEs; those of the
//! additional section must be named by one that is. The rest is dropped, whoever added it. Loops,
//! chains without end and two targets for one alias make the whole answer worthless.

use std::collections::HashSet;
use std::net::IpAddr;

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::svcb::{SVCB, SvcParamKey, SvcParamValue};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::names::HostName;

/// Longest chain of aliases; resolvers give up at about this.
const LONGEST_CHAIN: usize = 16;
/// Records of one answer.
const MOST_RECORDS: usize = 512;
/// DNAME (RFC 6672).
const DNAME: RecordType = RecordType::Unknown(39);

/// A name that an answer makes trusted for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pin {
    pub(super) name: HostName,
    pub(super) address: IpAddr,
    /// Seconds.
    pub(super) ttl: u32,
}

/// Why an answer is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Lie {
    #[error("The answer has no question")]
    NoQuestion,
    #[error("The answer has too many records")]
    TooManyRecords,
    #[error("The aliases of the answer go in a circle")]
    Loop,
    #[error("The answer has too long a chain of aliases")]
    LongChain,
    #[error("The answer gives one alias two targets")]
    TwoTargets,
}

/// Drops what does not belong to the answer, and says which names it makes trusted.
pub(super) fn sift(message: &mut Message) -> Result<Vec<Pin>, Lie> {
    let records = message.answers.len() + message.authorities.len() + message.additionals.len();
    if records > MOST_RECORDS {
        return Err(Lie::TooManyRecords);
    }
    let question = message.queries.first().ok_or(Lie::NoQuestion)?.name.clone();
    let chain = follow(&question, &message.answers)?;
    message.answers.retain(|record| belongs(record, &chain));
    message.answers.iter_mut().for_each(drop_encrypted_hello);

    let mut pins = Pins { chain: &chain, found: Vec::new() };
    let mut targets = HashSet::new();
    for record in &message.answers {
        pins.of_answer(record);
        targets.extend(target(&record.data).map(Name::to_lowercase));
    }
    let authorities = message.authorities.iter();
    let servers: HashSet<_> =
        authorities.filter_map(|record| target(&record.data)).map(Name::to_lowercase).collect();
    message.additionals.retain(|record| {
        let owner = record.name.to_lowercase();
        targets.contains(&owner) || servers.contains(&owner) || chain.contains(&owner)
    });
    message.additionals.iter_mut().for_each(drop_encrypted_hello);
    let services = message.answers.iter().any(|record| service(&record.data).is_some());
    for record in &message.additionals {
        if targets.contains(&record.name.to_lowercase()) {
            pins.of_additional(record, services);
        }
    }
    Ok(pins.found)
}

/// The question's name and its aliases, in lower case.
fn follow(question: &Name, answers: &[Record]) -> Result<Vec<Name>, Lie> {
    let mut chain = vec![question.to_lowercase()];
    loop {
        let last = &chain[chain.len() - 1];
        let mut next: Option<Name> = None;
        for record in answers {
            if let RData::CNAME(target) = &record.data
                && record.name.to_lowercase() == *last
            {
                let target = target.0.to_lowercase();
                if next.as_ref().is_some_and(|other| *other != target) {
                    return Err(Lie::TwoTargets);
                }
                next = Some(target);
            }
        }
        match next {
            None => return Ok(chain),
            Some(next) if chain.contains(&next) => return Err(Lie::Loop),
            Some(_) if chain.len() == LONGEST_CHAIN => return Err(Lie::LongChain),
            Some(next) => chain.push(next),
        }
    }
}

fn belongs(record: &Record, chain: &[Name]) -> bool {
    let owner = record.name.to_lowercase();
    let above = matches!(record.record_type(), DNAME | RecordType::RRSIG);
    chain.contains(&owner) || above && chain.iter().any(|name| owner.zone_of(name))
}

/// The name that a record points to and that servers give the addresses of.
fn target(data: &RData) -> Option<&Name> {
    match data {
        RData::SRV(service) => Some(&service.target),
        RData::MX(mail) => Some(&mail.exchange),
        RData::NS(server) => Some(&server.0),
        data => service(data).map(|service| &service.target_name),
    }
}

fn service(data: &RData) -> Option<&SVCB> {
    match data {
        RData::HTTPS(service) => Some(&service.0),
        RData::SVCB(service) => Some(service),
        _ => None,
    }
}

/// An encrypted ClientHello hides the name that the connection is for; without its key, clients
/// send the name openly.
fn drop_encrypted_hello(record: &mut Record) {
    let service = match &mut record.data {
        RData::HTTPS(service) => &mut service.0,
        RData::SVCB(service) => service,
        _ => return,
    };
    service.svc_params.retain(|(key, _)| *key != SvcParamKey::EchConfigList);
}

struct Pins<'a> {
    chain: &'a [Name],
    found: Vec<Pin>,
}

impl Pins<'_> {
    fn of_answer(&mut self, record: &Record) {
        let owner = record.name.to_lowercase();
        let Some(place) = self.chain.iter().position(|name| *name == owner) else { return };
        if let Some(address) = address(&record.data) {
            self.add_chain(place, address, record.ttl);
        }
        let Some(service) = service(&record.data) else { return };
        for address in hints(service) {
            // A client of the service keeps using the name that it asked for (RFC 9460, 2.4.3).
            self.add_chain(place, address, record.ttl);
            self.add(&service.target_name, address, record.ttl);
        }
    }

    fn of_additional(&mut self, record: &Record, of_service: bool) {
        let Some(address) = address(&record.data) else { return };
        self.add(&record.name, address, record.ttl);
        if of_service {
            self.add_chain(self.chain.len() - 1, address, record.ttl);
        }
    }

    fn add_chain(&mut self, last: usize, address: IpAddr, ttl: u32) {
        for name in &self.chain[..=last] {
            self.add(name, address, ttl);
        }
    }

    fn add(&mut self, name: &Name, address: IpAddr, ttl: u32) {
        if let Some(name) = HostName::parse(&name.to_ascii()) {
            self.found.push(Pin { name, address, ttl });
        }
    }
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(address) => Some(address.0.into()),
        RData::AAAA(address) => Some(address.0.into()),
        _ => None,
    }
}

fn hints(service: &SVCB) -> impl Iterator<Item = IpAddr> {
    service.svc_params.iter().flat_map(|(_, value)| -> Vec<IpAddr> {
        match value {
            SvcParamValue::Ipv4Hint(hint) => hint.0.iter().map(|a| a.0.into()).collect(),
            SvcParamValue::Ipv6Hint(hint) => hint.0.iter().map(|a| a.0.into()).collect(),
            _ => Vec::new(),
        }
    })
}
