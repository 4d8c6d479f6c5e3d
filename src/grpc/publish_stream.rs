//! The publish stream: requests that are there are handed to the engine together, answers go back in order.
//!
//! It is a hand-written stream, polled by the task that serves the call: no task, channel or wake-up of its own. While
//! batches are with the engine the next one is gathered; what is in flight is bounded, beyond that it stops reading, so
//! that the client's connection waits. Requests that the engine has no room for are handed over a little later, before
//! any later one: a client's requests are appended in the order in which it sent them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;

use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;
use prost::Message;
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Status, Streaming};

use super::answer::Answer;
use super::plain::{self, PlainRequest};
use super::publish::{Publisher, check_into, durability};
use super::{Shared, pb, status};
use crate::engine::{EachPublished, Engine, Gathered, Plain};
use crate::error::{Error, Result};
use crate::types::NewEntry;

/// Requests handed to the engine together at most.
const BATCH_REQUESTS_MAX: usize = 4096;
/// Bytes of events handed to the engine together, but for the last request.
const BATCH_BYTES_MAX: usize = 2 << 20;
/// Batches with the engine at a time.
const BATCHES_IN_FLIGHT_MAX: usize = 4;
/// Wait before requests are handed over again that the engine had no room for.
const RETRY_AFTER: Duration = Duration::from_millis(5);

/// The answers to one client's requests.
pub(super) struct PublishStream {
    engine: Engine,
    publisher: Publisher,
    requests: Streaming<pb::PublishStreamRequest>,
    /// Requests that are not yet with the engine: those that are not refused, and all of them.
    gathered: Gathered,
    slots: Vec<Slot>,
    /// The entries of one request, on their way into `gathered`.
    entries: Vec<NewEntry>,
    /// Runs while the engine has no room.
    retry: Option<Pin<Box<Sleep>>>,
    in_flight: VecDeque<InFlight>,
    /// A batch that is done, whose answers are being sent.
    answering: Answering,
    /// How the stream ends, once nothing more is read.
    end: Option<Result<(), Status>>,
    drain: Pin<Box<WaitForCancellationFutureOwned>>,
    message_bytes_max: usize,
}

/// One request: the client's number, and why it never goes to the engine, if so.
struct Slot {
    seq: u64,
    refused: Option<Error>,
}

/// A batch that is with the engine.
struct InFlight {
    slots: Vec<Slot>,
    results: BoxFuture<'static, EachPublished>,
    ready: Option<EachPublished>,
}

/// The answers of a batch that are not yet sent.
#[derive(Default)]
struct Answering {
    slots: vec::IntoIter<Slot>,
    results: Option<EachPublished>,
}

impl PublishStream {
    pub(super) fn new(shared: &Shared, publisher: Publisher, requests: Streaming<pb::PublishStreamRequest>) -> Self {
        Self {
            engine: shared.engine.clone(),
            publisher,
            requests,
            gathered: Gathered::default(),
            slots: Vec::new(),
            entries: Vec::new(),
            retry: None,
            in_flight: VecDeque::new(),
            answering: Answering::default(),
            end: None,
            drain: Box::pin(CancellationToken::clone(&shared.drain).cancelled_owned()),
            message_bytes_max: shared.options.message_bytes_max,
        }
    }

    /// Reads what is there, up to the size of a batch.
    fn gather(&mut self, cx: &mut Context<'_>) {
        if self.end.is_none() && Pin::new(&mut self.drain).poll(cx).is_ready() {
            self.end = Some(Err(Shared::draining()));
        }
        while self.end.is_none() && !self.is_full() {
            match Pin::new(&mut self.requests).poll_next(cx) {
                Poll::Ready(Some(Ok(request))) => self.take(request),
                Poll::Ready(Some(Err(found))) => {
                    self.end = Some(Err(status::with_reason(found, self.message_bytes_max)));
                }
                Poll::Ready(None) => self.end = Some(Ok(())),
                Poll::Pending => return,
            }
        }
    }

    fn is_full(&self) -> bool {
        self.slots.len() >= BATCH_REQUESTS_MAX || self.gathered.bytes() >= BATCH_BYTES_MAX
    }

