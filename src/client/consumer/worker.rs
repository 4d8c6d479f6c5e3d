//! The task of a consumer: keeps a session open, and opens a new one when it is lost.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tonic::Streaming;

use super::ledger::Ledger;
use super::state::{Ask, Drain, State, refuse};
use super::{ConsumerBuilder, Drained, Ready};
use crate::client::Client;
use crate::client::backoff::Backoff;
use crate::client::entry::needed;
use crate::client::error::{Error, ErrorKind, Result};
use crate::client::groups::{Delivered, lease_of};
use crate::proto::v1;
use crate::proto::v1::consume_request::Request;
use crate::proto::v1::consume_response::Response;

/// Requests on their way to the transport at most; more than the books let be under way.
const CHANNEL_REQUESTS: usize = 64;
/// A session that is silent for so many heartbeats is lost.
const HEARTBEATS_MISSED_MAX: u32 = 3;

pub(super) struct Worker {
    client: Client,
    open: v1::ConsumeOpen,
    state: Arc<State>,
    ledger: Ledger,
    backoff: Backoff,
    /// Sessions that were opened.
    session: u64,
    deliveries: u64,
    drain: Option<Drain>,
    /// Entries given back while it ends.
    handed_back: u64,
}

/// An open session.
struct Session {
    requests: mpsc::Sender<v1::ConsumeRequest>,
    responses: Streaming<v1::ConsumeResponse>,
    /// Longest silence.
    silence: Duration,
    heard: Instant,
    /// When what is still held is handed back; set once deliveries are stopped.
    grace_ends: Option<Instant>,
    /// The server was asked to end.
    is_ending: bool,
}

impl Worker {
    pub(super) fn new(settings: ConsumerBuilder, state: Arc<State>, ledger: Ledger) -> Self {
        let open = v1::ConsumeOpen {
            stream: settings.stream,
            group: settings.group,
            consumer: settings.name,
            window: Some(settings.window),
            ..Default::default()
        };
        let backoff = Backoff::new(settings.reconnect_for);
        Self {
            client: settings.client,
            open,
            state,
            ledger,
            backoff,
            session: 0,
            deliveries: 0,
            drain: None,
            handed_back: 0,
        }
    }

    /// Consumes until it is drained, or fails for good.
    pub(super) async fn run(mut self) {
        let result = loop {
            let error = match self.session().await {
                Ok(drained) => break Ok(drained),
                Err(error) => error,
            };
            self.ledger.lose(&format!("the session was lost: {error}"));
            self.state.take_back();
            let pause = if error.is_retryable() { self.backoff.pause(error.retry_delay()) } else { None };
            let Some(pause) = pause.filter(|_| self.drain.is_none()) else { break Err(error) };
            if self.rest(pause).await {
                break Err(error);
            }
        };
        let told = self.drain.take().or_else(|| self.state.take_drain()).and_then(|drain| drain.done);
        self.state.end(result.clone().err());
        if let Some(done) = told {
            // Who does not listen does not want to know.
            let _ = done.send(result);
        }
    }

    /// Waits before the next attempt; whether the consumer is to end meanwhile. Nothing is held, so all is refused.
    async fn rest(&mut self, pause: Duration) -> bool {
        let mut over = std::pin::pin!(sleep(pause));
        loop {
            self.state.take_asks().into_iter().for_each(|ask| refuse(ask, "the session was lost"));
            self.drain = self.drain.take().or_else(|| self.state.take_drain());
            if self.drain.is_some() {
                return true;
            }
            let state = self.state.clone();
            tokio::select! {
                () = &mut over => return false,
                () = state.asked() => {}
            }
        }
    }

    /// Opens a session and serves it to its end.
    async fn session(&mut self) -> Result<Drained> {
        let mut session = self.open().await?;
        loop {
            self.take_asks();
            self.begin_to_end(&mut session)?;
            while !session.is_ending
                && let Some(request) = self.ledger.next_settlement()
            {
                session.send(request)?;
            }
            self.end_if_clear(&mut session)?;
            if let Some(drained) = self.step(&mut session).await? {
                return Ok(drained);
            }
        }
    }

    async fn open(&mut self) -> Result<Session> {
        let (requests, mut receiver) = mpsc::channel(CHANNEL_REQUESTS);
        let asked = futures::stream::poll_fn(move |cx| receiver.poll_recv(cx));
        let request = v1::ConsumeRequest { request: Some(Request::Open(self.open.clone())) };
        requests.try_send(request).map_err(|_| lost("the session has no room for its first message"))?;
        let mut responses = self.client.call(self.client.raw_consumers().consume(asked)).await?;
        let limit = self.client.shared.request_timeout;
        let first = tokio::time::timeout(limit, responses.message()).await;
        let first = first.map_err(|_| Error::new(ErrorKind::TimedOut, format!("no session within {limit:?}")))??;
        let Some(Response::Opened(opened)) = first.and_then(|message| message.response) else {
            return Err(lost("the server did not open the session"));
        };
        self.session += 1;
        let silence = lease_of(opened.heartbeat_interval) * HEARTBEATS_MISSED_MAX;
        let silence = if silence.is_zero() { limit } else { silence };
        Ok(Session { requests, responses, silence, heard: Instant::now(), grace_ends: None, is_ending: false })
    }

