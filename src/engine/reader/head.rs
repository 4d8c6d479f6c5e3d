//! What the core has to know of a stream's oldest entries before it trims them.
//!
//! Entries far below where the trim comes to are told of by block and file, from their descriptions alone; those around
//! it one by one. Single deletes are left for the core to take off: it knows of those that no view shows yet.

use super::{Cursor, Disk, Reader};
use crate::engine::view::{Place, StreamView};
use crate::error::{Reason, Result};
use crate::format::block::{BlockRef, FileSpan};
use crate::stream::{Detail, Found, Piece, Wanted};
use crate::types::{EntryId, IdRange};

/// Entries of blocks that are told of as one.
const TOGETHER_MAX: u32 = 8192;

impl Reader {
    /// The head of a stream from an id on, up to damage that hides which entries come next.
    pub(crate) fn head(&self, view: &StreamView, wanted: &Wanted) -> Result<Found> {
        self.steadily(|| {
            let extent = view.extent();
            let from = wanted.from.max(extent.trimmed_before);
            let fine = if wanted.detail == Detail::Entry { from } else { self.fine_from(view, wanted)? };
            let found = Found { from: wanted.from, to: from, ..Found::default() };
            let mut look = Look { reader: self, view, fine, last: extent.last, found };
            match look.all(from, wanted) {
                Err(error) if error.reason() == Reason::Corrupt => {
                    tracing::warn!(stream = %view.name(), %error, "a stream keeps more than it is to because of damage");
                    look.found.blocked = true;
                }
                done => done?,
            }
            Ok(look.found)
        })
    }

    /// The id from which on entries have to be told of one by one: the trim comes to one of them.
    fn fine_from(&self, view: &StreamView, wanted: &Wanted) -> Result<EntryId> {
        let keep = &wanted.rule.keep;
        let beyond = view.extent().last.next().unwrap_or(EntryId::MAX);
        let mut bound = keep.from.min(beyond);
        if (keep.entries, keep.bytes) != (u64::MAX, u64::MAX) {
            bound = bound.max(self.block_keeping(view, keep.entries, keep.bytes)?);
        }
        let Some(dropped_max) = wanted.rule.nodes else { return Ok(bound) };
        if dropped_max < wanted.length {
            bound = bound.min(self.block_keeping(view, wanted.length - dropped_max, u64::MAX)?);
        }
        match self.node_at(view, bound) {
            Err(error) if error.reason() == Reason::Corrupt => Ok(bound),
            found => found,
        }
    }

    /// The first id of the block in which it falls how much is kept; the trim point where everything fits.
    fn block_keeping(&self, view: &StreamView, entries_max: u64, bytes_max: u64) -> Result<EntryId> {
        let trimmed = view.extent().trimmed_before;
        let mut budget = Budget { entries: entries_max, bytes: bytes_max };
        let mut to = Some(EntryId::MAX);
        while let Some(last) = to {
            let Some(place) = view.place_before(&self.files, last) else { break };
            let mut before = None;
            if let Place::File(place) = &place {
                if place.last < trimmed {
                    break;
                }
                let span = self.log.load_span(place.file, view.number, place.last)?;
                let whole = span.first >= trimmed && span.last <= last;
                if span.first > last || whole && budget.takes(view, (span.first, span.last), span.count, span.bytes) {
                    to = place.before;
                    continue;
                }
                before = Some(place.before);
            }
            let blocks = self.blocks_of(view, place)?;
            to = None;
            for block in blocks.iter().rev().filter(|b| b.first <= last && b.last >= trimmed) {
                let (count, bytes) = (u64::from(block.count), u64::from(block.bytes));
                if !budget.takes(view, (block.first, block.last), count, bytes) {
                    return Ok(block.first.max(trimmed));
                }
                to = block.first.prev();
            }
            to = before.unwrap_or(to);
        }
        Ok(trimmed)
    }

    /// Where the logical node begins that the first entry at or above this id is in; the id itself where there is none.
    /// Entries that are gone mark no beginnings: a node counts to the one before it where its first entry is gone.
    fn node_at(&self, view: &StreamView, id: EntryId) -> Result<EntryId> {
        let above = IdRange { first: id, last: EntryId::MAX };
        let next = |cursor: &mut Cursor<'_>| cursor.next_block().map(Option::unwrap_or_default);
        let first = next(&mut self.cursor(view, above, false, Disk::Allowed))?.into_iter().next();
        if let Some(first) = first.as_ref().filter(|first| first.node_start) {
            return Ok(first.id);
        }
        let last = first.map_or(view.extent().last, |first| first.id.prev().unwrap_or_default());
        let trimmed = view.extent().trimmed_before;
        let mut below = self.cursor(view, IdRange { first: trimmed, last: last.max(trimmed) }, true, Disk::Allowed);
        loop {
            let entries = next(&mut below)?;
            if let Some(start) = entries.iter().find(|entry| entry.node_start) {
                return Ok(start.id);
            }
            if entries.is_empty() {
                return Ok(trimmed);
            }
        }
    }
}

