//! A request's body on its way to a front end, bounded in what it holds and in how long it takes to arrive.
//!
//! A front end keeps the beginning of a message until the rest of it has come, and HTTP/2 lets a peer begin a thousand
//! of them. What is kept so is counted, for each connection and for all together; a message that would go beyond is
//! refused with `OVERLOADED`. A message that has begun, and one without which a call cannot begin, must be whole in time.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::BoxError;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::error::{Error, Result};
use crate::grpc;

/// What the bodies of a connection, and of all connections, hold of messages that are not whole.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    connection: Arc<AtomicUsize>,
    all: Arc<AtomicUsize>,
}

impl Held {
    /// The same for another connection.
    pub(super) fn of_another(&self) -> Self {
        Self { connection: Arc::default(), all: Arc::clone(&self.all) }
    }

    fn change(&self, before: usize, now: usize) -> Result<()> {
        let all = add(&self.all, before, now);
        let connection = add(&self.connection, before, now);
        if now > before && (connection > CONNECTION_HELD_MAX || all > ALL_HELD_MAX) {
            return Err(Error::overloaded("the room for messages that are not whole yet"));
        }
        Ok(())
    }
}

fn add(count: &AtomicUsize, before: usize, now: usize) -> usize {
    if now >= before {
        count.fetch_add(now - before, Ordering::Relaxed) + (now - before)
    } else {
        count.fetch_sub(before - now, Ordering::Relaxed) - (before - now)
    }
}

/// How a body is cut into messages.
#[derive(Debug)]
pub(super) enum Messages {
    /// The body is one.
    One,
    /// As gRPC cuts it: each has five bytes before it, the last four of which are its length.
    Many(Cut),
}

/// Where in a message a gRPC body is.
#[derive(Debug, Default)]
pub(super) struct Cut {
    /// Bytes of the five that have come.
    head: usize,
    length: u32,
    /// Bytes of the message that have come.
    body: u32,
}

impl Cut {
    /// Steps over what came; answers how many bytes of a message that is not whole have come now.
    fn step(&mut self, mut bytes: &[u8]) -> usize {
        while let Some((first, rest)) = bytes.split_first() {
            if self.head < HEAD_BYTES {
                if self.head > 0 {
                    self.length = self.length << 8 | u32::from(*first);
                }
                self.head += 1;
                bytes = rest;
            } else {
                let taken = bytes.len().min((self.length - self.body) as usize);
                self.body += taken as u32;
                bytes = &bytes[taken..];
            }
            if self.head == HEAD_BYTES && self.body == self.length {
                *self = Self::default();
            }
        }
        self.head + self.body as usize
    }
}

/// A body that is bounded so.
pub(super) struct Bounded {
    body: Incoming,
    messages: Messages,
    held: Held,
    holds: usize,
    /// Whether the call goes on only once more has come.
    awaited: bool,
    wait_max: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
    end: grpc::RequestEnd,
}

impl Bounded {
    /// A body of such messages. `awaited` says whether the first is due as soon as the call begins.
    pub(super) fn new(body: Incoming, messages: Messages, awaited: bool, held: &Held, wait_max: Duration) -> Self {
        let end = grpc::RequestEnd::default();
        Self { body, messages, held: held.clone(), holds: 0, awaited, wait_max, deadline: None, end }
    }

    /// Tells how it ends.
    pub(super) fn end(&self) -> grpc::RequestEnd {
        self.end.clone()
    }

    fn took(&mut self, bytes: &[u8]) -> Result<()> {
        let holds = match &mut self.messages {
            Messages::One => self.holds + bytes.len(),
            Messages::Many(cut) => cut.step(bytes),
        };
        self.awaited = match &self.messages {
            Messages::One => true,
            Messages::Many(_) => holds > 0,
        };
        if !self.awaited {
            self.deadline = None;
        }
        let before = std::mem::replace(&mut self.holds, holds);
        self.held.change(before, holds)
    }

    /// Whether what is awaited took too long.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.awaited {
            return false;
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.wait_max)));
        while deadline.as_mut().poll(cx).is_ready() {
            if deadline.deadline() + NOTICED_WITHIN > Instant::now() {
                return true;
            }
            // Nobody looked when it was over: this side was busy, not the peer.
            deadline.as_mut().reset(Instant::now() + self.wait_max);
        }
        false
    }

    fn refusal(&self, error: Error) -> BoxError {
        match self.messages {
            Messages::One => error.into(),
            Messages::Many(_) => grpc::refusal(error).into(),
        }
    }
}

impl Body for Bounded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, BoxError>>> {
        let polled = self.poll_bounded(cx);
        // A connection that this side gives up ends a body without an error, but without the client's word, too.
        let is_broken = match &polled {
            Poll::Ready(Some(Err(_))) => true,
            Poll::Ready(None) => !self.body.is_end_stream(),
            _ => false,
        };
        if is_broken {
            self.end.note_broken();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Bounded {
    fn poll_bounded(&mut self, cx: &mut Context<'_>) -> Poll<Option<std::result::Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_pending() && self.is_late(cx) {
            let error = Error::invalid("body", format!("was not whole after {} ms", self.wait_max.as_millis()));
            return Poll::Ready(Some(Err(self.refusal(error))));
        }
        let frame = match ready!(polled) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            None => return Poll::Ready(None),
        };
        if let Some(data) = frame.data_ref()
            && let Err(error) = self.took(data)
        {
            return Poll::Ready(Some(Err(self.refusal(error))));
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

impl Drop for Bounded {
    fn drop(&mut self) {
        // Less never fails.
        let _ = self.held.change(self.holds, 0);
    }
}

/// What stands before a gRPC message.
const HEAD_BYTES: usize = 5;
/// Messages that are not whole, of one connection.
const CONNECTION_HELD_MAX: usize = 32 << 20;
/// Messages that are not whole, of all connections.
const ALL_HELD_MAX: usize = 256 << 20;
/// A deadline is noticed within this time, unless nobody was looking.
const NOTICED_WITHIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart_however_they_are_cut() {
        let stream: Vec<u8> = [&[0, 0, 0, 0, 3, 1, 2, 3][..], &[0, 0, 0, 0, 0], &[0, 0, 0, 1, 0], &[7; 256]].concat();
        let whole_at = [8, 13, 274];
        for step in 1..stream.len() {
            let mut cut = Cut::default();
            let mut at = 0;
            for piece in stream.chunks(step) {
                at += piece.len();
                let begun = whole_at.iter().rev().find(|end| **end <= at).copied().unwrap_or(0);
                assert_eq!(cut.step(piece), at - begun, "{step} bytes at a time, at {at}");
            }
        }
    }

    #[test]
    fn what_is_held_is_bounded_and_given_back() {
        let held = Held::default();
        let others: Vec<Held> = (0..8).map(|_| held.of_another()).collect();
        held.change(0, CONNECTION_HELD_MAX + 1).expect_err("more than a connection may");
        held.change(CONNECTION_HELD_MAX + 1, 0).expect("given back");
        others.iter().for_each(|other| other.change(0, CONNECTION_HELD_MAX).expect("their own"));
        held.change(0, 1).expect_err("more than all may");
    }
}
