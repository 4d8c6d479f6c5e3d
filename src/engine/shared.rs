//! What the handle, the core and the log thread share: the way to the core, views, counters, and whether all is well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use parking_lot::{Mutex, RwLock};

use super::api::NackAction;
use super::catalogue::Catalogue;
use super::command::{Command, Deliver, PreparedPublish, RedriveOne, Run};
use super::options::EngineOptions;
use super::reply::{Release, Reply};
use super::ticket::Homecoming;
use crate::clock::Clock;
use crate::error::{Error, Reason, Result};
use crate::limits;
use crate::stream::{NodeLimits, OnceSettings};

/// Entries and bytes after which a logical node ends, unless set otherwise.
const NODE_ENTRIES: u64 = 100;
const NODE_BYTES: u64 = 4096;

/// Shared by all parts of one engine.
pub(crate) struct Shared {
    pub(crate) options: EngineOptions,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) commands: Sender<Command>,
    pub(crate) catalogue: Catalogue,
    pub(crate) reclaims: ReclaimRequests,
    /// Grants that nobody took, and sessions that ended.
    pub(crate) homecoming: Arc<Homecoming>,
    /// How many backups are being taken; no file of the log is removed meanwhile.
    pub(crate) pins: Mutex<usize>,
    pub(crate) counters: Counters,
    /// Where logical nodes end: after so many entries, and after so many bytes; zero for no such bound.
    pub(crate) node_limits: (AtomicU64, AtomicU64),
    /// How streams that are made remember requests that are to be appended once.
    pub(crate) once_settings: Mutex<OnceSettings>,
    /// Called once the engine has stopped.
    pub(crate) stopped: Mutex<Vec<Release>>,
    queued_bytes: AtomicUsize,
    draining: AtomicBool,
    full: AtomicBool,
    dead: AtomicBool,
    indexing: AtomicBool,
    failure: RwLock<Option<Error>>,
    index_trouble: RwLock<Option<Error>>,
}

/// Requests to give back everything at once, one waiting at most.
pub(crate) struct ReclaimRequests {
    pub(crate) ask: Sender<Reply<()>>,
    /// Taken by who answers them: with that, they end.
    pub(crate) asked: Mutex<Option<Receiver<Reply<()>>>>,
}

impl Default for ReclaimRequests {
    fn default() -> Self {
        let (ask, asked) = bounded(1);
        Self { ask, asked: Mutex::new(Some(asked)) }
    }
}

/// Counts since start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) appended_entries: AtomicU64,
    pub(crate) appended_bytes: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) delivered: AtomicU64,
    pub(crate) redelivered: AtomicU64,
    pub(crate) acknowledged: AtomicU64,
    pub(crate) dead_lettered: AtomicU64,
    /// Askers who were told that their group has as many pending entries as it may.
    pub(crate) held_back: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) groups: AtomicU64,
    pub(crate) log_end: AtomicU64,
    pub(crate) synced_to: AtomicU64,
    /// A snapshot holds the state at this position of the log or a later one, and so does the index unless it failed.
    pub(crate) kept_to: AtomicU64,
    /// Bytes of the last snapshot.
    pub(crate) snapshot_bytes: AtomicU64,
    /// Trims that damage kept from going as far as they should.
    pub(crate) trims_short: AtomicU64,
    /// Bytes of files that were given up, less those of what stands for them.
    pub(crate) reclaimed_bytes: AtomicU64,
}

impl Shared {
    pub(crate) fn new(options: EngineOptions, clock: Arc<dyn Clock>, commands: Sender<Command>) -> Self {
        Self {
            options,
            clock,
            homecoming: Arc::new(Homecoming::new(commands.clone())),
            commands,
            catalogue: Catalogue::default(),
            reclaims: ReclaimRequests::default(),
            pins: Mutex::new(0),
            counters: Counters::default(),
            node_limits: (AtomicU64::new(NODE_ENTRIES), AtomicU64::new(NODE_BYTES)),
            once_settings: Mutex::default(),
            stopped: Mutex::default(),
            queued_bytes: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            full: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            indexing: AtomicBool::new(false),
            failure: RwLock::new(None),
            index_trouble: RwLock::new(None),
        }
    }

    /// Where logical nodes end from now on.
    pub(crate) fn node_limits(&self) -> NodeLimits {
        let (entries, bytes) = &self.node_limits;
        NodeLimits { entries: entries.load(Ordering::Relaxed), bytes: bytes.load(Ordering::Relaxed) }
    }

    /// How streams that are made from now on remember requests that are to be appended once.
    pub(crate) fn once_settings(&self) -> OnceSettings {
        *self.once_settings.lock()
    }

