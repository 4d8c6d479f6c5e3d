//! What readers see of a stream: only what is durable, published by the log thread after each commit.
//!
//! A [`StreamView`] holds references to blocks of the live segment and, in short, which sealed files have more; never
//! entries. Readers take a short read lock to copy references; the log thread takes the write lock to add. Invariant **E1**: nothing stands in a view before its commit is
//! durable at its durability.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use event_listener::{Event, EventListener};
use parking_lot::RwLock;

use super::sealed::{FileNumber, Replacement, SealedFiles, Span, SpanList};
use crate::format::block::{BlockRef, FileSpan};
use crate::storage::{FileId, SealedSegment};
use crate::stream::DeletedIds;
use crate::types::{EntryId, IdRange, StreamName, StreamNumber};

/// What readers see of one stream.
#[derive(Debug)]
pub(crate) struct StreamView {
    pub(crate) name: StreamName,
    pub(crate) number: StreamNumber,
    state: RwLock<ViewState>,
    changed: Event,
}

#[derive(Debug, Default)]
struct ViewState {
    gone: bool,
    last: EntryId,
    appended: u64,
    trimmed_before: EntryId,
    deleted: DeletedIds,
    removals: u64,
    /// How often its parts of sealed files changed other than by a trim.
    layouts: u64,
    /// One for each sealed file that holds entries of this stream, in id order; then the blocks of the live segment.
    spans: SpanList,
    live: VecDeque<BlockRef>,
}

/// Where the entries of a stretch of a stream are.
pub(crate) enum Place {
    /// These blocks, in id order.
    Blocks(Vec<BlockRef>),
    /// A sealed file, whose index names the blocks.
    File(FilePlace),
}

/// A stretch of a stream that one sealed file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FilePlace {
    /// The file.
    pub(crate) file: FileId,
    /// Its last entry.
    pub(crate) last: EntryId,
    /// The last entry in the file before, where there is one: where the stretch begins only the file's index says.
    pub(crate) before: Option<EntryId>,
}

/// What no longer exists of a stretch of a stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Removed {
    /// Whether the whole stream is gone.
    pub(crate) gone: bool,
    /// The smallest id that may exist.
    pub(crate) trimmed_before: EntryId,
    /// Entries at or above it that were deleted singly, with their bytes, in id order.
    pub(crate) deleted: Vec<(EntryId, u32)>,
}

/// What a view says in a few numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) last: EntryId,
    pub(crate) appended: u64,
    pub(crate) trimmed_before: EntryId,
    pub(crate) removals: u64,
    /// How often its parts of sealed files changed other than by a trim.
    pub(crate) layouts: u64,
    pub(crate) gone: bool,
}

/// Block references copied at once by one reader.
const BLOCKS_PER_STEP: usize = 64;

impl StreamView {
    pub(crate) fn new(name: StreamName, number: StreamNumber) -> Arc<Self> {
        Arc::new(Self { name, number, state: RwLock::default(), changed: Event::new() })
    }

    /// Wakes up after the next change; to be made before looking, so that none is missed.
    pub(crate) fn listen(&self) -> EventListener {
        self.changed.listen()
    }

    pub(crate) fn extent(&self) -> Extent {
        let s = self.state.read();
        Extent {
            last: s.last,
            appended: s.appended,
            trimmed_before: s.trimmed_before,
            removals: s.removals,
            layouts: s.layouts,
            gone: s.gone,
        }
    }

    /// Adds a durable block and wakes readers.
    pub(crate) fn show(&self, block: BlockRef) {
        {
            let mut s = self.state.write();
            s.last = s.last.max(block.last);
            s.appended = block.first_ordinal + u64::from(block.count);
            s.live.push_back(block);
        }
        self.changed.notify(usize::MAX);
    }

    /// Takes what a checkpoint says of the stream. Blocks are shown before and after.
    pub(crate) fn restore(
        &self,
        last: EntryId,
        appended: u64,
        trimmed_before: EntryId,
        removals: u64,
        deleted: DeletedIds,
    ) {
        let mut s = self.state.write();
        (s.last, s.appended, s.removals, s.deleted) = (last, appended, removals, deleted);
        s.trimmed_before = trimmed_before;
    }

    /// Shows a block that a restored state counts already.
    pub(crate) fn show_known(&self, block: BlockRef) {
        let mut s = self.state.write();
        if block.last >= s.trimmed_before {
            s.live.push_back(block);
        }
    }

