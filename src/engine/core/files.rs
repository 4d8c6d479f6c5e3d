//! The files that make up the log: reclaim writes and chooses them, the core says from when on they are what counts.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Admit, Core};
use crate::engine::backup::BackupPoint;
use crate::engine::commit::Show;
use crate::engine::reply::Reply;
use crate::engine::sealed::Replacement;
use crate::error::{Error, Reason, Result};
use crate::format::record::{Effect, FilesReplaced};
use crate::storage::{Fit, record_cost};
use crate::types::LogPosition;

impl Core {
    /// Gives files up for others, in one commit, and has the state before it kept: what was given up may be removed
    /// once a start no longer needs it.
    pub(super) fn replace_files(&mut self, change: &FilesReplaced, replacement: Replacement, reply: Reply<()>) {
        let result = self.try_replace_files(change, replacement);
        self.answer_or_refuse(reply, result);
    }

    fn try_replace_files(&mut self, change: &FilesReplaced, replacement: Replacement) -> Result<()> {
        self.check_open()?;
        if self.shared.is_indexing() {
            return Err(Error::overloaded("the keeper of the index"));
        }
        // A state that waits for a commit is taken again, for a snapshot, too.
        self.captured = None;
        let effect = Effect::from(change.clone());
        self.admit(record_cost(effect.encode().len()), Admit::Shrinking)?;
        if !self.commit.is_empty() {
            self.close_commit(self.now, false);
        }
        self.capture(true);
        self.apply_files_replaced(change);
        self.commit.show(Show::FilesReplaced(replacement));
        self.record(effect, None);
        Ok(())
    }

    /// Answers which files make up the log, with the position up to which it is synced then (B2): a change of the files
    /// always begins a commit, so none comes between the two.
    pub(super) fn backup_point(&mut self, reply: Reply<BackupPoint>) {
        if let Err(error) = self.check_open() {
            return self.refuse(reply, error);
        }
        let (set, shared) = (self.files.clone(), Arc::clone(&self.shared));
        self.commit.require_sync();
        self.commit.on_durable(Box::new(move || {
            let end = LogPosition(shared.counters.synced_to.load(Ordering::Relaxed));
            reply.send(Ok(BackupPoint { set, end }));
        }));
    }

    /// Seals the segment that is being filled: what is in it can be reclaimed then.
    pub(super) fn begin_segment(&mut self, reply: Reply<()>) {
        let result = self.try_begin_segment();
        self.answer_or_refuse(reply, result);
        if self.commit.begins_segment() {
            self.close_commit(self.now, false);
        }
    }

    fn try_begin_segment(&mut self) -> Result<()> {
        self.check_open()?;
        if !self.commit.is_empty() {
            self.close_commit(self.now, false);
        }
        let cost = self.room().segment_cost();
        match self.room().fits(cost, 0) {
            Fit::Yes => self.commit.begin_segment(cost),
            Fit::Soon => return Err(Error::overloaded("the allocated room")),
            Fit::Full => return Err(Error::new(Reason::StorageFull, "there is no room for another segment")),
        }
        Ok(())
    }

    /// Takes a change of the set of files.
    pub(crate) fn apply_files_replaced(&mut self, change: &FilesReplaced) {
        self.files.apply(change);
        let greatest = change.added.iter().map(|file| file.number + 1).max();
        self.next_file = self.next_file.max(greatest.unwrap_or(0));
    }
}
