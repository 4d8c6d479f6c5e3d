//! What a backup is a copy of: the files of a log, each up to a place that is synced and never written again.

use bytes::Bytes;

use super::super::file_set::FileSet;
use super::super::files::{Files, LogFile, failed};
use super::super::scan::corrupt;
use super::super::snapshot::is_snapshot_name;
use crate::error::Result;
use crate::format::block::FileId;
use crate::format::segment::{SEGMENT_HEADER_BYTES, StoreId};
use crate::types::LogPosition;

/// A file of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupFile {
    /// Its name in the log's folder.
    pub name: String,
    /// How many of its bytes belong to the backup, from its beginning.
    pub length: u64,
    /// Its first 80 bytes: two files of one name and one head have the same bytes, as far as both go.
    pub head: Bytes,
}

/// The files that make up a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupPlan {
    /// Whose log it is.
    pub store: StoreId,
    /// Where the copy ends: a position between two commits, up to which the log is synced.
    pub end: LogPosition,
    /// Wall time of the plan in milliseconds since the Unix epoch.
    pub taken_ms: u64,
    /// The files.
    pub files: Vec<BackupFile>,
}

/// The newest snapshot of a folder by its name, with its position.
pub(crate) fn newest_snapshot(files: &dyn Files) -> Result<Option<(String, LogPosition)>> {
    let names = files.list().map_err(|error| failed("listing", "the log folder", &error))?;
    let newest = names.into_iter().rfind(|name| is_snapshot_name(name));
    Ok(newest.map(|name| {
        let position = snapshot_position(&name);
        (name, position)
    }))
}

/// The position in the name of a snapshot.
pub(super) fn snapshot_position(name: &str) -> LogPosition {
    LogPosition(name.rsplit('-').next().and_then(|digits| digits.parse().ok()).unwrap_or_default())
}

/// The files of a log up to `end`, which are those of this set and what a start from the snapshot at `from` reads.
/// Nobody may remove any of them meanwhile.
pub(crate) fn plan_files(
    files: &dyn Files,
    set: &FileSet,
    from: LogPosition,
    end: LogPosition,
) -> Result<Vec<BackupFile>> {
    let names = files.list().map_err(|error| failed("listing", "the log folder", &error))?;
    let found: Vec<FileId> = names.iter().filter_map(|name| FileId::parse(name)).collect();
    let mut segments: Vec<FileId> = found.iter().filter(|id| !id.is_rewritten() && id.0 < end.0).copied().collect();
    segments.sort_unstable();
    let mut planned = Vec::new();
    for (at, id) in segments.iter().enumerate() {
        let next = segments.get(at + 1);
        // What was given up since the snapshot is still read by a start from there.
        if !set.contains(*id) && next.is_some_and(|next| next.0 <= from.0) {
            continue;
        }
        let part = |length| if next.is_some() { length } else { SEGMENT_HEADER_BYTES as u64 + (end.0 - id.0) };
        planned.push(planned_file(files, &id.name(), part)?);
    }
    for id in set.rewritten().map(|file| FileId::rewritten(file.number)) {
        if !found.contains(&id) {
            return Err(corrupt(id, 0, "the file is missing".into()));
        }
        planned.push(planned_file(files, &id.name(), |length| length)?);
    }
    Ok(planned)
}

fn planned_file(files: &dyn Files, name: &str, part: impl FnOnce(u64) -> u64) -> Result<BackupFile> {
    let file = files.open(name).map_err(|error| failed("opening", name, &error))?;
    open_planned(&*file, name, part)
}

/// An open file as the plan has it, so much of its length as `part` says.
pub(crate) fn open_planned(file: &dyn LogFile, name: &str, part: impl FnOnce(u64) -> u64) -> Result<BackupFile> {
    let reading = |error| failed("reading", name, &error);
    let length = part(file.length().map_err(reading)?);
    let mut head = vec![0; SEGMENT_HEADER_BYTES.min(length as usize)];
    let read = file.read_at(&mut head, 0).map_err(reading)?;
    head.truncate(read);
    Ok(BackupFile { name: name.into(), length, head: head.into() })
}
