//! Delivery: who waits, who is served, what is prepared ahead.
//!
//! Askers wait in order of arrival. Whatever may make something deliverable (a block became visible, an entry was
//! settled or given back, a time came) calls [`Core::dispatch`], which serves them until nobody can be served.

use super::{Admit, Core, GroupSlot};
use crate::clock::Now;
use crate::engine::api::Before;
use crate::engine::command::{Deliver, DeliverAnswer, Grant, Grants, PreparedCandidates, Receiver};
use crate::engine::reply::Reply;
use crate::error::{Error, Reason, Result};
use crate::format::record::{CursorMoved, Delivered, IdRun, ReturnedAs, Settled, SettledAs, runs};
use crate::group::{Deliverable, DeliveryPlan, DeliveryRequest};
use crate::limits;
use crate::types::{ConsumerNumber, DeliveryNumber, Dispatch, EntryId, GroupNumber, IdRange};

/// Somebody who waits for entries.
pub(crate) struct Waiter {
    pub(crate) consumer: ConsumerNumber,
    pub(crate) session: Option<DeliveryNumber>,
    request: DeliveryRequest,
    deadline_ms: u64,
    pub(crate) reply: Reply<DeliverAnswer>,
    /// Whether it is of the transaction that runs.
    pub(crate) together: bool,
}

/// A standby of a single-active group takes over after this long without a sign of life, at least.
const TAKEOVER_MS_MIN: u64 = 5_000;
/// The share of a commit for a delivered entry, which may come with one that is gone: half of it goes to them.
const DELIVERED_COST: u64 = 4 * HANDED_COST;
/// The share for a parked one: two fifths of the commit go to them.
const PARKED_COST: u64 = HANDED_COST * 5 / 2;
/// What an entry that is handed over takes in a commit at most.
const HANDED_COST: u64 = 64;
/// Expired leases handled in one go.
const EXPIRED_PER_STEP: usize = 1000;

impl Core {
    pub(super) fn deliver(&mut self, deliver: Deliver, now: Now) {
        let (number, consumer, session) = match self.receiver(&deliver, now) {
            Ok(found) => found,
            Err(error) => return self.refuse(deliver.reply, error),
        };
        let slot = self.slot_mut(number);
        if deliver.request.claim_idle_ms.is_some() {
            slot.group.pending.order_by_age();
        }
        if let Some(prepared) = deliver.prepared {
            take_prepared(slot, prepared);
        }
        let waiter = Waiter {
            consumer,
            session,
            request: deliver.request,
            deadline_ms: now.engine_ms.saturating_add(deliver.wait_ms),
            reply: deliver.reply,
            together: self.together.is_some(),
        };
        if self.postpones(number) {
            return self.serve_first(number, waiter, now);
        }
        self.slot_mut(number).waiters.push_back(waiter);
        self.dispatch(number, now);
    }

    fn receiver(
        &mut self,
        deliver: &Deliver,
        now: Now,
    ) -> Result<(GroupNumber, ConsumerNumber, Option<DeliveryNumber>)> {
        self.check_open()?;
        let number = self.group_number(&deliver.key)?;
        if self.slot(number).waiters.len() >= limits::WAITERS_PER_GROUP_MAX {
            return Err(Error::overloaded("the group's list of waiting consumers"));
        }
        match &deliver.who {
            Receiver::Consumer(name) => Ok((number, self.ensure_consumer(number, name, now)?, None)),
            Receiver::Session(session) => {
                let slot = self.slot_mut(number);
                let consumer = slot.sessions.get(session).copied();
                let consumer = consumer.ok_or_else(|| Error::new(Reason::SessionNotFound, "the session has ended"))?;
                slot.group.touch(consumer, now.engine_ms);
                Ok((number, consumer, Some(*session)))
            }
        }
    }

