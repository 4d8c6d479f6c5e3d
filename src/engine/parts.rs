//! The parts of an engine, put together from a log: what threads run, and what tests step by hand.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam::channel::{Receiver, bounded};

use super::backup::LogFolder;
use super::cache::BlockCache;
use super::command::{Command, Fetched, Job};
use super::core::Core;
use super::dead_letter;
use super::keeper::Keeper;
use super::log_step::LogStep;
use super::options::EngineOptions;
use super::pool::{Pool, PoolJobs, pool};
use super::reader::{Disk, Reader};
use super::reclaim::{ReclaimStart, Reclaimer};
use super::shared::Shared;
use super::start::{Started, States, start};
use crate::clock::Clock;
use crate::error::{Reason, Result};
use crate::limits;
use crate::storage::{Files, LogAllocator, LogOptions, RecoveryReport, Snapshots, StateIndex, StoreWatch};
use crate::types::LogPosition;

/// Where salts of log files come from.
pub(crate) type Salts = Box<dyn FnMut() -> u64 + Send>;

/// The parts of one engine.
pub(crate) struct Parts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) reader: Arc<Reader>,
    pub(crate) pool: Pool,
    pub(crate) jobs: PoolJobs,
    pub(crate) commands: Receiver<Command>,
    pub(crate) core: Core,
    pub(crate) log: LogStep,
    pub(crate) allocator: LogAllocator,
    pub(crate) keeper: Keeper,
    pub(crate) folder: LogFolder,
    /// Taken by who runs it.
    pub(crate) reclaimer: Option<Reclaimer>,
    /// Of the data directory, where there is one.
    pub(crate) watch: Option<StoreWatch>,
    pub(crate) report: RecoveryReport,
    /// Where the checkpoint stood from which replay began; `None` where there was none.
    pub(crate) resumed: Option<LogPosition>,
}

/// How far the replay of a start is, in bytes of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Replayed so far.
    pub done: u64,
    /// All that is to be replayed, at most: the last file of the log need not be full.
    pub total: u64,
}

/// What is told how far the replay is, after every commit.
pub(crate) type Progress<'a> = &'a mut dyn FnMut(Replay);

impl Parts {
    /// Recovers the log in these files, from the index's checkpoint on where that fits, and builds an engine over it.
    pub(crate) fn open(
        files: Arc<dyn Files>,
        mut log_options: LogOptions,
        mut index: Box<dyn StateIndex>,
        options: EngineOptions,
        clock: Arc<dyn Clock>,
        mut salts: Salts,
        progress: Progress<'_>,
    ) -> Result<Self> {
        options.validate()?;
        log_options.segment_bytes = options.segment_bytes;
        log_options.faults = options.faults;
        let store = log_options.store;
        let seed = salts();
        let (sender, commands) = bounded(limits::QUEUE_COMMANDS_MAX);
        let cache = Arc::new(BlockCache::new(options.cache_bytes));
        let snapshots = Snapshots::new(Arc::clone(&files), store);
        let found = States { index: &mut *index, snapshots: &snapshots, files: &*files, store }.find()?;
        let fresh = || {
            let shared = Arc::new(Shared::new(options.clone(), Arc::clone(&clock), sender.clone()));
            (Core::new(Arc::clone(&shared)), shared)
        };
        let Started { mut core, shared, log, report, resumed, left_over } =
            start(&found.states, fresh, Arc::clone(&files), log_options, &*clock, salts, progress)?;
        shared.counters.kept_to.store(found.kept.0, Ordering::Relaxed);
        shared.set_index_trouble(found.index_trouble);
        let resumed_clock = clock.resume(report.last, core.engine_clock);
        let replayed_bytes = report.end.0.saturating_sub(resumed.unwrap_or(report.first).0);
        core.start(log.planner(), replayed_bytes, clock.now());
        core.note_clock(resumed_clock, report.last, clock.now());
        let mut allocator = log.allocator();
        allocator
            .step()
            .map(|_| ())
            .or_else(|error| if error.reason() == Reason::StorageFull { Ok(()) } else { Err(error) })?;
        let reader = Arc::new(Reader::new(log.reader(), Arc::clone(&cache), Arc::clone(shared.catalogue.files())));
        let (pool, jobs) = pool();
        let (capturing, captured) = bounded(1);
        let keeper = Keeper { index, snapshots, store, shared: Arc::clone(&shared), captured };
        let folder = LogFolder { files: Arc::clone(&files), store };
        let (log_reader, next_number) = (log.reader(), core.next_file);
        let reclaim = ReclaimStart { log: log_reader, files, store, seed, next_number, left_over };
        let reclaimer = Some(Reclaimer::new(&shared, reclaim));
        let log = LogStep::new(log, Arc::clone(&shared), cache, capturing);
        Ok(Self {
            shared,
            reader,
            pool,
            jobs,
            commands,
            core,
            log,
            allocator,
            keeper,
            folder,
            reclaimer,
            watch: None,
            report,
            resumed,
        })
    }
}

/// Runs what the core wants read; the answer goes back to it as a command.
pub(crate) fn run_job(job: Job, reader: &Reader, shared: &Shared) {
    match job {
        Job::FetchDeadLetters { view, group, letters } => {
            let ids: Vec<_> = letters.iter().map(|l| l.id).collect();
            let fetched = reader.entries(&view, &ids, Disk::Allowed).and_then(|found| {
                let found = found.unwrap_or_default();
                letters
                    .iter()
                    .map(|letter| {
                        let entry = found.iter().find(|e| e.id == letter.id);
                        let entry = entry.map(|e| dead_letter::bury(e, &letter.origin)).transpose()?;
                        Ok(Fetched { id: letter.id, entry })
                    })
                    .collect()
            });
            // The core reads its queue whatever happens, so this wait is short; after a stop there is nobody.
            let _ = shared.commands.send(Command::DeadLetter { group, fetched });
        }
        Job::FindHead { view, wanted } => {
            let found = reader.head(&view, &wanted);
            let _ = shared.commands.send(Command::HeadFound { stream: wanted.stream, found });
        }
    }
}
