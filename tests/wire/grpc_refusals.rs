//! Bad input over gRPC: every kind is refused with its code, reason and field, and changes nothing.

use prost_types::{Duration, FieldMask, Timestamp};
use synapse::proto::v1::{self, Event, nack_action, position, publish_request, read_events_request};
use tonic::Code;

use crate::grpc::{Server, assert_refused, big, event, failed, id, next, one, refused};

/// A server with a stream `s` of three entries and its group `g`, of which `c` holds the first.
async fn server() -> Server {
    let server = Server::start().await;
    server.fill("s", 0..3).await;
    server.group("s", "g", v1::GroupSettings::default()).await;
    assert_eq!(server.pull("c", 1).await.events.len(), 1);
    server
}

fn publish(event: Event) -> v1::PublishRequest {
    v1::PublishRequest { stream: "s".into(), events: vec![event], ..Default::default() }
}

fn attribute(name: &str) -> v1::PublishRequest {
    publish(Event { attributes: [(name.to_owned(), "x".into())].into(), ..Event::default() })
}

fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

#[tokio::test]
async fn names_have_rules_everywhere() {
    let server = server().await;
    let long = "x".repeat(256);
    for bad in ["", long.as_str(), "a\nb", "\u{7f}", "\u{85}", "a\0"] {
        let stream = || bad.to_owned();
        let s = || "s".to_owned();
        let g = || "g".to_owned();
        refused!(server.events().publish: v1::PublishRequest { stream: stream(), ..publish(event("x")) } => InvalidArgument "INVALID_NAME" "stream";);
        refused!(server.events().read_events: v1::ReadEventsRequest { stream: stream(), ..Default::default() } => InvalidArgument "INVALID_NAME" "stream";);
        refused!(server.events().tail_events: v1::TailEventsRequest { stream: stream(), ..Default::default() } => InvalidArgument "INVALID_NAME" "stream";);
        refused!(server.streams().create_stream: v1::CreateStreamRequest { stream: stream(), settings: None } => InvalidArgument "INVALID_NAME" "stream";);
        refused!(server.streams().get_stream: v1::GetStreamRequest { stream: stream() } => InvalidArgument "INVALID_NAME" "stream";);
        refused!(server.streams().update_stream: v1::UpdateStreamRequest { stream: stream(), ..Default::default() } => InvalidArgument "INVALID_NAME" "stream";);
        refused!(server.streams().delete_stream: v1::DeleteStreamRequest { stream: stream() } => InvalidArgument "INVALID_NAME" "stream";);
        refused!(server.streams().trim_stream: v1::TrimStreamRequest { stream: stream(), keep_entries: Some(0), ..Default::default() } => InvalidArgument "INVALID_NAME" "stream";);
        refused!(server.streams().delete_events: v1::DeleteEventsRequest { stream: stream(), ids: vec![id(1, 1)] } => InvalidArgument "INVALID_NAME" "stream";);
        refused!(server.consumers().create_group:
            v1::CreateGroupRequest { stream: stream(), group: g(), create_stream: true, ..Default::default() } => InvalidArgument "INVALID_NAME" "stream";
            v1::CreateGroupRequest { stream: s(), group: bad.into(), ..Default::default() } => InvalidArgument "INVALID_NAME" "group";
        );
        refused!(server.consumers().get_group: v1::GetGroupRequest { stream: s(), group: bad.into() } => InvalidArgument "INVALID_NAME" "group";);
        refused!(server.consumers().list_groups: v1::ListGroupsRequest { stream: stream() } => InvalidArgument "INVALID_NAME" "stream";);
        refused!(server.consumers().update_group: v1::UpdateGroupRequest { stream: s(), group: bad.into(), ..Default::default() } => InvalidArgument "INVALID_NAME" "group";);
        refused!(server.consumers().delete_group: v1::DeleteGroupRequest { stream: s(), group: bad.into() } => InvalidArgument "INVALID_NAME" "group";);
        refused!(server.consumers().seek_group: v1::SeekGroupRequest { stream: s(), group: bad.into(), ..Default::default() } => InvalidArgument "INVALID_NAME" "group";);
        refused!(server.consumers().pull:
            v1::PullRequest { stream: s(), group: bad.into(), consumer: "c".into(), ..Default::default() } => InvalidArgument "INVALID_NAME" "group";
            v1::PullRequest { stream: s(), group: g(), consumer: bad.into(), ..Default::default() } => InvalidArgument "INVALID_NAME" "consumer";
        );
        refused!(server.consumers().claim_pending: v1::ClaimPendingRequest { stream: s(), group: g(), consumer: bad.into(), ..Default::default() } => InvalidArgument "INVALID_NAME" "consumer";);
        refused!(server.consumers().remove_consumer: v1::RemoveConsumerRequest { stream: s(), group: g(), consumer: bad.into() } => InvalidArgument "INVALID_NAME" "consumer";);
        refused!(server.consumers().list_pending: v1::ListPendingRequest { stream: stream(), group: g(), ..Default::default() } => InvalidArgument "INVALID_NAME" "stream";);
        refused!(server.consumers().list_dead_letters: v1::ListDeadLettersRequest { stream: s(), group: bad.into(), ..Default::default() } => InvalidArgument "INVALID_NAME" "group";);
        let producer = Some(v1::ProducerSequence { producer_id: bad.into(), sequence: 1 });
        refused!(server.events().publish: v1::PublishRequest { producer, ..publish(event("x")) } => InvalidArgument "INVALID_NAME" "producer.producer_id";);
        if !bad.is_empty() {
            refused!(server.consumers().list_pending: v1::ListPendingRequest { stream: s(), group: g(), consumer: bad.into(), ..Default::default() } => InvalidArgument "INVALID_NAME" "consumer";);
            let settings = Some(v1::GroupSettings { dead_letter_stream: bad.into(), ..Default::default() });
            refused!(server.consumers().create_group: v1::CreateGroupRequest { stream: s(), group: "new".into(), settings, ..Default::default() } => InvalidArgument "INVALID_NAME" "settings.dead_letter_stream";);
            refused!(server.streams().list_streams: v1::ListStreamsRequest { page_token: bad.into(), ..Default::default() } => InvalidArgument "INVALID_ARGUMENT" "page_token";);
        }
    }
    let longest = "x".repeat(255);
    server.fill(&longest, 0..1).await;
    server.group(&longest, &longest, v1::GroupSettings::default()).await;
}