    /// Serves waiters until nobody can be served, then ends the waits that are over.
    pub(crate) fn dispatch(&mut self, number: GroupNumber, now: Now) {
        if self.postpones(number) {
            return;
        }
        while self.serve_next(number, now) {}
        let Some(slot) = self.groups.get_mut(&number) else { return };
        let mut kept = std::collections::VecDeque::with_capacity(slot.waiters.len());
        for waiter in std::mem::take(&mut slot.waiters) {
            if waiter.deadline_ms <= now.engine_ms {
                waiter.reply.send(Ok(DeliverAnswer::Nothing));
            } else {
                kept.push_back(waiter);
            }
        }
        slot.waiters = kept;
        let stream = &self.streams[&slot.group.stream].stream;
        let due = next_due(slot, now, &|id| stream.exists(id));
        self.set_timer(number, due);
    }

    /// Serves one of those who wait; `false` where there is nothing for any of them.
    fn serve_next(&mut self, number: GroupNumber, now: Now) -> bool {
        let Some(slot) = self.groups.get_mut(&number) else { return false };
        let Some(first) = next_waiter(slot, now) else { return false };
        // Who takes over what others hold may find something where who came before finds nothing.
        let others: Vec<usize> = match slot.group.settings.dispatch {
            Dispatch::SingleActive => Vec::new(),
            _ => {
                let claims = |(_, waiter): &(usize, &Waiter)| waiter.request.claim_idle_ms.is_some();
                slot.waiters.iter().enumerate().filter(claims).map(|(at, _)| at).filter(|at| *at != first).collect()
            }
        };
        self.serve(number, first, now) || others.into_iter().any(|at| self.serve(number, at, now))
    }

    /// Answers one waiter, or makes progress towards it; `false` where there is nothing for it now.
    pub(super) fn serve(&mut self, number: GroupNumber, at: usize, now: Now) -> bool {
        let cost_max = self.cost_max();
        self.forget_age_of_gone(number, at);
        let slot = &self.groups[&number];
        let stream = &self.streams[&slot.group.stream];
        let mut request = slot.waiters[at].request;
        // What is handed out at a time must fit a commit, also of the smallest segments.
        request.entries_max = request.entries_max.min((cost_max / DELIVERED_COST).max(1) as usize);
        request.parked_max = (cost_max / PARKED_COST) as usize;
        let plan = slot.group.plan_delivery(&slot.window, &request, now.engine_ms, &|id| stream.stream.exists(id));
        // Nobody has looked ahead yet, as after a restart or a seek: a batch of redelivered entries is not left short.
        // In a transaction the window lacks what is not durable.
        let is_short = self.together.is_some() && plan.entries.len() < request.entries_max && !slot.window.is_full();
        if (slot.window.is_empty() || is_short) && slot.window.head() < self.last_readable(stream) {
            let with_keys = slot.group.settings.dispatch == Dispatch::KeyOrdered;
            let (after, stream) = (slot.window.head(), slot.group.stream);
            let answer = DeliverAnswer::Prepare { view: self.readable(stream), after, with_keys };
            if let Some(waiter) = self.slot_mut(number).waiters.remove(at) {
                waiter.reply.send(Ok(answer));
            }
            return true;
        }
        if plan.is_empty() {
            return false;
        }
        let handed = plan.entries.len() + plan.parked.len() + plan.gone.len() + plan.anew.len();
        let cost = 4096 + HANDED_COST * handed as u64;
        if let Err(error) = self.admit(cost, Admit::Delivering) {
            if let Some(waiter) = self.slot_mut(number).waiters.remove(at) {
                waiter.reply.send(Err(error));
            }
            return true;
        }
        self.apply_plan(number, at, plan, now);
        true
    }

    /// Who takes over what others hold is not to look at what is gone again and again.
    fn forget_age_of_gone(&mut self, number: GroupNumber, at: usize) {
        let Some(slot) = self.groups.get_mut(&number) else { return };
        if slot.waiters[at].request.claim_idle_ms.is_some() {
            let stream = &self.streams[&slot.group.stream].stream;
            slot.group.pending.forget_age_of_gone(&|id| stream.exists(id));
        }
    }

