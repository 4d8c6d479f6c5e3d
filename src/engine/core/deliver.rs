//! Delivery: who waits, who is served, what is prepared ahead.
//!
//! Askers wait in order of arrival. Whatever may make something deliverable (a block became visible, an entry was
//! settled or given back, a time came) calls [`Core::dispatch`], which serves them until nobody can be served.

use std::sync::Arc;

use parking_lot::Mutex;

use super::settle::give_back_cost;
use super::ungrant::{forget_taken, overdue_ms};
use super::{Admit, Core, GroupSlot};
use crate::clock::Now;
use crate::engine::api::Before;
use crate::engine::command::{Deliver, DeliverAnswer, Grant, Grants, Place, PreparedCandidates, Receiver};
use crate::engine::reply::Reply;
use crate::error::{Error, Reason, Result};
use crate::format::record::{CursorMoved, Delivered, IdRun, ReturnedAs, Settled, SettledAs, runs};
use crate::group::{Deliverable, DeliveryPlan, DeliveryRequest, GrantUndo};
use crate::limits;
use crate::types::{ConsumerNumber, DeliveryNumber, Dispatch, EntryId, GroupNumber, IdRange};

/// Somebody who waits for entries of a group, perhaps of others too.
pub(crate) struct Waiter {
    pub(crate) consumer: ConsumerNumber,
    pub(crate) session: Option<DeliveryNumber>,
    request: DeliveryRequest,
    deadline_ms: u64,
    pub(crate) asker: Arc<Asker>,
    /// Which of the asker's places this is.
    place: usize,
    /// Whether it is of the transaction that runs.
    pub(crate) together: bool,
}

/// Who asked, for entries of one group or several: one answer.
pub(crate) struct Asker {
    reply: Mutex<Option<Reply<DeliverAnswer>>>,
    /// The groups, by place.
    pub(crate) groups: Vec<GroupNumber>,
}

impl Waiter {
    /// Whether what it gets counts as acknowledged at once.
    pub(super) fn is_no_ack(&self) -> bool {
        self.request.no_ack
    }
}

impl Asker {
    /// Answers, unless that was done before.
    pub(crate) fn answer(&self, answer: Result<DeliverAnswer>) {
        if let Some(reply) = self.take_reply() {
            reply.send(answer);
        }
    }

    /// What is to be answered, for it to be done later; nobody else answers.
    pub(crate) fn take_reply(&self) -> Option<Reply<DeliverAnswer>> {
        self.reply.lock().take()
    }

    /// Whether it was answered, or nobody waits for that any more.
    pub(crate) fn is_done(&self) -> bool {
        self.reply.lock().as_ref().is_none_or(Reply::is_abandoned)
    }
}

/// What can be done for one who waits.
enum Chance {
    /// Nobody has looked ahead: the asker is to do that.
    Prepare(DeliverAnswer),
    Plan(DeliveryPlan),
}

/// A standby of a single-active group takes over after this long without a sign of life, at least.
const TAKEOVER_MS_MIN: u64 = 5_000;
/// The share of a commit for a delivered entry, which may come with one that is gone: half of it goes to them.
const DELIVERED_COST: u64 = 4 * HANDED_COST;
/// The share for a parked one: two fifths of the commit go to them.
const PARKED_COST: u64 = HANDED_COST * 5 / 2;
/// What an entry that is handed over takes in a commit at most.
const HANDED_COST: u64 = 64;
/// Bytes of entries that an answer from several groups holds at most, about.
const GRANTED_BYTES_MAX: usize = 64 << 20;
/// Expired leases handled in one go.
const EXPIRED_PER_STEP: usize = 1000;

