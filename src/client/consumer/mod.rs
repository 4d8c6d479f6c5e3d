//! Consuming a group as a stream of messages, over lost connections and restarts of the server.
//!
//! # What is promised
//!
//! Delivery is at least once. Within a session, first deliveries come in id order. A message is settled by value:
//! [`Message::ack`] or [`Message::nack`], whose future tells whether that took effect; acknowledgements are gathered, so
//! that many ride in one request. While a message is held, or waits to be taken, its lease is extended, up to
//! [`ConsumerBuilder::extend_for`] after its delivery.
//!
//! A message that is dropped is left to its lease: it is no longer extended, and comes again, as a failure, once the
//! lease runs out; so does what a handler that panics held. Until then it takes room in the window.
//!
//! A lost connection is a lost session: what waits to be taken is thrown away (it comes again), and settlements of
//! messages of that session, also of those whose answer is still out, end as [`ErrorKind::NotHeld`]. The consumer opens a
//! new session with growing pauses, for [`ConsumerBuilder::reconnect_for`] at most. What trying again cannot help (no
//! such group, a wrong key) ends the stream with that error as its last item.

mod ledger;
mod state;
mod worker;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::sync::oneshot;

use super::Client;
use super::entry::{Entry, Event};
use super::error::{Error, ErrorKind, Result};
use super::groups::{Delivered, GroupHandle, Nack};
use crate::proto::v1;
use crate::types::EntryId;
use ledger::Ledger;
use state::{Ask, Drain, How, State};
use worker::Worker;

/// How long a consumer that is dropped waits for messages that are still held.
const GRACE_OF_DROP: Duration = Duration::from_secs(30);

/// Settings of a consumer. Made by [`Client::consumer`].
#[derive(Clone)]
#[must_use]
pub struct ConsumerBuilder {
    client: Client,
    stream: String,
    group: String,
    name: String,
    window: v1::ConsumeFlow,
    extend_for: Duration,
    reconnect_for: Duration,
}

impl ConsumerBuilder {
    /// Its name in the group; `rust` unless set. Several consumers may share one, and a group remembers all names.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Messages, and bytes of them, that are delivered and not settled at most, up to 100,000 and 64 MiB; 1000 and 1 MiB
    /// unless set. Where there is room at all one message of any size is delivered.
    pub fn window(mut self, messages: u32, bytes: u32) -> Self {
        self.window = v1::ConsumeFlow { entries_max: messages, bytes_max: bytes };
        self
    }

    /// For how long after its delivery the lease of a message is extended; 10 min unless set, zero for never.
    pub fn extend_for(mut self, limit: Duration) -> Self {
        self.extend_for = limit;
        self
    }

    /// For how long a lost connection is tried anew before the consumer gives up; 5 min unless set.
    pub fn reconnect_for(mut self, limit: Duration) -> Self {
        self.reconnect_for = limit;
        self
    }

    /// Starts consuming; the task runs on the tokio runtime that this is called in.
    pub fn start(self) -> Result<Consumer> {
        if self.window.entries_max == 0 {
            return Err(Error::usage("a window must have room for at least one message"));
        }
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| Error::usage("no tokio runtime is entered"))?;
        let state = Arc::new(State::default());
        let ledger = Ledger::new(self.extend_for);
        runtime.spawn(Worker::new(self, state.clone(), ledger).run());
        Ok(Consumer { state })
    }
}

impl Client {
    /// A consumer of that group, which must exist.
    pub fn consumer(&self, stream: impl Into<String>, group: impl Into<String>) -> ConsumerBuilder {
        ConsumerBuilder {
            client: self.clone(),
            stream: stream.into(),
            group: group.into(),
            name: "rust".into(),
            window: v1::ConsumeFlow { entries_max: 1000, bytes_max: 1 << 20 },
            extend_for: Duration::from_secs(600),
            reconnect_for: Duration::from_secs(300),
        }
    }
}

impl GroupHandle {
    /// A consumer of this group; see [`Client::consumer`].
    pub fn consumer(&self) -> ConsumerBuilder {
        self.client.consumer(&self.stream, &self.group)
    }
}

/// A [`Stream`] of the messages of a group. An error is its last item.
///
/// Dropping it drains it in the background: what nobody took is handed back, messages that are held can be settled for 30
/// seconds more.
pub struct Consumer {
    state: Arc<State>,
}

/// How a consumer ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Entries that were handed back, to be delivered again without counting as failed.
    pub handed_back: u64,
}

impl Consumer {
    /// Stops deliveries, hands back what nobody took, waits up to `grace` for the messages that are held to be settled or
    /// dropped, and hands back the rest. Fails where the session was lost: what it held comes again by itself.
    pub async fn drain(self, grace: Duration) -> Result<Drained> {
        let (done, answer) = oneshot::channel();
        self.state.drain(Drain { grace, done: Some(done) });
        answer.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Closed, "the consumer has ended")))
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.state.drain(Drain { grace: GRACE_OF_DROP, done: None });
    }
}

impl Stream for Consumer {
    type Item = Result<Message>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.state.poll_ready(cx);
        next.map(|item| {
            item.map(|ready| ready.map(|ready| Message { ready, state: self.state.clone(), is_settled: false }))
        })
    }
}

/// A message that was delivered and not taken yet.
#[derive(Debug)]
struct Ready {
    /// The session that holds it.
    session: u64,
    /// Tells deliveries of one entry apart.
    delivery: u64,
    delivered: Delivered,
}

/// An entry that was delivered to this consumer, to be settled.
#[must_use = "a message that is dropped comes again once its lease runs out"]
pub struct Message {
    ready: Ready,
    state: Arc<State>,
    is_settled: bool,
}

impl Message {
    /// Id of the entry.
    pub fn id(&self) -> EntryId {
        self.ready.delivered.entry.id
    }

    /// The event.
    pub fn event(&self) -> &Event {
        &self.ready.delivered.entry.event
    }

    /// The entry.
    pub fn entry(&self) -> &Entry {
        &self.ready.delivered.entry
    }

    /// Times that the entry was delivered, this one included.
    pub fn deliveries(&self) -> u32 {
        self.ready.delivered.deliveries
    }

    /// Times that a delivery of it failed.
    pub fn failures(&self) -> u32 {
        self.ready.delivered.failures
    }

    /// Acknowledges it. It is on its way when this returns; the future tells whether it took effect.
    pub fn ack(self) -> Settling {
        self.settle(How::Ack)
    }

    /// Gives it back. It is on its way when this returns; the future tells whether it took effect.
    pub fn nack(self, action: Nack) -> Settling {
        self.settle(How::Nack(action))
    }

    fn settle(mut self, how: How) -> Settling {
        self.is_settled = true;
        let (done, told) = oneshot::channel();
        let (session, id) = (self.ready.session, self.id());
        self.state.ask(Ask::Settle { session, id, how, done });
        Settling(told)
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        if !self.is_settled {
            let (session, delivery) = (self.ready.session, self.ready.delivery);
            self.state.ask(Ask::Drop { session, delivery, id: self.id() });
        }
    }
}

/// What becomes of a settlement: a future. It does not depend on being waited for.
#[must_use = "whether it took effect is told here only; drop it on purpose where that does not matter"]
pub struct Settling(oneshot::Receiver<Result<()>>);

impl Future for Settling {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|told| told.unwrap_or_else(|_| Err(not_held("the consumer has ended"))))
    }
}

fn not_held(why: &str) -> Error {
    Error::new(ErrorKind::NotHeld, format!("the entry is no longer held, and comes or came again: {why}"))
}
