//! Reclaim: gives back the space of what no longer exists. Files of which nothing is live are given up; files of which
//! less than half is live are given up for one that holds just that, grouped by stream.
//!
//! What is given up, and what stands for it, is one commit. **R1** A segment that was given up is removed only once a
//! snapshot holds a state beyond its last frame, so that no start needs its frames, and the index was written, too, or
//! failed; a rewritten file at once. A snapshot that could not be written is tried again, ever more rarely.
//!
//! Once in a while everything that no longer exists is given up, however little it is, and what recoveries cut off goes.
//! When that was outlives a restart. Whoever is reading a file that goes looks again where the entries are now.

mod choose;
mod rewrite;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use choose::Thinned;
pub(crate) use choose::{Amount, Work};

use super::command::Command;
use super::reply;
use super::sealed::{FileUse, Replacement};
use super::shared::Shared;
use crate::error::{Error, Reason, Result};
use crate::faults::Fault;
use crate::format::record::{FilesReplaced, RewrittenFile};
use crate::format::segment::StoreId;
use crate::storage::{FileId, Files, LogReader, SealedSegment, erased_ms, mark_erased, remove_cuts};
use crate::types::{LogPosition, StreamNumber};

/// Gives space back.
pub(crate) struct Reclaimer {
    shared: Arc<Shared>,
    log: LogReader,
    files: Arc<dyn Files>,
    store: StoreId,
    /// What salts of rewritten files are made from.
    seed: u64,
    next_number: u64,
    /// Files that were given up and are still there, each with the end of the stretch of the log that it stands for.
    left_over: Vec<(FileId, LogPosition)>,
    /// Files that damage keeps from being rewritten.
    damaged: HashSet<FileId>,
    thinned: Thinned,
    /// What a pass over everything ends with: rewritten files from this number on, and segments from this position on, are
    /// of its own time.
    until: (u64, LogPosition),
    /// Whether to leave the disk to others in between.
    paced: bool,
    /// Whether the last try failed, which was told then.
    troubled: bool,
    /// When the state is kept once more where files wait for that, and how long is waited then, in milliseconds.
    keep_at_ms: u64,
    keep_pause_ms: u64,
    /// Engine time of the last pass over everything; `None` where it is not known yet.
    erased_ms: Option<u64>,
}

/// How often everything is given up: within a day bytes of what was deleted are gone, the time of a pass included.
const ERASE_INTERVAL_MS: u64 = 23 * 3600 * 1000;
/// Pauses between attempts to keep a state.
const KEEP_PAUSE_MS: u64 = 1000;
const KEEP_PAUSE_MAX_MS: u64 = 64_000;

/// What a start hands over.
pub(crate) struct ReclaimStart {
    pub(crate) log: LogReader,
    pub(crate) files: Arc<dyn Files>,
    pub(crate) store: StoreId,
    pub(crate) seed: u64,
    pub(crate) next_number: u64,
    pub(crate) left_over: Vec<(FileId, LogPosition)>,
}

impl Reclaimer {
    pub(crate) fn new(shared: &Arc<Shared>, start: ReclaimStart) -> Self {
        let ReclaimStart { log, files, store, seed, next_number, left_over } = start;
        // A file that is left over never has the number of one that is to be made: removing the one would remove the other.
        let numbers = left_over.iter().filter_map(|(file, _)| file.number());
        let next_number = numbers.map(|number| number + 1).max().unwrap_or(0).max(next_number);
        Self {
            shared: Arc::clone(shared),
            log,
            files,
            store,
            seed,
            next_number,
            left_over,
            damaged: HashSet::new(),
            thinned: Thinned::default(),
            until: (next_number, LogPosition(0)),
            paced: false,
            troubled: false,
            keep_at_ms: 0,
            keep_pause_ms: KEEP_PAUSE_MS,
            erased_ms: None,
        }
    }

    /// The same, leaving half of the time to others.
    pub(crate) fn paced(self) -> Self {
        Self { paced: true, ..self }
    }

