//! The head window of a stream: its oldest entries, as far as a trim has to know them to be decided at once.
//!
//! A window begins at the trim point and leaves nothing out. What it says of entries never changes: ids, ordinals and
//! sizes of what was appended. So nothing in it goes stale, whoever found it and whenever; single deletes are taken off
//! when a trim is planned. It is extended by what is appended, once it reaches the stream's end, and by what a reader
//! found, as long as it does not. It is no part of what is stored. Invariant **H1**: nothing that exists between the trim
//! point and where a window ends is left out of it.

use std::collections::VecDeque;

use super::{DeletedIds, Stream};
use crate::types::{EntryId, StreamNumber};

/// What a stream is to keep: what fits all three bounds, the last entries first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Entries at most.
    pub entries: u64,
    /// Bytes at most.
    pub bytes: u64,
    /// No entry below this id.
    pub from: EntryId,
}

impl Keep {
    /// Everything.
    pub const ALL: Self = Self { entries: u64::MAX, bytes: u64::MAX, from: EntryId::ZERO };

    fn fits(&self, entries: u64, bytes: u64) -> bool {
        entries <= self.entries && bytes <= self.bytes
    }
}

/// A trim as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrimRule {
    /// What is to be kept: exactly that or, of whole nodes only, at least that.
    pub keep: Keep,
    /// Set where only whole logical nodes are dropped: entries that go at most.
    pub nodes: Option<u64>,
}

impl TrimRule {
    /// Whether a stream, and so many more entries of so many bytes, may keep everything, as far as that can be told without
    /// a look at its entries.
    pub fn keeps_all(&self, stream: &Stream, coming: (u64, u64)) -> bool {
        let fits = self.keep.fits(stream.length() + coming.0, stream.bytes + coming.1);
        fits && self.keep.from <= stream.trimmed_before
    }
}

/// How finely a piece of a window tells of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// One entry.
    Entry,
    /// Some blocks that follow each other.
    Blocks,
    /// What a file has of the stream.
    File,
}

/// Entries that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The first id.
    pub first: EntryId,
    /// The last id.
    pub last: EntryId,
    /// Entries ever appended before the first one.
    pub ordinal: u64,
    /// Entries, those included that were deleted singly.
    pub count: u32,
    /// Their bytes.
    pub bytes: u32,
    /// How finely it tells of them.
    pub detail: Detail,
    /// Whether nothing more can be told of them, because they are damaged: they go together.
    pub damaged: bool,
    /// Whether a logical node begins with it.
    pub node_start: bool,
}

impl Piece {
    /// One entry.
    pub fn entry(id: EntryId, ordinal: u64, bytes: u32, node_start: bool) -> Self {
        let detail = Detail::Entry;
        Self { first: id, last: id, ordinal, count: 1, bytes, detail, damaged: false, node_start }
    }

    /// Whether more can be told of its entries.
    fn is_coarse(&self) -> bool {
        self.detail != Detail::Entry && !self.damaged
    }

    /// Entries and bytes of it that exist.
    fn live(&self, deleted: &DeletedIds) -> (u64, u64) {
        let (count, bytes) = (u64::from(self.count), u64::from(self.bytes));
        if self.detail == Detail::Entry && !self.damaged {
            return if deleted.contains(self.first) { (0, 0) } else { (count, bytes) };
        }
        let (gone, gone_bytes) = deleted.measure(crate::types::IdRange { first: self.first, last: self.last });
        (count.saturating_sub(gone), bytes.saturating_sub(gone_bytes))
    }

    /// Leaves out what is below a trim point within it, of which only the ordinal is known.
    fn cut_below(&mut self, before: EntryId, ordinal: u64) {
        let left = (self.ordinal + u64::from(self.count)).saturating_sub(ordinal) as u32;
        let share = u64::from(self.bytes) * u64::from(left) / u64::from(self.count.max(1));
        (self.first, self.ordinal, self.count, self.bytes) = (before, ordinal, left, share as u32);
    }
}

/// What a reader is asked for, to extend a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Of which stream.
    pub stream: StreamNumber,
    /// From which id on.
    pub from: EntryId,
    /// What for: pieces far below where the trim comes to need tell less.
    pub rule: TrimRule,
    /// Entries of the stream.
    pub length: u64,
    /// How finely the first piece has to tell of its entries at least.
    pub detail: Detail,
    /// Pieces after which it may end.
    pub pieces: usize,
}

/// What a reader found of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The id from which on it was looked.
    pub from: EntryId,
    /// Pieces in the order of ids; between them nothing exists.
    pub pieces: Vec<Piece>,
    /// It leaves nothing out below this id.
    pub to: EntryId,
    /// Whether damage keeps it from going on.
    pub blocked: bool,
}

/// Where a trim comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The smallest id that is kept.
    pub before: EntryId,
    /// Entries ever appended below that.
    pub ordinal: u64,
    /// Entries that go.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a trim comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planned {
    /// This much goes, where anything does.
    Done {
        /// What goes.
        cut: Option<Cut>,
        /// Whether damage keeps more than is asked for.
        short: bool,
    },
    /// The window has to be extended from this id on, so finely at least, before it can be told.
    More(EntryId, Detail),
}

