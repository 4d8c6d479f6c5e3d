//! One request on each surface of a server, and what became of it: `done`, or the reason why not.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use synapse::proto::v1;
use synapse::proto::v1::consumer_service_client::ConsumerServiceClient;
use synapse::proto::v1::event_service_client::EventServiceClient;
use synapse::proto::v1::publish_stream_response::Result as Answered;
use synapse::proto::v1::stream_service_client::StreamServiceClient;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

/// What was done says this.
pub(crate) const DONE: &str = "done";
/// The ways to publish, in the order of [`Surfaces::publish`].
pub(crate) const PUBLISHES: [&str; 3] = ["unary call", "publish stream", "http"];

/// A server, seen from outside.
pub(crate) struct Surfaces {
    address: String,
    channel: Channel,
}

impl Surfaces {
    pub(crate) async fn of(url: &str) -> Self {
        let endpoint = Endpoint::from_shared(url.to_owned()).expect("an address").timeout(Duration::from_secs(20));
        let channel = endpoint.connect().await.expect("it listens");
        Self { address: url.strip_prefix("http://").expect("plain").to_owned(), channel }
    }

    /// Publishes data of so many bytes in each way, one after the other.
    pub(crate) async fn publish(&self, stream: &str, bytes: usize) -> [String; 3] {
        let unary = self.publish_unary(stream, bytes).await;
        let request = v1::PublishStreamRequest { seq: 1, publish: Some(publish(stream, bytes)) };
        let mut events = EventServiceClient::new(self.channel.clone());
        let streamed = match events.publish_stream(tokio_stream::once(request)).await {
            Ok(answers) => match answers.into_inner().message().await {
                Ok(Some(v1::PublishStreamResponse { result: Some(Answered::Error(error)), .. })) => error.reason,
                Ok(answer) => answer.map_or("nothing", |_| DONE).into(),
                Err(status) => reason_of(&status),
            },
            Err(status) => reason_of(&status),
        };
        let body = serde_json::json!({ "data": "x".repeat(bytes) }).to_string();
        let posted = self.http("POST", &format!("/events/{stream}"), &body).await;
        [unary, streamed, reason_of_http(&posted)]
    }

    /// Publishes by a unary call.
    pub(crate) async fn publish_unary(&self, stream: &str, bytes: usize) -> String {
        reason(EventServiceClient::new(self.channel.clone()).publish(publish(stream, bytes)).await)
    }

    /// Takes an entry of a group and acknowledges it.
    pub(crate) async fn acknowledge(&self, stream: &str, group: &str) -> String {
        let mut consumers = ConsumerServiceClient::new(self.channel.clone());
        let pull = v1::PullRequest {
            stream: stream.into(),
            group: group.into(),
            consumer: "c".into(),
            entries_max: 1,
            ..Default::default()
        };
        let pulled = match consumers.pull(pull).await {
            Ok(pulled) => pulled.into_inner(),
            Err(status) => return reason_of(&status),
        };
        let id = pulled.events.first().and_then(|d| d.event.as_ref()?.id).expect("there is an entry");
        let request = v1::AcknowledgeRequest {
            stream: stream.into(),
            group: group.into(),
            ids: vec![v1::IdRange { first: Some(id), last: None }],
            holder: Some(v1::acknowledge_request::Holder::DeliveryToken(pulled.delivery_token)),
            ..Default::default()
        };
        reason(consumers.acknowledge(request).await)
    }

    /// Trims a stream to so many entries.
    pub(crate) async fn trim(&self, stream: &str, entries: u64) -> String {
        let request =
            v1::TrimStreamRequest { stream: stream.into(), keep_entries: Some(entries), ..Default::default() };
        reason(StreamServiceClient::new(self.channel.clone()).trim_stream(request).await)
    }

    /// Makes a stream with a group.
    pub(crate) async fn create_group(&self, stream: &str, group: &str) -> String {
        let (stream, group) = (stream.into(), group.into());
        let request = v1::CreateGroupRequest { stream, group, create_stream: true, ..Default::default() };
        reason(ConsumerServiceClient::new(self.channel.clone()).create_group(request).await)
    }

    /// Deletes the last entry of a stream.
    pub(crate) async fn delete_last(&self, stream: &str) -> String {
        let mut streams = StreamServiceClient::new(self.channel.clone());
        let info = streams.get_stream(v1::GetStreamRequest { stream: stream.into() }).await;
        let last = match info {
            Ok(found) => found.into_inner().info.and_then(|info| info.last_id),
            Err(status) => return reason_of(&status),
        };
        let request = v1::DeleteEventsRequest { stream: stream.into(), ids: last.into_iter().collect() };
        reason(streams.delete_events(request).await)
    }

