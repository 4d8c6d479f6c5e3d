//! Publishing many events: gathered into requests, several of which are under way at a time, in bounded memory.
//!
//! # What is promised
//!
//! Events that one [`Publisher`] accepted are appended once each and in that order, over lost connections and restarts
//! of the server. Every publisher has a producer id of its own, by chance, and numbers its requests; the server
//! remembers the last five of a producer, in the same commit as their events. So at most five requests are under way,
//! and after a lost connection all that were not answered are sent again in order, with the same numbers and contents:
//! what was appended is recognised and answered with its ids, what was not is appended now. A request that comes late
//! over a connection given up for lost is below the greatest number by then, and refused.
//!
//! The server's memory ends after the stream's deduplication window (120 s unless its settings say otherwise). A request
//! is therefore not sent again once it is [`PublisherBuilder::retry_for`] old, counted from when it was first sent: its
//! events then fail as [`ErrorKind::Lost`], which is to say that nobody knows. The window must be the longer of the two.
//!
//! A refusal is final for its request, unless it is for want of room or because the server drains; these are tried
//! again. A request whose turn has passed, since a later one was appended, is refused for good. Requests are atomic: an
//! event that the server refuses takes those with it that ride in the same request; theirs is an error that
//! [`is_retryable`](super::Error::is_retryable).

mod pipeline;
mod worker;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use prost::Message;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::entry::Event;
use super::error::{Error, ErrorKind, Result};
use super::{Client, StreamHandle};
use crate::limits::PUBLISH_EVENTS_MAX;
use crate::proto::v1::Durability;
use crate::types::EntryId;
use pipeline::{Item, Pipeline};
use worker::{Ask, Worker};

/// Settings of a publisher. Made by [`Client::publisher`].
#[derive(Clone)]
#[must_use]
pub struct PublisherBuilder {
    client: Client,
    stream: String,
    linger: Duration,
    batch_events: usize,
    batch_bytes: usize,
    in_flight_events: usize,
    in_flight_bytes: usize,
    retry_for: Duration,
    durability: Durability,
    dedup_by_event_id: bool,
}

impl PublisherBuilder {
    /// How long an event waits for others to ride with, while fewer than five requests are under way; 1 ms unless set.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// Events of one request at most, up to 1000, and bytes after which it is full; 1000 and 1 MiB unless set.
    pub fn batch(mut self, events: usize, bytes: usize) -> Self {
        (self.batch_events, self.batch_bytes) = (events, bytes);
        self
    }

    /// Events, and bytes of events, that are accepted and not answered at most; 10,000 and 16 MiB unless set. Beyond
    /// them [`Publisher::publish`] waits. A single event is accepted whatever its size.
    pub fn in_flight(mut self, events: usize, bytes: usize) -> Self {
        (self.in_flight_events, self.in_flight_bytes) = (events, bytes);
        self
    }

    /// For how long a request is sent again, and connections are tried; 90 s unless set. It must be shorter than the
    /// stream's deduplication window, by more than a message may be on its way.
    pub fn retry_for(mut self, limit: Duration) -> Self {
        self.retry_for = limit;
        self
    }

    /// When events count as published; the stream's default unless set.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Deduplicate by the events' own ids as well, even where the stream's settings do not.
    pub fn dedup_by_event_id(mut self) -> Self {
        self.dedup_by_event_id = true;
        self
    }

    /// Starts the publisher; its task runs on the tokio runtime that this is called in.
    pub fn start(self) -> Result<Publisher> {
        let permits = 1..=Semaphore::MAX_PERMITS.min(u32::MAX as usize);
        if !(1..=PUBLISH_EVENTS_MAX).contains(&self.batch_events) || self.batch_bytes == 0 {
            return Err(Error::usage(format!("a batch has 1 to {PUBLISH_EVENTS_MAX} events, and some bytes")));
        }
        if !permits.contains(&self.in_flight_events) || !permits.contains(&self.in_flight_bytes) {
            return Err(Error::usage("in_flight must let at least one event and one byte through"));
        }
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| Error::usage("no tokio runtime is entered"))?;
        let bounds = Arc::new(Bounds {
            events: Semaphore::new(self.in_flight_events),
            bytes: Semaphore::new(self.in_flight_bytes),
            bytes_max: self.in_flight_bytes,
        });
        // Room for every event that the bounds let through, and for flushes, which wait where there is none.
        let (asks, asked) = mpsc::channel(self.in_flight_events.saturating_add(16));
        let pipeline = Pipeline::new(self.batch_events, self.batch_bytes, self.linger, self.retry_for);
        let worker = Worker::new(self, producer_id()?, pipeline, asked, bounds.clone());
        runtime.spawn(worker.run());
        Ok(Publisher { asks, bounds })
    }
}

