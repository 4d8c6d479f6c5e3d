//! The keeper: writes captured states into the index and into snapshots, beside everything else. Its failures end
//! nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam::channel::Receiver;

use super::commit::CapturedState;
use super::log_step::Captured;
use super::shared::Shared;
use crate::format::segment::{FORMAT_VERSION, StoreId};
use crate::storage::{Checkpoint, Snapshots, StateIndex};

/// Owns the index.
pub(crate) struct Keeper {
    pub(crate) index: Box<dyn StateIndex>,
    pub(crate) snapshots: Snapshots,
    pub(crate) store: StoreId,
    pub(crate) shared: Arc<Shared>,
    pub(crate) captured: Receiver<Captured>,
}

impl Keeper {
    /// Writes what comes, until the log's end is closed.
    pub(crate) fn run(mut self) {
        while let Ok(captured) = self.captured.recv() {
            self.save(captured);
        }
    }

    /// Writes what waits now; says whether there was anything.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn step(&mut self) -> bool {
        let captured = self.captured.try_recv();
        captured.map(|captured| self.save(captured)).is_ok()
    }

    fn save(&mut self, Captured { at, state }: Captured) {
        let CapturedState { state, snapshot } = state;
        let checkpoint = Checkpoint { store: self.store, at, version: FORMAT_VERSION, rows: state.into_rows().0 };
        let kept = !snapshot || self.save_snapshot(&checkpoint);
        let indexed = self.index.save(&checkpoint);
        if let Err(error) = &indexed
            && self.shared.index_trouble().is_none()
        {
            tracing::warn!(%error, "a checkpoint could not be written; starts take longer until one can be");
        }
        self.shared.set_index_trouble(indexed.err());
        // An index that fails, or lags behind, is one that a start does without: it holds nothing back.
        if snapshot && kept {
            self.shared.counters.kept_to.store(at.position.0, Ordering::Release);
        }
        self.shared.set_indexing(false);
    }

    fn save_snapshot(&self, checkpoint: &Checkpoint) -> bool {
        match self.snapshots.write(checkpoint) {
            Ok(bytes) => self.shared.counters.snapshot_bytes.store(bytes, Ordering::Relaxed),
            Err(error) => {
                tracing::warn!(%error, "a snapshot could not be written; files that were given up stay for now");
                return false;
            }
        }
        true
    }
}