    fn apply_plan(&mut self, number: GroupNumber, at: usize, plan: DeliveryPlan, now: Now) {
        if !plan.gone.is_empty() {
            self.settle_gone(number, &plan.gone);
        }
        self.slot_mut(number).window.take(plan.taken);
        if plan.cursor.is_some() {
            self.step_over_trimmed(number);
            self.count_reads(number, &plan.new);
        }
        if !plan.anew.is_empty() {
            self.settle_gone(number, &plan.anew);
        }
        let slot = self.slot_mut(number);
        let (cursor, cursor_ordinal) = plan.cursor.unwrap_or((slot.group.cursor, slot.group.cursor_ordinal));
        if !plan.parked.is_empty() {
            let nobody = Handover {
                consumer: ConsumerNumber::NOBODY,
                delivery: DeliveryNumber(0),
                lease_ms: 0,
                no_ack: false,
                tells_before: false,
            };
            self.hand_over(number, &plan.parked, nobody, (cursor, cursor_ordinal), now);
        }
        if plan.entries.is_empty() {
            if plan.parked.is_empty() && plan.cursor.is_some() {
                self.move_cursor(number, cursor, cursor_ordinal, 0);
            }
            return;
        }
        let Some(waiter) = self.slot_mut(number).waiters.remove(at) else { return };
        let delivery = match waiter.session {
            Some(session) => session,
            None => self.take_delivery_number(),
        };
        let lease_ms = self.slot(number).group.settings.ack_wait_ms;
        let DeliveryRequest { no_ack, claim_idle_ms, .. } = waiter.request;
        let tells_before = claim_idle_ms.is_some();
        let to = Handover { consumer: waiter.consumer, delivery, lease_ms, no_ack, tells_before };
        let cursor = (cursor, cursor_ordinal);
        let known = if no_ack { plan.known } else { 0 };
        let (known, rest) = plan.entries.split_at(known);
        if known.is_empty() {
            let grants = self.hand_over(number, rest, to, cursor, now);
            return self.grant(number, grants, waiter.reply);
        }
        let mut grants = self.hand_over(number, known, Handover { no_ack: false, ..to }, cursor, now);
        if !rest.is_empty() {
            grants.entries.extend(self.hand_over(number, rest, to, cursor, now).entries.iter().copied());
        }
        self.grant(number, grants, waiter.reply);
    }

    /// Hands entries to a consumer, in memory and in the commit.
    pub(super) fn hand_over(
        &mut self,
        number: GroupNumber,
        entries: &[Deliverable],
        to: Handover,
        cursor: (EntryId, u64),
        now: Now,
    ) -> Grants {
        let slot = self.slot_mut(number);
        let keyed = slot.group.settings.dispatch == Dispatch::KeyOrdered;
        let record = Delivered {
            stream: slot.group.stream,
            group: number,
            consumer: to.consumer,
            delivery: to.delivery,
            at_ms: now.engine_ms,
            deadline_ms: if to.lease_ms == 0 { 0 } else { now.engine_ms + to.lease_ms },
            cursor: cursor.0,
            cursor_ordinal: cursor.1,
            entries: runs(entries.iter().map(|e| e.id)),
            sizes: entries.iter().map(|e| e.size).collect(),
            keys: if keyed { entries.iter().map(|e| e.key).collect() } else { Vec::new() },
            no_ack: to.no_ack,
        };
        let before: Vec<Option<Before>> = match to.tells_before {
            true => entries.iter().map(|what| before_of(slot, what.id, now)).collect(),
            false => Vec::new(),
        };
        slot.group.apply_delivered(&record);
        let ids = record.entries.iter().copied().flat_map(IdRun::ids).enumerate();
        let before = |n: usize| before.get(n).copied().flatten();
        let granted: Vec<Grant> = ids.map(|(n, id)| grant_of(slot, id, to.no_ack, before(n))).collect();
        let stream = slot.group.stream;
        let view = self.readable(stream);
        self.record_lazily(record, None);
        if to.consumer != ConsumerNumber::NOBODY {
            self.count(|c| &c.delivered, granted.len() as u64);
            self.count(|c| &c.redelivered, granted.iter().filter(|g| g.deliveries > 1).count() as u64);
        }
        let home = (!to.no_ack).then(|| self.shared.commands.clone());
        Grants { view, group: number, delivery: to.delivery, entries: granted, lease_ms: to.lease_ms, home }
    }

