//! The log thread's work, one commit at a time: write, sync, show to readers, answer.
//!
//! **This is where it is decided when a publish is answered**: [`LogStep::write`] releases a commit's answers after
//! its frame was written and, unless everything in it is of durability `os`, synced. Invariant **L1**: nothing of a
//! commit is shown or answered before its `append` and, where it asks for one, the `sync` after it succeeded.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam::channel::Sender;

use super::cache::BlockCache;
use super::commit::{CapturedState, Commit, Show};
use super::shared::Shared;
use crate::error::Result;
use crate::faults::Fault;
use crate::storage::{Appended, Log, ResumeAt};

/// The log with what hangs on it.
pub(crate) struct LogStep {
    log: Log,
    shared: Arc<Shared>,
    cache: Arc<BlockCache>,
    captured: Sender<Captured>,
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

    /// Makes a commit durable, tells the core by `announce`, then releases its answers, in this order: whoever has an
    /// answer and asks again finds a core that knows. After a failure nothing is announced or released, now or later.
    pub(crate) fn write(&mut self, commit: Commit, announce: impl FnOnce()) -> Result<()> {
        let Commit { frame, blocks, sync, shows, releases, before, roll, .. } = commit;
        if roll && let Some(sealed) = self.log.roll(frame.now)? {
            self.shared.catalogue.seal(&sealed);
        }
        let faults = self.shared.options.faults;
        let hasty = faults.has(Fault::AnswerBeforeSync);
        let appended = if frame.records.is_empty() && !frame.clean_stop { None } else { Some(self.log.append(frame)?) };
        let early = faults.has(Fault::ShowBeforeSync);
        if early && let Some(appended) = &appended {
            self.show_blocks(appended, &blocks);
        }
        if sync && !hasty {
            self.sync()?;
        }
        if let (Some(appended), Some(state)) = (&appended, before) {
            self.hand_to_keeper(appended, state);
        }
        if let Some(appended) = &appended {
            self.shared.counters.commits.fetch_add(1, Ordering::Relaxed);
            if !early {
                self.show_blocks(appended, &blocks);
            }
        }
        self.note_positions();
        for show in shows {
            self.show(show);
        }
        announce();
        for release in releases {
            release();
        }
        if sync && hasty {
            self.sync()?;
        }
        Ok(())
    }

    fn hand_to_keeper(&self, appended: &Appended, state: CapturedState) {
        let at = ResumeAt { position: appended.position, end: appended.end, digest: appended.digest };
        // One at a time is captured, so there is room, but at a stop, which waits for the one before. Without a keeper
        // there is no index to write.
        if self.captured.send(Captured { at, state }).is_err() {
            self.shared.set_indexing(false);
        }
    }

    fn show_blocks(&self, appended: &Appended, blocks: &[super::commit::CommitBlock]) {
        if let Some(sealed) = &appended.sealed {
            self.shared.catalogue.seal(sealed);
        }
        for (place, block) in appended.blocks.iter().zip(blocks) {
            self.cache.insert(place, block.content.clone());
            block.view.show(*place);
        }
    }

    fn show(&self, show: Show) {
        match show {
            Show::Created(view) => self.shared.catalogue.insert(view),
            Show::Deleted(view) => {
                self.shared.catalogue.remove(&view);
                view.end(self.shared.catalogue.files());
            }
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
