//! Answers that arrive later, from another thread, without a runtime: a future, or a blocking wait.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::channel::oneshot;

use crate::error::{Error, Result};

/// The answering end.
#[derive(Debug)]
pub(crate) struct Reply<T>(oneshot::Sender<Result<T>>);

/// The waiting end. Fails with `DRAINING` where the other end went away without an answer.
#[derive(Debug)]
pub(crate) struct Answer<T>(oneshot::Receiver<Result<T>>);

pub(crate) fn channel<T>() -> (Reply<T>, Answer<T>) {
    let (sender, receiver) = oneshot::channel();
    (Reply(sender), Answer(receiver))
}

impl<T> Reply<T> {
    pub(crate) fn send(self, value: Result<T>) {
        // Nobody waiting any more is no error: the effect stands, as after a lost connection.
        let _ = self.0.send(value);
    }
    /// Whether nobody waits any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.0.is_canceled()
    }
}

impl<T> Future for Answer<T> {
    type Output = Option<Result<T>>;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|received| received.ok())
    }
}

impl<T> Answer<T> {
    /// The answer, where there is nothing better to say about a lost one.
    pub(crate) async fn or_draining(self) -> Result<T> {
        self.await.unwrap_or_else(|| Err(Error::draining()))
    }
}

/// What the log thread does once a commit is durable.
pub(crate) type Release = Box<dyn FnOnce() + Send>;