    fn take(&mut self, request: pb::PublishStreamRequest) {
        let pb::PublishStreamRequest { seq, publish } = request;
        let taken = match PlainRequest::read(&publish) {
            Some(plain) => self.take_plain(plain, &publish),
            None if publish.is_empty() => Err(Error::invalid("publish", "is needed")),
            None => match pb::PublishRequest::decode(publish) {
                Ok(publish) => self.publisher.request(publish).and_then(|p| self.engine.gather(&mut self.gathered, p)),
                Err(error) => {
                    self.end = Some(Err(status::malformed(&error)));
                    return;
                }
            },
        };
        self.slots.push(Slot { seq, refused: taken.err() });
    }

    fn take_plain(&mut self, plain: PlainRequest<'_>, request: &Bytes) -> Result<()> {
        let stream = self.publisher.stream(plain.stream)?;
        self.entries.clear();
        check_into(&mut self.entries, plain::events(request))?;
        let (durability, create_stream) = (durability("durability", plain.durability)?, plain.create_stream);
        let plain = Plain { stream: &stream, durability, create_stream, trim: None };
        self.engine.gather_plain(&mut self.gathered, plain, &mut self.entries)
    }

    /// Hands what was gathered to the engine, as far as it has room; whether that got anything on its way.
    fn submit(&mut self, cx: &mut Context<'_>) -> bool {
        if self.slots.is_empty() || self.in_flight.len() >= BATCHES_IN_FLIGHT_MAX {
            return false;
        }
        if self.retry.as_mut().is_some_and(|retry| retry.as_mut().poll(cx).is_pending()) {
            return false;
        }
        let waiting = self.gathered.requests();
        let submitted = self.engine.submit(&mut self.gathered);
        let slots = take_submitted(&mut self.slots, waiting - self.gathered.requests());
        self.retry = (!self.slots.is_empty()).then(|| Box::pin(tokio::time::sleep(RETRY_AFTER)));
        if let Some(retry) = &mut self.retry {
            // Only to be woken by it.
            let _ = retry.as_mut().poll(cx);
        }
        if slots.is_empty() {
            return false;
        }
        let mut batch = InFlight { slots, results: Box::pin(submitted.results()), ready: None };
        batch.poll(cx);
        self.in_flight.push_back(batch);
        true
    }

    /// Takes over the answers of the oldest batch, where it is done; whether it is.
    fn collect(&mut self, cx: &mut Context<'_>) -> bool {
        for batch in &mut self.in_flight {
            batch.poll(cx);
        }
        match self.in_flight.pop_front_if(|batch| batch.ready.is_some()) {
            Some(InFlight { slots, ready, .. }) => {
                self.answering = Answering { slots: slots.into_iter(), results: ready };
                true
            }
            None => false,
        }
    }
}

/// The slots up to the first whose request is not among the so many that are on their way.
fn take_submitted(slots: &mut Vec<Slot>, mut count: usize) -> Vec<Slot> {
    let stays = slots.iter().position(|slot| {
        let accepted = slot.refused.is_none();
        let stays = accepted && count == 0;
        count -= usize::from(accepted && !stays);
        stays
    });
    let rest = slots.split_off(stays.unwrap_or(slots.len()));
    std::mem::replace(slots, rest)
}

impl InFlight {
    fn poll(&mut self, cx: &mut Context<'_>) {
        if self.ready.is_none()
            && let Poll::Ready(results) = self.results.as_mut().poll(cx)
        {
            self.ready = Some(results);
        }
    }
}

impl Iterator for Answering {
    type Item = Answer;

    fn next(&mut self) -> Option<Answer> {
        let slot = self.slots.next()?;
        let result = match slot.refused {
            Some(error) => Err(error),
            None => self.results.as_mut().and_then(Iterator::next).unwrap_or_else(too_few),
        };
        Some(Answer::new(slot.seq, result))
    }
}

fn too_few<T>() -> Result<T> {
    Err(Error::internal("the engine gave fewer answers than requests"))
}

impl Stream for PublishStream {
    type Item = Result<Answer, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(answer) = this.answering.next() {
                return Poll::Ready(Some(Ok(answer)));
            }
            let done = this.collect(cx);
            this.gather(cx);
            if this.submit(cx) || done {
                continue;
            }
            return match &this.end {
                Some(_) if !this.in_flight.is_empty() || !this.slots.is_empty() => Poll::Pending,
                None => Poll::Pending,
                Some(Ok(())) => Poll::Ready(None),
                Some(Err(status)) => {
                    let status = status.clone();
                    this.end = Some(Ok(()));
                    Poll::Ready(Some(Err(status)))
                }
            };
        }
    }
}
