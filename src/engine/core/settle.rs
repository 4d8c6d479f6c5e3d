//! Settling: acknowledge (and publish what came of it), negatively acknowledge, extend, give back.

use super::publish::PublishPlan;
use super::streams::ADMIN_COST;
use super::{Admit, Core};
use crate::clock::Now;
use crate::engine::api::{Holder, NackAction, Published, Settled};
use crate::engine::command::{GroupKey, PreparedPublish};
use crate::engine::reply::Reply;
use crate::error::{Error, Reason, Result};
use crate::faults::Fault;
use crate::format::record::{self, Extended, Returned, ReturnedAs, SettledAs};
use crate::group::{Owner, SettlePlan};
use crate::types::{ConsumerNumber, Dispatch, EntryId, GroupNumber, IdRange};

impl Core {
    pub(super) fn acknowledge(
        &mut self,
        key: &GroupKey,
        ids: &[IdRange],
        holder: &Holder,
        publish: Vec<PreparedPublish>,
        reply: Reply<Settled>,
        now: Now,
    ) {
        let result = self.try_acknowledge(key, ids, holder, publish, now);
        self.answer_or_refuse(reply, result);
    }

    fn try_acknowledge(
        &mut self,
        key: &GroupKey,
        ids: &[IdRange],
        holder: &Holder,
        publish: Vec<PreparedPublish>,
        now: Now,
    ) -> Result<Settled> {
        self.check_open()?;
        let (number, plan) = self.plan_settle(key, ids, holder, now)?;
        if !publish.is_empty() {
            check_all_held(&plan)?;
        }
        let mut cost = settle_cost(plan.ranges.len());
        let plans = self.plan_publishes(&publish, now, &mut cost)?;
        self.admit(cost, if publish.is_empty() { Admit::Shrinking } else { Admit::Growing })?;
        let published = self.apply_publishes(publish, plans, now);
        let done = plan.ids.len() as u64;
        self.settle(number, plan.ranges, SettledAs::Acknowledged);
        self.count(|c| &c.acknowledged, done);
        self.dispatch(number, now);
        Ok(Settled { done, not_pending: plan.not_pending, not_owned: plan.not_owned, published })
    }

    fn plan_publishes(&self, publish: &[PreparedPublish], now: Now, cost: &mut u64) -> Result<Vec<PublishPlan>> {
        let mut plans = Vec::with_capacity(publish.len());
        for (n, request) in publish.iter().enumerate() {
            if publish[..n].iter().any(|p| p.request.stream == request.request.stream) {
                return Err(Error::invalid("publish", "one request a stream: put all its events into it"));
            }
            let plan = self.plan_publish(request, now)?;
            if let PublishPlan::Append(append) = &plan {
                *cost += append.cost;
            }
            plans.push(plan);
        }
        Ok(plans)
    }

    fn apply_publishes(&mut self, publish: Vec<PreparedPublish>, plans: Vec<PublishPlan>, now: Now) -> Vec<Published> {
        let mut published = Vec::with_capacity(publish.len());
        let mut created = 0;
        for (request, plan) in publish.into_iter().zip(plans) {
            published.push(match plan {
                PublishPlan::Duplicate(published) => {
                    self.count_once_duplicate(&request);
                    published
                }
                PublishPlan::Append(mut plan) => {
                    // Each was planned as if it were the only one to make a stream.
                    created += u64::from(plan.shift_new_stream(created));
                    self.apply_publish(plan, request, now)
                }
            });
        }
        published
    }

    fn plan_settle(
        &mut self,
        key: &GroupKey,
        ids: &[IdRange],
        holder: &Holder,
        now: Now,
    ) -> Result<(GroupNumber, SettlePlan)> {
        let number = self.group_number(key)?;
        let group = &mut self.slot_mut(number).group;
        let owner = match holder {
            Holder::Anyone => Owner::Anyone,
            Holder::Delivery(delivery) => Owner::Delivery(*delivery),
            Holder::Consumer(name) => {
                let consumer = group.consumer_number(name).unwrap_or(ConsumerNumber::NOBODY);
                group.touch(consumer, now.engine_ms);
                Owner::Consumer(consumer)
            }
        };
        Ok((number, group.plan_settle(ids, owner)))
    }

    /// Takes entries out of a group's pending ones. Room was admitted.
    pub(super) fn settle(&mut self, number: GroupNumber, ranges: Vec<IdRange>, how: SettledAs) {
        if ranges.is_empty() {
            return;
        }
        let slot = self.slot_mut(number);
        let record = record::Settled { stream: slot.group.stream, group: number, ranges, how };
        slot.group.apply_settled(&record);
        if !self.shared.options.faults.has(Fault::ForgetAcknowledgements) {
            self.record(record, None);
        }
        self.mark_if_ordered(number);
    }

    /// Where one entry's end lets another go out, the other waits until the end is durable.
    pub(super) fn mark_if_ordered(&mut self, number: GroupNumber) {
        if self.slot(number).group.settings.dispatch != Dispatch::Shared {
            self.mark_group(number);
        }
    }

