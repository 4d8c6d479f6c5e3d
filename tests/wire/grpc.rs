//! What the gRPC tests share: a whole server on a free port, generated clients with their defaults, and a way to say
//! what a call is refused with, and that it changed nothing.

use std::fmt::{Debug, Write};
use std::time::Duration;

use synapse::access::Keyring;
use synapse::engine::{Engine, EngineOptions};
use synapse::grpc::{Options, routes};
use synapse::proto::v1::consumer_service_client::ConsumerServiceClient;
use synapse::proto::v1::event_service_client::EventServiceClient;
use synapse::proto::v1::stream_service_client::StreamServiceClient;
use synapse::proto::v1::{self, EntryId, Event};
use synapse::server::settings::{Names, Settings};
use synapse::server::{RunningServer, Server as Starter};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};
use tonic_types::StatusExt;

/// Longer than anything here takes; only a test that fails waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A server over an engine in a folder of its own, and a connection to it.
pub(crate) struct Server {
    pub(crate) channel: Channel,
    pub(crate) running: RunningServer,
    _folder: tempfile::TempDir,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut settings = Settings {
            data_dir: folder.path().join("data"),
            listen: ([127, 0, 0, 1], 0).into(),
            streams: Names(Vec::new()),
            // The largest publish must fit a segment.
            segment_bytes: 16 << 20,
            ..Settings::default()
        };
        change(&mut settings);
        let running = Starter::start(settings).await.expect("it starts");
        let channel = connect(&running).await;
        Self { channel, running, _folder: folder }
    }

    pub(crate) fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel.clone())
    }
    pub(crate) fn consumers(&self) -> ConsumerServiceClient<Channel> {
        ConsumerServiceClient::new(self.channel.clone())
    }
    pub(crate) fn streams(&self) -> StreamServiceClient<Channel> {
        StreamServiceClient::new(self.channel.clone())
    }

    /// Publishes these events in one request, and says their ids.
    pub(crate) async fn publish(&self, stream: &str, events: Vec<Event>) -> Vec<EntryId> {
        let request = v1::PublishRequest { stream: stream.into(), events, ..Default::default() };
        let answer = self.events().publish(request).await.expect("published").into_inner();
        ids_of(&answer)
    }

    /// Publishes events of these numbers, and says their ids.
    pub(crate) async fn fill(&self, stream: &str, numbers: std::ops::Range<u32>) -> Vec<EntryId> {
        self.publish(stream, numbers.map(|n| event(&n.to_string())).collect()).await
    }

    /// Makes a group over a stream, which is made where it is missing.
    pub(crate) async fn group(&self, stream: &str, group: &str, settings: v1::GroupSettings) -> v1::GroupInfo {
        let request = v1::CreateGroupRequest {
            stream: stream.into(),
            group: group.into(),
            settings: Some(settings),
            create_stream: true,
            ..Default::default()
        };
        self.consumers().create_group(request).await.expect("made").into_inner().info.expect("always set")
    }

    pub(crate) async fn group_info(&self, stream: &str, group: &str) -> v1::GroupInfo {
        let request = v1::GetGroupRequest { stream: stream.into(), group: group.into() };
        self.consumers().get_group(request).await.expect("exists").into_inner().info.expect("always set")
    }

    pub(crate) async fn stream_info(&self, stream: &str) -> v1::StreamInfo {
        let request = v1::GetStreamRequest { stream: stream.into() };
        self.streams().get_stream(request).await.expect("exists").into_inner().info.expect("always set")
    }

    /// Takes entries of `g` over `s`, at once.
    pub(crate) async fn pull(&self, consumer: &str, entries_max: u32) -> v1::PullResponse {
        let request = v1::PullRequest {
            stream: "s".into(),
            group: "g".into(),
            consumer: consumer.into(),
            entries_max,
            ..Default::default()
        };
        self.consumers().pull(request).await.expect("pulled").into_inner()
    }

    /// All that the server knows, but for what passes with time alone.
    pub(crate) async fn snapshot(&self) -> String {
        let mut out = String::new();
        let streams = self.streams().list_streams(v1::ListStreamsRequest::default()).await.expect("listed");
        for stream in streams.into_inner().streams {
            writeln!(out, "{stream:?}").expect("room");
            for group in &stream.groups {
                let mut info = self.group_info(&stream.name, group).await;
                for consumer in &mut info.consumers {
                    (consumer.idle, consumer.inactive) = (None, None);
                }
                let request =
                    v1::ListPendingRequest { stream: stream.name.clone(), group: group.clone(), ..Default::default() };
                let mut pending = self.consumers().list_pending(request).await.expect("listed").into_inner();
                for entry in &mut pending.entries {
                    (entry.idle, entry.due) = (None, None);
                }
                writeln!(out, "{info:?}\n{pending:?}").expect("room");
            }
        }
        out
    }
}

