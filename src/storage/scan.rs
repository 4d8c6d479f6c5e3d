//! Reading a log file from front to back: a window over the file, heads that verify, contents that are checked.

use bytes::Bytes;

use super::files::{LogFile, failed};
use crate::error::{Error, Reason, Result};
use crate::faults::{Fault, Faults};
use crate::format::block::{BlockRef, FileId};
use crate::format::crc;
use crate::format::frame::{self, FRAME_ALIGN, FRAME_HEAD_BYTES, FrameHead, FrameSizes};
use crate::format::index::{DIRECTORY_ENTRY_BYTES, DirectoryEntry};
use crate::format::segment::{
    BadHeader, FORMAT_VERSION, SEGMENT_FOOTER_BYTES, SEGMENT_HEADER_BYTES, SegmentFooter, SegmentHeader, SegmentKind,
    StoreId,
};
use crate::types::LogPosition;

/// Bytes read at a time.
const WINDOW_BYTES: u64 = 1 << 20;

/// A file that is being read.
pub(super) struct Scanner<'a> {
    pub(super) id: FileId,
    pub(super) header: SegmentHeader,
    file: &'a dyn LogFile,
    length: u64,
    window: Bytes,
    window_at: u64,
}

/// A frame whose head is valid.
pub(super) struct ScannedFrame {
    pub(super) head: FrameHead,
    pub(super) sizes: FrameSizes,
    pub(super) offset: u64,
    /// The records' contents; `None` for those that do not match their checksum.
    pub(super) contents: Vec<Option<Bytes>>,
    /// The whole frame as it stands.
    pub(super) bytes: Bytes,
}

impl<'a> Scanner<'a> {
    /// Reads and checks the header.
    pub(super) fn open(file: &'a dyn LogFile, id: FileId) -> Result<Self> {
        let length = file.length().map_err(|error| failed("reading", &id.name(), &error))?;
        let header = read_header(file, id)?;
        // Offsets are 32 bits wide; a file is made with its length, which its header states.
        if header.length > u64::from(u32::MAX) || length < header.length {
            return Err(corrupt(id, length, format!("the file is {length} of {} bytes long", header.length)));
        }
        Ok(Self { id, length: header.length, header, file, window: Bytes::new(), window_at: 0 })
    }

    /// Whose file it has to be, and that it is what its name says.
    pub(super) fn check_identity(&self, store: StoreId) -> Result<()> {
        if self.header.store != store {
            return Err(Error::new(
                Reason::DataDirectory,
                format!("{} belongs to another data directory", self.id.name()),
            ));
        }
        let named = match self.header.kind {
            SegmentKind::Live => FileId::live(self.header.first) == self.id,
            SegmentKind::Rewritten => self.id.is_rewritten(),
        };
        if named { Ok(()) } else { Err(corrupt(self.id, 0, "the file is not what its name says".into())) }
    }

    /// The bytes at this place; `None` beyond the end of the file.
    pub(super) fn bytes(&mut self, offset: u64, length: usize) -> Result<Option<Bytes>> {
        let end = offset + length as u64;
        if end > self.length {
            return Ok(None);
        }
        if offset < self.window_at || end > self.window_at + self.window.len() as u64 {
            let want = (length as u64).max(WINDOW_BYTES).min(self.length - offset);
            let mut buffer = vec![0; want as usize];
            let read = self.file.read_at(&mut buffer, offset);
            let read = read.map_err(|error| failed("reading", &self.id.name(), &error))?;
            buffer.truncate(read);
            (self.window, self.window_at) = (Bytes::from(buffer), offset);
        }
        let start = (offset - self.window_at) as usize;
        Ok((start + length <= self.window.len()).then(|| self.window.slice(start..start + length)))
    }

    /// The head at this offset, where a valid one stands there.
    pub(super) fn head(&mut self, offset: u64) -> Result<Option<(FrameHead, FrameSizes)>> {
        let Some(sizes) = self.bytes(offset, FRAME_HEAD_BYTES)?.and_then(|fixed| frame::peek(&fixed)) else {
            return Ok(None);
        };
        let Some(bytes) = self.bytes(offset, sizes.head)? else { return Ok(None) };
        let inside = offset + sizes.total as u64 <= self.length;
        Ok(FrameHead::decode(&bytes, self.header.salt, self.header.position_at(offset)).filter(|_| inside))
    }

    /// The frame at this offset with its contents, where a valid head stands there.
    pub(super) fn frame(&mut self, offset: u64, faults: Faults) -> Result<Option<ScannedFrame>> {
        let Some((head, sizes)) = self.head(offset)? else { return Ok(None) };
        let Some(bytes) = self.bytes(offset, sizes.total)? else { return Ok(None) };
        let mut start = sizes.head;
        let mut contents = Vec::with_capacity(head.records.len());
        for record in &head.records {
            let content = bytes.slice(start..start + record.length as usize);
            let intact = faults.has(Fault::SkipChecksum) || crc::content(&content) == record.crc;
            contents.push(intact.then_some(content));
            start += record.length as usize;
        }
        Ok(Some(ScannedFrame { head, sizes, offset, contents, bytes }))
    }

