//! Reads: pages, candidates for groups, heads of streams for trims. From the cache where possible, else from the log files.
//!
//! Every function walks the view's blocks in id order and filters by the view as it stands after the blocks were
//! read, so that what is trimmed or deleted is never returned. Blocks read from disk are verified by their checksum.

mod head;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::api::Page;
use super::cache::BlockCache;
use super::sealed::SealedFiles;
use super::view::{FilePlace, Place, StreamView};
use crate::error::{Reason, Result};
use crate::format::block::{AppendTime, BlockEntry, BlockRef, BlockView, FileId};
use crate::format::event::EventView;
use crate::group::Candidate;
use crate::storage::LogReader;
use crate::types::{EntryId, EntryKind, IdRange, StoredEntry, StreamNumber};

/// Whether a read may go to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    /// It may.
    Allowed,
    /// It answers `None` rather than wait for the disk.
    Avoided,
}

/// One stream's part of one file's index.
type IndexKey = (FileId, StreamNumber);

/// Blocks named by index parts that are kept in memory, at most, beside the part read last: about 16 MiB.
const INDEX_BLOCKS_MAX: usize = 200_000;

/// Blocks of an index part that a walk takes at a time.
const BLOCKS_PER_STEP: usize = 64;

/// Reads for everyone; cheap to share.
pub(crate) struct Reader {
    log: LogReader,
    cache: Arc<BlockCache>,
    files: Arc<SealedFiles>,
    indexes: Mutex<Indexes>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// Index parts that were read last.
#[derive(Default)]
struct Indexes {
    parts: HashMap<IndexKey, Arc<Vec<BlockRef>>>,
    order: VecDeque<IndexKey>,
    blocks: usize,
}

impl Indexes {
    fn insert(&mut self, key: IndexKey, part: &Arc<Vec<BlockRef>>) {
        if self.parts.insert(key, Arc::clone(part)).is_some() {
            return;
        }
        self.order.push_back(key);
        self.blocks += part.len();
        while self.blocks > INDEX_BLOCKS_MAX && self.order.len() > 1 {
            let oldest = self.order.pop_front().and_then(|oldest| self.parts.remove(&oldest));
            self.blocks -= oldest.map_or(0, |part| part.len());
        }
    }
}

impl Reader {
    pub(crate) fn new(log: LogReader, cache: Arc<BlockCache>, files: Arc<SealedFiles>) -> Self {
        Self { log, cache, files, indexes: Mutex::default(), hits: AtomicU64::new(0), misses: AtomicU64::new(0) }
    }

    /// Blocks found in memory, and blocks read from disk.
    pub(crate) fn cache_counts(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }

    /// A page of the range, in either direction, up to damage where there is some: the next page begins there, and
    /// fails. `None`: it needs the disk, which is to be avoided.
    pub(crate) fn page(
        &self,
        view: &StreamView,
        range: IdRange,
        reverse: bool,
        entries_max: usize,
        bytes_max: usize,
        disk: Disk,
    ) -> Result<Option<Page>> {
        self.steadily(|| {
            let mut page = Page::default();
            let mut bytes = 0;
            let mut cursor = self.cursor(view, range, reverse, disk);
            loop {
                let batch = match (cursor.next_block(), page.entries.last()) {
                    (Err(error), Some(last)) if error.reason() == Reason::Corrupt => {
                        page.next = if reverse { last.id.prev() } else { last.id.next() };
                        return Ok(Some(page));
                    }
                    (batch, _) => batch?,
                };
                let Some(batch) = batch else { return Ok(None) };
                if batch.is_empty() {
                    return Ok(Some(page));
                }
                for entry in batch {
                    let full = page.entries.len() >= entries_max
                        || (!page.entries.is_empty() && bytes + entry.bytes.len() > bytes_max);
                    if full {
                        page.next = Some(entry.id);
                        return Ok(Some(page));
                    }
                    bytes += entry.bytes.len();
                    page.ordinals = Some((page.ordinals.map_or(entry.ordinal, |(first, _)| first), entry.ordinal));
                    page.entries.push(entry.into());
                }
            }
        })
    }

