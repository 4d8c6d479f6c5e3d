//! Grants that nobody took: undone, in the order of first deliveries from the last one back.
//!
//! What a group granted and does not know to be taken stands in the order in which it was granted. Where one of these
//! goes back, those behind it go back as well, and their askers ask again: entries come to whoever asks next in the
//! place that they had. Where others have changed since what a grant changed, its entries are handed back instead.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Admit, Core, GroupSlot};
use crate::clock::Now;
use crate::engine::command::Way;
use crate::engine::ticket::{Back, Ticket};
use crate::error::Result;
use crate::format::record::ReturnedAs;
use crate::group::{GrantUndo, Window};
use crate::types::{ConsumerNumber, EntryId, GroupNumber};

/// What a grant takes in a commit that is undone, and each of its entries.
const UNGRANT_COST: u64 = 1024;
const UNGRANTED_COST: u64 = 96;

/// After so many milliseconds a grant that was not taken, and behind which others wait, is taken back.
const TAKE_MS_MAX: u64 = 1000;

/// A grant in the order of first deliveries.
pub(crate) struct Untaken {
    ticket: Arc<Ticket>,
    since_ms: u64,
}

/// Forgets the grants that were taken; they come before all others.
pub(super) fn forget_taken(slot: &mut GroupSlot) {
    while slot.untaken.pop_front_if(|untaken| untaken.ticket.is_taken()).is_some() {}
}

/// When the first of the grants is taken back unless it is taken before.
pub(super) fn overdue_ms(slot: &GroupSlot) -> Option<u64> {
    let first = slot.untaken.front().filter(|_| slot.untaken.len() > 1);
    first.map(|first| first.since_ms.saturating_add(TAKE_MS_MAX))
}

impl Core {
    /// How a grant comes to be its asker's, which is about to be told of it.
    pub(super) fn way(&mut self, number: GroupNumber, undo: GrantUndo) -> Way {
        let home = Arc::clone(&self.shared.homecoming);
        let slot = self.slot_mut(number);
        let (is_ordered, since_ms) = (undo.is_ordered(), undo.at_ms);
        let ticket = Ticket::open(undo);
        let mut after = None;
        if is_ordered {
            forget_taken(slot);
            after = slot.untaken.back().map(|before| Arc::clone(&before.ticket));
            slot.untaken.push_back(Untaken { ticket: Arc::clone(&ticket), since_ms });
        }
        Way { ticket, after, home }
    }

    /// Looks at what came back by itself: grants that nobody took, and sessions that ended. What finds no room to be
    /// written stays on the list.
    pub(crate) fn take_back(&mut self, now: Now) {
        if self.together.is_some() || self.stopped {
            return;
        }
        for back in self.shared.homecoming.take() {
            if self.shared.failure().is_none() && self.take_one_back(&back, now).is_err() {
                self.shared.homecoming.put(back);
            }
        }
    }

    fn take_one_back(&mut self, back: &Back, now: Now) -> Result<()> {
        match back {
            Back::Grant { group, ticket } => self.ungrant(*group, ticket, now),
            // One that ended with its consumer or its group is no more.
            Back::Session { key, session, drained } => match self.group_number(key) {
                Ok(number) if self.slot(number).sessions.contains_key(session) => {
                    self.end_session(number, *session, *drained, now).map(drop)
                }
                _ => Ok(()),
            },
        }
    }

    fn ungrant(&mut self, number: GroupNumber, ticket: &Arc<Ticket>, now: Now) -> Result<()> {
        if !self.groups.contains_key(&number) || ticket.is_undone.load(Ordering::Relaxed) {
            return Ok(());
        }
        let place = self.slot(number).untaken.iter().position(|untaken| Arc::ptr_eq(&untaken.ticket, ticket));
        match place {
            Some(place) => self.undo_from(number, place, now)?,
            // The cursor was moved on purpose since.
            None if ticket.undo.is_ordered() => {
                let held = self.still_held(number, &ticket.undo, now);
                self.give_back(number, held, ReturnedAs::HandedBack, now)?;
            }
            None => {
                self.admit(undo_cost(&ticket.undo), Admit::Shrinking)?;
                self.undo(number, ticket, now);
            }
        }
        self.dispatch(number, now);
        Ok(())
    }

    /// Takes back what a transaction must not come after: nobody else is served while it runs.
    pub(super) fn take_back_all(&mut self, number: GroupNumber, now: Now) {
        forget_taken(self.slot_mut(number));
        self.take_back_from_first(number, now);
    }

    /// Takes back what was not taken for so long that others are not to wait for it.
    pub(super) fn take_back_overdue(&mut self, number: GroupNumber, now: Now) {
        let Some(slot) = self.groups.get_mut(&number) else { return };
        forget_taken(slot);
        if overdue_ms(slot).is_none_or(|at| at > now.engine_ms) {
            return;
        }
        self.take_back_from_first(number, now);
        if let Some(first) = self.slot_mut(number).untaken.front_mut() {
            first.since_ms = now.engine_ms;
        }
    }

    /// Takes back the first grant and all behind it, unless it is taken at this moment.
    fn take_back_from_first(&mut self, number: GroupNumber, now: Now) {
        let Some(first) = self.slot(number).untaken.front() else { return };
        let ticket = Arc::clone(&first.ticket);
        ticket.give_back();
        if !ticket.is_taken() && self.undo_from(number, 0, now).is_err() {
            self.shared.homecoming.put(Back::Grant { group: number, ticket });
        }
    }

    /// Undoes a grant and all behind it, none of which was taken: the last one first.
    fn undo_from(&mut self, number: GroupNumber, place: usize, now: Now) -> Result<()> {
        while self.slot(number).untaken.len() > place {
            let Some(last) = self.slot(number).untaken.back() else { break };
            let ticket = Arc::clone(&last.ticket);
            self.admit(undo_cost(&ticket.undo), Admit::Shrinking)?;
            self.slot_mut(number).untaken.pop_back();
            self.undo(number, &ticket, now);
            ticket.give_back();
        }
        Ok(())
    }

    /// Undoes one grant. Room was admitted.
    fn undo(&mut self, number: GroupNumber, ticket: &Ticket, now: Now) {
        ticket.is_undone.store(true, Ordering::Relaxed);
        let undo = &ticket.undo;
        let slot = self.slot_mut(number);
        let Some(record) = slot.group.plan_ungrant(undo) else {
            let held = self.still_held(number, undo, now);
            return self.apply_give_back(number, held, ReturnedAs::HandedBack, now);
        };
        slot.group.apply_ungranted(&record);
        if undo.is_whole {
            slot.window.give_back(&undo.new);
        } else if undo.is_ordered() {
            slot.window = Window::at(slot.group.cursor);
        }
        self.record_lazily(record, None);
    }

    /// What a grant still holds, to be handed back now.
    fn still_held(&self, number: GroupNumber, undo: &GrantUndo, now: Now) -> Vec<(EntryId, u64)> {
        let pending = &self.slot(number).group.pending;
        let held = |id: &EntryId| {
            let found = pending.get(*id).filter(|entry| entry.consumer != ConsumerNumber::NOBODY);
            found.is_some_and(|entry| entry.delivery == undo.delivery)
        };
        undo.ids().filter(held).map(|id| (id, now.engine_ms)).collect()
    }
}

fn undo_cost(undo: &GrantUndo) -> u64 {
    UNGRANT_COST + UNGRANTED_COST * undo.entries() as u64
}
