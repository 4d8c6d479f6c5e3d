//! Delivery through the handle: pulls, consume sessions, claims. Fetches the bytes of what the core granted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::api::{Claim, Claimed, Delivered, Delivery, ListPending, Pull, Release, Reread, StartAt};
use super::command::{
    Command, Deliver, DeliverAnswer, Grant, Grants, GroupKey, Place, PreparedCandidates, PreparedClaim,
    PreparedRelease, Receiver,
};
use super::handle::{Engine, check_count, group_key};
use super::reader::candidate_key;
use super::view::StreamView;
use crate::error::{Error, Result};
use crate::group::{Deliverable, DeliveryRequest};
use crate::limits;
use crate::types::{ConsumerName, DeliveryNumber, EntryId, GroupName, StoredEntry, StreamName};

/// Candidates prepared at once.
const CANDIDATES_PER_STEP: usize = 2048;
/// A session asks anew after this long, in milliseconds, so that a forgotten one is noticed.
const SESSION_WAIT_MS: u64 = 60_000;

impl Engine {
    /// Asks for entries of a group; waits where there are none. An empty delivery says that the wait is over.
    pub async fn pull(&self, request: Pull) -> Result<Delivery> {
        self.pull_whole(request, None).await
    }

    /// The same, but what others hold for at least so long is taken over first, oldest first, and before that what was
    /// released, in the order of that. Those stay pending also where new entries are not to. Waits for that to come, too.
    pub async fn pull_idle(&self, request: Pull, idle_min: Duration) -> Result<Delivery> {
        self.pull_whole(request, Some(idle_min.as_millis() as u64)).await
    }

    async fn pull_whole(&self, request: Pull, claim_idle_ms: Option<u64>) -> Result<Delivery> {
        check_count("entries_max", request.entries_max, limits::PAGE_ENTRIES_MAX)?;
        if request.wait > limits::PULL_WAIT_MAX {
            return Err(Error::invalid("wait", format!("at most {} s", limits::PULL_WAIT_MAX.as_secs())));
        }
        let place = Place { key: group_key(&request.stream, &request.group), claim_idle_ms };
        let want = wanted(request.entries_max, request.bytes_max, request.no_ack);
        let wait_ms = request.wait.as_millis() as u64;
        let granted = self.deliver(vec![place], Receiver::Consumer(request.consumer), want, wait_ms).await?;
        Ok(granted.into_iter().next().map(|(_, delivery)| delivery).unwrap_or_default())
    }

    /// Asks for entries of groups of that name of several streams at once, as `request` asks for those of one; with each
    /// stream, for how long others must have held what is taken over there. Answers with all that there is, by the place
    /// of the stream in the list, as soon as there is anything. Nothing says that the wait is over.
    pub async fn pull_several(
        &self,
        request: Pull,
        streams: Vec<(StreamName, Option<Duration>)>,
    ) -> Result<Vec<(usize, Delivery)>> {
        check_count("entries_max", request.entries_max, limits::PAGE_ENTRIES_MAX)?;
        let place = |(stream, idle): (StreamName, Option<Duration>)| Place {
            key: group_key(&stream, &request.group),
            claim_idle_ms: idle.map(|idle| idle.as_millis() as u64),
        };
        let places: Vec<Place> = streams.into_iter().map(place).collect();
        check_count("streams", places.len(), usize::MAX)?;
        let want = wanted(request.entries_max, request.bytes_max, request.no_ack);
        let wait_ms = u64::try_from(request.wait.as_millis()).unwrap_or(u64::MAX);
        self.deliver(places, Receiver::Consumer(request.consumer), want, wait_ms).await
    }

    /// Opens a consume session: what it is handed is fenced by it.
    pub async fn open_session(
        &self,
        stream: &StreamName,
        group: &GroupName,
        consumer: ConsumerName,
    ) -> Result<Session> {
        let key = group_key(stream, group);
        let number = self.ask(|reply| Command::OpenSession { key: key.clone(), consumer, reply }).await?;
        Ok(Session { engine: self.clone(), key, number, open: true, end: SessionEnd::default() })
    }

