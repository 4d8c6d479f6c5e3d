//! Grants that nobody takes: what a grant changes is kept until it is taken, and undone where it is not.

use std::collections::BTreeSet;

use super::{Candidate, DeliveryPlan, Group, PendingEntry};
use crate::format::record::{PendingBefore, Ungranted, runs};
use crate::types::{ConsumerNumber, DeliveryNumber, EntryId};

/// What a grant is about to change, for it to be undone.
#[derive(Clone, Debug, Default)]
pub struct GrantUndo {
    /// To whom it goes.
    pub consumer: ConsumerNumber,
    /// The pull or session that gets it.
    pub delivery: DeliveryNumber,
    /// Engine time of the grant, in milliseconds.
    pub at_ms: u64,
    /// The new entries among what is granted, in order; they are candidates again.
    pub new: Vec<Candidate>,
    /// Whether these are all candidates that the plan uses up.
    pub is_whole: bool,
    /// Where the cursor moves from and to, where the plan moves it.
    cursor: Option<((EntryId, u64), EntryId)>,
    reads_offset: Option<i64>,
    active_ms: Option<u64>,
    no_ack: bool,
    parked: Vec<EntryId>,
    before: Vec<PendingBefore>,
}

impl GrantUndo {
    /// Whether the grant has a place in the order of first deliveries.
    pub fn is_ordered(&self) -> bool {
        self.cursor.is_some()
    }

    /// The entries that are granted.
    pub fn ids(&self) -> impl Iterator<Item = EntryId> {
        self.new.iter().map(|candidate| candidate.id).chain(self.before.iter().map(|before| before.id))
    }

    /// How many entries it concerns.
    pub fn entries(&self) -> usize {
        self.new.len() + self.parked.len() + self.before.len()
    }
}

impl Group {
    /// What undoes a plan that is about to be applied.
    pub fn undo_of(
        &self,
        plan: &DeliveryPlan,
        no_ack: bool,
        (consumer, delivery): (ConsumerNumber, DeliveryNumber),
        at_ms: u64,
    ) -> GrantUndo {
        let (known, new) = plan.entries.split_at(plan.known);
        let candidate = |(what, (_, ordinal)): (&super::Deliverable, &(EntryId, u64))| Candidate {
            id: what.id,
            ordinal: ordinal - 1,
            size: what.size,
            key: what.key,
        };
        let pending = known.iter().map(|what| what.id).chain(plan.anew.iter().copied());
        GrantUndo {
            consumer,
            delivery,
            at_ms,
            new: new.iter().zip(&plan.new).map(candidate).collect(),
            is_whole: plan.taken == new.len(),
            cursor: plan.cursor.map(|(to, _)| ((self.cursor, self.cursor_ordinal), to)),
            reads_offset: self.reads_offset,
            active_ms: self.consumer(consumer).and_then(|consumer| consumer.active_ms),
            no_ack,
            parked: plan.parked.iter().map(|what| what.id).collect(),
            before: pending.filter_map(|id| self.before(id)).collect(),
        }
    }

    fn before(&self, id: EntryId) -> Option<PendingBefore> {
        let PendingEntry { consumer, deliveries, failures, size, delivery, delivered_ms, due_ms } =
            self.pending.get(id)?;
        let key = self.pending.key_of(id);
        Some(PendingBefore { id, consumer, deliveries, failures, size, delivery, delivered_ms, due_ms, key })
    }

    /// The effect that makes the group what it was before a grant; `None` where others have changed since what it
    /// changed, or the cursor.
    pub fn plan_ungrant(&self, undo: &GrantUndo) -> Option<Ungranted> {
        let is_granted = |id: EntryId| {
            let found = self.pending.get(id);
            found.is_some_and(|entry| entry.consumer == undo.consumer && entry.delivery == undo.delivery)
        };
        let is_parked = |id: &EntryId| {
            let found = self.pending.get(*id);
            found.is_some_and(|entry| entry.consumer == ConsumerNumber::NOBODY && entry.deliveries == 0)
        };
        let stands = undo.cursor.is_none_or(|(_, to)| self.cursor == to);
        let new = || undo.new.iter().map(|candidate| candidate.id);
        let is_known = undo.before.iter().all(|before| is_granted(before.id));
        if !stands || !is_known || !undo.parked.iter().all(is_parked) || !(undo.no_ack || new().all(is_granted)) {
            return None;
        }
        let restored: BTreeSet<EntryId> = undo.before.iter().map(|before| before.id).collect();
        let forgotten = new().filter(|_| !undo.no_ack).chain(undo.parked.iter().copied());
        let active_ms = self.consumer(undo.consumer).and_then(|consumer| consumer.active_ms);
        let (cursor, cursor_ordinal) = undo.cursor.map_or((self.cursor, self.cursor_ordinal), |(from, _)| from);
        Some(Ungranted {
            stream: self.stream,
            group: self.number,
            consumer: undo.consumer,
            active_ms: if active_ms == Some(undo.at_ms) { undo.active_ms } else { active_ms },
            cursor,
            cursor_ordinal,
            reads_offset: if undo.cursor.is_some() { undo.reads_offset } else { self.reads_offset },
            acknowledged: if undo.no_ack { undo.new.len() as u64 } else { 0 },
            forgotten: runs(forgotten.filter(|id| !restored.contains(id))),
            restored: undo.before.clone(),
        })
    }

    /// Makes the group what it was before a grant.
    pub fn apply_ungranted(&mut self, ungranted: &Ungranted) {
        self.cursor = ungranted.cursor;
        self.cursor_ordinal = ungranted.cursor_ordinal;
        self.reads_offset = ungranted.reads_offset;
        self.acknowledged = self.acknowledged.saturating_sub(ungranted.acknowledged);
        if let Some(consumer) = self.consumers.get_mut(&ungranted.consumer) {
            consumer.active_ms = ungranted.active_ms;
        }
        for id in ungranted.forgotten.iter().flat_map(|run| run.ids()) {
            if let Some(entry) = self.pending.remove(id) {
                self.count_pending(entry.consumer, -1);
            }
        }
        for before in &ungranted.restored {
            if let Some(holder) = self.pending.put_back(before) {
                self.count_pending(holder, -1);
            }
            self.count_pending(before.consumer, 1);
        }
    }
}