/// A walk from the head of a stream on.
struct Look<'a> {
    reader: &'a Reader,
    view: &'a StreamView,
    /// From here on entries are told of one by one.
    fine: EntryId,
    last: EntryId,
    found: Found,
}

impl Look<'_> {
    fn all(&mut self, from: EntryId, wanted: &Wanted) -> Result<()> {
        let mut at = Some(from);
        while let Some(from) = at.filter(|from| *from <= self.last) {
            self.found.to = from;
            if self.found.pieces.len() >= wanted.pieces {
                return Ok(());
            }
            let Some(place) = self.view.place_after(&self.reader.files, from) else { break };
            at = self.place(place, from, wanted)?;
        }
        // What is appended from now on comes after this.
        self.found.to = self.found.to.max(self.last.next().unwrap_or(EntryId::MAX));
        Ok(())
    }

    /// Takes what is at a place; answers where to go on.
    fn place(&mut self, place: Place, from: EntryId, wanted: &Wanted) -> Result<Option<EntryId>> {
        if let Place::File(place) = &place
            && wanted.detail == Detail::File
            && place.last < self.fine
        {
            let span = self.reader.log.load_span(place.file, self.view.number, place.last)?;
            if span.first >= from {
                self.found.pieces.push(whole_file(&span));
                return Ok(span.last.next());
            }
        }
        let blocks = self.reader.blocks_of(self.view, place)?;
        let mut next = None;
        for block in blocks.iter().filter(|block| block.last >= from) {
            if block.first > self.last || self.found.pieces.len() >= wanted.pieces {
                return Ok(Some(block.first));
            }
            self.block(block, from)?;
            next = block.last.next();
        }
        Ok(next)
    }

    fn block(&mut self, block: &BlockRef, from: EntryId) -> Result<()> {
        if block.first >= from && block.last < self.fine {
            self.push_block(block);
            return Ok(());
        }
        match self.reader.view_of(self.view, block, Disk::Allowed) {
            Ok(view) => {
                let entries = view.into_iter().flat_map(|view| view.entries_from(from));
                let entries = entries.map(|e| Piece::entry(e.id, e.ordinal, e.bytes.len() as u32, e.node_start));
                self.found.pieces.extend(entries);
                Ok(())
            }
            Err(error) if error.reason() == Reason::Corrupt => {
                self.found.pieces.push(Piece { damaged: true, ..whole_block(block) });
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Adds a whole block, to the piece before it where no ordinal is between them.
    fn push_block(&mut self, block: &BlockRef) {
        let piece = whole_block(block);
        if let Some(last) = self.found.pieces.last_mut()
            && last.detail == Detail::Blocks
            && !last.damaged
            && last.count + piece.count <= TOGETHER_MAX
            && last.ordinal + u64::from(last.count) == piece.ordinal
        {
            (last.last, last.count) = (piece.last, last.count + piece.count);
            last.bytes = last.bytes.saturating_add(piece.bytes);
            return;
        }
        self.found.pieces.push(piece);
    }
}

fn whole_block(block: &BlockRef) -> Piece {
    Piece {
        first: block.first,
        last: block.last,
        ordinal: block.first_ordinal,
        count: block.count,
        bytes: block.bytes,
        detail: Detail::Blocks,
        damaged: false,
        node_start: false,
    }
}

fn whole_file(span: &FileSpan) -> Piece {
    // A file is far below 4 GiB, and an entry takes more than a byte.
    let short = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Piece {
        first: span.first,
        last: span.last,
        ordinal: span.first_ordinal,
        count: short(span.count),
        bytes: short(span.bytes),
        detail: Detail::File,
        damaged: false,
        node_start: false,
    }
}

/// What may still be kept.
struct Budget {
    entries: u64,
    bytes: u64,
}

impl Budget {
    /// Spends on so many entries of so many bytes, where it suffices.
    fn spend(&mut self, entries: u64, bytes: u64) -> bool {
        let left = self.entries.checked_sub(entries).zip(self.bytes.checked_sub(bytes));
        if let Some((entries, bytes)) = left {
            *self = Self { entries, bytes };
        }
        left.is_some()
    }

    /// Spends on a whole stretch, less what of it was deleted, where it suffices.
    fn takes(&mut self, view: &StreamView, (first, last): (EntryId, EntryId), count: u64, bytes: u64) -> bool {
        let (deleted, deleted_bytes) = view.deleted_in(IdRange { first, last });
        self.spend(count.saturating_sub(deleted), bytes.saturating_sub(deleted_bytes))
    }
}
