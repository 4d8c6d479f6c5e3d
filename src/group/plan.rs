//! What a group would do: plans made from `&self`, turned into effects by the core.

use std::collections::HashSet;

use super::{Candidate, Deliverable, Group, PendingEntry, Window};
use crate::error::{Error, Reason, Result};
use crate::format::record::{IdRun, runs};
use crate::types::{ConsumerNumber, DeliveryNumber, Dispatch, EntryId, IdRange};

/// How much a consumer asks for.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryRequest {
    /// Entries at most.
    pub entries_max: usize,
    /// Bytes after which the delivery ends; it holds at least one entry.
    pub bytes_max: usize,
    /// Only new entries, and none of them pending.
    pub no_ack: bool,
    /// Entries parked on the way at most: what is behind them is looked at by the next delivery.
    pub parked_max: usize,
    /// What others hold for at least so long, in milliseconds, is taken over first, and what was released; unset: nothing.
    pub claim_idle_ms: Option<u64>,
}

/// What a delivery would hand out.
#[derive(Clone, Debug, Default)]
pub struct DeliveryPlan {
    /// Redelivered entries first, in id order, then what is taken over, by age, then new ones, in id order.
    pub entries: Vec<Deliverable>,
    /// How many of them are not new: they stay pending until they are acknowledged, whatever is asked for.
    pub known: usize,
    /// New entries that have to wait behind one of their key.
    pub parked: Vec<Deliverable>,
    /// Pending entries found gone from the stream.
    pub gone: Vec<EntryId>,
    /// Of `entries`, new ones with the number of entries ever appended up to each.
    pub new: Vec<(EntryId, u64)>,
    /// Of `new`, those that are pending since before the cursor was moved back: they are delivered as if for the first
    /// time.
    pub anew: Vec<EntryId>,
    /// Candidates that the plan uses up.
    pub taken: usize,
    /// The last of them that exists: the cursor afterwards.
    pub cursor: Option<(EntryId, u64)>,
    bytes: usize,
}

impl DeliveryPlan {
    /// Whether it changes anything.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.parked.is_empty() && self.gone.is_empty() && self.taken == 0
    }

    fn is_full(&self, request: &DeliveryRequest, next_size: u32) -> bool {
        self.entries.len() >= request.entries_max
            || (!self.entries.is_empty() && self.bytes + next_size as usize > request.bytes_max)
    }

    fn add(&mut self, what: Deliverable) {
        self.bytes += what.size as usize;
        self.entries.push(what);
    }
}

/// Whose entries a command may settle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Everybody's.
    Anyone,
    /// Those of one delivery.
    Delivery(DeliveryNumber),
    /// Those of one consumer.
    Consumer(ConsumerNumber),
}

impl Owner {
    fn holds(self, entry: &PendingEntry) -> bool {
        match self {
            Self::Anyone => true,
            Self::Delivery(number) => entry.consumer != ConsumerNumber::NOBODY && entry.delivery == number,
            Self::Consumer(number) => number != ConsumerNumber::NOBODY && entry.consumer == number,
        }
    }
}

/// Which pending entries a command takes effect on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettlePlan {
    /// The entries, in id order.
    pub ids: Vec<EntryId>,
    /// The same as ranges: every pending entry in them is meant.
    pub ranges: Vec<IdRange>,
    /// Ids asked for singly that are not pending.
    pub not_pending: Vec<EntryId>,
    /// Ids that others hold.
    pub not_owned: Vec<EntryId>,
}

impl Group {
    /// What a consumer would get now.
    pub fn plan_delivery(
        &self,
        window: &Window,
        request: &DeliveryRequest,
        now_ms: u64,
        exists: &dyn Fn(EntryId) -> bool,
    ) -> DeliveryPlan {
        let mut plan = DeliveryPlan::default();
        if !request.no_ack {
            self.plan_redelivery(&mut plan, request, now_ms, exists);
        }
        if let Some(idle_min_ms) = request.claim_idle_ms {
            self.plan_takeover(&mut plan, request, (idle_min_ms, now_ms), exists);
        }
        plan.known = plan.entries.len();
        self.plan_new(&mut plan, window, request, exists);
        plan
    }

