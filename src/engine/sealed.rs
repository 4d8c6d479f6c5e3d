//! The sealed files of the log as views name them: by small numbers, with how much of each streams still have.
//!
//! A stream's part of a file is a [`SpanList`] entry of 16 bytes: which file, where the part ends, how many bytes it has.
//! Everything else stands in the file's own index. So what a file holds at all, and which streams have entries in it, is
//! never in memory; how much of it is live, is.

use std::collections::HashMap;

use parking_lot::RwLock;

use crate::storage::{FileId, SealedSegment};
use crate::types::{EntryId, LogPosition, StreamNumber};

/// A sealed file in the views: used again after the file is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileNumber(u32);

/// How much of a sealed file streams still have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileUse {
    /// The file.
    pub(crate) file: FileId,
    /// The stretch of the log that it stands for.
    pub(crate) from: LogPosition,
    /// Where that ends.
    pub(crate) to: LogPosition,
    /// Length of the file in bytes.
    pub(crate) length: u64,
    /// Streams that have entries in it.
    pub(crate) streams: u64,
    /// Bytes of payloads in the spans of those streams. A span counts until all of it is trimmed.
    pub(crate) bytes: u64,
    /// Bytes of payloads that the file holds.
    pub(crate) bytes_held: u64,
    /// Entries that it holds.
    pub(crate) entries_held: u64,
    /// Whether views have taken what it holds of their streams.
    settled: bool,
}

/// Files that are given up, and what stands for them.
#[derive(Debug, Default)]
pub(crate) struct Replacement {
    /// The files that are given up.
    pub(crate) old: Vec<FileId>,
    /// The rewritten ones.
    pub(crate) new: Vec<SealedSegment>,
    /// The streams that have entries in the old ones.
    pub(crate) streams: Vec<StreamNumber>,
}

/// All sealed files.
#[derive(Debug, Default)]
pub(crate) struct SealedFiles(RwLock<Table>);

#[derive(Debug, Default)]
struct Table {
    by_number: Vec<Option<FileUse>>,
    /// Where in the log the last of those ends that ever were.
    end: u64,
    replaced: u64,
    by_id: HashMap<FileId, FileNumber>,
}

impl SealedFiles {
    /// The number of a file, which it gets now where it has none.
    pub(super) fn number(&self, file: FileId) -> FileNumber {
        let mut table = self.0.write();
        if let Some(number) = table.by_id.get(&file) {
            return *number;
        }
        let unused = FileUse {
            file,
            from: LogPosition(0),
            to: LogPosition(0),
            length: 0,
            streams: 0,
            bytes: 0,
            bytes_held: 0,
            entries_held: 0,
            settled: false,
        };
        let free = table.by_number.iter().position(Option::is_none);
        let at = free.unwrap_or(table.by_number.len());
        match table.by_number.get_mut(at) {
            Some(slot) => *slot = Some(unused),
            None => table.by_number.push(Some(unused)),
        }
        let number = FileNumber(u32::try_from(at).expect("fewer files than a disk can hold"));
        table.by_id.insert(file, number);
        number
    }

    /// The file of a number.
    pub(super) fn file(&self, number: FileNumber) -> FileId {
        self.0.read().by_number[number.0 as usize].expect("a file that a span names is known").file
    }

    /// How often files were replaced by others.
    pub(crate) fn replaced(&self) -> u64 {
        self.0.read().replaced
    }

    /// Says that views name other files now.
    pub(super) fn note_replaced(&self) {
        self.0.write().replaced += 1;
    }

    /// Notes what a file holds, once views took their spans of it: from now on it is one of those in use.
    pub(super) fn settle(&self, number: FileNumber, sealed: &SealedSegment) {
        self.change(number, |file| {
            (file.from, file.to, file.length) = (sealed.from, sealed.end, sealed.length);
            file.bytes_held = sealed.spans.iter().map(|span| span.bytes).sum();
            file.entries_held = sealed.spans.iter().map(|span| span.count).sum();
            file.settled = true;
        });
        let mut table = self.0.write();
        table.end = table.end.max(sealed.end.0);
    }

    /// Bytes of the log's files where the log ends there: of those that are sealed, and of what was written behind them.
    pub(super) fn bytes(&self, log_end: u64) -> u64 {
        let table = self.0.read();
        let sealed: u64 = table.by_number.iter().flatten().map(|file| file.length).sum();
        sealed + log_end.saturating_sub(table.end)
    }