    /// Replaces the blocks of a segment, now sealed, by one span; says whether the stream still has any of it.
    fn seal(&self, number: FileNumber, span: &FileSpan) -> bool {
        let mut s = self.state.write();
        if !s.live.is_empty() {
            s.layouts += 1;
            s.live.retain(|b| b.file != span.file);
            // There are many streams, and not all go on: what the list had grown to is not kept.
            s.live.shrink_to_fit();
        }
        s.last = s.last.max(span.last);
        s.appended = s.appended.max(span.first_ordinal + span.count);
        let kept = !s.gone && span.last >= s.trimmed_before;
        if kept {
            s.spans.insert(short(number, span));
        }
        kept
    }

    /// Puts what rewritten files hold of this stream, in any order, in the place of what was in these files. The caller
    /// sees to it that it is the same entries but those that are trimmed or deleted.
    fn replace(&self, files: &SealedFiles, old: &[FileId], new: &[FileSpan]) {
        let old: Vec<FileNumber> = old.iter().map(|file| files.number(*file)).collect();
        let mut s = self.state.write();
        s.layouts += 1;
        s.spans.drop_files(&old, files);
        let trimmed_before = s.trimmed_before;
        for span in new.iter().filter(|span| span.last >= trimmed_before) {
            let number = files.number(span.file);
            s.spans.insert(short(number, span));
            files.took(number, 1, span.bytes);
        }
    }

    /// Publishes a trim.
    pub(crate) fn trim(&self, files: &SealedFiles, before: EntryId) {
        let mut s = self.state.write();
        if before <= s.trimmed_before {
            return;
        }
        s.trimmed_before = before;
        s.removals += 1;
        s.deleted.forget_below(before);
        s.spans.drop_below(before, files);
        while s.live.front().is_some_and(|b| b.last < before) {
            s.live.pop_front();
        }
    }

    /// Publishes single deletes.
    pub(crate) fn delete(&self, entries: impl Iterator<Item = (EntryId, u32)>) {
        let mut s = self.state.write();
        for (id, bytes) in entries {
            if id >= s.trimmed_before {
                s.deleted.insert(id, bytes);
            }
        }
        s.removals += 1;
    }

    /// Publishes that the stream is gone: readers see nothing any more, and tails end.
    pub(crate) fn end(&self, files: &SealedFiles) {
        {
            let mut s = self.state.write();
            s.spans.clear(files);
            *s = ViewState { gone: true, ..ViewState::default() };
        }
        self.changed.notify(usize::MAX);
    }

    /// Where the entries at or after an id are; `None` where there are none. A file that is named has some.
    pub(crate) fn place_after(&self, files: &SealedFiles, from: EntryId) -> Option<Place> {
        let s = self.state.read();
        let from = from.max(s.trimmed_before);
        if let Some(place) = s.file_place(files, s.spans.ending_below(from)) {
            return Some(place);
        }
        let at = s.live.partition_point(|b| b.last < from);
        let blocks: Vec<BlockRef> = s.live.range(at..).take(BLOCKS_PER_STEP).copied().collect();
        (!blocks.is_empty()).then_some(Place::Blocks(blocks))
    }

    /// Where the entries at or before an id are; `None` where there are none. Blocks are in id order all the same. A file
    /// that is named may have none that low: then they are at or before [`FilePlace::before`].
    pub(crate) fn place_before(&self, files: &SealedFiles, to: EntryId) -> Option<Place> {
        let s = self.state.read();
        let end = s.live.partition_point(|b| b.first <= to);
        let start = end.saturating_sub(BLOCKS_PER_STEP);
        let blocks: Vec<BlockRef> = s.live.range(start..end).filter(|b| b.last >= s.trimmed_before).copied().collect();
        if !blocks.is_empty() {
            return Some(Place::Blocks(blocks));
        }
        let at = s.spans.ending_below(to);
        s.file_place(files, at).or_else(|| s.file_place(files, at.checked_sub(1)?))
    }

    /// Drops from a list what is trimmed, deleted or gone.
    pub(crate) fn retain_existing<T>(&self, list: &mut Vec<T>, id: impl Fn(&T) -> EntryId) {
        let s = self.state.read();
        if s.gone {
            list.clear();
        }
        if s.deleted.is_empty() && list.iter().all(|e| id(e) >= s.trimmed_before) {
            return;
        }
        list.retain(|e| id(e) >= s.trimmed_before && !s.deleted.contains(id(e)));
    }

    /// What no longer exists of a range.
    pub(crate) fn removed_in(&self, range: IdRange) -> Removed {
        let s = self.state.read();
        let deleted = s.deleted.range(range).collect();
        Removed { trimmed_before: s.trimmed_before, deleted, gone: s.gone }
    }

