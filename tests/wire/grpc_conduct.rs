//! What holds for the whole gRPC server: health, reflection, message sizes, malformed messages, shutdown.

use synapse::proto::v1::consume_request::Request as Ask;
use synapse::proto::v1::{self, position};
use synapse::types::Durability;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use crate::grpc::{Bare, Server, assert_refused, big, event, failed, next, ranges};

const SERVED: [&str; 4] =
    ["synapse.v1.EventService", "synapse.v1.ConsumerService", "synapse.v1.StreamService", "synapse.v1.BackupService"];

fn check(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.into() }
}

#[tokio::test]
async fn health_is_told_by_service() {
    let server = Server::start().await;
    let mut health = HealthClient::new(server.channel.clone());
    for service in SERVED.into_iter().chain([""]) {
        let status = health.check(check(service)).await.expect("known").into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service}");
    }
    for service in ["synapse.v1.RouteService", "nothing"] {
        assert_eq!(health.check(check(service)).await.expect_err("unknown").code(), Code::NotFound, "{service}");
        let mut watch = health.watch(check(service)).await.expect("it may come to be").into_inner();
        let first = next(&mut watch).await.expect("it lives").expect("always one");
        assert_eq!(first.status(), ServingStatus::ServiceUnknown);
    }
    let mut watches = Vec::new();
    for service in SERVED.into_iter().chain([""]) {
        let mut watch = health.watch(check(service)).await.expect("known").into_inner();
        let first = next(&mut watch).await.expect("it lives").expect("always one");
        assert_eq!(first.status(), ServingStatus::Serving);
        watches.push(watch);
    }
    let stopping = tokio::spawn(server.running.shutdown());
    for mut watch in watches {
        let last = next(&mut watch).await.expect("it lives").expect("the change is told");
        assert_eq!(last.status(), ServingStatus::NotServing);
        assert_eq!(next(&mut watch).await.expect("it ends well"), None);
    }
    stopping.await.expect("no panic").expect("closed");
}

#[tokio::test]
async fn reflection_knows_what_is_served() {
    let server = Server::start().await;
    let mut client = ServerReflectionClient::new(server.channel.clone());
    let mut ask = async |message| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(message) };
        let answers = client.server_reflection_info(tokio_stream::once(request)).await.expect("it answers");
        let answer: ServerReflectionResponse = next(&mut answers.into_inner()).await.expect("lives").expect("one");
        answer.message_response.expect("always set")
    };
    let MessageResponse::ListServicesResponse(list) = ask(MessageRequest::ListServices(String::new())).await else {
        panic!("not a list");
    };
    let names: Vec<_> = list.service.iter().map(|s| s.name.as_str()).collect();
    for wanted in SERVED.into_iter().chain(["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"]) {
        assert!(names.contains(&wanted), "{wanted}: {names:?}");
    }
    assert!(!names.contains(&"synapse.v1.RouteService"), "it is not served: {names:?}");
    for symbol in
        ["synapse.v1.EventService", "synapse.v1.Event", "synapse.v1.EventService.Publish", "synapse.v1.RouteService"]
    {
        let answer = ask(MessageRequest::FileContainingSymbol(symbol.into())).await;
        let MessageResponse::FileDescriptorResponse(files) = answer else { panic!("{symbol}: {answer:?}") };
        assert!(!files.file_descriptor_proto.is_empty(), "{symbol}");
    }
    let answer = ask(MessageRequest::FileByFilename("synapse/v1/event.proto".into())).await;
    assert!(matches!(answer, MessageResponse::FileDescriptorResponse(_)), "{answer:?}");
}

