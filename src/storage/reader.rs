//! Reading blocks and indexes back, from any thread. Every read verifies its checksum and fails closed.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;

use super::files::{Files, LogFile, failed};
use super::options::Faults;
use super::scan::{Scanner, corrupt, read_header};
use crate::error::{Reason, Result};
use crate::format::block::{BlockRef, BlockView, FileId, FileSpan};
use crate::format::crc;
use crate::format::index::{DIRECTORY_ENTRY_BYTES, DirectoryEntry};
use crate::format::segment::{SEGMENT_FOOTER_BYTES, SEGMENT_HEADER_BYTES, SegmentFooter, SegmentHeader};
use crate::limits::LOG_FILES_OPEN_MAX;

/// Reads the log's files; cheap to clone.
#[derive(Clone)]
pub struct LogReader(Arc<Inner>);

struct Inner {
    files: Arc<dyn Files>,
    open: Mutex<OpenFiles>,
    faults: Faults,
}

#[derive(Default)]
struct OpenFiles {
    by_id: HashMap<FileId, (Arc<OpenFile>, u64)>,
    tick: u64,
}

struct OpenFile {
    file: Arc<dyn LogFile>,
    /// Read once, where it is not damaged.
    header: OnceLock<SegmentHeader>,
}

impl LogReader {
    pub(super) fn new(files: Arc<dyn Files>, faults: Faults) -> Self {
        Self(Arc::new(Inner { files, open: Mutex::default(), faults }))
    }

    /// The content of a block, as it was appended; `CORRUPT` with file, offset and ids where it is not.
    pub fn read_block(&self, block: &BlockRef) -> Result<Bytes> {
        let open = self.open(block.file)?;
        let content = read(&*open.file, block.file, u64::from(block.offset), block.length as usize)?;
        match content {
            Some(content) if self.0.faults.skip_checksum() || crc::content(&content) == block.crc => Ok(content),
            Some(_) => Err(block.corrupt("the stored bytes do not match their checksum")),
            None => Err(block.corrupt("the file ends before the block does")),
        }
    }

    /// A block, ready to be walked.
    pub fn view_block(&self, block: &BlockRef) -> Result<BlockView> {
        BlockView::new(self.read_block(block)?, block)
    }

    /// The blocks that a sealed file holds of a stream. Where the index is damaged they are found by reading the
    /// frames; `CORRUPT` where the two together do not give what the span says.
    pub fn load_index(&self, span: &FileSpan) -> Result<Vec<BlockRef>> {
        let open = self.open(span.file)?;
        let blocks = match self.read_index_part(&open, span)? {
            Some((blocks, _)) => blocks,
            None => from_frames(&*open.file, span)?,
        };
        let count: u64 = blocks.iter().map(|b| u64::from(b.count)).sum();
        let ends = (blocks.first().map(|b| b.first), blocks.last().map(|b| b.last));
        if count != span.count || ends != (Some(span.first), Some(span.last)) {
            let (stream, first, last) = (span.stream.0, span.first, span.last);
            let why = format!("the index of stream number {stream}, entries {first} to {last}, is damaged");
            return Err(corrupt(span.file, 0, why).with("first_id", first).with("last_id", last));
        }
        Ok(blocks)
    }

    /// Hashes of the event types that a sealed file holds of a stream; `None` where it may hold any.
    pub fn load_types(&self, span: &FileSpan) -> Result<Option<Vec<u32>>> {
        let open = self.open(span.file)?;
        Ok(self.read_index_part(&open, span)?.and_then(|(_, types)| types))
    }

    /// Closes a file that was removed.
    pub fn forget(&self, file: FileId) {
        self.0.open.lock().by_id.remove(&file);
    }

