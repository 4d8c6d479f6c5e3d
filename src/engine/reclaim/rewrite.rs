//! Writing what is live of some files into one, stream by stream. Large blocks that are wholly live are copied as they
//! are; small ones are put together, and where an entry no longer exists, a gap keeps the ordinals of those after it.

use bytes::Bytes;

use super::Reclaimer;
use crate::engine::view::Removed;
use crate::error::{Error, Result};
use crate::faults::Fault;
use crate::format::block::{AppendTime, BlockBuilder, BlockEntry, BlockMeta, BlockRef, FileSpan};
use crate::format::event::stored_as;
use crate::format::record::RewrittenFile;
use crate::limits::BLOCK_BYTES_TARGET;
use crate::storage::{FileRewriter, SealedSegment};
use crate::types::{EntryId, IdRange, StreamNumber};

/// Bytes of entries, those that are gone included, that one block stands for at most.
const BLOCK_BYTES_MAX: u64 = 1 << 30;
/// Attempts with ever more room, where it was told too small.
const ATTEMPTS: u32 = 4;

impl Reclaimer {
    /// Writes what is live of these spans, which are in the order of streams and ids; `None` where nothing is.
    pub(super) fn rewrite(
        &self,
        stands_for: RewrittenFile,
        bytes: u64,
        spans: &[FileSpan],
    ) -> Result<Option<SealedSegment>> {
        let salt = xxhash_rust::xxh3::xxh3_64_with_seed(&stands_for.number.to_le_bytes(), self.seed);
        let mut room = bytes + bytes / 4 + (64 << 10);
        for _ in 0..ATTEMPTS {
            let (files, now) = (std::sync::Arc::clone(&self.files), self.shared.clock.now());
            let file = FileRewriter::begin(files, self.store, stands_for, room, salt, now)?;
            let mut out = Output { file, is_empty: true, is_full: false };
            for of_stream in spans.chunk_by(|a, b| a.stream == b.stream) {
                self.rewrite_stream(&mut out, of_stream)?;
                if out.is_full {
                    break;
                }
            }
            if !out.is_full {
                return if out.is_empty { Ok(None) } else { out.file.finish().map(Some) };
            }
            room *= 2;
        }
        Err(Error::internal("what is live of some files is more than could be told"))
    }

    fn rewrite_stream(&self, out: &mut Output, spans: &[FileSpan]) -> Result<()> {
        let (Some(first), Some(last)) = (spans.first(), spans.last()) else { return Ok(()) };
        let Some(view) = self.shared.catalogue.by_number(first.stream) else { return Ok(()) };
        let mut removed = view.removed_in(IdRange { first: first.first, last: last.last });
        if self.shared.options.faults.has(Fault::KeepDeletedAtReclaim) {
            removed.deleted.clear();
        }
        if removed.gone {
            return Ok(());
        }
        let mut merger = Merger::new(first.stream, &removed, out);
        for span in spans.iter().filter(|span| span.last >= removed.trimmed_before) {
            for block in self.log.load_index(span.file, span.stream, span.last)? {
                if block.last >= removed.trimmed_before {
                    self.rewrite_block(&mut merger, &block)?;
                }
            }
        }
        merger.flush()
    }

    fn rewrite_block(&self, merger: &mut Merger<'_>, block: &BlockRef) -> Result<()> {
        let began_ms = self.shared.clock.now().engine_ms;
        let whole = block.first >= merger.removed.trimmed_before && merger.deleted(block).is_empty();
        if whole && block.length as usize >= BLOCK_BYTES_TARGET / 2 {
            merger.flush()?;
            merger.out.add((block.meta(), self.log.read_block(block)?))?;
        } else {
            let entries = self.log.view_block(block)?.entries();
            merger.take(block, entries)?;
        }
        if self.paced && !self.shared.is_full() {
            let took_ms = self.shared.clock.now().engine_ms.saturating_sub(began_ms);
            std::thread::sleep(std::time::Duration::from_millis(took_ms));
        }
        Ok(())
    }
}

/// The file that is being written.
struct Output {
    file: FileRewriter,
    is_empty: bool,
    is_full: bool,
}

impl Output {
    fn add(&mut self, block: (BlockMeta, Bytes)) -> Result<()> {
        self.is_full |= !self.file.fits(block.1.len(), usize::from(block.0.types));
        if self.is_full {
            return Ok(());
        }
        self.is_empty = false;
        self.file.add(block)
    }
}