#[tokio::test]
async fn an_unconfigured_client_can_take_every_answer() {
    let server = Server::start().await;
    server.group("s", "g", v1::GroupSettings::default()).await;
    for _ in 0..4 {
        server.publish("s", vec![big(1_040_000); 3]).await;
    }
    let read = v1::ReadEventsRequest { stream: "s".into(), entries_max: 10_000, ..Default::default() };
    assert_eq!(server.events().read_events(read).await.expect("it fits").into_inner().events.len(), 1);
    let from = Some(v1::Position { position: Some(position::Position::Earliest(())) });
    let tail = v1::TailEventsRequest { stream: "s".into(), from, entries_max: 10_000, ..Default::default() };
    let mut tail = server.events().tail_events(tail).await.expect("it opens").into_inner();
    for _ in 0..12 {
        assert_eq!(next(&mut tail).await.expect("it fits").expect("more").events.len(), 1);
    }
    let mut held = Vec::new();
    for _ in 0..12 {
        let delivery = server.pull("c", 10_000).await;
        assert_eq!(delivery.events.len(), 1);
        held.extend(crate::grpc::delivered_ids(&delivery.events));
    }
    let claim = |ids, first_id| v1::ClaimPendingRequest {
        stream: "s".into(),
        group: "g".into(),
        consumer: "d".into(),
        ids,
        first_id,
        ..Default::default()
    };
    for ids in [held.clone(), Vec::new()] {
        let claimed = server.consumers().claim_pending(claim(ids, None)).await.expect("it fits").into_inner();
        assert_eq!((claimed.events.len(), claimed.next_id), (1, Some(held[1])));
    }
    let info = server.group_info("s", "g").await;
    let pending: Vec<_> = info.consumers.iter().map(|c| (c.name.as_str(), c.pending)).collect();
    assert_eq!(pending, [("c", 11), ("d", 1)], "what does not fit is left as it was");
    let dead = v1::nack_action::Action::DeadLetter(v1::nack_action::DeadLetter { reason: "x".into() });
    let nack = v1::NackRequest {
        stream: "s".into(),
        group: "g".into(),
        ids: ranges(&held),
        holder: None,
        action: Some(v1::NackAction { action: Some(dead) }),
    };
    server.consumers().nack(nack).await.expect("settled");
    let (mut letters, mut after) = (0, None);
    for _ in 0..1000 {
        let list = v1::ListDeadLettersRequest { stream: "s".into(), group: "g".into(), after, entries_max: 1000 };
        let page = server.consumers().list_dead_letters(list).await.expect("it fits").into_inner();
        assert!(page.dead_letters.len() <= 1, "{}", page.dead_letters.len());
        if let Some(last) = page.dead_letters.last() {
            (letters, after) = (letters + 1, last.event.as_ref().and_then(|e| e.id));
        } else if letters < held.len() {
            // Letters are moved by the engine after the answer.
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        } else {
            break;
        }
        assert!(page.next_after.is_none() || page.next_after == after);
    }
    assert_eq!(letters, held.len());
}

#[tokio::test]
async fn the_smallest_entries_of_the_longest_names_fit_too() {
    let server = Server::start_with(|settings| settings.durability = Durability::Os).await;
    let (stream, group) = ("s".repeat(255), "g".repeat(255));
    server.group(&stream, &group, v1::GroupSettings::default()).await;
    // Just below 1 MiB of stored bytes in 10,000 entries: the most overhead that a page can have.
    for _ in 0..10 {
        server.publish(&stream, vec![event(&"x".repeat(94)); 1000]).await;
    }
    assert!((1_000_000..1 << 20).contains(&server.stream_info(&stream).await.bytes));
    let read = v1::ReadEventsRequest { stream: stream.clone(), entries_max: 10_000, ..Default::default() };
    let page = server.events().read_events(read).await.expect("it fits").into_inner();
    assert_eq!((page.events.len(), page.next_id), (10_000, None));
    let pull = v1::PullRequest {
        stream: stream.clone(),
        group: group.clone(),
        consumer: "c".repeat(255),
        entries_max: 10_000,
        ..Default::default()
    };
    let taken = server.consumers().pull(pull).await.expect("it fits").into_inner().events.len();
    assert!(taken > 2_000, "{taken}");
    let list = v1::ListPendingRequest { stream, group, entries_max: 10_000, ..Default::default() };
    assert_eq!(server.consumers().list_pending(list).await.expect("it fits").into_inner().entries.len(), taken);
}

#[tokio::test]
async fn requests_beyond_the_limit_are_refused() {
    let server = Server::start().await;
    let publish = |size| v1::PublishRequest { stream: "s".into(), events: vec![big(size)], ..Default::default() };
    for size in [3_700_000, 4_194_000, 5 << 20, 40 << 20] {
        let status = failed("too large", server.events().publish(publish(size)).await);
        assert_eq!(status.code(), Code::InvalidArgument, "{size}: {status:?}");
        let details = tonic_types::StatusExt::get_error_details(&status);
        let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
        assert!(["EVENT_TOO_LARGE", "BATCH_TOO_LARGE"].contains(&reason.as_str()), "{size}: {status:?}");
    }
    // The connection lives, and a stream tells it, too.
    let (requests, receiver) = mpsc::channel(4);
    let answers = server.events().publish_stream(ReceiverStream::new(receiver)).await.expect("it opens");
    let send = async |seq, size| {
        let request = v1::PublishStreamRequest { seq, publish: Some(publish(size)) };
        requests.send(request).await.expect("the stream lives");
    };
    send(1, 10).await;
    send(2, 5 << 20).await;
    let mut answers = answers.into_inner();
    assert_eq!(next(&mut answers).await.expect("the first was good").map(|a| a.seq), Some(1));
    let status = next(&mut answers).await.expect_err("what cannot be read ends the stream");
    assert_refused("too large", &status, Code::InvalidArgument, "BATCH_TOO_LARGE", "");
    assert_eq!(server.stream_info("s").await.length, 1);
}

