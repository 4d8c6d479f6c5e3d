//! The handle: opening, stopping, health, and the helpers that every request uses.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::api::{Health, Stats};
use super::backup::LogFolder;
use super::command::{Command, GroupKey};
use super::options::EngineOptions;
use super::parts::{Parts, Progress, Replay};
use super::pool::Pool;
use super::reader::{Disk, Reader};
use super::reply::{self, Answer, Reply};
use super::shared::Shared;
use super::threads::Threads;
use super::transaction::Lent;
use super::view::StreamView;
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Reason, Result};
use crate::storage::{RecoveryReport, StateIndex, Store};
use crate::types::{GroupName, LogPosition, StreamName};

/// Handle to a running engine.
///
/// When the last handle goes, the engine stops in order, unless [`Engine::shutdown`] did that before.
#[derive(Clone)]
pub struct Engine(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) shared: Arc<Shared>,
    pub(super) reader: Arc<Reader>,
    pub(super) folder: LogFolder,
    pool: Mutex<Option<Pool>>,
    threads: Mutex<Option<Threads>>,
    report: Arc<RecoveryReport>,
    resumed: Option<LogPosition>,
    /// The core, in a transaction.
    lent: Option<Arc<Lent>>,
    /// Held as long as the engine runs.
    store: Mutex<Option<Store>>,
}

impl Engine {
    /// Opens the data directory, recovers what is in it, and starts.
    ///
    /// Fails with `DATA_DIRECTORY` where it is in use, of a newer version or not ours, and with `CORRUPT` where
    /// synced state is damaged; nothing is changed then.
    pub fn open(options: EngineOptions) -> Result<Self> {
        options.validate()?;
        let clock: Arc<dyn Clock> = SystemClock::new();
        let store = Store::open(&options.data_dir, clock.now().wall_ms, &mut random_u64)?;
        let index = Box::new(store.index());
        let mut told_ms = clock.now().engine_ms;
        let ticking = Arc::clone(&clock);
        Self::open_store(store, index, options, clock, &mut |Replay { done, total }| {
            let now_ms = ticking.now().engine_ms;
            if now_ms.saturating_sub(told_ms) >= REPLAY_TOLD_EVERY_MS {
                told_ms = now_ms;
                tracing::info!(bytes_done = done, bytes_total = total, "replaying the log");
            }
        })
    }

    /// Starts over what this store holds, with this index of it.
    pub(super) fn open_store(
        mut store: Store,
        index: Box<dyn StateIndex>,
        options: EngineOptions,
        clock: Arc<dyn Clock>,
        progress: Progress<'_>,
    ) -> Result<Self> {
        let (files, log_options) = (store.log_files()?, store.log_options());
        let mut parts = Parts::open(files, log_options, index, options, clock, Box::new(random_u64), progress)?;
        parts.watch = Some(store.watch()?);
        store.mark_opened()?;
        let engine = Self::over(&parts, Some(store));
        let threads = Threads::start(parts).map_err(|e| Error::internal(format!("starting a thread: {e}")))?;
        *engine.0.threads.lock() = Some(threads);
        Ok(engine)
    }

    /// A handle over parts that somebody else runs.
    pub(super) fn over(parts: &Parts, store: Option<Store>) -> Self {
        Self(Arc::new(Inner {
            shared: Arc::clone(&parts.shared),
            reader: Arc::clone(&parts.reader),
            folder: parts.folder.clone(),
            pool: Mutex::new(Some(parts.pool.clone())),
            threads: Mutex::new(None),
            report: Arc::new(parts.report.clone()),
            resumed: parts.resumed,
            lent: None,
            store: Mutex::new(store),
        }))
    }

    /// A handle for the length of a transaction; it keeps nothing running.
    pub(super) fn in_transaction(&self, lent: &Arc<Lent>) -> Self {
        Self(Arc::new(Inner {
            shared: Arc::clone(&self.0.shared),
            reader: Arc::clone(&self.0.reader),
            folder: self.0.folder.clone(),
            pool: Mutex::new(None),
            threads: Mutex::new(None),
            report: Arc::clone(&self.0.report),
            resumed: self.0.resumed,
            lent: Some(Arc::clone(lent)),
            store: Mutex::new(None),
        }))
    }