impl Core {
    pub(super) fn deliver(&mut self, deliver: Deliver, now: Now) {
        let receivers = deliver.places.iter().map(|place| self.receiver(place, &deliver.who, now));
        let receivers = match receivers.collect::<Result<Vec<_>>>() {
            Ok(receivers) => receivers,
            Err(error) => return self.refuse(deliver.reply, error),
        };
        if let Some((place, prepared)) = deliver.prepared
            && let Some((number, ..)) = receivers.get(place)
        {
            take_prepared(self.slot_mut(*number), prepared);
        }
        let groups = receivers.iter().map(|(number, ..)| *number).collect();
        let asker = Arc::new(Asker { reply: Mutex::new(Some(deliver.reply)), groups });
        let together = self.together.is_some();
        let mut waiters = Vec::with_capacity(receivers.len());
        for (place, (number, consumer, session)) in receivers.into_iter().enumerate() {
            let claim_idle_ms = deliver.places[place].claim_idle_ms;
            if claim_idle_ms.is_some() {
                self.slot_mut(number).group.pending.order_by_age();
            }
            let request = DeliveryRequest { claim_idle_ms, ..deliver.request };
            let deadline_ms = now.engine_ms.saturating_add(deliver.wait_ms);
            let asker = Arc::clone(&asker);
            waiters.push((number, Waiter { consumer, session, request, deadline_ms, asker, place, together }));
        }
        if together {
            return self.serve_first(&asker, waiters, now);
        }
        for (number, waiter) in waiters {
            self.slot_mut(number).waiters.push_back(waiter);
        }
        // Each is looked at before the wait ends in any.
        for number in asker.groups.iter().filter(|_| asker.groups.len() > 1) {
            while !asker.is_done() && self.serve_next(*number, now) {}
        }
        for number in &asker.groups {
            self.dispatch(*number, now);
        }
    }

    fn receiver(
        &mut self,
        place: &Place,
        who: &Receiver,
        now: Now,
    ) -> Result<(GroupNumber, ConsumerNumber, Option<DeliveryNumber>)> {
        self.check_open()?;
        let number = self.group_number(&place.key)?;
        if self.slot(number).waiters.len() >= limits::WAITERS_PER_GROUP_MAX {
            return Err(Error::overloaded("the group's list of waiting consumers"));
        }
        match who {
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
        let mut over = Vec::new();
        slot.waiters.retain(|waiter| {
            let is_over = waiter.deadline_ms <= now.engine_ms;
            if is_over {
                over.push((Arc::clone(&waiter.asker), waiter.request.no_ack));
            }
            !is_over && !waiter.asker.is_done()
        });
        forget_taken(slot);
        for (asker, no_ack) in over {
            asker.answer(self.nothing(&asker, no_ack));
        }
        let Some(slot) = self.groups.get(&number) else { return };
        let stream = &self.streams[&slot.group.stream].stream;
        let due = next_due(slot, now, &|id| stream.exists(id));
        self.set_timer(number, due);
    }

    /// What is said to one for whom there was nothing: where a group holds back what it has since it has as many pending
    /// entries as it may, that.
    pub(super) fn nothing(&self, asker: &Asker, no_ack: bool) -> Result<DeliverAnswer> {
        let full = asker.groups.iter().filter_map(|number| self.groups.get(number)).find(|slot| {
            let stream = &self.streams[&slot.group.stream].stream;
            slot.group.is_at_bound() && stream.entries_after(slot.group.cursor, slot.group.cursor_ordinal) > 0
        });
        let Some(slot) = full.filter(|_| !no_ack) else { return Ok(DeliverAnswer::Nothing) };
        self.count(|c| &c.held_back, 1);
        let (name, max) = (&slot.group.name, slot.group.settings.pending_max);
        let message = format!(
            "group {name} has {} pending entries, as many as its setting pending_max allows: acknowledge some, or raise it",
            slot.group.pending.len()
        );
        Err(Error::new(Reason::LimitReached, message).with("max", max).with("setting", "pending_max"))
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
        let plan = match self.chance(number, at, now) {
            Chance::Plan(plan) if plan.is_empty() => return false,
            Chance::Plan(plan) => plan,
            Chance::Prepare(answer) => {
                self.answer_waiter(number, at, Ok(answer));
                return true;
            }
        };
        let asker = Arc::clone(&self.slot(number).waiters[at].asker);
        // Whoever asks several groups looks ahead in all of them before it gets anything.
        if let Some(answer) = self.unprepared(&asker, now) {
            self.answer_waiter(number, at, Ok(answer));
            return true;
        }
        if let Err(error) = self.admit_plan(&plan) {
            self.answer_waiter(number, at, Err(error));
            return true;
        }
        let Some(first) = self.apply_plan(number, at, plan, now) else { return true };
        let mut granted = vec![first];
        if asker.groups.len() > 1 {
            self.grant_beside(&asker, &mut granted, now);
        }
        self.grant(&asker, granted);
        true
    }

    fn answer_waiter(&mut self, number: GroupNumber, at: usize, answer: Result<DeliverAnswer>) {
        if let Some(waiter) = self.slot_mut(number).waiters.remove(at) {
            waiter.asker.answer(answer);
        }
    }

    /// What one who waits would get now.
    fn chance(&mut self, number: GroupNumber, at: usize, now: Now) -> Chance {
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
            let (place, after, stream) = (slot.waiters[at].place, slot.window.head(), slot.group.stream);
            let view = self.readable(stream);
            return Chance::Prepare(DeliverAnswer::Prepare { place, view, after, with_keys });
        }
        Chance::Plan(plan)
    }

