//! The threads of an engine: few, named, supervised. A panic in one ends all writing.

use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded, select_biased};

use super::command::Command;
use super::commit::Commit;
use super::core::Core;
use super::log_step::LogStep;
use super::parts::{Parts, run_job};
use super::pool::Pool;
use super::reader::Reader;
use super::reclaim::{Amount, Reclaimer};
use super::retention::Retainer;
use super::shared::Shared;
use crate::clock::Now;
use crate::error::{Error, Reason, Result};
use crate::limits;
use crate::storage::{AllocatorStep, LogAllocator, StoreWatch};

/// Commands handled between two looks at the log and the clock.
const COMMANDS_PER_ROUND: usize = 1024;
/// While the log is busy, a commit of this size goes after the one under way without waiting for it.
const HANDOVER_BYTES: u64 = 256 << 10;
/// The longest time that a thread waits without looking around.
const WAIT_MAX: Duration = Duration::from_millis(500);
/// A round that took longer than so many milliseconds was no round of work: the process was stopped, or held up.
const AWAY_MS: u64 = 1500;
/// An `os` commit is synced once the log thread was idle for so long.
const IDLE_SYNC_DELAY: Duration = Duration::from_millis(5);

/// How often retention is looked after at least, and how often it is asked whether much was written since.
const RETENTION_INTERVAL: Duration = Duration::from_secs(1);
const RETENTION_TICK: Duration = Duration::from_millis(50);
/// How often it is looked whether space can be given back; no more than a twentieth of the time goes into looking for
/// nothing, and no more than half into giving it back.
const RECLAIM_INTERVAL: Duration = Duration::from_millis(50);
const RECLAIM_SHARE: u32 = 20;
/// How long it waits for the keeper of the index, which takes one state at a time.
const RECLAIM_RETRY: Duration = Duration::from_millis(20);
/// How long a request to reclaim waits for what keeps files from going.
const RECLAIM_WAIT: Duration = Duration::from_secs(30);
/// How long the allocator waits before it looks whether the engine stops, or a full disk has room again.
const ALLOCATOR_WAIT: Duration = Duration::from_millis(100);

enum LogEvent {
    Durable(u64),
    Failed,
}

/// The running threads.
pub(crate) struct Threads {
    core: Option<JoinHandle<()>>,
    log: Option<JoinHandle<()>>,
    keeper: Option<JoinHandle<()>>,
    retainer: Option<JoinHandle<()>>,
    reclaimer: Option<JoinHandle<()>>,
    /// Dropped to end the retainer and the reclaimer.
    retaining: Option<Sender<()>>,
    others: Vec<JoinHandle<()>>,
    stopping: Arc<AtomicBool>,
}

impl Threads {
    /// Starts the threads over these parts.
    pub(crate) fn start(parts: Parts) -> std::io::Result<Self> {
        let Parts { shared, reader, pool, jobs, commands, core, log, allocator, keeper, reclaimer, watch, .. } = parts;
        let (commits, to_write) = bounded(limits::COMMITS_IN_FLIGHT_MAX);
        let (events, done) = bounded(limits::COMMITS_IN_FLIGHT_MAX + 1);
        let stopping = Arc::new(AtomicBool::new(false));
        let mut others = Vec::new();
        for n in 0..shared.options.reader_threads {
            let jobs = jobs.another();
            others.push(spawn(&format!("synapse-read-{n}"), &shared, move || jobs.work())?);
        }
        let (allocating, stop) = (Arc::clone(&shared), Arc::clone(&stopping));
        others.push(spawn("synapse-space", &shared, move || allocate(allocator, &allocating, &stop))?);
        let (retaining, ended) = bounded(0);
        let retainer = Retainer::new(&shared, &reader);
        let (looking, stop) = (Arc::clone(&shared), ended.clone());
        let retainer = spawn("synapse-retain", &shared, move || {
            retain(&retainer, &looking, watch.as_ref(), &ended);
        })?;
        let reclaimer = reclaimer.map(Reclaimer::paced);
        let reclaimed = Arc::clone(&shared);
        let reclaimer = reclaimer.map(|reclaimer| {
            spawn("synapse-reclaim", &shared, move || {
                Reclaiming { reclaimer, shared: reclaimed, idle_at: None }.run(&stop)
            })
        });
        let reclaimer = reclaimer.transpose()?;
        let keeper = spawn_beside("synapse-index", move || keeper.run())?;
        let writer = Writer { step: log, shared: Arc::clone(&shared) };
        let log = spawn("synapse-log", &shared, move || writer.run(&to_write, &events))?;
        let runner = Runner { core, shared: Arc::clone(&shared), commands, commits, done, pool, reader, handed: 0 };
        let core = spawn("synapse-core", &shared, move || runner.run())?;
        Ok(Self {
            core: Some(core),
            log: Some(log),
            keeper: Some(keeper),
            retainer: Some(retainer),
            reclaimer,
            retaining: Some(retaining),
            others,
            stopping,
        })
    }