    fn plan_redelivery(
        &self,
        plan: &mut DeliveryPlan,
        request: &DeliveryRequest,
        now_ms: u64,
        exists: &dyn Fn(EntryId) -> bool,
    ) {
        let mut full_keys = HashSet::new();
        for what in self.pending.ready(now_ms, request.entries_max) {
            if !exists(what.id) {
                plan.gone.push(what.id);
            } else if plan.is_full(request, what.size) || full_keys.contains(&what.key) {
                // A key's order holds only if nothing of it is left out in the middle.
                if what.key != 0 {
                    full_keys.insert(what.key);
                }
            } else {
                plan.add(what);
            }
        }
    }

    /// What was released, then what is held for so long, oldest first. What no longer exists stays as it is.
    fn plan_takeover(
        &self,
        plan: &mut DeliveryPlan,
        request: &DeliveryRequest,
        (idle_min_ms, now_ms): (u64, u64),
        exists: &dyn Fn(EntryId) -> bool,
    ) {
        for (id, entry) in self.pending.oldest() {
            let is_idle = entry.is_released() || now_ms.saturating_sub(entry.delivered_ms) >= idle_min_ms;
            if !is_idle || plan.entries.len() >= request.entries_max {
                break;
            }
            // What was released where entries come again by themselves was redelivered above.
            let is_planned = entry.is_released() && entry.due_ms <= now_ms && !request.no_ack;
            if is_planned || !exists(id) {
                continue;
            }
            if plan.is_full(request, entry.size) {
                break;
            }
            plan.add(Deliverable { id, size: entry.size, key: self.pending.key_of(id) });
        }
    }

    fn plan_new(
        &self,
        plan: &mut DeliveryPlan,
        window: &Window,
        request: &DeliveryRequest,
        exists: &dyn Fn(EntryId) -> bool,
    ) {
        let ordered = self.settings.dispatch == Dispatch::KeyOrdered && !request.no_ack;
        let mut own_keys: HashSet<u64> = HashSet::new();
        let known: HashSet<EntryId> = plan.entries.iter().map(|what| what.id).collect();
        let mut room = (self.settings.pending_max as usize).saturating_sub(self.pending.len());
        for candidate in window.iter() {
            let Candidate { id, ordinal, size, key } = *candidate;
            let what = Deliverable { id, size, key: if ordered { key } else { 0 } };
            plan.taken += 1;
            if !exists(id) {
                continue;
            }
            let is_pending = self.pending.is_pending(id);
            // After the cursor was moved back, what is still pending comes again by itself, unless it is claimed by hand.
            let is_wanted = !is_pending || (!known.contains(&id) && self.is_delivered_anew(id, request.no_ack));
            if is_wanted {
                let busy = ordered && key != 0 && self.pending.is_key_busy(key) && !own_keys.contains(&key);
                let full = if busy { plan.parked.len() >= request.parked_max } else { plan.is_full(request, size) };
                // What is not to be pending, and what is already, needs no room.
                let needs_room = !request.no_ack && !is_pending;
                if (needs_room && room == 0) || full {
                    plan.taken -= 1;
                    break;
                }
                room -= usize::from(needs_room);
                if busy {
                    plan.parked.push(what);
                } else {
                    own_keys.insert(key);
                    plan.add(what);
                    plan.new.push((id, ordinal + 1));
                    plan.anew.extend((is_pending && !request.no_ack).then_some(id));
                }
            }
            plan.cursor = Some((id, ordinal + 1));
        }
    }

