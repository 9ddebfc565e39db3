//! Answers, for as long as their records live.

use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use quick_cache::Weighter;
use quick_cache::sync;
use tokio::time::Instant;

use super::query::Query;

/// Bytes of all answers.
const CAPACITY: u64 = 4 << 20;
/// Answers expected, to size the tables.
const EXPECTED: usize = 4_096;
/// What an answer weighs beyond its records.
const OVERHEAD: u64 = 512;
/// What a record in memory weighs, about, beyond its bytes in a message.
const RECORD_OVERHEAD: u64 = 256;
/// Longest life of an answer in seconds, whatever its records say.
const LONGEST: u32 = 24 * 3_600;
/// Longest life of "there is no such thing" in seconds (RFC 2308, 5 advises one to three hours).
const LONGEST_NEGATIVE: u32 = 900;

/// What an answer depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    name: Name,
    record_type: RecordType,
    signatures: bool,
    unchecked: bool,
}

impl Key {
    pub(super) fn of(query: &Query) -> Self {
        Self {
            name: query.name().to_lowercase(),
            record_type: query.record_type(),
            signatures: query.wants_signatures(),
            unchecked: query.checking_disabled(),
        }
    }
}

#[derive(Debug)]
struct Kept {
    message: Message,
    since: Instant,
    life: Duration,
}

#[derive(Clone, Debug)]
struct Weight;

impl Weighter<Key, Arc<Kept>> for Weight {
    fn weight(&self, _: &Key, kept: &Arc<Kept>) -> u64 {
        let records = kept.message.all_sections().count() as u64;
        let bytes = kept.message.to_vec().map_or(0, |bytes| bytes.len() as u64);
        OVERHEAD + bytes + records * RECORD_OVERHEAD
    }
}

/// The cache. Bounded by bytes.
#[derive(Debug)]
pub(super) struct Cache(sync::Cache<Key, Arc<Kept>, Weight>);

impl Default for Cache {
    fn default() -> Self {
        Self(sync::Cache::with_weighter(EXPECTED, CAPACITY, Weight))
    }
}

impl Cache {
    /// The answer, its records as much older as it has been kept.
    pub(super) fn get(&self, key: &Key, now: Instant) -> Option<Message> {
        let kept = self.0.get(key)?;
        let age = now.saturating_duration_since(kept.since);
        if age >= kept.life {
            self.0.remove(key);
            return None;
        }
        let mut message = kept.message.clone();
        let seconds = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
        let Message { answers, authorities, additionals, .. } = &mut message;
        for record in answers.iter_mut().chain(authorities).chain(additionals) {
            record.decrement_ttl(seconds);
        }
        Some(message)
    }

    /// Keeps an answer if it may be kept.
    pub(super) fn put(&self, key: Key, message: &Message, now: Instant) {
        if let Some(life) = lifetime(message) {
            self.0.insert(key, Arc::new(Kept { message: message.clone(), since: now, life }));
        }
    }
}

/// How long an answer may be kept.
pub(super) fn lifetime(message: &Message) -> Option<Duration> {
    let shortest = |records: &[Record]| records.iter().map(|record| record.ttl).min();
    let all = [&message.answers, &message.authorities, &message.additionals];
    let shortest = all.into_iter().filter_map(|records| shortest(records)).min()?.min(LONGEST);
    let asked = message.queries.first()?.query_type;
    let found = message
        .answers
        .iter()
        .any(|record| record.record_type() == asked || asked == RecordType::ANY);
    let life = match message.metadata.response_code {
        ResponseCode::NoError if found => shortest,
        ResponseCode::NoError | ResponseCode::NXDomain => {
            let start = message.authorities.iter().find_map(|record| match &record.data {
                RData::SOA(start) => Some(start.minimum),
                _ => None,
            })?;
            shortest.min(start).min(LONGEST_NEGATIVE)
        }
        _ => return None,
    };
    (life > 0).then(|| Duration::from_secs(life.into()))
}
