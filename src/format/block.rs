//! Blocks of entries: all that one commit appends to one stream, contiguous, and how a block is referred to.
//!
//! What describes a block (stream, ids, count) stands in the frame's checksummed table and in the segment's index, not
//! in the block: damage to a block never hides whose it is. A block's content is its entries, then its event types.
//! Content that does not agree with its description is refused with `CORRUPT`.

use bytes::Bytes;

use super::cursor::{Cursor, put_id};
use crate::clock::Now;
use crate::error::{Error, Reason, Result};
use crate::limits::{BLOCK_BYTES_TARGET, BLOCK_ENTRIES_MAX};
use crate::types::{EntryId, EntryKind, LogPosition, StoredEntry, StreamNumber};

/// Bytes of a block's description in a frame's table.
pub const BLOCK_META_BYTES: usize = 72;
/// Bytes in front of an entry's payload, without an explicit id.
pub const ENTRY_HEAD_BYTES: usize = 5;
/// Distinct event types that a block or an index part lists at most; with more it says "any".
pub const TYPES_MAX: usize = 255;

const ENTRY_FIELDS: u8 = 1;
const ENTRY_NODE_START: u8 = 2;
const ENTRY_EXPLICIT_ID: u8 = 4;
const ENTRY_TIME: u8 = 8;
const ENTRIES_GONE: u8 = 16;
const ENTRY_ENGINE_TIME: u8 = 32;
const ANY_TYPE: u8 = 1;
const SEVERAL_TIMES: u8 = 2;
const ENGINE_TIME: u8 = 4;
const REWRITTEN: u64 = 1 << 63;

/// A file of the log: the first position of a live segment, or (top bit set) the number of a rewritten file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u64);

impl FileId {
    /// The live segment that begins at this position.
    pub const fn live(first: LogPosition) -> Self {
        Self(first.0)
    }
    /// The rewritten file of this number.
    pub const fn rewritten(number: u64) -> Self {
        Self(number | REWRITTEN)
    }
    /// Whether it is a rewritten file.
    pub const fn is_rewritten(self) -> bool {
        self.0 & REWRITTEN != 0
    }
    /// The number of a rewritten file.
    pub const fn number(self) -> Option<u64> {
        if self.is_rewritten() { Some(self.0 & !REWRITTEN) } else { None }
    }
    /// The name in the log folder.
    pub fn name(self) -> String {
        if self.is_rewritten() { format!("c{:020}.log", self.0 & !REWRITTEN) } else { format!("{:020}.log", self.0) }
    }
    /// The file of that name, where it is one of the log's.
    pub fn parse(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(".log")?;
        let (digits, kind) = stem.strip_prefix('c').map_or((stem, 0), |digits| (digits, REWRITTEN));
        if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        digits.parse().ok().filter(|n| n & REWRITTEN == 0).map(|n: u64| Self(n | kind))
    }
}

/// When entries were appended: by the clock that people set, and by the one that nobody sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppendTime {
    /// Wall time in milliseconds since the Unix epoch; what is told.
    pub wall_ms: u64,
    /// Engine time in milliseconds, by which ages are judged; `None` where format version 1 wrote the entry.
    pub engine_ms: Option<u64>,
}

impl AppendTime {
    /// Bytes of [`AppendTime::put_skew`].
    const SKEW_BYTES: usize = 6;

    /// Appends by how much engine time is ahead of wall time, in 48 bits; zero where it is not known.
    fn put_skew(self, out: &mut Vec<u8>) {
        let skew = self.engine_ms.map_or(0, |engine_ms| engine_ms.wrapping_sub(self.wall_ms));
        out.extend_from_slice(&skew.to_le_bytes()[..Self::SKEW_BYTES]);
    }

