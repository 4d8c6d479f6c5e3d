//! The log thread's work: write the commits that wait, sync them together, then show each to readers and answer it.
//!
//! **This is where it is decided when a publish is answered**: [`LogStep::write`] releases a commit's answers after
//! its frame was written and, unless everything in it is of durability `os`, synced. Invariant **L1**: nothing of a
//! commit is shown or answered before its `append` and, where it asks for one, the `sync` after it succeeded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam::channel::Sender;

use super::cache::BlockCache;
use super::commit::{CapturedState, Commit, CommitBlock, Show};
use super::reply::Release;
use super::shared::Shared;
use super::view::StreamView;
use crate::error::Result;
use crate::faults::Fault;
use crate::format::block::BlockRef;
use crate::storage::{Appended, Log, ResumeAt, SealedSegment};
use crate::types::{EntryId, StreamNumber};

/// The log with what hangs on it.
pub(crate) struct LogStep {
    log: Log,
    shared: Arc<Shared>,
    cache: Arc<BlockCache>,
    captured: Sender<Captured>,
}

/// A commit that was appended, and is to be shown and answered once it is durable.
struct Written {
    number: u64,
    /// The segment that ended before it.
    rolled: Option<SealedSegment>,
    /// Unset where it had nothing to append, or was shown.
    appended: Option<Appended>,
    blocks: Vec<CommitBlock>,
    sync: bool,
    shows: Vec<Show>,
    trims: Vec<(Arc<StreamView>, EntryId)>,
    releases: Vec<Release>,
    before: Option<CapturedState>,
    together: bool,
}

/// A state and its place in the log, which is synced beyond it.
pub(crate) struct Captured {
    pub(crate) at: ResumeAt,
    pub(crate) state: CapturedState,
}

impl LogStep {
    pub(crate) fn new(log: Log, shared: Arc<Shared>, cache: Arc<BlockCache>, captured: Sender<Captured>) -> Self {
        let step = Self { log, shared, cache, captured };
        step.note_positions();
        step
    }

    /// Makes commits durable, those that are to be synced with one sync; tells the core by `announce` of each, then
    /// releases its answers, in this order: whoever has an answer and asks again finds a core that knows. After a failure
    /// nothing is announced or released, now or later.
    pub(crate) fn write(&mut self, commits: impl Iterator<Item = Commit>, mut announce: impl FnMut(u64)) -> Result<()> {
        let hasty = self.shared.options.faults.has(Fault::AnswerBeforeSync);
        let mut unsynced = Vec::new();
        for commit in commits {
            let written = self.append(commit)?;
            // What need not be synced waits for none, unless something before it does.
            match written.sync || !unsynced.is_empty() {
                true => unsynced.push(written),
                false => self.finish(written, &mut announce),
            }
        }
        if !unsynced.is_empty() && !hasty {
            self.sync()?;
        }
        let is_late = hasty && !unsynced.is_empty();
        unsynced.into_iter().for_each(|written| self.finish(written, &mut announce));
        if is_late { self.sync() } else { Ok(()) }
    }

    fn append(&mut self, commit: Commit) -> Result<Written> {
        let Commit { number, frame, blocks, sync, shows, trims, releases, before, roll, together } = commit;
        let rolled = if roll { self.log.roll(frame.now)? } else { None };
        let appended = if frame.records.is_empty() && !frame.clean_stop { None } else { Some(self.log.append(frame)?) };
        if appended.is_some() {
            self.shared.counters.commits.fetch_add(1, Ordering::Relaxed);
        }
        let mut written = Written { number, rolled, appended, blocks, sync, shows, trims, releases, before, together };
        if self.shared.options.faults.has(Fault::ShowBeforeSync) {
            self.show_all(&mut written);
        }
        Ok(written)
    }

    /// Shows what is durable, says so and answers.
    fn finish(&mut self, mut written: Written, announce: &mut impl FnMut(u64)) {
        if let (Some(appended), Some(state)) = (&written.appended, written.before.take()) {
            self.hand_to_keeper(appended, state);
        }
        self.note_positions();
        self.show_all(&mut written);
        announce(written.number);
        written.releases.into_iter().for_each(|release| release());
    }

