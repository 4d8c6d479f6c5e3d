//! Opening a log: every frame that no checkpoint covers is read, checked and handed on, and of the others what they hold;
//! a torn tail is cut; damage is told from it.
//!
//! The rule: what lies below the greatest `synced_to` that any valid frame, header or checkpoint states was durable
//! once, so a flaw there is corruption. In a block of entries it is reported and the start goes on; anywhere else the start is
//! refused. A flaw at or above it is a torn or unsynced tail: the log ends there. What was accepted beyond may only be
//! in the page cache, so it is written to a new file and synced before anything is served. Every step can be
//! interrupted and done again.

use std::sync::Arc;

use bytes::Bytes;

use super::erased::{is_cut_name, is_erased_name};
use super::files::{Files, LogFile, failed, is_full};
use super::index::ResumeAt;
use super::log::{Live, Log, Salts, SealedSegment, write_ends};
use super::options::LogOptions;
use super::reader::LogReader;
use super::rewrite::REWRITE_TEMPORARY;
use super::room::{Room, Spare, parse_spare_name};
use super::scan::{ScannedFrame, Scanner, corrupt, directory_places};
use super::snapshot::{SNAPSHOT_TEMPORARY, is_snapshot_name};
use super::trail::Trail;
use crate::clock::Now;
use crate::error::{Error, Reason, Result};
use crate::faults::Fault;
use crate::format::block::{BlockRef, FileId, types_of};
use crate::format::crc;
use crate::format::frame::{self, KIND_ENTRIES};
use crate::format::index::IndexBuilder;
use crate::format::segment::{SEGMENT_HEADER_BYTES, SegmentFooter, SegmentHeader, StoreId};
use crate::limits::{CUT_FILES_MAX, DAMAGED_LISTED_MAX};
use crate::types::LogPosition;

/// A frame as recovery hands it on.
#[derive(Clone, Debug)]
pub struct RecoveredFrame {
    /// Where it begins.
    pub position: LogPosition,
    /// Where it ends.
    pub end: LogPosition,
    /// When the commit was made.
    pub now: Now,
    /// Whether the store was stopped in order after it.
    pub clean_stop: bool,
    /// Its records, in order.
    pub records: Vec<RecoveredRecord>,
}

/// A record as recovery hands it on.
#[derive(Clone, Debug)]
pub struct RecoveredRecord {
    /// What it is; `KIND_ENTRIES` or a control record.
    pub kind: u8,
    /// Version of its layout.
    pub version: u8,
    /// Its bytes; empty where it is damaged, which only a block of entries can be.
    pub content: Bytes,
    /// Where it is and what is in it, where it is a block of entries.
    pub block: Option<BlockRef>,
    /// Whether the content matches its checksum.
    pub intact: bool,
}

/// What recovery hands on, in the order of the log.
#[derive(Clone, Copy, Debug)]
pub enum Recovered<'a> {
    /// A commit.
    Frame(&'a RecoveredFrame),
    /// A block of entries of a commit that the checkpoint knows.
    Known(&'a BlockRef),
    /// The segment whose frames were handed on last is sealed.
    Sealed(&'a SealedSegment),
}

/// A tail that was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The file.
    pub file: FileId,
    /// Where in the file the cut was made.
    pub offset: u64,
    /// Where in the log.
    pub position: LogPosition,
    /// How many bytes were cut.
    pub bytes: u64,
    /// The file in the log folder that keeps them; `None` where there was no room for it.
    pub kept_as: Option<String>,
}

/// What a recovery found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Position of the first frame that the log still has.
    pub first: LogPosition,
    /// Position after the last frame.
    pub end: LogPosition,
    /// Time of the last frame.
    pub last: Now,
    /// Whether the store was stopped in order.
    pub clean: bool,
    /// Log files.
    pub segments: u64,
    /// Frames whose effects were replayed: those that no checkpoint covers.
    pub frames: u64,
    /// The torn tail, where there was one.
    pub cut: Option<Cut>,
    /// Damaged blocks among those that were read, the first [`DAMAGED_LISTED_MAX`]; reading one fails with `CORRUPT`.
    pub damaged: Vec<BlockRef>,
    /// How many of those that were read are damaged.
    pub damaged_count: u64,
    /// Sealed files with a damaged index; their blocks are found by reading the frames.
    pub damaged_indexes: Vec<FileId>,
    /// Whether the last segment was written to a new file.
    pub rewritten: bool,
    /// Files in the log folder that are not the log's; left alone.
    pub unknown_files: Vec<String>,
}