    /// The footer, where the file is sealed.
    pub(super) fn footer(&mut self) -> Result<Option<SegmentFooter>> {
        let Some(at) = self.length.checked_sub(SEGMENT_FOOTER_BYTES as u64) else { return Ok(None) };
        let Some(bytes) = self.bytes(at, SEGMENT_FOOTER_BYTES)? else { return Ok(None) };
        Ok(SegmentFooter::decode(&bytes, self.header.salt).filter(|footer| footer.end >= self.header.first))
    }

    /// The entry of the index's directory at this place; `None` where it is damaged.
    pub(super) fn directory_entry(&mut self, place: u64) -> Result<Option<DirectoryEntry>> {
        let bytes = self.bytes(place, DIRECTORY_ENTRY_BYTES)?;
        Ok(bytes.and_then(|bytes| DirectoryEntry::decode(&bytes, self.header.salt, place, self.id)))
    }

    /// The index's part that an entry points to, blocks and types; `None` where it is damaged.
    pub(super) fn index_part(&mut self, entry: &DirectoryEntry) -> Result<Option<(Vec<BlockRef>, Vec<u32>)>> {
        let bytes = self.bytes(u64::from(entry.offset), entry.length as usize)?;
        Ok(bytes.and_then(|bytes| entry.decode_part(&bytes, self.header.salt)))
    }

    /// Hands on the blocks that the heads of the frames tell of, up to the first place where no frame stands; answers the
    /// offset there.
    pub(super) fn each_block(&mut self, mut on: impl FnMut(BlockRef)) -> Result<u64> {
        let mut offset = SEGMENT_HEADER_BYTES as u64;
        while let Some((head, sizes)) = self.head(offset)? {
            let mut at = offset as u32 + sizes.head as u32;
            for record in &head.records {
                if let Some(meta) = record.block {
                    on(meta.at(self.id, at, record.length, record.crc));
                }
                at += record.length;
            }
            offset += sizes.total as u64;
        }
        Ok(offset)
    }

    /// The first valid head at or after this offset.
    pub(super) fn next_head(&mut self, mut offset: u64) -> Result<Option<(u64, FrameHead, FrameSizes)>> {
        while offset + FRAME_HEAD_BYTES as u64 <= self.length {
            if let Some((head, sizes)) = self.head(offset)? {
                return Ok(Some((offset, head, sizes)));
            }
            offset += FRAME_ALIGN as u64;
        }
        Ok(None)
    }

    /// How far the log is known to have been synced, by all that is legible in a file that was being written.
    pub(super) fn greatest_synced(&mut self, faults: Faults) -> Result<LogPosition> {
        let mut synced = self.header.synced_to;
        let mut offset = SEGMENT_HEADER_BYTES as u64;
        while let Some((at, head, sizes)) = self.next_head(offset)? {
            if at > offset && faults.has(Fault::CutAtFirstBadFrame) {
                break;
            }
            synced = synced.max(head.synced_to);
            offset = at + sizes.total as u64;
        }
        Ok(synced)
    }

    /// Where the last byte ends, from this offset on, that is not zero; `offset` itself where all are.
    pub(super) fn used_until(&mut self, offset: u64) -> Result<u64> {
        let (mut at, mut used) = (offset, offset);
        while at < self.length {
            let step = WINDOW_BYTES.min(self.length - at);
            let Some(bytes) = self.bytes(at, step as usize)? else { break };
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                used = at + last as u64 + 1;
            }
            at += step;
        }
        Ok(used)
    }
}

/// Where the entries of the directory of an index are.
pub(super) fn directory_places(footer: &SegmentFooter) -> impl Iterator<Item = u64> + use<> {
    let at = u64::from(footer.index_offset);
    (0..u64::from(footer.streams)).map(move |number| at + number * DIRECTORY_ENTRY_BYTES as u64)
}

/// Reads and verifies a file's header.
pub(super) fn read_header(file: &dyn LogFile, id: FileId) -> Result<SegmentHeader> {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    file.read_at(&mut bytes, 0).map_err(|error| failed("reading", &id.name(), &error))?;
    SegmentHeader::decode(&bytes).map_err(|bad| match bad {
        BadHeader::Damaged => corrupt(id, 0, "the file's header is damaged".into()),
        BadHeader::Newer(version) => newer(&id.name(), version),
    })
}

/// The error of a file that a newer version wrote.
pub(super) fn newer(name: &str, version: u16) -> Error {
    Error::new(
        Reason::DataDirectory,
        format!("{name} has format version {version}, this program knows versions up to {FORMAT_VERSION}"),
    )
}

/// The error of damage that is not in a block of entries.
pub(super) fn corrupt(id: FileId, offset: u64, why: String) -> Error {
    Error::new(Reason::Corrupt, format!("{} at {offset}: {why}", id.name()))
        .with("file", id.name())
        .with("offset", offset)
}
