//! A consume session: one task per session, which reads what the client asks and sends what the engine has for it.
//!
//! The task never waits for one of its ends while it could serve the other: acknowledgements are settled while the client
//! is slow to read. Everything is bounded: deliveries by the window, settlements in flight and answers not yet sent by
//! constants; beyond those it stops reading. Where the client drains or half-closes, or the server stops or fails, what was
//! asked is settled and the rest handed back; every other end loses the session, which counts as a failure of what it
//! held.

use std::collections::VecDeque;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::convert::{bounded, duration, duration_ms, group_of, pb_ids, ranges, token, unsupported, within};
use super::delivery::{delivered, lease, nack_action};
use super::held::{Held, Run};
use super::pb::consume_request::Request as Ask;
use super::pb::consume_response::Response as Tell;
use super::publish::{self, Publisher};
use super::request_end::RequestEnd;
use super::status::{self, status};
use super::{Shared, pb};
use crate::access::{Caller, Permission};
use crate::engine::{Acknowledge, Delivery, Engine, Extend, Holder, Nack, Session, Settled};
use crate::error::{Error, Result};
use crate::limits;
use crate::types::{ConsumerName, GroupName, StreamName};

/// The window of a client that names none, in entries.
const WINDOW_ENTRIES_DEFAULT: usize = 1000;
/// Largest window in entries.
const WINDOW_ENTRIES_MAX: usize = 100_000;
/// Largest window in bytes.
const WINDOW_BYTES_MAX: usize = 64 << 20;
/// Messages on their way to the transport at most.
const CHANNEL_MESSAGES: usize = 4;
/// Settlements in flight, and answers not yet taken by the transport, beyond which nothing more is read.
const SETTLEMENTS_MAX: usize = 256;
/// A session does not at once ask for less than this part of its window, so that batches stay batches.
const ASK_PART: usize = 16;
/// How long it then waits for more room.
const ASK_DELAY: Duration = Duration::from_millis(5);

type Message = Result<pb::ConsumeResponse, Status>;

/// Starts the task of a session; its messages come out of the stream.
pub(super) fn start(
    shared: Shared,
    caller: Caller,
    requests: Streaming<pb::ConsumeRequest>,
    request_end: RequestEnd,
) -> ReceiverStream<Message> {
    let (sender, receiver) = mpsc::channel(CHANNEL_MESSAGES);
    tokio::spawn(async move {
        let opened = tokio::select! {
            // A server that drains opens nothing any more.
            biased;
            () = sender.closed() => return,
            () = shared.drain.cancelled() => Err(Shared::draining()),
            opened = Consumer::open(&shared, caller, requests, request_end) => opened,
        };
        match opened {
            Ok((consumer, session)) => consumer.run(session, sender, shared).await,
            // A client that is gone has no use for the reason.
            Err(status) => drop(sender.send(Err(status)).await),
        }
    });
    ReceiverStream::new(receiver)
}

/// What the task of a session works with.
struct Consumer {
    engine: Engine,
    stream: StreamName,
    group: GroupName,
    holder: Holder,
    publisher: Publisher,
    requests: Streaming<pb::ConsumeRequest>,
    request_end: RequestEnd,
    message_bytes_max: usize,
    window: Window,
    held: Held,
    /// Lease of the last delivery; `None` if by hand.
    lease: Option<Duration>,
    settling: FuturesOrdered<BoxFuture<'static, Outcome>>,
    outbox: VecDeque<Message>,
    /// When the little room that there is will be asked for.
    ask_at: Option<Instant>,
    /// Something was sent since the last heartbeat was due.
    spoke: bool,
}

/// How much the session may hold.
#[derive(Clone, Copy)]
struct Window {
    entries: usize,
    bytes: usize,
}

/// How a settlement ended.
struct Outcome {
    seq: u64,
    result: Result<Settled>,
    /// What it took out of the window; goes back if it failed.
    runs: Vec<Run>,
}