    /// Notes spans that views took.
    pub(super) fn took(&self, number: FileNumber, streams: u64, bytes: u64) {
        self.change(number, |file| {
            file.streams += streams;
            file.bytes += bytes;
        });
    }

    /// Notes spans that a view dropped.
    fn dropped(&self, spans: &[Span]) {
        for span in spans {
            self.change(span.file, |file| {
                file.streams -= 1;
                file.bytes -= u64::from(span.bytes);
            });
        }
    }

    fn change(&self, number: FileNumber, change: impl FnOnce(&mut FileUse)) {
        if let Some(Some(file)) = self.0.write().by_number.get_mut(number.0 as usize) {
            change(file);
        }
    }

    /// All sealed files that are not forgotten, in the order of what they stand for.
    pub(crate) fn uses(&self) -> Vec<FileUse> {
        let table = self.0.read();
        let settled = table.by_number.iter().flatten().filter(|known| known.settled);
        let mut uses: Vec<FileUse> = settled.copied().collect();
        uses.sort_unstable_by_key(|file| (file.from, file.file));
        uses
    }

    /// Forgets a file that no view names any more; says whether it did.
    pub(crate) fn forget(&self, file: FileId) -> bool {
        let mut table = self.0.write();
        let Some(number) = table.by_id.get(&file).copied() else { return false };
        let unused = table.by_number[number.0 as usize].is_none_or(|known| known.streams == 0);
        if unused {
            table.by_id.remove(&file);
            table.by_number[number.0 as usize] = None;
        }
        unused
    }
}

/// What one sealed file holds of one stream, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) file: FileNumber,
    pub(super) last: EntryId,
    /// Bytes of payloads.
    pub(super) bytes: u32,
}

/// The spans of one stream, in id order.
#[derive(Debug)]
pub(super) enum SpanList {
    /// As long as all last ids have few enough bits, which those that are made from the time have.
    Narrow(Vec<NarrowSpan>),
    /// For ids of any size.
    Wide(Vec<Span>),
}

/// A span in 16 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct NarrowSpan {
    last: u64,
    file: FileNumber,
    bytes: u32,
}

/// Bits of a narrow id that are its sequence; the rest is milliseconds.
const SEQ_BITS: u32 = 20;

/// An id in 64 bits, in the order of ids, where it fits.
fn narrow(id: EntryId) -> Option<u64> {
    (id.ms >> (u64::BITS - SEQ_BITS) == 0 && id.seq >> SEQ_BITS == 0).then_some(id.ms << SEQ_BITS | id.seq)
}

impl NarrowSpan {
    fn widen(self) -> Span {
        let last = EntryId::new(self.last >> SEQ_BITS, self.last & ((1 << SEQ_BITS) - 1));
        Span { file: self.file, last, bytes: self.bytes }
    }
}

impl Default for SpanList {
    fn default() -> Self {
        Self::Narrow(Vec::new())
    }
}

impl SpanList {
    fn len(&self) -> usize {
        match self {
            Self::Narrow(spans) => spans.len(),
            Self::Wide(spans) => spans.len(),
        }
    }

    pub(super) fn get(&self, at: usize) -> Option<Span> {
        match self {
            Self::Narrow(spans) => spans.get(at).map(|span| span.widen()),
            Self::Wide(spans) => spans.get(at).copied(),
        }
    }

    /// How many spans end below an id.
    pub(super) fn ending_below(&self, id: EntryId) -> usize {
        match self {
            Self::Narrow(spans) => spans.partition_point(|span| span.widen().last < id),
            Self::Wide(spans) => spans.partition_point(|span| span.last < id),
        }
    }

    /// Adds a span; mostly the last one.
    pub(super) fn insert(&mut self, span: Span) {
        let last = self.len().checked_sub(1).and_then(|at| self.get(at));
        let at = if last.is_none_or(|last| last.last < span.last) { self.len() } else { self.ending_below(span.last) };
        let narrowed = narrow(span.last);
        if let (Self::Narrow(spans), None) = (&mut *self, narrowed) {
            *self = Self::Wide(spans.drain(..).map(NarrowSpan::widen).collect());
        }
        match self {
            Self::Narrow(spans) => {
                let Span { file, bytes, last } = span;
                make_room(spans);
                spans.insert(at, NarrowSpan { last: narrowed.unwrap_or(last.ms), file, bytes });
            }
            Self::Wide(spans) => {
                make_room(spans);
                spans.insert(at, span);
            }
        }
    }