/// Sends bytes as they are; understands no answer.
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn encode(&mut self, item: Vec<u8>, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(buf, &item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = ();
    type Error = Status;
    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        let rest = bytes::Buf::remaining(buf);
        bytes::Buf::advance(buf, rest);
        Ok(Some(()))
    }
}

async fn call_raw(server: &Server, path: &'static str, bytes: &[u8]) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(server.channel.clone());
    client.ready().await.expect("the connection lives");
    let path = http::uri::PathAndQuery::from_static(path);
    client.unary(Request::new(bytes.to_vec()), path, Raw).await.map(|_| ())
}

#[tokio::test]
async fn malformed_messages_are_the_clients_fault() {
    let server = Server::start().await;
    server.fill("s", 0..1).await;
    let before = server.snapshot().await;
    const PUBLISH: &str = "/synapse.v1.EventService/Publish";
    let good = [0x0a, 1, b's', 0x12, 3, 0x42, 1, b'x'];
    for (path, bytes, reason, field) in [
        (PUBLISH, &[0xff][..], "INVALID_ARGUMENT", ""),
        (PUBLISH, &[0x0a, 9, b's'], "INVALID_ARGUMENT", ""),
        (PUBLISH, &[0x08, 1], "INVALID_ARGUMENT", ""),
        (PUBLISH, &[0x0a, 1, 0xff, 0x12, 0], "INVALID_NAME", "stream"),
        (PUBLISH, &[0x0a, 1, b's', 0x12, 1, 0xff], "INVALID_EVENT", "events[0].event"),
        (PUBLISH, &[0x0a, 1, b's', 0x12, 2, 0x7a, 0], "INVALID_EVENT", "events[0].event"),
        (PUBLISH, &[0x0a, 1, b's', 0x12, 2, 0x08, 1], "INVALID_EVENT", "events[0].event"),
        (PUBLISH, &[0x0a, 1, b's', 0x12, 3, 0x1a, 1, 0xff], "INVALID_EVENT", "events[0].type"),
        (PUBLISH, &[0x0a, 1, b's', 0x12, 3, 0x42, 9, b'x'], "INVALID_EVENT", "events[0].event"),
        ("/synapse.v1.EventService/ReadEvents", &[0x0a, 1, 0xff], "INVALID_ARGUMENT", ""),
        ("/synapse.v1.StreamService/DeleteStream", &[0x0a, 0x80], "INVALID_ARGUMENT", ""),
        ("/synapse.v1.StreamService/TrimStream", &[0x0a, 1, b's', 0x20], "INVALID_ARGUMENT", ""),
        ("/synapse.v1.ConsumerService/DeleteGroup", &[0x0a, 1, 0xc3], "INVALID_ARGUMENT", ""),
    ] {
        let what = format!("{path} {bytes:?}");
        let status = call_raw(&server, path, bytes).await.expect_err(&what);
        let details = tonic_types::StatusExt::get_error_details(&status);
        let found = details.error_info().map(|info| info.reason.as_str());
        assert_eq!((status.code(), found), (Code::InvalidArgument, Some(reason)), "{what}: {status:?}");
        let named = details.bad_request().and_then(|b| b.field_violations.first()).map(|v| v.field.as_str());
        assert_eq!(named.unwrap_or_default(), field, "{what}: {status:?}");
        assert_eq!(server.snapshot().await, before, "{what} changed something");
    }
    for path in ["/synapse.v1.EventService/Nothing", "/synapse.v1.RouteService/ListRoutes", "/nothing/At"] {
        assert_eq!(call_raw(&server, path, &[]).await.expect_err(path).code(), Code::Unimplemented, "{path}");
    }
    call_raw(&server, PUBLISH, &good).await.expect("these bytes are well-formed");
    assert_eq!(server.stream_info("s").await.length, 2);
}