    /// Waits until the core, the log thread and those beside them have ended, in this order. The others end with the
    /// last handle.
    pub(crate) fn join(&mut self) {
        self.retaining = None;
        let beside = [self.retainer.take(), self.reclaimer.take()];
        let own = [self.core.take(), self.log.take(), self.keeper.take()].into_iter().chain(beside);
        for handle in own.flatten() {
            // A panic was noted by the thread itself.
            let _ = handle.join();
        }
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Waits for the rest; every [`Pool`] handle must be gone.
    pub(crate) fn join_rest(&mut self) {
        for handle in self.others.drain(..) {
            let _ = handle.join();
        }
    }
}

fn spawn(name: &str, shared: &Arc<Shared>, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    let shared = Arc::clone(shared);
    let title = name.to_owned();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            shared.die(&Error::internal(format!("thread {title} panicked")));
            shared.announce_stop();
        }
    })
}

/// A thread whose end ends nothing else.
fn spawn_beside(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}

/// The core thread.
struct Runner {
    core: Core,
    shared: Arc<Shared>,
    commands: Receiver<Command>,
    commits: Sender<Commit>,
    done: Receiver<LogEvent>,
    pool: Pool,
    reader: Arc<Reader>,
    /// What the last commit that was handed over takes.
    handed: u64,
}

impl Runner {
    fn run(mut self) {
        let mut seen_ms = self.shared.clock.now().engine_ms;
        while !self.core.is_stopped() {
            let now = self.shared.clock.now();
            if now.engine_ms.saturating_sub(seen_ms) > AWAY_MS {
                self.core.was_away(seen_ms, now.engine_ms);
            }
            seen_ms = now.engine_ms;
            let mut busy = self.take_events(now);
            self.core.on_timer(now);
            busy |= self.take_commands(now);
            self.submit_jobs();
            busy |= self.hand_over(now);
            if !busy {
                self.wait(now);
            }
        }
        self.shared.announce_stop();
    }

    fn take_events(&mut self, now: Now) -> bool {
        let mut any = false;
        while let Ok(event) = self.done.try_recv() {
            self.take_event(&event, now);
            any = true;
        }
        any
    }

    fn take_event(&mut self, event: &LogEvent, now: Now) {
        match event {
            LogEvent::Durable(number) => self.core.on_durable(*number, now),
            LogEvent::Failed => self.core.on_failed(),
        }
    }

    /// Whether the commit being filled takes more commands now. After a failure all are taken, to be refused: the room
    /// that they would wait for never comes.
    fn takes_commands(&mut self) -> bool {
        let has_room = self.core.commit_cost() < limits::FRAME_BYTES_MAX as u64 / 2 && !self.core.is_room_short();
        has_room || self.shared.failure().is_some()
    }

    fn take_commands(&mut self, now: Now) -> bool {
        let mut any = false;
        for _ in 0..COMMANDS_PER_ROUND {
            if !self.takes_commands() {
                break;
            }
            // What waited for a reader was there first.
            if self.core.has_woken() {
                self.take_events(now);
                self.core.go_on(now);
                any = true;
                continue;
            }
            let Ok(command) = self.commands.try_recv() else { break };
            let is_long = matches!(command, Command::Transact(_));
            self.handle(command, now);
            any = true;
            if is_long {
                break;
            }
        }
        any
    }

    /// Handles a command after all news of the log: its sender may rest on an answer that left just before.
    fn handle(&mut self, command: Command, now: Now) {
        self.take_events(now);
        self.shared.took(&command);
        self.core.handle(command, now);
    }

