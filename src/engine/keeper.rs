//! The keeper: writes captured states into the index, beside everything else. Its failures end nothing.

use std::sync::Arc;

use crossbeam::channel::Receiver;

use super::log_step::Captured;
use super::shared::Shared;
use crate::format::segment::StoreId;
use crate::storage::{Checkpoint, StateIndex};

/// Owns the index.
pub(crate) struct Keeper {
    pub(crate) index: Box<dyn StateIndex>,
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
        let checkpoint = Checkpoint { store: self.store, at, rows: state.into_rows().0 };
        if let Err(error) = self.index.save(&checkpoint) {
            tracing::warn!(%error, "a checkpoint could not be written; the next start takes longer");
        }
        self.shared.set_indexing(false);
    }
}
