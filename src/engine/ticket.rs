//! Whether a grant arrived: the asker takes it, or it goes back to its group.
//!
//! New entries are granted in order, and each grant knows the one before it in its group. An asker takes what it was
//! granted only once whoever was granted the entries before has taken those: a grant that goes back takes all later
//! ones with it, which were not taken either, so the group is as it was before. Dropping a grant never waits: what goes
//! back is put on a list, which the core takes before its next command. The list holds at most one item for each grant
//! that was not taken and each session that was not closed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use crossbeam::channel::Sender;
use parking_lot::Mutex;

use super::command::{Command, GroupKey};
use crate::group::GrantUndo;
use crate::types::{DeliveryNumber, GroupNumber};

/// How a grant stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Taken,
    Returned,
}

/// One grant, as its asker, the core and the grant behind it see it.
#[derive(Debug)]
pub(crate) struct Ticket {
    inner: Mutex<(State, Vec<Waker>)>,
    /// What undoes the grant.
    pub(crate) undo: GrantUndo,
    /// Whether the core has undone it.
    pub(crate) is_undone: AtomicBool,
}

impl Ticket {
    pub(crate) fn open(undo: GrantUndo) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::new((State::Open, Vec::new())), undo, is_undone: AtomicBool::new(false) })
    }

    /// The grant is its asker's from here on; `false` where it went back before.
    pub(crate) fn take(&self) -> bool {
        self.leave(State::Taken)
    }

    /// The grant goes back; `false` where that was settled before, either way.
    pub(crate) fn give_back(&self) -> bool {
        self.leave(State::Returned)
    }

    pub(crate) fn is_taken(&self) -> bool {
        self.inner.lock().0 == State::Taken
    }

    /// Whether it was taken, once that is settled.
    pub(crate) fn taken(self: &Arc<Self>) -> impl Future<Output = bool> + use<> {
        Taken(Arc::clone(self))
    }

    fn leave(&self, to: State) -> bool {
        let wakers = {
            let mut inner = self.inner.lock();
            if inner.0 != State::Open {
                return false;
            }
            inner.0 = to;
            std::mem::take(&mut inner.1)
        };
        wakers.into_iter().for_each(Waker::wake);
        true
    }
}

struct Taken(Arc<Ticket>);

impl Future for Taken {
    type Output = bool;
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        let mut inner = self.0.inner.lock();
        match inner.0 {
            State::Taken => Poll::Ready(true),
            State::Returned => Poll::Ready(false),
            State::Open => {
                if !inner.1.iter().any(|waker| waker.will_wake(context.waker())) {
                    inner.1.push(context.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

/// What comes back to the core without having been asked for.
#[derive(Debug)]
pub(crate) enum Back {
    /// Granted entries that nobody took.
    Grant { group: GroupNumber, ticket: Arc<Ticket> },
    /// A session that ended: what it holds goes back, and failed unless it drained.
    Session { key: GroupKey, session: DeliveryNumber, drained: bool },
}

/// What came back and was not yet looked at.
#[derive(Debug)]
pub(crate) struct Homecoming {
    list: Mutex<Vec<Back>>,
    any: AtomicBool,
    core: Sender<Command>,
}

impl Homecoming {
    pub(crate) fn new(core: Sender<Command>) -> Self {
        Self { list: Mutex::default(), any: AtomicBool::new(false), core }
    }

    /// A grant goes back, unless it was taken or went back before.
    pub(crate) fn grant(&self, group: GroupNumber, ticket: &Arc<Ticket>) {
        {
            // Whoever learns that it went back finds it on the list.
            let mut list = self.list.lock();
            list.push(Back::Grant { group, ticket: Arc::clone(ticket) });
            self.any.store(true, Ordering::Release);
            if !ticket.give_back() {
                list.pop();
            }
        }
        self.wake();
    }

    /// A session ended.
    pub(crate) fn session(&self, key: GroupKey, session: DeliveryNumber, drained: bool) {
        self.put(Back::Session { key, session, drained });
        self.wake();
    }

    /// Puts an item on the list (again).
    pub(crate) fn put(&self, back: Back) {
        self.list.lock().push(back);
        self.any.store(true, Ordering::Release);
    }

    /// What came back since this was asked last.
    pub(crate) fn take(&self) -> Vec<Back> {
        // Looked at before every command.
        if !self.any.load(Ordering::Acquire) {
            return Vec::new();
        }
        self.any.store(false, Ordering::Release);
        std::mem::take(&mut *self.list.lock())
    }

    fn wake(&self) {
        // Where the queue is full the core is busy and looks at the list before its next command; where it has stopped
        // there is nobody to tell.
        let _ = self.core.try_send(Command::LookAtHomecoming);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam::channel::bounded;

    fn ticket() -> Arc<Ticket> {
        Ticket::open(GrantUndo::default())
    }

    #[test]
    fn a_grant_is_taken_or_goes_back_and_never_both() {
        let taken = ticket();
        assert!(!taken.is_taken() && taken.take() && taken.is_taken() && !taken.give_back() && !taken.take());
        assert!(futures::executor::block_on(taken.taken()));
        let returned = ticket();
        assert!(returned.give_back() && !returned.take());
        assert!(!futures::executor::block_on(returned.taken()));
    }

    #[test]
    fn what_goes_back_is_kept_where_the_queue_is_full() {
        let (core, queue) = bounded(1);
        let home = Homecoming::new(core);
        for _ in 0..3 {
            home.grant(GroupNumber(1), &ticket());
        }
        let taken = ticket();
        taken.take();
        home.grant(GroupNumber(1), &taken);
        assert_eq!((queue.len(), home.take().len(), home.take().len()), (1, 3, 0));
    }
}