    fn submit_jobs(&mut self) {
        for job in self.core.take_jobs() {
            let refusal = job.refusal();
            let (reader, shared) = (Arc::clone(&self.reader), Arc::clone(&self.shared));
            if let Err(error) = self.pool.submit(Box::new(move || run_job(job, &reader, &shared))) {
                let now = self.shared.clock.now();
                self.core.handle(refusal(error), now);
            }
        }
    }

    /// Whether what was gathered is better gathered on than handed over: while the log writes, commits that are no smaller
    /// than the one before them follow, to be synced together, and two large ones at most.
    fn waits(&self) -> bool {
        let (in_flight, cost) = (self.core.in_flight(), self.core.commit_cost());
        match in_flight {
            0 => false,
            1 if cost >= HANDOVER_BYTES => false,
            limits::COMMITS_IN_FLIGHT_MAX.. => true,
            _ => cost < self.handed || cost >= HANDOVER_BYTES,
        }
    }

    fn hand_over(&mut self, now: Now) -> bool {
        let mut any = false;
        loop {
            if self.waits() {
                return any;
            }
            self.handed = self.core.commit_cost();
            let Some(commit) = self.core.take_commit(now) else { return any };
            if self.commits.send(commit).is_err() {
                self.shared.fail(&Error::internal("the log thread is gone"));
                self.core.on_failed();
                return any;
            }
            any = true;
        }
    }

    fn wait(&mut self, now: Now) {
        let timer = self.core.next_timer(now).map(|due| Duration::from_millis(due.saturating_sub(now.engine_ms)));
        let timeout = timer.unwrap_or(WAIT_MAX).min(WAIT_MAX);
        if !self.takes_commands() {
            // Only the log can make room.
            let timeout = timeout.min(Duration::from_millis(2));
            if let Ok(event) = self.done.recv_timeout(timeout) {
                let now = self.shared.clock.now();
                self.take_event(&event, now);
            }
            return;
        }
        let (done, commands) = (self.done.clone(), self.commands.clone());
        select_biased! {
            recv(done) -> event => if let Ok(event) = event {
                let now = self.shared.clock.now();
                self.take_event(&event, now);
            },
            recv(commands) -> command => if let Ok(command) = command {
                let now = self.shared.clock.now();
                self.handle(command, now);
            },
            default(timeout) => {}
        }
    }
}

/// The log thread.
struct Writer {
    step: LogStep,
    shared: Arc<Shared>,
}

impl Writer {
    fn run(mut self, commits: &Receiver<Commit>, events: &Sender<LogEvent>) {
        let mut unsynced_since: Option<u64> = None;
        loop {
            let timeout = if unsynced_since.is_some() { IDLE_SYNC_DELAY } else { WAIT_MAX };
            let result = match commits.recv_timeout(timeout) {
                Ok(commit) => {
                    let all = iter::once(commit).chain(commits.try_iter());
                    self.step.write(all, |number| drop(events.send(LogEvent::Durable(number))))
                }
                Err(RecvTimeoutError::Timeout) => self.step.sync(),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let now_ms = self.shared.clock.now().engine_ms;
            let late = unsynced_since.is_some_and(|at| now_ms - at >= limits::OS_SYNC_DELAY_MAX.as_millis() as u64);
            let result = if late { result.and_then(|()| self.step.sync()) } else { result };
            if let Err(error) = result {
                self.shared.fail(&error);
                drop(events.send(LogEvent::Failed));
            }
            unsynced_since = self.step.is_unsynced().then(|| unsynced_since.unwrap_or(now_ms));
            if self.shared.failure().is_some() {
                unsynced_since = None;
            }
        }
    }
}

/// Keeps retention, until the other end is dropped: once a second, and once a quarter of a segment was written. Looks as
/// often whether the data directory is still ours, and ends everything where it is not.
fn retain(retainer: &Retainer, shared: &Shared, watch: Option<&StoreWatch>, ended: &Receiver<()>) {
    let (mut since, mut from) = (Duration::ZERO, 0);
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(RETENTION_TICK) {
        since += RETENTION_TICK;
        if since >= RETENTION_INTERVAL
            && let Some(Err(error)) = watch.map(StoreWatch::check)
        {
            shared.die(&error);
            return shared.announce_stop();
        }
        let end = shared.counters.log_end.load(Ordering::Relaxed);
        if since >= RETENTION_INTERVAL || end.saturating_sub(from) >= shared.options.segment_bytes / 4 {
            futures::executor::block_on(retainer.step());
            (since, from) = (Duration::ZERO, end);
        }
    }
}

/// The reclaim thread.
struct Reclaiming {
    reclaimer: Reclaimer,
    shared: Arc<Shared>,
    /// Where the log ended when there was nothing to give back.
    idle_at: Option<u64>,
}

impl Reclaiming {
    /// Gives back space where it is worth it, and everything where that is asked for, until the other end is dropped.
    fn run(mut self, ended: &Receiver<()>) {
        let Some(requests) = self.shared.reclaims.asked.lock().take() else { return };
        let (mut pause, mut tried_ms) = (RECLAIM_INTERVAL, None);
        loop {
            let now_ms = self.shared.clock.now().engine_ms;
            let again = tried_ms.is_none_or(|at| now_ms.saturating_sub(at) >= RECLAIM_WAIT.as_millis() as u64);
            if again && self.reclaimer.is_erasure_due() {
                tried_ms = Some(now_ms);
                if let Err(error) = self.everything() {
                    tracing::warn!(%error, "what was deleted could not be removed from the disk; it is tried again");
                }
            }
            select_biased! {
                recv(ended) -> _ => return,
                recv(requests) -> request => if let Ok(reply) = request {
                    reply.send(self.everything());
                },
                default(pause) => pause = self.look(),
            }
        }
    }