    /// Whether it is lent to a transaction.
    pub(super) fn is_in_transaction(&self) -> bool {
        self.0.lent.is_some()
    }

    /// What was found when the engine was opened.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.0.report
    }

    /// Where in the log the checkpoint stood from which it was replayed; `None` where all of it was.
    pub fn resumed_from(&self) -> Option<LogPosition> {
        self.0.resumed
    }

    /// The state of the engine.
    pub fn health(&self) -> Health {
        let shared = &self.0.shared;
        if let Some(failure) = shared.failure() {
            return Health::Failed(failure.message().to_owned());
        }
        if shared.is_draining() {
            return Health::Draining;
        }
        if shared.is_full() { Health::StorageFull } else { Health::Serving }
    }

    /// Why the index of the log cannot be used, where it cannot: the next start takes longer then, and nothing else.
    pub fn index_trouble(&self) -> Option<String> {
        self.0.shared.index_trouble().map(|error| error.message().to_owned())
    }

    /// Whether one of its threads died: the process should end.
    pub fn is_dead(&self) -> bool {
        self.0.shared.is_dead()
    }

    /// Figures at this moment.
    pub fn stats(&self) -> Stats {
        let shared = &self.0.shared;
        let counters = &shared.counters;
        let (cache_hits, cache_misses) = self.0.reader.cache_counts();
        let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            streams: shared.catalogue.len() as u64,
            groups: get(&counters.groups),
            appended_entries: get(&counters.appended_entries),
            appended_bytes: get(&counters.appended_bytes),
            commits: get(&counters.commits),
            syncs: get(&counters.syncs),
            delivered: get(&counters.delivered),
            redelivered: get(&counters.redelivered),
            acknowledged: get(&counters.acknowledged),
            dead_lettered: get(&counters.dead_lettered),
            held_back: get(&counters.held_back),
            duplicates: get(&counters.duplicates),
            trims_short: get(&counters.trims_short),
            queued: shared.commands.len() as u64,
            log_bytes: shared.catalogue.files().bytes(get(&counters.log_end)),
            synced_to: get(&counters.synced_to),
            cache_hits,
            cache_misses,
        }
    }

    /// Gives back, now, the space of everything that no longer exists, so that none of its bytes are left in the data
    /// directory; answers by how many bytes the files became smaller. One request waits at most.
    pub async fn reclaim(&self) -> Result<u64> {
        let shared = &self.0.shared;
        let before = shared.counters.reclaimed_bytes.load(Ordering::Relaxed);
        let (reply, answer) = super::reply::channel();
        let asked = shared.reclaims.ask.try_send(reply);
        asked.map_err(|_| Error::overloaded("the queue of requests to reclaim"))?;
        answer.or_draining().await?;
        Ok(shared.counters.reclaimed_bytes.load(Ordering::Relaxed) - before)
    }

    /// Refuses new commands, ends waits, makes everything durable, leaves the mark of a clean stop and ends the
    /// threads. A second call waits for the first.
    pub async fn shutdown(&self) -> Result<()> {
        let inner = Arc::clone(&self.0);
        let (reply, answer) = reply::channel();
        std::thread::Builder::new()
            .name("synapse-stop".into())
            .spawn(move || reply.send(inner.stop()))
            .map_err(|e| Error::internal(format!("starting a thread: {e}")))?;
        answer.or_draining().await
    }

    pub(super) fn send(&self, command: Command) -> Result<()> {
        match self.offer(command)? {
            None => Ok(()),
            Some(_) => Err(Error::overloaded("the queue of commands")),
        }
    }

    /// Hands a command to the core; a full queue gives it back.
    pub(super) fn offer(&self, command: Command) -> Result<Option<Command>> {
        match &self.0.lent {
            Some(lent) => lent.decide(command).map(|()| None),
            None => self.0.shared.offer(command),
        }
    }

    /// Sends a command and waits for its answer.
    pub(super) async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T> {
        let (reply, answer) = reply::channel();
        self.send(command(reply))?;
        self.wait(answer).await
    }

    /// Waits for an answer. One that is lost means that the engine failed or stopped meanwhile.
    pub(super) async fn wait<T>(&self, answer: Answer<T>) -> Result<T> {
        match answer.await {
            Some(result) => result,
            None => Err(self.0.shared.failure().unwrap_or_else(Error::draining)),
        }
    }

    pub(super) fn view(&self, stream: &StreamName) -> Result<Arc<StreamView>> {
        let found = match &self.0.lent {
            Some(lent) => lent.view(stream),
            None => self.0.shared.catalogue.get(stream),
        };
        found.ok_or_else(|| Error::stream_not_found(stream))
    }

    /// Names of streams in order, after a name, with a prefix.
    pub(super) fn names(&self, prefix: &str, after: Option<&StreamName>, max: usize) -> Vec<StreamName> {
        match &self.0.lent {
            Some(lent) => lent.names(prefix, after, max),
            None => self.0.shared.catalogue.names(prefix, after, max),
        }
    }

    /// Reads from memory where that suffices, else on a reader thread.
    pub(super) async fn read_with<T, F>(&self, read: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&Reader, Disk) -> Result<Option<T>> + Send + 'static,
    {
        if let Some(found) = read(&self.0.reader, Disk::Avoided)? {
            return Ok(found);
        }
        self.on_reader_thread(move |reader| {
            read(reader, Disk::Allowed)?.ok_or_else(|| Error::internal("a read that may use the disk avoided it"))
        })
        .await
    }

    /// Works on a reader thread.
    pub(super) async fn on_reader_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Reader) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.0.lent.is_some() {
            return work(&self.0.reader);
        }
        let reader = Arc::clone(&self.0.reader);
        let answer = match &*self.0.pool.lock() {
            Some(pool) => pool.run(move || work(&reader))?,
            None => return Err(Error::draining()),
        };
        self.wait(answer).await
    }
}