    /// Reads what [`AppendTime::put_skew`] wrote, beside this wall time.
    fn take_skew(from: &mut Cursor<'_>, wall_ms: u64, is_known: bool) -> Option<Self> {
        let mut bytes = [0; 8];
        bytes[2..].copy_from_slice(from.take(Self::SKEW_BYTES)?);
        // Shifted up and down again, the sign fills the upper bits.
        let skew = i64::from_le_bytes(bytes) >> 16;
        Some(Self { wall_ms, engine_ms: is_known.then(|| wall_ms.wrapping_add_signed(skew)) })
    }
}

impl From<Now> for AppendTime {
    fn from(now: Now) -> Self {
        Self { wall_ms: now.wall_ms, engine_ms: Some(now.engine_ms) }
    }
}

/// What a frame's table and a segment's index say about a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockMeta {
    /// Whose entries they are.
    pub stream: StreamNumber,
    /// Id of the first entry.
    pub first: EntryId,
    /// Id of the last entry.
    pub last: EntryId,
    /// How many entries the stream had ever been appended before the first one.
    pub first_ordinal: u64,
    /// When the first entry was appended.
    pub time: AppendTime,
    /// Entries in the block, those that are gone from it included, at least one.
    pub count: u32,
    /// Sum of their payloads in bytes.
    pub bytes: u32,
    /// Event types listed at the end of the content.
    pub types: u8,
    /// Whether there may be entries of types that are not listed.
    pub any_type: bool,
    /// Whether not all were appended at one time.
    pub several_times: bool,
}

impl BlockMeta {
    /// Of a block without anything in it yet.
    pub(super) fn begun(stream: StreamNumber, first_ordinal: u64, wall_ms: u64) -> Self {
        Self {
            stream,
            first: EntryId::ZERO,
            last: EntryId::ZERO,
            first_ordinal,
            time: AppendTime { wall_ms, engine_ms: None },
            count: 0,
            bytes: 0,
            types: 0,
            any_type: false,
            several_times: false,
        }
    }

    /// Appends the flags, the number of types, and how engine time stood: here and in an index the same.
    pub(super) fn encode_marks(&self, out: &mut Vec<u8>) {
        let mut flags = if self.any_type { ANY_TYPE } else { 0 };
        flags |= if self.several_times { SEVERAL_TIMES } else { 0 };
        flags |= if self.time.engine_ms.is_some() { ENGINE_TIME } else { 0 };
        out.extend_from_slice(&[flags, self.types]);
        self.time.put_skew(out);
    }

    /// Reads what [`BlockMeta::encode_marks`] wrote.
    pub(super) fn decode_marks(&mut self, from: &mut Cursor<'_>) -> Option<()> {
        let flags = from.u8()?;
        (self.any_type, self.several_times) = (flags & ANY_TYPE != 0, flags & SEVERAL_TIMES != 0);
        self.types = from.u8()?;
        self.time = AppendTime::take_skew(from, self.time.wall_ms, flags & ENGINE_TIME != 0)?;
        Some(())
    }

    /// Appends the 72 bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.stream.0.to_le_bytes());
        put_id(out, self.first);
        put_id(out, self.last);
        out.extend_from_slice(&self.first_ordinal.to_le_bytes());
        out.extend_from_slice(&self.time.wall_ms.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
        self.encode_marks(out);
    }

    /// Reads the 72 bytes; `None` where they are too few or say something impossible.
    pub(crate) fn decode(from: &mut Cursor<'_>) -> Option<Self> {
        let (stream, first, last) = (StreamNumber(from.u64()?), from.id()?, from.id()?);
        let (first_ordinal, wall_ms) = (from.u64()?, from.u64()?);
        let (count, bytes) = (from.u32()?, from.u32()?);
        let mut meta = Self { first, last, count, bytes, ..Self::begun(stream, first_ordinal, wall_ms) };
        meta.decode_marks(from)?;
        (meta.count > 0 && meta.first <= meta.last && meta.first_ordinal.checked_add(u64::from(meta.count)).is_some())
            .then_some(meta)
    }

