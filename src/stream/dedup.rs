//! What a stream remembers so that the same request or event is not appended twice.
//!
//! Bounded by age (engine time), by count, and by number of producers. Within its window a producer is never forgotten for
//! another one: where there are as many as may be, a new one is refused. Of event ids the oldest goes first.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use crate::error::{Error, Reason, Result};
use crate::format::record::{EventIdsRemembered, IdRun, RequestRemembered};
use crate::format::state::ProducerRow;
use crate::limits::DEDUP_REQUESTS_PER_PRODUCER;
use crate::types::{DedupSettings, EntryId, ProducerId};

/// A request that was published before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RememberedRequest {
    /// The producer's number for it.
    pub sequence: u64,
    /// Hash of its contents.
    pub hash: u128,
    /// The ids that it got.
    pub entries: IdRun,
    at_ms: u64,
}

/// The memory of one stream.
#[derive(Clone, Debug, Default)]
pub struct Dedup {
    producers: HashMap<ProducerId, VecDeque<RememberedRequest>>,
    /// Producers by the time of their last request, oldest first; stale where a later request followed.
    producer_order: VecDeque<(u64, ProducerId)>,
    events: HashMap<String, (EntryId, u64)>,
    event_order: VecDeque<(u64, String)>,
}

impl Dedup {
    /// Whether this request of the producer was published before, within the window.
    ///
    /// The same sequence with other contents is `DUPLICATE_MISMATCH`; a sequence below what is remembered is
    /// `PRODUCER_SEQUENCE_OLD`.
    pub fn find_request(
        &self,
        producer: &ProducerId,
        sequence: u64,
        hash: u128,
        settings: &DedupSettings,
        now_ms: u64,
    ) -> Result<Option<RememberedRequest>> {
        let Some(requests) = self.producers.get(producer) else {
            return self.check_room(settings, now_ms).map(|()| None);
        };
        let alive = |r: &&RememberedRequest| now_ms.saturating_sub(r.at_ms) <= settings.window_ms;
        if let Some(found) = requests.iter().filter(alive).find(|r| r.sequence == sequence) {
            if found.hash != hash {
                return Err(Error::new(
                    Reason::DuplicateMismatch,
                    format!("producer {producer} has used sequence {sequence} for other events"),
                )
                .with("sequence", sequence));
            }
            return Ok(Some(*found));
        }
        match requests.iter().filter(alive).map(|r| r.sequence).max() {
            Some(greatest) if sequence < greatest => Err(Error::new(
                Reason::ProducerSequenceOld,
                format!("sequence {sequence} of producer {producer} is older than {greatest}, and not remembered"),
            )
            .with("sequence", sequence)
            .with("greatest", greatest)),
            _ => Ok(None),
        }
    }

    /// Refuses one more producer where as many as may be published within the window.
    fn check_room(&self, settings: &DedupSettings, now_ms: u64) -> Result<()> {
        let max = settings.producers_max as usize;
        let Some((oldest_ms, _)) = self.producer_order.front() else { return Ok(()) };
        let age_ms = now_ms.saturating_sub(*oldest_ms);
        if self.producers.len() < max || age_ms > settings.window_ms {
            return Ok(());
        }
        Err(full(&format!("{max} producers"), settings.window_ms - age_ms))
    }

    /// The entry that an event of this id became, within the window.
    pub fn find_event(&self, event_id: &str, settings: &DedupSettings, now_ms: u64) -> Option<EntryId> {
        let (entry, at_ms) = self.events.get(event_id)?;
        (now_ms.saturating_sub(*at_ms) <= settings.window_ms).then_some(*entry)
    }

