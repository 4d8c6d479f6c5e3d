//! The index of the log: checkpoints of the state beside the entries, so that a start need not replay everything.
//!
//! The log is the truth. What an index holds is used only where it is whole, of this store, and fits the log; anything
//! else is left aside and made anew. Its failures are told and end nothing.

use crate::error::Result;
use crate::format::segment::StoreId;
use crate::format::state::{Row, RowKey};
use crate::types::LogPosition;

/// The place in the log that a checkpoint belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumeAt {
    /// Where the first frame begins whose effects the checkpoint lacks.
    pub position: LogPosition,
    /// Where that frame ends. It was synced before the checkpoint was made.
    pub end: LogPosition,
    /// Digest of that frame's head, by which another history is told.
    pub digest: u32,
}

/// The state at a position of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose.
    pub store: StoreId,
    /// When, in the log.
    pub at: ResumeAt,
    /// Version of the format in which the rows are.
    pub version: u16,
    /// The rows in the order of their keys.
    pub rows: Vec<(RowKey, Vec<u8>)>,
}

impl Checkpoint {
    /// The rows, read; `CORRUPT` for one that this program does not know.
    pub fn rows(&self) -> impl Iterator<Item = (RowKey, Result<Row>)> {
        self.rows.iter().map(|(key, content)| (*key, Row::decode(key.kind, self.version, content)))
    }
}

/// Keeps the last checkpoint.
pub trait StateIndex: Send {
    /// The last checkpoint; `None` where there is none that is whole. What is not is put aside.
    fn load(&mut self) -> Result<Option<Checkpoint>>;
    /// Replaces the last checkpoint, all or nothing, durably.
    fn save(&mut self, checkpoint: &Checkpoint) -> Result<()>;
    /// Forgets what [`StateIndex::load`] gave: it does not fit the log.
    fn put_aside(&mut self) -> Result<()>;
}

/// An index in memory, for tests: clones share what they hold.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Default)]
pub struct MemoryIndex(std::sync::Arc<parking_lot::Mutex<Option<Checkpoint>>>);

#[cfg(any(test, feature = "testing"))]
impl MemoryIndex {
    /// What it holds.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.0.lock().clone()
    }
    /// Makes it hold something else, as a copy put back would.
    pub fn replace(&self, checkpoint: Option<Checkpoint>) {
        *self.0.lock() = checkpoint;
    }
}

#[cfg(any(test, feature = "testing"))]
impl StateIndex for MemoryIndex {
    fn load(&mut self) -> Result<Option<Checkpoint>> {
        Ok(self.checkpoint())
    }
    fn save(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.replace(Some(checkpoint.clone()));
        Ok(())
    }
    fn put_aside(&mut self) -> Result<()> {
        self.replace(None);
        Ok(())
    }
}
