//! Delivery through the handle: pulls, consume sessions, claims. Fetches the bytes of what the core granted.

use std::sync::Arc;
use std::time::Duration;

use super::api::{Claim, Claimed, Delivered, Delivery, ListPending, Pull, Release, Reread, StartAt};
use super::command::{
    Command, Deliver, DeliverAnswer, Grant, Grants, GroupKey, PreparedCandidates, PreparedClaim, PreparedRelease,
    Receiver,
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
        let key = group_key(&request.stream, &request.group);
        let want = DeliveryRequest { claim_idle_ms, ..wanted(request.entries_max, request.bytes_max, request.no_ack) };
        let wait_ms = request.wait.as_millis() as u64;
        let granted = self.deliver(&key, Receiver::Consumer(request.consumer), want, wait_ms).await?;
        granted.unwrap_or_else(|| Ok(Delivery::default()))
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
        Ok(Session { engine: self.clone(), key, number, open: true })
    }

    /// Takes over pending entries.
    pub async fn claim(&self, request: Claim) -> Result<Claimed> {
        if request.ids.is_empty() {
            check_count("entries_max", request.entries_max, limits::PAGE_ENTRIES_MAX)?;
        } else {
            super::handle::check_ids(request.ids.len())?;
        }
        let prepared = Box::new(self.prepare_claim(request).await?);
        let mut answer = self.ask(|reply| Command::Claim { prepared, reply }).await?;
        answer.grants.keep();
        let delivery = self.fetch(answer.grants).await?;
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
        Ok(Reread { delivery: self.fetch(answer.grants).await?, gone: answer.gone })
    }

    /// Entries for an asker; `None` when the wait is over.
    async fn deliver(
        &self,
        key: &GroupKey,
        who: Receiver,
        request: DeliveryRequest,
        wait_ms: u64,
    ) -> Result<Option<Result<Delivery>>> {
        let deadline_ms = self.0.shared.clock.now().engine_ms.saturating_add(wait_ms);
        let mut prepared = None;
        loop {
            let wait_ms = deadline_ms.saturating_sub(self.0.shared.clock.now().engine_ms);
            let (key, who) = (key.clone(), who.clone());
            let candidates = prepared.take();
            let answer = self
                .ask(|reply| {
                    Command::Deliver(Box::new(Deliver { key, who, request, wait_ms, prepared: candidates, reply }))
                })
                .await?;
            match answer {
                DeliverAnswer::Nothing => return Ok(None),
                DeliverAnswer::Granted(grants) => {
                    let delivery = self.fetch(grants).await?;
                    // All of it was trimmed between grant and fetch: there may be more.
                    if !delivery.entries.is_empty() {
                        return Ok(Some(Ok(delivery)));
                    }
                }
                DeliverAnswer::Prepare { view, after, with_keys } => {
                    prepared = Some(self.prepare_candidates(view, after, with_keys).await?);
                }
            }
        }
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

    /// The bytes of what was granted. Where they cannot be had, the grants go back.
    async fn fetch(&self, mut grants: Grants) -> Result<Delivery> {
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
        let delivery = Delivery { delivery: grants.delivery, entries: entries.collect(), lease_ms: grants.lease_ms };
        grants.keep();
        Ok(delivery)
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
}

impl Session {
    /// Its number, for [`super::Holder::Delivery`].
    pub fn number(&self) -> DeliveryNumber {
        self.number
    }

    /// More entries for this session; waits where there are none. Where the future is dropped, what it was granted is
    /// handed back without counting a failure.
    pub async fn next(&mut self, entries_max: usize, bytes_max: usize) -> Result<Delivery> {
        check_count("entries_max", entries_max, limits::PAGE_ENTRIES_MAX)?;
        let request = wanted(entries_max, bytes_max, false);
        loop {
            let who = Receiver::Session(self.number);
            if let Some(delivery) = self.engine.deliver(&self.key, who, request, SESSION_WAIT_MS).await? {
                return delivery;
            }
        }
    }

    /// Ends the session and hands back what it still holds, without counting failures; answers how many entries.
    pub async fn drain(mut self) -> Result<u64> {
        self.open = false;
        let (key, session) = (self.key.clone(), self.number);
        self.engine.ask(|reply| Command::CloseSession { key, session, drained: true, reply: Some(reply) }).await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.open {
            let (key, session) = (self.key.clone(), self.number);
            // It must not get lost, or a single-active group would wait for this session for ever. The core always goes
            // on reading its queue, so the wait is short; where it has stopped there is nobody to tell.
            let close = Command::CloseSession { key, session, drained: false, reply: None };
            let _ = self.engine.0.shared.commands.send(close);
        }
    }
}