#[tokio::test]
async fn a_drain_ends_what_is_open_and_takes_nothing_new() {
    let bare = Bare::start(synapse::grpc::Options::default()).await;
    let mut events = bare.events();
    let mut consumers = bare.consumers();
    let (stream, group) = (|| "s".to_owned(), || "g".to_owned());
    let create = v1::CreateGroupRequest { stream: stream(), group: group(), create_stream: true, ..Default::default() };
    consumers.create_group(create).await.expect("made");
    let tail = || v1::TailEventsRequest { stream: stream(), ..Default::default() };
    let mut tailing = events.tail_events(tail()).await.expect("it opens").into_inner();
    let (publishes, receiver) = mpsc::channel(4);
    let mut publishing = events.publish_stream(ReceiverStream::new(receiver)).await.expect("it opens").into_inner();
    let publish = || v1::PublishRequest { stream: stream(), events: vec![event("x")], ..Default::default() };
    let request = || v1::PublishStreamRequest { seq: 1, publish: Some(publish()) };
    publishes.send(request()).await.expect("the stream lives");
    next(&mut publishing).await.expect("it lives").expect("an answer");
    let (asks, receiver) = mpsc::channel(4);
    let open = || v1::ConsumeRequest {
        request: Some(Ask::Open(v1::ConsumeOpen {
            stream: stream(),
            group: group(),
            consumer: "c".into(),
            ..Default::default()
        })),
    };
    asks.send(open()).await.expect("room");
    let mut consuming = consumers.consume(ReceiverStream::new(receiver)).await.expect("a session").into_inner();
    next(&mut consuming).await.expect("it lives").expect("opened");
    next(&mut consuming).await.expect("it lives").expect("the entry");
    let pull = || v1::PullRequest {
        stream: stream(),
        group: group(),
        consumer: "d".into(),
        wait: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..Default::default()
    };
    let (mut waiter, waits) = (bare.consumers(), pull());
    let waiting = tokio::spawn(async move { waiter.pull(waits).await });

    next(&mut tailing).await.expect("it lives").expect("the entry");
    bare.drain.cancel();
    let draining = |what: &str, status: Status| assert_refused(what, &status, Code::Unavailable, "DRAINING", "");
    draining("tail", next(&mut tailing).await.expect_err("it ends"));
    draining("publish stream", next(&mut publishing).await.expect_err("it ends"));
    draining("consume", next(&mut consuming).await.expect_err("it ends"));
    draining("pull", waiting.await.expect("no panic").expect_err("it ends"));
    let mut late = events.tail_events(tail()).await.expect("it opens").into_inner();
    draining("a new tail", next(&mut late).await.expect_err("it ends"));
    let late = consumers.consume(tokio_stream::once(open())).await.expect("it opens");
    draining("a new session", next(&mut late.into_inner()).await.expect_err("it ends"));
    // What the session held was handed back, also where the pull that ended had just been given it.
    let mut info = v1::GroupInfo::default();
    for _ in 0..1000 {
        let request = v1::GetGroupRequest { stream: stream(), group: group() };
        info = consumers.get_group(request).await.expect("still there").into_inner().info.expect("always set");
        if info.waiting == 1 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!((info.pending, info.waiting), (1, 1));

    bare.engine.shutdown().await.expect("closed");
    let status = failed("publish", events.publish(publish()).await);
    draining("a new publish", status);
    let status = failed("pull", consumers.pull(pull()).await);
    draining("a new pull", status);
}

#[tokio::test]
async fn a_shutdown_waits_for_nobody_and_then_nothing_listens() {
    let server = Server::start().await;
    server.group("s", "g", v1::GroupSettings::default()).await;
    let tail = v1::TailEventsRequest { stream: "s".into(), ..Default::default() };
    let mut tail = server.events().tail_events(tail).await.expect("it opens").into_inner();
    let mut events = server.events();
    let stopping = tokio::spawn(server.running.shutdown());
    let status = next(&mut tail).await.expect_err("it ends");
    assert_refused("tail", &status, Code::Unavailable, "DRAINING", "");
    stopping.await.expect("no panic").expect("closed");
    let publish = v1::PublishRequest { stream: "s".into(), events: vec![event("x")], ..Default::default() };
    assert_eq!(failed("nothing listens", events.publish(publish).await).code(), Code::Unavailable);
}
