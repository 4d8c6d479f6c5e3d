//! Frames: one commit each. A head (fixed part and table of records) under one salted checksum, then the contents.
//!
//! The head says everything about the frame but the contents: a frame whose head verifies can be stepped over, and
//! damage to a block of entries never hides whose entries they were. Decoding answers `None` for anything that is not
//! a whole, valid head at its place.

use super::block::{BLOCK_META_BYTES, BlockMeta};
use super::crc;
use super::cursor::Cursor;
use crate::clock::Now;
use crate::limits::FRAME_BYTES_MAX;
use crate::types::LogPosition;

/// Bytes of the fixed part.
pub const FRAME_HEAD_BYTES: usize = 56;
/// Bytes of a record's entry in the table, without the description of a block.
pub const RECORD_HEAD_BYTES: usize = 12;
/// Frames begin at, and are, multiples of this.
pub const FRAME_ALIGN: usize = 8;
/// Kind of a record that is a block of entries; all other kinds are control records.
pub const KIND_ENTRIES: u8 = 1;
/// Version of the layout of a block of entries.
pub const ENTRIES_VERSION: u8 = 1;

const MAGIC: u32 = u32::from_le_bytes(*b"SYNf");
const VERSION: u8 = 1;
const CLEAN_STOP: u16 = 1;
const HAS_BLOCK: u16 = 1;
const CRC_AT: usize = FRAME_HEAD_BYTES - 4;

/// What the table says about a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// What it is; [`KIND_ENTRIES`] or a control record.
    pub kind: u8,
    /// Version of its layout.
    pub version: u8,
    /// Length of its content.
    pub length: u32,
    /// Checksum of its content.
    pub crc: u32,
    /// What is in it, where it is a block of entries.
    pub block: Option<BlockMeta>,
}

/// Everything in a frame but the contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Where the frame begins in the log.
    pub position: LogPosition,
    /// When the commit was made.
    pub now: Now,
    /// How far the log was known to be synced when the frame was written.
    pub synced_to: LogPosition,
    /// Whether the store was stopped in order after this frame.
    pub clean_stop: bool,
    /// The records, in order.
    pub records: Vec<RecordHead>,
}

/// Lengths of a frame, as its first bytes claim them; not yet verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameSizes {
    /// Head, in bytes.
    pub head: usize,
    /// Head, contents and padding, in bytes.
    pub total: usize,
}

/// Lengths of a frame of these records.
pub fn sizes(records: &[RecordHead]) -> FrameSizes {
    let mut head = FRAME_HEAD_BYTES;
    let mut content = 0;
    for record in records {
        head += RECORD_HEAD_BYTES + if record.block.is_some() { BLOCK_META_BYTES } else { 0 };
        content += record.length as usize;
    }
    FrameSizes { head, total: (head + content).next_multiple_of(FRAME_ALIGN) }
}

impl FrameHead {
    /// The bytes of the head, sealed with the salt of the file that it goes to.
    pub fn encode(&self, salt: u64) -> Vec<u8> {
        let sizes = sizes(&self.records);
        let mut out = Vec::with_capacity(sizes.head);
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&[VERSION, 0]);
        out.extend_from_slice(&(if self.clean_stop { CLEAN_STOP } else { 0 }).to_le_bytes());
        out.extend_from_slice(&(sizes.head as u32).to_le_bytes());
        out.extend_from_slice(&(sizes.total as u32).to_le_bytes());
        for number in [self.position.0, self.now.wall_ms, self.now.engine_ms, self.synced_to.0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&(self.records.len() as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for record in &self.records {
            record.encode(&mut out);
        }
        reseal(&mut out, salt, self.position);
        out
    }

    /// Reads and verifies a head that must stand at `position`; `bytes` may go on after it.
    pub fn decode(bytes: &[u8], salt: u64, position: LogPosition) -> Option<(Self, FrameSizes)> {
        let sizes = peek(bytes)?;
        let head = bytes.get(..sizes.head)?;
        if checksum(head, salt, position) != u32::from_le_bytes(*head[CRC_AT..].first_chunk()?) {
            return None;
        }
        let mut cursor = Cursor(&head[6..]);
        let flags = cursor.u16()?;
        cursor.take(8)?;
        let at = LogPosition(cursor.u64()?);
        let now = Now { wall_ms: cursor.u64()?, engine_ms: cursor.u64()? };
        let synced_to = LogPosition(cursor.u64()?);
        let count = cursor.u32()? as usize;
        cursor.take(4)?;
        if at != position || count > cursor.0.len() / RECORD_HEAD_BYTES {
            return None;
        }
        let records = (0..count).map(|_| RecordHead::decode(&mut cursor)).collect::<Option<Vec<_>>>()?;
        let consistent = cursor.0.is_empty() && self::sizes(&records) == sizes;
        let clean_stop = flags & CLEAN_STOP != 0;
        consistent.then_some((Self { position, now, synced_to, clean_stop, records }, sizes))
    }
}

impl RecordHead {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.kind, self.version]);
        out.extend_from_slice(&(if self.block.is_some() { HAS_BLOCK } else { 0 }).to_le_bytes());
        out.extend_from_slice(&self.length.to_le_bytes());
        out.extend_from_slice(&self.crc.to_le_bytes());
        if let Some(block) = &self.block {
            block.encode(out);
        }
    }

    fn decode(from: &mut Cursor<'_>) -> Option<Self> {
        let (kind, version, flags) = (from.u8()?, from.u8()?, from.u16()?);
        let (length, crc) = (from.u32()?, from.u32()?);
        let block = if flags & HAS_BLOCK != 0 { Some(BlockMeta::decode(from)?) } else { None };
        (length as usize <= FRAME_BYTES_MAX && block.is_some() == (kind == KIND_ENTRIES)).then_some(Self {
            kind,
            version,
            length,
            crc,
            block,
        })
    }
}

/// The lengths that bytes claim which begin like a frame; bounded, so that they may be used to read the rest.
pub fn peek(bytes: &[u8]) -> Option<FrameSizes> {
    let mut cursor = Cursor(bytes.get(..FRAME_HEAD_BYTES)?);
    if cursor.u32()? != MAGIC || cursor.u8()? != VERSION {
        return None;
    }
    cursor.take(3)?;
    let sizes = FrameSizes { head: cursor.u32()? as usize, total: cursor.u32()? as usize };
    let sane = sizes.head >= FRAME_HEAD_BYTES
        && sizes.head <= sizes.total
        && sizes.total <= FRAME_BYTES_MAX
        && sizes.total.is_multiple_of(FRAME_ALIGN);
    sane.then_some(sizes)
}

/// Seals an encoded head anew, for the file with this salt; the contents stay as they are.
pub fn reseal(head: &mut [u8], salt: u64, position: LogPosition) {
    let crc = checksum(head, salt, position);
    head[CRC_AT..FRAME_HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
}

/// What tells this head from any other at its position, whatever the salt of its file.
pub fn digest(head: &[u8]) -> u32 {
    crc::salted(0, 0, &[&head[..CRC_AT], &head[FRAME_HEAD_BYTES..]])
}

fn checksum(head: &[u8], salt: u64, position: LogPosition) -> u32 {
    crc::salted(salt, position.0, &[&head[..CRC_AT], &head[FRAME_HEAD_BYTES..]])
}