    /// Hands a command to the core. A full queue is `OVERLOADED`: the caller may try again.
    pub(crate) fn send(&self, command: Command) -> Result<()> {
        match self.offer(command)? {
            None => Ok(()),
            Some(_) => Err(Error::overloaded("the queue of commands")),
        }
    }

    /// Hands a command to the core; a full queue gives it back.
    pub(crate) fn offer(&self, command: Command) -> Result<Option<Command>> {
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        if self.is_draining() {
            return Err(Error::draining());
        }
        let bytes = command.bytes();
        if bytes > 0 && self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > limits::QUEUE_BYTES_MAX {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Ok(Some(command));
        }
        match self.commands.try_send(command) {
            Ok(()) => Ok(None),
            Err(refused) => {
                self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
                match refused {
                    TrySendError::Full(command) => Ok(Some(command)),
                    TrySendError::Disconnected(_) => Err(Error::draining()),
                }
            }
        }
    }

    /// Notes that the core took a command off the queue.
    pub(crate) fn took(&self, command: &Command) {
        self.queued_bytes.fetch_sub(command.bytes(), Ordering::Relaxed);
    }

    /// Why the engine accepts no more writes, where it does not.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.failure.read().clone()
    }

    /// Ends all writing; the first reason stays.
    pub(crate) fn fail(&self, error: &Error) {
        let mut failure = self.failure.write();
        if failure.is_none() {
            tracing::error!(%error, "the engine accepts no more writes");
            *failure = Some(Error::new(
                Reason::StorageFailed,
                format!("the engine accepts no more writes since: {}", error.message()),
            ));
        }
    }

    /// A thread died: nothing can go on.
    pub(crate) fn die(&self, error: &Error) {
        self.fail(error);
        self.dead.store(true, Ordering::Relaxed);
    }
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
    pub(crate) fn set_draining(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.catalogue.wake_all();
    }
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }
    pub(crate) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    /// Whether a checkpoint is being written.
    pub(crate) fn is_indexing(&self) -> bool {
        self.indexing.load(Ordering::Relaxed)
    }
    pub(crate) fn set_indexing(&self, indexing: bool) {
        self.indexing.store(indexing, Ordering::Relaxed);
    }

    /// Why the index of the log cannot be used, where it cannot: starts take longer then, and nothing else.
    pub(crate) fn index_trouble(&self) -> Option<Error> {
        self.index_trouble.read().clone()
    }
    pub(crate) fn set_index_trouble(&self, trouble: Option<Error>) {
        *self.index_trouble.write() = trouble;
    }

    /// Says that the engine has stopped.
    pub(crate) fn announce_stop(&self) {
        for release in std::mem::take(&mut *self.stopped.lock()) {
            release();
        }
    }
}

impl Command {
    /// Bytes that count against the queue's bound: what a command holds beside its own size, which the bound on their
    /// number bounds. What the engine tells itself past the bounds counts nothing.
    fn bytes(&self) -> usize {
        match self {
            Self::PublishEach { runs, .. } => runs.iter().map(Run::held_bytes).sum(),
            Self::Acknowledge { ids, publish, .. } => {
                size_of_val(&ids[..]) + publish.iter().map(PreparedPublish::held_bytes).sum::<usize>()
            }
            Self::Nack { ids, action, .. } => {
                let reason = if let NackAction::DeadLetter { reason } = action { reason.len() } else { 0 };
                size_of_val(&ids[..]) + reason
            }
            Self::Extend { ids, .. } => size_of_val(&ids[..]),
            Self::DeleteEntries { entries, .. } => size_of_val(&entries[..]),
            Self::DeleteStreams { names, .. } => size_of_val(&names[..]),
            Self::TrimSingly { trim, .. } => size_of_val(&trim.candidates[..]),
            Self::Claim { prepared, .. } => size_of_val(&prepared.request.ids[..]) + size_of_val(&prepared.forced[..]),
            Self::Release { prepared, .. } => {
                size_of_val(&prepared.request.ids[..]) + size_of_val(&prepared.forced[..])
            }
            Self::Redrive { letters, .. } => {
                letters.iter().map(|one| size_of::<RedriveOne>() + one.entry.bytes.len()).sum()
            }
            Self::CreateStream { settings, .. } | Self::UpdateStream { settings, .. } => settings.description.len(),
            Self::CreateGroup { settings, .. } | Self::UpdateGroup { settings, .. } => {
                settings.description.len() + size_of_val(&settings.backoff_ms[..])
            }
            Self::Deliver(deliver) => {
                let candidates =
                    deliver.prepared.as_ref().map_or(0, |(_, prepared)| size_of_val(&prepared.candidates[..]));
                size_of::<Deliver>() + candidates
            }
            Self::Transact(transaction) => transaction.bytes(),
            _ => 0,
        }
    }
}
