//! Room: what is certain to fit in files that are already allocated, and the files kept ready ahead.
//!
//! The core plans with upper bounds: a [`RoomPlanner`] places each frame's cost where the log would place it (in the
//! rest of the live segment, or at the start of the next one, losing that rest). The log places the same frames in the
//! same order with costs that are no greater, so it never gets further than the plan: what the plan admits fits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::files::{Files, LogFile, failed, is_short_of_descriptors};
use crate::error::{Reason, Result};
use crate::format::block::BLOCK_META_BYTES;
use crate::format::frame::{FRAME_ALIGN, FRAME_HEAD_BYTES, RECORD_HEAD_BYTES};
use crate::format::index::block_growth_max;
use crate::limits::FRAME_BYTES_MAX;

/// What a frame uses at most, beside its records.
pub const FRAME_COST_BASE: u64 = (FRAME_HEAD_BYTES + FRAME_ALIGN) as u64;

/// What a control record of so many bytes adds to its frame's cost.
pub const fn record_cost(content_bytes: usize) -> u64 {
    (RECORD_HEAD_BYTES + content_bytes) as u64
}

/// What a block of entries adds to its frame's cost, its place in the index included. `content_bytes` is
/// `BlockBuilder::content_bytes`, `types` is `BlockBuilder::type_count`.
pub const fn block_cost(content_bytes: usize, types: usize) -> u64 {
    (RECORD_HEAD_BYTES + BLOCK_META_BYTES + content_bytes + block_growth_max(types)) as u64
}

/// Whether something fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It is certain to fit.
    Yes,
    /// Not in what is allocated now; the next file is on its way.
    Soon,
    /// The disk is full; publishes are refused until there is room.
    Full,
}

/// What an allocator's step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocatorStep {
    /// Enough files are ready.
    Idle,
    /// One more file is ready.
    Allocated,
    /// The disk is full; try again later.
    Full,
}

/// A file that is ready to become the live segment.
pub(super) struct Spare {
    pub(super) name: String,
    pub(super) file: Arc<dyn LogFile>,
}

struct State {
    /// Frames appended since the log was opened.
    appended: u64,
    /// Bytes left in the live segment, its index and footer taken off.
    rest: u64,
    /// Spares that no appended frame has used.
    spare_count: u32,
    spares: VecDeque<Spare>,
    next_name: u64,
    full: bool,
}

/// What the log, its allocator and the planners share.
pub(super) struct Room {
    state: Mutex<State>,
    changed: Condvar,
    capacity: u64,
    segment_bytes: u64,
}

impl Room {
    pub(super) fn new(segment_bytes: u64, capacity: u64, next_name: u64) -> Arc<Self> {
        let spares = VecDeque::new();
        let state = State { appended: 0, rest: 0, spare_count: 0, spares, next_name, full: false };
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new(), capacity, segment_bytes })
    }

    /// The log's report after a frame: what is left, and how many spares the frame used.
    pub(super) fn appended(&self, frames: u64, rest: u64, spares_used: u32) {
        let mut state = self.state.lock();
        state.appended += frames;
        state.rest = rest;
        state.spare_count = state.spare_count.saturating_sub(spares_used);
        if spares_used > 0 {
            self.changed.notify_all();
        }
    }

    /// Takes a spare; planners go on counting it until [`Room::appended`] says that it is used.
    pub(super) fn take_spare(&self) -> Option<Spare> {
        self.state.lock().spares.pop_front()
    }

    pub(super) fn add_spare(&self, spare: Spare) {
        let mut state = self.state.lock();
        state.spares.push_back(spare);
        state.spare_count += 1;
        state.full = false;
        self.changed.notify_all();
    }

    /// A name for a spare that no other has.
    pub(super) fn spare_name(&self) -> String {
        let mut state = self.state.lock();
        state.next_name += 1;
        spare_name(state.next_name - 1)
    }

    /// Notes that there is no room; whether that was known.
    fn set_full(&self) -> bool {
        let known = std::mem::replace(&mut self.state.lock().full, true);
        self.changed.notify_all();
        known
    }
}

