//! The files that no start reads in whole: segments that the state covers, and rewritten files. Their indexes say what
//! they hold, and the set of files says which of them are in use: one that is missing is corruption, one that was given
//! up is left over.

use super::file_set::FileSet;
use super::files::failed;
use super::log::{Log, SealedSegment};
use super::recover::missing;
use super::scan::{Scanner, corrupt, directory_places};
use crate::error::Result;
use crate::format::block::{FileId, FileSpan};
use crate::format::index::IndexBuilder;
use crate::format::segment::SegmentFooter;
use crate::types::LogPosition;

/// What became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Position of the first frame that the log still has.
    pub first: LogPosition,
    /// Rewritten files that nothing refers to: never taken into use, or given up.
    pub unused: Vec<FileId>,
    /// Segments that were given up, with the end of the stretch in which they lie.
    pub given_up: Vec<(FileId, LogPosition)>,
    /// Files with a damaged index; their blocks are found by reading the frames.
    pub damaged_indexes: Vec<FileId>,
}

impl Log {
    /// Hands on what the files hold that the start did not read, by the set of files as it is after replay.
    pub(crate) fn adopt(
        &mut self,
        set: &FileSet,
        visitor: &mut dyn FnMut(SealedSegment) -> Result<()>,
    ) -> Result<Adopted> {
        let mut adopted = Adopted::default();
        let (mut first, mut end) = (None, LogPosition(0));
        for id in std::mem::take(&mut self.older) {
            end = set.gone_until(end).unwrap_or(end);
            if let Some(until) = set.gone_until(LogPosition(id.0)) {
                adopted.given_up.push((id, until));
                continue;
            }
            if LogPosition(id.0) != end {
                return Err(missing(id, end));
            }
            let sealed = self.sealed_file(id, &mut adopted)?;
            end = sealed.end;
            first.get_or_insert(LogPosition(id.0));
            visitor(sealed)?;
        }
        end = set.gone_until(end).unwrap_or(end);
        if end < self.first {
            return Err(missing(FileId::live(self.first), end));
        }
        adopted.first = first.unwrap_or(self.first);
        self.adopt_rewritten(set, &mut adopted, visitor)?;
        Ok(adopted)
    }

    fn adopt_rewritten(
        &mut self,
        set: &FileSet,
        adopted: &mut Adopted,
        visitor: &mut dyn FnMut(SealedSegment) -> Result<()>,
    ) -> Result<()> {
        let found = std::mem::take(&mut self.rewritten);
        for file in set.rewritten() {
            let id = FileId::rewritten(file.number);
            if !found.contains(&id) {
                return Err(corrupt(id, 0, "the file is missing".into()));
            }
            let sealed = self.sealed_file(id, adopted)?;
            visitor(SealedSegment { from: file.from, end: file.to, ..sealed })?;
        }
        adopted.unused = found.into_iter().filter(|id| !set.contains(*id)).collect();
        Ok(())
    }

    /// What a sealed file says that it holds.
    fn sealed_file(&self, id: FileId, adopted: &mut Adopted) -> Result<SealedSegment> {
        let file = self.files.open(&id.name()).map_err(|error| failed("opening", &id.name(), &error))?;
        let mut scanner = Scanner::open(&*file, id)?;
        scanner.check_identity(self.options.store)?;
        let (from, length) = (scanner.header.first, scanner.header.length);
        if let Some(footer) = scanner.footer()?
            && let Some(spans) = directory(&mut scanner, &footer)?
        {
            return Ok(SealedSegment { file: id, from, end: footer.end, length, spans });
        }
        adopted.damaged_indexes.push(id);
        let mut index = IndexBuilder::new(scanner.header.version);
        let offset = scanner.each_block(|block| index.add(block, &[]))?;
        let end = scanner.header.position_at(offset);
        Ok(SealedSegment { file: id, from, end, length, spans: index.spans(id) })
    }
}

/// What a sealed file says that it holds; `None` where its directory is damaged.
fn directory(scanner: &mut Scanner<'_>, footer: &SegmentFooter) -> Result<Option<Vec<FileSpan>>> {
    let mut spans = Vec::with_capacity(footer.streams as usize);
    for place in directory_places(footer) {
        let Some(entry) = scanner.directory_entry(place)? else { return Ok(None) };
        spans.push(entry.span);
    }
    Ok(Some(spans))
}
