//! The log on disk: files, segments, frames; the simulated disk for tests.
//!
//! [`Log`] appends commits and makes them durable; one thread owns it. [`LogAllocator`] keeps a file ready ahead of it,
//! [`RoomPlanner`] tells what is certain to fit, [`LogReader`] reads blocks back from any thread. [`Store`] is the data
//! directory around them, which [`Verifier`] checks while nobody has it open. What the bytes are is in `docs/FORMAT.md`.

mod adopt;
mod backup;
mod erased;
mod extent;
mod file_set;
mod files;
mod index;
mod log;
mod options;
mod overlay;
mod reader;
mod recover;
mod rewrite;
mod room;
mod scan;
#[cfg(any(test, feature = "testing"))]
pub mod sim;
mod sled_index;
mod snapshot;
mod store;
#[cfg(test)]
mod tests;
mod trail;
mod verify;

pub use adopt::Adopted;
pub use backup::{Backup, BackupFile, BackupFolder, BackupPlan, Covered, Moment, Receiving, Restored, Taken, Until};
pub(crate) use backup::{newest_snapshot, open_planned, plan_files};
pub(crate) use erased::{erased_ms, mark_erased, remove_cuts};
pub use extent::LogExtent;
pub use file_set::FileSet;
pub use files::{Files, LogFile, RealFiles};
#[cfg(any(test, feature = "testing"))]
pub use index::MemoryIndex;
pub use index::{Checkpoint, ResumeAt, StateIndex};
pub use log::{Appended, FrameParts, Log, Record, SealedSegment};
pub use options::LogOptions;
pub(crate) use overlay::Overlay;
pub use reader::LogReader;
pub use recover::{Cut, Recovered, RecoveredFrame, RecoveredRecord, RecoveryReport};
pub use rewrite::FileRewriter;
pub use room::{AllocatorStep, FRAME_COST_BASE, Fit, LogAllocator, RoomPlanner, block_cost, record_cost};
pub use sled_index::SledIndex;
pub use snapshot::{FoundSnapshot, Snapshots};
pub(crate) use store::HeldStore;
pub use store::{Store, StoreWatch};
pub use verify::{Affected, Checked, Finding, Verifier, VerifyReport};

pub use crate::format::block::{BlockRef, FileId, FileSpan};