    /// Gives back what is worth it; answers how long to wait then. Without anything written there is nothing new.
    fn look(&mut self) -> Duration {
        let end = Some(self.shared.counters.log_end.load(Ordering::Relaxed));
        if self.idle_at == end && self.reclaimer.is_done() {
            return RECLAIM_INTERVAL;
        }
        let since = self.shared.clock.now().engine_ms;
        let mut worked = false;
        while futures::executor::block_on(self.reclaimer.step()) {
            worked = true;
            if self.shared.is_draining() {
                break;
            }
        }
        self.idle_at = end.filter(|_| !self.shared.is_indexing());
        let took = Duration::from_millis(self.shared.clock.now().engine_ms.saturating_sub(since));
        // There may be more to give back once the keeper of the index is done with what was given up.
        let share = if worked { 1 } else { RECLAIM_SHARE };
        RECLAIM_INTERVAL.max(took * share).min(RETENTION_INTERVAL * 10)
    }

    fn everything(&mut self) -> Result<()> {
        let began_ms = self.shared.clock.now().engine_ms;
        self.again(|reclaimer| futures::executor::block_on(reclaimer.begin_segment()))?;
        while self.again(|reclaimer| futures::executor::block_on(reclaimer.reclaim(Amount::Everything)))? {}
        while !self.reclaimer.is_done() {
            let waited_ms = self.shared.clock.now().engine_ms.saturating_sub(began_ms);
            if self.shared.is_draining() || waited_ms >= RECLAIM_WAIT.as_millis() as u64 {
                return Err(Error::new(Reason::StorageFailed, "files that were given up could not be removed yet"));
            }
            self.again(|reclaimer| futures::executor::block_on(reclaimer.keep_again()))?;
            std::thread::sleep(RECLAIM_RETRY);
        }
        self.reclaimer.erased(began_ms)
    }

    /// Tries again as long as somebody else is busy.
    fn again<T>(&mut self, work: impl Fn(&mut Reclaimer) -> Result<T>) -> crate::error::Result<T> {
        loop {
            match work(&mut self.reclaimer) {
                Err(error) if error.reason() == Reason::Overloaded => std::thread::sleep(RECLAIM_RETRY),
                done => return done,
            }
        }
    }
}

fn allocate(mut allocator: LogAllocator, shared: &Shared, stopping: &AtomicBool) {
    while !stopping.load(Ordering::Relaxed) {
        match allocator.step() {
            Ok(AllocatorStep::Full) => shared.set_full(true),
            Ok(AllocatorStep::Idle | AllocatorStep::Allocated) => shared.set_full(false),
            Err(error) => {
                shared.fail(&error);
                return;
            }
        }
        allocator.wait(ALLOCATOR_WAIT);
    }
}
