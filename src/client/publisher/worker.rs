//! The task of a publisher: keeps a publish stream open while there is something to send, and makes it anew.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use tonic::Streaming;

use super::pipeline::{Answered, Freed, Item, Pipeline};
use super::{Bounds, PublisherBuilder};
use crate::client::backoff::Backoff;
use crate::client::entry::{Event, needed};
use crate::client::error::{Error, ErrorKind, Result};
use crate::client::{Client, Published};
use crate::limits::DEDUP_REQUESTS_PER_PRODUCER;
use crate::proto::v1;

/// What the handles ask of the task.
#[expect(clippy::large_enum_variant, reason = "nearly all of them are events")]
pub(super) enum Ask {
    Publish(Item),
    Flush(oneshot::Sender<Result<()>>),
}

pub(super) struct Worker {
    client: Client,
    /// What every request has in common.
    template: v1::PublishRequest,
    producer_id: String,
    pipeline: Pipeline,
    asks: mpsc::Receiver<Ask>,
    /// Whether more may be asked.
    is_open: bool,
    bounds: Arc<Bounds>,
    backoff: Backoff,
}

impl Worker {
    pub(super) fn new(
        settings: PublisherBuilder,
        producer_id: String,
        pipeline: Pipeline,
        asks: mpsc::Receiver<Ask>,
        bounds: Arc<Bounds>,
    ) -> Self {
        let template = v1::PublishRequest {
            stream: settings.stream,
            durability: settings.durability.into(),
            dedup_by_event_id: settings.dedup_by_event_id,
            ..Default::default()
        };
        let backoff = Backoff::new(settings.retry_for);
        Self { client: settings.client, template, producer_id, pipeline, asks, is_open: true, bounds, backoff }
    }

    /// Serves the handles until all are gone and everything is answered.
    pub(super) async fn run(mut self) {
        loop {
            while self.is_open && self.pipeline.is_idle() {
                self.backoff.reset();
                let ask = self.asks.recv().await;
                self.take(ask);
            }
            let Err(error) = self.connection().await else { return };
            let freed = self.pipeline.rewind(Instant::now(), &error);
            self.free(freed);
            if self.pipeline.is_idle() {
                continue;
            }
            let pause = if error.is_retryable() { self.backoff.pause(error.retry_delay()) } else { None };
            match pause {
                Some(pause) => self.rest(pause).await,
                None => {
                    let freed = self.pipeline.fail_all(&error);
                    self.free(freed);
                }
            }
        }
    }

    /// Sends and takes answers over one connection, until it ends or nothing is left to do.
    async fn connection(&mut self) -> Result<()> {
        if !self.is_open && self.pipeline.is_idle() {
            return Ok(());
        }
        let (sender, mut receiver) = mpsc::channel(DEDUP_REQUESTS_PER_PRODUCER);
        let requests = futures::stream::poll_fn(move |cx| receiver.poll_recv(cx));
        let mut answers = self.client.call(self.client.raw_events().publish_stream(requests)).await?;
        loop {
            while let Some((sequence, events)) = self.pipeline.next_to_send(Instant::now()) {
                // No more are under way than there is room for; where nobody reads any more, the answers say why.
                let _ = sender.try_send(self.request(sequence, events));
            }
            if !self.is_open && self.pipeline.is_idle() {
                return Ok(());
            }
            self.step(&mut answers).await?;
        }
    }

    async fn step(&mut self, answers: &mut Streaming<v1::PublishStreamResponse>) -> Result<()> {
        let has_room = self.is_open && self.pipeline.has_room();
        let lingered = self.pipeline.linger_ends();
        let limit = self.client.shared.request_timeout;
        let overdue = self.pipeline.oldest_sent().map(|sent| sent + limit);
        tokio::select! {
            biased;
            answer = answers.message() => match answer? {
                Some(answer) => self.answer(answer)?,
                None => return Err(Error::new(ErrorKind::Lost, "the server ended the publish stream")),
            },
            ask = self.asks.recv(), if has_room => {
                self.take(ask);
                // What is there already costs no more turns.
                while self.pipeline.has_room() && let Ok(ask) = self.asks.try_recv() {
                    self.take(Some(ask));
                }
            }
            () = reached(lingered) => {}
            () = reached(overdue) => {
                return Err(Error::new(ErrorKind::TimedOut, format!("no answer to a publish within {limit:?}")));
            }
        }
        Ok(())
    }

    fn take(&mut self, ask: Option<Ask>) {
        match ask {
            Some(Ask::Publish(item)) => self.pipeline.add(item, Instant::now()),
            Some(Ask::Flush(done)) => self.pipeline.flush(done),
            None => {
                self.is_open = false;
                self.pipeline.seal();
            }
        }
    }

    fn answer(&mut self, answer: v1::PublishStreamResponse) -> Result<()> {
        use v1::publish_stream_response::Result as Outcome;
        let result = match needed(answer.result)? {
            Outcome::Published(published) => Ok(Published::try_from(published)?),
            Outcome::Error(error) => Err(Error::from(error)),
        };
        match self.pipeline.answer(answer.seq, result)? {
            Answered::Done(freed) => {
                self.backoff.reset();
                self.free(freed);
                Ok(())
            }
            Answered::Again(error) => Err(error),
        }
    }

    /// Waits before the next attempt, while what is asked is still gathered as far as there is room.
    async fn rest(&mut self, pause: Duration) {
        let mut over = std::pin::pin!(sleep(pause));
        loop {
            let has_room = self.is_open && self.pipeline.has_room();
            tokio::select! {
                () = &mut over => return,
                ask = self.asks.recv(), if has_room => self.take(ask),
            }
        }
    }

    fn request(&self, sequence: u64, events: Vec<Event>) -> v1::PublishStreamRequest {
        let producer = v1::ProducerSequence { producer_id: self.producer_id.clone(), sequence };
        let publish = v1::PublishRequest { events, producer: Some(producer), ..self.template.clone() };
        v1::PublishStreamRequest { seq: sequence, publish: Some(publish) }
    }

    fn free(&self, freed: Freed) {
        self.bounds.events.add_permits(freed.events);
        self.bounds.bytes.add_permits(freed.bytes);
    }
}

/// Waits for that time; for ever where there is none.
async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
