//! One file of the log: header, frames, records, footer.

use super::super::files::{Files, LogFile, failed};
use super::super::scan::{ScannedFrame, Scanner, corrupt};
use super::index::Contents;
use super::{Checked, Walk};
use crate::error::{Error, Reason, Result};
use crate::faults::Faults;
use crate::format::block::{BlockRef, BlockView, FileId};
use crate::format::frame::{ENTRIES_VERSION, FRAME_ALIGN, KIND_ENTRIES, RecordHead};
use crate::format::record::Effect;
use crate::format::segment::{SEGMENT_FOOTER_BYTES, SEGMENT_HEADER_BYTES, SegmentFooter};
use crate::types::LogPosition;

impl Walk<'_> {
    /// Checks a file, which another follows at `next`. Fails only where it is from a newer version.
    pub(super) fn segment(&mut self, files: &dyn Files, id: FileId, next: Option<LogPosition>) -> Result<()> {
        if LogPosition(id.0) != self.end {
            self.known.gap(id, self.end);
            self.streams.lose_track();
        }
        match self.read_segment(files, id, next) {
            Ok(end) => self.end = end,
            Err(error) if error.reason() == Reason::DataDirectory => return Err(error),
            Err(error) => {
                self.flaw(id, offset_of(&error), error.message());
                self.streams.lose_track();
                self.end = next.unwrap_or(self.end);
            }
        }
        self.checked(files, id);
        Ok(())
    }

    /// Says that a file is behind.
    pub(super) fn checked(&mut self, files: &dyn Files, id: FileId) {
        self.done += files.open(&id.name()).and_then(|file| file.length()).unwrap_or_default();
        (self.on)(Checked::Bytes(self.done));
    }

    /// Checks a sealed file.
    pub(super) fn sealed(&mut self, scanner: &mut Scanner<'_>, footer: &SegmentFooter, is_last: bool) -> Result<()> {
        let mut contents = Contents::new(scanner.id);
        let offset = self.frames(scanner, Some(footer.end), &mut contents)?;
        self.ends(scanner, (footer, is_last), offset, &contents)
    }

    /// Checks a file, and answers where it ends in the log.
    fn read_segment(&mut self, files: &dyn Files, id: FileId, next: Option<LogPosition>) -> Result<LogPosition> {
        let file = files.open(&id.name()).map_err(|error| failed("opening", &id.name(), &error))?;
        let mut scanner = self.scanner(&*file, id)?;
        if let Some(footer) = scanner.footer()? {
            self.sealed(&mut scanner, &footer, next.is_none())?;
            return Ok(footer.end);
        }
        let offset = self.frames(&mut scanner, next, &mut Contents::new(id))?;
        let Some(next) = next else {
            self.tail(&mut scanner, offset)?;
            return Ok(scanner.header.position_at(offset));
        };
        let at = scanner.header.length.saturating_sub(SEGMENT_FOOTER_BYTES as u64);
        self.flaw(id, at, "the footer is damaged");
        Ok(next)
    }

    /// Reads a file's header. The file of another store is damage to this one, not a reason to give up.
    pub(super) fn scanner<'f>(&mut self, file: &'f dyn LogFile, id: FileId) -> Result<Scanner<'f>> {
        let scanner = Scanner::open(file, id)?;
        let store = *self.store.get_or_insert(scanner.header.store);
        scanner.check_identity(store).map_err(|error| corrupt(id, 0, error.message().into()))?;
        Ok(scanner)
    }

    /// Checks the frames up to `end`, or where there is none to the torn tail; answers the offset there.
    fn frames(&mut self, scanner: &mut Scanner<'_>, end: Option<LogPosition>, contents: &mut Contents) -> Result<u64> {
        // What lies below this was synced once; all of a sealed file was.
        let synced = if end.is_some() { LogPosition(u64::MAX) } else { scanner.greatest_synced(Faults::default())? };
        let mut offset = SEGMENT_HEADER_BYTES as u64;
        while end.is_none_or(|end| scanner.header.position_at(offset) < end) {
            let position = scanner.header.position_at(offset);
            let frame = scanner.frame(offset, Faults::default())?;
            let frame = frame.filter(|frame| position < synced || !frame.contents.contains(&None));
            if let Some(frame) = frame {
                offset += frame.sizes.total as u64;
                self.frame(scanner.id, &frame, contents);
                (self.on)(Checked::Bytes(self.done + offset));
                continue;
            }
            if position >= synced {
                break;
            }
            let from = offset;
            let found = scanner.next_head(offset + FRAME_ALIGN as u64)?.map(|(at, ..)| at);
            let limit = end.map_or(scanner.header.length, |end| scanner.header.offset_of(end));
            offset = found.unwrap_or(limit).min(limit);
            let lost = offset - from;
            self.flaw(scanner.id, from, format!("no valid frame at position {position}: {lost} bytes are lost"));
            self.streams.lose_track();
            contents.is_whole = false;
            if offset >= limit {
                break;
            }
        }
        Ok(offset)
    }

    fn frame(&mut self, id: FileId, frame: &ScannedFrame, contents: &mut Contents) {
        self.report.frames += 1;
        let head = &frame.head;
        let synced = if self.is_rewritten { LogPosition(0) } else { self.synced };
        if head.synced_to > head.position || head.synced_to < synced {
            self.flaw(id, frame.offset, format!("the frame says that the log is synced to {}", head.synced_to));
        }
        if head.now.engine_ms < self.last.engine_ms {
            self.flaw(id, frame.offset, "engine time goes back");
        }
        self.synced = self.synced.max(head.synced_to);
        self.last = head.now;
        let mut at = frame.offset + frame.sizes.head as u64;
        for (record, content) in head.records.iter().zip(&frame.contents) {
            let block = record.block.map(|meta| meta.at(id, at as u32, record.length, record.crc));
            match (record.kind, block) {
                (KIND_ENTRIES, Some(block)) => self.block(&block, record.version, content.as_ref(), contents),
                (KIND_ENTRIES, None) => self.flaw(id, at, "a block of entries without a description"),
                _ => self.control(id, at, record, (head.position, content.as_deref())),
            }
            at += u64::from(record.length);
        }
        let used = (at - frame.offset) as usize;
        if frame.bytes[used..].iter().any(|byte| *byte != 0) {
            self.flaw(id, at, "the zeros after the frame's last record are damaged");
        }
    }

    fn block(&mut self, block: &BlockRef, version: u8, content: Option<&bytes::Bytes>, contents: &mut Contents) {
        self.report.blocks += 1;
        self.report.entries += u64::from(block.count);
        let wrong = if self.is_rewritten { contents.next_block(block) } else { self.streams.next_block(block) };
        if let Some(wrong) = wrong {
            self.block_flaw(block, wrong);
        }
        let Some(content) = content else {
            contents.add(*block, None);
            return self.block_flaw(block, "the stored bytes do not match their checksum");
        };
        if version != ENTRIES_VERSION {
            contents.add(*block, None);
            return self.block_flaw(block, format!("the block has version {version}, which is not known"));
        }
        match BlockView::new(content.clone(), block) {
            Ok(view) => contents.add(*block, Some(view.types().0)),
            Err(_) => {
                contents.add(*block, None);
                self.block_flaw(block, "the block does not agree with its description");
            }
        }
    }

    fn control(&mut self, id: FileId, at: u64, record: &RecordHead, (position, content): (LogPosition, Option<&[u8]>)) {
        let (kind, version) = (record.kind, record.version);
        let Some(content) = content else {
            self.streams.lose_track();
            return self.flaw(id, at, format!("a record of kind {kind} does not match its checksum"));
        };
        match Effect::decode(kind, version, content) {
            Ok(_) if self.is_rewritten => self.flaw(id, at, "a rewritten file holds more than entries"),
            Ok(effect) => {
                self.streams.note(&effect);
                self.known.note(&effect, position);
            }
            Err(error) => self.flaw(id, at, error.message()),
        }
    }

    /// Checks what follows the last frame of a sealed file: index, zeros, footer.
    fn ends(
        &mut self,
        scanner: &mut Scanner<'_>,
        (footer, is_last): (&SegmentFooter, bool),
        offset: u64,
        contents: &Contents,
    ) -> Result<()> {
        let footer_at = scanner.header.length - SEGMENT_FOOTER_BYTES as u64;
        if contents.is_whole && scanner.header.position_at(offset) != footer.end {
            self.flaw(scanner.id, offset, format!("the frames end beyond {}, where the footer ends them", footer.end));
        }
        if contents.is_whole && footer.last != self.last {
            self.flaw(scanner.id, footer_at, "the footer has another time than the last frame");
        }
        for (at, message) in contents.check_index(scanner, footer)? {
            // The footer says that the frames are synced, the next file's name that the index is.
            match is_last {
                false => self.flaw(scanner.id, at, message),
                true => self.note(scanner.id, at, format!("{message}: a start writes it anew")),
            }
        }
        let mut at = u64::from(footer.index_offset) + u64::from(footer.index_length);
        while at < footer_at {
            let step = (footer_at - at).min(1 << 20) as usize;
            let Some(bytes) = scanner.bytes(at, step)? else { break };
            if let Some(first) = bytes.iter().position(|byte| *byte != 0) {
                self.flaw(scanner.id, at + first as u64, "the zeros between the index and the footer are damaged");
                break;
            }
            at += step as u64;
        }
        Ok(())
    }

    /// Tells of what follows the last frame of a file that was being written.
    fn tail(&mut self, scanner: &mut Scanner<'_>, offset: u64) -> Result<()> {
        let used = scanner.used_until(offset)?;
        if used > offset {
            let what =
                format!("{} bytes of a torn tail, never known to be synced: a start cuts them off", used - offset);
            self.note(scanner.id, offset, what);
        }
        Ok(())
    }
}

pub(super) fn offset_of(error: &Error) -> u64 {
    error.detail("offset").and_then(|offset| offset.parse().ok()).unwrap_or_default()
}
