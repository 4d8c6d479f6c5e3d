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
/// Bytes of a block in a stream's part,
pub const INDEX_BLOCK_BYTES: usize = 76;
/// and as format version 1 has it, without engine time. Which of them it is, the part's length tells.
const INDEX_BLOCK_BYTES_1: usize = 72;
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
#[derive(Clone, Debug)]
pub struct IndexBuilder {
    streams: BTreeMap<StreamNumber, StreamPart>,
    blocks: usize,
    types: usize,
    block_bytes: usize,
}

impl IndexBuilder {
    /// An empty index for a file of this format version: one that was begun by version 1 has kept room for no more.
    pub fn new(version: u16) -> Self {
        let block_bytes = if version < 2 { INDEX_BLOCK_BYTES_1 } else { INDEX_BLOCK_BYTES };
        Self { streams: BTreeMap::new(), blocks: 0, types: 0, block_bytes }
    }

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
        self.streams.len() * DIRECTORY_ENTRY_BYTES + self.blocks * self.block_bytes + self.types * TYPE_BYTES
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
            part.encode(&mut parts, self.block_bytes);
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
    fn encode(&self, out: &mut Vec<u8>, block_bytes: usize) {
        for block in &self.blocks {
            let start = out.len();
            put_id(out, block.first);
            put_id(out, block.last);
            out.extend_from_slice(&block.first_ordinal.to_le_bytes());
            out.extend_from_slice(&block.time.wall_ms.to_le_bytes());
            for number in [block.count, block.bytes, block.offset, block.length, block.crc] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            let mut meta = block.meta();
            if block_bytes < INDEX_BLOCK_BYTES {
                meta.time.engine_ms = None;
            }
            meta.encode_marks(out);
            out.truncate(start + block_bytes);
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
        let any_type = flags & ANY_TYPE != 0;
        let entry = Self { span, offset, length, blocks, types, any_type, crc };
        entry.block_bytes().map(|_| entry)
    }

    /// Bytes of each block in the part; `None` where its length is not that of any version.
    fn block_bytes(&self) -> Option<usize> {
        let types = usize::from(self.types) * TYPE_BYTES;
        let blocks = (self.length as usize).checked_sub(types)?;
        let known = [INDEX_BLOCK_BYTES, INDEX_BLOCK_BYTES_1];
        known.into_iter().find(|each| self.blocks as usize * each == blocks)
    }

    /// Reads and verifies the part that this entry points to: the blocks, and the hashes of the event types.
    pub fn decode_part(&self, bytes: &[u8], salt: u64) -> Option<(Vec<BlockRef>, Vec<u32>)> {
        if bytes.len() != self.length as usize || crc::salted(salt, u64::from(self.offset), &[bytes]) != self.crc {
            return None;
        }
        let (block_bytes, mut blocks) = (self.block_bytes()?, Vec::with_capacity(self.blocks as usize));
        let (of_blocks, of_types) = bytes.split_at(self.blocks as usize * block_bytes);
        for bytes in of_blocks.chunks_exact(block_bytes) {
            blocks.push(decode_block(bytes, self.span.file, self.span.stream)?);
        }
        let mut cursor = Cursor(of_types);
        let types = (0..self.types).map(|_| cursor.u32()).collect::<Option<Vec<_>>>()?;
        Some((blocks, types))
    }
}

fn decode_block(bytes: &[u8], file: FileId, stream: StreamNumber) -> Option<BlockRef> {
    // What the shorter form lacks is zero in the longer one.
    let mut whole = [0; INDEX_BLOCK_BYTES];
    whole[..bytes.len()].copy_from_slice(bytes);
    let mut from = Cursor(&whole);
    let (first, last) = (from.id()?, from.id()?);
    let mut meta = BlockMeta { first, last, ..BlockMeta::begun(stream, from.u64()?, from.u64()?) };
    (meta.count, meta.bytes) = (from.u32()?, from.u32()?);
    let (offset, length, crc) = (from.u32()?, from.u32()?, from.u32()?);
    meta.decode_marks(&mut from)?;
    Some(meta.at(file, offset, length, crc))
}
