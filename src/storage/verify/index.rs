//! The index of a sealed file against what its frames hold.

use std::collections::{BTreeMap, BTreeSet};

use super::super::scan::{Scanner, directory_places};
use crate::error::Result;
use crate::format::block::{BlockRef, FileId, FileSpan};
use crate::format::segment::{SEGMENT_FOOTER_BYTES, SegmentFooter};
use crate::types::StreamNumber;

/// What the frames of a file hold.
pub(super) struct Contents {
    file: FileId,
    /// Whether every frame is legible.
    pub(super) is_whole: bool,
    streams: BTreeMap<StreamNumber, Part>,
}

#[derive(Default)]
struct Part {
    blocks: Vec<BlockRef>,
    /// Types in the blocks that are legible.
    types: BTreeSet<u32>,
}

impl Contents {
    pub(super) fn new(file: FileId) -> Self {
        Self { file, is_whole: true, streams: BTreeMap::new() }
    }

    /// Adds a block with the types in it, where they are legible.
    pub(super) fn add(&mut self, block: BlockRef, types: Option<Vec<u32>>) {
        let part = self.streams.entry(block.stream).or_default();
        part.blocks.push(block);
        part.types.extend(types.unwrap_or_default());
    }

    /// What is wrong with this block coming next in a rewritten file, going by its description.
    pub(super) fn next_block(&self, block: &BlockRef) -> Option<String> {
        let last = self.streams.get(&block.stream)?.blocks.last()?;
        let end = last.first_ordinal + u64::from(last.count);
        (block.first <= last.last || block.first_ordinal < end)
            .then(|| format!("its ids or its place in the stream do not rise: {} came before", last.last))
    }

    /// What is wrong with the index: where, and what.
    pub(super) fn check_index(&self, scanner: &mut Scanner<'_>, footer: &SegmentFooter) -> Result<Vec<(u64, String)>> {
        let mut wrong = Vec::new();
        let blocks: usize = self.streams.values().map(|part| part.blocks.len()).sum();
        let index_at = scanner.header.offset_of(footer.end);
        let fits = footer.streams as usize == self.streams.len()
            && footer.blocks as usize == blocks
            && u64::from(footer.index_offset) == index_at;
        if self.is_whole && !fits {
            let footer_at = scanner.header.length - SEGMENT_FOOTER_BYTES as u64;
            wrong.push((footer_at, "the footer does not agree with the frames".into()));
        }
        let mut parts = self.streams.iter();
        for place in directory_places(footer) {
            let expected = parts.next();
            if let Some(flaw) = self.check_entry(scanner, place, expected)? {
                wrong.push(flaw);
            }
            // A footer that does not fit may claim any number.
            if wrong.len() > self.streams.len() {
                break;
            }
        }
        Ok(wrong)
    }

    fn check_entry(
        &self,
        scanner: &mut Scanner<'_>,
        place: u64,
        expected: Option<(&StreamNumber, &Part)>,
    ) -> Result<Option<(u64, String)>> {
        let Some(entry) = scanner.directory_entry(place)? else {
            let of = expected.map_or_else(String::new, |(stream, _)| format!(" of stream number {}", stream.0));
            return Ok(Some((place, format!("the index's entry{of} is damaged"))));
        };
        let stream = entry.span.stream.0;
        let Some((blocks, types)) = scanner.index_part(&entry)? else {
            let what = format!("the index's blocks of stream number {stream} are damaged");
            return Ok(Some((u64::from(entry.offset), what)));
        };
        let agrees = expected.is_some_and(|(number, part)| {
            *number == entry.span.stream
                && part.blocks == blocks
                && FileSpan::of(self.file, *number, &part.blocks) == entry.span
                && (entry.any_type || part.types.iter().all(|hash| types.contains(hash)))
        });
        let wrong = self.is_whole && !agrees;
        Ok(wrong
            .then(|| (place, format!("the index's entry of stream number {stream} does not agree with the frames"))))
    }
}