    /// The first entry of the range that can be read: damaged blocks are stepped over.
    pub(crate) fn first(&self, view: &StreamView, range: IdRange, disk: Disk) -> Result<Option<Option<StoredEntry>>> {
        self.steadily(|| {
            let mut cursor = self.cursor(view, range, false, disk);
            loop {
                let before = cursor.rest;
                match cursor.next_block() {
                    Err(error) if error.reason() == Reason::Corrupt && cursor.rest != before => {}
                    batch => return Ok(batch?.map(|entries| entries.into_iter().next().map(Into::into))),
                }
            }
        })
    }

    /// Entries after an id as candidates of a group, up to damage where there is some, with how far was looked.
    pub(crate) fn candidates(
        &self,
        view: &StreamView,
        after: EntryId,
        max: usize,
        with_keys: bool,
        disk: Disk,
    ) -> Result<Option<(Vec<Candidate>, EntryId)>> {
        self.steadily(|| {
            let Some(first) = after.next() else { return Ok(Some((Vec::new(), after))) };
            let last = view.extent().last;
            let mut out = Vec::new();
            if first > last {
                return Ok(Some((out, after)));
            }
            let mut cursor = self.cursor(view, IdRange { first, last }, false, disk);
            while out.len() < max {
                let batch = match cursor.next_block() {
                    Err(error) if error.reason() == Reason::Corrupt && !out.is_empty() => break,
                    batch => batch?,
                };
                let Some(batch) = batch else { return Ok(None) };
                if batch.is_empty() {
                    return Ok(Some((out, last)));
                }
                out.extend(batch.iter().map(|e| candidate(e, with_keys)));
            }
            let looked_to = out.last().map_or(last, |c: &Candidate| c.id);
            Ok(Some((out, looked_to)))
        })
    }

    /// These entries, in the order of the ids (which rise); what no longer exists is left out.
    pub(crate) fn entries(&self, view: &StreamView, ids: &[EntryId], disk: Disk) -> Result<Option<Vec<StoredEntry>>> {
        self.steadily(|| {
            let mut out: Vec<StoredEntry> = Vec::with_capacity(ids.len());
            let mut rest = ids;
            let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return Ok(Some(out)) };
            let mut cursor = self.cursor(view, IdRange { first: *first, last: *last }, false, disk);
            while let Some(first) = rest.first() {
                cursor.seek(IdRange { first: *first, last: *last });
                let Some(batch) = cursor.next_block()? else { return Ok(None) };
                let Some(end) = batch.last().map(|e| e.id) else { break };
                let wanted = rest.partition_point(|id| *id <= end);
                pick(&batch, &rest[..wanted], &mut out);
                rest = &rest[wanted..];
            }
            Ok(Some(out))
        })
    }

    /// Entries ever appended up to and with this id.
    pub(crate) fn ordinal_after(&self, view: &StreamView, id: EntryId) -> Result<u64> {
        let Some(bound) = id.next() else { return Ok(view.extent().appended) };
        self.steadily(|| self.ordinal_of(view, bound))
    }

    /// Entries ever appended below this id. Of what stands between the id and the first entry that is found at or above
    /// it, everything is gone, and so among the deleted.
    fn ordinal_of(&self, view: &StreamView, bound: EntryId) -> Result<u64> {
        let extent = view.extent();
        let less_gone = |ordinal: u64, before: Option<EntryId>| {
            let range = before.filter(|last| *last >= bound).map(|last| IdRange { first: bound, last });
            ordinal - range.map_or(0, |range| view.deleted_in(range).0)
        };
        let nothing = || less_gone(extent.appended, Some(EntryId::MAX));
        let Some(place) = view.place_after(&self.files, bound) else { return Ok(nothing()) };
        let blocks = self.blocks_of(view, place)?;
        let Some(block) = blocks.iter().find(|b| b.last >= bound) else { return Ok(nothing()) };
        if block.first >= bound {
            return Ok(less_gone(block.first_ordinal, block.first.prev()));
        }
        let entry = self.view_of(view, block, Disk::Allowed)?.and_then(|v| v.entries_from(bound).next());
        let end = block.first_ordinal + u64::from(block.count);
        Ok(entry.map_or_else(|| less_gone(end, Some(block.last)), |e| less_gone(e.ordinal, e.id.prev())))
    }

    /// Reads, and reads again where it failed because files were replaced meanwhile.
    fn steadily<T>(&self, read: impl Fn() -> Result<T>) -> Result<T> {
        loop {
            let replaced = self.files.replaced();
            match read() {
                Err(_) if self.files.replaced() != replaced => {}
                done => return done,
            }
        }
    }