    /// Reads the first entries of a stream over gRPC and over HTTP.
    pub(crate) async fn read(&self, stream: &str) -> [String; 2] {
        let request = v1::ReadEventsRequest { stream: stream.into(), entries_max: 10, ..Default::default() };
        let read = reason(EventServiceClient::new(self.channel.clone()).read_events(request).await);
        [read, reason_of_http(&self.http("GET", &format!("/streams/{stream}/messages"), "").await)]
    }

    /// Publishes so many events of so many bytes in one request.
    pub(crate) async fn publish_many(&self, stream: &str, events: usize, bytes: usize) -> String {
        let one = publish(stream, bytes);
        let request = v1::PublishRequest { events: vec![one.events[0].clone(); events], ..one };
        reason(EventServiceClient::new(self.channel.clone()).publish(request).await)
    }

    /// Reads a stream to its end; answers how many entries it has.
    pub(crate) async fn read_through(&self, stream: &str) -> u64 {
        let mut events = EventServiceClient::new(self.channel.clone()).max_decoding_message_size(64 << 20);
        let (mut count, mut from) = (0, v1::EntryId { ms: 0, seq: 0 });
        loop {
            let start = Some(v1::read_events_request::Start::FirstId(from));
            let request = v1::ReadEventsRequest { stream: stream.into(), start, ..Default::default() };
            let page = events.read_events(request).await.expect("reads").into_inner();
            count += page.events.len() as u64;
            match page.next_id {
                Some(next) => from = next,
                None => return count,
            }
        }
    }

    /// Entries of a stream, and their bytes.
    pub(crate) async fn held(&self, stream: &str) -> (u64, u64) {
        let mut streams = StreamServiceClient::new(self.channel.clone());
        let info = streams.get_stream(v1::GetStreamRequest { stream: stream.into() }).await.expect("is there");
        let info = info.into_inner().info.expect("told");
        (info.length, info.bytes)
    }

    /// What is said of the index: by the gRPC health service, by `/health`, and by the metric.
    pub(crate) async fn index_is_usable(&self) -> [bool; 3] {
        let mut health = HealthClient::new(self.channel.clone());
        let answer = health.check(HealthCheckRequest { service: "synapse.index".into() }).await.expect("an answer");
        let (_, body) = self.http("GET", "/health", "").await;
        let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let (_, metrics) = self.http("GET", "/metrics", "").await;
        let up = metrics.lines().find_map(|line| line.strip_prefix("synapse_index_up ")).expect("it is there");
        let usable = body["index"]["usable"].as_bool().expect("told");
        [answer.into_inner().status() == ServingStatus::Serving, usable, up.trim() == "1"]
    }

    /// What the health services say: gRPC of the server and of its `EventService`; status and state over HTTP; and the
    /// metric `up`.
    pub(crate) async fn health(&self) -> (ServingStatus, ServingStatus, u16, String, bool) {
        let mut health = HealthClient::new(self.channel.clone());
        let mut check = async |service: &str| {
            let answer = health.check(HealthCheckRequest { service: service.into() }).await.expect("an answer");
            answer.into_inner().status()
        };
        let (all, events) = (check("").await, check("synapse.v1.EventService").await);
        let (status, body) = self.http("GET", "/health", "").await;
        let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let (_, metrics) = self.http("GET", "/metrics", "").await;
        let up = metrics.lines().find_map(|line| line.strip_prefix("synapse_up ")).expect("it is there");
        (all, events, status, body["state"].as_str().expect("text").into(), up.trim() == "1")
    }

    /// Status and body of a request.
    pub(crate) async fn http(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let address = self.address.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).expect("it listens");
            stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
            stream.write_all(request.as_bytes()).expect("sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("an answer in time");
            answer
        });
        let answer = asked.await.expect("no panic");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status"), body.to_owned())
    }
}

fn publish(stream: &str, bytes: usize) -> v1::PublishRequest {
    let event = v1::Event { r#type: "t".into(), data: vec![b'x'; bytes].into(), ..Default::default() };
    v1::PublishRequest { stream: stream.into(), events: vec![event], ..Default::default() }
}

fn reason<T>(result: Result<T, Status>) -> String {
    result.map_or_else(|status| reason_of(&status), |_| DONE.into())
}

fn reason_of(status: &Status) -> String {
    let named = status.get_error_details().error_info().map(|info| info.reason.clone());
    named.unwrap_or_else(|| format!("{status:?}"))
}

fn reason_of_http((status, body): &(u16, String)) -> String {
    if (200..300).contains(status) {
        return DONE.into();
    }
    let problem: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    problem["reason"].as_str().map_or_else(|| format!("{status} {body}"), str::to_owned)
}
