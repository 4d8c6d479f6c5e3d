//! Which files make up the log, by the snapshot and the log itself: what may be missing, and what is not in use.

use super::super::file_set::FileSet;
use super::super::files::{Files, failed};
use super::super::scan::corrupt;
use super::super::snapshot;
use super::segment::offset_of;
use super::{Walk, path};
use crate::clock::Now;
use crate::error::{Reason, Result};
use crate::format::block::FileId;
use crate::format::record::Effect;
use crate::format::state::Row;
use crate::types::LogPosition;

/// The set of files as far as the walk has come.
#[derive(Default)]
pub(super) struct KnownFiles {
    set: FileSet,
    /// The set has all changes before this position.
    since: LogPosition,
    /// Stretches without a segment: the file after each, and where it begins.
    gaps: Vec<(FileId, LogPosition)>,
}

impl KnownFiles {
    /// Notes a stretch without a segment, before this file.
    pub(super) fn gap(&mut self, before: FileId, from: LogPosition) {
        self.gaps.push((before, from));
    }

    /// Notes what an effect at this position says.
    pub(super) fn note(&mut self, effect: &Effect, position: LogPosition) {
        if let Effect::FilesReplaced(change) = effect
            && position >= self.since
        {
            self.set.apply(change);
        }
    }
}

impl Walk<'_> {
    /// Checks the snapshots, and takes from the last one what the log alone may no longer tell.
    pub(super) fn snapshots(&mut self, files: &dyn Files, names: &[String]) -> Result<()> {
        for name in names.iter().filter(|name| snapshot::is_snapshot_name(name)) {
            let Some(checkpoint) = snapshot::read(files, name)? else {
                self.found(&path(name), 0, true, None, "the snapshot is damaged".into());
                continue;
            };
            if *self.store.get_or_insert(checkpoint.store) != checkpoint.store {
                self.found(&path(name), 0, true, None, "the snapshot belongs to another data directory".into());
                continue;
            }
            self.known = KnownFiles { since: checkpoint.at.position, ..KnownFiles::default() };
            for (_, row) in checkpoint.rows() {
                match row {
                    Ok(Row::Stream(row)) => self.streams.name_is(row.number, row.name),
                    Ok(row @ (Row::Gone(_) | Row::Rewritten(_))) => drop(self.known.set.restore(row)),
                    Ok(_) => {}
                    Err(error) => self.found(&path(name), 0, true, None, error.message().into()),
                }
            }
        }
        Ok(())
    }

    /// Checks the rewritten files, and whether every stretch of the log is in a segment or was given up.
    pub(super) fn rewritten(&mut self, files: &dyn Files, found: &[FileId]) -> Result<()> {
        let known = std::mem::take(&mut self.known);
        for (before, from) in known.gaps {
            if known.set.gone_until(from).is_none_or(|until| until.0 < before.0) {
                self.flaw(before, 0, format!("the log lacks positions {from} to {}: a file is missing", before.0));
            }
        }
        for file in known.set.rewritten().map(|file| FileId::rewritten(file.number)) {
            if !found.contains(&file) {
                self.flaw(file, 0, "the file is missing");
            }
        }
        for id in found {
            if known.set.contains(*id) {
                self.rewritten_file(files, *id)?;
            } else {
                self.note(*id, 0, "the file is not in use: a start removes it".into());
            }
        }
        Ok(())
    }

    fn rewritten_file(&mut self, files: &dyn Files, id: FileId) -> Result<()> {
        self.is_rewritten = true;
        self.last = Now::default();
        match self.read_rewritten(files, id) {
            Err(error) if error.reason() == Reason::DataDirectory => return Err(error),
            Err(error) => self.flaw(id, offset_of(&error), error.message()),
            Ok(()) => {}
        }
        self.checked(files, id);
        Ok(())
    }

    fn read_rewritten(&mut self, files: &dyn Files, id: FileId) -> Result<()> {
        let file = files.open(&id.name()).map_err(|error| failed("opening", &id.name(), &error))?;
        let mut scanner = self.scanner(&*file, id)?;
        let length = scanner.header.length;
        let Some(footer) = scanner.footer()? else { return Err(corrupt(id, length, "the footer is damaged".into())) };
        self.sealed(&mut scanner, &footer, false)
    }
}
