//! What to give up: which files hold nothing that is live, and which hold so little that it is worth to move it.
//!
//! **R2** Only neighbours are rewritten together, so that a stream's parts of files stay in the order of ids and never
//! overlap.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use super::Reclaimer;
use crate::engine::sealed::FileUse;
use crate::engine::view::StreamView;
use crate::error::{Reason, Result};
use crate::storage::FileId;
use crate::types::{EntryId, IdRange, StreamNumber};

/// How much to reclaim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Amount {
    /// Where it gives back enough to be worth the work.
    Worthwhile,
    /// Whatever no longer exists, so that none of its bytes are left, and whatever is worthwhile in a single file.
    Everything,
}

/// Files to give up together.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// Nothing in them is live.
    pub(crate) dead: Vec<FileUse>,
    /// Neighbours, whose live entries go into one file.
    pub(crate) thin: Vec<FileUse>,
    /// What each of these alone would take in the new file.
    sizes: Vec<u64>,
    /// Bytes which that file takes, as far as it can be told.
    pub(crate) bytes: u64,
}

impl Work {
    /// Leaves only the file that takes the least room to be rewritten.
    pub(super) fn keep_smallest(&mut self) {
        let sizes = self.sizes.iter().zip(&self.thin);
        if let Some((bytes, known)) = sizes.map(|(size, known)| (*size, *known)).min_by_key(|(size, _)| *size) {
            (self.bytes, self.sizes, self.thin) = (bytes, vec![bytes], vec![known]);
        }
    }
}

/// Bytes of entries in sealed files that no longer exist, though their stream still has some of the file; by stream.
#[derive(Debug, Default)]
pub(super) struct Thinned(HashMap<StreamNumber, ThinnedStream>);

#[derive(Debug)]
struct ThinnedStream {
    /// The stream's counts of removals and of layouts when this was found.
    seen: (u64, u64),
    dead: Vec<(FileId, u64)>,
}

/// What an entry takes beside its payload: in a segment, where most ids follow from the one before; in a rewritten file,
/// where each may be explicit.
const ENTRY_BYTES: u64 = 12;
const REWRITTEN_ENTRY_BYTES: u64 = 30;
/// What a stream takes in a file: its entry in the directory, a block in a frame and in the index.
const STREAM_BYTES: u64 = 256;

impl Reclaimer {
    /// What is worth to be given up now.
    pub(super) fn choose(&mut self, amount: Amount) -> Result<Option<Work>> {
        let uses = self.shared.catalogue.files().uses();
        let thinned = self.bytes_thinned()?;
        let segment = self.shared.options.segment_bytes;
        let mut work = Work::default();
        let mut runs: Vec<Work> = Vec::new();
        let mut joined = false;
        let mut saved = 0;
        for known in uses {
            if known.streams == 0 {
                work.dead.push(known);
                saved += known.length;
                continue;
            }
            let after = bytes_after(&known, thinned.get(&known.file).copied().unwrap_or(0));
            let wasteful = after.saturating_mul(2) <= known.length;
            let thin = match amount {
                Amount::Worthwhile => wasteful,
                Amount::Everything => {
                    let suspect = known.bytes < known.bytes_held || thinned.contains_key(&known.file);
                    self.is_due(&known) && (wasteful || suspect && self.holds_removed(&known)?)
                }
            };
            if !thin || self.damaged.contains(&known.file) {
                joined = false;
                continue;
            }
            saved += known.length.saturating_sub(after);
            match runs.last_mut().filter(|run| joined && run.bytes + after <= segment / 4 * 3) {
                Some(run) => {
                    run.thin.push(known);
                    run.sizes.push(after);
                    run.bytes += after;
                }
                None => runs.push(Work { thin: vec![known], sizes: vec![after], bytes: after, ..Work::default() }),
            }
            joined = true;
        }
        let snapshot_bytes = self.shared.counters.snapshot_bytes.load(Ordering::Relaxed);
        if amount == Amount::Worthwhile && saved < segment.max(2 * snapshot_bytes) {
            return Ok(None);
        }
        let saving = |run: &Work| run.thin.iter().map(|known| known.length).sum::<u64>().saturating_sub(run.bytes);
        if let Some(run) = runs.into_iter().max_by_key(saving) {
            (work.thin, work.sizes, work.bytes) = (run.thin, run.sizes, run.bytes);
        }
        Ok((!work.dead.is_empty() || !work.thin.is_empty()).then_some(work))
    }

