//! Where a start goes on from: the newest state that is whole, of this store and of this log, in the index or in a
//! snapshot; without one, the beginning of the log.

use std::sync::Arc;

use super::core::Core;
use super::parts::{Progress, Replay, Salts};
use super::recovery::replay;
use super::sealed::{FileUse, Replacement};
use super::shared::Shared;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::format::segment::StoreId;
use crate::storage::{
    Checkpoint, FileId, Files, Log, LogExtent, LogOptions, Recovered, RecoveryReport, ResumeAt, Snapshots, StateIndex,
};
use crate::types::LogPosition;

/// Where states are kept.
pub(crate) struct States<'a> {
    pub(crate) index: &'a mut dyn StateIndex,
    pub(crate) snapshots: &'a Snapshots,
    pub(crate) files: &'a dyn Files,
    pub(crate) store: StoreId,
}

/// What was found there.
pub(crate) struct FoundStates {
    /// Those that fit the log, newest first.
    pub(crate) states: Vec<Checkpoint>,
    /// Both the index and a snapshot reach so far.
    pub(crate) kept: LogPosition,
    /// Why the index cannot be used, where it cannot.
    pub(crate) index_trouble: Option<Error>,
}

impl States<'_> {
    /// The states that a start may go on from. A log that lost what one of them rests on is refused.
    pub(crate) fn find(&mut self) -> Result<FoundStates> {
        let found = self.snapshots.read()?;
        for name in found.damaged {
            tracing::warn!(%name, "a snapshot is damaged; the start does without it");
        }
        let snapshot = found.checkpoint;
        if let Some(snapshot) = &snapshot
            && !Log::has(self.files, self.store, &snapshot.at)?
        {
            return Err(Log::another_history(&snapshot.at));
        }
        let oldest = snapshot.as_ref().map_or(LogPosition(0), |snapshot| snapshot.at.position);
        let (checkpoint, index_trouble) = self.checkpoint_from(oldest)?;
        let position = |state: &Option<Checkpoint>| state.as_ref().map_or(LogPosition(0), |state| state.at.position);
        let kept = position(&snapshot).min(position(&checkpoint));
        let mut states: Vec<Checkpoint> = [checkpoint, snapshot].into_iter().flatten().collect();
        states.sort_by_key(|state| std::cmp::Reverse(state.at.position));
        Ok(FoundStates { states, kept, index_trouble })
    }

    /// The index's checkpoint, where it is of this store and log and not older than this: what it rests on may be gone.
    /// Beside it, why the index cannot be used: no start is refused for that.
    fn checkpoint_from(&mut self, oldest: LogPosition) -> Result<(Option<Checkpoint>, Option<Error>)> {
        let checkpoint = match self.index.load() {
            Ok(Some(checkpoint)) => checkpoint,
            Ok(None) => return Ok((None, None)),
            Err(error) => {
                tracing::warn!(%error, "the index cannot be used; the start goes on without it");
                return Ok((None, Some(error)));
            }
        };
        let ours = checkpoint.store == self.store;
        if ours && checkpoint.at.position < oldest {
            tracing::warn!("the index is older than the last snapshot; the start goes on from that");
            return Ok((None, None));
        }
        if ours && Log::has(self.files, self.store, &checkpoint.at)? {
            return Ok((Some(checkpoint), None));
        }
        tracing::warn!("the index belongs to another log; it is put aside and made anew");
        let trouble = self.index.put_aside().err();
        if let Some(error) = &trouble {
            tracing::warn!(%error, "the index could not be put aside; the start goes on without it");
        }
        Ok((None, trouble))
    }
}

/// A core with its state as the log has it.
pub(crate) struct Started {
    pub(crate) core: Core,
    pub(crate) shared: Arc<Shared>,
    pub(crate) log: Log,
    pub(crate) report: RecoveryReport,
    /// The position of the state that it went on from; `None` where that was the beginning of the log.
    pub(crate) resumed: Option<LogPosition>,
    /// Files that were given up and are still there, each with the end of the stretch in which it lies.
    pub(crate) left_over: Vec<(FileId, LogPosition)>,
}

/// Restores the newest of these states that can be, and replays the log from there.
pub(crate) fn start(
    states: &[Checkpoint],
    fresh: impl Fn() -> (Core, Arc<Shared>),
    files: Arc<dyn Files>,
    options: LogOptions,
    clock: &dyn Clock,
    salts: Salts,
    progress: Progress<'_>,
) -> Result<Started> {
    let (mut core, shared, resume) = restored(states, fresh);
    let resumed = resume.map(|at| at.position);
    let from = resumed.map_or(0, |at| at.0);
    let total = LogExtent::of(&*files)?.map_or(0, |extent| extent.end_max.0.saturating_sub(from));
    let visitor = &mut |recovered: Recovered<'_>| {
        if let Recovered::Frame(frame) = recovered {
            progress(Replay { done: frame.end.0.saturating_sub(from), total });
        }
        replay(&mut core, &recovered)
    };
    let (mut log, mut report) = Log::open(files, options, resume, clock.now(), salts, visitor)?;
    let left_over = adopt(&core, &shared, &mut log, &mut report)?;
    Ok(Started { core, shared, log, report, resumed, left_over })
}

fn restored(states: &[Checkpoint], fresh: impl Fn() -> (Core, Arc<Shared>)) -> (Core, Arc<Shared>, Option<ResumeAt>) {
    for state in states {
        let (mut core, shared) = fresh();
        match core.restore(state) {
            Ok(()) => return (core, shared, Some(state.at)),
            Err(error) => tracing::warn!(%error, "a state that was kept cannot be restored"),
        }
    }
    let (core, shared) = fresh();
    (core, shared, None)
}

/// Takes in the files that replay did not read, and leaves out those that were given up.
fn adopt(
    core: &Core,
    shared: &Shared,
    log: &mut Log,
    report: &mut RecoveryReport,
) -> Result<Vec<(FileId, LogPosition)>> {
    let replayed = shared.catalogue.files().uses();
    let old: Vec<FileUse> = replayed.into_iter().filter(|known| !core.files.contains(known.file)).collect();
    let mut left_over: Vec<_> = old.iter().map(|known| (known.file, known.to)).collect();
    if !old.is_empty() {
        let (streams, old) = (shared.catalogue.numbers(), old.iter().map(|known| known.file).collect());
        shared.catalogue.replace(&Replacement { old, new: Vec::new(), streams });
    }
    let adopted = log.adopt(&core.files, &mut |sealed| {
        shared.catalogue.seal(&sealed);
        Ok(())
    })?;
    report.first = adopted.first;
    report.damaged_indexes.extend(adopted.damaged_indexes);
    left_over.extend(adopted.unused.into_iter().map(|file| (file, LogPosition(0))));
    left_over.extend(adopted.given_up);
    Ok(left_over)
}
