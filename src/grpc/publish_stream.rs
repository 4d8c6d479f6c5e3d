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

use futures::Stream;
use futures::future::BoxFuture;
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Status, Streaming};

use super::publish::{self, Publisher};
use super::{Shared, pb, status};
use crate::engine::{Engine, Publish, Published};
use crate::error::{Error, Result};

/// Requests handed to the engine together at most.
const BATCH_REQUESTS_MAX: usize = 1024;
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
    gathered: Batch,
    /// Runs while the engine has no room.
    retry: Option<Pin<Box<Sleep>>>,
    in_flight: VecDeque<InFlight>,
    answers: VecDeque<pb::PublishStreamResponse>,
    /// How the stream ends, once nothing more is read.
    end: Option<Result<(), Status>>,
    drain: Pin<Box<WaitForCancellationFutureOwned>>,
    message_bytes_max: usize,
}

/// Requests that are not yet with the engine.
#[derive(Default)]
struct Batch {
    slots: Vec<Slot>,
    /// Those that are not refused.
    requests: VecDeque<Publish>,
    bytes: usize,
}

/// One request: the client's number, and why it never goes to the engine, if so.
struct Slot {
    seq: u64,
    refused: Option<Error>,
}

/// A batch that is with the engine.
struct InFlight {
    slots: Vec<Slot>,
    results: BoxFuture<'static, Vec<Result<Published>>>,
    ready: Option<Vec<Result<Published>>>,
}

impl PublishStream {
    pub(super) fn new(shared: &Shared, publisher: Publisher, requests: Streaming<pb::PublishStreamRequest>) -> Self {
        Self {
            engine: shared.engine.clone(),
            publisher,
            requests,
            gathered: Batch::default(),
            retry: None,
            in_flight: VecDeque::new(),
            answers: VecDeque::new(),
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
        while self.end.is_none() && !self.gathered.is_full() {
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

    fn take(&mut self, request: pb::PublishStreamRequest) {
        let seq = request.seq;
        let publish = request.publish.ok_or_else(|| Error::invalid("publish", "is needed"));
        match publish.and_then(|publish| self.publisher.request(publish)) {
            Ok(publish) => {
                self.gathered.bytes += publish.bytes();
                self.gathered.requests.push_back(publish);
                self.gathered.slots.push(Slot { seq, refused: None });
            }
            Err(error) => self.gathered.slots.push(Slot { seq, refused: Some(error) }),
        }
    }

    /// Hands what was gathered to the engine, as far as it has room; whether that got anything on its way.
    fn submit(&mut self, cx: &mut Context<'_>) -> bool {
        if self.gathered.slots.is_empty() || self.in_flight.len() >= BATCHES_IN_FLIGHT_MAX {
            return false;
        }
        if self.retry.as_mut().is_some_and(|retry| retry.as_mut().poll(cx).is_pending()) {
            return false;
        }
        let waiting = self.gathered.requests.len();
        let submitted = self.engine.submit_each(&mut self.gathered.requests);
        let slots = self.gathered.take_submitted(waiting - self.gathered.requests.len());
        self.retry = (!self.gathered.slots.is_empty()).then(|| Box::pin(tokio::time::sleep(RETRY_AFTER)));
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

    /// Takes over the answers of batches that are done, in order.
    fn collect(&mut self, cx: &mut Context<'_>) {
        for batch in &mut self.in_flight {
            batch.poll(cx);
        }
        while let Some(results) = self.in_flight.front_mut().and_then(|batch| batch.ready.take()) {
            let Some(batch) = self.in_flight.pop_front() else { return };
            let mut results = results.into_iter();
            self.answers.extend(batch.slots.into_iter().map(|slot| answer(slot, &mut results)));
        }
    }
}

impl Batch {
    /// The slots up to the first whose request is not among the so many that are on their way.
    fn take_submitted(&mut self, mut count: usize) -> Vec<Slot> {
        let stays = self.slots.iter().position(|slot| {
            let accepted = slot.refused.is_none();
            let stays = accepted && count == 0;
            count -= usize::from(accepted && !stays);
            stays
        });
        self.bytes = self.requests.iter().map(Publish::bytes).sum();
        let rest = self.slots.split_off(stays.unwrap_or(self.slots.len()));
        std::mem::replace(&mut self.slots, rest)
    }

    fn is_full(&self) -> bool {
        self.slots.len() >= BATCH_REQUESTS_MAX || self.bytes >= BATCH_BYTES_MAX
    }
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

impl Stream for PublishStream {
    type Item = Result<pb::PublishStreamResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(answer) = this.answers.pop_front() {
                return Poll::Ready(Some(Ok(answer)));
            }
            this.collect(cx);
            this.gather(cx);
            let moved = this.submit(cx);
            if moved || !this.answers.is_empty() {
                continue;
            }
            return match &this.end {
                Some(_) if !this.in_flight.is_empty() || !this.gathered.slots.is_empty() => Poll::Pending,
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

fn answer(slot: Slot, results: &mut impl Iterator<Item = Result<Published>>) -> pb::PublishStreamResponse {
    use pb::publish_stream_response::Result as Outcome;
    let result = match slot.refused {
        Some(error) => Err(error),
        None => results.next().unwrap_or_else(|| Err(Error::internal("the engine gave fewer answers than requests"))),
    };
    let result = match result {
        Ok(published) => Outcome::Published(publish::response(published)),
        Err(error) => Outcome::Error(status::message(&error)),
    };
    pb::PublishStreamResponse { seq: slot.seq, result: Some(result) }
}