impl Inner {
    pub(super) fn stop(&self) -> Result<()> {
        let mut running = self.threads.lock();
        let Some(mut threads) = running.take() else { return Ok(()) };
        self.shared.set_draining();
        let (reply, _answer) = reply::channel();
        // The core reads its queue until it has stopped; where it died, there is nobody to tell.
        let _ = self.shared.commands.send(Command::Shutdown { reply });
        threads.join();
        *self.pool.lock() = None;
        threads.join_rest();
        *self.store.lock() = None;
        match self.shared.failure() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::warn!(%error, "the engine did not stop in order");
        }
    }
}

pub(super) fn group_key(stream: &StreamName, group: &GroupName) -> GroupKey {
    GroupKey { stream: stream.clone(), group: group.clone() }
}

/// Refuses a number that is out of bounds, naming the field.
pub(super) fn check_count(field: &str, value: usize, max: usize) -> Result<()> {
    if value == 0 || value > max {
        return Err(Error::invalid(field, format!("from 1 to {max}")));
    }
    Ok(())
}

/// Refuses a text for people that is longer than allowed, naming the field.
pub(super) fn check_text(field: &str, text: &str) -> Result<()> {
    let max = crate::limits::EVENT_TEXT_BYTES_MAX;
    if text.len() > max {
        return Err(Error::invalid(field, format!("{} bytes, at most {max} are allowed", text.len())));
    }
    Ok(())
}

/// Refuses lists of ids that are longer than allowed, or empty.
pub(super) fn check_ids(count: usize) -> Result<()> {
    if count == 0 {
        return Err(Error::invalid("ids", "at least one is needed"));
    }
    if count > crate::limits::IDS_PER_REQUEST_MAX {
        let max = crate::limits::IDS_PER_REQUEST_MAX;
        return Err(
            Error::new(Reason::BatchTooLarge, format!("{count} ids, at most {max} are allowed")).with("max", max)
        );
    }
    Ok(())
}

/// How often a start that takes long says how far it is, in milliseconds.
const REPLAY_TOLD_EVERY_MS: u64 = 1_000;

fn random_u64() -> u64 {
    // Without the system's randomness there are no salts, and without salts no safe log: there is nothing to go on with.
    getrandom::u64().expect("the operating system gives random numbers")
}
