//! The index of a sealed file: a directory of streams, then each stream's blocks and event types.
//!
//! Every directory entry and every stream's part has a salted checksum of its own, bound to its place, so that one
//! stream's blocks are found by a binary search over the directory and one read, and a moved or old part is refused.
//! [`IndexBuilder`] grows with the segment and knows its exact encoded length at any time.

use std::collections::BTreeMap;

use super::block::{BlockMeta, BlockRef, FileId, FileSpan, TYPES_MAX};
use super::crc;
use super::cursor::{Cursor, put_id};
use crate::types::StreamNumber;

/// Bytes of a stream's entry in the directory.
pub const DIRECTORY_ENTRY_BYTES: usize = 88;
/// Bytes of a block in a stream's part.
pub const INDEX_BLOCK_BYTES: usize = 72;
const TYPE_BYTES: usize = 4;
const ANY_TYPE: u8 = 1;

/// The most by which a block of so many types makes an index longer.
pub const fn block_growth_max(types: usize) -> usize {
    DIRECTORY_ENTRY_BYTES + INDEX_BLOCK_BYTES + types * TYPE_BYTES
}

#[derive(Clone, Debug, Default)]
struct StreamPart {
    blocks: Vec<BlockRef>,
    types: Vec<u32>,
    any_type: bool,
}

/// The index of a segment while it is being filled.
#[derive(Clone, Debug, Default)]
pub struct IndexBuilder {
    streams: BTreeMap<StreamNumber, StreamPart>,
    blocks: usize,
    types: usize,
}

impl IndexBuilder {
    /// Adds a block, which lies after all blocks of its stream that were added before, with the types in it.
    pub fn add(&mut self, block: BlockRef, types: &[u32]) {
        let part = self.streams.entry(block.stream).or_default();
        for hash in types {
            if !part.types.contains(hash) {
                if part.types.len() < TYPES_MAX {
                    part.types.push(*hash);
                    self.types += 1;
                } else {
                    part.any_type = true;
                }
            }
        }
        part.any_type |= block.any_type;
        part.blocks.push(block);
        self.blocks += 1;
    }

    /// Length of the encoded index in bytes.
    pub fn encoded_bytes(&self) -> usize {
        self.streams.len() * DIRECTORY_ENTRY_BYTES + self.blocks * INDEX_BLOCK_BYTES + self.types * TYPE_BYTES
    }
    /// Streams in it.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }
    /// Blocks in it.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// What the file holds of each stream, in the order of their numbers.
    pub fn spans(&self, file: FileId) -> Vec<FileSpan> {
        self.streams.iter().map(|(stream, part)| FileSpan::of(file, *stream, &part.blocks)).collect()
    }

    /// The index's bytes, for this offset in the file with this salt.
    pub fn encode(&self, salt: u64, offset: u32) -> Vec<u8> {
        let mut directory = Vec::with_capacity(self.encoded_bytes());
        let mut parts = Vec::new();
        let parts_at = offset as usize + self.streams.len() * DIRECTORY_ENTRY_BYTES;
        for (stream, part) in &self.streams {
            let at = parts_at + parts.len();
            let start = parts.len();
            part.encode(&mut parts);
            let entry = DirectoryEntry {
                span: FileSpan::of(FileId(0), *stream, &part.blocks),
                offset: at as u32,
                length: (parts.len() - start) as u32,
                blocks: part.blocks.len() as u32,
                types: part.types.len() as u8,
                any_type: part.any_type,
                crc: crc::salted(salt, at as u64, &[&parts[start..]]),
            };
            let place = offset as usize + directory.len();
            entry.encode(&mut directory, salt, place as u64);
        }
        directory.append(&mut parts);
        directory
    }
}

impl StreamPart {
    fn encode(&self, out: &mut Vec<u8>) {
        for block in &self.blocks {
            put_id(out, block.first);
            put_id(out, block.last);
            out.extend_from_slice(&block.first_ordinal.to_le_bytes());
            out.extend_from_slice(&block.append_ms.to_le_bytes());
            for number in [block.count, block.bytes, block.offset, block.length, block.crc] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            out.extend_from_slice(&[BlockMeta::flags(block.any_type, block.several_times), block.types, 0, 0]);
        }
        for hash in &self.types {
            out.extend_from_slice(&hash.to_le_bytes());
        }
    }
}