/// What is handed each frame.
pub(crate) type Visitor<'a> = &'a mut dyn FnMut(Recovered<'_>) -> Result<()>;

const TEMPORARY: &str = "recover.tmp";
const CUT_TEMPORARY: &str = "cut.tmp";
/// Unfinished beginnings.
const TEMPORARIES: [&str; 4] = [TEMPORARY, CUT_TEMPORARY, SNAPSHOT_TEMPORARY, REWRITE_TEMPORARY];

impl Log {
    /// Opens the log in this folder, or begins one, handing every frame from `resume` on, which [`Log::has`] said is
    /// there, to the visitor in order; of the frames before it in the same file, the blocks alone. The files before that
    /// one are for `Log::adopt`.
    pub fn open(
        files: Arc<dyn Files>,
        options: LogOptions,
        resume: Option<ResumeAt>,
        now: Now,
        salts: Salts,
        visitor: Visitor<'_>,
    ) -> Result<(Self, RecoveryReport)> {
        options.validate()?;
        let found = Found::survey(&*files)?;
        if found.segments.is_empty() && options.must_exist {
            return Err(Error::new(Reason::Corrupt, "the data directory has no log files; it had some"));
        }
        let room = Room::new(options.segment_bytes, options.capacity(), found.next_spare);
        let trail = Arc::new(Trail::default());
        let reader = LogReader::new(Arc::clone(&files), options.faults, Arc::clone(&trail));
        let log = Self {
            files,
            options,
            salts,
            room,
            live: None,
            end: LogPosition(0),
            synced: LogPosition(0),
            last: Now::default(),
            poisoned: None,
            trail,
            reader,
            first: LogPosition(0),
            older: Vec::new(),
            rewritten: found.rewritten.clone(),
        };
        let report = RecoveryReport { unknown_files: found.unknown.clone(), ..RecoveryReport::default() };
        Recovery { log, report, visitor, now, resume }.run(found)
    }

    /// Whether the log has the frame that a checkpoint names; `false` where another stands there. Where none does, it
    /// was lost, although it was synced: `CORRUPT`.
    pub fn has(files: &dyn Files, store: StoreId, at: &ResumeAt) -> Result<bool> {
        let found = Found::survey(files)?;
        let lost = || {
            let why = format!("the log lacks position {}, which was synced before a checkpoint was made", at.position);
            Error::new(Reason::Corrupt, why).with("position", at.position)
        };
        let id = found.segments.iter().rfind(|id| id.0 <= at.position.0).ok_or_else(lost)?;
        let file = files.open(&id.name()).map_err(|error| failed("opening", &id.name(), &error))?;
        let mut scanner = Scanner::open(&*file, *id)?;
        scanner.check_identity(store)?;
        let offset = SEGMENT_HEADER_BYTES as u64 + (at.position.0 - id.0);
        let Some((_, sizes)) = scanner.head(offset)? else { return Err(lost().with("file", id.name())) };
        let head = scanner.bytes(offset, sizes.head)?.ok_or_else(lost)?;
        Ok(frame::digest(&head) == at.digest)
    }

    /// The error of a log whose snapshot belongs to another history of it.
    pub(crate) fn another_history(at: &ResumeAt) -> Error {
        let why = format!("the log's snapshot is of another log: position {} holds another commit", at.position);
        Error::new(Reason::Corrupt, why).with("position", at.position)
    }
}

/// What is in the log folder.
#[derive(Default)]
struct Found {
    segments: Vec<FileId>,
    rewritten: Vec<FileId>,
    spares: Vec<String>,
    next_spare: u64,
    cuts: Vec<String>,
    unknown: Vec<String>,
}

impl Found {
    fn survey(files: &dyn Files) -> Result<Self> {
        let mut found = Self::default();
        for name in files.list().map_err(|error| failed("listing", "the log folder", &error))? {
            if let Some(id) = FileId::parse(&name) {
                if id.is_rewritten() { &mut found.rewritten } else { &mut found.segments }.push(id);
            } else if let Some(number) = parse_spare_name(&name) {
                found.next_spare = found.next_spare.max(number.saturating_add(1));
                found.spares.push(name);
            } else if TEMPORARIES.contains(&name.as_str()) {
                files.remove(&name).map_err(|error| failed("removing", &name, &error))?;
            } else if is_cut_name(&name) {
                found.cuts.push(name);
            } else if !is_snapshot_name(&name) && !is_erased_name(&name) {
                found.unknown.push(name);
            }
        }
        found.segments.sort();
        Ok(found)
    }
}

struct Recovery<'a> {
    log: Log,
    report: RecoveryReport,
    visitor: Visitor<'a>,
    now: Now,
    resume: Option<ResumeAt>,
}