/// The name of a spare file.
pub(super) fn spare_name(number: u64) -> String {
    format!("spare-{number:020}")
}

/// The number of a spare file of that name.
pub(super) fn parse_spare_name(name: &str) -> Option<u64> {
    name.strip_prefix("spare-").filter(|digits| digits.len() == 20)?.parse().ok()
}

/// Keeps one file allocated ahead of the log, on a thread of its own.
pub struct LogAllocator {
    files: Arc<dyn Files>,
    room: Arc<Room>,
}

impl LogAllocator {
    pub(super) fn new(files: Arc<dyn Files>, room: Arc<Room>) -> Self {
        Self { files, room }
    }

    /// Allocates a file where one is missing. A full disk is an answer, any other failure is `STORAGE_FAILED`.
    pub fn step(&mut self) -> Result<AllocatorStep> {
        if self.room.state.lock().spare_count > 0 {
            return Ok(AllocatorStep::Idle);
        }
        let name = self.room.spare_name();
        match self.files.create(&name, self.room.segment_bytes) {
            Ok(file) => {
                self.room.add_spare(Spare { name, file });
                Ok(AllocatorStep::Allocated)
            }
            Err(error) => {
                // No descriptor for a file is no room for it, until there is one again.
                let passes = is_short_of_descriptors(&error);
                let error = failed("allocating", &name, &error);
                if error.reason() != Reason::StorageFull && !passes {
                    return Err(error);
                }
                if !self.room.set_full() {
                    tracing::warn!(%error, "no room for the log; publishes are refused until there is");
                }
                Ok(AllocatorStep::Full)
            }
        }
    }

    /// Waits until a file is missing, or for this long; after a full disk always for this long.
    pub fn wait(&self, timeout: Duration) {
        let mut state = self.room.state.lock();
        if state.full || state.spare_count > 0 {
            self.room.changed.wait_for(&mut state, timeout);
        }
    }
}

/// Plans what the core may admit; owned by the core thread.
pub struct RoomPlanner {
    room: Arc<Room>,
    /// Frames taken since the log was opened.
    taken: u64,
    /// Costs of those that the log has not appended yet.
    in_flight: VecDeque<u64>,
    place: Option<Place>,
    full: bool,
}

/// Where the next frame goes: what is left of the live segment, and how many whole ones follow.
#[derive(Clone, Copy)]
struct Place {
    rest: u64,
    spares: u32,
}

impl Place {
    fn after(self, cost: u64, capacity: u64) -> Option<Self> {
        if cost <= self.rest {
            return Some(Self { rest: self.rest - cost, ..self });
        }
        let spares = self.spares.checked_sub(1)?;
        Some(Self { rest: capacity.checked_sub(cost)?, spares })
    }
}

impl RoomPlanner {
    pub(super) fn new(room: Arc<Room>) -> Self {
        let taken = room.state.lock().appended;
        let mut planner = Self { room, taken, in_flight: VecDeque::new(), place: None, full: false };
        planner.refresh();
        planner
    }

    /// Takes in what the log and the allocator did meanwhile; once a round.
    pub fn refresh(&mut self) {
        let state = self.room.state.lock();
        let waiting = self.taken.saturating_sub(state.appended) as usize;
        while self.in_flight.len() > waiting {
            self.in_flight.pop_front();
        }
        let start = Place { rest: state.rest, spares: state.spare_count };
        self.full = state.full;
        drop(state);
        let capacity = self.room.capacity;
        self.place = self.in_flight.iter().try_fold(start, |place, cost| place.after(*cost, capacity));
    }