    fn open(&self, id: FileId) -> Result<Arc<OpenFile>> {
        let mut open = self.0.open.lock();
        open.tick += 1;
        let tick = open.tick;
        if let Some((file, used)) = open.by_id.get_mut(&id) {
            *used = tick;
            return Ok(Arc::clone(file));
        }
        drop(open);
        let file = self.0.files.open(&id.name()).map_err(|error| failed("opening", &id.name(), &error))?;
        let file = Arc::new(OpenFile { file, header: OnceLock::new() });
        let mut open = self.0.open.lock();
        if open.by_id.len() >= LOG_FILES_OPEN_MAX {
            let oldest = open.by_id.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| *id);
            oldest.and_then(|id| open.by_id.remove(&id));
        }
        open.by_id.insert(id, (Arc::clone(&file), tick));
        Ok(file)
    }

    /// What the index says of a stream: the blocks, and the types unless there may be any; `None` where it is damaged.
    #[expect(clippy::type_complexity, reason = "used in two places right here")]
    fn read_index_part(&self, open: &OpenFile, span: &FileSpan) -> Result<Option<(Vec<BlockRef>, Option<Vec<u32>>)>> {
        let Some(header) = header_of(open, span.file)? else { return Ok(None) };
        let Some(at) = header.length.checked_sub(SEGMENT_FOOTER_BYTES as u64) else { return Ok(None) };
        let Some(bytes) = read(&*open.file, span.file, at, SEGMENT_FOOTER_BYTES)? else { return Ok(None) };
        let Some(footer) = SegmentFooter::decode(&bytes, header.salt) else { return Ok(None) };
        let Some(entry) = find(&*open.file, &header, &footer, span)? else { return Ok(None) };
        let part = read(&*open.file, span.file, u64::from(entry.offset), entry.length as usize)?;
        let decoded = part.and_then(|part| entry.decode_part(&part, header.salt));
        Ok(decoded.map(|(blocks, types)| (blocks, (!entry.any_type).then_some(types))))
    }
}

/// The header; `None` where it is damaged.
fn header_of(open: &OpenFile, id: FileId) -> Result<Option<SegmentHeader>> {
    if let Some(header) = open.header.get() {
        return Ok(Some(*header));
    }
    match read_header(&*open.file, id) {
        Ok(header) => Ok(Some(*open.header.get_or_init(|| header))),
        Err(error) if error.reason() == Reason::Corrupt => Ok(None),
        Err(error) => Err(error),
    }
}

/// Binary search over the directory; `None` where an entry on the way is damaged or the stream is not there.
fn find(
    file: &dyn LogFile,
    header: &SegmentHeader,
    footer: &SegmentFooter,
    span: &FileSpan,
) -> Result<Option<DirectoryEntry>> {
    let (mut low, mut high) = (0, u64::from(footer.streams));
    while low < high {
        let middle = low.midpoint(high);
        let place = u64::from(footer.index_offset) + middle * DIRECTORY_ENTRY_BYTES as u64;
        let Some(bytes) = read(file, span.file, place, DIRECTORY_ENTRY_BYTES)? else { return Ok(None) };
        let Some(entry) = DirectoryEntry::decode(&bytes, header.salt, place, span.file) else { return Ok(None) };
        match entry.span.stream.cmp(&span.stream) {
            std::cmp::Ordering::Equal => return Ok(Some(entry)),
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    Ok(None)
}

/// The blocks of a stream as the frames' tables have them, up to the first place where no frame stands.
fn from_frames(file: &dyn LogFile, span: &FileSpan) -> Result<Vec<BlockRef>> {
    let mut scanner = Scanner::open(file, span.file)?;
    let mut offset = SEGMENT_HEADER_BYTES as u64;
    let mut blocks = Vec::new();
    while let Some((head, sizes)) = scanner.head(offset)? {
        let mut at = offset + sizes.head as u64;
        for record in &head.records {
            if let Some(meta) = record.block.filter(|meta| meta.stream == span.stream) {
                blocks.push(meta.at(span.file, at as u32, record.length, record.crc));
            }
            at += u64::from(record.length);
        }
        offset += sizes.total as u64;
    }
    Ok(blocks)
}

/// Bytes of a file; `None` where it ends before.
fn read(file: &dyn LogFile, id: FileId, offset: u64, length: usize) -> Result<Option<Bytes>> {
    let mut buffer = vec![0; length];
    let read = file.read_at(&mut buffer, offset).map_err(|error| failed("reading", &id.name(), &error))?;
    Ok((read == length).then(|| Bytes::from(buffer)))
}