impl Recovery<'_> {
    fn run(mut self, mut found: Found) -> Result<(Log, RecoveryReport)> {
        self.adopt_spares(&found.spares)?;
        self.report.segments = (found.segments.len() + found.rewritten.len()) as u64;
        if let Some(resume) = self.resume {
            let start = found.segments.partition_point(|id| id.0 <= resume.position.0).saturating_sub(1);
            let segments = found.segments.split_off(start);
            self.log.older = std::mem::replace(&mut found.segments, segments);
            self.log.end = found.segments.first().map_or(resume.position, |id| LogPosition(id.0));
        }
        self.log.first = self.log.end;
        for (i, id) in found.segments.iter().enumerate() {
            if LogPosition(id.0) != self.log.end {
                return Err(missing(*id, self.log.end));
            }
            let file = self.log.files.open(&id.name()).map_err(|error| failed("opening", &id.name(), &error))?;
            match found.segments.get(i + 1) {
                Some(next) => self.closed(*id, &file, LogPosition(next.0))?,
                None => self.last(*id, file, &found.cuts)?,
            }
        }
        self.finish(found.segments.is_empty())
    }

    fn finish(mut self, begin: bool) -> Result<(Log, RecoveryReport)> {
        if begin {
            self.log.begin(self.now).map_err(|failure| failure.at_start())?;
            self.report.segments = 1;
        }
        self.log.synced = self.log.end;
        (self.report.end, self.report.last) = (self.log.end, self.log.last);
        let rest = self.log.live.as_ref().map_or(0, Live::rest);
        self.log.live.iter_mut().for_each(|live| live.is_new = false);
        self.log.room.appended(0, rest, u32::from(begin));
        Ok((self.log, self.report))
    }

    /// Files that an earlier run kept ready are ready still, where their length is right.
    fn adopt_spares(&self, names: &[String]) -> Result<()> {
        for name in names {
            let file = self.log.files.open(name).map_err(|error| failed("opening", name, &error))?;
            if file.length().is_ok_and(|length| length == self.log.options.segment_bytes) {
                self.log.room.add_spare(Spare { name: name.clone(), file });
            } else {
                self.log.files.remove(name).map_err(|error| failed("removing", name, &error))?;
            }
        }
        Ok(())
    }

    /// A segment that another follows: all of it was synced before that one got its name.
    fn closed(&mut self, id: FileId, file: &Arc<dyn LogFile>, next: LogPosition) -> Result<()> {
        let mut scanner = self.scanner(file, id)?;
        let footer = scanner.footer()?;
        let end = footer.map_or(next, |footer| footer.end);
        let mut index = IndexBuilder::new(scanner.header.version);
        let offset = self.visit_synced(&mut scanner, end, &mut index)?;
        let sound = match footer {
            Some(footer) => footer_fits(&footer, offset, &index) && index_is_sound(&mut scanner, &footer)?,
            None => false,
        };
        if !sound {
            self.report.damaged_indexes.push(id);
        }
        self.sealed(&scanner, end, &index)
    }

    /// The last segment: sealed, or the one that was being written.
    fn last(&mut self, id: FileId, file: Arc<dyn LogFile>, cuts: &[String]) -> Result<()> {
        let mut scanner = self.scanner(&file, id)?;
        let mut index = IndexBuilder::new(scanner.header.version);
        if let Some(footer) = scanner.footer()? {
            let offset = self.visit_synced(&mut scanner, footer.end, &mut index)?;
            let live = Live { id, file: Arc::clone(&file), header: scanner.header, offset, index, is_new: false };
            // Index and footer may only be in the page cache: the same bytes again, and a sync.
            let again = write_ends(&live, self.log.end, self.log.last).and_then(|()| live.file.sync());
            again.map_err(|error| failed("sealing", &id.name(), &error))?;
            return self.sealed(&scanner, footer.end, &live.index);
        }
        let known = self.resume.map_or(LogPosition(0), |at| at.end);
        let synced = scanner.greatest_synced(self.log.options.faults)?.max(known);
        let tail = self.visit_tail(&mut scanner, synced, &mut index)?;
        let used = scanner.used_until(tail.offset)?;
        let header = scanner.header;
        let live = Live { id, file: Arc::clone(&file), header, offset: tail.offset, index, is_new: false };
        if used > tail.offset {
            self.keep_cut(&mut scanner, tail.offset, used, cuts)?;
        }
        self.report.clean = tail.mark.is_some() && used == tail.offset;
        self.log.live = Some(match tail.mark {
            Some(mark) if used == tail.offset => renew_mark(live, &mark)?,
            _ if used == tail.offset && self.log.end <= header.synced_to => live,
            _ => self.rewrite(live, &mut scanner)?,
        });
        Ok(())
    }

    fn scanner<'f>(&self, file: &'f Arc<dyn LogFile>, id: FileId) -> Result<Scanner<'f>> {
        let scanner = Scanner::open(&**file, id)?;
        scanner.check_identity(self.log.options.store)?;
        Ok(scanner)
    }

    /// Hands on frames that were all synced, up to `end`; answers the offset there.
    fn visit_synced(&mut self, scanner: &mut Scanner<'_>, end: LogPosition, index: &mut IndexBuilder) -> Result<u64> {
        let mut offset = SEGMENT_HEADER_BYTES as u64;
        while scanner.header.position_at(offset) < end {
            let frame = scanner.frame(offset, self.log.options.faults)?;
            let frame = frame.ok_or_else(|| no_frame(scanner, offset))?;
            self.refuse_damaged_control(&frame, scanner.id)?;
            offset += frame.sizes.total as u64;
            self.visit(&frame, scanner, index)?;
        }
        Ok(offset)
    }

    /// Hands on the frames of the last file up to the torn tail, where there is one.
    fn visit_tail(&mut self, scanner: &mut Scanner<'_>, synced: LogPosition, index: &mut IndexBuilder) -> Result<Tail> {
        let mut offset = SEGMENT_HEADER_BYTES as u64;
        let mut mark = None;
        loop {
            let position = scanner.header.position_at(offset);
            let Some(frame) = scanner.frame(offset, self.log.options.faults)? else {
                let torn = position >= synced || self.log.options.faults.has(Fault::CutAtFirstBadFrame);
                return if torn { Ok(Tail { offset, mark }) } else { Err(no_frame(scanner, offset)) };
            };
            if frame.contents.contains(&None) {
                if position >= synced {
                    return Ok(Tail { offset, mark });
                }
                self.refuse_damaged_control(&frame, scanner.id)?;
            }
            offset += frame.sizes.total as u64;
            self.visit(&frame, scanner, index)?;
            let is_mark = frame.head.clean_stop && frame.head.synced_to == frame.head.position;
            mark = is_mark.then(|| (frame.offset, frame.bytes.clone()));
        }
    }

    fn refuse_damaged_control(&self, frame: &ScannedFrame, id: FileId) -> Result<()> {
        let mut offset = frame.offset + frame.sizes.head as u64;
        for (record, content) in frame.head.records.iter().zip(&frame.contents) {
            if content.is_none() && record.kind != KIND_ENTRIES {
                let position = frame.head.position;
                let why = format!("a record of kind {} of the commit at position {position} is damaged", record.kind);
                return Err(corrupt(id, offset, why).with("position", position).with("record_kind", record.kind));
            }
            offset += u64::from(record.length);
        }
        Ok(())
    }

    /// Whether a checkpoint knows all that lies before this position.
    fn is_known(&self, end: LogPosition) -> bool {
        self.resume.is_some_and(|at| end <= at.position)
    }

    fn visit(&mut self, frame: &ScannedFrame, scanner: &Scanner<'_>, index: &mut IndexBuilder) -> Result<()> {
        let mut records = Vec::with_capacity(frame.contents.len());
        let mut offset = frame.offset as u32 + frame.sizes.head as u32;
        for (record, content) in frame.head.records.iter().zip(&frame.contents) {
            let block = record.block.map(|meta| meta.at(scanner.id, offset, record.length, record.crc));
            if let Some(block) = block {
                self.note_block(block, content.as_deref(), index);
            }
            let (kind, version, intact) = (record.kind, record.version, content.is_some());
            let content = content.clone().unwrap_or_default();
            records.push(RecoveredRecord { kind, version, content, block, intact });
            offset += record.length;
        }
        let end = LogPosition(frame.head.position.0 + frame.sizes.total as u64);
        (self.log.end, self.log.last) = (end, frame.head.now);
        if self.is_known(end) {
            return records
                .iter()
                .filter_map(|r| r.block.as_ref())
                .try_for_each(|b| (self.visitor)(Recovered::Known(b)));
        }
        self.report.frames += 1;
        let (position, now, clean_stop) = (frame.head.position, frame.head.now, frame.head.clean_stop);
        (self.visitor)(Recovered::Frame(&RecoveredFrame { position, end, now, clean_stop, records }))
    }

    fn note_block(&mut self, block: BlockRef, content: Option<&[u8]>, index: &mut IndexBuilder) {
        match content {
            Some(content) => index.add(block, &types_of(content, &block.meta())),
            None => {
                index.add(BlockRef { any_type: true, ..block }, &[]);
                self.report.damaged_count += 1;
                if self.report.damaged.len() < DAMAGED_LISTED_MAX {
                    self.report.damaged.push(block);
                }
            }
        }
    }

    fn sealed(&mut self, scanner: &Scanner<'_>, end: LogPosition, index: &IndexBuilder) -> Result<()> {
        let (file, length) = (scanner.id, scanner.header.length);
        (self.visitor)(Recovered::Sealed(&SealedSegment {
            file,
            from: scanner.header.first,
            end,
            length,
            spans: index.spans(file),
        }))
    }

    /// Keeps what is cut off in a file of its own, where there is room.
    fn keep_cut(&mut self, scanner: &mut Scanner<'_>, offset: u64, used: u64, cuts: &[String]) -> Result<()> {
        let (file, bytes, position) = (scanner.id, used - offset, scanner.header.position_at(offset));
        let cut = scanner.bytes(offset, bytes as usize)?.unwrap_or_default();
        let name = format!("cut-{:020}-{:08x}", position.0, crc::content(&cut));
        let files = &*self.log.files;
        for old in cuts.iter().take((cuts.len() + 1).saturating_sub(CUT_FILES_MAX)).filter(|old| **old != name) {
            files.remove(old).map_err(|error| failed("removing", old, &error))?;
        }
        let kept = files.create(CUT_TEMPORARY, bytes).and_then(|out| {
            out.write_at(&[&cut], 0)?;
            out.sync()?;
            files.rename(CUT_TEMPORARY, &name)?;
            files.sync_dir()
        });
        let kept_as = match kept {
            Ok(()) => Some(name),
            Err(error) if is_full(&error) => None,
            Err(error) => return Err(failed("keeping", &name, &error)),
        };
        self.report.cut = Some(Cut { file, offset, position, bytes, kept_as });
        Ok(())
    }

    /// Writes what was accepted to a new file with a new salt, durable before it takes the old one's place.
    fn rewrite(&mut self, old: Live, scanner: &mut Scanner<'_>) -> Result<Live> {
        let name = old.id.name();
        let length = old.header.length;
        let file = self.temporary(length)?;
        let mut header = self.log.header(old.header.first, self.now, length);
        // The index keeps its form: the file has room for no other.
        (header.version, header.synced_to) = (old.header.version, self.log.end);
        self.report.rewritten = true;
        copy_frames(scanner, &*file, &header, old.offset)?;
        let files = &self.log.files;
        let placed = file.sync().and_then(|()| files.rename(TEMPORARY, &name)).and_then(|()| {
            if self.log.options.faults.has(Fault::ForgetFolderSync) { Ok(()) } else { files.sync_dir() }
        });
        placed.map_err(|error| failed("renewing", &name, &error))?;
        Ok(Live { file, header, ..old })
    }

    /// A file to write to: a spare one where the disk is full.
    fn temporary(&mut self, length: u64) -> Result<Arc<dyn LogFile>> {
        match self.log.files.create(TEMPORARY, length) {
            Err(error) if is_full(&error) && length == self.log.options.segment_bytes => {
                let Some(spare) = self.log.room.take_spare() else {
                    return Err(failed("allocating", TEMPORARY, &error));
                };
                self.log.room.appended(0, 0, 1);
                let renamed = self.log.files.rename(&spare.name, TEMPORARY);
                renamed.map_err(|error| failed("renaming", &spare.name, &error))?;
                Ok(spare.file)
            }
            made => made.map_err(|error| failed("allocating", TEMPORARY, &error)),
        }
    }
}

