//! Entries beyond a group's cursor that are ready to be delivered: prepared from stored blocks, bounded, volatile.
//!
//! The window always continues where the cursor stands; `head` says how far it has looked.

use std::collections::VecDeque;

use crate::limits::CANDIDATES_MAX;
use crate::types::EntryId;

/// An entry that may be delivered for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: EntryId,
    /// Entries ever appended before it.
    pub ordinal: u64,
    /// Its size in bytes.
    pub size: u32,
    /// Hash of its key; zero for none, or where keys do not matter.
    pub key: u64,
}

/// The candidates of one group, in id order.
#[derive(Clone, Debug)]
pub struct Window {
    candidates: VecDeque<Candidate>,
    head: EntryId,
}

impl Window {
    /// An empty window that goes on from a cursor.
    pub fn at(cursor: EntryId) -> Self {
        Self { candidates: VecDeque::new(), head: cursor }
    }
    /// Up to which id the stream was looked at.
    pub fn head(&self) -> EntryId {
        self.head
    }
    /// The candidates in order.
    pub fn iter(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter()
    }
    /// Whether nothing is prepared.
    pub fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }
    /// Whether it takes no more.
    pub fn is_full(&self) -> bool {
        self.candidates.len() >= CANDIDATES_MAX
    }
    /// Adds the next candidate; refused where the window is full.
    pub fn push(&mut self, candidate: Candidate) -> bool {
        debug_assert!(candidate.id > self.head, "candidates come in order");
        if self.is_full() {
            return false;
        }
        self.head = candidate.id;
        self.candidates.push_back(candidate);
        true
    }
    /// Notes that up to this id there are no more candidates than those pushed.
    pub fn looked_to(&mut self, id: EntryId) {
        self.head = self.head.max(id);
    }
    /// Goes on from a cursor that was moved forward: candidates up to it would move it back.
    pub fn step_to(&mut self, cursor: EntryId) {
        let passed = self.candidates.partition_point(|c| c.id <= cursor);
        self.take(passed);
        self.looked_to(cursor);
    }
    /// Goes back to an id: what lies above it is looked at again.
    pub fn step_back(&mut self, to: EntryId) {
        self.candidates.truncate(self.candidates.partition_point(|c| c.id <= to));
        self.head = self.head.min(to);
    }
    /// Takes the first candidates back, which were taken and come before all others.
    pub fn give_back(&mut self, candidates: &[Candidate]) {
        debug_assert!(candidates.last().is_none_or(|last| self.candidates.front().is_none_or(|c| c.id > last.id)));
        candidates.iter().rev().for_each(|candidate| self.candidates.push_front(*candidate));
        self.looked_to(candidates.last().map_or(self.head, |last| last.id));
    }
    /// Drops the first so many candidates: they were delivered, parked, or found gone.
    pub fn take(&mut self, count: usize) {
        self.candidates.drain(..count);
    }
}