    /// Whether a pending entry that the cursor comes to once more is handed out like a new one.
    fn is_delivered_anew(&self, id: EntryId, no_ack: bool) -> bool {
        let by_hand = self.settings.ack_wait_ms == 0 && self.settings.dispatch != Dispatch::KeyOrdered;
        let is_held = |entry: PendingEntry| entry.consumer != ConsumerNumber::NOBODY || entry.is_released();
        by_hand && (no_ack || self.pending.get(id).is_some_and(is_held))
    }

    /// Which pending entries these ranges mean, for this owner.
    pub fn plan_settle(&self, ranges: &[IdRange], owner: Owner) -> SettlePlan {
        let mut plan = SettlePlan::default();
        let mut sorted: Vec<IdRange> = ranges.to_vec();
        sorted.sort_by_key(|r| (r.first, r.last));
        let mut done: Option<EntryId> = None;
        for mut range in sorted {
            let single = range.first == range.last;
            // What an earlier range covered is not looked at twice.
            if let Some(done) = done {
                if range.last <= done {
                    continue;
                }
                range.first = range.first.max(done.next().unwrap_or(EntryId::MAX));
            }
            done = Some(range.last);
            self.plan_settle_range(&mut plan, range, owner, single);
        }
        plan
    }

    fn plan_settle_range(&self, plan: &mut SettlePlan, range: IdRange, owner: Owner, single: bool) {
        let mut found = false;
        for (id, entry) in self.pending.range(range) {
            found = true;
            if !owner.holds(&entry) {
                plan.not_owned.push(id);
                continue;
            }
            match plan.ranges.last_mut().filter(|last| self.nothing_between(last.last, id)) {
                Some(last) => last.last = id,
                None => plan.ranges.push(IdRange::one(id)),
            }
            plan.ids.push(id);
        }
        if !found && single {
            plan.not_pending.push(range.first);
        }
    }

    fn nothing_between(&self, low: EntryId, high: EntryId) -> bool {
        match (low.next(), high.prev()) {
            (Some(first), Some(last)) if first <= last => self.pending.range(IdRange { first, last }).next().is_none(),
            _ => true,
        }
    }

    /// When entries that failed now may be delivered again: by the given delay, or by the group's back-off.
    pub fn plan_retry(&self, ids: &[EntryId], delay_ms: Option<u64>, now_ms: u64) -> Vec<(EntryId, u64)> {
        let due = |id: &EntryId| {
            let failures = self.pending.get(*id).map_or(0, |e| e.failures) + 1;
            now_ms.saturating_add(delay_ms.unwrap_or_else(|| self.settings.backoff_after(failures)))
        };
        ids.iter().map(|id| (*id, due(id))).collect()
    }

    /// Entries that a delivery (a lost session) holds.
    pub fn held_by_delivery(&self, delivery: DeliveryNumber) -> Vec<EntryId> {
        self.held_where(|e| e.delivery == delivery)
    }

    /// Entries that a consumer holds.
    pub fn held_by_consumer(&self, consumer: ConsumerNumber) -> Vec<EntryId> {
        self.held_where(|e| e.consumer == consumer)
    }

    fn held_where(&self, matches: impl Fn(&PendingEntry) -> bool) -> Vec<EntryId> {
        let held = self.pending.range(IdRange::ALL).filter(|(_, e)| e.consumer != ConsumerNumber::NOBODY && matches(e));
        held.map(|(id, _)| id).collect()
    }

    /// Held entries among the planned ones, as runs: what a lease can be extended of.
    pub fn extendable(&self, ids: &[EntryId]) -> Result<Vec<IdRun>> {
        if self.settings.ack_wait_ms == 0 {
            return Err(Error::new(
                Reason::InvalidArgument,
                "the group's entries are claimed by hand: there is no lease to extend",
            ));
        }
        let held = |id: &&EntryId| self.pending.get(**id).is_some_and(|e| e.consumer != ConsumerNumber::NOBODY);
        Ok(runs(ids.iter().filter(held).copied()))
    }
}