/// Where the last file's frames end.
struct Tail {
    offset: u64,
    /// The last frame with its offset, where it is the mark of a clean stop.
    mark: Option<(u64, Bytes)>,
}

/// The error of a log that a file is missing from.
pub(super) fn missing(next: FileId, end: LogPosition) -> Error {
    corrupt(next, 0, format!("the log lacks positions {end} to {}: a file is missing", next.0))
}

fn no_frame(scanner: &Scanner<'_>, offset: u64) -> Error {
    let position = scanner.header.position_at(offset);
    let why = format!("no valid frame at position {position}, which was synced: all state from there on is affected");
    corrupt(scanner.id, offset, why).with("position", position)
}

/// The mark of a clean stop says that all before it is synced; it may itself only be in the page cache.
fn renew_mark(live: Live, (offset, bytes): &(u64, Bytes)) -> Result<Live> {
    let renewed = live.file.write_at(&[bytes], *offset).and_then(|()| live.file.sync());
    renewed.map_err(|error| failed("renewing", &live.id.name(), &error))?;
    Ok(live)
}

/// Copies the header and the frames up to an offset, each head sealed anew, in large writes.
fn copy_frames(scanner: &mut Scanner<'_>, to: &dyn LogFile, header: &SegmentHeader, until: u64) -> Result<()> {
    const WRITE_BYTES: usize = 1 << 20;
    let name = scanner.id.name();
    let write = |bytes: &[u8], offset| to.write_at(&[bytes], offset).map_err(|error| failed("renewing", &name, &error));
    let mut pending = header.encode().to_vec();
    let (mut written, mut offset) = (0, SEGMENT_HEADER_BYTES as u64);
    while offset < until {
        let (_, sizes) = scanner.head(offset)?.ok_or_else(|| no_frame(scanner, offset))?;
        let bytes = scanner.bytes(offset, sizes.total)?.ok_or_else(|| no_frame(scanner, offset))?;
        let start = pending.len();
        pending.extend_from_slice(&bytes);
        frame::reseal(&mut pending[start..start + sizes.head], header.salt, header.position_at(offset));
        offset += sizes.total as u64;
        if pending.len() >= WRITE_BYTES {
            write(&pending, written)?;
            written += pending.len() as u64;
            pending.clear();
        }
    }
    write(&pending, written)
}

fn footer_fits(footer: &SegmentFooter, offset: u64, index: &IndexBuilder) -> bool {
    u64::from(footer.index_offset) == offset
        && footer.index_length as usize == index.encoded_bytes()
        && footer.streams as usize == index.streams()
        && footer.blocks as usize == index.blocks()
}

/// Whether every part of the index verifies.
fn index_is_sound(scanner: &mut Scanner<'_>, footer: &SegmentFooter) -> Result<bool> {
    for place in directory_places(footer) {
        let Some(entry) = scanner.directory_entry(place)? else { return Ok(false) };
        if scanner.index_part(&entry)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}