    /// Removes what nobody needs any more, and gives up what is worth the work now; says whether it did. Ends early where the
    /// engine fails or stops.
    pub(crate) async fn step(&mut self) -> bool {
        self.remove_left_over();
        if self.shared.failure().is_some() || self.shared.is_indexing() {
            return false;
        }
        let done = match self.keep_again().await {
            Ok(()) => self.reclaim(Amount::Worthwhile).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(any) => {
                self.troubled = false;
                any
            }
            // Full queues and stops: there is a next time, or none is needed.
            Err(error) if matches!(error.reason(), Reason::Overloaded | Reason::Draining) => false,
            Err(error) => {
                if !std::mem::replace(&mut self.troubled, true) {
                    tracing::warn!(%error, "space could not be given back; it is tried again");
                }
                false
            }
        }
    }

    /// Begins a pass over everything: seals the segment that is being filled, so that what is in it can be given up, too.
    pub(crate) async fn begin_segment(&mut self) -> Result<()> {
        let (reply, answer) = reply::channel();
        self.shared.send(Command::BeginSegment { reply })?;
        answer.or_draining().await?;
        self.until = (self.next_number, LogPosition(self.shared.counters.log_end.load(Ordering::Relaxed)));
        Ok(())
    }

    /// Whether it is time for a pass over everything. The first start of a store begins the time.
    pub(crate) fn is_erasure_due(&mut self) -> bool {
        let now_ms = self.shared.clock.now().engine_ms;
        if self.erased_ms.is_none() {
            let known = erased_ms(&*self.files);
            let begun =
                known.and_then(|known| known.map_or_else(|| mark_erased(&*self.files, now_ms).map(|()| now_ms), Ok));
            match begun {
                // A log that lost its tail knows of less time than the mark.
                Ok(at_ms) => self.erased_ms = Some(at_ms.min(now_ms)),
                Err(error) => {
                    tracing::warn!(%error, "it cannot be kept when deleted bytes are due to go");
                    self.erased_ms = Some(now_ms);
                }
            }
        }
        self.erased_ms.is_some_and(|at_ms| now_ms - at_ms >= ERASE_INTERVAL_MS)
    }

    /// Notes that everything which did not exist at this engine time is gone from the disk, and takes what recoveries cut
    /// off with it.
    pub(crate) fn erased(&mut self, at_ms: u64) -> Result<()> {
        remove_cuts(&*self.files)?;
        mark_erased(&*self.files, at_ms)?;
        self.erased_ms = Some(at_ms);
        Ok(())
    }

    /// Has the state kept once more where files wait for that and nobody is at it: the last attempt failed.
    pub(crate) async fn keep_again(&mut self) -> Result<()> {
        let now_ms = self.shared.clock.now().engine_ms;
        if self.left_over.is_empty() {
            (self.keep_at_ms, self.keep_pause_ms) = (now_ms + KEEP_PAUSE_MS, KEEP_PAUSE_MS);
            return Ok(());
        }
        if now_ms < self.keep_at_ms || *self.shared.pins.lock() > 0 {
            return Ok(());
        }
        self.keep_at_ms = now_ms + self.keep_pause_ms;
        self.keep_pause_ms = (self.keep_pause_ms * 2).min(KEEP_PAUSE_MAX_MS);
        let (reply, answer) = reply::channel();
        let (change, replacement) = (FilesReplaced::default(), Replacement::default());
        self.shared.send(Command::ReplaceFiles { change, replacement, reply })?;
        answer.await.ok_or_else(Error::draining).flatten()
    }

    /// Whether nothing that was given up is left on the disk.
    pub(crate) fn is_done(&mut self) -> bool {
        self.remove_left_over();
        self.left_over.is_empty()
    }

