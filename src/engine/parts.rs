//! The parts of an engine, put together from a log: what threads run, and what tests step by hand.

use std::sync::Arc;

use crossbeam::channel::{Receiver, bounded};

use super::cache::BlockCache;
use super::command::{Command, Fetched, Job};
use super::core::Core;
use super::dead_letter;
use super::log_step::LogStep;
use super::options::EngineOptions;
use super::pool::{Pool, PoolJobs, pool};
use super::reader::{Disk, Reader};
use super::recovery::replay;
use super::shared::Shared;
use crate::clock::Clock;
use crate::error::Result;
use crate::limits;
use crate::storage::{Files, Log, LogAllocator, LogOptions, RecoveryReport};

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
    pub(crate) report: RecoveryReport,
}

impl Parts {
    /// Recovers the log in these files and builds an engine over it.
    pub(crate) fn open(
        files: Arc<dyn Files>,
        mut log_options: LogOptions,
        options: EngineOptions,
        clock: Arc<dyn Clock>,
        salts: Salts,
    ) -> Result<Self> {
        options.validate()?;
        log_options.segment_bytes = options.segment_bytes;
        log_options.faults = options.faults.log;
        let (sender, commands) = bounded(limits::QUEUE_COMMANDS_MAX);
        let cache = Arc::new(BlockCache::new(options.cache_bytes));
        let shared = Arc::new(Shared::new(options, Arc::clone(&clock), sender));
        let mut core = Core::new(Arc::clone(&shared));
        let (log, report) =
            Log::open(files, log_options, clock.now(), salts, &mut |recovered| replay(&mut core, &recovered))?;
        clock.resume(report.last);
        core.start(log.planner(), clock.now());
        let mut allocator = log.allocator();
        allocator
            .step()
            .map(|_| ())
            .or_else(|error| if error.reason() == crate::error::Reason::StorageFull { Ok(()) } else { Err(error) })?;
        let reader = Arc::new(Reader::new(log.reader(), Arc::clone(&cache)));
        let (pool, jobs) = pool();
        let log = LogStep::new(log, Arc::clone(&shared), cache);
        Ok(Self { shared, reader, pool, jobs, commands, core, log, allocator, report })
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
    }
}
