//! Reading blocks and indexes back, from any thread. Every read verifies its checksum and fails closed.
//!
//! All readers of a log share the files that are open. One that was removed is closed with the last read under way: an
//! open file would keep its space.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;

use super::files::{Files, LogFile, descriptors_max, failed, is_short_of_descriptors};
use super::scan::{Scanner, corrupt, read_header};
use super::trail::Trail;
use crate::error::{Reason, Result};
use crate::faults::{Fault, Faults};
use crate::format::block::{BlockRef, BlockView, FileId, FileSpan};
use crate::format::crc;
use crate::format::index::{DIRECTORY_ENTRY_BYTES, DirectoryEntry};
use crate::format::segment::{SEGMENT_FOOTER_BYTES, SegmentFooter, SegmentHeader};
use crate::limits::LOG_FILES_OPEN_MAX;
use crate::types::{EntryId, StreamNumber};

/// Reads the log's files; cheap to clone.
#[derive(Clone)]
pub struct LogReader(Arc<Inner>);

struct Inner {
    files: Arc<dyn Files>,
    open: Mutex<OpenFiles>,
    open_max: usize,
    trail: Arc<Trail>,
    faults: Faults,
}

#[derive(Default)]
struct OpenFiles {
    by_id: HashMap<FileId, (Arc<OpenFile>, u64)>,
    tick: u64,
    /// How many were forgotten: what was opened before that may be one of them.
    forgotten: u64,
}

struct OpenFile {
    file: Arc<dyn LogFile>,
    /// Read once, where they are not damaged.
    ends: OnceLock<Ends>,
}

impl LogReader {
    pub(super) fn new(files: Arc<dyn Files>, faults: Faults, trail: Arc<Trail>) -> Self {
        // Others need descriptors, too.
        let open_max = LOG_FILES_OPEN_MAX.min(usize::try_from(descriptors_max() / 8).unwrap_or(usize::MAX));
        Self(Arc::new(Inner { files, open: Mutex::default(), open_max, trail, faults }))
    }

    /// The content of a block, as it was appended; `CORRUPT` with file, offset and ids where it is not.
    pub fn read_block(&self, block: &BlockRef) -> Result<Bytes> {
        let open = self.open(block.file)?;
        let content = read(&*open.file, block.file, u64::from(block.offset), block.length as usize)?;
        match content {
            Some(content) if self.0.faults.has(Fault::SkipChecksum) || crc::content(&content) == block.crc => {
                Ok(content)
            }
            Some(_) => Err(block.corrupt("the stored bytes do not match their checksum")),
            None => Err(block.corrupt("the file ends before the block does")),
        }
    }

    /// A block, ready to be walked.
    pub fn view_block(&self, block: &BlockRef) -> Result<BlockView> {
        BlockView::new(self.read_block(block)?, block)
    }

    /// The blocks that a sealed file holds of a stream, of which it is known to hold some and with which entry they end.
    /// Where the index is damaged they are found by reading the frames; `CORRUPT` where that does not give them, either.
    pub fn load_index(&self, file: FileId, stream: StreamNumber, last: EntryId) -> Result<Vec<BlockRef>> {
        let open = self.open(file)?;
        let blocks = match open.index_part(file, stream)? {
            Some((_, blocks, _)) => blocks,
            None => from_frames(&*open.file, file, stream)?,
        };
        if blocks.last().map(|block| block.last) != Some(last) {
            let why = format!("the index of stream number {}, entries up to {last}, is damaged", stream.0);
            return Err(corrupt(file, 0, why).with("last_id", last));
        }
        Ok(blocks)
    }

    /// What a sealed file holds of a stream, as for [`LogReader::load_index`] but of all its blocks together.
    pub fn load_span(&self, file: FileId, stream: StreamNumber, last: EntryId) -> Result<FileSpan> {
        let found = self.open(file)?.directory_entry(file, stream)?.map(|entry| entry.span);
        if let Some(span) = found.filter(|span| span.last == last) {
            return Ok(span);
        }
        let blocks = self.load_index(file, stream, last)?;
        let (first, first_ordinal) = blocks.first().map(|b| (b.first, b.first_ordinal)).unwrap_or_default();
        let count = blocks.iter().map(|b| u64::from(b.count)).sum();
        let bytes = blocks.iter().map(|b| u64::from(b.bytes)).sum();
        Ok(FileSpan { file, stream, first, last, first_ordinal, count, bytes })
    }

