//! The two ends of a log file: the header that names it and salts its checksums, the footer that says it is sealed.

use super::crc;
use super::cursor::Cursor;
use crate::clock::Now;
use crate::types::LogPosition;

/// Bytes of the header; the first frame stands right after it.
pub const SEGMENT_HEADER_BYTES: usize = 80;
/// Bytes of the footer, the last ones of a sealed file.
pub const SEGMENT_FOOTER_BYTES: usize = 64;
/// Version of the format of files, frames, blocks, indexes and rows of the state. Version 2 added engine time to blocks and
/// indexes, settings that are stored by name, and records that have versions of their own.
pub const FORMAT_VERSION: u16 = 2;

const HEADER_MAGIC: [u8; 8] = *b"SYNAPSE\x01";
const FOOTER_MAGIC: [u8; 8] = *b"SYNAPSE\x02";

/// Identity of a data directory, so that no file of another is ever taken for its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreId(pub [u8; 16]);

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// Commits in the order in which they were made.
    Live,
    /// Blocks that reclaim moved together.
    Rewritten,
}

/// The header of a log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Version of the format in which the file was begun, in which it is filled.
    pub version: u16,
    /// What kind of file it is.
    pub kind: SegmentKind,
    /// Which shard's log; there is one, 0.
    pub shard: u16,
    /// Whose file it is.
    pub store: StoreId,
    /// Position of its first frame.
    pub first: LogPosition,
    /// How far the log was known to be synced when the file took its name.
    pub synced_to: LogPosition,
    /// Random; seeds every salted checksum in the file.
    pub salt: u64,
    /// Wall time at which it was made, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Length of the file in bytes, allocated when it was made.
    pub length: u64,
}

/// Why a header is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHeader {
    /// Not a header, or damaged.
    Damaged,
    /// Of a newer format version.
    Newer(u16),
}

impl SegmentHeader {
    /// The bytes of the header.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        out.extend_from_slice(&HEADER_MAGIC);
        out.extend_from_slice(&self.version.to_le_bytes());
        let kind = match self.kind {
            SegmentKind::Live => 1,
            SegmentKind::Rewritten => 2,
        };
        out.extend_from_slice(&[kind, 0]);
        out.extend_from_slice(&self.shard.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.store.0);
        for number in [self.first.0, self.synced_to.0, self.salt, self.created_ms, self.length] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&[0; 4]);
        let sum = crc::salted(self.salt, 0, &[&out]);
        out.extend_from_slice(&sum.to_le_bytes());
        out.try_into().expect("the fields add up to the header's length")
    }

    /// Reads and verifies a header.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        Self::parse(bytes).unwrap_or(Err(BadHeader::Damaged))
    }

    fn parse(bytes: &[u8]) -> Option<Result<Self, BadHeader>> {
        let bytes = bytes.get(..SEGMENT_HEADER_BYTES)?;
        let mut cursor = Cursor(bytes);
        if cursor.array()? != HEADER_MAGIC {
            return None;
        }
        let version = cursor.u16()?;
        let kind = match cursor.u8()? {
            1 => SegmentKind::Live,
            2 => SegmentKind::Rewritten,
            _ => return (version > FORMAT_VERSION).then_some(Err(BadHeader::Newer(version))),
        };
        cursor.u8()?;
        let shard = cursor.u16()?;
        cursor.u16()?;
        let header = Self {
            version,
            kind,
            shard,
            store: StoreId(cursor.array()?),
            first: LogPosition(cursor.u64()?),
            synced_to: LogPosition(cursor.u64()?),
            salt: cursor.u64()?,
            created_ms: cursor.u64()?,
            length: cursor.u64()?,
        };
        cursor.u32()?;
        let sum = crc::salted(header.salt, 0, &[&bytes[..SEGMENT_HEADER_BYTES - 4]]);
        if cursor.u32()? != sum {
            return None;
        }
        Some(if version > FORMAT_VERSION { Err(BadHeader::Newer(version)) } else { Ok(header) })
    }

    /// Position of the byte at this offset.
    pub fn position_at(&self, offset: u64) -> LogPosition {
        LogPosition(self.first.0 + (offset - SEGMENT_HEADER_BYTES as u64))
    }
    /// Offset of the byte at this position.
    pub fn offset_of(&self, position: LogPosition) -> u64 {
        position.0 - self.first.0 + SEGMENT_HEADER_BYTES as u64
    }
}

/// The footer of a sealed file. Where it verifies, every frame of the file was synced before it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFooter {
    /// Version of the format, as in the header.
    pub version: u16,
    /// Position after the last frame.
    pub end: LogPosition,
    /// Time of the last frame.
    pub last: Now,
    /// Where the index begins in the file.
    pub index_offset: u32,
    /// Length of the index in bytes.
    pub index_length: u32,
    /// Streams in the index's directory.
    pub streams: u32,
    /// Blocks in the index.
    pub blocks: u32,
}

impl SegmentFooter {
    /// The bytes of the footer.
    pub fn encode(&self, salt: u64) -> [u8; SEGMENT_FOOTER_BYTES] {
        let mut out = Vec::with_capacity(SEGMENT_FOOTER_BYTES);
        out.extend_from_slice(&FOOTER_MAGIC);
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&[0; 6]);
        for number in [self.end.0, self.last.wall_ms, self.last.engine_ms] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.index_offset, self.index_length, self.streams, self.blocks, 0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let sum = crc::salted(salt, u64::MAX, &[&out]);
        out.extend_from_slice(&sum.to_le_bytes());
        out.try_into().expect("the fields add up to the footer's length")
    }

    /// Reads and verifies a footer; `None` where there is none, or a damaged one.
    pub fn decode(bytes: &[u8], salt: u64) -> Option<Self> {
        let bytes = bytes.get(..SEGMENT_FOOTER_BYTES)?;
        let (body, sum) = bytes.split_at(SEGMENT_FOOTER_BYTES - 4);
        let mut cursor = Cursor(body);
        if cursor.array()? != FOOTER_MAGIC || sum != crc::salted(salt, u64::MAX, &[body]).to_le_bytes() {
            return None;
        }
        let version = cursor.u16()?;
        cursor.take(6)?;
        Some(Self {
            version,
            end: LogPosition(cursor.u64()?),
            last: Now { wall_ms: cursor.u64()?, engine_ms: cursor.u64()? },
            index_offset: cursor.u32()?,
            index_length: cursor.u32()?,
            streams: cursor.u32()?,
            blocks: cursor.u32()?,
        })
    }
}