    /// The parts of files that may hold entries which no longer exist: the first one, where anything was trimmed, and
    /// those in which single entries were deleted.
    pub(crate) fn thinned(&self, files: &SealedFiles) -> Vec<FilePlace> {
        let s = self.state.read();
        let mut deleted = s.deleted.iter().map(|(id, _)| id).peekable();
        let mut places = Vec::new();
        for at in 0.. {
            let Some(span) = s.spans.get(at) else { break };
            let mut thinned = at == 0 && s.trimmed_before > EntryId::ZERO;
            while deleted.next_if(|id| *id <= span.last).is_some() {
                thinned = true;
            }
            if thinned && let Some(Place::File(place)) = s.file_place(files, at) {
                places.push(place);
            } else if deleted.peek().is_none() {
                break;
            }
        }
        places
    }

    /// How many entries of a range were deleted singly, and their bytes.
    pub(crate) fn deleted_in(&self, range: IdRange) -> (u64, u64) {
        self.state.read().deleted.measure(range)
    }
}

impl ViewState {
    fn file_place(&self, files: &SealedFiles, at: usize) -> Option<Place> {
        let Span { file, last, .. } = self.spans.get(at)?;
        let before = at.checked_sub(1).and_then(|before| self.spans.get(before)).map(|span| span.last);
        Some(Place::File(FilePlace { file: files.file(file), last, before }))
    }
}

fn short(file: FileNumber, span: &FileSpan) -> Span {
    // A file is far below 4 GiB.
    Span { file, last: span.last, bytes: u32::try_from(span.bytes).unwrap_or(u32::MAX) }
}

/// The streams that exist, durably, by name, and the sealed files that hold their entries.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    streams: RwLock<Streams>,
    files: Arc<SealedFiles>,
}

#[derive(Debug, Default)]
struct Streams {
    by_name: BTreeMap<StreamName, Arc<StreamView>>,
    by_number: HashMap<StreamNumber, Arc<StreamView>>,
}

