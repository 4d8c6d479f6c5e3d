//! A commit in the making: blocks of entries, effects, and what is released once all of it is durable.
//!
//! Records stand in the order in which the core decided, but for the entries of one stream, which gather in one block
//! until an effect on that same stream closes it, and but for what a stream drops of its oldest entries, which is one
//! record at the commit's end: an effect for each of many trims would end the stream's block each time. A command's
//! records all go into one commit.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::core::FrozenState;
use super::reply::Release;
use super::sealed::Replacement;
use super::view::StreamView;
use crate::clock::Now;
use crate::format::block::{BlockBuilder, BlockMeta};
use crate::format::record::{Effect, Trimmed};
use crate::storage::{FRAME_COST_BASE, FrameParts, Record, block_cost, record_cost};
use crate::types::{EntryId, EntryKind, StreamName, StreamNumber};

/// What readers are shown once a commit is durable, beside its blocks.
#[derive(Debug)]
pub(crate) enum Show {
    Created(Arc<StreamView>),
    Deleted(Arc<StreamView>),
    Renamed(Arc<StreamView>, StreamName),
    Reached(Arc<StreamView>, EntryId),
    Trimmed(Arc<StreamView>, EntryId),
    EntriesDeleted(Arc<StreamView>, Vec<(EntryId, u32)>),
    FilesReplaced(Replacement),
}

impl Show {
    /// The stream that it is about, where it is one.
    pub(crate) fn view(&self) -> Option<&Arc<StreamView>> {
        match self {
            Self::Created(view)
            | Self::Deleted(view)
            | Self::Renamed(view, _)
            | Self::Reached(view, _)
            | Self::Trimmed(view, _)
            | Self::EntriesDeleted(view, _) => Some(view),
            Self::FilesReplaced(_) => None,
        }
    }
}

/// A block of a commit, for the core to offer to groups once it is durable.
#[derive(Clone, Debug)]
pub(crate) struct CommitBlock {
    pub(crate) view: Arc<StreamView>,
    pub(crate) meta: BlockMeta,
    pub(crate) content: bytes::Bytes,
}

/// A finished commit on its way to the log thread.
pub(crate) struct Commit {
    /// Rises by one with each commit.
    pub(crate) number: u64,
    pub(crate) frame: FrameParts,
    /// The blocks in the order in which their records stand in the frame.
    pub(crate) blocks: Vec<CommitBlock>,
    /// Whether it must be synced before anything is released.
    pub(crate) sync: bool,
    pub(crate) shows: Vec<Show>,
    /// The streams that are trimmed, and the smallest id that each keeps: shown with their blocks.
    pub(crate) trims: Vec<(Arc<StreamView>, EntryId)>,
    pub(crate) releases: Vec<Release>,
    /// The state before this commit, to be kept.
    pub(crate) before: Option<CapturedState>,
    /// Whether a new segment begins with it.
    pub(crate) roll: bool,
    /// Whether nobody may see a part of it: a transaction is in it.
    pub(crate) together: bool,
}

/// A state, and where it goes.
pub(crate) struct CapturedState {
    pub(crate) state: FrozenState,
    /// Whether it goes into a snapshot, too: the index alone is not the truth.
    pub(crate) snapshot: bool,
}

enum Item {
    Block { view: Arc<StreamView>, builder: BlockBuilder },
    Effect { kind: u8, version: u8, content: bytes::Bytes },
}

/// The commit that the core is filling.
pub(crate) struct CommitBuilder {
    items: Vec<Item>,
    /// The block that takes further entries of a stream.
    open: HashMap<StreamNumber, usize>,
    cost: u64,
    sync: bool,
    roll: bool,
    together: bool,
    shows: Vec<Show>,
    /// What each stream drops.
    trims: BTreeMap<StreamNumber, (Arc<StreamView>, Trimmed)>,
    releases: Vec<Release>,
}

/// What a [`Trimmed`] takes in a commit.
pub(crate) fn trim_cost() -> u64 {
    // Number, id, ordinal, bytes.
    record_cost(8 + 16 + 8 + 8)
}

impl Default for CommitBuilder {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            open: HashMap::new(),
            cost: FRAME_COST_BASE,
            sync: false,
            roll: false,
            together: false,
            shows: Vec::new(),
            trims: BTreeMap::new(),
            releases: Vec::new(),
        }
    }
}