    fn hand_to_keeper(&self, appended: &Appended, state: CapturedState) {
        let at = ResumeAt { position: appended.position, end: appended.end, digest: appended.digest };
        // One at a time is captured, so there is room, but at a stop, which waits for the one before. Without a keeper
        // there is no index to write.
        if self.captured.send(Captured { at, state }).is_err() {
            self.shared.set_indexing(false);
        }
    }

    /// Shows a commit, once.
    fn show_all(&self, written: &mut Written) {
        let (appended, mut shows) = (written.appended.take(), std::mem::take(&mut written.shows));
        let trims = std::mem::take(&mut written.trims);
        if let Some(sealed) = written.rolled.take() {
            self.shared.catalogue.seal(&sealed);
        }
        if !written.together {
            self.show_blocks(appended.as_ref(), &written.blocks, trims);
            return shows.into_iter().for_each(|show| self.show(show));
        }
        shows.extend(trims.into_iter().map(|(view, before)| Show::Trimmed(view, before)));
        let mut placed = Vec::new();
        if let Some(appended) = &appended {
            self.seal(appended);
            for (place, block) in appended.blocks.iter().zip(&written.blocks) {
                self.cache.insert(place, block.content.clone());
                placed.push((*place, Arc::clone(&block.view)));
            }
        }
        self.shared.catalogue.show_together(&placed, shows);
    }

    fn seal(&self, appended: &Appended) {
        if let Some(sealed) = &appended.sealed {
            self.shared.catalogue.seal(sealed);
        }
    }

    /// Shows blocks, and with those of a stream what it drops. Invariant **H2**: nobody is shown an entry that is dropped in
    /// the commit that it came in.
    fn show_blocks(&self, appended: Option<&Appended>, blocks: &[CommitBlock], trims: Vec<(Arc<StreamView>, EntryId)>) {
        let Some(appended) = appended else { return };
        self.seal(appended);
        let mut of_trimmed: BTreeMap<StreamNumber, Vec<BlockRef>> =
            trims.iter().map(|(view, _)| (view.number, Vec::new())).collect();
        for (place, block) in appended.blocks.iter().zip(blocks) {
            self.cache.insert(place, block.content.clone());
            match of_trimmed.get_mut(&block.view.number) {
                Some(places) => places.push(*place),
                None => block.view.show(*place),
            }
        }
        for (view, before) in trims {
            let places = of_trimmed.remove(&view.number).unwrap_or_default();
            view.show_trimmed(&places, self.shared.catalogue.files(), before);
        }
    }

    fn show(&self, show: Show) {
        match show {
            Show::Created(view) => self.shared.catalogue.insert(view),
            Show::Deleted(view) => {
                self.shared.catalogue.remove(&view);
                view.end(self.shared.catalogue.files());
            }
            Show::Renamed(view, to) => self.shared.catalogue.rename(&view, to),
            Show::Reached(view, last) => view.reach(last),
            Show::Trimmed(view, before) => view.trim(self.shared.catalogue.files(), before),
            Show::EntriesDeleted(view, entries) => view.delete(entries.into_iter()),
            Show::FilesReplaced(replacement) => self.shared.catalogue.replace(&replacement),
        }
    }

    /// Whether something was written that is not synced.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.log.synced() < self.log.end()
    }

    /// Syncs what was written.
    pub(crate) fn sync(&mut self) -> Result<()> {
        if self.is_unsynced() {
            self.log.sync()?;
            self.shared.counters.syncs.fetch_add(1, Ordering::Relaxed);
            self.note_positions();
        }
        Ok(())
    }

    fn note_positions(&self) {
        self.shared.counters.log_end.store(self.log.end().0, Ordering::Relaxed);
        self.shared.counters.synced_to.store(self.log.synced().0, Ordering::Relaxed);
    }
}
