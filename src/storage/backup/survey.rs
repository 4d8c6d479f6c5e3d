//! What the files of a backup tell: whether they make up a log that a start can go on with, and which moments they cover.
//!
//! From the snapshot on, or the beginning, every commit is read. A moment is covered once the set of files is what it is
//! at the end: of files that were given up before, nothing is there.

use std::sync::Arc;

use super::super::file_set::FileSet;
use super::super::files::{Files, LogFile, failed};
use super::super::index::Checkpoint;
use super::super::recover::missing;
use super::super::scan::{ScannedFrame, Scanner, corrupt};
use super::super::snapshot::{self, is_snapshot_name};
use super::{Covered, Moment};
use crate::error::{Error, Reason, Result};
use crate::faults::Faults;
use crate::format::block::FileId;
use crate::format::frame::{self, KIND_ENTRIES};
use crate::format::record::Effect;
use crate::format::segment::{SEGMENT_HEADER_BYTES, StoreId};
use crate::format::state::Row;
use crate::types::LogPosition;

/// A commit as the survey meets it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Commit {
    /// Where it ends.
    pub(super) end: LogPosition,
    pub(super) wall_ms: u64,
}

/// A log's files up to a position.
pub(super) struct Survey<'a> {
    files: &'a dyn Files,
    segments: Vec<FileId>,
    rewritten: Vec<FileId>,
    pub(super) snapshot: Option<Checkpoint>,
    set: FileSet,
    oldest: Moment,
    end: LogPosition,
}

impl<'a> Survey<'a> {
    /// Reads what these files, of this store, hold up to `end`, and tells of every commit that is read.
    pub(super) fn run(
        files: &'a dyn Files,
        store: StoreId,
        end: LogPosition,
        on: &mut dyn FnMut(Commit),
    ) -> Result<Self> {
        let names = files.list().map_err(|error| failed("listing", "the backup", &error))?;
        let ids = || names.iter().filter_map(|name| FileId::parse(name));
        let segments: Vec<FileId> = ids().filter(|id| !id.is_rewritten()).collect();
        let rewritten = ids().filter(|id| id.is_rewritten()).collect();
        let oldest = Moment { position: LogPosition(0), wall_ms: 0 };
        let set = FileSet::default();
        let mut survey = Self { files, segments, rewritten, snapshot: None, set, oldest, end };
        if let Some(name) = names.iter().rfind(|name| is_snapshot_name(name)) {
            survey.take_snapshot(name, store)?;
        }
        survey.walk(store, on)?;
        survey.check_set()?;
        Ok(survey)
    }

    /// The moments that are covered, of a backup taken at this time.
    pub(super) fn covered(&self, taken_ms: u64) -> Covered {
        Covered { oldest: self.oldest, end: Moment { position: self.end, wall_ms: taken_ms } }
    }

    fn take_snapshot(&mut self, name: &str, store: StoreId) -> Result<()> {
        let damaged = |why: &str| Error::new(Reason::Corrupt, format!("{name} {why}")).with("file", name);
        let checkpoint = snapshot::read(self.files, name)?.ok_or_else(|| damaged("is damaged"))?;
        if checkpoint.store != store || checkpoint.at.end > self.end {
            return Err(damaged("does not belong to this backup"));
        }
        for (_, row) in checkpoint.rows() {
            if let row @ (Row::Gone(_) | Row::Rewritten(_)) = row? {
                self.set.restore(row);
            }
        }
        self.snapshot = Some(checkpoint);
        Ok(())
    }

    /// Where the walk begins: the snapshot's position, and the segment that holds it.
    fn start(&self) -> (LogPosition, usize) {
        let from = self.snapshot.as_ref().map_or(LogPosition(0), |snapshot| snapshot.at.position);
        (from, self.segments.partition_point(|id| id.0 <= from.0).saturating_sub(1))
    }

