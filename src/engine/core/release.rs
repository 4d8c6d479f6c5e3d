//! Releasing: entries are taken from whoever holds them, and others may take them over.

use super::streams::ADMIN_COST;
use super::{Admit, Core};
use crate::clock::Now;
use crate::engine::api::Release;
use crate::engine::command::{GroupKey, PreparedRelease};
use crate::engine::reply::Reply;
use crate::error::Result;
use crate::format::record::Released;
use crate::group::Deliverable;
use crate::types::{DeliveryNumber, Dispatch};

/// What a released entry takes in a commit.
const RELEASED_COST: u64 = 40;

impl Core {
    pub(super) fn release(&mut self, prepared: &PreparedRelease, reply: Reply<u64>, now: Now) {
        let result = self.try_release(prepared, now);
        self.answer_or_refuse(reply, result);
    }

    fn try_release(&mut self, prepared: &PreparedRelease, now: Now) -> Result<u64> {
        self.check_open()?;
        let Release { stream, group, ids, how, .. } = &prepared.request;
        let number = self.group_number(&GroupKey { stream: stream.clone(), group: group.clone() })?;
        let group = &self.slot(number).group;
        let stream = &self.streams[&group.stream].stream;
        let keyed = group.settings.dispatch == Dispatch::KeyOrdered;
        let existing = prepared.forced.iter().filter(|what| stream.exists(what.id));
        let existing = existing.map(|what| Deliverable { key: if keyed { what.key } else { 0 }, ..*what });
        let entries = group.plan_release(ids, *how, &existing.collect::<Vec<Deliverable>>());
        let count = entries.len() as u64;
        if count == 0 {
            return Ok(0);
        }
        // Where nothing comes again by itself, it is for whoever takes it over.
        let due_ms = if group.settings.ack_wait_ms == 0 { u64::MAX } else { now.engine_ms };
        self.admit(ADMIN_COST + RELEASED_COST * count, Admit::Shrinking)?;
        let delivery = DeliveryNumber(self.next_delivery);
        self.next_delivery += count;
        let slot = self.slot_mut(number);
        let record = Released { stream: slot.group.stream, group: number, delivery, due_ms, entries };
        slot.group.apply_released(&record);
        self.record(record, None);
        self.mark_if_ordered(number);
        self.dispatch(number, now);
        Ok(count)
    }
}
