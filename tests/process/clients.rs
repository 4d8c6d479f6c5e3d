//! Clients that publish, pull and acknowledge until their server is gone, and record what they saw.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use synapse::proto::v1;
use synapse::proto::v1::consumer_service_client::ConsumerServiceClient;
use synapse::proto::v1::event_service_client::EventServiceClient;
use synapse::proto::v1::stream_service_client::StreamServiceClient;
use tonic::Status;
use tonic::transport::Channel;

use crate::history::{Acknowledged, History, Id, Publish, Pull, Reading};

const STREAM: &str = "work";
const GROUP: &str = "workers";
const CHURN: &str = "churn";

/// How long a delivery is its consumer's alone.
const LEASE_MS: u64 = 300;

/// What all clients of a test share.
#[derive(Clone)]
pub(crate) struct Recorder {
    pub(crate) history: Arc<Mutex<History>>,
    /// Publishes that got no answer, to be repeated: their places in the history, and what was asked for.
    unanswered: Arc<Mutex<Vec<(usize, v1::PublishRequest)>>>,
    moment: Arc<AtomicU64>,
    number: Arc<AtomicU64>,
    run: Arc<AtomicU64>,
    began: Instant,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        // Server and clients count whole milliseconds, each by its own clock.
        let history = History { lease_ms: LEASE_MS - 2, ..History::default() };
        Self {
            history: Arc::new(Mutex::new(history)),
            unanswered: Arc::default(),
            moment: Arc::default(),
            number: Arc::default(),
            run: Arc::default(),
            began: Instant::now(),
        }
    }

    /// Another server runs from now on.
    pub(crate) fn begin_run(&self) {
        self.run.fetch_add(1, Ordering::SeqCst);
    }

    /// How many publishes were answered.
    pub(crate) fn answered(&self) -> usize {
        self.history.lock().publishes.iter().filter(|publish| publish.answer.is_some()).count()
    }

    /// Which run of the server it is.
    pub(crate) fn run(&self) -> u64 {
        self.run.load(Ordering::SeqCst)
    }

    /// The first of so many numbers that nobody else has.
    pub(crate) fn numbers(&self, count: u64) -> u64 {
        self.number.fetch_add(count, Ordering::SeqCst)
    }

    pub(crate) fn moment(&self) -> u64 {
        self.moment.fetch_add(1, Ordering::SeqCst)
    }
    pub(crate) fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }
}

/// One client's connection.
#[derive(Clone)]
pub(crate) struct Client {
    events: EventServiceClient<Channel>,
    consumers: ConsumerServiceClient<Channel>,
    streams: StreamServiceClient<Channel>,
    recorder: Recorder,
}

impl Client {
    pub(crate) async fn connect(url: &str, recorder: &Recorder) -> Self {
        let channel = tonic::transport::Endpoint::from_shared(url.to_owned()).expect("an address");
        let channel = channel.connect().await.expect("the server listens");
        let events = EventServiceClient::new(channel.clone()).max_decoding_message_size(64 << 20);
        let streams = StreamServiceClient::new(channel.clone());
        let consumers = ConsumerServiceClient::new(channel).max_decoding_message_size(64 << 20);
        Self { events, consumers, streams, recorder: recorder.clone() }
    }

    /// Makes the group with a short lease, so that what a dead client held soon comes again.
    pub(crate) async fn create_group(&mut self) {
        let ack_wait = prost_types::Duration::try_from(Duration::from_millis(LEASE_MS)).ok();
        let request = v1::CreateGroupRequest {
            stream: STREAM.into(),
            group: GROUP.into(),
            settings: Some(v1::GroupSettings { ack_wait, ..Default::default() }),
            create_stream: true,
            ..Default::default()
        };
        self.consumers.create_group(request).await.expect("makes the group");
    }

    /// Makes a stream that keeps next to nothing, so that files of the log are given up while others publish.
    pub(crate) async fn create_churn(&mut self) {
        let retention = Some(v1::Retention { entries_max: Some(3), ..Default::default() });
        let settings = Some(v1::StreamSettings { retention, ..Default::default() });
        let request = v1::CreateStreamRequest { stream: CHURN.into(), settings };
        self.streams.create_stream(request).await.expect("makes the stream");
    }