    /// Takes over pending entries.
    pub async fn claim(&self, request: Claim) -> Result<Claimed> {
        if request.ids.is_empty() {
            check_count("entries_max", request.entries_max, limits::PAGE_ENTRIES_MAX)?;
        } else {
            super::handle::check_ids(request.ids.len())?;
        }
        let prepared = Box::new(self.prepare_claim(request).await?);
        let answer = self.ask(|reply| Command::Claim { prepared, reply }).await?;
        let delivery = self.fetch(&answer.grants).await?;
        Ok(Claimed { delivery, gone: answer.gone, next: answer.next })
    }

    async fn prepare_claim(&self, request: Claim) -> Result<PreparedClaim> {
        let options = &request.options;
        let (mut forced, mut cursor) = (Vec::new(), None);
        if options.force {
            forced = self.deliverable(&request.stream, &request.ids).await?;
        }
        if let Some(id) = options.cursor_min {
            cursor = Some(self.cursor(self.view(&request.stream)?, StartAt::After(id)).await?);
        }
        Ok(PreparedClaim { request, forced, cursor })
    }

    /// Those of these entries that exist, in id order.
    async fn deliverable(&self, stream: &StreamName, ids: &[EntryId]) -> Result<Vec<Deliverable>> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let view = self.view(stream)?;
        let found = self.read_with(move |reader, disk| reader.entries(&view, &ids, disk)).await?;
        let of = |e: &StoredEntry| Deliverable {
            id: e.id,
            size: e.bytes.len() as u32,
            key: candidate_key(e.kind, &e.bytes),
        };
        Ok(found.iter().map(of).collect())
    }

    /// Takes entries from whoever holds them, for others to take over; answers how many.
    pub async fn release(&self, request: Release) -> Result<u64> {
        super::handle::check_ids(request.ids.len())?;
        let forced = if request.force { self.deliverable(&request.stream, &request.ids).await? } else { Vec::new() };
        let prepared = Box::new(PreparedRelease { request, forced });
        self.ask(|reply| Command::Release { prepared, reply }).await
    }

    /// Shows a consumer once more what it holds of these ids: what exists counts as delivered again.
    pub async fn reread(&self, request: ListPending) -> Result<Reread> {
        check_count("entries_max", request.entries_max, limits::PAGE_ENTRIES_MAX)?;
        let answer = self.ask(|reply| Command::Reread { request, reply }).await?;
        Ok(Reread { delivery: self.fetch(&answer.grants).await?, gone: answer.gone })
    }

    /// Entries for an asker by the places that it asks; nothing when the wait is over.
    async fn deliver(
        &self,
        places: Vec<Place>,
        who: Receiver,
        request: DeliveryRequest,
        wait_ms: u64,
    ) -> Result<Vec<(usize, Delivery)>> {
        let deadline_ms = self.0.shared.clock.now().engine_ms.saturating_add(wait_ms);
        let mut prepared = None;
        loop {
            let wait_ms = deadline_ms.saturating_sub(self.0.shared.clock.now().engine_ms);
            let (places, who) = (places.clone(), who.clone());
            let candidates = prepared.take();
            let answer = self
                .ask(|reply| {
                    Command::Deliver(Box::new(Deliver { places, who, request, wait_ms, prepared: candidates, reply }))
                })
                .await?;
            match answer {
                DeliverAnswer::Nothing => return Ok(Vec::new()),
                DeliverAnswer::Granted(granted) => {
                    let delivered = self.take(granted).await?;
                    // All of it was trimmed between grant and fetch, or went back: there may be more.
                    if !delivered.is_empty() {
                        return Ok(delivered);
                    }
                }
                DeliverAnswer::Prepare { place, view, after, with_keys } => {
                    prepared = Some((place, self.prepare_candidates(view, after, with_keys).await?));
                }
            }
        }
    }

    /// Takes what was granted, with its bytes, once whoever was granted the entries before has taken those. Where that
    /// cannot be, or this future is dropped, the grants go back.
    async fn take(&self, mut granted: Vec<(usize, Grants)>) -> Result<Vec<(usize, Delivery)>> {
        let mut fetched = Vec::with_capacity(granted.len());
        for (place, grants) in &granted {
            fetched.push((*place, self.fetch(grants).await?));
        }
        for (_, grants) in &granted {
            if !grants.turn().await {
                return Ok(Vec::new());
            }
        }
        // Nothing is waited for from here on: what is taken is answered.
        let taken: Vec<bool> = granted.iter_mut().map(|(_, grants)| grants.take()).collect();
        let delivered = fetched.into_iter().zip(taken);
        let delivered = delivered.filter(|((_, delivery), taken)| *taken && !delivery.entries.is_empty());
        Ok(delivered.map(|(delivery, _)| delivery).collect())
    }

    async fn prepare_candidates(
        &self,
        view: Arc<StreamView>,
        after: EntryId,
        with_keys: bool,
    ) -> Result<PreparedCandidates> {
        let read = move |reader: &super::reader::Reader, disk| {
            reader.candidates(&view, after, CANDIDATES_PER_STEP, with_keys, disk)
        };
        let (candidates, looked_to) = self.read_with(read).await?;
        Ok(PreparedCandidates { after, candidates, looked_to })
    }

    /// The bytes of what was granted.
    async fn fetch(&self, grants: &Grants) -> Result<Delivery> {
        let mut ids: Vec<EntryId> = grants.entries.iter().map(|g| g.id).collect();
        ids.sort_unstable();
        ids.dedup();
        let view = Arc::clone(&grants.view);
        let found = self.read_with(move |reader, disk| reader.entries(&view, &ids, disk)).await?;
        let entry_of = |id: EntryId| -> Option<StoredEntry> {
            found.binary_search_by_key(&id, |e| e.id).ok().map(|at| found[at].clone())
        };
        let entries = grants.entries.iter().filter_map(|grant| {
            let entry = entry_of(grant.id)?;
            let Grant { deliveries, failures, before, .. } = *grant;
            Some(Delivered { entry, deliveries, failures, before })
        });
        Ok(Delivery { delivery: grants.delivery, entries: entries.collect(), lease_ms: grants.lease_ms })
    }
}

