//! What readers see of a stream: only what is durable, published by the log thread after each commit.
//!
//! A [`StreamView`] holds references to blocks of the live segment and, in short, which sealed files have more; never
//! entries. Readers take a short read lock to copy references; the log thread takes the write lock to add. Invariant **E1**: nothing stands in a view before its commit is
//! durable at its durability, but in those that only a transaction has.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use event_listener::{Event, EventListener};
use parking_lot::{RwLock, RwLockWriteGuard};

use super::commit::Show;
use super::sealed::{FileNumber, SealedFiles, Span, SpanList};
use crate::format::block::{BlockMeta, BlockRef, FileSpan};
use crate::storage::FileId;
use crate::stream::DeletedIds;
use crate::stream::Stream;
use crate::types::{EntryId, IdRange, StreamName, StreamNumber};

/// What readers see of one stream.
#[derive(Debug)]
pub(crate) struct StreamView {
    name: RwLock<StreamName>,
    pub(crate) number: StreamNumber,
    state: RwLock<ViewState>,
    changed: Event,
    ahead: Option<Ahead>,
}

/// What makes a view one of a transaction: it sees what is not written yet, too.
#[derive(Debug)]
struct Ahead {
    /// What everybody sees of the stream, which gains meanwhile what is ahead of it.
    durable: Arc<StreamView>,
    /// The contents of the blocks that are ahead.
    contents: Vec<Bytes>,
}

/// The file of blocks that are not written yet; they are told apart by their offsets.
const UNWRITTEN: FileId = FileId(u64::MAX);

#[derive(Debug, Default)]
pub(super) struct ViewState {
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
        Arc::new(Self { name: RwLock::new(name), number, state: RwLock::default(), changed: Event::new(), ahead: None })
    }

    /// What a transaction sees of a stream: what everybody sees, and these blocks that are not durable yet, as far as the
    /// stream as it is now still has them.
    pub(crate) fn ahead(durable: &Arc<Self>, stream: &Stream, blocks: Vec<(BlockMeta, Bytes)>) -> Arc<Self> {
        let place = |(at, (meta, content)): (usize, &(BlockMeta, Bytes))| {
            meta.at(UNWRITTEN, at as u32, content.len() as u32, 0)
        };
        let state = ViewState {
            last: stream.last,
            appended: stream.appended,
            trimmed_before: stream.trimmed_before,
            removals: stream.removals,
            deleted: stream.deleted.clone(),
            live: blocks.iter().enumerate().map(place).filter(|block| block.last >= stream.trimmed_before).collect(),
            ..ViewState::default()
        };
        let contents = blocks.into_iter().map(|(_, content)| content).collect();
        let ahead = Some(Ahead { durable: Arc::clone(durable), contents });
        let (name, number) = (RwLock::new(stream.name.clone()), durable.number);
        Arc::new(Self { name, number, state: RwLock::new(state), changed: Event::new(), ahead })
    }

    /// The content of a block that is not written yet.
    pub(crate) fn unwritten(&self, block: &BlockRef) -> Option<Bytes> {
        let ahead = self.ahead.as_ref().filter(|_| block.file == UNWRITTEN)?;
        ahead.contents.get(block.offset as usize).cloned()
    }

    /// What the stream is called now.
    pub(crate) fn name(&self) -> StreamName {
        self.name.read().clone()
    }
    pub(super) fn rename(&self, to: StreamName) {
        *self.name.write() = to;
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
        self.state.write().show(block);
        self.wake();
    }

    /// Adds durable blocks and publishes a trim, at once, and wakes readers.
    pub(crate) fn show_trimmed(&self, blocks: &[BlockRef], files: &SealedFiles, before: EntryId) {
        let mut state = self.state.write();
        blocks.iter().for_each(|block| state.show(*block));
        state.trim(files, before);
        drop(state);
        self.wake();
    }

    /// To change several views at once.
    pub(super) fn write(&self) -> RwLockWriteGuard<'_, ViewState> {
        self.state.write()
    }
    /// Wakes everybody who listens.
    pub(super) fn wake(&self) {
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
    pub(super) fn seal(&self, number: FileNumber, span: &FileSpan) -> bool {
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
    pub(super) fn replace(&self, files: &SealedFiles, old: &[FileId], new: &[FileSpan]) {
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

    /// Publishes that the last id is a greater one, without an entry.
    pub(crate) fn reach(&self, last: EntryId) {
        self.state.write().reach(last);
    }

    /// Publishes a trim.
    pub(crate) fn trim(&self, files: &SealedFiles, before: EntryId) {
        self.state.write().trim(files, before);
    }

    /// Publishes single deletes.
    pub(crate) fn delete(&self, entries: impl Iterator<Item = (EntryId, u32)>) {
        self.state.write().delete(entries);
    }

    /// Publishes that the stream is gone: readers see nothing any more, and tails end.
    pub(crate) fn end(&self, files: &SealedFiles) {
        self.state.write().end(files);
        self.wake();
    }

    /// Where the entries at or after an id are; `None` where there are none. A file that is named has some.
    pub(crate) fn place_after(&self, files: &SealedFiles, from: EntryId) -> Option<Place> {
        let s = self.state.read();
        let from = from.max(s.trimmed_before);
        if let Some(place) = self.ahead.as_ref().and_then(|ahead| ahead.durable.place_after(files, from)) {
            return Some(place);
        }
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
        if let Some(ahead) = &self.ahead {
            return ahead.durable.place_before(files, to).filter(|place| place.last() >= s.trimmed_before);
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

impl Place {
    /// The last entry that it may have.
    fn last(&self) -> EntryId {
        match self {
            Self::Blocks(blocks) => blocks.last().map_or(EntryId::ZERO, |block| block.last),
            Self::File(place) => place.last,
        }
    }
}

impl ViewState {
    /// Adds a durable block.
    pub(super) fn show(&mut self, block: BlockRef) {
        self.last = self.last.max(block.last);
        self.appended = block.first_ordinal + u64::from(block.count);
        self.live.push_back(block);
    }

    /// Takes what a commit did to the stream.
    pub(super) fn apply(&mut self, files: &SealedFiles, show: &Show) {
        match show {
            Show::Deleted(_) => self.end(files),
            Show::Reached(_, last) => self.reach(*last),
            Show::Trimmed(_, before) => self.trim(files, *before),
            Show::EntriesDeleted(_, entries) => self.delete(entries.iter().copied()),
            Show::Created(_) | Show::Renamed(..) | Show::FilesReplaced(_) => {}
        }
    }

    fn reach(&mut self, last: EntryId) {
        self.last = self.last.max(last);
    }

    fn trim(&mut self, files: &SealedFiles, before: EntryId) {
        if before <= self.trimmed_before {
            return;
        }
        self.trimmed_before = before;
        self.removals += 1;
        self.deleted.forget_below(before);
        self.spans.drop_below(before, files);
        while self.live.front().is_some_and(|b| b.last < before) {
            self.live.pop_front();
        }
    }

    fn delete(&mut self, entries: impl Iterator<Item = (EntryId, u32)>) {
        for (id, bytes) in entries {
            if id >= self.trimmed_before {
                self.deleted.insert(id, bytes);
            }
        }
        self.removals += 1;
    }

    fn end(&mut self, files: &SealedFiles) {
        self.spans.clear(files);
        *self = Self { gone: true, ..Self::default() };
    }

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