/// Where a stream's part of an index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// What the file holds of the stream; its `file` is for the reader to set.
    pub span: FileSpan,
    /// Where the part begins in the file.
    pub offset: u32,
    /// Its length in bytes.
    pub length: u32,
    /// Blocks in it.
    pub blocks: u32,
    /// Event types in it.
    pub types: u8,
    /// Whether there may be entries of types that are not listed.
    pub any_type: bool,
    /// Salted checksum of the part.
    pub crc: u32,
}

impl DirectoryEntry {
    fn encode(&self, out: &mut Vec<u8>, salt: u64, place: u64) {
        let start = out.len();
        out.extend_from_slice(&self.span.stream.0.to_le_bytes());
        put_id(out, self.span.first);
        put_id(out, self.span.last);
        for number in [self.span.first_ordinal, self.span.count, self.span.bytes] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.offset, self.length, self.blocks, self.crc] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&[if self.any_type { ANY_TYPE } else { 0 }, self.types, 0, 0]);
        let sum = crc::salted(salt, place, &[&out[start..]]);
        out.extend_from_slice(&sum.to_le_bytes());
    }

    /// Reads and verifies the entry that stands at `place` in the file.
    pub fn decode(bytes: &[u8], salt: u64, place: u64, file: FileId) -> Option<Self> {
        let (body, sum) = bytes.get(..DIRECTORY_ENTRY_BYTES)?.split_at(DIRECTORY_ENTRY_BYTES - 4);
        if sum != crc::salted(salt, place, &[body]).to_le_bytes() {
            return None;
        }
        let mut cursor = Cursor(body);
        let span = FileSpan {
            file,
            stream: StreamNumber(cursor.u64()?),
            first: cursor.id()?,
            last: cursor.id()?,
            first_ordinal: cursor.u64()?,
            count: cursor.u64()?,
            bytes: cursor.u64()?,
        };
        let (offset, length, blocks, crc) = (cursor.u32()?, cursor.u32()?, cursor.u32()?, cursor.u32()?);
        let (flags, types) = (cursor.u8()?, cursor.u8()?);
        let expected = u64::from(blocks) * INDEX_BLOCK_BYTES as u64 + u64::from(types) * TYPE_BYTES as u64;
        let any_type = flags & ANY_TYPE != 0;
        (u64::from(length) == expected).then_some(Self { span, offset, length, blocks, types, any_type, crc })
    }

    /// Reads and verifies the part that this entry points to: the blocks, and the hashes of the event types.
    pub fn decode_part(&self, bytes: &[u8], salt: u64) -> Option<(Vec<BlockRef>, Vec<u32>)> {
        if bytes.len() != self.length as usize || crc::salted(salt, u64::from(self.offset), &[bytes]) != self.crc {
            return None;
        }
        let mut cursor = Cursor(bytes);
        let blocks = (0..self.blocks)
            .map(|_| decode_block(&mut cursor, self.span.file, self.span.stream))
            .collect::<Option<Vec<_>>>()?;
        let types = (0..self.types).map(|_| cursor.u32()).collect::<Option<Vec<_>>>()?;
        Some((blocks, types))
    }
}

fn decode_block(from: &mut Cursor<'_>, file: FileId, stream: StreamNumber) -> Option<BlockRef> {
    let (first, last) = (from.id()?, from.id()?);
    let (first_ordinal, append_ms) = (from.u64()?, from.u64()?);
    let (count, bytes, offset, length, crc) = (from.u32()?, from.u32()?, from.u32()?, from.u32()?, from.u32()?);
    let ((any_type, several_times), types) = (BlockMeta::flagged(from.u8()?), from.u8()?);
    from.take(2)?;
    let meta =
        BlockMeta { stream, first, last, first_ordinal, append_ms, count, bytes, types, any_type, several_times };
    Some(meta.at(file, offset, length, crc))
}