    /// The reference to this block at a place.
    pub fn at(&self, file: FileId, offset: u32, length: u32, crc: u32) -> BlockRef {
        BlockRef {
            file,
            offset,
            length,
            crc,
            stream: self.stream,
            first: self.first,
            last: self.last,
            first_ordinal: self.first_ordinal,
            count: self.count,
            bytes: self.bytes,
            time: self.time,
            types: self.types,
            any_type: self.any_type,
            several_times: self.several_times,
        }
    }
}

/// Where a block is and what is in it: all that a read needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRef {
    /// The file.
    pub file: FileId,
    /// Where in the file the content begins.
    pub offset: u32,
    /// Length of the content in bytes.
    pub length: u32,
    /// Checksum of the content.
    pub crc: u32,
    /// Whose entries they are.
    pub stream: StreamNumber,
    /// Id of the first entry.
    pub first: EntryId,
    /// Id of the last entry.
    pub last: EntryId,
    /// How many entries the stream had ever been appended before the first one.
    pub first_ordinal: u64,
    /// Entries in the block, those that are gone from it included.
    pub count: u32,
    /// Sum of their payloads in bytes.
    pub bytes: u32,
    /// When the first entry was appended.
    pub time: AppendTime,
    /// Event types listed at the end of the content.
    pub types: u8,
    /// Whether there may be entries of types that are not listed.
    pub any_type: bool,
    /// Whether not all were appended at one time.
    pub several_times: bool,
}

impl BlockRef {
    /// What is in the block, without its place.
    pub fn meta(&self) -> BlockMeta {
        BlockMeta {
            stream: self.stream,
            first: self.first,
            last: self.last,
            first_ordinal: self.first_ordinal,
            time: self.time,
            count: self.count,
            bytes: self.bytes,
            types: self.types,
            any_type: self.any_type,
            several_times: self.several_times,
        }
    }

    /// The error of a read that this block cannot answer: names file, offset and ids.
    pub fn corrupt(&self, why: &str) -> Error {
        let name = self.file.name();
        let (offset, first, last) = (self.offset, self.first, self.last);
        Error::new(Reason::Corrupt, format!("{name} at {offset}: entries {first} to {last}: {why}"))
            .with("file", name)
            .with("offset", offset)
            .with("first_id", first)
            .with("last_id", last)
            .with("stream_number", self.stream.0)
    }
}

/// What one sealed file holds of one stream: stands for all its [`BlockRef`]s, which the file's index gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSpan {
    /// The file.
    pub file: FileId,
    /// The stream.
    pub stream: StreamNumber,
    /// Id of the first entry.
    pub first: EntryId,
    /// Id of the last entry.
    pub last: EntryId,
    /// How many entries the stream had ever been appended before the first one.
    pub first_ordinal: u64,
    /// Entries.
    pub count: u64,
    /// Sum of their payloads in bytes.
    pub bytes: u64,
}

impl FileSpan {
    /// What these blocks of one stream are, in the order of the log; there is at least one.
    pub fn of(file: FileId, stream: StreamNumber, blocks: &[BlockRef]) -> Self {
        let (first, last) = (blocks.first(), blocks.last());
        Self {
            file,
            stream,
            first: first.map_or(EntryId::ZERO, |b| b.first),
            last: last.map_or(EntryId::ZERO, |b| b.last),
            first_ordinal: first.map_or(0, |b| b.first_ordinal),
            count: blocks.iter().map(|b| u64::from(b.count)).sum(),
            bytes: blocks.iter().map(|b| u64::from(b.bytes)).sum(),
        }
    }
}

/// What stands for an event type in blocks and indexes: equal types have equal hashes, not the reverse.
pub fn type_hash(event_type: &str) -> u32 {
    xxhash_rust::xxh3::xxh3_64(event_type.as_bytes()) as u32
}

/// Puts a block together, copying each payload once.
#[derive(Clone, Debug)]
pub struct BlockBuilder {
    meta: BlockMeta,
    content: Vec<u8>,
    types: Vec<u32>,
    /// The id that the next entry has without an explicit one.
    next_id: Option<EntryId>,
    /// The time of the next entry's append, and of the one before it.
    times: (AppendTime, AppendTime),
}

