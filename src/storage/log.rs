//! The log's writing side: append, sync, roll to the next segment. Owned by one thread.
//!
//! A frame is one vectored write. A segment is sealed (index, footer, synced) before the next one gets its name, so a
//! later file is proof that all before it were synced. The first failed write or sync poisons the log for good:
//! nothing is ever tried again on a file whose state is not known.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::files::{Files, LogFile, failed};
use super::options::LogOptions;
use super::reader::LogReader;
use super::room::{LogAllocator, Room, RoomPlanner, Spare};
use super::trail::Trail;
use crate::clock::Now;
use crate::error::{Error, Reason, Result};
use crate::faults::Fault;
use crate::format::block::{BlockMeta, BlockRef, FileId, FileSpan, types_of};
use crate::format::crc;
use crate::format::frame::{self, ENTRIES_VERSION, FrameHead, FrameSizes, KIND_ENTRIES, RecordHead};
use crate::format::index::{IndexBuilder, block_growth_max};
use crate::format::segment::{
    FORMAT_VERSION, SEGMENT_FOOTER_BYTES, SEGMENT_HEADER_BYTES, SegmentFooter, SegmentHeader, SegmentKind,
};
use crate::limits::FRAME_BYTES_MAX;
use crate::types::LogPosition;

/// One record of a commit.
#[derive(Clone, Debug)]
pub struct Record {
    /// What it is: [`KIND_ENTRIES`] or a control record.
    pub kind: u8,
    /// Version of its layout.
    pub version: u8,
    /// Its bytes.
    pub content: Bytes,
    /// What is in it, where it is a block of entries.
    pub block: Option<BlockMeta>,
}

impl Record {
    /// A block as `BlockBuilder::finish` gives it.
    pub fn entries((meta, content): (BlockMeta, Bytes)) -> Self {
        Self { kind: KIND_ENTRIES, version: ENTRIES_VERSION, content, block: Some(meta) }
    }
    /// A control record, of a kind other than [`KIND_ENTRIES`].
    pub fn control(kind: u8, version: u8, content: Bytes) -> Self {
        assert_ne!(kind, KIND_ENTRIES, "entries have a description");
        Self { kind, version, content, block: None }
    }

    pub(super) fn head(&self) -> RecordHead {
        let length = u32::try_from(self.content.len()).unwrap_or(u32::MAX);
        let (kind, version, block) = (self.kind, self.version, self.block);
        RecordHead { kind, version, length, crc: crc::content(&self.content), block }
    }
}

/// One commit to append.
#[derive(Clone, Debug)]
pub struct FrameParts {
    /// When the commit was made.
    pub now: Now,
    /// Its records, in order.
    pub records: Vec<Record>,
    /// Whether the store stops in order after it.
    pub clean_stop: bool,
}

/// What became of a commit: written, not yet synced.
#[derive(Clone, Debug)]
pub struct Appended {
    /// Where its frame begins.
    pub position: LogPosition,
    /// Where its frame ends: durable once [`Log::synced`] is here.
    pub end: LogPosition,
    /// Digest of its frame's head.
    pub digest: u32,
    /// Its blocks of entries, in the order of its records.
    pub blocks: Vec<BlockRef>,
    /// The segment that was sealed to make way for it.
    pub sealed: Option<SealedSegment>,
}

/// A segment that is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedSegment {
    /// The file.
    pub file: FileId,
    /// Where the stretch of the log begins that it stands for.
    pub from: LogPosition,
    /// Where that ends: after the last frame of a live segment.
    pub end: LogPosition,
    /// Length of the file in bytes.
    pub length: u64,
    /// What it holds of each stream, in the order of their numbers.
    pub spans: Vec<FileSpan>,
}

/// The segment that is being filled.
pub(super) struct Live {
    pub(super) id: FileId,
    pub(super) file: Arc<dyn LogFile>,
    pub(super) header: SegmentHeader,
    /// Where the next frame goes.
    pub(super) offset: u64,
    pub(super) index: IndexBuilder,
    /// Whether [`Room`] does not know yet that a spare became this file.
    pub(super) is_new: bool,
}