    /// Bytes that no longer exist, by file, of streams that still have some of it.
    fn bytes_thinned(&mut self) -> Result<HashMap<FileId, u64>> {
        let mut before = std::mem::take(&mut self.thinned.0);
        let mut sum: HashMap<FileId, u64> = HashMap::new();
        for view in self.shared.catalogue.all() {
            let extent = view.extent();
            let seen = (extent.removals, extent.layouts);
            if extent.removals == 0 && extent.trimmed_before == EntryId::ZERO {
                continue;
            }
            let found = match before.remove(&view.number).filter(|known| known.seen == seen) {
                Some(known) => known,
                None => ThinnedStream { seen, dead: self.thinned_of(&view)? },
            };
            found.dead.iter().for_each(|(file, bytes)| *sum.entry(*file).or_default() += bytes);
            self.thinned.0.insert(view.number, found);
        }
        Ok(sum)
    }

    /// The same of one stream.
    fn thinned_of(&self, view: &StreamView) -> Result<Vec<(FileId, u64)>> {
        let mut dead = Vec::new();
        for place in view.thinned(self.shared.catalogue.files()) {
            let blocks = match self.log.load_index(place.file, view.number, place.last) {
                Err(error) if error.reason() == Reason::Corrupt => continue,
                blocks => blocks?,
            };
            let trimmed = view.extent().trimmed_before;
            let bytes = blocks.iter().map(|block| {
                if block.last < trimmed {
                    return u64::from(block.bytes);
                }
                // How much of a block the trim took is not worth to be read for: something.
                let cut = u64::from(block.first < trimmed);
                cut + view.deleted_in(IdRange { first: block.first, last: block.last }).1
            });
            let bytes: u64 = bytes.sum();
            if bytes > 0 {
                dead.push((place.file, bytes));
            }
        }
        Ok(dead)
    }

    /// Whether a file was there when the pass over everything began: what goes on being trimmed would never end it.
    fn is_due(&self, known: &FileUse) -> bool {
        let (number, position) = self.until;
        known.file.number().map_or(known.from < position, |its| its < number)
    }

    /// Whether a file still has bytes of entries that no longer exist, which a rewritten one mostly has not.
    fn holds_removed(&self, known: &FileUse) -> Result<bool> {
        for span in self.log.load_directory(known.file)? {
            let Some(view) = self.shared.catalogue.by_number(span.stream) else { return Ok(true) };
            let removed = view.removed_in(IdRange { first: span.first, last: span.last });
            if removed.gone || span.first < removed.trimmed_before {
                return Ok(true);
            }
            if removed.deleted.is_empty() {
                continue;
            }
            for block in self.log.load_index(known.file, span.stream, span.last)? {
                let held = |id: EntryId| id >= block.first && id <= block.last;
                if !removed.deleted.iter().any(|(id, _)| held(*id)) {
                    continue;
                }
                let mut entries = self.log.view_block(&block)?.entries();
                if entries.any(|entry| removed.deleted.binary_search_by_key(&entry.id, |(id, _)| *id).is_ok()) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// Bytes of a file that holds what is live of this one, as far as it can be told.
fn bytes_after(known: &FileUse, thinned: u64) -> u64 {
    let live = known.bytes.saturating_sub(thinned);
    let entry_bytes = if known.file.is_rewritten() { REWRITTEN_ENTRY_BYTES } else { ENTRY_BYTES };
    let entries = if known.bytes_held == 0 {
        known.entries_held
    } else {
        (u128::from(known.entries_held) * u128::from(live) / u128::from(known.bytes_held)) as u64
    };
    live + entries * entry_bytes + known.streams * STREAM_BYTES
}