impl BlockBuilder {
    /// An empty block of a stream to which `first_ordinal` entries were ever appended before.
    pub fn new(stream: StreamNumber, first_ordinal: u64, time: AppendTime) -> Self {
        let meta = BlockMeta { time, ..BlockMeta::begun(stream, first_ordinal, time.wall_ms) };
        Self { meta, content: Vec::new(), types: Vec::new(), next_id: None, times: (time, time) }
    }

    /// The entries that follow were appended at this time.
    pub fn appended_at(&mut self, time: AppendTime) {
        self.times.0 = time;
        if self.meta.count == 0 {
            (self.meta.time, self.times.1) = (time, time);
        }
    }

    /// Stands for entries that are gone, of ids from `first` to `last` with so many bytes: they keep their ordinals.
    pub fn skip_gone(&mut self, first: EntryId, last: EntryId, count: u32, bytes: u32) {
        assert!(self.meta.count == 0 || first > self.meta.last, "ids rise within a block");
        self.content.extend_from_slice(&count.to_le_bytes());
        self.content.push(ENTRIES_GONE);
        self.content.extend_from_slice(&bytes.to_le_bytes());
        if self.meta.count == 0 {
            self.meta.first = first;
        }
        (self.meta.last, self.next_id) = (last, None);
        self.meta.count += count;
        self.meta.bytes += bytes;
    }

    /// Makes room for so many bytes of content at once.
    pub fn reserve(&mut self, bytes: usize) {
        self.content.reserve(bytes);
    }

    /// Appends an entry whose id is above the last one's. `type_hash` is [`type_hash`] of an event's type;
    /// `None` where it has none or the caller does not know, which makes replay by type look inside.
    pub fn push(&mut self, id: EntryId, kind: EntryKind, node_start: bool, type_hash: Option<u32>, payload: &[u8]) {
        assert!(self.meta.count == 0 || id > self.meta.last, "ids rise within a block");
        let explicit = self.meta.count > 0 && self.next_id != Some(id);
        let timed = self.times.0 != self.times.1;
        let mut flags = if kind == EntryKind::Fields { ENTRY_FIELDS } else { 0 };
        flags |= if node_start { ENTRY_NODE_START } else { 0 };
        flags |= if explicit { ENTRY_EXPLICIT_ID } else { 0 };
        flags |= if timed { ENTRY_TIME } else { 0 };
        let engine_ms = self.times.0.engine_ms.filter(|_| timed);
        flags |= if engine_ms.is_some() { ENTRY_ENGINE_TIME } else { 0 };
        let length = u32::try_from(payload.len()).expect("an entry is far below 4 GiB");
        self.content.extend_from_slice(&length.to_le_bytes());
        self.content.push(flags);
        if explicit {
            put_id(&mut self.content, id);
        }
        if timed {
            self.content.extend_from_slice(&self.times.0.wall_ms.to_le_bytes());
            self.content.extend(engine_ms.iter().flat_map(|engine_ms| engine_ms.to_le_bytes()));
            (self.times.1, self.meta.several_times) = (self.times.0, true);
        }
        self.content.extend_from_slice(payload);
        if self.meta.count == 0 {
            self.meta.first = id;
        }
        (self.meta.last, self.next_id) = (id, follows(id));
        self.meta.count += 1;
        self.meta.bytes += length;
        self.note_type(type_hash);
    }

    fn note_type(&mut self, type_hash: Option<u32>) {
        match type_hash {
            Some(hash) if self.types.last() == Some(&hash) || self.types.contains(&hash) => {}
            Some(hash) if self.types.len() < TYPES_MAX => self.types.push(hash),
            _ => self.meta.any_type = true,
        }
    }