    /// The first existing entry whose time of append is not old, `MAX` where there is none; `None` where no entry is before
    /// it. What stands behind an entry that is not old is not looked at: times rise, but for a clock that was set back.
    pub(crate) fn bound_younger(
        &self,
        view: &StreamView,
        is_old: &dyn Fn(AppendTime) -> bool,
    ) -> Result<Option<EntryId>> {
        self.steadily(|| {
            let begin = view.extent().trimmed_before;
            let (mut from, mut old) = (Some(begin), false);
            while let Some(place) = from.and_then(|from| view.place_after(&self.files, from)) {
                let blocks = self.blocks_of(view, place)?;
                for block in blocks.iter().filter(|b| Some(b.last) >= from) {
                    if let Some(young) = self.first_young(view, block, is_old)? {
                        return Ok((old || young > block.first.max(begin)).then_some(young));
                    }
                    old = true;
                }
                from = blocks.last().and_then(|b| b.last.next());
            }
            Ok(old.then_some(EntryId::MAX))
        })
    }

    /// The first existing entry of a block that is not old. The block is read only where its time is not that of every
    /// entry, or what is young of it may be gone.
    fn first_young(
        &self,
        view: &StreamView,
        block: &BlockRef,
        is_old: &dyn Fn(AppendTime) -> bool,
    ) -> Result<Option<EntryId>> {
        let BlockRef { first, last, time, several_times, .. } = *block;
        if !several_times && is_old(time) {
            return Ok(None);
        }
        let is_whole = first >= view.extent().trimmed_before && view.deleted_in(IdRange { first, last }).0 == 0;
        if !several_times && is_whole {
            return Ok(Some(first));
        }
        let entries = self.view_of(view, block, Disk::Allowed)?.into_iter().flat_map(|v| v.entries());
        let mut young: Vec<BlockEntry> = entries.filter(|e| !is_old(e.time)).collect();
        view.retain_existing(&mut young, |e| e.id);
        Ok(young.first().map(|e| e.id))
    }

    /// A walk over the existing entries of a range, a block at a time.
    fn cursor<'a>(&'a self, view: &'a StreamView, range: IdRange, reverse: bool, disk: Disk) -> Cursor<'a> {
        Cursor { reader: self, view, rest: Some(range), reverse, disk, blocks: Vec::new() }
    }

    /// All blocks of a place.
    fn blocks_of(&self, view: &StreamView, place: Place) -> Result<Arc<Vec<BlockRef>>> {
        match place {
            Place::Blocks(blocks) => Ok(Arc::new(blocks)),
            Place::File(place) => self.index(view, &place),
        }
    }

    fn known_index(&self, view: &StreamView, place: &FilePlace) -> Option<Arc<Vec<BlockRef>>> {
        self.indexes.lock().parts.get(&(place.file, view.number)).cloned()
    }

    fn index(&self, view: &StreamView, place: &FilePlace) -> Result<Arc<Vec<BlockRef>>> {
        if let Some(blocks) = self.known_index(view, place) {
            return Ok(blocks);
        }
        let blocks = Arc::new(self.log.load_index(place.file, view.number, place.last)?);
        self.indexes.lock().insert((place.file, view.number), &blocks);
        Ok(blocks)
    }

    fn view_of(&self, view: &StreamView, block: &BlockRef, disk: Disk) -> Result<Option<BlockView>> {
        let content: Bytes = match view.unwritten(block).or_else(|| self.cache.get(block)) {
            Some(content) => {
                self.hits.fetch_add(1, Ordering::Relaxed);
                content
            }
            None if disk == Disk::Avoided => return Ok(None),
            None => {
                self.misses.fetch_add(1, Ordering::Relaxed);
                let content = self.log.read_block(block)?;
                self.cache.insert(block, content.clone());
                content
            }
        };
        BlockView::new(content, block).map(Some)
    }
}

/// Walks the existing entries of a range.
struct Cursor<'a> {
    reader: &'a Reader,
    view: &'a StreamView,
    rest: Option<IdRange>,
    reverse: bool,
    disk: Disk,
    /// Blocks still to be read, in the order of the walk, last first.
    blocks: Vec<BlockRef>,
}