/// How the deliveries stand.
enum Fetch {
    /// Nothing is asked for.
    Idle(Session),
    /// The engine was asked. `stop` takes the question back.
    Asked { answer: BoxFuture<'static, (Session, Option<Result<Delivery>>)>, stop: oneshot::Sender<()> },
}

/// Why the session goes on or ends.
enum Step {
    GoOn,
    /// The client drained or half-closed.
    Drain,
    /// The window became smaller: what was asked is to be taken back.
    Pause,
    /// The server stops, or cannot go on.
    Fail(Status),
    /// The client broke off, or breaks the rules.
    Lose(Status),
}

/// How a session ends.
struct End {
    /// What the client is told; unset: that it drained.
    told: Option<Status>,
    /// Whether what it holds failed.
    is_lost: bool,
}

impl Consumer {
    /// Reads the first message and opens the session.
    async fn open(
        shared: &Shared,
        caller: Caller,
        mut requests: Streaming<pb::ConsumeRequest>,
        request_end: RequestEnd,
    ) -> Result<(Self, Session), Status> {
        let message_bytes_max = shared.options.message_bytes_max;
        let first = requests.message().await.map_err(|found| status::with_reason(found, message_bytes_max))?;
        let first = first.and_then(|message| message.request);
        let Some(Ask::Open(open)) = first else {
            return Err(status(Error::invalid("open", "must be the first message")));
        };
        caller.may(Permission::Consume, &open.stream).map_err(status)?;
        let (stream, group, consumer, window) = parse_open(open).map_err(|e| status(within("open", e)))?;
        let session = shared.engine.open_session(&stream, &group, consumer).await.map_err(status)?;
        let opened = Tell::Opened(pb::ConsumeOpened {
            session_token: token(session.number()),
            heartbeat_interval: Some(duration(shared.options.heartbeat)),
        });
        let consumer = Self {
            engine: shared.engine.clone(),
            stream,
            group,
            holder: Holder::Delivery(session.number()),
            publisher: Publisher::new(caller),
            requests,
            request_end,
            message_bytes_max,
            window,
            held: Held::default(),
            lease: None,
            settling: FuturesOrdered::new(),
            outbox: VecDeque::from([Ok(pb::ConsumeResponse { response: Some(opened) })]),
            ask_at: None,
            spoke: true,
        };
        Ok((consumer, session))
    }