    /// Gives up what is worth it now; says whether it did.
    pub(crate) async fn reclaim(&mut self, amount: Amount) -> Result<bool> {
        let Some(mut work) = self.choose(amount)? else { return Ok(false) };
        let replacement = match self.replacement(&work) {
            // What needs no room goes first, and makes some.
            Err(error) if error.reason() == Reason::StorageFull && !work.dead.is_empty() => {
                work.thin.clear();
                self.replacement(&work)?
            }
            Err(error) if error.reason() == Reason::StorageFull && work.thin.len() > 1 => {
                work.keep_smallest();
                self.replacement(&work)?
            }
            Err(error) if error.reason() == Reason::Corrupt => {
                tracing::warn!(%error, "damage keeps files from being rewritten");
                self.damaged.extend(work.thin.iter().map(|known| known.file));
                return Ok(false);
            }
            made => made?,
        };
        let new: Vec<FileId> = replacement.new.iter().map(|sealed| sealed.file).collect();
        let given_up: Vec<FileUse> = work.dead.iter().chain(&work.thin).copied().collect();
        let written: u64 = replacement.new.iter().map(|sealed| sealed.length).sum();
        let given_back = given_up.iter().map(|known| known.length).sum::<u64>().saturating_sub(written);
        let change = change(&given_up, &replacement.new);
        let (reply, answer) = reply::channel();
        let sent = self.shared.send(Command::ReplaceFiles { change, replacement, reply });
        let done = match sent {
            Ok(()) => answer.await.ok_or_else(Error::draining).flatten(),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            // Whether the log has it is not known where the engine fails or stops: the next start sees to what is left.
            if self.shared.failure().is_none() && error.reason() != Reason::Draining {
                self.left_over.extend(new.into_iter().map(|file| (file, LogPosition(0))));
            }
            return Err(error);
        }
        self.left_over.extend(given_up.iter().map(|known| (known.file, known.to)));
        (self.keep_at_ms, self.keep_pause_ms) = (self.shared.clock.now().engine_ms + KEEP_PAUSE_MS, KEEP_PAUSE_MS);
        self.shared.counters.reclaimed_bytes.fetch_add(given_back, Ordering::Relaxed);
        Ok(true)
    }

    /// Writes what is live of the thin files into a new one.
    fn replacement(&mut self, work: &Work) -> Result<Replacement> {
        let old = work.dead.iter().chain(&work.thin).map(|known| known.file).collect();
        let mut streams: Vec<StreamNumber> = Vec::new();
        let mut spans = Vec::new();
        for known in &work.thin {
            spans.extend(self.log.load_directory(known.file)?);
        }
        spans.sort_by_key(|span| (span.stream, span.first));
        streams.extend(spans.iter().map(|span| span.stream));
        streams.dedup();
        let new = match (work.thin.first(), work.thin.last()) {
            (Some(first), Some(last)) => {
                let stands_for = RewrittenFile { number: self.next_number, from: first.from, to: last.to };
                self.next_number += 1;
                self.rewrite(stands_for, work.bytes, &spans)?
            }
            _ => None,
        };
        Ok(Replacement { old, new: new.into_iter().collect(), streams })
    }

    /// Removes files that were given up, as far as no start needs them.
    fn remove_left_over(&mut self) {
        let shared = Arc::clone(&self.shared);
        // Held while files go, so that a backup begins before or after that (B1).
        let pins = shared.pins.lock();
        if *pins > 0 {
            return;
        }
        let kept = LogPosition(self.shared.counters.kept_to.load(Ordering::Acquire));
        let before = self.left_over.len();
        let (files, log) = (Arc::clone(&self.files), self.log.clone());
        let hasty = self.shared.options.faults.has(Fault::RemoveFilesEarly);
        self.left_over.retain(|(file, to)| {
            let needed = !file.is_rewritten() && *to > kept && !hasty;
            if needed {
                return true;
            }
            let removed = files.remove(&file.name());
            // Its space comes back with the last read under way.
            log.forget(*file);
            match removed {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(%error, file = file.name(), "a file that was given up could not be removed");
                    true
                }
                _ => false,
            }
        });
        if self.left_over.len() < before
            && let Err(error) = self.files.sync_dir()
        {
            tracing::warn!(%error, "removing files could not be made durable; they may be there again");
        }
    }
}

/// The change of the set of files.
fn change(given_up: &[FileUse], new: &[SealedSegment]) -> FilesReplaced {
    let gone = given_up.iter().filter(|known| !known.file.is_rewritten()).map(|known| (known.from, known.to)).collect();
    let removed = given_up.iter().filter_map(|known| known.file.number()).collect();
    let added = new.iter().filter_map(|sealed| {
        let number = sealed.file.number()?;
        Some(RewrittenFile { number, from: sealed.from, to: sealed.end })
    });
    FilesReplaced { gone, removed, added: added.collect() }
}
