//! An engine without threads, for simulation: its parts are stepped by hand on one thread, so that a seed decides
//! everything and a crash can come between any two steps.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::commit::Commit;
use super::handle::Engine;
use super::options::EngineOptions;
use super::parts::{Parts, run_job};
use super::reclaim::{Amount, Reclaimer};
use super::retention::Retainer;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::storage::{Files, LogOptions, MemoryIndex, RecoveryReport, StateIndex};

/// Rounds after which an engine that still moves, or a future that still waits, is taken to do so for ever.
const ROUNDS_MAX: u32 = 100_000;

/// The parts of an engine with their handle.
pub struct Stepped {
    parts: Parts,
    engine: Engine,
    retainer: Arc<Retainer>,
    /// Commits written with one sync at most, and those that wait for it.
    together: usize,
    handed: Vec<Commit>,
}

impl Stepped {
    /// Recovers what is in these files.
    pub fn open(
        files: Arc<dyn Files>,
        log_options: LogOptions,
        options: EngineOptions,
        clock: Arc<dyn Clock>,
        salts: Box<dyn FnMut() -> u64 + Send>,
    ) -> Result<Self> {
        Self::open_with(files, log_options, Box::new(MemoryIndex::default()), options, clock, salts)
    }

    /// Recovers what is in these files, with this index.
    pub fn open_with(
        files: Arc<dyn Files>,
        log_options: LogOptions,
        index: Box<dyn StateIndex>,
        options: EngineOptions,
        clock: Arc<dyn Clock>,
        salts: Box<dyn FnMut() -> u64 + Send>,
    ) -> Result<Self> {
        let parts = Parts::open(files, log_options, index, options, clock, salts, &mut |_| ())?;
        let engine = Engine::over(&parts, None);
        let retainer = Arc::new(Retainer::new(&parts.shared, &parts.reader));
        Ok(Self { parts, engine, retainer, together: 1, handed: Vec::new() })
    }

    /// The handle.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What recovery found.
    pub fn report(&self) -> &RecoveryReport {
        &self.parts.report
    }

    /// From now on each command is a commit of its own, and up to so many of them are written with one sync, as they are
    /// where the log is busy.
    pub fn write_together(&mut self, commits: usize) {
        self.together = commits;
    }

    /// Takes what waits in the queue; says whether there was anything. Writes only where the room in the allocated files
    /// is short.
    pub fn step_core(&mut self) -> bool {
        self.take_commands(Self::make_room)
    }

    /// The same, without writing anything: what finds no room is refused.
    pub fn decide(&mut self) {
        self.take_commands(|_| ());
    }

    fn take_commands(&mut self, make_room: fn(&mut Self)) -> bool {
        let now = self.parts.shared.clock.now();
        self.parts.core.on_timer(now);
        let mut any = false;
        loop {
            if self.parts.core.has_woken() {
                make_room(self);
                self.parts.core.go_on(now);
            } else if let Ok(command) = self.parts.commands.try_recv() {
                make_room(self);
                self.parts.shared.took(&command);
                self.parts.core.handle(command, now);
            } else {
                break;
            }
            any = true;
            if self.together > 1 {
                break;
            }
        }
        for job in self.parts.core.take_jobs() {
            run_job(job, &self.parts.reader, &self.parts.shared);
            any = true;
        }
        any
    }

    /// Waits for room as the core's thread does: the log and the allocator come first where it is short.
    fn make_room(&mut self) {
        loop {
            // A full or failing allocation shows as a refusal or a failure later on.
            let _ = self.parts.allocator.step();
            if !self.parts.core.is_room_short() || !self.step_log() {
                return;
            }
        }
    }

    /// Writes one commit, where there is one, or several together; says whether there was any.
    pub fn step_log(&mut self) -> bool {
        let now = self.parts.shared.clock.now();
        self.handed.extend(self.parts.core.take_commit(now));
        if self.handed.is_empty() {
            return false;
        }
        if self.handed.len() < self.together && !self.parts.commands.is_empty() {
            return true;
        }
        let Parts { core, log, shared, .. } = &mut self.parts;
        if let Err(error) = log.write(self.handed.drain(..), |number| core.on_durable(number, now)) {
            shared.fail(&error);
            core.on_failed();
        }
        while self.parts.keeper.step() {}
        true
    }

    /// Steps everything until nothing moves. Fails the test where that never comes.
    pub fn settle(&mut self) {
        let mut rounds = 0;
        while self.step_core() | self.parts.jobs.work_once() | self.step_log() {
            rounds += 1;
            assert!(rounds < ROUNDS_MAX, "the engine goes round and round");
        }
    }

    /// Looks after retention once, as a thread does every second.
    pub fn retain(&mut self) {
        let retainer = Arc::clone(&self.retainer);
        self.run(retainer.step());
    }

    /// Gives back the space of what no longer exists, once, where it is worth it; says whether it did anything.
    pub fn reclaim(&mut self) -> bool {
        let Some(mut reclaimer) = self.parts.reclaimer.take() else { return false };
        let any = self.run(reclaimer.step());
        self.parts.reclaimer = Some(reclaimer);
        any
    }

    /// Gives back the space of whatever no longer exists.
    pub fn reclaim_all(&mut self) -> Result<()> {
        let Some(mut reclaimer) = self.parts.reclaimer.take() else { return Ok(()) };
        let began_ms = self.parts.shared.clock.now().engine_ms;
        let mut done = self.run(reclaimer.begin_segment());
        while done.is_ok() {
            match self.run(reclaimer.reclaim(Amount::Everything)) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => done = Err(error),
            }
        }
        if done.is_ok() && !reclaimer.is_done() {
            done = Err(Error::internal("files that were given up could not be removed"));
        }
        let done = done.and_then(|()| reclaimer.erased(began_ms));
        self.parts.reclaimer = Some(reclaimer);
        done
    }

    /// The same where its time has come, as a thread does; says whether it had.
    pub fn reclaim_all_where_due(&mut self) -> Result<bool> {
        let due = self.parts.reclaimer.as_mut().is_some_and(Reclaimer::is_erasure_due);
        if due { self.reclaim_all().map(|()| true) } else { Ok(false) }
    }

    /// Stops in order: everything is written, then the mark of a clean stop. Nothing is taken afterwards.
    pub fn stop(&mut self) {
        self.settle();
        self.parts.shared.set_draining();
        let (reply, _) = super::reply::channel();
        let now = self.parts.shared.clock.now();
        self.parts.core.handle(super::command::Command::Shutdown { reply }, now);
        self.settle();
    }

    /// Steps until the future is done. Fails the test where it never would be.
    pub fn run<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..ROUNDS_MAX {
            if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
                return value;
            }
            self.settle();
        }
        panic!("the future waits for something that does not come");
    }
}