    /// What an asker of several groups is to prepare.
    fn unprepared(&mut self, asker: &Arc<Asker>, now: Now) -> Option<DeliverAnswer> {
        if asker.groups.len() == 1 {
            return None;
        }
        asker.groups.iter().enumerate().find_map(|(place, number)| {
            let at = self.place_of(*number, asker, place)?;
            match self.chance(*number, at, now) {
                Chance::Prepare(answer) => Some(answer),
                Chance::Plan(_) => None,
            }
        })
    }

    fn place_of(&self, number: GroupNumber, asker: &Arc<Asker>, place: usize) -> Option<usize> {
        let slot = self.groups.get(&number)?;
        slot.waiters.iter().position(|waiter| waiter.place == place && Arc::ptr_eq(&waiter.asker, asker))
    }

    /// Whoever asked several groups is answered with what there is in the others, too.
    fn grant_beside(&mut self, asker: &Arc<Asker>, granted: &mut Vec<(usize, Grants)>, now: Now) {
        let mut bytes = 0;
        for (place, number) in asker.groups.iter().enumerate() {
            while let Some(at) = self.place_of(*number, asker, place) {
                let waiter = &self.slot(*number).waiters[at];
                let is_active = self.slot(*number).active == Some(waiter.consumer);
                if bytes > GRANTED_BYTES_MAX
                    || (self.slot(*number).group.settings.dispatch == Dispatch::SingleActive && !is_active)
                {
                    break;
                }
                let Chance::Plan(plan) = self.chance(*number, at, now) else { break };
                if plan.is_empty() || self.admit_plan(&plan).is_err() {
                    break;
                }
                bytes += plan.entries.iter().map(|what| what.size as usize).sum::<usize>();
                granted.extend(self.apply_plan(*number, at, plan, now));
            }
        }
        granted.sort_by_key(|(place, _)| *place);
    }

    fn admit_plan(&mut self, plan: &DeliveryPlan) -> Result<()> {
        let handed = plan.entries.len() + plan.parked.len() + plan.gone.len() + plan.anew.len();
        self.admit(4096 + HANDED_COST * handed as u64, Admit::Delivering)
    }

    /// Who takes over what others hold is not to look at what is gone again and again.
    fn forget_age_of_gone(&mut self, number: GroupNumber, at: usize) {
        let Some(slot) = self.groups.get_mut(&number) else { return };
        if slot.waiters[at].request.claim_idle_ms.is_some() {
            let stream = &self.streams[&slot.group.stream].stream;
            slot.group.pending.forget_age_of_gone(&|id| stream.exists(id));
        }
    }

