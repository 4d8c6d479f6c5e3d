//! What readers see of a stream: only what is durable, published by the log thread after each commit.
//!
//! A [`StreamView`] holds references to blocks, never entries. Readers take a short read lock to copy references;
//! the log thread takes the write lock to add. Invariant **E1**: nothing stands in a view before its commit is
//! durable at its durability.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use event_listener::{Event, EventListener};
use parking_lot::RwLock;

use crate::format::block::{BlockRef, FileSpan};
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
    /// One for each sealed file that holds entries of this stream, in id order; then the blocks of the live segment.
    spans: Vec<FileSpan>,
    live: VecDeque<BlockRef>,
}

/// Where the entries of a stretch of a stream are.
pub(crate) enum Place {
    /// These blocks, in id order.
    Blocks(Vec<BlockRef>),
    /// A sealed file, whose index names the blocks.
    File(FileSpan),
}

/// What a view says in a few numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) last: EntryId,
    pub(crate) appended: u64,
    pub(crate) trimmed_before: EntryId,
    pub(crate) removals: u64,
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

    /// Replaces the blocks of a segment, now sealed, by one span.
    pub(crate) fn seal(&self, span: FileSpan) {
        let mut s = self.state.write();
        s.live.retain(|b| b.file != span.file);
        if span.last >= s.trimmed_before {
            s.spans.push(span);
        }
        s.last = s.last.max(span.last);
        s.appended = s.appended.max(span.first_ordinal + span.count);
    }

    /// Publishes a trim.
    pub(crate) fn trim(&self, before: EntryId) {
        let mut s = self.state.write();
        if before <= s.trimmed_before {
            return;
        }
        s.trimmed_before = before;
        s.removals += 1;
        s.deleted.forget_below(before);
        s.spans.retain(|span| span.last >= before);
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
    pub(crate) fn end(&self) {
        *self.state.write() = ViewState { gone: true, ..ViewState::default() };
        self.changed.notify(usize::MAX);
    }

    /// Where the entries at or after an id are; `None` where there are none.
    pub(crate) fn place_after(&self, from: EntryId) -> Option<Place> {
        let s = self.state.read();
        let from = from.max(s.trimmed_before);
        let span = s.spans.partition_point(|span| span.last < from);
        if let Some(span) = s.spans.get(span) {
            return Some(Place::File(*span));
        }
        let at = s.live.partition_point(|b| b.last < from);
        let blocks: Vec<BlockRef> = s.live.range(at..).take(BLOCKS_PER_STEP).copied().collect();
        (!blocks.is_empty()).then_some(Place::Blocks(blocks))
    }

    /// Where the entries at or before an id are; `None` where there are none. Blocks are in id order all the same.
    pub(crate) fn place_before(&self, to: EntryId) -> Option<Place> {
        let s = self.state.read();
        let end = s.live.partition_point(|b| b.first <= to);
        let start = end.saturating_sub(BLOCKS_PER_STEP);
        let blocks: Vec<BlockRef> = s.live.range(start..end).filter(|b| b.last >= s.trimmed_before).copied().collect();
        if !blocks.is_empty() {
            return Some(Place::Blocks(blocks));
        }
        let span = s.spans.partition_point(|span| span.first <= to).checked_sub(1)?;
        Some(Place::File(s.spans[span]))
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

    /// How many entries of a range were deleted singly, and their bytes.
    pub(crate) fn deleted_in(&self, range: IdRange) -> (u64, u64) {
        self.state.read().deleted.measure(range)
    }
}

/// The streams that exist, durably, by name.
#[derive(Debug, Default)]
pub(crate) struct Catalogue(RwLock<Streams>);

#[derive(Debug, Default)]
struct Streams {
    by_name: BTreeMap<StreamName, Arc<StreamView>>,
    by_number: HashMap<StreamNumber, Arc<StreamView>>,
}

impl Catalogue {
    pub(crate) fn get(&self, name: &StreamName) -> Option<Arc<StreamView>> {
        self.0.read().by_name.get(name).cloned()
    }
    pub(crate) fn by_number(&self, number: StreamNumber) -> Option<Arc<StreamView>> {
        self.0.read().by_number.get(&number).cloned()
    }
    pub(crate) fn insert(&self, view: Arc<StreamView>) {
        let mut streams = self.0.write();
        streams.by_number.insert(view.number, Arc::clone(&view));
        streams.by_name.insert(view.name.clone(), view);
    }
    /// Removes this very stream, not another of its name.
    pub(crate) fn remove(&self, view: &StreamView) {
        let mut streams = self.0.write();
        streams.by_number.remove(&view.number);
        if streams.by_name.get(&view.name).is_some_and(|v| v.number == view.number) {
            streams.by_name.remove(&view.name);
        }
    }
    /// Names in order, after a name, with a prefix.
    pub(crate) fn names(&self, prefix: &str, after: Option<&StreamName>, max: usize) -> Vec<StreamName> {
        let streams = self.0.read();
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
        self.0.read().by_name.len()
    }
}