    /// Waits for the next thing that happens, and does what it asks for.
    async fn step(&mut self, session: &mut Session) -> Result<Option<Drained>> {
        let state = self.state.clone();
        let look = self.ledger.next_look().filter(|_| !session.is_ending);
        tokio::select! {
            biased;
            message = session.responses.message() => {
                let message = message?.ok_or_else(|| lost("the server ended the session"))?;
                session.heard = Instant::now();
                self.backoff.reset();
                return self.handle(session, needed(message.response)?);
            }
            () = state.asked() => {}
            () = reached(look) => {
                let now = Instant::now();
                for request in self.ledger.extend(now) {
                    session.send(request)?;
                }
                // What nobody took in time is no longer ours.
                let ledger = &self.ledger;
                self.state.keep(|ready| ledger.is_held(ready.delivered.entry.id, ready.delivery));
            }
            () = reached(session.grace_ends.filter(|_| !session.is_ending)) => {}
            () = sleep_until(session.heard + session.silence) => {
                return Err(lost(&format!("the server was silent for {:?}", session.silence)));
            }
        }
        Ok(None)
    }

    fn take_asks(&mut self) {
        for ask in self.state.take_asks() {
            match ask {
                Ask::Settle { session, id, how, done } if session == self.session => {
                    self.ledger.settle(id, how, Some(done));
                }
                Ask::Drop { session, delivery, id } if session == self.session => self.ledger.let_go(id, delivery),
                of_another_session => refuse(of_another_session, "its session was lost"),
            }
        }
    }

    /// Stops deliveries where the consumer is to end, and hands back what nobody took.
    fn begin_to_end(&mut self, session: &mut Session) -> Result<()> {
        self.drain = self.drain.take().or_else(|| self.state.take_drain());
        let Some(drain) = self.drain.as_ref().filter(|_| session.grace_ends.is_none()) else { return Ok(()) };
        session.grace_ends = Some(Instant::now() + drain.grace);
        session.send(Request::Flow(v1::ConsumeFlow { entries_max: 0, bytes_max: 0 }))?;
        for ready in self.state.take_back() {
            self.handed_back += 1;
            self.ledger.hand_back(ready.delivered.entry.id);
        }
        Ok(())
    }

    /// Asks the server to end once nothing is held any more, or the time for that is over.
    fn end_if_clear(&mut self, session: &mut Session) -> Result<()> {
        let Some(grace_ends) = session.grace_ends.filter(|_| !session.is_ending) else { return Ok(()) };
        let is_over = Instant::now() >= grace_ends;
        if self.ledger.is_clear() || (is_over && self.ledger.is_settled()) {
            session.is_ending = true;
            session.send(Request::Drain(v1::ConsumeDrain {}))?;
        }
        Ok(())
    }

    fn handle(&mut self, session: &Session, response: Response) -> Result<Option<Drained>> {
        match response {
            Response::Batch(batch) => self.deliver(session, batch)?,
            Response::AckResult(result) => self.ledger.answer(result)?,
            Response::Heartbeat(_) => {}
            Response::Drained(drained) if session.is_ending => {
                return Ok(Some(Drained { handed_back: self.handed_back + drained.handed_back }));
            }
            Response::Drained(_) | Response::Opened(_) => return Err(lost("the server ended the session")),
        }
        Ok(None)
    }

    fn deliver(&mut self, session: &Session, batch: v1::ConsumeBatch) -> Result<()> {
        let (lease, now) = (lease_of(batch.lease), Instant::now());
        let mut messages = Vec::with_capacity(batch.events.len());
        for event in batch.events {
            let delivered = Delivered::try_from(event)?;
            self.deliveries += 1;
            let ready = Ready { session: self.session, delivery: self.deliveries, delivered };
            match (session.is_ending, session.grace_ends) {
                // The server hands back by itself what it had on the way.
                (true, _) => {}
                (false, Some(_)) => {
                    self.handed_back += 1;
                    self.ledger.hand_back(ready.delivered.entry.id);
                }
                (false, None) => {
                    self.ledger.hold(ready.delivered.entry.id, ready.delivery, lease, now);
                    messages.push(ready);
                }
            }
        }
        self.state.deliver(messages);
        Ok(())
    }
}

impl Session {
    fn send(&self, request: Request) -> Result<()> {
        let request = v1::ConsumeRequest { request: Some(request) };
        self.requests.try_send(request).map_err(|_| lost("the session takes no more requests"))
    }
}

fn lost(why: &str) -> Error {
    Error::new(ErrorKind::Lost, why)
}

/// Waits for that time; for ever where there is none.
async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