impl Catalogue {
    pub(crate) fn get(&self, name: &StreamName) -> Option<Arc<StreamView>> {
        self.streams.read().by_name.get(name).cloned()
    }
    /// Wakes everybody who listens to a stream: the engine stops.
    pub(crate) fn wake_all(&self) {
        self.streams.read().by_number.values().for_each(|view| _ = view.changed.notify(usize::MAX));
    }
    /// The sealed files that views name.
    pub(crate) fn files(&self) -> &Arc<SealedFiles> {
        &self.files
    }
    /// Replaces the blocks of a sealed segment by spans, in the views of the streams that still exist.
    pub(crate) fn seal(&self, sealed: &SealedSegment) {
        let number = self.files.number(sealed.file);
        let streams = self.streams.read();
        let (mut taken, mut bytes) = (0, 0);
        for span in &sealed.spans {
            if streams.by_number.get(&span.stream).is_some_and(|view| view.seal(number, span)) {
                taken += 1;
                bytes += span.bytes;
            }
        }
        self.files.took(number, taken, bytes);
        self.files.settle(number, sealed);
    }
    /// Shows rewritten files in the place of others, and forgets those.
    pub(crate) fn replace(&self, replacement: &Replacement) {
        let Replacement { old, new, streams } = replacement;
        let mut of_stream: HashMap<StreamNumber, Vec<FileSpan>> = HashMap::new();
        for file in new {
            file.spans.iter().for_each(|span| of_stream.entry(span.stream).or_default().push(*span));
        }
        let known = self.streams.read();
        for view in streams.iter().filter_map(|stream| known.by_number.get(stream)) {
            view.replace(&self.files, old, of_stream.get(&view.number).map_or(&[], Vec::as_slice));
        }
        drop(known);
        for file in new {
            self.files.settle(self.files.number(file.file), file);
        }
        self.files.note_replaced();
        for file in old {
            self.files.forget(*file);
        }
    }
    pub(crate) fn by_number(&self, number: StreamNumber) -> Option<Arc<StreamView>> {
        self.streams.read().by_number.get(&number).cloned()
    }
    /// All streams.
    pub(crate) fn all(&self) -> Vec<Arc<StreamView>> {
        self.streams.read().by_number.values().cloned().collect()
    }
    /// The numbers of all streams.
    pub(crate) fn numbers(&self) -> Vec<StreamNumber> {
        self.streams.read().by_number.keys().copied().collect()
    }
    pub(crate) fn insert(&self, view: Arc<StreamView>) {
        let mut streams = self.streams.write();
        streams.by_number.insert(view.number, Arc::clone(&view));
        streams.by_name.insert(view.name.clone(), view);
    }
    /// Removes this very stream, not another of its name.
    pub(crate) fn remove(&self, view: &StreamView) {
        let mut streams = self.streams.write();
        streams.by_number.remove(&view.number);
        if streams.by_name.get(&view.name).is_some_and(|v| v.number == view.number) {
            streams.by_name.remove(&view.name);
        }
    }
    /// Names in order, after a name, with a prefix.
    pub(crate) fn names(&self, prefix: &str, after: Option<&StreamName>, max: usize) -> Vec<StreamName> {
        let streams = self.streams.read();
        let start = match after {
            Some(after) if after.as_str() >= prefix => Bound::Excluded(after.clone()),
            _ => match StreamName::parse(prefix) {
                Ok(prefix) => Bound::Included(prefix),
                Err(_) => Bound::Unbounded,
            },
        };
        streams
            .by_name
            .range((start, Bound::Unbounded))
            .map(|(name, _)| name)
            .take_while(|name| name.as_str().starts_with(prefix))
            .take(max)
            .cloned()
            .collect()
    }
    pub(crate) fn len(&self) -> usize {
        self.streams.read().by_name.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::types::LogPosition;

    const STREAM: StreamNumber = StreamNumber(1);

    fn span(file: u64, first: u64, last: u64) -> FileSpan {
        let (first_ordinal, count, bytes) = (first, last + 1 - first, (last + 1 - first) * 10);
        let (first, last) = (EntryId::new(first, 0), EntryId::new(last, 0));
        FileSpan { file: FileId(file), stream: STREAM, first, last, first_ordinal, count, bytes }
    }

    fn sealed(file: u64, spans: Vec<FileSpan>) -> SealedSegment {
        let (from, end) = (LogPosition(file), LogPosition(file + 1));
        SealedSegment { file: FileId(file), from, end, length: 100, spans }
    }

    fn seal(catalogue: &Catalogue, file: u64, spans: Vec<FileSpan>) {
        catalogue.seal(&sealed(file, spans));
    }

    fn place(found: Option<Place>) -> Option<(u64, Option<u64>)> {
        match found {
            Some(Place::File(place)) => Some((place.file.0, place.before.map(|id| id.ms))),
            _ => None,
        }
    }

    #[test]
    fn sealed_files_are_found_from_both_sides_replaced_and_dropped() {
        let catalogue = Catalogue::default();
        let view = StreamView::new(StreamName::parse("s").unwrap(), STREAM);
        catalogue.insert(Arc::clone(&view));
        let files = catalogue.files();
        for (file, first, last) in [(8, 10, 19), (16, 20, 29), (24, 40, 49)] {
            let gone = FileSpan { stream: StreamNumber(7), ..span(file, 1, 2) };
            seal(&catalogue, file, vec![span(file, first, last), gone]);
        }
        let id = |ms| EntryId::new(ms, 0);
        assert_eq!(place(view.place_after(files, id(15))), Some((8, None)));
        assert_eq!(place(view.place_after(files, id(30))), Some((24, Some(29))));
        assert_eq!(place(view.place_after(files, id(50))), None);
        assert_eq!(place(view.place_before(files, id(60))), Some((24, Some(29))));
        assert_eq!(place(view.place_before(files, id(30))), Some((24, Some(29))), "which begins above");
        assert_eq!(place(view.place_before(files, id(29))), Some((16, Some(19))));

        let known =
            |file| files.uses().into_iter().find(|known| known.file == FileId(file)).map(|u| (u.streams, u.bytes));
        assert_eq!((known(8), known(24)), (Some((1, 100)), Some((1, 100))));
        let new = vec![sealed(99, vec![span(99, 15, 29)])];
        let (old, streams) = (vec![FileId(8), FileId(16)], vec![STREAM, StreamNumber(7)]);
        catalogue.replace(&Replacement { old, new, streams });
        assert_eq!((known(8), known(16), known(99)), (None, None, Some((1, 150))));
        assert_eq!(place(view.place_after(files, id(1))), Some((99, None)));
        assert_eq!(place(view.place_before(files, id(60))), Some((24, Some(29))));

        view.trim(files, id(30));
        assert_eq!((known(99), place(view.place_after(files, id(1)))), (Some((0, 0)), Some((24, None))));
        assert!(files.forget(FileId(99)) && !files.forget(FileId(24)));
        view.end(files);
        assert_eq!(known(24), Some((0, 0)));
        assert_eq!(files.uses().iter().find(|u| u.file == FileId(24)).map(|u| u.bytes_held), Some(120));
    }
}
