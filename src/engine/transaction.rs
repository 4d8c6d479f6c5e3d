//! Transactions: several requests that are one commit, with nobody else's in between.
//!
//! The work of a transaction runs on the core's thread, which lends it the core itself: each request is decided at once
//! and sees what those before it did, on disk or not. Nothing of it leaves before its commit is durable. It waits for
//! nothing else: reads go to the disk where they must, on this thread, and whatever would wait longer ends it.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake};

use parking_lot::Mutex;

use super::catalogue::names_from;
use super::command::Command;
use super::core::Core;
use super::handle::Engine;
use super::reply::Reply;
use super::view::StreamView;
use crate::error::{Error, Reason, Result};
use crate::types::StreamName;

/// What a transaction asks for before it begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransactionRoom {
    /// What it is going to write, in bytes; about, from above.
    pub bytes: usize,
    /// Whether it publishes or makes things: refused where the disk is full. What only takes away is let through.
    pub grows: bool,
}

impl Engine {
    /// Runs several requests as one: their effects are in one commit, of which a crash leaves all or nothing and readers
    /// see all or nothing; no other request comes in between; and each sees what those before it did. The answer comes
    /// when all of it is durable. It runs to its end even where this future is dropped.
    ///
    /// The work asks the engine that it is handed, which is of use in it only, and waits for nothing else: pulls do not
    /// wait, sessions and backups are refused. A request of it that fails changes nothing, and what the others did
    /// stays. `BATCH_TOO_LARGE` where `room` fits no commit; a request for which no room was asked for and none is left
    /// fails with that, too.
    pub async fn transaction<W, F, T>(&self, room: TransactionRoom, work: W) -> Result<T>
    where
        W: FnOnce(Engine) -> F + Send + 'static,
        F: Future<Output = T>,
        T: Send + 'static,
    {
        let lent = Arc::new(Lent::default());
        let engine = self.in_transaction(&lent);
        self.ask(|reply| Command::Transact(Box::new(Begun { room, lent, engine, work, reply }))).await
    }
}

/// A transaction on its way to the core.
pub(crate) trait Transact: Send {
    /// Bytes that it holds while it waits, about.
    fn bytes(&self) -> usize;
    /// Runs it over this core, and gives that back.
    fn run(self: Box<Self>, core: Core) -> Core;
}

impl fmt::Debug for dyn Transact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transact").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

struct Begun<W, T> {
    room: TransactionRoom,
    lent: Arc<Lent>,
    engine: Engine,
    work: W,
    reply: Reply<T>,
}

impl<W, F, T> Transact for Begun<W, T>
where
    W: FnOnce(Engine) -> F + Send,
    F: Future<Output = T>,
    T: Send + 'static,
{
    fn bytes(&self) -> usize {
        self.room.bytes
    }

    fn run(self: Box<Self>, mut core: Core) -> Core {
        let Self { room, lent, engine, work, reply } = *self;
        if let Err(error) = core.begin_together(room) {
            core.refuse(reply, error);
            return core;
        }
        lent.lend(core);
        let outcome = catch_unwind(AssertUnwindSafe(|| finish(work(engine))));
        let mut core = lent.take_back();
        let result = match outcome {
            Ok(result) => result,
            // In the middle of a decision: the state is of no use any more.
            Err(panic) if lent.deciding.load(Ordering::Relaxed) => resume_unwind(panic),
            Err(_) => Err(Error::internal("the work of a transaction panicked")),
        };
        core.end_together();
        core.answer_last(reply, result);
        core
    }
}

/// The core for the length of a transaction; nothing before and after.
#[derive(Default)]
pub(super) struct Lent {
    core: Mutex<Option<Core>>,
    /// Whether the core is in the middle of a command.
    deciding: AtomicBool,
}

impl Lent {
    fn lend(&self, core: Core) {
        *self.core.lock() = Some(core);
    }

    fn take_back(&self) -> Core {
        self.core.lock().take().expect("the core was lent to this transaction")
    }

    fn with<T>(&self, work: impl FnOnce(&mut Core) -> T) -> Result<T> {
        let mut lent = self.core.lock();
        let core = lent.as_mut().ok_or_else(|| Error::new(Reason::InvalidArgument, "the transaction is over"))?;
        self.deciding.store(true, Ordering::Relaxed);
        let done = work(core);
        self.deciding.store(false, Ordering::Relaxed);
        Ok(done)
    }

    /// Has the core decide about a command, now.
    pub(super) fn decide(&self, command: Command) -> Result<()> {
        match command {
            Command::Transact(_)
            | Command::Shutdown { .. }
            | Command::BeginSegment { .. }
            | Command::BackupPoint { .. }
            | Command::ReplaceFiles { .. }
            | Command::Retained { .. }
            | Command::OpenSession { .. } => Err(Error::new(Reason::InvalidArgument, "not in a transaction")),
            command => self.with(|core| core.handle_together(command)),
        }
    }

    /// What the transaction sees of a stream.
    pub(super) fn view(&self, stream: &StreamName) -> Option<Arc<StreamView>> {
        self.with(|core| core.view_together(stream)).ok().flatten()
    }

    /// Names in order, after a name, with a prefix.
    pub(super) fn names(&self, prefix: &str, after: Option<&StreamName>, max: usize) -> Vec<StreamName> {
        let found = self.with(|core| {
            let names = core.names_in_order.range(names_from(prefix, after));
            names.take_while(|name| name.as_str().starts_with(prefix)).take(max).cloned().collect()
        });
        found.unwrap_or_default()
    }
}

/// Whether somebody asked for a future to be looked at again.
#[derive(Default)]
struct Again(AtomicBool);

impl Wake for Again {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs a future whose every wait is over at once.
fn finish<T>(work: impl Future<Output = T>) -> Result<T> {
    let mut work = pin!(work);
    let again = Arc::new(Again::default());
    let waker = Arc::clone(&again).into();
    loop {
        match work.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return Ok(value),
            Poll::Pending if again.0.swap(false, Ordering::Relaxed) => {}
            Poll::Pending => {
                return Err(Error::new(Reason::InvalidArgument, "a transaction waits for nothing but the engine"));
            }
        }
    }
}