    /// Applies what was admitted; answers what the waiter gets, by its place, where that is anything.
    fn apply_plan(&mut self, number: GroupNumber, at: usize, plan: DeliveryPlan, now: Now) -> Option<(usize, Grants)> {
        if !plan.gone.is_empty() {
            self.settle_gone(number, &plan.gone);
        }
        self.slot_mut(number).window.take(plan.taken);
        if plan.cursor.is_some() {
            self.step_over_trimmed(number);
        }
        let undo = self.undo_of(number, at, &plan, now);
        if plan.cursor.is_some() {
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
            return None;
        }
        let waiter = self.slot_mut(number).waiters.remove(at)?;
        let lease_ms = self.slot(number).group.settings.ack_wait_ms;
        let DeliveryRequest { no_ack, claim_idle_ms, .. } = waiter.request;
        let tells_before = claim_idle_ms.is_some();
        let to = Handover { consumer: waiter.consumer, delivery: undo.delivery, lease_ms, no_ack, tells_before };
        let cursor = (cursor, cursor_ordinal);
        let known = if no_ack { plan.known } else { 0 };
        let (known, rest) = plan.entries.split_at(known);
        let mut grants = match known.is_empty() {
            true => self.hand_over(number, rest, to, cursor, now),
            false => self.hand_over(number, known, Handover { no_ack: false, ..to }, cursor, now),
        };
        if !known.is_empty() && !rest.is_empty() {
            let rest = self.hand_over(number, rest, to, cursor, now);
            grants.entries.extend(rest.entries.iter().copied());
        }
        grants.way = Some(self.way(number, undo));
        Some((waiter.place, grants))
    }

    /// What undoes a plan that is about to be applied; the delivery has a number from here on.
    fn undo_of(&mut self, number: GroupNumber, at: usize, plan: &DeliveryPlan, now: Now) -> GrantUndo {
        let waiter = &self.slot(number).waiters[at];
        let (consumer, session, no_ack) = (waiter.consumer, waiter.session, waiter.request.no_ack);
        let delivery = match session {
            Some(session) => session,
            None if plan.entries.is_empty() => DeliveryNumber(0),
            None => self.take_delivery_number(),
        };
        self.slot(number).group.undo_of(plan, no_ack, (consumer, delivery), now.engine_ms)
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
        Grants { view, group: number, delivery: to.delivery, entries: granted, lease_ms: to.lease_ms, way: None }
    }

    /// Answers with grants: at once, unless the rules or settings of a group changed in a commit that is not durable yet.
    fn grant(&mut self, asker: &Asker, grants: Vec<(usize, Grants)>) {
        let dirty = grants.iter().map(|(_, grants)| self.slot(grants.group).dirty).max().unwrap_or_default();
        if let Some(reply) = asker.take_reply() {
            self.answer_observed(reply, Ok(DeliverAnswer::Granted(grants)), dirty);
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
        self.take_back_overdue(number, now);
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
        let (first, away) = (self.first_delivery, self.away);
        let pending = &slot.group.pending;
        // Whoever held these could do nothing about it: this side was away.
        let is_excused = |id: &EntryId| {
            let entry = pending.get(*id);
            entry
                .is_some_and(|e| e.delivery < first || away.is_some_and(|(from, to)| from < e.due_ms && e.due_ms <= to))
        };
        let (excused, failed): (Vec<EntryId>, Vec<EntryId>) = expired.iter().partition(|id| is_excused(id));
        let failed = slot.group.plan_retry(&failed, None, now.engine_ms);
        let excused: Vec<(EntryId, u64)> = excused.into_iter().map(|id| (id, now.engine_ms)).collect();
        let cost = give_back_cost(failed.len()) + give_back_cost(excused.len());
        if self.admit(cost, Admit::Shrinking).is_err() {
            // No room to write that they ended: they end a little later.
            return self.slot_mut(number).group.pending.look_again(&expired, now.engine_ms + 1000);
        }
        self.apply_give_back(number, excused, ReturnedAs::HandedBack, now);
        self.apply_give_back(number, failed, ReturnedAs::Failed, now);
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
    slot.waiters.retain(|w| !w.asker.is_done());
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
    let overdue = overdue_ms(slot);
    [lease, wait, ready, slot.retry_ms, takeover, idle, overdue]
        .into_iter()
        .flatten()
        .filter(|at| *at != u64::MAX)
        .min()
}