/// What an asker wants; the core bounds it further by what fits a commit.
fn wanted(entries_max: usize, bytes_max: usize, no_ack: bool) -> DeliveryRequest {
    DeliveryRequest { entries_max, bytes_max, no_ack, parked_max: usize::MAX, claim_idle_ms: None }
}

/// An open consume session: what it is handed is fenced by it. Dropping it counts as losing it: what it holds is
/// delivered again, and counts as failed.
pub struct Session {
    engine: Engine,
    key: GroupKey,
    number: DeliveryNumber,
    open: bool,
    end: SessionEnd,
}

/// How a session ends that is dropped: it is lost, unless it is told otherwise.
#[derive(Clone, Debug, Default)]
pub struct SessionEnd(Arc<AtomicBool>);

impl SessionEnd {
    /// From here on, dropping the session hands back what it holds, without counting failures.
    pub fn hand_back(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Session {
    /// Its number, for [`super::Holder::Delivery`].
    pub fn number(&self) -> DeliveryNumber {
        self.number
    }

    /// Says how it ends where it is dropped.
    pub fn end(&self) -> SessionEnd {
        self.end.clone()
    }

    /// More entries for this session; waits where there are none. Where the future is dropped, what it was granted is as
    /// if it had not been.
    pub async fn next(&mut self, entries_max: usize, bytes_max: usize) -> Result<Delivery> {
        check_count("entries_max", entries_max, limits::PAGE_ENTRIES_MAX)?;
        let request = wanted(entries_max, bytes_max, false);
        loop {
            let place = Place { key: self.key.clone(), claim_idle_ms: None };
            let who = Receiver::Session(self.number);
            let delivered = self.engine.deliver(vec![place], who, request, SESSION_WAIT_MS).await?;
            if let Some((_, delivery)) = delivered.into_iter().next() {
                return Ok(delivery);
            }
        }
    }

    /// Ends the session and hands back what it still holds, without counting failures; answers how many entries. Where
    /// that fails it is done as soon as it can be.
    pub async fn drain(mut self) -> Result<u64> {
        self.end.hand_back();
        let (key, session) = (self.key.clone(), self.number);
        let handed_back = self.engine.ask(|reply| Command::CloseSession { key, session, reply }).await?;
        self.open = false;
        Ok(handed_back)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.open {
            // It must not get lost, or a single-active group would wait for this session for ever.
            let drained = self.end.0.load(Ordering::Acquire);
            self.engine.0.shared.homecoming.session(self.key.clone(), self.number, drained);
        }
    }
}