    pub(super) fn remember_request(&mut self, record: &RequestRemembered, settings: &DedupSettings) {
        if settings.producers_max == 0 {
            return;
        }
        let requests = self.producers.entry(record.producer.clone()).or_default();
        if requests.len() >= DEDUP_REQUESTS_PER_PRODUCER {
            requests.pop_front();
        }
        let RequestRemembered { sequence, hash, entries, at_ms, .. } = *record;
        requests.push_back(RememberedRequest { sequence, hash, entries, at_ms });
        self.producer_order.push_back((at_ms, record.producer.clone()));
        self.forget_producers(settings, at_ms);
    }

    pub(super) fn remember_events(&mut self, record: &EventIdsRemembered, settings: &DedupSettings) {
        for (event_id, entry) in &record.events {
            self.events.insert(event_id.clone(), (*entry, record.at_ms));
            self.event_order.push_back((record.at_ms, event_id.clone()));
        }
        self.forget_events(settings, record.at_ms);
    }

    /// What is remembered of producers, in the order in which they are forgotten.
    pub(super) fn producer_rows(&self) -> impl Iterator<Item = ProducerRow> {
        let mut seen = HashSet::new();
        self.producer_order.iter().filter_map(move |(at_ms, producer)| {
            let requests = self.producers.get(producer)?;
            // Stale where a later request followed.
            let counts = requests.back().is_some_and(|last| last.at_ms == *at_ms) && seen.insert(producer);
            let requests = requests.iter().map(|r| (r.sequence, r.hash, r.entries, r.at_ms));
            counts.then(|| ProducerRow { producer: producer.clone(), requests: requests.collect() })
        })
    }

    /// The event ids that are remembered, in the order in which they are forgotten.
    pub(super) fn event_rows(&self) -> impl Iterator<Item = (String, EntryId, u64)> {
        self.event_order.iter().filter_map(|(at_ms, event_id)| {
            let (entry, seen_ms) = self.events.get(event_id)?;
            (seen_ms == at_ms).then(|| (event_id.clone(), *entry, *at_ms))
        })
    }

    pub(super) fn restore_producer(&mut self, row: ProducerRow) {
        let request = |(sequence, hash, entries, at_ms)| RememberedRequest { sequence, hash, entries, at_ms };
        let requests: VecDeque<RememberedRequest> = row.requests.into_iter().map(request).collect();
        if let Some(last) = requests.back() {
            self.producer_order.push_back((last.at_ms, row.producer.clone()));
            self.producers.insert(row.producer, requests);
        }
    }

    pub(super) fn restore_event(&mut self, (event_id, entry, at_ms): (String, EntryId, u64)) {
        self.event_order.push_back((at_ms, event_id.clone()));
        self.events.insert(event_id, (entry, at_ms));
    }

    fn forget_producers(&mut self, settings: &DedupSettings, now_ms: u64) {
        while let Some((at_ms, producer)) = self.producer_order.front() {
            let last_at = self.producers.get(producer).and_then(|r| r.back()).map(|r| r.at_ms);
            let stale = last_at != Some(*at_ms);
            if !stale && now_ms.saturating_sub(*at_ms) <= settings.window_ms {
                break;
            }
            if !stale {
                self.producers.remove(producer);
            }
            self.producer_order.pop_front();
        }
    }

    fn forget_events(&mut self, settings: &DedupSettings, now_ms: u64) {
        while let Some((at_ms, event_id)) = self.event_order.front() {
            let over = self.events.len() > settings.event_ids_max as usize
                || now_ms.saturating_sub(*at_ms) > settings.window_ms;
            if !over {
                break;
            }
            if self.events.get(event_id).is_some_and(|(_, seen)| seen == at_ms) {
                self.events.remove(event_id);
            }
            self.event_order.pop_front();
        }
    }
}

/// The refusal of a request that could not be remembered: stored, it would be stored again when it is repeated.
pub(super) fn full(what: &str, wait_ms: u64) -> Error {
    let why = format!("the stream remembers {what} within its deduplication window already, and no more are allowed");
    Error::new(Reason::LimitReached, why).retry_after(Duration::from_millis(wait_ms + 1))
}