impl Live {
    /// Writes a frame with these contents after the others; answers the digest of its head and its blocks.
    pub(super) fn write_frame(&mut self, head: &FrameHead, records: &[Record]) -> io::Result<(u32, Vec<BlockRef>)> {
        let sizes = frame::sizes(&head.records);
        let encoded = head.encode(self.header.salt);
        let content: usize = records.iter().map(|r| r.content.len()).sum();
        let padding = [0; frame::FRAME_ALIGN];
        let mut slices: Vec<&[u8]> = Vec::with_capacity(records.len() + 2);
        slices.push(&encoded);
        slices.extend(records.iter().map(|r| &r.content[..]));
        slices.push(&padding[..sizes.total - sizes.head - content]);
        self.file.write_at(&slices, self.offset)?;
        let blocks = note_blocks(self, head, sizes, |i| records[i].content.as_ref());
        self.offset += sizes.total as u64;
        Ok((frame::digest(&encoded), blocks))
    }

    /// Bytes left for frames and what they add to the index.
    pub(super) fn rest(&self) -> u64 {
        let used = self.offset + (self.index.encoded_bytes() + SEGMENT_FOOTER_BYTES) as u64;
        self.header.length.saturating_sub(used)
    }
}

/// Where salts come from.
pub(crate) type Salts = Box<dyn FnMut() -> u64 + Send>;

/// The log. See the module.
pub struct Log {
    pub(super) files: Arc<dyn Files>,
    pub(super) options: LogOptions,
    pub(super) salts: Salts,
    pub(super) room: Arc<Room>,
    pub(super) live: Option<Live>,
    /// Position after the last frame.
    pub(super) end: LogPosition,
    /// How far the log is known to be synced.
    pub(super) synced: LogPosition,
    /// Time of the last frame.
    pub(super) last: Now,
    pub(super) poisoned: Option<Error>,
    pub(super) trail: Arc<Trail>,
    /// Shared by all who read.
    pub(super) reader: LogReader,
    /// Where the first segment begins whose frames were handed on at the start.
    pub(super) first: LogPosition,
    /// The segments before it, and the rewritten files, as they were found at the start.
    pub(super) older: Vec<FileId>,
    pub(super) rewritten: Vec<FileId>,
}

impl Log {
    /// Appends a commit. It is durable after the next [`Log::sync`].
    ///
    /// A frame that no segment could hold is refused with `BATCH_TOO_LARGE` and changes nothing. Any other failure
    /// is `STORAGE_FAILED`, for this call and all that follow.
    pub fn append(&mut self, parts: FrameParts) -> Result<Appended> {
        self.check()?;
        let heads: Vec<RecordHead> = parts.records.iter().map(Record::head).collect();
        let sizes = frame::sizes(&heads);
        let blocks = heads.iter().filter_map(|head| head.block);
        let cost = (sizes.total + blocks.map(|b| block_growth_max(usize::from(b.types))).sum::<usize>()) as u64;
        if sizes.total > FRAME_BYTES_MAX || cost > self.options.capacity() {
            return Err(Error::new(Reason::BatchTooLarge, format!("a commit of {} bytes fits no frame", sizes.total)));
        }
        if parts.clean_stop {
            self.sync()?;
        }
        let appended = self.place(cost, parts.now).and_then(|sealed| self.write(&parts, heads, sealed));
        appended.map_err(|failure| self.poison(failure))
    }

    /// Makes everything appended durable.
    pub fn sync(&mut self) -> Result<LogPosition> {
        self.check()?;
        if let Some(live) = self.live.as_ref().filter(|_| self.synced < self.end) {
            let faults = self.options.faults;
            let mut synced = if faults.has(Fault::SkipSync) { Ok(()) } else { live.file.sync() };
            if faults.has(Fault::RetrySync) && synced.is_err() {
                synced = live.file.sync();
            }
            if let Err(error) = synced {
                let failure = Failure::new("syncing", &live.id.name(), error);
                return Err(self.poison(failure));
            }
            self.synced = self.end;
            self.trail.synced(live.id, &live.file, live.offset);
        }
        Ok(self.synced)
    }