#[tokio::test]
async fn events_have_rules() {
    let server = server().await;
    let text = "x".repeat(1025);
    let many: std::collections::BTreeMap<_, _> = (0..65).map(|n| (format!("a{n}"), String::new())).collect();
    let long_name = "n".repeat(65);
    refused!(server.events().publish:
        publish(Event { id: text.clone(), ..event("x") }) => InvalidArgument "INVALID_EVENT" "events[0].id";
        publish(Event { source: "a\nb".into(), ..event("x") }) => InvalidArgument "INVALID_EVENT" "events[0].source";
        publish(Event { r#type: text.clone(), ..event("x") }) => InvalidArgument "INVALID_EVENT" "events[0].type";
        publish(Event { subject: "\u{7f}".into(), ..event("x") }) => InvalidArgument "INVALID_EVENT" "events[0].subject";
        publish(Event { data_content_type: "\u{85}".into(), ..event("x") }) => InvalidArgument "INVALID_EVENT" "events[0].data_content_type";
        publish(Event { data_schema: text.clone(), ..event("x") }) => InvalidArgument "INVALID_EVENT" "events[0].data_schema";
        publish(Event { key: text.clone(), ..event("x") }) => InvalidArgument "INVALID_EVENT" "events[0].key";
        publish(Event { time: Some(Timestamp { seconds: 253_402_300_800, nanos: 0 }), ..event("x") }) => InvalidArgument "INVALID_EVENT" "events[0].time";
        publish(Event { time: Some(Timestamp { seconds: 0, nanos: -1 }), ..event("x") }) => InvalidArgument "INVALID_EVENT" "events[0].time";
        publish(Event { deliver_at: Some(Timestamp { seconds: 1, nanos: 0 }), ..event("x") }) => Unimplemented "UNSUPPORTED" "events[0].deliver_at";
        publish(Event { deliver_at: Some(Timestamp::default()), ..event("x") }) => Unimplemented "UNSUPPORTED" "events[0].deliver_at";
        publish(Event { attributes: many, ..event("x") }) => InvalidArgument "INVALID_EVENT" "events[0].attributes";
        attribute("") => InvalidArgument "INVALID_EVENT" "events[0].attributes[\"\"]";
        attribute("Upper") => InvalidArgument "INVALID_EVENT" "events[0].attributes[\"Upper\"]";
        attribute("ü") => InvalidArgument "INVALID_EVENT" "events[0].attributes[\"ü\"]";
        attribute("synapse") => InvalidArgument "INVALID_EVENT" "events[0].attributes[\"synapse\"]";
        attribute("synapse.x") => InvalidArgument "INVALID_EVENT" "events[0].attributes[\"synapse.x\"]";
        attribute("specversion") => InvalidArgument "INVALID_EVENT" "events[0].attributes[\"specversion\"]";
        publish(big(1 << 20)) => InvalidArgument "EVENT_TOO_LARGE" "events[0]";
        v1::PublishRequest { events: vec![], ..publish(event("x")) } => InvalidArgument "INVALID_ARGUMENT" "events";
        v1::PublishRequest { events: vec![event("x"); 1001], ..publish(event("x")) } => InvalidArgument "BATCH_TOO_LARGE" "events";
        v1::PublishRequest { events: vec![big(1_000_000); 4], ..publish(event("x")) } => InvalidArgument "BATCH_TOO_LARGE" "events";
        v1::PublishRequest { events: vec![event("good"), Event { id: "\n".into(), ..event("x") }], ..publish(event("x")) } => InvalidArgument "INVALID_EVENT" "events[1].id";
    );
    let status = failed("a long name", server.events().publish(attribute(&long_name)).await);
    assert_refused(
        "a long name",
        &status,
        Code::InvalidArgument,
        "INVALID_EVENT",
        &format!("events[0].attributes[\"{long_name}\"]"),
    );
    for name in
        ["id", "source", "type", "time", "subject", "key", "data", "datacontenttype", "dataschema", "deliver_at"]
    {
        let status = failed(name, server.events().publish(attribute(name)).await);
        let field = format!("events[0].attributes[\"{name}\"]");
        assert_refused(name, &status, Code::InvalidArgument, "INVALID_EVENT", &field);
    }
    // At the bounds all is well.
    let text = "x".repeat(1024);
    let full = Event { id: text.clone(), source: text.clone(), r#type: text.clone(), subject: text, ..event("x") };
    server.publish("s", vec![full; 800]).await;
    server.publish("s", vec![big((1 << 20) - 4)]).await;
}

#[tokio::test]
async fn publishes_do_not_contradict_themselves() {
    use publish_request::Ids;
    let server = server().await;
    let last = server.stream_info("s").await.last_id.expect("always set");
    let by = |ids| v1::PublishRequest { ids: Some(ids), ..publish(event("x")) };
    refused!(server.events().publish:
        by(Ids::ExactId(last)) => FailedPrecondition "ID_NOT_GREATER" "";
        by(Ids::ExactId(id(1, 0))) => FailedPrecondition "ID_NOT_GREATER" "";
        by(Ids::ExactId(id(0, 0))) => FailedPrecondition "ID_NOT_GREATER" "";
        by(Ids::IdMs(1)) => FailedPrecondition "ID_NOT_GREATER" "";
        v1::PublishRequest { events: vec![event("x"); 2], ..by(Ids::ExactId(id(u64::MAX, 0))) } => InvalidArgument "INVALID_ARGUMENT" "ids";
        v1::PublishRequest { expected: Some(v1::Expected::default()), ..publish(event("x")) } => InvalidArgument "INVALID_ARGUMENT" "expected";
        v1::PublishRequest { durability: 3, ..publish(event("x")) } => InvalidArgument "INVALID_ARGUMENT" "durability";
        v1::PublishRequest { durability: -1, ..publish(event("x")) } => InvalidArgument "INVALID_ARGUMENT" "durability";
    );
}

#[tokio::test]
async fn reads_have_bounds() {
    use read_events_request::{End, Start};
    let server = server().await;
    let s = || v1::ReadEventsRequest { stream: "s".into(), ..Default::default() };
    let bad = Timestamp { seconds: 0, nanos: 1_000_000_000 };
    refused!(server.events().read_events:
        v1::ReadEventsRequest { stream: "none".into(), ..s() } => NotFound "STREAM_NOT_FOUND" "";
        v1::ReadEventsRequest { entries_max: 10_001, ..s() } => InvalidArgument "INVALID_ARGUMENT" "entries_max";
        v1::ReadEventsRequest { bytes_max: (1 << 20) + 1, ..s() } => InvalidArgument "INVALID_ARGUMENT" "bytes_max";
        v1::ReadEventsRequest { filter: "true".into(), ..s() } => Unimplemented "UNSUPPORTED" "filter";
        v1::ReadEventsRequest { start: Some(Start::FirstId(id(2, 0))), end: Some(End::LastId(id(1, 9))), ..s() } => InvalidArgument "INVALID_ID" "start";
        v1::ReadEventsRequest { start: Some(Start::FirstTime(bad)), ..s() } => InvalidArgument "INVALID_ARGUMENT" "first_time";
        v1::ReadEventsRequest { end: Some(End::LastTime(bad)), ..s() } => InvalidArgument "INVALID_ARGUMENT" "last_time";
    );
    let tail = || v1::TailEventsRequest { stream: "s".into(), ..Default::default() };
    let nowhere = || Some(v1::Position { position: None });
    let timeless = Some(v1::Position { position: Some(position::Position::Time(bad)) });
    refused!(server.events().tail_events:
        v1::TailEventsRequest { stream: "none".into(), ..tail() } => NotFound "STREAM_NOT_FOUND" "";
        v1::TailEventsRequest { from: nowhere(), ..tail() } => InvalidArgument "INVALID_ARGUMENT" "from";
        v1::TailEventsRequest { from: timeless, ..tail() } => InvalidArgument "INVALID_ARGUMENT" "from";
        v1::TailEventsRequest { entries_max: 10_001, ..tail() } => InvalidArgument "INVALID_ARGUMENT" "entries_max";
        v1::TailEventsRequest { bytes_max: u32::MAX, ..tail() } => InvalidArgument "INVALID_ARGUMENT" "bytes_max";
        v1::TailEventsRequest { filter: "true".into(), ..tail() } => Unimplemented "UNSUPPORTED" "filter";
    );
}

#[tokio::test]
async fn streams_are_not_changed_by_bad_requests() {
    let server = server().await;
    let with = |settings| v1::CreateStreamRequest { stream: "new".into(), settings: Some(settings) };
    let retention = |retention| with(v1::StreamSettings { retention: Some(retention), ..Default::default() });
    let dedup = |dedup| with(v1::StreamSettings { dedup: Some(dedup), ..Default::default() });
    refused!(server.streams().create_stream:
        v1::CreateStreamRequest { stream: "s".into(), settings: None } => AlreadyExists "STREAM_EXISTS" "";
        with(v1::StreamSettings { description: "x".repeat(1025), ..Default::default() }) => InvalidArgument "INVALID_ARGUMENT" "settings.description";
        with(v1::StreamSettings { durability: 9, ..Default::default() }) => InvalidArgument "INVALID_ARGUMENT" "settings.durability";
        retention(v1::Retention { entries_max: Some(0), ..Default::default() }) => InvalidArgument "INVALID_ARGUMENT" "settings.retention.entries_max";
        retention(v1::Retention { bytes_max: Some(0), ..Default::default() }) => InvalidArgument "INVALID_ARGUMENT" "settings.retention.bytes_max";
        retention(v1::Retention { age_max: seconds(-1), ..Default::default() }) => InvalidArgument "INVALID_ARGUMENT" "settings.retention.age_max";
        retention(v1::Retention { age_max: seconds(0), ..Default::default() }) => InvalidArgument "INVALID_ARGUMENT" "settings.retention.age_max";
        dedup(v1::DedupSettings { window: seconds(i64::MAX), ..Default::default() }) => InvalidArgument "INVALID_ARGUMENT" "settings.dedup.window";
        dedup(v1::DedupSettings { producers_max: Some(10_001), ..Default::default() }) => InvalidArgument "INVALID_ARGUMENT" "settings.dedup.producers_max";
        dedup(v1::DedupSettings { event_ids_max: Some(100_001), ..Default::default() }) => InvalidArgument "INVALID_ARGUMENT" "settings.dedup.event_ids_max";
    );
    refused!(server.streams().get_stream: v1::GetStreamRequest { stream: "none".into() } => NotFound "STREAM_NOT_FOUND" "";);
    refused!(server.streams().delete_stream: v1::DeleteStreamRequest { stream: "none".into() } => NotFound "STREAM_NOT_FOUND" "";);
    refused!(server.streams().update_stream:
        v1::UpdateStreamRequest { stream: "none".into(), ..Default::default() } => NotFound "STREAM_NOT_FOUND" "";
        v1::UpdateStreamRequest { stream: "s".into(), settings: None, update_mask: Some(FieldMask { paths: vec!["name".into()] }) } => InvalidArgument "INVALID_ARGUMENT" "update_mask";
        v1::UpdateStreamRequest { stream: "s".into(), settings: Some(v1::StreamSettings { durability: 9, ..Default::default() }), update_mask: None } => InvalidArgument "INVALID_ARGUMENT" "settings.durability";
    );
    let trim = || v1::TrimStreamRequest { stream: "s".into(), ..Default::default() };
    let bad = Timestamp { seconds: i64::MAX, nanos: 0 };
    refused!(server.streams().trim_stream:
        v1::TrimStreamRequest { stream: "none".into(), keep_entries: Some(0), ..trim() } => NotFound "STREAM_NOT_FOUND" "";
        trim() => InvalidArgument "INVALID_ARGUMENT" "keep_entries";
        v1::TrimStreamRequest { keep_entries: Some(0), keep_bytes: Some(0), ..trim() } => InvalidArgument "INVALID_ARGUMENT" "keep_bytes";
        v1::TrimStreamRequest { before_id: Some(id(9, 9)), keep_entries: Some(1), ..trim() } => InvalidArgument "INVALID_ARGUMENT" "keep_entries";
        v1::TrimStreamRequest { before_id: Some(id(9, 9)), before_time: Some(Timestamp::default()), ..trim() } => InvalidArgument "INVALID_ARGUMENT" "before_time";
        v1::TrimStreamRequest { before_time: Some(bad), ..trim() } => InvalidArgument "INVALID_ARGUMENT" "before_time";
    );
    refused!(server.streams().delete_events:
        v1::DeleteEventsRequest { stream: "none".into(), ids: vec![id(1, 1)] } => NotFound "STREAM_NOT_FOUND" "";
        v1::DeleteEventsRequest { stream: "s".into(), ids: vec![] } => InvalidArgument "INVALID_ARGUMENT" "ids";
        v1::DeleteEventsRequest { stream: "s".into(), ids: vec![id(1, 1); 100_001] } => InvalidArgument "BATCH_TOO_LARGE" "ids";
    );
    refused!(server.streams().list_streams:
        v1::ListStreamsRequest { page_size: 1001, ..Default::default() } => InvalidArgument "INVALID_ARGUMENT" "page_size";
    );
}

#[tokio::test]
async fn groups_are_not_changed_by_bad_requests() {
    let server = server().await;
    let new = || v1::CreateGroupRequest { stream: "s".into(), group: "new".into(), ..Default::default() };
    let with = |settings| v1::CreateGroupRequest { settings: Some(settings), ..new() };
    let nowhere = || Some(v1::Position { position: None });
    refused!(server.consumers().create_group:
        v1::CreateGroupRequest { group: "g".into(), ..new() } => AlreadyExists "GROUP_EXISTS" "";
        v1::CreateGroupRequest { stream: "none".into(), ..new() } => NotFound "STREAM_NOT_FOUND" "";
        v1::CreateGroupRequest { start: nowhere(), ..new() } => InvalidArgument "INVALID_ARGUMENT" "start";
        with(v1::GroupSettings { filter: "true".into(), ..Default::default() }) => Unimplemented "UNSUPPORTED" "settings.filter";
        with(v1::GroupSettings { ack_wait: seconds(7 * 86_400 + 1), ..Default::default() }) => InvalidArgument "INVALID_ARGUMENT" "settings.ack_wait";
        with(v1::GroupSettings { ack_wait: seconds(-1), ..Default::default() }) => InvalidArgument "INVALID_ARGUMENT" "settings.ack_wait";
        with(v1::GroupSettings { backoff: vec![Duration::default(), Duration { seconds: 0, nanos: -5 }], ..Default::default() }) => InvalidArgument "INVALID_ARGUMENT" "settings.backoff[1]";
        with(v1::GroupSettings { backoff: vec![Duration::default(); 33], ..Default::default() }) => InvalidArgument "INVALID_ARGUMENT" "settings.backoff";
        with(v1::GroupSettings { dispatch: 4, ..Default::default() }) => InvalidArgument "INVALID_ARGUMENT" "settings.dispatch";
        with(v1::GroupSettings { pending_max: 10_000_001, ..Default::default() }) => InvalidArgument "INVALID_ARGUMENT" "settings.pending_max";
        with(v1::GroupSettings { description: "x".repeat(1025), ..Default::default() }) => InvalidArgument "INVALID_ARGUMENT" "settings.description";
    );
    let none = || "none".to_owned();
    refused!(server.consumers().get_group:
        v1::GetGroupRequest { stream: "s".into(), group: none() } => NotFound "GROUP_NOT_FOUND" "";
        v1::GetGroupRequest { stream: none(), group: "g".into() } => NotFound "STREAM_NOT_FOUND" "";
    );
    refused!(server.consumers().list_groups: v1::ListGroupsRequest { stream: none() } => NotFound "STREAM_NOT_FOUND" "";);
    refused!(server.consumers().delete_group: v1::DeleteGroupRequest { stream: "s".into(), group: none() } => NotFound "GROUP_NOT_FOUND" "";);
    let g = || v1::UpdateGroupRequest { stream: "s".into(), group: "g".into(), ..Default::default() };
    refused!(server.consumers().update_group:
        v1::UpdateGroupRequest { group: none(), ..g() } => NotFound "GROUP_NOT_FOUND" "";
        v1::UpdateGroupRequest { update_mask: Some(FieldMask { paths: vec!["nothing".into()] }), ..g() } => InvalidArgument "INVALID_ARGUMENT" "update_mask";
        v1::UpdateGroupRequest { settings: Some(v1::GroupSettings { dispatch: 9, ..Default::default() }), ..g() } => InvalidArgument "INVALID_ARGUMENT" "settings.dispatch";
        v1::UpdateGroupRequest { settings: Some(v1::GroupSettings { filter: "x".into(), ..Default::default() }), update_mask: Some(FieldMask { paths: vec!["filter".into()] }), ..g() } => Unimplemented "UNSUPPORTED" "settings.filter";
    );
    let to = |position| Some(v1::Position { position: Some(position) });
    let seek = || v1::SeekGroupRequest { stream: "s".into(), group: "g".into(), ..Default::default() };
    refused!(server.consumers().seek_group:
        seek() => InvalidArgument "INVALID_ARGUMENT" "to";
        v1::SeekGroupRequest { to: nowhere(), ..seek() } => InvalidArgument "INVALID_ARGUMENT" "to";
        v1::SeekGroupRequest { group: none(), to: to(position::Position::Earliest(())), ..seek() } => NotFound "GROUP_NOT_FOUND" "";
        v1::SeekGroupRequest { to: to(position::Position::Time(Timestamp { seconds: 0, nanos: -1 })), ..seek() } => InvalidArgument "INVALID_ARGUMENT" "to";
    );
    refused!(server.consumers().remove_consumer:
        v1::RemoveConsumerRequest { stream: "s".into(), group: "g".into(), consumer: none() } => NotFound "CONSUMER_NOT_FOUND" "";
        v1::RemoveConsumerRequest { stream: "s".into(), group: none(), consumer: "c".into() } => NotFound "GROUP_NOT_FOUND" "";
    );
}

#[tokio::test]
async fn deliveries_are_not_changed_by_bad_requests() {
    use v1::acknowledge_request::Holder;
    let server = server().await;
    let first = server.stream_info("s").await.first_id.expect("there are entries");
    let pull =
        || v1::PullRequest { stream: "s".into(), group: "g".into(), consumer: "new".into(), ..Default::default() };
    refused!(server.consumers().pull:
        v1::PullRequest { stream: "none".into(), ..pull() } => NotFound "STREAM_NOT_FOUND" "";
        v1::PullRequest { group: "none".into(), ..pull() } => NotFound "GROUP_NOT_FOUND" "";
        v1::PullRequest { entries_max: 10_001, ..pull() } => InvalidArgument "INVALID_ARGUMENT" "entries_max";
        v1::PullRequest { bytes_max: (1 << 20) + 1, ..pull() } => InvalidArgument "INVALID_ARGUMENT" "bytes_max";
        v1::PullRequest { wait: seconds(301), ..pull() } => InvalidArgument "INVALID_ARGUMENT" "wait";
        v1::PullRequest { wait: seconds(-1), ..pull() } => InvalidArgument "INVALID_ARGUMENT" "wait";
        v1::PullRequest { filter: "true".into(), ..pull() } => Unimplemented "UNSUPPORTED" "filter";
    );
    let ack = || v1::AcknowledgeRequest {
        stream: "s".into(),
        group: "g".into(),
        ids: vec![one(first)],
        ..Default::default()
    };
    let token = |token: &str| Some(Holder::DeliveryToken(token.into()));
    let by_c = || Some(Holder::Consumer("c".into()));
    let riding = |publish| v1::AcknowledgeRequest { holder: by_c(), publish, ..ack() };
    refused!(server.consumers().acknowledge:
        v1::AcknowledgeRequest { stream: "none".into(), ..ack() } => NotFound "STREAM_NOT_FOUND" "";
        v1::AcknowledgeRequest { group: "none".into(), ..ack() } => NotFound "GROUP_NOT_FOUND" "";
        v1::AcknowledgeRequest { ids: vec![], ..ack() } => InvalidArgument "INVALID_ARGUMENT" "ids";
        v1::AcknowledgeRequest { ids: vec![one(first); 100_001], ..ack() } => InvalidArgument "BATCH_TOO_LARGE" "ids";
        v1::AcknowledgeRequest { ids: vec![one(first), v1::IdRange::default()], ..ack() } => InvalidArgument "INVALID_ARGUMENT" "ids[1].first";
        v1::AcknowledgeRequest { ids: vec![v1::IdRange { first: Some(id(2, 0)), last: Some(id(1, 0)) }], ..ack() } => InvalidArgument "INVALID_ID" "ids[0].last";
        v1::AcknowledgeRequest { holder: token("x"), ..ack() } => InvalidArgument "INVALID_ARGUMENT" "delivery_token";
        v1::AcknowledgeRequest { holder: token(""), ..ack() } => InvalidArgument "INVALID_ARGUMENT" "delivery_token";
        v1::AcknowledgeRequest { holder: Some(Holder::Consumer(String::new())), ..ack() } => InvalidArgument "INVALID_NAME" "consumer";
        riding(vec![publish(event("good")), publish(Event { id: "\n".into(), ..event("x") })]) => InvalidArgument "INVALID_EVENT" "publish[1].events[0].id";
        riding(vec![publish(event("x")), publish(event("x"))]) => InvalidArgument "INVALID_ARGUMENT" "publish";
        riding(vec![v1::PublishRequest { stream: "none".into(), create_stream: Some(false), ..publish(event("x")) }]) => NotFound "STREAM_NOT_FOUND" "";
        riding(vec![v1::PublishRequest { expected: Some(v1::Expected { condition: Some(v1::expected::Condition::Empty(())) }), ..publish(event("x")) }]) => FailedPrecondition "ID_CONFLICT" "";
        v1::AcknowledgeRequest { ids: vec![one(first), one(id(77, 7))], ..riding(vec![publish(event("x"))]) } => FailedPrecondition "NOT_HELD" "";
        v1::AcknowledgeRequest { holder: token("999"), ..riding(vec![publish(event("x"))]) } => FailedPrecondition "NOT_HELD" "";
    );
    let nack =
        || v1::NackRequest { stream: "s".into(), group: "g".into(), ids: vec![one(first)], ..Default::default() };
    let action = |action| Some(v1::NackAction { action: Some(action) });
    let retry = |delay| action(nack_action::Action::Retry(nack_action::Retry { delay }));
    let dead = |reason: String| action(nack_action::Action::DeadLetter(nack_action::DeadLetter { reason }));
    refused!(server.consumers().nack:
        nack() => InvalidArgument "INVALID_ARGUMENT" "action";
        v1::NackRequest { action: Some(v1::NackAction::default()), ..nack() } => InvalidArgument "INVALID_ARGUMENT" "action";
        v1::NackRequest { action: retry(seconds(7 * 86_400 + 1)), ..nack() } => InvalidArgument "INVALID_ARGUMENT" "action.retry.delay";
        v1::NackRequest { action: retry(seconds(-1)), ..nack() } => InvalidArgument "INVALID_ARGUMENT" "action.retry.delay";
        v1::NackRequest { action: dead("x".repeat(1025)), ..nack() } => InvalidArgument "INVALID_ARGUMENT" "action.dead_letter.reason";
        v1::NackRequest { group: "none".into(), action: retry(None), ..nack() } => NotFound "GROUP_NOT_FOUND" "";
        v1::NackRequest { ids: vec![], action: retry(None), ..nack() } => InvalidArgument "INVALID_ARGUMENT" "ids";
    );
    let extend = || v1::ExtendLeaseRequest {
        stream: "s".into(),
        group: "g".into(),
        ids: vec![one(first)],
        ..Default::default()
    };
    refused!(server.consumers().extend_lease:
        v1::ExtendLeaseRequest { lease: seconds(0), ..extend() } => InvalidArgument "INVALID_ARGUMENT" "lease";
        v1::ExtendLeaseRequest { lease: seconds(7 * 86_400 + 1), ..extend() } => InvalidArgument "INVALID_ARGUMENT" "lease";
        v1::ExtendLeaseRequest { ids: vec![], ..extend() } => InvalidArgument "INVALID_ARGUMENT" "ids";
        v1::ExtendLeaseRequest { group: "none".into(), ..extend() } => NotFound "GROUP_NOT_FOUND" "";
    );
}

#[tokio::test]
async fn pending_entries_and_dead_letters_are_not_changed_by_bad_requests() {
    use v1::dead_letter_choice::{Choice, Ids};
    let server = server().await;
    let first = server.stream_info("s").await.first_id.expect("there are entries");
    let list = || v1::ListPendingRequest { stream: "s".into(), group: "g".into(), ..Default::default() };
    let backwards = Some(v1::IdRange { first: Some(id(2, 0)), last: Some(id(1, 0)) });
    refused!(server.consumers().list_pending:
        v1::ListPendingRequest { group: "none".into(), ..list() } => NotFound "GROUP_NOT_FOUND" "";
        v1::ListPendingRequest { entries_max: 10_001, ..list() } => InvalidArgument "INVALID_ARGUMENT" "entries_max";
        v1::ListPendingRequest { range: Some(v1::IdRange::default()), ..list() } => InvalidArgument "INVALID_ARGUMENT" "range.first";
        v1::ListPendingRequest { range: backwards, ..list() } => InvalidArgument "INVALID_ID" "range.last";
        v1::ListPendingRequest { idle_min: seconds(-1), ..list() } => InvalidArgument "INVALID_ARGUMENT" "idle_min";
    );
    let claim = || v1::ClaimPendingRequest {
        stream: "s".into(),
        group: "g".into(),
        consumer: "new".into(),
        ..Default::default()
    };
    refused!(server.consumers().claim_pending:
        v1::ClaimPendingRequest { group: "none".into(), ..claim() } => NotFound "GROUP_NOT_FOUND" "";
        v1::ClaimPendingRequest { ids: vec![first], entries_max: 1, ..claim() } => InvalidArgument "INVALID_ARGUMENT" "ids";
        v1::ClaimPendingRequest { ids: vec![first], first_id: Some(first), ..claim() } => InvalidArgument "INVALID_ARGUMENT" "ids";
        v1::ClaimPendingRequest { ids: vec![first; 100_001], ..claim() } => InvalidArgument "BATCH_TOO_LARGE" "ids";
        v1::ClaimPendingRequest { entries_max: 10_001, ..claim() } => InvalidArgument "INVALID_ARGUMENT" "entries_max";
        v1::ClaimPendingRequest { idle_min: seconds(i64::MAX), ..claim() } => InvalidArgument "INVALID_ARGUMENT" "idle_min";
    );
    refused!(server.consumers().list_dead_letters:
        v1::ListDeadLettersRequest { stream: "s".into(), group: "none".into(), ..Default::default() } => NotFound "GROUP_NOT_FOUND" "";
        v1::ListDeadLettersRequest { stream: "s".into(), group: "g".into(), entries_max: 1001, ..Default::default() } => InvalidArgument "INVALID_ARGUMENT" "entries_max";
    );
    let which = |choice| Some(v1::DeadLetterChoice { choice: Some(choice) });
    let redrive = || v1::RedriveDeadLettersRequest {
        stream: "s".into(),
        group: "g".into(),
        which: which(Choice::All(())),
        target: v1::RedriveTarget::Stream as i32,
        ..Default::default()
    };
    refused!(server.consumers().redrive_dead_letters:
        v1::RedriveDeadLettersRequest { target: 0, ..redrive() } => InvalidArgument "INVALID_ARGUMENT" "target";
        v1::RedriveDeadLettersRequest { target: 3, ..redrive() } => InvalidArgument "INVALID_ARGUMENT" "target";
        v1::RedriveDeadLettersRequest { which: None, ..redrive() } => InvalidArgument "INVALID_ARGUMENT" "which";
        v1::RedriveDeadLettersRequest { which: Some(v1::DeadLetterChoice::default()), ..redrive() } => InvalidArgument "INVALID_ARGUMENT" "which";
        v1::RedriveDeadLettersRequest { which: which(Choice::Ids(Ids { ids: vec![] })), ..redrive() } => InvalidArgument "INVALID_ARGUMENT" "which.ids";
        v1::RedriveDeadLettersRequest { filter: "x".into(), ..redrive() } => Unimplemented "UNSUPPORTED" "filter";
        v1::RedriveDeadLettersRequest { entries_per_second_max: 1, ..redrive() } => Unimplemented "UNSUPPORTED" "entries_per_second_max";
        v1::RedriveDeadLettersRequest { replacement: Some(event("x")), ..redrive() } => Unimplemented "UNSUPPORTED" "replacement";
        v1::RedriveDeadLettersRequest { group: "none".into(), ..redrive() } => NotFound "GROUP_NOT_FOUND" "";
    );
    let purge = || v1::PurgeDeadLettersRequest { stream: "s".into(), group: "g".into(), which: which(Choice::All(())) };
    refused!(server.consumers().purge_dead_letters:
        v1::PurgeDeadLettersRequest { which: None, ..purge() } => InvalidArgument "INVALID_ARGUMENT" "which";
        v1::PurgeDeadLettersRequest { which: which(Choice::Ids(Ids { ids: vec![id(1, 1); 100_001] })), ..purge() } => InvalidArgument "BATCH_TOO_LARGE" "which.ids";
        v1::PurgeDeadLettersRequest { group: "none".into(), ..purge() } => NotFound "GROUP_NOT_FOUND" "";
    );
}

#[tokio::test]
async fn sessions_that_begin_wrong_end_at_once() {
    use v1::consume_request::Request;
    let server = server().await;
    let before = server.snapshot().await;
    let good =
        || v1::ConsumeOpen { stream: "s".into(), group: "g".into(), consumer: "new".into(), ..Default::default() };
    let window = |entries_max, bytes_max| Some(v1::ConsumeFlow { entries_max, bytes_max });
    let cases: Vec<(Option<Request>, Code, &str, &str)> = vec![
        (None, Code::InvalidArgument, "INVALID_ARGUMENT", "open"),
        (Some(Request::Drain(v1::ConsumeDrain {})), Code::InvalidArgument, "INVALID_ARGUMENT", "open"),
        (Some(Request::Ack(v1::ConsumeAck::default())), Code::InvalidArgument, "INVALID_ARGUMENT", "open"),
        (
            Some(Request::Open(v1::ConsumeOpen { stream: "\n".into(), ..good() })),
            Code::InvalidArgument,
            "INVALID_NAME",
            "open.stream",
        ),
        (
            Some(Request::Open(v1::ConsumeOpen { group: String::new(), ..good() })),
            Code::InvalidArgument,
            "INVALID_NAME",
            "open.group",
        ),
        (
            Some(Request::Open(v1::ConsumeOpen { consumer: String::new(), ..good() })),
            Code::InvalidArgument,
            "INVALID_NAME",
            "open.consumer",
        ),
        (
            Some(Request::Open(v1::ConsumeOpen { stream: "none".into(), ..good() })),
            Code::NotFound,
            "STREAM_NOT_FOUND",
            "",
        ),
        (
            Some(Request::Open(v1::ConsumeOpen { group: "none".into(), ..good() })),
            Code::NotFound,
            "GROUP_NOT_FOUND",
            "",
        ),
        (
            Some(Request::Open(v1::ConsumeOpen { filter: "x".into(), ..good() })),
            Code::Unimplemented,
            "UNSUPPORTED",
            "open.filter",
        ),
        (
            Some(Request::Open(v1::ConsumeOpen { window: window(100_001, 0), ..good() })),
            Code::InvalidArgument,
            "INVALID_ARGUMENT",
            "open.window.entries_max",
        ),
        (
            Some(Request::Open(v1::ConsumeOpen { window: window(1, (64 << 20) + 1), ..good() })),
            Code::InvalidArgument,
            "INVALID_ARGUMENT",
            "open.window.bytes_max",
        ),
    ];
    for (request, code, reason, field) in cases {
        let what = format!("{request:?}");
        let first = tokio_stream::once(v1::ConsumeRequest { request });
        let status = match server.consumers().consume(first).await {
            Err(status) => status,
            Ok(answers) => next(&mut answers.into_inner()).await.expect_err("it must be refused"),
        };
        assert_refused(&what, &status, code, reason, field);
        assert_eq!(server.snapshot().await, before, "{what} changed something");
    }
}
