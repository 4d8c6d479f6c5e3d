//! Claiming, and showing a consumer again what it holds: entries that are pending already change hands or are told once
//! more.

use super::streams::ADMIN_COST;
use super::{Admit, Core};
use crate::clock::Now;
use crate::engine::api::{Claim, ListPending};
use crate::engine::command::{ClaimAnswer, Grant, Grants, GroupKey, PreparedClaim, RereadAnswer};
use crate::engine::core::deliver::Handover;
use crate::engine::reply::Reply;
use crate::error::Result;
use crate::format::record::{self, SettledAs};
use crate::group::{ClaimPlan, ClaimRequest, Deliverable};
use crate::types::{ConsumerNumber, EntryId, GroupNumber, IdRange};

/// What a claimed entry takes in a commit, and one that is gone.
const CLAIMED_COST: u64 = 64;

impl Core {
    pub(super) fn claim(&mut self, prepared: &PreparedClaim, reply: Reply<ClaimAnswer>, now: Now) {
        let result = self.try_claim(prepared, now);
        self.answer_or_refuse(reply, result);
    }

    fn try_claim(&mut self, prepared: &PreparedClaim, now: Now) -> Result<ClaimAnswer> {
        self.check_open()?;
        let request = &prepared.request;
        let number = self.group_number(&GroupKey { stream: request.stream.clone(), group: request.group.clone() })?;
        let consumer = self.ensure_consumer(number, &request.consumer, now)?;
        let plan = self.plan_claim(number, prepared, now);
        let stream = self.slot(number).group.stream;
        let cursor = prepared.cursor.map(|cursor| self.place_cursor(stream, cursor)).transpose()?;
        self.admit(ADMIN_COST + CLAIMED_COST * (plan.entries.len() + plan.gone.len()) as u64, Admit::Shrinking)?;
        self.settle(number, plan.gone.iter().map(|id| IdRange::one(*id)).collect(), SettledAs::Gone);
        if let Some(cursor) = cursor {
            self.raise_cursor(number, cursor);
        }
        let next = plan.next;
        let gone = plan.gone.iter().copied().collect();
        let grants = self.apply_claim(number, consumer, request, plan, now);
        // A claim moves entries between consumers on purpose: its answer says so durably.
        self.commit.require_sync();
        self.dispatch(number, now);
        Ok(ClaimAnswer { grants, gone, next })
    }

    fn plan_claim(&self, number: GroupNumber, prepared: &PreparedClaim, now: Now) -> ClaimPlan {
        let Claim { ids, from, entries_max, idle_min, options, .. } = &prepared.request;
        let request = ClaimRequest {
            ids,
            from: *from,
            entries_max: *entries_max,
            examined_max: options.examined_max.unwrap_or(usize::MAX),
            idle_min_ms: idle_min.as_millis() as u64,
            deliveries: options.deliveries,
            keep_count: options.keep_count,
            forced: &prepared.forced,
        };
        let group = &self.slot(number).group;
        let stream = &self.streams[&group.stream].stream;
        group.plan_claim(&request, now.engine_ms, &|id| stream.exists(id))
    }

    fn apply_claim(
        &mut self,
        number: GroupNumber,
        consumer: ConsumerNumber,
        request: &Claim,
        plan: ClaimPlan,
        now: Now,
    ) -> Grants {
        let delivery = self.take_delivery_number();
        let slot = self.slot_mut(number);
        let (stream, lease_ms) = (slot.group.stream, slot.group.settings.ack_wait_ms);
        let idle_ms = request.options.idle.map_or(0, |idle| idle.as_millis() as u64);
        let claimed = record::Claimed {
            stream,
            group: number,
            consumer,
            delivery,
            at_ms: now.engine_ms,
            delivered_ms: now.engine_ms.saturating_sub(idle_ms),
            deadline_ms: if lease_ms == 0 { 0 } else { now.engine_ms + lease_ms },
            entries: plan.entries,
        };
        slot.group.apply_claimed(&claimed);
        let failures = |id| slot.group.pending.get(id).map_or(0, |entry| entry.failures);
        let entries: Vec<Grant> = claimed
            .entries
            .iter()
            .map(|e| Grant { id: e.id, deliveries: e.deliveries, failures: failures(e.id), before: None })
            .collect();
        self.count(|c| &c.delivered, entries.len() as u64);
        self.count(|c| &c.redelivered, entries.iter().filter(|grant| grant.deliveries > 1).count() as u64);
        self.record_lazily(claimed, None);
        let view = self.readable(stream);
        Grants { view, group: number, delivery, entries, lease_ms, way: None }
    }

    /// Shows a consumer again what it holds: what exists is delivered once more, what is gone is named only.
    pub(super) fn reread(&mut self, request: &ListPending, reply: Reply<RereadAnswer>, now: Now) {
        match self.try_reread(request, now) {
            // Nothing waits for it to be durable: it counts deliveries.
            Ok(answer) => {
                let observed = self.last_effect();
                self.answer_observed(reply, Ok(answer), observed);
            }
            Err(error) => self.refuse(reply, error),
        }
    }

    fn try_reread(&mut self, request: &ListPending, now: Now) -> Result<RereadAnswer> {
        self.check_open()?;
        let number = self.group_number(&GroupKey { stream: request.stream.clone(), group: request.group.clone() })?;
        let consumer = match &request.consumer {
            Some(name) => self.ensure_consumer(number, name, now)?,
            None => ConsumerNumber::NOBODY,
        };
        let group = &self.slot(number).group;
        let stream = &self.streams[&group.stream].stream;
        let held = group.pending.range(request.range).filter(|(_, entry)| entry.consumer == consumer);
        let held: Vec<Deliverable> = held
            .take(request.entries_max)
            .map(|(id, entry)| Deliverable { id, size: entry.size, key: group.pending.key_of(id) })
            .collect();
        let (found, lost): (Vec<_>, Vec<_>) = held.into_iter().partition(|what| stream.exists(what.id));
        let gone: Vec<EntryId> = lost.iter().map(|what| what.id).collect();
        let (cursor, lease_ms) = ((group.cursor, group.cursor_ordinal), group.settings.ack_wait_ms);
        self.admit(ADMIN_COST + CLAIMED_COST * found.len() as u64, Admit::Delivering)?;
        let delivery = self.take_delivery_number();
        let to = Handover { consumer, delivery, lease_ms, no_ack: false, tells_before: false };
        let grants = self.hand_over(number, &found, to, cursor, now);
        Ok(RereadAnswer { grants, gone })
    }
}