    /// Whether nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.meta.count == 0
    }
    /// Whether the next entry should begin a new block, so that reading one entry verifies little.
    pub fn is_full(&self) -> bool {
        self.content.len() >= BLOCK_BYTES_TARGET || self.meta.count as usize >= BLOCK_ENTRIES_MAX
    }
    /// Entries so far.
    pub fn count(&self) -> u32 {
        self.meta.count
    }
    /// Length of the content so far, types included.
    pub fn content_bytes(&self) -> usize {
        self.content.len() + 4 * self.types.len()
    }
    /// Distinct types so far.
    pub fn type_count(&self) -> usize {
        self.types.len()
    }

    /// The description and the content. At least one entry was pushed.
    pub fn finish(mut self) -> (BlockMeta, Bytes) {
        assert!(self.meta.count > 0, "a block has entries");
        for hash in &self.types {
            self.content.extend_from_slice(&hash.to_le_bytes());
        }
        self.meta.types = self.types.len() as u8;
        // Blocks stay in memory for a while: what was reserved too much does not.
        self.content.shrink_to_fit();
        (self.meta, Bytes::from(self.content))
    }
}

/// The id that an entry without an explicit one has after `id`: the next in the same millisecond.
fn follows(id: EntryId) -> Option<EntryId> {
    id.seq.checked_add(1).map(|seq| EntryId::new(id.ms, seq))
}

/// One entry of a block; its bytes are a slice of the block's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockEntry {
    /// Its identity in its stream.
    pub id: EntryId,
    /// How many entries the stream had ever been appended before it.
    pub ordinal: u64,
    /// When it was appended.
    pub time: AppendTime,
    /// What the bytes are.
    pub kind: EntryKind,
    /// Whether a node of entries begins here, for approximate trims.
    pub node_start: bool,
    /// The stored form.
    pub bytes: Bytes,
}

impl From<BlockEntry> for StoredEntry {
    fn from(entry: BlockEntry) -> Self {
        Self { id: entry.id, append_ms: entry.time.wall_ms, kind: entry.kind, bytes: entry.bytes }
    }
}

/// A block's content, found to agree with its description.
#[derive(Clone, Debug)]
pub struct BlockView {
    content: Bytes,
    meta: BlockMeta,
}

impl BlockView {
    /// Checks that the content is what `block` says; `CORRUPT` where it is not. The checksum is the reader's business.
    pub fn new(content: Bytes, block: &BlockRef) -> Result<Self> {
        let meta = block.meta();
        check(&content, &meta).ok_or_else(|| block.corrupt("the block does not agree with its description"))?;
        Ok(Self { content, meta })
    }

    /// The entries in order.
    pub fn entries(&self) -> Entries {
        Entries { walk: Walk::new(&self.meta), content: self.content.clone() }
    }

    /// The entries from this id on, in order; those before are stepped over without being looked at.
    pub fn entries_from(&self, id: EntryId) -> Entries {
        let mut entries = self.entries();
        let mut ahead = entries.walk;
        while let Some(step) = ahead.step(&self.content) {
            if step.id >= id {
                break;
            }
            entries.walk = ahead;
        }
        entries
    }

    /// The entry of this id.
    pub fn entry(&self, id: EntryId) -> Option<BlockEntry> {
        self.entries_from(id).next().filter(|entry| entry.id == id)
    }

    /// Hashes of the event types in the block, and whether there may be others.
    pub fn types(&self) -> (Vec<u32>, bool) {
        (types_of(&self.content, &self.meta), self.meta.any_type)
    }

    /// What is in the block.
    pub fn meta(&self) -> &BlockMeta {
        &self.meta
    }
}

/// The type hashes at the end of a block's content.
pub(crate) fn types_of(content: &[u8], meta: &BlockMeta) -> Vec<u32> {
    let start = content.len().saturating_sub(4 * usize::from(meta.types));
    let mut cursor = Cursor(content.get(start..).unwrap_or_default());
    std::iter::from_fn(|| cursor.u32()).collect()
}