/// What is accepted and not answered.
struct Bounds {
    events: Semaphore,
    bytes: Semaphore,
    bytes_max: usize,
}

/// A publisher to one stream. Clones share it. What it accepted is sent also when all of them are dropped, as long as the
/// runtime runs.
#[derive(Clone)]
pub struct Publisher {
    asks: mpsc::Sender<Ask>,
    bounds: Arc<Bounds>,
}

impl Client {
    /// A publisher to that stream: batches, a bound, safe repetition. See [`PublisherBuilder::start`].
    pub fn publisher(&self, stream: impl Into<String>) -> PublisherBuilder {
        PublisherBuilder {
            client: self.clone(),
            stream: stream.into(),
            linger: Duration::from_millis(1),
            batch_events: PUBLISH_EVENTS_MAX,
            batch_bytes: 1 << 20,
            in_flight_events: 10_000,
            in_flight_bytes: 16 << 20,
            retry_for: Duration::from_secs(90),
            durability: Durability::Unspecified,
            dedup_by_event_id: false,
        }
    }
}

impl StreamHandle {
    /// A publisher to this stream; see [`Client::publisher`].
    pub fn publisher(&self) -> PublisherBuilder {
        self.client.publisher(&self.stream)
    }
}

impl Publisher {
    /// Accepts an event, waiting while too much is under way. The receipt resolves once the event is durable.
    ///
    /// Events are appended in the order in which they are accepted. Dropping this future before it ends takes the event
    /// back; dropping the receipt does not.
    pub async fn publish(&self, event: Event) -> Result<Receipt> {
        let bytes = event.encoded_len().clamp(1, self.bounds.bytes_max);
        let closed = |_| Error::new(ErrorKind::Closed, "the publisher is closed");
        let one = self.bounds.events.acquire().await.map_err(closed)?;
        let its_bytes = self.bounds.bytes.acquire_many(bytes as u32).await.map_err(closed)?;
        let (done, receipt) = oneshot::channel();
        let sent = self.asks.try_send(Ask::Publish(Item { event, bytes, done }));
        match sent {
            Ok(()) => {}
            // Only flushes take room besides, and there are few: wait for them.
            Err(mpsc::error::TrySendError::Full(ask)) => {
                let sent = self.asks.send(ask).await;
                sent.map_err(|_| Error::new(ErrorKind::Closed, "the publisher's runtime has ended"))?;
            }
            Err(mpsc::error::TrySendError::Closed(_)) => {
                return Err(Error::new(ErrorKind::Closed, "the publisher's runtime has ended"));
            }
        }
        // They come back with the answer.
        one.forget();
        its_bytes.forget();
        Ok(Receipt(receipt))
    }

    /// Sends what was accepted without lingering, and waits until all of it is answered. Fails with the first failure
    /// since the last flush.
    pub async fn flush(&self) -> Result<()> {
        let (done, answer) = oneshot::channel();
        let ended = || Error::new(ErrorKind::Closed, "the publisher's runtime has ended");
        self.asks.send(Ask::Flush(done)).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    /// Accepts nothing more from now on, by no clone, and flushes.
    pub async fn close(self) -> Result<()> {
        self.bounds.events.close();
        self.flush().await
    }
}

/// An event that was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its id, or that of the event that it repeats.
    pub id: EntryId,
    /// It was there already: by its own id, or by an earlier attempt of this publisher.
    pub duplicate: bool,
}

/// What becomes of an event that a publisher accepted: a future. Nothing depends on its being waited for.
#[must_use = "what becomes of the event is told here, or by the next flush"]
pub struct Receipt(oneshot::Receiver<Result<Appended>>);

impl Future for Receipt {
    type Output = Result<Appended>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|told| {
            told.unwrap_or_else(|_| Err(Error::new(ErrorKind::Lost, "the publisher's runtime ended before the answer")))
        })
    }
}

/// A name that no other publisher has.
fn producer_id() -> Result<String> {
    let mut random = [0u8; 16];
    getrandom::fill(&mut random).map_err(|e| Error::usage(format!("the system gives no random bytes: {e}")))?;
    Ok(format!("rust-{:032x}", u128::from_le_bytes(random)))
}