    /// Serves the session to its end.
    async fn run(mut self, session: Session, sender: mpsc::Sender<Message>, shared: Shared) {
        let end_of_session = session.end();
        let mut fetch = Fetch::Idle(session);
        let mut heartbeat = interval(shared.options.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heartbeat.reset();
        let mut drained = std::pin::pin!(shared.drain.cancelled());
        let mut gone = std::pin::pin!(sender.closed());
        let end = loop {
            fetch = self.ask(fetch);
            let asked = matches!(fetch, Fetch::Asked { .. });
            let reading = self.settling.len() < SETTLEMENTS_MAX && self.outbox.len() < SETTLEMENTS_MAX;
            let step = tokio::select! {
                biased;
                () = &mut gone => {
                    // It may have half-closed before it went, which was not read yet.
                    if self.has_half_closed() {
                        end_of_session.hand_back();
                    }
                    return;
                }
                () = &mut drained => Step::Fail(Shared::draining()),
                Some(outcome) = self.settling.next(), if !self.settling.is_empty() => self.settled(outcome),
                Ok(room) = sender.reserve(), if !self.outbox.is_empty() => {
                    if let Some(message) = self.outbox.pop_front() {
                        room.send(message);
                    }
                    Step::GoOn
                }
                session = answer(&mut fetch), if asked => {
                    let (session, delivery) = session;
                    fetch = Fetch::Idle(session);
                    self.deliver(delivery)
                }
                message = self.requests.message(), if reading => self.handle(message),
                () = reached(self.ask_at) => Step::GoOn,
                _ = heartbeat.tick() => self.beat(),
            };
            match step {
                Step::GoOn => {}
                Step::Pause => fetch = self.pause(fetch).await,
                Step::Drain => break End { told: None, is_lost: false },
                Step::Fail(status) => break End { told: Some(status), is_lost: false },
                Step::Lose(status) => break End { told: Some(status), is_lost: true },
            }
        };
        if !end.is_lost {
            end_of_session.hand_back();
        }
        // A closed channel means that the client is gone: dropping what is left is all there is to do.
        tokio::select! {
            () = &mut gone => {}
            () = self.finish(fetch, end, &sender) => {}
        }
    }

    /// Whether the client has said all it wanted to say, and did not just break off. What it asked last is not answered.
    fn has_half_closed(&mut self) -> bool {
        loop {
            match self.requests.message().now_or_never() {
                Some(Ok(Some(_))) => {}
                Some(Ok(None)) => return !self.request_end.is_broken(),
                Some(Err(_)) | None => return false,
            }
        }
    }

    /// Asks the engine for entries where the window has room for a fair part of itself, or had room for a while.
    fn ask(&mut self, fetch: Fetch) -> Fetch {
        let Fetch::Idle(mut session) = fetch else { return fetch };
        let entries = self.window.entries.saturating_sub(self.held.entries());
        let bytes = self.window.bytes.saturating_sub(self.held.bytes());
        let little = entries < self.window.entries / ASK_PART || bytes < self.window.bytes / ASK_PART;
        if entries == 0 || bytes == 0 {
            self.ask_at = None;
            return Fetch::Idle(session);
        }
        if little {
            let now = Instant::now();
            if now < *self.ask_at.get_or_insert(now + ASK_DELAY) {
                return Fetch::Idle(session);
            }
        }
        self.ask_at = None;
        let (entries, bytes) = (entries.min(limits::PAGE_ENTRIES_MAX), bytes.min(limits::PAGE_BYTES_DEFAULT));
        let (stop, stopped) = oneshot::channel();
        let answer = Box::pin(async move {
            let delivery = tokio::select! {
                biased;
                delivery = session.next(entries, bytes) => Some(delivery),
                // Also when the sender is dropped, which it is only together with this future.
                _ = stopped => None,
            };
            (session, delivery)
        });
        Fetch::Asked { answer, stop }
    }

    /// Takes back what was asked. What the engine gave at the last moment counts.
    async fn pause(&mut self, fetch: Fetch) -> Fetch {
        match fetch {
            Fetch::Idle(session) => Fetch::Idle(session),
            Fetch::Asked { answer, stop } => {
                // Fails where the answer is there already, which is as good.
                let _ = stop.send(());
                let (session, delivery) = answer.await;
                if let Step::Fail(status) = self.deliver(delivery) {
                    self.outbox.push_back(Err(status));
                }
                Fetch::Idle(session)
            }
        }
    }

    fn deliver(&mut self, delivery: Option<Result<Delivery>>) -> Step {
        let delivery = match delivery {
            None => return Step::GoOn,
            Some(Err(error)) => return Step::Fail(status(error)),
            Some(Ok(delivery)) if delivery.entries.is_empty() => return Step::GoOn,
            Some(Ok(delivery)) => delivery,
        };
        let now = Instant::now();
        self.lease = (delivery.lease_ms > 0).then(|| Duration::from_millis(delivery.lease_ms));
        // Redelivered entries may be some that this session had before.
        self.held.expire(now);
        let until = self.lease.map(|lease| now + lease);
        self.held.add(delivery.entries.iter().map(|d| (d.entry.id, d.entry.bytes.len() as u32)), until);
        let lease = Some(duration_ms(delivery.lease_ms));
        let events = delivered(&self.stream, delivery.entries);
        self.tell(Tell::Batch(pb::ConsumeBatch { events, lease }));
        Step::GoOn
    }

    fn handle(&mut self, message: Result<Option<pb::ConsumeRequest>, Status>) -> Step {
        let request = match message {
            Err(found) => return Step::Lose(status::with_reason(found, self.message_bytes_max)),
            Ok(None) if self.request_end.is_broken() => return Step::Lose(Status::cancelled("the call was cancelled")),
            Ok(None) => return Step::Drain,
            Ok(Some(message)) => message.request,
        };
        match request {
            None => Step::Lose(status(Error::invalid("request", "is needed"))),
            Some(Ask::Open(_)) => Step::Lose(status(Error::invalid("open", "only the first message opens"))),
            Some(Ask::Drain(pb::ConsumeDrain {})) => Step::Drain,
            Some(Ask::Flow(flow)) => match parse_window(&flow) {
                Err(error) => Step::Lose(status(within("flow", error))),
                Ok(window) => {
                    let before = std::mem::replace(&mut self.window, window);
                    let smaller = window.entries < before.entries || window.bytes < before.bytes;
                    if smaller { Step::Pause } else { Step::GoOn }
                }
            },
            Some(Ask::Ack(ack)) => self.acknowledge(ack),
            Some(Ask::Nack(nack)) => self.nack(nack),
            Some(Ask::Extend(extend)) => self.extend(extend),
        }
    }

    fn acknowledge(&mut self, ack: pb::ConsumeAck) -> Step {
        let parsed = ranges("ids", ack.ids).and_then(|ids| Ok((ids, self.publisher.requests(ack.publish)?)));
        let (ids, publish) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => return self.refuse(ack.seq, within("ack", error)),
        };
        let runs = self.held.take(&ids);
        let (stream, group, holder) = (self.stream.clone(), self.group.clone(), self.holder.clone());
        let (engine, seq) = (self.engine.clone(), ack.seq);
        self.settling.push_back(Box::pin(async move {
            let result = engine.acknowledge(Acknowledge { stream, group, ids, holder, publish }).await;
            Outcome { seq, result, runs }
        }));
        Step::GoOn
    }

    fn nack(&mut self, nack: pb::ConsumeNack) -> Step {
        let parsed = ranges("ids", nack.ids).and_then(|ids| Ok((ids, nack_action(nack.action)?)));
        let (ids, action) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => return self.refuse(nack.seq, within("nack", error)),
        };
        let runs = self.held.take(&ids);
        let (stream, group, holder) = (self.stream.clone(), self.group.clone(), self.holder.clone());
        let (engine, seq) = (self.engine.clone(), nack.seq);
        self.settling.push_back(Box::pin(async move {
            let result = engine.nack(Nack { stream, group, ids, holder, action }).await;
            Outcome { seq, result, runs }
        }));
        Step::GoOn
    }

