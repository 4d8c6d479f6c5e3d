//! What the handles of a consumer and its task share: messages one way, settlements the other.
//!
//! Nothing here grows without bound: the window bounds the messages, and each message asks for one thing at most.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::{Drained, Ready, not_held};
use crate::client::error::{Error, Result};
use crate::client::groups::Nack;
use crate::types::EntryId;

/// What to do with an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum How {
    Ack,
    Nack(Nack),
}

/// What a message asks for, once.
pub(super) enum Ask {
    Settle { session: u64, id: EntryId, how: How, done: oneshot::Sender<Result<()>> },
    Drop { session: u64, delivery: u64, id: EntryId },
}

/// The wish to end.
pub(super) struct Drain {
    pub(super) grace: Duration,
    pub(super) done: Option<oneshot::Sender<Result<Drained>>>,
}

#[derive(Default)]
pub(super) struct State {
    inner: Mutex<Inner>,
    /// Wakes the task.
    asked: Notify,
}

#[derive(Default)]
struct Inner {
    ready: VecDeque<Ready>,
    waker: Option<Waker>,
    asks: Vec<Ask>,
    drain: Option<Drain>,
    is_over: bool,
    /// The last item of the stream.
    error: Option<Error>,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here panics half-way.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the task for something; once it has ended nothing is held any more.
    pub(super) fn ask(&self, ask: Ask) {
        let mut inner = self.lock();
        if inner.is_over {
            drop(inner);
            refuse(ask, "the consumer has ended");
            return;
        }
        inner.asks.push(ask);
        drop(inner);
        self.asked.notify_one();
    }

    /// Asks the task to end; the first wish counts.
    pub(super) fn drain(&self, drain: Drain) {
        let mut inner = self.lock();
        if inner.is_over {
            return;
        }
        inner.drain.get_or_insert(drain);
        drop(inner);
        self.asked.notify_one();
    }

    pub(super) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Ready>>> {
        let mut inner = self.lock();
        if let Some(ready) = inner.ready.pop_front() {
            return Poll::Ready(Some(Ok(ready)));
        }
        if inner.is_over {
            return Poll::Ready(inner.error.take().map(Err));
        }
        inner.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Waits for something to be asked.
    pub(super) async fn asked(&self) {
        self.asked.notified().await;
    }

    pub(super) fn take_asks(&self) -> Vec<Ask> {
        std::mem::take(&mut self.lock().asks)
    }

    pub(super) fn take_drain(&self) -> Option<Drain> {
        self.lock().drain.take()
    }

    pub(super) fn deliver(&self, messages: impl IntoIterator<Item = Ready>) {
        let mut inner = self.lock();
        inner.ready.extend(messages);
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes back what nobody took.
    pub(super) fn take_back(&self) -> Vec<Ready> {
        self.lock().ready.drain(..).collect()
    }

    /// Takes back what nobody took of what is no longer held.
    pub(super) fn keep(&self, held: impl Fn(&Ready) -> bool) {
        self.lock().ready.retain(held);
    }

    /// The task ends: the stream ends with the error, and whatever is asked is refused from now on.
    pub(super) fn end(&self, error: Option<Error>) {
        let mut inner = self.lock();
        inner.is_over = true;
        inner.error = error;
        inner.ready.clear();
        let (asks, waker) = (std::mem::take(&mut inner.asks), inner.waker.take());
        drop(inner);
        asks.into_iter().for_each(|ask| refuse(ask, "the consumer has ended"));
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

pub(super) fn refuse(ask: Ask, why: &str) {
    if let Ask::Settle { done, .. } = ask {
        // Who does not listen does not want to know.
        let _ = done.send(Err(not_held(why)));
    }
}