    /// Answers with grants: at once, unless the group's rules or settings changed in a commit that is not durable yet.
    fn grant(&mut self, number: GroupNumber, grants: Grants, reply: Reply<DeliverAnswer>) {
        let dirty = self.slot(number).dirty;
        self.answer_observed(reply, Ok(DeliverAnswer::Granted(grants)), dirty);
    }

    /// Grants that nobody took go back, without counting a failure.
    pub(super) fn ungrant(&mut self, number: GroupNumber, delivery: DeliveryNumber, ids: &[EntryId], now: Now) {
        let Some(slot) = self.groups.get(&number) else { return };
        let held = |id: &&EntryId| {
            slot.group.pending.get(**id).is_some_and(|e| e.delivery == delivery && e.consumer != ConsumerNumber::NOBODY)
        };
        let entries: Vec<(EntryId, u64)> = ids.iter().filter(held).map(|id| (*id, now.engine_ms)).collect();
        // Where that cannot be written, the lease brings them back.
        if self.give_back(number, entries, ReturnedAs::HandedBack, now).is_ok() {
            self.dispatch(number, now);
        }
    }

    /// Steps over what was trimmed before it was delivered, and counts it. Room was admitted.
    fn step_over_trimmed(&mut self, number: GroupNumber) {
        let group = &self.groups[&number].group;
        let stream = &self.streams[&group.stream].stream;
        if group.cursor_ordinal >= stream.trimmed_ordinal {
            return;
        }
        let skipped = stream.trimmed_ordinal - group.cursor_ordinal;
        let cursor = stream.trimmed_before.prev().unwrap_or_default().max(group.cursor);
        self.move_cursor(number, cursor, stream.trimmed_ordinal, skipped);
    }

    fn move_cursor(&mut self, number: GroupNumber, cursor: EntryId, cursor_ordinal: u64, skipped: u64) {
        let slot = self.slot_mut(number);
        let record = CursorMoved { stream: slot.group.stream, group: number, cursor, cursor_ordinal, skipped };
        slot.group.apply_cursor(&record);
        self.record_lazily(record, None);
    }

    fn settle_gone(&mut self, number: GroupNumber, gone: &[EntryId]) {
        let slot = self.slot_mut(number);
        let ranges = gone.iter().map(|id| IdRange::one(*id)).collect();
        let record = Settled { stream: slot.group.stream, group: number, ranges, how: SettledAs::Gone };
        slot.group.apply_settled(&record);
        self.record_lazily(record, None);
    }

    /// What fell due in a group: leases ended, waits ended, another try to move dead letters.
    pub(super) fn group_timer(&mut self, number: GroupNumber, now: Now) {
        if self.shared.failure().is_some() {
            return;
        }
        self.now = now;
        self.end_leases(number, now);
        if self.groups.get(&number).is_some_and(|slot| slot.retry_ms.is_some_and(|at| at <= now.engine_ms)) {
            self.slot_mut(number).retry_ms = None;
            self.fetch_dead_letters(number, now);
        }
        self.dispatch(number, now);
    }

    fn end_leases(&mut self, number: GroupNumber, now: Now) {
        let Some(slot) = self.groups.get_mut(&number) else { return };
        let expired = slot.group.pending.take_expired(now.engine_ms, EXPIRED_PER_STEP);
        if expired.is_empty() {
            return;
        }
        let entries = slot.group.plan_retry(&expired, None, now.engine_ms);
        if self.give_back(number, entries, ReturnedAs::Failed, now).is_err() {
            // No room to write that they ended: they end a little later.
            self.slot_mut(number).group.pending.look_again(&expired, now.engine_ms + 1000);
        }
    }
}