    /// Drops the spans that end below an id.
    pub(super) fn drop_below(&mut self, id: EntryId, files: &SealedFiles) {
        self.drop_first(self.ending_below(id), files);
    }

    /// Drops all spans.
    pub(super) fn clear(&mut self, files: &SealedFiles) {
        self.drop_first(self.len(), files);
    }

    fn drop_first(&mut self, count: usize, files: &SealedFiles) {
        let gone: Vec<Span> = match self {
            Self::Narrow(spans) => spans.drain(..count).map(NarrowSpan::widen).collect(),
            Self::Wide(spans) => spans.drain(..count).collect(),
        };
        files.dropped(&gone);
    }

    /// Drops the spans of some files.
    pub(super) fn drop_files(&mut self, numbers: &[FileNumber], files: &SealedFiles) {
        let all = (0..self.len()).filter_map(|at| self.get(at));
        let gone: Vec<Span> = all.filter(|span| numbers.contains(&span.file)).collect();
        match self {
            Self::Narrow(spans) => spans.retain(|span| !numbers.contains(&span.file)),
            Self::Wide(spans) => spans.retain(|span| !numbers.contains(&span.file)),
        }
        files.dropped(&gone);
    }
}

/// Grows a list by a quarter: there are many of them, and they grow slowly.
fn make_room<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact(list.len() / 4 + 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(file: FileNumber, ms: u64, seq: u64, bytes: u32) -> Span {
        Span { file, last: EntryId::new(ms, seq), bytes }
    }

    #[test]
    fn a_span_takes_sixteen_bytes() {
        assert_eq!(size_of::<NarrowSpan>(), 16);
    }

    #[test]
    fn spans_are_found_by_id_however_large_ids_are() {
        let files = SealedFiles::default();
        let number = files.number(FileId(8));
        for large in [0, 1 << 20, 1 << 50] {
            let mut list = SpanList::default();
            for at in [3, 1, 2] {
                list.insert(span(number, at * 10, large, at as u32));
            }
            assert_eq!(matches!(list, SpanList::Narrow(_)), large == 0);
            let found: Vec<u32> = (0..3).filter_map(|at| list.get(at)).map(|s| s.bytes).collect();
            assert_eq!(found, [1, 2, 3]);
            assert_eq!(list.get(1), Some(span(number, 20, large, 2)));
            assert_eq!(list.ending_below(EntryId::new(20, large)), 1);
            assert_eq!(list.ending_below(EntryId::new(20, large + 1)), 2);
            assert_eq!(list.ending_below(EntryId::MAX), 3);
        }
        let greatest = EntryId::new((1 << 44) - 1, (1 << 20) - 1);
        assert_eq!(narrow(greatest), Some(u64::MAX));
        assert_eq!((narrow(EntryId::new(1 << 44, 0)), narrow(EntryId::MAX)), (None, None));
    }

    #[test]
    fn files_count_what_views_have_and_are_forgotten_without_it() {
        let files = SealedFiles::default();
        let (one, two) = (files.number(FileId(8)), files.number(FileId(16)));
        files.took(one, 1, 5);
        files.took(two, 2, 7);
        let mut list = SpanList::default();
        for span in [span(one, 1, 0, 5), span(two, 2, 0, 3)] {
            list.insert(span);
        }
        list.drop_below(EntryId::new(2, 0), &files);
        assert!(files.uses().is_empty(), "none is settled");
        for (number, file) in [(one, 8), (two, 16)] {
            let (from, end) = (LogPosition(file), LogPosition(file + 8));
            files.settle(number, &SealedSegment { file: FileId(file), from, end, length: 9, spans: Vec::new() });
        }
        let mut uses = files.uses();
        uses.sort_by_key(|u| u.file);
        assert_eq!((uses[0].file, uses[0].streams, uses[0].bytes, uses[0].length), (FileId(8), 0, 0, 9));
        assert_eq!((uses[1].streams, uses[1].bytes), (2, 7));
        assert!(files.forget(FileId(8)) && !files.forget(FileId(16)) && !files.forget(FileId(8)));
        assert_eq!((files.number(FileId(24)), files.file(two)), (one, FileId(16)));
        list.drop_files(&[two], &files);
        assert_eq!((list.len(), files.uses().iter().map(|u| u.bytes).sum::<u64>()), (0, 4));
    }
}