    fn extend(&mut self, extend: pb::ConsumeExtend) -> Step {
        let parsed = ranges("ids", extend.ids).and_then(|ids| Ok((ids, lease(extend.lease)?)));
        let (ids, lease) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => return self.refuse(extend.seq, within("extend", error)),
        };
        // Unset, the lease is the group's, as the last delivery showed it.
        let until = lease.or(self.lease).map(|lease| Instant::now() + lease);
        for run in self.held.take(&ids) {
            self.held.put_back(run.lasting(until));
        }
        let (stream, group, holder) = (self.stream.clone(), self.group.clone(), self.holder.clone());
        let (engine, seq) = (self.engine.clone(), extend.seq);
        self.settling.push_back(Box::pin(async move {
            let result = engine.extend(Extend { stream, group, ids, holder, lease }).await;
            Outcome { seq, result, runs: Vec::new() }
        }));
        Step::GoOn
    }

    /// Answers a request that is refused as a whole, in its turn.
    fn refuse(&mut self, seq: u64, error: Error) -> Step {
        let outcome = Outcome { seq, result: Err(error), runs: Vec::new() };
        self.settling.push_back(Box::pin(std::future::ready(outcome)));
        Step::GoOn
    }

    fn settled(&mut self, outcome: Outcome) -> Step {
        let seq = outcome.seq;
        let result = match outcome.result {
            Ok(settled) => pb::ConsumeAckResult {
                seq,
                done: settled.done,
                not_pending: pb_ids(&settled.not_pending),
                not_owned: pb_ids(&settled.not_owned),
                published: settled.published.into_iter().map(publish::response).collect(),
                error: None,
            },
            Err(error) => {
                outcome.runs.into_iter().for_each(|run| self.held.put_back(run));
                pb::ConsumeAckResult { seq, error: Some(status::message(&error)), ..Default::default() }
            }
        };
        self.tell(Tell::AckResult(result));
        Step::GoOn
    }

    fn beat(&mut self) -> Step {
        self.held.expire(Instant::now());
        if !std::mem::take(&mut self.spoke) {
            let (entries, bytes) = (self.held.entries() as u64, self.held.bytes() as u64);
            self.tell(Tell::Heartbeat(pb::ConsumeHeartbeat { held_entries: entries, held_bytes: bytes }));
            self.spoke = false;
        }
        Step::GoOn
    }

    fn tell(&mut self, tell: Tell) {
        self.spoke = true;
        self.outbox.push_back(Ok(pb::ConsumeResponse { response: Some(tell) }));
    }

    /// Settles what was asked, gives back the rest, and says good-bye.
    async fn finish(mut self, fetch: Fetch, end: End, sender: &mpsc::Sender<Message>) {
        let fetch = self.pause(fetch).await;
        while let Some(outcome) = self.settling.next().await {
            self.settled(outcome);
        }
        let handed_back = match fetch {
            Fetch::Idle(session) if !end.is_lost => session.drain().await,
            // Dropping a session loses it.
            Fetch::Idle(_) | Fetch::Asked { .. } => Ok(0),
        };
        match (end.told, handed_back) {
            (None, Ok(handed_back)) => self.tell(Tell::Drained(pb::ConsumeDrained { handed_back })),
            (None, Err(error)) => self.outbox.push_back(Err(status(error))),
            (Some(status), _) => self.outbox.push_back(Err(status)),
        }
        for message in self.outbox {
            if sender.send(message).await.is_err() {
                return;
            }
        }
    }
}

/// Waits for the engine's answer; for ever where it was not asked.
async fn answer(fetch: &mut Fetch) -> (Session, Option<Result<Delivery>>) {
    match fetch {
        Fetch::Asked { answer, .. } => answer.await,
        Fetch::Idle(_) => std::future::pending().await,
    }
}

/// Waits for that time; for ever where there is none.
async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn parse_open(open: pb::ConsumeOpen) -> Result<(StreamName, GroupName, ConsumerName, Window)> {
    let (stream, group) = group_of(&open.stream, &open.group)?;
    let consumer = ConsumerName::parse(&open.consumer)?;
    unsupported("filter", !open.filter.is_empty())?;
    let window = match open.window {
        None => Window { entries: WINDOW_ENTRIES_DEFAULT, bytes: limits::PAGE_BYTES_DEFAULT },
        Some(window) => parse_window(&window).map_err(|e| within("window", e))?,
    };
    Ok((stream, group, consumer, window))
}

fn parse_window(flow: &pb::ConsumeFlow) -> Result<Window> {
    Ok(Window {
        entries: bounded("entries_max", flow.entries_max, 0, WINDOW_ENTRIES_MAX)?,
        bytes: bounded("bytes_max", flow.bytes_max, limits::PAGE_BYTES_DEFAULT, WINDOW_BYTES_MAX)?,
    })
}