    fn walk(&mut self, store: StoreId, on: &mut dyn FnMut(Commit)) -> Result<()> {
        let (mut position, first) = self.start();
        for at in first..self.segments.len() {
            let id = self.segments[at];
            if at > first && LogPosition(id.0) != position || id.0 > position.0 {
                return Err(missing(id, position));
            }
            let end = self.segments.get(at + 1).map_or(self.end, |next| LogPosition(next.0));
            let file = self.open(id)?;
            let mut scanner = Scanner::open(&*file, id)?;
            scanner.check_identity(store)?;
            if position == LogPosition(0) {
                self.oldest.wall_ms = scanner.header.created_ms;
            }
            while position < end {
                let offset = scanner.header.offset_of(position);
                let frame = scanner.frame(offset, Faults::default())?;
                let none = || corrupt(id, offset, format!("no valid commit stands at position {position}"));
                let frame = frame.filter(|f| position.0 + f.sizes.total as u64 <= end.0).ok_or_else(none)?;
                position = LogPosition(position.0 + frame.sizes.total as u64);
                self.frame(id, &frame, position)?;
                on(Commit { end: position, wall_ms: frame.head.now.wall_ms });
            }
        }
        if position != self.end {
            let why = format!("the log ends at position {position}, the backup at {}", self.end);
            return Err(Error::new(Reason::Corrupt, why));
        }
        Ok(())
    }

    fn open(&self, id: FileId) -> Result<Arc<dyn LogFile>> {
        self.files.open(&id.name()).map_err(|error| failed("opening", &id.name(), &error))
    }

    fn frame(&mut self, id: FileId, frame: &ScannedFrame, end: LogPosition) -> Result<()> {
        let here = Moment { position: end, wall_ms: frame.head.now.wall_ms };
        if let Some(snapshot) = self.snapshot.as_ref().filter(|snapshot| snapshot.at.position == frame.head.position) {
            if frame::digest(&frame.bytes[..frame.sizes.head]) != snapshot.at.digest || snapshot.at.end != end {
                return Err(corrupt(id, frame.offset, "the snapshot is of another history of the log".into()));
            }
            self.oldest = here;
        }
        for (record, content) in frame.head.records.iter().zip(&frame.contents) {
            if record.kind == KIND_ENTRIES {
                continue;
            }
            let damaged = || corrupt(id, frame.offset, format!("a record of kind {} is damaged", record.kind));
            let content = content.as_ref().ok_or_else(damaged)?;
            if let Effect::FilesReplaced(change) = Effect::decode(record.kind, record.version, content)? {
                self.set.apply(&change);
                self.oldest = here;
            }
        }
        Ok(())
    }

    /// Checks that every file is there that the state at the end says is in use.
    fn check_set(&self) -> Result<()> {
        let (_, first) = self.start();
        let mut end = LogPosition(0);
        for id in self.segments.iter().take(first) {
            end = self.set.gone_until(end).unwrap_or(end);
            if !self.set.contains(*id) {
                continue;
            }
            if LogPosition(id.0) != end {
                return Err(missing(*id, end));
            }
            let file = self.open(*id)?;
            let footer = Scanner::open(&*file, *id)?.footer()?;
            let footer = footer.ok_or_else(|| corrupt(*id, 0, "the file's footer is damaged".into()))?;
            end = footer.end;
        }
        end = self.set.gone_until(end).unwrap_or(end);
        if let Some(id) = self.segments.get(first)
            && end.0 < id.0
        {
            return Err(missing(*id, end));
        }
        for id in self.set.rewritten().map(|file| FileId::rewritten(file.number)) {
            if !self.rewritten.contains(&id) {
                return Err(corrupt(id, 0, "the file is missing".into()));
            }
        }
        Ok(())
    }

    /// The segment in which a position lies that is not the beginning, with the bytes of its file before it.
    pub(super) fn place(&self, position: LogPosition) -> Option<(FileId, u64)> {
        let id = self.segments.iter().rfind(|id| id.0 < position.0)?;
        Some((*id, SEGMENT_HEADER_BYTES as u64 + position.0 - id.0))
    }
}