    /// Seals the live segment, where it has any entries, and begins the next one.
    pub fn roll(&mut self, now: Now) -> Result<Option<SealedSegment>> {
        self.check()?;
        let filled = self.live.take_if(|live| live.index.blocks() > 0);
        let mut sealed = None;
        if let Some(live) = filled {
            let rolled = self.seal(live).and_then(|done| self.begin(now).map(|()| done));
            sealed = Some(rolled.map_err(|failure| self.poison(failure))?);
        }
        let rest = self.live.as_ref().map_or(0, Live::rest);
        let is_new = self.live.as_mut().is_some_and(|live| std::mem::take(&mut live.is_new));
        self.room.appended(1, rest, u32::from(is_new));
        Ok(sealed)
    }

    /// Syncs, leaves the mark of a clean stop, and syncs it.
    pub fn stop(&mut self, now: Now) -> Result<()> {
        self.append(FrameParts { now, records: Vec::new(), clean_stop: true })?;
        self.sync().map(|_| ())
    }

    /// Position after the last frame.
    pub fn end(&self) -> LogPosition {
        self.end
    }
    /// How far the log is known to be durable.
    pub fn synced(&self) -> LogPosition {
        self.synced
    }
    /// The first failure, which ended all writing.
    pub fn poisoned(&self) -> Option<&Error> {
        self.poisoned.as_ref()
    }
    /// Reads blocks back; for any thread. All share the files that they have open.
    pub fn reader(&self) -> LogReader {
        self.reader.clone()
    }
    /// Keeps files ready; for a thread of its own.
    pub fn allocator(&self) -> LogAllocator {
        LogAllocator::new(Arc::clone(&self.files), Arc::clone(&self.room))
    }
    /// Plans what may be admitted; for the one thread that makes commits, taken before the first of them.
    pub fn planner(&self) -> RoomPlanner {
        RoomPlanner::new(Arc::clone(&self.room))
    }

    fn check(&self) -> Result<()> {
        self.poisoned.clone().map_or(Ok(()), Err)
    }

    fn poison(&mut self, failure: Failure) -> Error {
        let message = format!("{} {}: {}", failure.doing, failure.file, failure.error);
        let error = Error::new(Reason::StorageFailed, message).with("file", failure.file);
        self.poisoned = Some(error.clone());
        error
    }

    /// Makes sure that the live segment has room, and says which one was sealed for it.
    fn place(&mut self, cost: u64, now: Now) -> Result<Option<SealedSegment>, Failure> {
        if self.live.as_ref().is_some_and(|live| live.rest() >= cost) {
            return Ok(None);
        }
        let sealed = self.live.take().map(|live| self.seal(live)).transpose()?;
        self.begin(now)?;
        Ok(sealed)
    }

    fn write(
        &mut self,
        parts: &FrameParts,
        heads: Vec<RecordHead>,
        sealed: Option<SealedSegment>,
    ) -> Result<Appended, Failure> {
        let live = self.live.as_mut().expect("placed before it is written");
        let (position, now, synced_to) = (self.end, parts.now, self.synced);
        let head = FrameHead { position, now, synced_to, clean_stop: parts.clean_stop, records: heads };
        let written = live.write_frame(&head, &parts.records);
        let (digest, blocks) = written.map_err(|error| Failure::new("writing", &live.id.name(), error))?;
        self.end = live.header.position_at(live.offset);
        self.last = now;
        let (rest, is_new) = (live.rest(), std::mem::take(&mut live.is_new));
        self.room.appended(1, rest, u32::from(is_new));
        Ok(Appended { position, end: self.end, digest, blocks, sealed })
    }