fn check(content: &[u8], meta: &BlockMeta) -> Option<()> {
    let mut walk = Walk::new(meta);
    let (mut last, mut bytes) = (None, 0u64);
    while let Some(step) = walk.step(content) {
        if step.id < meta.first || last.is_some_and(|last| step.id <= last) {
            return None;
        }
        last = Some(step.id);
        bytes += (step.end - step.start) as u64;
    }
    let whole = walk.left == 0 && walk.offset + 4 * usize::from(meta.types) == content.len();
    // Entries that are gone have no ids here: where they are the last ones, the description alone knows the last id.
    let ends = if walk.next_id.is_none() { last < Some(meta.last) } else { last == Some(meta.last) };
    let last_of_ids = last == Some(meta.last) && meta.last.seq == u64::MAX;
    (whole && (ends || last_of_ids) && bytes + walk.gone_bytes == u64::from(meta.bytes)).then_some(())
}

/// Steps over entries by their heads.
#[derive(Clone, Copy, Debug)]
struct Walk {
    offset: usize,
    left: u32,
    next_id: Option<EntryId>,
    ordinal: u64,
    time: AppendTime,
    gone_bytes: u64,
}

struct Step {
    id: EntryId,
    ordinal: u64,
    time: AppendTime,
    flags: u8,
    start: usize,
    end: usize,
}

impl Walk {
    fn new(meta: &BlockMeta) -> Self {
        let (next_id, ordinal, time) = (Some(meta.first), meta.first_ordinal, meta.time);
        Self { offset: 0, left: meta.count, next_id, ordinal, time, gone_bytes: 0 }
    }

    /// The next entry that is there; `None` at the end, with `left` at zero, or where the content makes no sense.
    fn step(&mut self, content: &[u8]) -> Option<Step> {
        while self.left > 0 {
            let mut cursor = Cursor(content.get(self.offset..)?);
            let (length, flags) = (cursor.u32()?, cursor.u8()?);
            if flags & ENTRIES_GONE != 0 {
                let left = self.left.checked_sub(length).filter(|_| length > 0)?;
                self.gone_bytes += u64::from(cursor.u32()?);
                (self.left, self.next_id) = (left, None);
                self.ordinal += u64::from(length);
                self.offset = content.len() - cursor.0.len();
                continue;
            }
            let explicit = flags & ENTRY_EXPLICIT_ID != 0;
            let id = if explicit { cursor.id()? } else { self.next_id? };
            let time = if flags & ENTRY_TIME != 0 { entry_time(&mut cursor, flags)? } else { self.time };
            let start = content.len() - cursor.0.len();
            let end = start.checked_add(length as usize).filter(|end| *end <= content.len())?;
            let step = Step { id, ordinal: self.ordinal, time, flags, start, end };
            (self.offset, self.left, self.next_id) = (end, self.left - 1, follows(id));
            (self.ordinal, self.time) = (self.ordinal + 1, time);
            return Some(step);
        }
        None
    }
}

/// The time of an append that stands before an entry.
fn entry_time(cursor: &mut Cursor<'_>, flags: u8) -> Option<AppendTime> {
    let wall_ms = cursor.u64()?;
    let engine_ms = if flags & ENTRY_ENGINE_TIME != 0 { Some(cursor.u64()?) } else { None };
    Some(AppendTime { wall_ms, engine_ms })
}

/// Iterator over the entries of a block; allocates nothing.
#[derive(Clone, Debug)]
pub struct Entries {
    walk: Walk,
    content: Bytes,
}

impl Iterator for Entries {
    type Item = BlockEntry;

    fn next(&mut self) -> Option<BlockEntry> {
        let step = self.walk.step(&self.content)?;
        Some(BlockEntry {
            id: step.id,
            ordinal: step.ordinal,
            time: step.time,
            kind: if step.flags & ENTRY_FIELDS != 0 { EntryKind::Fields } else { EntryKind::Event },
            node_start: step.flags & ENTRY_NODE_START != 0,
            bytes: self.content.slice(step.start..step.end),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.walk.left as usize))
    }
}