    /// Hashes of the event types that a sealed file holds of a stream; `None` where it may hold any.
    pub fn load_types(&self, file: FileId, stream: StreamNumber) -> Result<Option<Vec<u32>>> {
        let part = self.open(file)?.index_part(file, stream)?;
        Ok(part.and_then(|(entry, _, types)| (!entry.any_type).then_some(types)))
    }

    /// What a sealed file holds of every stream, in the order of their numbers; `CORRUPT` where its directory is damaged.
    pub fn load_directory(&self, file: FileId) -> Result<Vec<FileSpan>> {
        let open = self.open(file)?;
        let damaged = || corrupt(file, 0, "the directory of the index is damaged".into());
        let ends = open.ends(file)?.ok_or_else(damaged)?;
        let entries = open.directory(file, ends, 0, u64::from(ends.footer.streams))?.ok_or_else(damaged)?;
        Ok(entries.into_iter().map(|entry| entry.span).collect())
    }

    /// Closes a file that was removed, in all readers of the log and wherever else the log has it open. Reads under way
    /// go on, and close it.
    pub fn forget(&self, file: FileId) {
        let mut open = self.0.open.lock();
        open.forgotten += 1;
        open.by_id.remove(&file);
        drop(open);
        self.0.trail.forget(file);
    }

    fn open(&self, id: FileId) -> Result<Arc<OpenFile>> {
        let mut open = self.0.open.lock();
        open.tick += 1;
        let tick = open.tick;
        if let Some((file, used)) = open.by_id.get_mut(&id) {
            *used = tick;
            return Ok(Arc::clone(file));
        }
        let forgotten = open.forgotten;
        drop(open);
        let name = id.name();
        let opened = self.0.files.open(&name).or_else(|error| {
            if !is_short_of_descriptors(&error) {
                return Err(error);
            }
            self.0.open.lock().by_id.clear();
            self.0.files.open(&name)
        });
        let file = opened.map_err(|error| failed("opening", &name, &error))?;
        let file = Arc::new(OpenFile { file, ends: OnceLock::new() });
        let mut open = self.0.open.lock();
        if open.forgotten != forgotten {
            return Ok(file);
        }
        if open.by_id.len() >= self.0.open_max {
            let oldest = open.by_id.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| *id);
            oldest.and_then(|id| open.by_id.remove(&id));
        }
        open.by_id.insert(id, (Arc::clone(&file), tick));
        Ok(file)
    }
}

/// Directory entries read at a time while one is looked for: about a page.
const PROBE_ENTRIES: u64 = 46;

/// Probes that guess by the stream's number before a search halves what is left.
const GUESSES_MAX: u32 = 4;

/// A file's header and, once it is sealed, its footer.
#[derive(Clone, Copy)]
struct Ends {
    header: SegmentHeader,
    footer: SegmentFooter,
}