/// The services alone, over an engine in a folder of its own, for what a whole server does not let one do.
pub(crate) struct Bare {
    pub(crate) engine: Engine,
    pub(crate) drain: CancellationToken,
    pub(crate) channel: Channel,
    _folder: tempfile::TempDir,
}

impl Bare {
    pub(crate) async fn start(options: Options) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let engine = Engine::open(EngineOptions::new(folder.path().join("data"))).expect("an empty folder opens");
        let drain = CancellationToken::new();
        let routes = routes(engine.clone(), Keyring::default(), options, drain.clone()).expect("good options");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let app = routes.prepare().into_axum_router();
        tokio::spawn(async move { axum::serve(listener, app).await });
        let channel = Endpoint::from_shared(url).expect("a url").connect().await.expect("it listens");
        Self { engine, drain, channel, _folder: folder }
    }

    pub(crate) fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel.clone())
    }
    pub(crate) fn consumers(&self) -> ConsumerServiceClient<Channel> {
        ConsumerServiceClient::new(self.channel.clone())
    }
}

/// A connection as an unconfigured client makes it.
pub(crate) async fn connect(running: &RunningServer) -> Channel {
    Endpoint::from_shared(running.url()).expect("a url").connect().await.expect("it listens")
}

/// An event with this data.
pub(crate) fn event(data: &str) -> Event {
    Event { r#type: "tick".into(), data: data.to_owned().into(), ..Default::default() }
}

/// An event of about so many bytes.
pub(crate) fn big(bytes: usize) -> Event {
    Event { data: vec![7; bytes].into(), ..Default::default() }
}

pub(crate) fn id(ms: u64, seq: u64) -> EntryId {
    EntryId { ms, seq }
}

pub(crate) fn one(id: EntryId) -> v1::IdRange {
    v1::IdRange { first: Some(id), last: None }
}

pub(crate) fn ranges(ids: &[EntryId]) -> Vec<v1::IdRange> {
    ids.iter().copied().map(one).collect()
}

/// The ids that a publish gave.
pub(crate) fn ids_of(answer: &v1::PublishResponse) -> Vec<EntryId> {
    let (first, last) = (answer.first_id.expect("always set"), answer.last_id.expect("always set"));
    assert_eq!((first.ms, first.seq + u64::from(answer.count - 1)), (last.ms, last.seq), "contiguous");
    (0..u64::from(answer.count)).map(|n| id(first.ms, first.seq + n)).collect()
}

/// Ids of entries that were read.
pub(crate) fn read_ids(events: &[v1::RecordedEvent]) -> Vec<EntryId> {
    events.iter().map(|e| e.id.expect("always set")).collect()
}

/// Ids of entries that were delivered.
pub(crate) fn delivered_ids(events: &[v1::DeliveredEvent]) -> Vec<EntryId> {
    events.iter().map(|e| e.event.as_ref().and_then(|e| e.id).expect("always set")).collect()
}

/// That a call was refused with this code and reason, naming this field (none where it is empty).
#[track_caller]
pub(crate) fn assert_refused(what: &str, status: &Status, code: Code, reason: &str, field: &str) {
    let details = status.get_error_details();
    let info = details.error_info();
    let violations = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
    let got = (
        status.code(),
        info.map(|info| info.reason.as_str()).unwrap_or_default(),
        violations.first().map(|v| v.field.as_str()).unwrap_or_default(),
    );
    let what: String = what.chars().take(400).collect();
    assert_eq!(got, (code, reason, field), "{what}: {status:?}");
    assert_eq!(info.map(|info| info.domain.as_str()), Some("synapse.dev"), "{what}");
    assert!(!status.message().is_empty() && !status.message().ends_with('.'), "{what}: {status:?}");
}

/// The status of a call that must fail.
#[track_caller]
pub(crate) fn failed<T>(what: &str, answer: Result<Response<T>, Status>) -> Status {
    match answer {
        Ok(_) => panic!("{} was not refused", what.chars().take(400).collect::<String>()),
        Err(status) => status,
    }
}

/// Makes calls of one RPC that must all be refused, each as said, and change nothing.
macro_rules! refused {
    ($server:ident.$client:ident().$rpc:ident: $($request:expr => $code:ident $reason:literal $field:literal;)+) => {
        let before = $server.snapshot().await;
        $({
            let request = $request;
            let what = format!("{} {request:?}", stringify!($rpc));
            let status = crate::grpc::failed(&what, $server.$client().$rpc(request).await);
            crate::grpc::assert_refused(&what, &status, tonic::Code::$code, $reason, $field);
            assert_eq!($server.snapshot().await, before, "{what} changed something");
        })+
    };
}
pub(crate) use refused;

/// The next message of a stream that the server sends.
pub(crate) async fn next<T: Debug>(stream: &mut tonic::Streaming<T>) -> Result<Option<T>, Status> {
    tokio::time::timeout(PATIENCE, stream.message()).await.expect("something comes in time")
}