    /// Ends a segment: its frames synced, then index and footer written and synced.
    fn seal(&mut self, live: Live) -> Result<SealedSegment, Failure> {
        let name = live.id.name();
        let skip = self.options.faults.has(Fault::SkipSync);
        if self.synced < self.end && !skip {
            live.file.sync().map_err(|error| Failure::new("syncing", &name, error))?;
        }
        self.synced = self.end;
        write_ends(&live, self.end, self.last)
            .and_then(|()| if skip { Ok(()) } else { live.file.sync() })
            .map_err(|error| Failure::new("sealing", &name, error))?;
        self.trail.synced(live.id, &live.file, live.header.length);
        Ok(SealedSegment {
            file: live.id,
            from: live.header.first,
            end: self.end,
            length: live.header.length,
            spans: live.index.spans(live.id),
        })
    }

    /// Begins the next segment: header durable first, then the name.
    pub(super) fn begin(&mut self, now: Now) -> Result<(), Failure> {
        let length = self.options.segment_bytes;
        let spare = match self.room.take_spare() {
            Some(spare) => spare,
            None => {
                let name = self.room.spare_name();
                let made = self.files.create(&name, length);
                Spare { file: made.map_err(|error| Failure::new("allocating", &name, error))?, name }
            }
        };
        let header = self.header(self.end, now, length);
        let id = FileId::live(self.end);
        let named = spare
            .file
            .write_at(&[&header.encode()], 0)
            .and_then(|()| spare.file.sync())
            .and_then(|()| self.files.rename(&spare.name, &id.name()))
            .and_then(
                |()| if self.options.faults.has(Fault::ForgetFolderSync) { Ok(()) } else { self.files.sync_dir() },
            );
        named.map_err(|error| Failure::new("beginning", &id.name(), error))?;
        let offset = SEGMENT_HEADER_BYTES as u64;
        self.live =
            Some(Live { id, file: spare.file, header, offset, index: IndexBuilder::new(FORMAT_VERSION), is_new: true });
        Ok(())
    }

    /// The header of a live segment that begins here, with a new salt.
    pub(super) fn header(&mut self, first: LogPosition, now: Now, length: u64) -> SegmentHeader {
        SegmentHeader {
            version: FORMAT_VERSION,
            kind: SegmentKind::Live,
            shard: 0,
            store: self.options.store,
            first,
            synced_to: first,
            salt: (self.salts)(),
            created_ms: now.wall_ms,
            length,
        }
    }
}

/// Writes a segment's index and footer.
pub(super) fn write_ends(live: &Live, end: LogPosition, last: Now) -> io::Result<()> {
    let salt = live.header.salt;
    let index = live.index.encode(salt, live.offset as u32);
    let footer = SegmentFooter {
        version: live.header.version,
        end,
        last,
        index_offset: live.offset as u32,
        index_length: index.len() as u32,
        streams: live.index.streams() as u32,
        blocks: live.index.blocks() as u32,
    };
    live.file.write_at(&[&index], live.offset)?;
    live.file.write_at(&[&footer.encode(salt)], live.header.length - SEGMENT_FOOTER_BYTES as u64)
}

/// Adds a frame's blocks to the index of the segment that it stands in, at the segment's present offset.
fn note_blocks<'a>(
    live: &mut Live,
    head: &FrameHead,
    sizes: FrameSizes,
    content_of: impl Fn(usize) -> &'a [u8],
) -> Vec<BlockRef> {
    let mut blocks = Vec::new();
    let mut offset = live.offset as u32 + sizes.head as u32;
    for (i, record) in head.records.iter().enumerate() {
        if let Some(meta) = &record.block {
            let block = meta.at(live.id, offset, record.length, record.crc);
            live.index.add(block, &types_of(content_of(i), meta));
            blocks.push(block);
        }
        offset += record.length;
    }
    blocks
}

/// What went wrong while writing, on its way to poison the log.
pub(super) struct Failure {
    doing: &'static str,
    file: String,
    error: io::Error,
}

impl Failure {
    pub(super) fn new(doing: &'static str, file: &str, error: io::Error) -> Self {
        Self { doing, file: file.to_owned(), error }
    }

    /// The error of a start that fails: nothing is poisoned yet, and a full disk is said to be one.
    pub(super) fn at_start(self) -> Error {
        failed(self.doing, &self.file, &self.error)
    }
}