    /// Whether a frame of this cost fits, with room left for `keep` more bytes in small frames.
    pub fn fits(&self, cost: u64, keep: u64) -> Fit {
        let capacity = self.room.capacity;
        let left = self.place.and_then(|place| place.after(cost, capacity));
        match left.and_then(|place| if keep == 0 { Some(place) } else { place.after(keep, capacity) }) {
            Some(_) => Fit::Yes,
            None if self.full => Fit::Full,
            None => Fit::Soon,
        }
    }

    /// Whether what is allocated could not take, after a frame that is being filled (of this cost; zero for none), one
    /// more of the greatest cost with the reserve left, but soon will. Never so when nothing is being filled or in
    /// flight and a spare stands ready: waiting would then be for nothing.
    pub fn is_short(&self, filling: u64, reserve: u64) -> bool {
        let capacity = self.room.capacity;
        let costs = [filling, self.frame_cost_max(reserve), self.keep(reserve)];
        let left = self.place.and_then(|place| {
            costs.iter().filter(|cost| **cost > 0).try_fold(place, |place, cost| place.after(*cost, capacity))
        });
        left.is_none() && !self.full
    }

    /// Hands a frame of this cost, which fits, to the log. Frames are appended in the order in which they are taken.
    pub fn take(&mut self, cost: u64) {
        self.place = self.place.and_then(|place| place.after(cost, self.room.capacity));
        self.in_flight.push_back(cost);
        self.taken += 1;
    }

    /// The greatest cost that one frame may have: a fresh segment holds it and, after it, what is kept back of
    /// `reserve`.
    pub fn frame_cost_max(&self, reserve: u64) -> u64 {
        (self.room.capacity - self.keep(reserve)).min(FRAME_BYTES_MAX as u64)
    }

    /// What a whole segment takes.
    pub fn segment_cost(&self) -> u64 {
        self.room.capacity
    }

    /// The part of `reserve` that segments of this size can hold back: at most a quarter of one.
    pub fn keep(&self, reserve: u64) -> u64 {
        reserve.min(self.room.capacity / 4)
    }

    /// Bytes that are certain to fit in small frames.
    pub fn free_bytes(&self) -> u64 {
        self.place.map_or(0, |place| place.rest + u64::from(place.spares) * self.room.capacity)
    }

    /// Waits until the allocator has something new to say, or for this long; then [`RoomPlanner::refresh`].
    pub fn wait(&self, timeout: Duration) {
        let mut state = self.room.state.lock();
        if state.spare_count == 0 && !state.full {
            self.room.changed.wait_for(&mut state, timeout);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_log_with_a_spare_is_never_short_of_room() {
        for capacity in [60 << 10, 1 << 20, 64 << 20] {
            let room = Room::new(capacity + 4096, capacity, 0);
            for rest in (0..4096).chain([capacity / 4, capacity / 2, capacity]) {
                *room.state.lock() =
                    State { appended: 0, rest, spare_count: 1, spares: VecDeque::new(), next_name: 0, full: false };
                let planner = RoomPlanner::new(Arc::clone(&room));
                assert!(!planner.is_short(0, crate::limits::RESERVE_BYTES), "{capacity} {rest}");
            }
        }
    }

    #[test]
    fn short_of_room_until_a_spare_comes() {
        let (capacity, reserve) = (1 << 20, crate::limits::RESERVE_BYTES);
        let room = Room::new(capacity + 4096, capacity, 0);
        room.appended(0, capacity / 2, 0);
        let mut planner = RoomPlanner::new(Arc::clone(&room));
        assert!(planner.is_short(0, reserve));
        room.state.lock().spare_count = 1;
        planner.refresh();
        assert!(!planner.is_short(0, reserve) && !planner.is_short(capacity / 4, reserve));
        // Once the rest is used up by what is being filled, the spare is spoken for.
        assert!(planner.is_short(capacity / 2 + 1, reserve));
        room.state.lock().full = true;
        planner.refresh();
        assert!(!planner.is_short(capacity / 2 + 1, reserve), "waiting would not help");
    }
}