/// Who gets entries, and how.
#[derive(Clone, Copy)]
pub(super) struct Handover {
    pub(super) consumer: ConsumerNumber,
    pub(super) delivery: DeliveryNumber,
    pub(super) lease_ms: u64,
    pub(super) no_ack: bool,
    /// Whether what is granted tells how it stood before.
    pub(super) tells_before: bool,
}

fn before_of(slot: &GroupSlot, id: EntryId, now: Now) -> Option<Before> {
    let entry = slot.group.pending.get(id)?;
    let idle_ms = if entry.is_released() { now.wall_ms } else { now.engine_ms.saturating_sub(entry.delivered_ms) };
    Some(Before { idle_ms, deliveries: entry.deliveries })
}

fn grant_of(slot: &GroupSlot, id: EntryId, no_ack: bool, before: Option<Before>) -> Grant {
    let pending = slot.group.pending.get(id).filter(|_| !no_ack);
    let (deliveries, failures) = pending.map_or((1, 0), |e| (e.deliveries, e.failures));
    Grant { id, deliveries, failures, before }
}

fn take_prepared(slot: &mut GroupSlot, prepared: PreparedCandidates) {
    // Another asker's preparation, or a seek, came first: this one is of no use any more.
    if slot.window.head() != prepared.after {
        return;
    }
    for candidate in prepared.candidates {
        if !slot.window.push(candidate) {
            return;
        }
    }
    slot.window.looked_to(prepared.looked_to);
}

/// Which waiter is served next. Those who gave up waiting are dropped.
pub(super) fn next_waiter(slot: &mut GroupSlot, now: Now) -> Option<usize> {
    slot.waiters.retain(|w| !w.reply.is_abandoned());
    if slot.group.settings.dispatch != Dispatch::SingleActive {
        return (!slot.waiters.is_empty()).then_some(0);
    }
    let takes_over = slot.active.is_none_or(|active| takeover_ms(slot, active) <= now.engine_ms);
    if takes_over && let Some(first) = slot.waiters.front() {
        slot.active = Some(first.consumer);
    }
    let active = slot.active?;
    slot.waiters.iter().position(|w| w.consumer == active)
}

/// When a standby may take over from the active consumer: never while it has a session or waits.
fn takeover_ms(slot: &GroupSlot, active: ConsumerNumber) -> u64 {
    let present = slot.sessions.values().any(|c| *c == active) || slot.waiters.iter().any(|w| w.consumer == active);
    match slot.group.consumer(active) {
        Some(_) if present => u64::MAX,
        Some(consumer) => consumer.seen_ms() + slot.group.settings.ack_wait_ms.max(TAKEOVER_MS_MIN),
        None => 0,
    }
}

/// When the group wants to be looked at again.
fn next_due(slot: &GroupSlot, now: Now, exists: &dyn Fn(EntryId) -> bool) -> Option<u64> {
    let lease = slot.group.pending.next_lease_end();
    let wait = slot.waiters.iter().map(|w| w.deadline_ms).min();
    let ready = slot.group.pending.next_ready().filter(|at| !slot.waiters.is_empty() && *at > now.engine_ms);
    let takeover = slot.active.filter(|_| !slot.waiters.is_empty()).map(|active| takeover_ms(slot, active));
    let takeover = takeover.filter(|at| *at > now.engine_ms && *at != u64::MAX);
    let idle_min = slot.waiters.iter().filter_map(|waiter| waiter.request.claim_idle_ms).min();
    let idle = idle_min.and_then(|idle_min| {
        let held = slot.group.pending.oldest().filter(|(_, entry)| !entry.is_released());
        let idle_from = held.map(|(id, entry)| (id, entry.delivered_ms.saturating_add(idle_min)));
        idle_from.filter(|(_, at)| *at > now.engine_ms).find(|(id, _)| exists(*id)).map(|(_, at)| at)
    });
    [lease, wait, ready, slot.retry_ms, takeover, idle].into_iter().flatten().filter(|at| *at != u64::MAX).min()
}