    /// Publishes large events to that stream until that fails; answers how.
    pub(crate) async fn churn(mut self) -> Status {
        loop {
            let event = v1::Event { data: vec![7; 50_000].into(), ..event(0) };
            let request = v1::PublishRequest { stream: CHURN.into(), events: vec![event], ..Default::default() };
            if let Err(status) = self.events.publish(request).await {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Publishes small batches, one after the other, until that fails; answers how. The last one is to be repeated.
    pub(crate) async fn publish_on(mut self, batch_max: u64) -> Status {
        let producer_id = format!("publisher-{}", self.recorder.moment());
        let mut turn = 0;
        loop {
            let count = 1 + turn % batch_max;
            let first = self.recorder.numbers(count);
            let events: Vec<u64> = (first..first + count).collect();
            let started = self.recorder.moment();
            let at = {
                let mut history = self.recorder.history.lock();
                history.publishes.push(Publish { started, events: events.clone(), answer: None });
                history.publishes.len() - 1
            };
            let events = events.into_iter().map(event).collect();
            let producer = Some(v1::ProducerSequence { producer_id: producer_id.clone(), sequence: 1 + turn });
            let request = v1::PublishRequest { stream: STREAM.into(), events, producer, ..Default::default() };
            if let Err(status) = self.publish(at, &request).await {
                self.recorder.unanswered.lock().push((at, request));
                return status;
            }
            turn += 1;
        }
    }

    /// Publishes once more what got no answer: each is stored once, whether the first attempt was or not.
    pub(crate) async fn repeat_unanswered(&mut self) {
        let unanswered = std::mem::take(&mut *self.recorder.unanswered.lock());
        for (at, request) in unanswered {
            self.publish(at, &request).await.expect("the server lives");
        }
    }

    /// Publishes and notes the answer.
    async fn publish(&mut self, at: usize, request: &v1::PublishRequest) -> Result<(), Status> {
        let answer = self.events.publish(request.clone()).await?;
        let id = id_of(answer.into_inner().first_id);
        let ids = (0..request.events.len() as u64).map(|n| (id.0, id.1 + n)).collect();
        let ended = self.recorder.moment();
        self.recorder.history.lock().publishes[at].answer = Some((ended, ids));
        Ok(())
    }

    /// Pulls and acknowledges most of what comes, until that fails; answers how.
    pub(crate) async fn consume_on(mut self, name: String) -> Status {
        let mut turn = 0;
        loop {
            let (token, ids) = match self.pull(&name, Duration::from_millis(200)).await {
                Ok(pulled) => pulled,
                Err(status) => return status,
            };
            // What is left out comes again when its lease ends.
            let ids: Vec<Id> =
                ids.into_iter().enumerate().filter(|(n, _)| (n + turn) % 13 != 0).map(|(_, id)| id).collect();
            if !ids.is_empty()
                && let Err(status) = self.acknowledge(token, ids).await
            {
                return status;
            }
            turn += 1;
        }
    }

    /// Pulls and acknowledges everything, until nothing is left.
    pub(crate) async fn drain(&mut self) {
        loop {
            let (token, ids) = self.pull("last", Duration::from_secs(1)).await.expect("the server lives");
            if ids.is_empty() {
                return self.recorder.history.lock().drained = true;
            }
            self.acknowledge(token, ids).await.expect("the server lives");
        }
    }

    async fn pull(&mut self, consumer: &str, wait: Duration) -> Result<(String, Vec<Id>), Status> {
        let (started, from_ms) = (self.recorder.moment(), self.recorder.now_ms());
        let request = v1::PullRequest {
            stream: STREAM.into(),
            group: GROUP.into(),
            consumer: consumer.into(),
            entries_max: 64,
            wait: prost_types::Duration::try_from(wait).ok(),
            ..Default::default()
        };
        let answer = self.consumers.pull(request).await?.into_inner();
        let (ended, to_ms) = (self.recorder.moment(), self.recorder.now_ms());
        let counts = answer.events.iter().map(|e| e.deliveries).collect();
        let entries: Vec<(Id, u64)> = answer.events.into_iter().filter_map(|e| e.event).map(read).collect();
        let ids = entries.iter().map(|(id, _)| *id).collect();
        let run = self.recorder.run();
        self.recorder.history.lock().pulls.push(Pull { started, ended, entries, counts, run, from_ms, to_ms });
        Ok((answer.delivery_token, ids))
    }

    async fn acknowledge(&mut self, token: String, ids: Vec<Id>) -> Result<(), Status> {
        let range = |id: &Id| v1::IdRange { first: Some(v1::EntryId { ms: id.0, seq: id.1 }), last: None };
        let request = v1::AcknowledgeRequest {
            stream: STREAM.into(),
            group: GROUP.into(),
            ids: ids.iter().map(range).collect(),
            holder: Some(v1::acknowledge_request::Holder::DeliveryToken(token)),
            ..Default::default()
        };
        let answer = self.consumers.acknowledge(request).await?.into_inner();
        let refused: Vec<Id> =
            answer.not_pending.into_iter().chain(answer.not_owned).map(|id| (id.ms, id.seq)).collect();
        let ids = ids.into_iter().filter(|id| !refused.contains(id)).collect();
        let ended = self.recorder.moment();
        self.recorder.history.lock().acknowledged.push(Acknowledged { ended, ids });
        Ok(())
    }

    /// Reads the whole stream.
    pub(crate) async fn read_all(&mut self) {
        let started = self.recorder.moment();
        let (mut entries, mut from) = (Vec::new(), v1::EntryId { ms: 0, seq: 0 });
        loop {
            let start = Some(v1::read_events_request::Start::FirstId(from));
            let request = v1::ReadEventsRequest { stream: STREAM.into(), start, ..Default::default() };
            let page = self.events.read_events(request).await.expect("the server lives").into_inner();
            entries.extend(page.events.into_iter().map(read));
            match page.next_id {
                Some(next) => from = next,
                None => break,
            }
        }
        self.recorder.history.lock().readings.push(Reading { started, entries });
    }
}

fn event(number: u64) -> v1::Event {
    v1::Event {
        r#type: "work".into(),
        key: format!("k{}", number % 7),
        data: data(number).into(),
        ..Default::default()
    }
}

/// An event's data: its number, and more that follows from it.
fn data(number: u64) -> Vec<u8> {
    let mut data = format!("{number}:").into_bytes();
    data.extend((0..number % 300).map(|n| (number.wrapping_mul(31) + n) as u8));
    data
}

/// Id and number of an entry; a number that nobody published where the contents are not what they were.
fn read(recorded: v1::RecordedEvent) -> (Id, u64) {
    let found = recorded.event.unwrap_or_default();
    let text: Vec<u8> = found.data.iter().copied().take_while(|b| *b != b':').collect();
    let number = String::from_utf8(text).ok().and_then(|text| text.parse().ok());
    let number = number.filter(|n| event(*n) == found).unwrap_or(u64::MAX);
    (id_of(recorded.id), number)
}

fn id_of(id: Option<v1::EntryId>) -> Id {
    id.map_or((0, 0), |id| (id.ms, id.seq))
}
