//! The whole state as rows, and back: what a checkpoint of the index holds.
//!
//! The state is frozen between two commits, so that it is that at a position of the log: all before it is in it, nothing
//! after it. The core only copies what is small or shares what is not; whoever writes the rows works them out.

use std::sync::Arc;

use super::{Core, StreamSlot};
use crate::clock::EngineClock;
use crate::engine::commit::CapturedState;
use crate::engine::view::StreamView;
use crate::error::{Error, Reason, Result};
use crate::faults::{Fault, Faults};
use crate::format::state::{NumbersRow, Row, StateRows};
use crate::group::{FrozenGroup, Group};
use crate::storage::{Checkpoint, FileSet};
use crate::stream::Stream;
use crate::types::{GroupNumber, StreamNumber};

/// The whole state as it was between two commits.
pub(crate) struct FrozenState {
    faults: Faults,
    numbers: NumbersRow,
    streams: Vec<Stream>,
    groups: Vec<FrozenGroup>,
    files: FileSet,
    clock: Option<EngineClock>,
}

impl FrozenState {
    /// The state as rows, in the order of their keys.
    pub(crate) fn into_rows(self) -> StateRows {
        let mut out = StateRows::default();
        out.push(0, &Row::Numbers(self.numbers));
        let mut rows = |owner, row| {
            if !is_lost(self.faults, &row) {
                out.push(owner, &row);
            }
        };
        self.streams.into_iter().for_each(|stream| stream.rows(&mut rows));
        self.groups.into_iter().for_each(|group| group.rows(&mut rows));
        self.files.rows(&mut rows);
        if let Some(clock) = self.clock {
            rows(0, Row::Clock(clock));
        }
        out.sort();
        out
    }
}

/// Whether a planted fault takes this row out of every checkpoint.
fn is_lost(faults: Faults, row: &Row) -> bool {
    match row {
        Row::Pending(_) => faults.has(Fault::LosePending),
        Row::Producers(_) | Row::EventIds(_) | Row::OnceNames(_) | Row::NamedRequests(_) => {
            faults.has(Fault::ForgetDuplicates)
        }
        Row::Deleted(_) => faults.has(Fault::ForgetDeletes),
        _ => false,
    }
}

impl Core {
    /// Captures the state once enough was written since the last time, unless the index is still busy with that one.
    pub(super) fn capture_where_due(&mut self) {
        let due = self.since_capture >= self.shared.options.checkpoint_bytes;
        if due && self.captured.is_none() && !self.shared.is_indexing() {
            self.capture(false);
        }
    }

    /// Captures the state after all commits that are closed, to go with the next one, in the place of one that waits for
    /// that. The commit being filled must be empty.
    pub(super) fn capture(&mut self, snapshot: bool) {
        debug_assert!(self.commit.records() == 0, "taken between two commits");
        self.captured = Some(CapturedState { state: self.freeze(), snapshot });
        self.since_capture = 0;
    }

    /// The state as it is.
    pub(crate) fn freeze(&self) -> FrozenState {
        let (stream, group, delivery) = (self.next_stream, self.next_group, self.next_delivery);
        FrozenState {
            faults: self.shared.options.faults,
            numbers: NumbersRow { stream, group, delivery, file: self.next_file },
            streams: self.streams.values().map(|slot| slot.stream.clone()).collect(),
            groups: self.groups.values().map(|slot| slot.group.freeze()).collect(),
            files: self.files.clone(),
            clock: self.engine_clock,
        }
    }

    /// Takes a state that was kept; the core must be new.
    pub(crate) fn restore(&mut self, state: &Checkpoint) -> Result<()> {
        for (key, row) in state.rows() {
            let row = row?;
            let taken = match row {
                Row::Numbers(numbers) => {
                    self.next_stream = self.next_stream.max(numbers.stream);
                    self.next_group = self.next_group.max(numbers.group);
                    self.next_delivery = self.next_delivery.max(numbers.delivery);
                    self.next_file = self.next_file.max(numbers.file);
                    true
                }
                Row::Stream(row) => {
                    let mut stream = Stream::restore(row);
                    if self.shared.options.faults.has(Fault::ReuseIds) {
                        stream.last = stream.trimmed_before;
                    }
                    let view = StreamView::new(stream.name.clone(), stream.number);
                    self.shared.catalogue.insert(Arc::clone(&view));
                    self.add_stream(stream, view);
                    true
                }
                Row::Group(row) if self.streams.contains_key(&row.stream) => {
                    self.add_group(Group::restore(row));
                    true
                }
                Row::Deleted(_)
                | Row::Producers(_)
                | Row::EventIds(_)
                | Row::Added(_)
                | Row::OnceSettings(_)
                | Row::OnceNames(_)
                | Row::NamedRequests(_) => {
                    let slot = self.streams.get_mut(&StreamNumber(key.owner));
                    slot.is_some_and(|slot| slot.stream.restore_list(row))
                }
                Row::Expiry(at) => self.apply_expiry(StreamNumber(key.owner), Some(at)),
                Row::Consumers(_) | Row::Pending(_) | Row::Reads(_) => {
                    let slot = self.groups.get_mut(&GroupNumber(key.owner));
                    slot.is_some_and(|slot| slot.group.restore_list(row))
                }
                Row::Gone(_) | Row::Rewritten(_) => self.files.restore(row),
                Row::Clock(clock) => {
                    self.engine_clock = Some(clock);
                    true
                }
                Row::Group(_) => false,
            };
            if !taken {
                return Err(Error::new(Reason::Corrupt, format!("row {key:?} belongs to nothing")));
            }
        }
        self.streams.values().for_each(StreamSlot::show_restored);
        Ok(())
    }
}

impl StreamSlot {
    /// Shows readers what was restored; the blocks themselves come from the log's files.
    fn show_restored(&self) {
        let stream = &self.stream;
        self.view.restore(stream.last, stream.appended, stream.trimmed_before, stream.removals, stream.deleted.clone());
    }
}