/// Puts blocks of one stream together.
struct Merger<'a> {
    stream: StreamNumber,
    removed: &'a Removed,
    out: &'a mut Output,
    /// The block that is being filled, and the ordinal after what it has.
    open: Option<(BlockBuilder, u64)>,
    /// Entries that are gone, after what the block has.
    gap: Option<Gap>,
    /// Bytes that the block stands for, the gap included.
    bytes: u64,
}

#[derive(Clone, Copy)]
struct Gap {
    first: EntryId,
    last: EntryId,
    count: u32,
    bytes: u32,
}

/// One of the entries that a block stands for.
enum Item {
    Live(BlockEntry),
    Gone(EntryId, u32),
}

impl<'a> Merger<'a> {
    fn new(stream: StreamNumber, removed: &'a Removed, out: &'a mut Output) -> Self {
        Self { stream, removed, out, open: None, gap: None, bytes: 0 }
    }

    /// What was deleted of a block.
    fn deleted(&self, block: &BlockRef) -> &'a [(EntryId, u32)] {
        let deleted = &self.removed.deleted;
        let start = deleted.partition_point(|(id, _)| *id < block.first);
        let end = deleted.partition_point(|(id, _)| *id <= block.last);
        &deleted[start..end]
    }

    /// Takes what exists of a block, and gaps for what was deleted of it.
    fn take(&mut self, block: &BlockRef, entries: impl Iterator<Item = BlockEntry>) -> Result<()> {
        let items = self.items(block, entries);
        let end = block.first_ordinal + u64::from(block.count);
        let first = end.checked_sub(items.len() as u64);
        let wrong = || block.corrupt("the entries are not as many as its description says");
        for (item, ordinal) in items.into_iter().zip(first.ok_or_else(wrong)?..) {
            if let Item::Live(entry) = &item
                && entry.ordinal != ordinal
            {
                return Err(wrong());
            }
            self.push(item, ordinal, block.time)?;
        }
        Ok(())
    }

    /// The entries from the trim point on, in order, whether they are still in the block or only known to have been.
    fn items(&self, block: &BlockRef, entries: impl Iterator<Item = BlockEntry>) -> Vec<Item> {
        let mut deleted = self.deleted(block).iter().peekable();
        let mut items = Vec::new();
        for entry in entries.filter(|entry| entry.id >= self.removed.trimmed_before) {
            while let Some((id, bytes)) = deleted.next_if(|(id, _)| *id < entry.id) {
                items.push(Item::Gone(*id, *bytes));
            }
            match deleted.next_if(|(id, _)| *id == entry.id) {
                Some((id, bytes)) => items.push(Item::Gone(*id, *bytes)),
                None => items.push(Item::Live(entry)),
            }
        }
        items.extend(deleted.map(|(id, bytes)| Item::Gone(*id, *bytes)));
        items
    }

    fn push(&mut self, item: Item, ordinal: u64, time: AppendTime) -> Result<()> {
        let bytes = match &item {
            Item::Live(entry) => entry.bytes.len() as u64,
            Item::Gone(_, bytes) => u64::from(*bytes),
        };
        let full = self.open.as_ref().is_some_and(|(builder, next)| builder.is_full() || *next != ordinal);
        if full || self.bytes + bytes > BLOCK_BYTES_MAX {
            self.flush()?;
        }
        self.bytes += bytes;
        let stream = self.stream;
        let (_, next) = self.open.get_or_insert_with(|| (BlockBuilder::new(stream, ordinal, time), ordinal));
        *next += 1;
        match item {
            Item::Gone(id, bytes) => {
                let gap = self.gap.get_or_insert(Gap { first: id, last: id, count: 0, bytes: 0 });
                *gap = Gap { last: id, count: gap.count + 1, bytes: gap.bytes + bytes, ..*gap };
            }
            Item::Live(entry) => {
                self.close_gap();
                let Some((builder, _)) = &mut self.open else { return Ok(()) };
                let stored = stored_as(entry.kind, entry.bytes);
                builder.appended_at(entry.time);
                builder.push(entry.id, entry.kind, entry.node_start, stored.type_hash, &stored.bytes);
            }
        }
        Ok(())
    }

    fn close_gap(&mut self) {
        if let (Some((builder, _)), Some(gap)) = (&mut self.open, self.gap.take()) {
            builder.skip_gone(gap.first, gap.last, gap.count, gap.bytes);
        }
    }

    /// Writes the block that is being filled, where it has anything.
    fn flush(&mut self) -> Result<()> {
        self.close_gap();
        self.bytes = 0;
        match self.open.take() {
            Some((builder, _)) if !builder.is_empty() => self.out.add(builder.finish()),
            _ => Ok(()),
        }
    }
}