    /// Gives entries back to their group and moves on those that are exhausted by it.
    pub(super) fn give_back(
        &mut self,
        number: GroupNumber,
        entries: Vec<(EntryId, u64)>,
        how: ReturnedAs,
        now: Now,
    ) -> Result<()> {
        self.admit(give_back_cost(entries.len()), Admit::Shrinking)?;
        self.apply_give_back(number, entries, how, now);
        Ok(())
    }

    /// The same. Room was admitted.
    pub(super) fn apply_give_back(
        &mut self,
        number: GroupNumber,
        entries: Vec<(EntryId, u64)>,
        how: ReturnedAs,
        now: Now,
    ) {
        if entries.is_empty() {
            return;
        }
        let slot = self.slot_mut(number);
        let record = Returned { stream: slot.group.stream, group: number, entries, how };
        slot.group.apply_returned(&record);
        self.record(record, None);
        self.mark_if_ordered(number);
        self.fetch_dead_letters(number, now);
    }

    pub(super) fn nack(
        &mut self,
        key: &GroupKey,
        ids: &[IdRange],
        holder: &Holder,
        action: NackAction,
        reply: Reply<Settled>,
        now: Now,
    ) {
        let buries = matches!(action, NackAction::DeadLetter { .. });
        match self.try_nack(key, ids, holder, action, now) {
            // Whoever gives an entry up finds it among the dead letters once that is answered.
            Ok((number, settled)) if buries && settled.done > 0 && self.together.is_none() => {
                self.slot_mut(number).letter_replies.push(Box::new(move || reply.send(Ok(settled))));
            }
            Ok((_, settled)) => self.answer(reply, Ok(settled)),
            Err(error) => self.refuse(reply, error),
        }
    }

    fn try_nack(
        &mut self,
        key: &GroupKey,
        ids: &[IdRange],
        holder: &Holder,
        action: NackAction,
        now: Now,
    ) -> Result<(GroupNumber, Settled)> {
        self.check_open()?;
        let (number, plan) = self.plan_settle(key, ids, holder, now)?;
        let now_each = || plan.ids.iter().map(|id| (*id, now.engine_ms)).collect();
        match action {
            NackAction::Skip => {
                self.admit(settle_cost(plan.ranges.len()), Admit::Shrinking)?;
                self.settle(number, plan.ranges, SettledAs::Acknowledged);
            }
            NackAction::HandBack => self.give_back(number, now_each(), ReturnedAs::HandedBack, now)?,
            NackAction::DeadLetter { reason } => {
                self.give_back(number, now_each(), ReturnedAs::GivenUp(reason), now)?
            }
            NackAction::Retry { delay } => {
                let delay_ms = delay.map(|d| d.as_millis() as u64);
                let entries = self.slot(number).group.plan_retry(&plan.ids, delay_ms, now.engine_ms);
                self.give_back(number, entries, ReturnedAs::Failed, now)?;
            }
        }
        self.dispatch(number, now);
        let done = plan.ids.len() as u64;
        Ok((number, Settled { done, not_pending: plan.not_pending, not_owned: plan.not_owned, published: Vec::new() }))
    }

    pub(super) fn extend(
        &mut self,
        key: &GroupKey,
        ids: &[IdRange],
        holder: &Holder,
        lease_ms: Option<u64>,
        reply: Reply<Settled>,
        now: Now,
    ) {
        let result = self.try_extend(key, ids, holder, lease_ms, now);
        self.answer_or_refuse(reply, result);
    }

    fn try_extend(
        &mut self,
        key: &GroupKey,
        ids: &[IdRange],
        holder: &Holder,
        lease_ms: Option<u64>,
        now: Now,
    ) -> Result<Settled> {
        self.check_open()?;
        let (number, plan) = self.plan_settle(key, ids, holder, now)?;
        let group = &self.slot(number).group;
        let entries = group.extendable(&plan.ids)?;
        let done = entries.iter().map(|r| u64::from(r.count)).sum();
        let deadline_ms = now.engine_ms + lease_ms.unwrap_or(group.settings.ack_wait_ms).max(1);
        let stream = group.stream;
        self.admit(settle_cost(entries.len()), Admit::Shrinking)?;
        if !entries.is_empty() {
            let record = Extended { stream, group: number, entries, deadline_ms };
            self.slot_mut(number).group.apply_extended(&record);
            self.record(record, None);
            self.dispatch(number, now);
        }
        Ok(Settled { done, not_pending: plan.not_pending, not_owned: plan.not_owned, published: Vec::new() })
    }
}

fn check_all_held(plan: &SettlePlan) -> Result<()> {
    let missing = plan.not_pending.iter().chain(&plan.not_owned).next();
    match missing {
        None if plan.ids.is_empty() => Err(Error::new(Reason::NotHeld, "no entry of the acknowledgement is held")),
        None => Ok(()),
        Some(id) => {
            Err(Error::new(Reason::NotHeld, format!("entry {id} is not held: nothing was acknowledged or published"))
                .with("id", id))
        }
    }
}

/// What entries that are given back take in a commit, without a reason.
pub(super) fn give_back_cost(entries: usize) -> u64 {
    if entries == 0 { 0 } else { ADMIN_COST + 24 * entries as u64 }
}

fn settle_cost(ranges: usize) -> u64 {
    1024 + 32 * ranges as u64
}
