//! Transactions in the core: one commit that stays open, answers at once, and what others are given put off to its end.
//!
//! Invariant **T1**: while a transaction runs no commit is closed, nobody else is decided about or served, and nothing of
//! it leaves.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::deliver::{Asker, Waiter};
use super::streams::ADMIN_COST;
use super::{Admit, Core, StreamSlot};
use crate::clock::Now;
use crate::engine::command::Command;
use crate::engine::reply::Reply;
use crate::engine::transaction::TransactionRoom;
use crate::engine::view::StreamView;
use crate::error::Result;
use crate::faults::Fault;
use crate::types::{EntryId, GroupNumber, StreamName, StreamNumber};

/// What a commit keeps free for what a transaction writes beyond what it asked for: a part of so many.
const UNASKED_PART: u64 = 4;

/// What is asked for of a commit beyond what it takes then, by its last commands: bounds are from above.
const SPARE_BYTES: u64 = 2 * ADMIN_COST + 4096;

/// What tells whether a stream changed: entries ever appended, removals, trim point.
type Seen = (u64, u64, EntryId);

/// A transaction that runs.
#[derive(Default)]
pub(super) struct Together {
    /// What it sees of streams, and when that was so.
    views: HashMap<StreamNumber, (Seen, Arc<StreamView>)>,
    /// Groups in which somebody else may be served afterwards.
    postponed: BTreeSet<GroupNumber>,
}

impl Core {
    /// Begins a transaction: until it ends no commit is closed, and answers leave at once.
    pub(crate) fn begin_together(&mut self, room: TransactionRoom) -> Result<()> {
        self.check_open()?;
        let (bytes, largest) = (room.bytes as u64 + SPARE_BYTES, self.frame_cost_max());
        self.begin_commit_for(bytes.saturating_add(largest / UNASKED_PART));
        self.admit(bytes, if room.grows { Admit::Growing } else { Admit::Shrinking })?;
        self.together = Some(Together::default());
        self.commit.keep_together();
        Ok(())
    }

    /// Decides about a command of the transaction that runs.
    pub(crate) fn handle_together(&mut self, command: Command) {
        self.handle(command, self.now);
        if self.shared.options.faults.has(Fault::SplitTransactions) && self.commit.records() > 0 {
            self.close_commit(self.now, false);
        }
    }

    /// Ends the transaction that runs; others are served again.
    pub(crate) fn end_together(&mut self) {
        let Some(together) = self.together.take() else { return };
        let now = self.now;
        for number in together.postponed {
            let Some(slot) = self.groups.get_mut(&number) else { continue };
            // What nobody else may see yet is offered again once it is durable.
            let visible = self.streams.get(&slot.group.stream).map_or(EntryId::ZERO, |stream| stream.visible);
            slot.window.step_back(visible.max(slot.group.cursor));
            self.mark_group(number);
            self.dispatch(number, now);
        }
    }

    /// Answers when everything that was decided so far is durable.
    pub(crate) fn answer_last<T: Send + 'static>(&mut self, reply: Reply<T>, result: Result<T>) {
        let observed = self.last_effect();
        self.answer_observed(reply, result, observed);
    }

    /// What a commit has room for, at most: in a transaction, what is left of it.
    pub(super) fn cost_max(&self) -> u64 {
        let taken = if self.together.is_some() { self.commit.cost() } else { 0 };
        self.frame_cost_max().saturating_sub(taken)
    }

    /// What the transaction that runs sees of a stream.
    pub(crate) fn view_together(&mut self, name: &StreamName) -> Option<Arc<StreamView>> {
        let number = self.names.get(name).copied()?;
        Some(self.readable(number))
    }

    /// Has the transaction that runs look at a stream anew.
    pub(super) fn forget_view_together(&mut self, number: StreamNumber) {
        self.together.as_mut().and_then(|together| together.views.remove(&number));
    }

    /// What whoever asks now may see of a stream: what is durable, and in a transaction everything.
    pub(super) fn readable(&mut self, number: StreamNumber) -> Arc<StreamView> {
        let slot = &self.streams[&number];
        let seen = (slot.stream.appended, slot.stream.removals, slot.stream.trimmed_before);
        let Some(together) = self.together.as_ref().filter(|_| slot.dirty > self.durable) else {
            return Arc::clone(&slot.view);
        };
        if let Some((_, view)) = together.views.get(&number).filter(|(of, _)| *of == seen) {
            return Arc::clone(view);
        }
        let view = self.look_ahead(slot);
        if let Some(together) = &mut self.together {
            together.views.insert(number, (seen, Arc::clone(&view)));
        }
        view
    }

    /// A view of a stream as the core knows it.
    fn look_ahead(&self, slot: &StreamSlot) -> Arc<StreamView> {
        let of_stream = |block: &&super::CommitBlock| block.view.number == slot.stream.number;
        let in_flight = self.in_flight.iter().flat_map(|(_, blocks)| blocks).filter(of_stream);
        let blocks = in_flight.map(|block| (block.meta, block.content.clone()));
        let blocks = blocks.chain(self.commit.blocks_of(slot.stream.number)).collect();
        StreamView::ahead(&slot.view, &slot.stream, blocks)
    }

    /// The last entry that whoever asks now may see.
    pub(super) fn last_readable(&self, slot: &StreamSlot) -> EntryId {
        if self.together.is_some() { slot.stream.last } else { slot.visible }
    }

    /// Puts off serving others; whether a transaction runs.
    pub(super) fn postpones(&mut self, number: GroupNumber) -> bool {
        let Some(together) = &mut self.together else { return false };
        together.postponed.insert(number);
        true
    }

    /// Serves an asker of the transaction that runs, before those who wait, or tells it that there is nothing.
    pub(super) fn serve_first(&mut self, asker: &Asker, waiters: Vec<(GroupNumber, Waiter)>, now: Now) {
        let no_ack = waiters.iter().all(|(_, waiter)| waiter.is_no_ack());
        for (number, waiter) in waiters.into_iter().rev() {
            self.postpones(number);
            self.take_back_all(number, now);
            self.slot_mut(number).waiters.push_front(waiter);
        }
        for number in &asker.groups {
            while !asker.is_done() && self.is_first_next(*number, now) && self.serve(*number, 0, now) {}
        }
        for number in &asker.groups {
            self.slot_mut(*number).waiters.retain(|waiter| !waiter.together);
        }
        asker.answer(self.nothing(asker, no_ack));
    }

    fn is_first_next(&mut self, number: GroupNumber, now: Now) -> bool {
        let slot = self.slot_mut(number);
        slot.waiters.front().is_some_and(|waiter| waiter.together) && super::deliver::next_waiter(slot, now) == Some(0)
    }
}