impl OpenFile {
    /// Header and footer; `None` where one is damaged.
    fn ends(&self, id: FileId) -> Result<Option<Ends>> {
        if let Some(ends) = self.ends.get() {
            return Ok(Some(*ends));
        }
        let header = match read_header(&*self.file, id) {
            Ok(header) => header,
            Err(error) if error.reason() == Reason::Corrupt => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(at) = header.length.checked_sub(SEGMENT_FOOTER_BYTES as u64) else { return Ok(None) };
        let bytes = read(&*self.file, id, at, SEGMENT_FOOTER_BYTES)?;
        let footer = bytes.and_then(|bytes| SegmentFooter::decode(&bytes, header.salt));
        Ok(footer.map(|footer| *self.ends.get_or_init(|| Ends { header, footer })))
    }

    /// What the index says of a stream: the entry of the directory, the blocks, the listed types; `None` where it is
    /// damaged.
    #[expect(clippy::type_complexity, reason = "used in two places right here")]
    fn index_part(
        &self,
        id: FileId,
        stream: StreamNumber,
    ) -> Result<Option<(DirectoryEntry, Vec<BlockRef>, Vec<u32>)>> {
        let Some(ends) = self.ends(id)? else { return Ok(None) };
        let Some(entry) = self.directory_entry(id, stream)? else { return Ok(None) };
        let part = read(&*self.file, id, u64::from(entry.offset), entry.length as usize)?;
        let decoded = part.and_then(|part| entry.decode_part(&part, ends.header.salt));
        Ok(decoded.map(|(blocks, types)| (entry, blocks, types)))
    }

    /// Searches the directory, which is in the order of stream numbers, a page at a time; `None` where an entry on the
    /// way is damaged or the stream is not there.
    fn directory_entry(&self, id: FileId, stream: StreamNumber) -> Result<Option<DirectoryEntry>> {
        let Some(ends) = self.ends(id)? else { return Ok(None) };
        // The entry is in `low..high`; what stands around that is of these streams.
        let (mut low, mut high) = (0, u64::from(ends.footer.streams));
        let (mut below, mut above) = (0, None);
        let mut probes = 0;
        while low < high {
            let share = above.map(|above: u64| (stream.0 - below) as f64 / (above - below) as f64);
            let guess = match share {
                Some(share) if probes < GUESSES_MAX => low + ((high - low) as f64 * share) as u64,
                // The first guess: all streams that there are have entries in the file.
                None if probes == 0 => stream.0,
                _ => low.midpoint(high),
            };
            probes += 1;
            let start = guess.saturating_sub(PROBE_ENTRIES / 2).clamp(low, high - 1);
            let end = high.min(start + PROBE_ENTRIES);
            let Some(entries) = self.directory(id, ends, start, end)? else { return Ok(None) };
            let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(None) };
            if stream < first.span.stream {
                (high, above) = (start, Some(first.span.stream.0));
            } else if stream > last.span.stream {
                (low, below) = (end, last.span.stream.0);
            } else {
                let at = entries.binary_search_by_key(&stream, |entry| entry.span.stream);
                return Ok(at.ok().map(|at| entries[at]));
            }
        }
        Ok(None)
    }

    /// A stretch of the directory; `None` where an entry of it is damaged.
    fn directory(&self, id: FileId, ends: Ends, start: u64, end: u64) -> Result<Option<Vec<DirectoryEntry>>> {
        let at = u64::from(ends.footer.index_offset) + start * DIRECTORY_ENTRY_BYTES as u64;
        let Some(bytes) = read(&*self.file, id, at, (end - start) as usize * DIRECTORY_ENTRY_BYTES)? else {
            return Ok(None);
        };
        let places = (at..).step_by(DIRECTORY_ENTRY_BYTES);
        let entries = bytes.chunks_exact(DIRECTORY_ENTRY_BYTES).zip(places);
        Ok(entries.map(|(bytes, place)| DirectoryEntry::decode(bytes, ends.header.salt, place, id)).collect())
    }
}

/// The blocks of a stream as the frames' tables have them, up to the first place where no frame stands.
fn from_frames(file: &dyn LogFile, id: FileId, stream: StreamNumber) -> Result<Vec<BlockRef>> {
    let mut blocks = Vec::new();
    Scanner::open(file, id)?.each_block(|block| {
        if block.stream == stream {
            blocks.push(block);
        }
    })?;
    Ok(blocks)
}

/// Bytes of a file; `None` where it ends before.
fn read(file: &dyn LogFile, id: FileId, offset: u64, length: usize) -> Result<Option<Bytes>> {
    let mut buffer = vec![0; length];
    let read = file.read_at(&mut buffer, offset).map_err(|error| failed("reading", &id.name(), &error))?;
    Ok((read == length).then(|| Bytes::from(buffer)))
}
