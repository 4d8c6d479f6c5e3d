//! Writing a rewritten file: blocks of entries that reclaim moves together, in frames as a segment has them.
//!
//! The file is complete and durable before it gets its name, and nothing refers to it before the log says so; one that
//! is not referred to is removed at the next start. Its frames have positions of their own, counted from zero.

use std::io;
use std::sync::Arc;

use super::files::{Files, create_anew, failed};
use super::log::{Live, Record, SealedSegment, write_ends};
use super::room::block_cost;
use crate::clock::Now;
use crate::error::Result;
use crate::format::block::{BlockMeta, FileId};
use crate::format::frame::{self, FrameHead};
use crate::format::index::IndexBuilder;
use crate::format::record::RewrittenFile;
use crate::format::segment::{
    FORMAT_VERSION, SEGMENT_FOOTER_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentKind, StoreId,
};
use crate::types::LogPosition;

/// What a rewritten file is called until it is complete.
pub(super) const REWRITE_TEMPORARY: &str = "rewrite.tmp";
/// A frame is written once it has so many bytes: what is written at a time.
const FRAME_BYTES: usize = 1 << 20;

/// A rewritten file in the making.
pub struct FileRewriter {
    files: Arc<dyn Files>,
    stands_for: RewrittenFile,
    live: Live,
    now: Now,
    records: Vec<Record>,
    pending: usize,
    done: bool,
}

impl FileRewriter {
    /// Begins a file, with room for so many bytes.
    pub fn begin(
        files: Arc<dyn Files>,
        store: StoreId,
        stands_for: RewrittenFile,
        room: u64,
        salt: u64,
        now: Now,
    ) -> Result<Self> {
        let id = FileId::rewritten(stands_for.number);
        let length = room;
        let made = create_anew(&*files, REWRITE_TEMPORARY, length);
        let file = made.map_err(|error| failed("allocating", &id.name(), &error))?;
        let first = LogPosition(0);
        let (kind, shard, created_ms) = (SegmentKind::Rewritten, 0, now.wall_ms);
        let header = SegmentHeader {
            version: FORMAT_VERSION,
            kind,
            shard,
            store,
            first,
            synced_to: first,
            salt,
            created_ms,
            length,
        };
        let live = Live {
            id,
            file,
            header,
            offset: SEGMENT_HEADER_BYTES as u64,
            index: IndexBuilder::new(FORMAT_VERSION),
            is_new: false,
        };
        Ok(Self { files, stands_for, live, now, records: Vec::new(), pending: 0, done: false })
    }

    /// Whether a block of this size still fits, whatever it brings with it.
    pub fn fits(&self, content_bytes: usize, types: usize) -> bool {
        let frame = frame::FRAME_HEAD_BYTES + 2 * frame::FRAME_ALIGN;
        self.live.rest() >= (frame + self.pending + record_bytes(content_bytes, types)) as u64
    }

    /// Adds a block, which comes after those of smaller stream numbers and, in its stream, of smaller ids.
    pub fn add(&mut self, block: (BlockMeta, bytes::Bytes)) -> Result<()> {
        self.pending += record_bytes(block.1.len(), usize::from(block.0.types));
        self.records.push(Record::entries(block));
        if self.pending >= FRAME_BYTES { self.write_frame() } else { Ok(()) }
    }

    fn write_frame(&mut self) -> Result<()> {
        let records = std::mem::take(&mut self.records);
        self.pending = 0;
        let heads = records.iter().map(Record::head).collect();
        let position = self.live.header.position_at(self.live.offset);
        let synced_to = LogPosition(0);
        let head = FrameHead { position, now: self.now, synced_to, clean_stop: false, records: heads };
        let written = self.live.write_frame(&head, &records);
        written.map(drop).map_err(|error| failed("writing", &self.live.id.name(), &error))
    }

    /// Completes the file: as long as it needs to be, durable, then named.
    pub fn finish(mut self) -> Result<SealedSegment> {
        if !self.records.is_empty() {
            self.write_frame()?;
        }
        let name = self.live.id.name();
        self.place(&name).map_err(|error| failed("writing", &name, &error))?;
        self.done = true;
        let (file, index) = (self.live.id, &self.live.index);
        let (from, end) = (self.stands_for.from, self.stands_for.to);
        Ok(SealedSegment { file, from, end, length: self.live.header.length, spans: index.spans(file) })
    }

    fn place(&mut self, name: &str) -> io::Result<()> {
        let live = &mut self.live;
        let ends = (live.index.encoded_bytes() + SEGMENT_FOOTER_BYTES) as u64;
        live.header.length = (live.offset + ends).next_multiple_of(frame::FRAME_ALIGN as u64);
        live.file.truncate(live.header.length)?;
        live.file.write_at(&[&live.header.encode()], 0)?;
        write_ends(live, live.header.position_at(live.offset), self.now)?;
        live.file.sync()?;
        live.file.uncache(0, live.header.length);
        self.files.rename(REWRITE_TEMPORARY, name)?;
        self.files.sync_dir()
    }
}

impl Drop for FileRewriter {
    fn drop(&mut self) {
        if !self.done {
            // What stays is taken away by the next one, or at the next start.
            let _ = self.files.remove(REWRITE_TEMPORARY);
        }
    }
}

/// What a block adds to a file at most: in its frame and in the index.
fn record_bytes(content_bytes: usize, types: usize) -> usize {
    block_cost(content_bytes, types) as usize
}