impl Cursor<'_> {
    /// The existing entries of the next block that has any, in the order of the walk; empty at the end; `None` where
    /// the disk would be needed and is to be avoided. After an error over a block the walk goes on behind it.
    fn next_block(&mut self) -> Result<Option<Vec<BlockEntry>>> {
        while let Some(range) = self.rest {
            let Some(block) = self.next_ref(range)? else {
                if self.rest.is_none() {
                    break;
                }
                return Ok(None);
            };
            self.advance(range, &block);
            let Some(view) = self.reader.view_of(self.view, &block, self.disk)? else { return Ok(None) };
            let entries = if block.first < range.first { view.entries_from(range.first) } else { view.entries() };
            let mut entries: Vec<BlockEntry> = entries.take_while(|e| e.id <= range.last).collect();
            self.view.retain_existing(&mut entries, |e| e.id);
            if !entries.is_empty() {
                if self.reverse {
                    entries.reverse();
                }
                return Ok(Some(entries));
            }
        }
        Ok(Some(Vec::new()))
    }

    /// Goes on, forward, with another range; blocks that were already found are kept.
    fn seek(&mut self, range: IdRange) {
        self.rest = Some(range);
        while self.blocks.pop_if(|b| b.last < range.first).is_some() {}
    }

    /// Leaves behind what this block covers of the range.
    fn advance(&mut self, range: IdRange, block: &BlockRef) {
        let rest = if self.reverse {
            block.first.prev().map(|last| IdRange { first: range.first, last })
        } else {
            block.last.next().map(|first| IdRange { first, last: range.last })
        };
        self.rest = rest.filter(|r| r.first <= r.last);
    }

    /// The next block that touches the range. `None` with `rest` unset: there is none.
    fn next_ref(&mut self, range: IdRange) -> Result<Option<BlockRef>> {
        let mut to = range.last;
        while self.blocks.is_empty() {
            let (view, files) = (self.view, &self.reader.files);
            let place = if self.reverse { view.place_before(files, to) } else { view.place_after(files, range.first) };
            let (blocks, before) = match place {
                None => break,
                Some(Place::Blocks(blocks)) => (Arc::new(blocks), None),
                Some(Place::File(place)) if self.disk == Disk::Avoided => {
                    let Some(known) = self.reader.known_index(view, &place) else { return Ok(None) };
                    (known, place.before)
                }
                Some(Place::File(place)) => (self.reader.index(view, &place)?, place.before),
            };
            self.take(&blocks, range);
            // In reverse, a file may have nothing that low, and the one before it has; otherwise there is nothing more.
            match before.filter(|before| self.reverse && *before >= range.first) {
                Some(before) => to = before,
                None => break,
            }
        }
        let next = self.blocks.pop();
        if next.is_none() {
            self.rest = None;
        }
        Ok(next)
    }

    /// Takes those blocks of a list that touch the range and come next.
    fn take(&mut self, blocks: &[BlockRef], range: IdRange) {
        let start = blocks.partition_point(|b| b.last < range.first);
        let end = blocks.partition_point(|b| b.first <= range.last).max(start);
        if self.reverse {
            self.blocks.extend_from_slice(&blocks[start.max(end.saturating_sub(BLOCKS_PER_STEP))..end]);
        } else {
            self.blocks.extend(blocks[start..end.min(start + BLOCKS_PER_STEP)].iter().rev());
        }
    }
}

fn pick(batch: &[BlockEntry], ids: &[EntryId], out: &mut Vec<StoredEntry>) {
    let mut entries = batch.iter().peekable();
    for id in ids {
        while entries.next_if(|e| e.id < *id).is_some() {}
        if let Some(entry) = entries.next_if(|e| e.id == *id) {
            out.push(entry.clone().into());
        }
    }
}

/// Hash of an entry's key; zero for none.
pub(crate) fn candidate_key(kind: EntryKind, bytes: &[u8]) -> u64 {
    match kind {
        EntryKind::Event => EventView::parse(bytes).ok().and_then(|e| e.key_hash()).unwrap_or(0),
        EntryKind::Fields => 0,
    }
}

/// What a group needs to know of an entry before it delivers it.
pub(crate) fn candidate(entry: &BlockEntry, with_key: bool) -> Candidate {
    let key = if with_key { candidate_key(entry.kind, &entry.bytes) } else { 0 };
    Candidate { id: entry.id, ordinal: entry.ordinal, size: entry.bytes.len() as u32, key }
}