impl CommitBuilder {
    /// Whether there is nothing to write and nothing to release.
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.trims.is_empty() && self.shows.is_empty() && self.releases.is_empty()
    }
    /// Upper bound of the room that it takes in the log, in bytes.
    pub(crate) fn cost(&self) -> u64 {
        self.cost
    }
    /// How many records it has.
    pub(crate) fn records(&self) -> usize {
        self.items.len() + self.trims.len()
    }
    /// Says that what it holds must be synced before it is answered.
    pub(crate) fn require_sync(&mut self) {
        self.sync = true;
    }
    /// Says that nobody may see a part of it.
    pub(crate) fn keep_together(&mut self) {
        self.together = true;
    }
    /// The blocks of a stream as far as they are filled, in order.
    pub(crate) fn blocks_of(&self, stream: StreamNumber) -> impl Iterator<Item = (BlockMeta, bytes::Bytes)> {
        let blocks = self.items.iter().filter_map(move |item| match item {
            Item::Block { view, builder } if view.number == stream => Some(builder),
            _ => None,
        });
        blocks.map(|builder| builder.clone().finish())
    }
    /// Says that it begins a new segment, which takes so much room.
    pub(crate) fn begin_segment(&mut self, cost: u64) {
        (self.roll, self.sync, self.cost) = (true, true, cost);
    }
    /// Whether it begins a new segment.
    pub(crate) fn begins_segment(&self) -> bool {
        self.roll
    }
    /// Adds what is to be done once it is durable.
    pub(crate) fn on_durable(&mut self, release: Release) {
        self.releases.push(release);
    }
    /// Adds what readers are to be shown.
    pub(crate) fn show(&mut self, show: Show) {
        self.shows.push(show);
    }

    /// Adds an effect; on a stream, it comes after the entries gathered so far and before those that follow.
    pub(crate) fn push_effect(&mut self, effect: &Effect, on: Option<StreamNumber>) {
        if let Some(stream) = on {
            self.open.remove(&stream);
        }
        let content = effect.encode();
        self.cost += record_cost(content.len());
        self.items.push(Item::Effect { kind: effect.kind(), version: effect.version(), content });
    }

    /// Has a stream drop its oldest entries, beside what it drops already; says whether it drops any for the first time.
    pub(crate) fn trim(&mut self, view: &Arc<StreamView>, trimmed: &Trimmed) -> bool {
        if let Some((_, before)) = self.trims.get_mut(&trimmed.stream) {
            let bytes = before.bytes + trimmed.bytes;
            *before = Trimmed { bytes, ..trimmed.clone() };
            return false;
        }
        self.cost += trim_cost();
        self.trims.insert(trimmed.stream, (Arc::clone(view), trimmed.clone()));
        true
    }

    /// Forgets what a stream drops, which is gone itself.
    pub(crate) fn forget_trim(&mut self, stream: StreamNumber) {
        self.trims.remove(&stream);
    }

    /// Adds an entry to the open block of its stream.
    pub(crate) fn push_entry(
        &mut self,
        view: &Arc<StreamView>,
        entry: &BlockEntryParts<'_>,
        now: Now,
        bytes_ahead: usize,
    ) {
        let at = self.open_block(view, entry.ordinal, now, bytes_ahead);
        let Item::Block { builder, .. } = &mut self.items[at] else { return };
        let before = block_cost(builder.content_bytes(), builder.type_count());
        builder.push(entry.id, entry.kind, entry.node_start, entry.type_hash, entry.payload);
        self.cost += block_cost(builder.content_bytes(), builder.type_count()) - before;
    }

    fn open_block(&mut self, view: &Arc<StreamView>, ordinal: u64, now: Now, bytes_ahead: usize) -> usize {
        if let Some(at) = self.open.get(&view.number)
            && matches!(&self.items[*at], Item::Block { builder, .. } if !builder.is_full())
        {
            return *at;
        }
        let mut builder = BlockBuilder::new(view.number, ordinal, now.into());
        builder.reserve(bytes_ahead.min(crate::limits::BLOCK_BYTES_TARGET + 4096));
        self.cost += block_cost(0, 0);
        self.items.push(Item::Block { view: Arc::clone(view), builder });
        self.open.insert(view.number, self.items.len() - 1);
        self.items.len() - 1
    }

    /// Closes the commit.
    pub(crate) fn finish(&mut self, number: u64, now: Now, clean_stop: bool) -> Commit {
        let CommitBuilder { items, sync, roll, together, shows, trims, releases, .. } = std::mem::take(self);
        let mut blocks = Vec::new();
        let mut records = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Item::Effect { kind, version, content } => {
                    records.push(Record::control(kind, version, content));
                }
                Item::Block { view, builder } => {
                    let (meta, content) = builder.finish();
                    records.push(Record::entries((meta, content.clone())));
                    blocks.push(CommitBlock { view, meta, content });
                }
            }
        }
        // Whatever else was done to a stream, before or after, the state that it comes to is the same: what was deleted
        // singly was there then, and effects on groups say where things stand.
        let trims = trims.into_values().map(|(view, trimmed)| {
            let before = trimmed.before;
            let effect = Effect::from(trimmed);
            records.push(Record::control(effect.kind(), effect.version(), effect.encode()));
            (view, before)
        });
        let trims = trims.collect();
        let frame = FrameParts { now, records, clean_stop };
        Commit { number, frame, blocks, sync, shows, trims, releases, before: None, roll, together }
    }
}

/// An entry about to be stored.
pub(crate) struct BlockEntryParts<'a> {
    pub(crate) id: EntryId,
    pub(crate) ordinal: u64,
    pub(crate) kind: EntryKind,
    pub(crate) node_start: bool,
    pub(crate) type_hash: Option<u32>,
    pub(crate) payload: &'a [u8],
}
