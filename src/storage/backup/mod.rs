//! Backups: a copy of a log up to one position that was synced, in a folder of its own, and back into a data directory.
//!
//! [`BackupPlan`] says which files make up the copy and how much of each. [`BackupFolder`] takes them in, piece by piece,
//! and writes the manifest last: a folder without one is no backup. [`Backup`] reads a whole one, knows which moments it
//! covers, and makes a new data directory of it. `docs/FORMAT.md` has the bytes.

mod folder;
mod manifest;
mod members;
mod plan;
mod restore;
mod survey;

use crate::types::LogPosition;

pub use folder::{BackupFolder, Receiving, Taken};
pub use plan::{BackupFile, BackupPlan};
pub(crate) use plan::{newest_snapshot, open_planned, plan_files};
pub use restore::{Backup, Restored, Until};

/// A moment of a log: the state after all commits before a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The position: where a commit ends, or 0 for the beginning.
    pub position: LogPosition,
    /// Wall time of the moment, in milliseconds since the Unix epoch.
    pub wall_ms: u64,
}

/// The moments that a backup covers, from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Covered {
    /// The oldest state that it holds as a whole.
    pub oldest: Moment,
    /// Where the copy ends, and when it was taken.
    pub end: Moment,
}