/// The window.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pieces: VecDeque<Piece>,
    /// Nothing that exists below this id is left out.
    to: EntryId,
    /// Nothing that exists is left out at all.
    ends: bool,
    /// Whether damage keeps it from being extended.
    blocked: bool,
}

/// How far a plan has come over the pieces of a window.
struct Walk {
    length: u64,
    bytes: u64,
    dropped: (u64, u64),
    /// Whether the last of what goes does for a number of entries or bytes.
    by_count: bool,
    /// Where a trim of whole nodes may end, with what goes then.
    node: Option<(EntryId, (u64, u64))>,
    /// A piece passed since then of which it is not known where nodes begin.
    blind: Option<Piece>,
}

impl Head {
    /// The window of a stream as it is.
    pub fn of(stream: &Stream) -> Self {
        let ends = stream.length() == 0;
        Self { pieces: VecDeque::new(), to: stream.trimmed_before, ends, blocked: false }
    }

    /// Pieces in it.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }
    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }
    /// Whether it reaches the end of the stream, or damage ends it: nothing more is to be found.
    pub fn is_whole(&self) -> bool {
        self.ends || self.blocked
    }
    /// Where a reader is to go on.
    pub fn to(&self) -> EntryId {
        self.to
    }

    /// Takes what was appended. Where the window does not reach the end, that is for a reader to find.
    pub fn push(&mut self, piece: Piece) {
        if self.ends {
            self.pieces.push_back(piece);
        }
    }

    /// Leaves out the last pieces beyond so many.
    pub fn shorten(&mut self, pieces: usize) {
        if let Some(first) = self.pieces.get(pieces) {
            (self.to, self.ends, self.blocked) = (first.first, false, false);
            self.pieces.truncate(pieces);
        }
    }

    /// Leaves out everything from an id on, to be found anew.
    pub fn leave_from(&mut self, id: EntryId) {
        let at = self.pieces.partition_point(|piece| piece.first < id);
        if at < self.pieces.len() {
            (self.to, self.ends, self.blocked) = (id, false, false);
            self.pieces.truncate(at);
        }
    }

    /// Forgets what was trimmed, and what was deleted before all that exists.
    pub fn forget_below(&mut self, stream: &Stream) {
        let before = stream.trimmed_before;
        while let Some(piece) = self.pieces.pop_front_if(|piece| piece.first < before) {
            if piece.last >= before {
                // Trimmed entry by entry, within what is told of as one: what is left of that is to be found anew.
                *self = Self { to: before, ..Self::default() };
            }
        }
        self.to = self.to.max(before);
        if !stream.deleted.is_empty() {
            while self.pieces.pop_front_if(|piece| piece.live(&stream.deleted).0 == 0).is_some() {}
        }
    }

    /// Takes what a reader found, and what was appended since it was asked, from `tail.0` on; what is known already or
    /// does not follow is left out. Says whether there is any more in it.
    pub fn extend(&mut self, stream: &Stream, found: &Found, tail: Option<(EntryId, &[Piece])>) -> bool {
        if self.ends || found.from > self.to {
            return self.ends;
        }
        let (begin, before) = (self.to, self.len());
        if self.take_pieces(stream, &found.pieces) {
            (self.to, self.blocked) = (self.to.max(found.to), found.blocked);
            if let Some((_, tail)) = tail.filter(|(from, _)| *from <= self.to) {
                let to = self.to;
                self.pieces.extend(tail.iter().filter(|piece| piece.first >= to));
                (self.ends, self.blocked) = (true, false);
            }
        }
        self.is_whole() || self.to > begin || self.len() > before
    }

    /// Whether all of them followed on what is known.
    fn take_pieces(&mut self, stream: &Stream, pieces: &[Piece]) -> bool {
        for piece in pieces {
            let mut piece = *piece;
            if piece.last < self.to {
                continue;
            }
            if piece.damaged && piece.first < stream.trimmed_before {
                piece.cut_below(stream.trimmed_before, stream.trimmed_ordinal);
            }
            if piece.first < self.to {
                return false;
            }
            self.to = piece.last.next().unwrap_or(EntryId::MAX);
            self.pieces.push_back(piece);
        }
        true
    }

    /// Says that nothing more is to be found out.
    pub fn block(&mut self) {
        self.blocked = true;
    }

    /// What a trim comes to once so many more entries of so many bytes are appended.
    pub fn plan(&self, stream: &Stream, rule: &TrimRule, coming: (u64, u64)) -> Planned {
        if rule.keeps_all(stream, coming) {
            return Planned::Done { cut: None, short: false };
        }
        let (length, bytes) = (stream.length() + coming.0, stream.bytes + coming.1);
        let mut walk = Walk { length, bytes, dropped: (0, 0), by_count: false, node: None, blind: None };
        for (at, piece) in self.pieces.iter().enumerate() {
            let live = piece.live(&stream.deleted);
            if at > 0 && piece.node_start && walk.dropped.0 <= rule.nodes.unwrap_or(0) {
                (walk.node, walk.blind) = (Some((piece.first, walk.dropped)), None);
            }
            let over = !rule.keep.fits(walk.length, walk.bytes);
            let is_kept = !over && piece.first >= rule.keep.from || piece.last == EntryId::MAX;
            let is_enough = rule.nodes.is_some_and(|max| walk.dropped.0 > max);
            if live.0 == 0 && is_kept && rule.nodes.is_some() && rule.keep.from > EntryId::ZERO {
                // A node goes only with its last entry, also where that was deleted.
                return self.end(stream, rule, &walk, Some(piece.first), false);
            }
            if live.0 > 0 && is_kept && !is_enough && rule.nodes.is_some() && piece.is_coarse() {
                // Whether a node begins with it is not known.
                return Planned::More(piece.first, finer(piece.detail));
            }
            if live.0 > 0 && (is_kept || is_enough) {
                return self.end(stream, rule, &walk, Some(piece.first), false);
            }
            if live.0 > 0 && !walk.goes_whole(rule, piece, live) {
                return match piece.damaged {
                    true => self.end(stream, rule, &walk, Some(piece.first), true),
                    false => Planned::More(piece.first, finer(piece.detail)),
                };
            }
            walk.pass(piece, live, over);
        }
        if self.ends {
            // The end of the stream is the end of a node.
            if walk.dropped.0 <= rule.nodes.unwrap_or(0) {
                (walk.node, walk.blind) = (Some((EntryId::MAX, walk.dropped)), None);
            }
            return self.end(stream, rule, &walk, None, false);
        }
        if !self.blocked {
            return Planned::More(self.to, Detail::File);
        }
        // What comes behind the last piece cannot be told: that one stays.
        let Some(last) = self.pieces.back() else { return Planned::Done { cut: None, short: true } };
        let live = last.live(&stream.deleted);
        walk.dropped = (walk.dropped.0.saturating_sub(live.0), walk.dropped.1.saturating_sub(live.1));
        self.end(stream, rule, &walk, Some(last.first), true)
    }

    /// The end of a plan: `kept` is the first entry that exists and stays, where there is one.
    fn end(&self, stream: &Stream, rule: &TrimRule, walk: &Walk, kept: Option<EntryId>, short: bool) -> Planned {
        let beyond = stream.last.next().unwrap_or(EntryId::MAX);
        let (before, dropped) = match (rule.nodes, walk.node, walk.blind) {
            (Some(_), _, Some(piece)) => return Planned::More(piece.first, finer(piece.detail)),
            (Some(_), Some((before, dropped)), None) => (before.min(beyond), dropped),
            (Some(_), None, None) => return Planned::Done { cut: None, short },
            (None, ..) => {
                let from = rule.keep.from.min(beyond);
                let kept = kept.unwrap_or(beyond);
                // Trimmed for a number, a stream begins with an entry; trimmed before an id, with that.
                (if walk.by_count || short { kept } else { from.min(kept) }, walk.dropped)
            }
        };
        if dropped.0 == 0 {
            return Planned::Done { cut: None, short };
        }
        let cut = Cut { before, ordinal: self.ordinal_of(stream, before), entries: dropped.0, bytes: dropped.1 };
        Planned::Done { cut: Some(cut), short }
    }

    /// Entries ever appended below an id, of which nothing that exists is in no piece. What stands between it and the
    /// first piece from it on is deleted.
    fn ordinal_of(&self, stream: &Stream, before: EntryId) -> u64 {
        let at = self.pieces.partition_point(|piece| piece.first < before);
        let (ordinal, last) = match self.pieces.get(at) {
            Some(piece) => (piece.ordinal, piece.first.prev()),
            None => (stream.appended, Some(EntryId::MAX)),
        };
        let between = last.filter(|last| *last >= before).map(|last| crate::types::IdRange { first: before, last });
        ordinal - between.map_or(0, |range| stream.deleted.measure(range).0)
    }
}

impl Walk {
    /// Whether a piece that is over may go as a whole: the last of its entries would be over, too.
    fn goes_whole(&self, rule: &TrimRule, piece: &Piece, live: (u64, u64)) -> bool {
        if piece.count == 1 || piece.last < rule.keep.from {
            return true;
        }
        let (entries, bytes) = (self.length.saturating_sub(live.0), self.bytes.saturating_sub(live.1));
        entries >= rule.keep.entries || bytes > rule.keep.bytes
    }

    fn pass(&mut self, piece: &Piece, live: (u64, u64), over: bool) {
        self.length = self.length.saturating_sub(live.0);
        self.bytes = self.bytes.saturating_sub(live.1);
        self.dropped = (self.dropped.0 + live.0, self.dropped.1 + live.1);
        if live.0 > 0 {
            self.by_count = over;
        }
        if piece.is_coarse() && self.blind.is_none() {
            self.blind = Some(*piece);
        }
    }
}

fn finer(detail: Detail) -> Detail {
    if detail == Detail::File { Detail::Blocks } else { Detail::Entry }
}

#[cfg(test)]
mod tests;
