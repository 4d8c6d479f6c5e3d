//! API keys over gRPC: every call asks for one, and for the grant that it needs; health and reflection ask for none.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use synapse::access::{ApiKey, Grant, Permission};
use synapse::proto::v1::backup_service_client::BackupServiceClient;
use synapse::proto::v1::consumer_service_client::ConsumerServiceClient;
use synapse::proto::v1::event_service_client::EventServiceClient;
use synapse::proto::v1::stream_service_client::StreamServiceClient;
use synapse::proto::v1::{self, acknowledge_request, position};
use synapse::server::settings::ApiKeys;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::grpc::{Server, event, id, next, one};

const EVERYTHING: [Permission; 4] = [Permission::Publish, Permission::Consume, Permission::Read, Permission::Admin];

fn key(name: &str, streams: &str, permissions: &[Permission]) -> ApiKey {
    // The secret is the name: these are tests.
    let sha256 = Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let grants = vec![Grant { streams: streams.into(), permissions: permissions.into() }];
    ApiKey { name: name.into(), sha256, grants }
}

async fn server() -> Server {
    let keys = vec![
        key("publisher", "s*", &[Permission::Publish]),
        key("consumer", "s*", &[Permission::Consume]),
        key("reader", "s*", &[Permission::Read]),
        key("admin", "s*", &[Permission::Admin]),
        key("elsewhere", "other-*", &EVERYTHING),
        key("root", "*", &EVERYTHING),
    ];
    Server::start_with(|settings| settings.api_keys = ApiKeys(keys)).await
}

/// A request with this authorization.
fn with<T>(authorization: Option<&str>, request: T) -> Request<T> {
    let mut request = Request::new(request);
    if let Some(value) = authorization {
        request.metadata_mut().insert("authorization", value.parse().expect("text"));
    }
    request
}

/// What a call came to.
fn outcome<T>(answer: Result<T, Status>) -> (Code, String) {
    match answer {
        Ok(_) => (Code::Ok, String::new()),
        Err(status) => {
            let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
            (status.code(), reason.unwrap_or_default())
        }
    }
}

fn publish(stream: &str) -> v1::PublishRequest {
    v1::PublishRequest { stream: stream.into(), events: vec![event("x")], ..Default::default() }
}

/// Calls every RPC about the stream `s` and its group `g` and says what came of it. Those that would change something
/// name what does not exist, so that they may be called again.
async fn call_all(server: &Server, authorization: Option<&str>) -> BTreeMap<&'static str, (Code, String)> {
    let mut found = BTreeMap::new();
    let (s, g) = (|| "s".to_owned(), || "g".to_owned());
    macro_rules! call {
        ($client:expr, $($rpc:ident: $request:expr,)+) => {
            $(found.insert(stringify!($rpc), outcome($client.$rpc(with(authorization, $request)).await));)+
        };
    }
    let mut events = EventServiceClient::new(server.channel.clone());
    call!(events,
        publish: publish("s"),
        read_events: v1::ReadEventsRequest { stream: s(), ..Default::default() },
        tail_events: v1::TailEventsRequest { stream: s(), ..Default::default() },
    );
    let mut streams = StreamServiceClient::new(server.channel.clone());
    call!(streams,
        create_stream: v1::CreateStreamRequest { stream: s(), settings: None },
        get_stream: v1::GetStreamRequest { stream: s() },
        list_streams: v1::ListStreamsRequest::default(),
        update_stream: v1::UpdateStreamRequest { stream: s(), ..Default::default() },
        delete_stream: v1::DeleteStreamRequest { stream: "s-none".into() },
        trim_stream: v1::TrimStreamRequest { stream: s(), keep_entries: Some(1000), ..Default::default() },
        delete_events: v1::DeleteEventsRequest { stream: s(), ids: vec![id(9, 9)] },
    );
    let all = || Some(v1::DeadLetterChoice { choice: Some(v1::dead_letter_choice::Choice::All(())) });
    let to = Some(v1::Position { position: Some(position::Position::Earliest(())) });
    let skip = Some(v1::NackAction { action: Some(v1::nack_action::Action::Skip(())) });
    let consumer = || "c".to_owned();
    let by_c = Some(acknowledge_request::Holder::Consumer(consumer()));
    let nack_by_c = Some(v1::nack_request::Holder::Consumer(consumer()));
    let extend_by_c = Some(v1::extend_lease_request::Holder::Consumer(consumer()));
    let ids = || vec![one(id(9, 9))];
    let mut consumers = ConsumerServiceClient::new(server.channel.clone());
    call!(consumers,
        pull: v1::PullRequest { stream: s(), group: g(), consumer: consumer(), ..Default::default() },
        acknowledge: v1::AcknowledgeRequest { stream: s(), group: g(), ids: ids(), holder: by_c, publish: vec![] },
        nack: v1::NackRequest { stream: s(), group: g(), ids: ids(), holder: nack_by_c, action: skip },
        extend_lease: v1::ExtendLeaseRequest { stream: s(), group: g(), ids: ids(), holder: extend_by_c, lease: None },
        create_group: v1::CreateGroupRequest { stream: s(), group: g(), ..Default::default() },
        get_group: v1::GetGroupRequest { stream: s(), group: g() },
        list_groups: v1::ListGroupsRequest { stream: s() },
        update_group: v1::UpdateGroupRequest { stream: s(), group: g(), ..Default::default() },
        delete_group: v1::DeleteGroupRequest { stream: s(), group: "none".into() },
        seek_group: v1::SeekGroupRequest { stream: s(), group: g(), to, dry_run: true },
        list_pending: v1::ListPendingRequest { stream: s(), group: g(), ..Default::default() },
        claim_pending: v1::ClaimPendingRequest { stream: s(), group: g(), consumer: consumer(), ..Default::default() },
        remove_consumer: v1::RemoveConsumerRequest { stream: s(), group: g(), consumer: "none".into() },
        list_dead_letters: v1::ListDeadLettersRequest { stream: s(), group: g(), ..Default::default() },
        redrive_dead_letters: v1::RedriveDeadLettersRequest { stream: s(), group: g(), which: all(), target: 1, ..Default::default() },
        purge_dead_letters: v1::PurgeDeadLettersRequest { stream: s(), group: g(), which: all() },
    );
    let open = v1::ConsumeOpen { stream: s(), group: g(), consumer: consumer(), ..Default::default() };
    let open = v1::ConsumeRequest { request: Some(v1::consume_request::Request::Open(open)) };
    let consumed = match consumers.consume(with(authorization, tokio_stream::once(open))).await {
        Ok(answers) => next(&mut answers.into_inner()).await.map(drop),
        Err(status) => Err(status),
    };
    found.insert("consume", outcome(consumed));
    let request = tokio_stream::once(v1::PublishStreamRequest { seq: 1, publish: Some(publish("s")) });
    let published = match events.publish_stream(with(authorization, request)).await {
        Ok(answers) => match next(&mut answers.into_inner()).await.map(|a| a.and_then(|a| a.result)) {
            Ok(Some(v1::publish_stream_response::Result::Error(error))) => (Code::from(error.code), error.reason),
            other => outcome(other),
        },
        Err(status) => outcome::<()>(Err(status)),
    };
    found.insert("publish_stream", published);
    found
}

#[tokio::test]
async fn every_call_needs_a_key_with_the_grant() {
    let server = server().await;
    let root = Some("Bearer root");
    EventServiceClient::new(server.channel.clone()).publish(with(root, publish("s"))).await.expect("granted");
    let group = v1::CreateGroupRequest { stream: "s".into(), group: "g".into(), ..Default::default() };
    ConsumerServiceClient::new(server.channel.clone()).create_group(with(root, group)).await.expect("granted");

    for wrong in [None, Some("Bearer wrong"), Some("Bearer"), Some("Basic root"), Some("root"), Some("")] {
        for (rpc, found) in call_all(&server, wrong).await {
            assert_eq!(found, (Code::Unauthenticated, "UNAUTHENTICATED".into()), "{rpc} as {wrong:?}");
        }
    }
    let see = ["get_group", "list_groups", "list_pending"];
    let publisher = vec!["publish", "publish_stream"];
    let consumer = [&["pull", "acknowledge", "nack", "extend_lease", "claim_pending", "consume"][..], &see].concat();
    let reader = [&["read_events", "tail_events", "get_stream", "list_dead_letters"][..], &see].concat();
    let admin = [
        &["create_stream", "update_stream", "delete_stream", "trim_stream", "delete_events"][..],
        &["create_group", "update_group", "delete_group", "seek_group", "remove_consumer"],
        &["redrive_dead_letters", "purge_dead_letters"],
    ];
    let admin = admin.concat();
    let everything = [publisher.clone(), consumer.clone(), reader.clone(), admin.clone()].concat();
    for (key, granted) in [
        ("elsewhere", Vec::new()),
        ("publisher", publisher),
        ("consumer", consumer),
        ("reader", reader),
        ("admin", admin),
        ("root", everything),
    ] {
        for (rpc, (code, reason)) in call_all(&server, Some(&format!("bearer {key}"))).await {
            // A list shows what may be seen, to whoever has a key.
            let allowed = granted.contains(&rpc) || rpc == "list_streams";
            let what = format!("{rpc} as {key}: {code:?} {reason}");
            let refused = matches!(code, Code::PermissionDenied | Code::Unauthenticated);
            assert_eq!(refused, !allowed, "{what}");
            assert_eq!(reason == "PERMISSION_DENIED", refused, "{what}");
            assert!(!matches!(code, Code::Internal | Code::Unknown | Code::InvalidArgument), "{what}");
        }
    }
}

#[tokio::test]
async fn a_backup_needs_the_admin_permission_on_all_streams() {
    let server = server().await;
    let mut backups = BackupServiceClient::new(server.channel.clone());
    for (key, wanted) in [
        (None, Some("UNAUTHENTICATED")),
        (Some("Bearer wrong"), Some("UNAUTHENTICATED")),
        (Some("Bearer reader"), Some("PERMISSION_DENIED")),
        (Some("Bearer admin"), Some("PERMISSION_DENIED")),
        (Some("Bearer elsewhere"), Some("PERMISSION_DENIED")),
        (Some("Bearer root"), None),
    ] {
        let taken = backups.take_backup(with(key, tokio_stream::empty::<v1::TakeBackupRequest>())).await;
        assert_eq!(outcome(taken).1, wanted.unwrap_or_default(), "{key:?}");
    }
}

#[tokio::test]
async fn grants_hold_for_what_is_named_within_a_request() {
    let server = server().await;
    let root = Some("Bearer root");
    let mut events = EventServiceClient::new(server.channel.clone());
    let mut consumers = ConsumerServiceClient::new(server.channel.clone());
    for stream in ["s", "t"] {
        events.publish(with(root, publish(stream))).await.expect("granted");
    }
    let group = v1::CreateGroupRequest { stream: "s".into(), group: "g".into(), ..Default::default() };
    consumers.create_group(with(root, group.clone())).await.expect("granted");
    let denied = |what: &str, found: (Code, String)| {
        assert_eq!(found, (Code::PermissionDenied, "PERMISSION_DENIED".into()), "{what}");
    };

    // A list has only what may be read.
    let mut streams = StreamServiceClient::new(server.channel.clone());
    for (key, wanted) in [("Bearer reader", vec!["s"]), ("Bearer publisher", vec![]), ("Bearer root", vec!["s", "t"])] {
        let list = streams.list_streams(with(Some(key), v1::ListStreamsRequest::default())).await.expect("known");
        let names: Vec<_> = list.get_ref().streams.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, wanted, "{key}");
    }
    // What rides on an acknowledgement is published by the one who acknowledges.
    let consumer = Some("Bearer consumer");
    let pull = v1::PullRequest { stream: "s".into(), group: "g".into(), consumer: "c".into(), ..Default::default() };
    let delivery = consumers.pull(with(consumer, pull)).await.expect("granted").into_inner();
    let ids: Vec<_> = crate::grpc::delivered_ids(&delivery.events).into_iter().map(one).collect();
    let ack = |holder, publish| v1::AcknowledgeRequest {
        stream: "s".into(),
        group: "g".into(),
        ids: ids.clone(),
        holder,
        publish,
    };
    let by_token = || Some(acknowledge_request::Holder::DeliveryToken(delivery.delivery_token.clone()));
    let riding = consumers.acknowledge(with(consumer, ack(by_token(), vec![publish("s")]))).await;
    denied("riding", outcome(riding));
    // Settling what anyone holds takes the admin permission besides.
    denied("for anyone", outcome(consumers.acknowledge(with(consumer, ack(None, vec![]))).await));
    denied("for anyone", outcome(consumers.acknowledge(with(Some("Bearer admin"), ack(None, vec![]))).await));
    // A group's dead letters are published by whoever says where they go.
    let place = |stream: &str| v1::GroupSettings { dead_letter_stream: stream.into(), ..Default::default() };
    let aimed = v1::CreateGroupRequest { group: "new".into(), settings: Some(place("t")), ..group.clone() };
    denied("create_group", outcome(consumers.create_group(with(Some("Bearer admin"), aimed)).await));
    let (stream, group) = ("s".to_owned(), "g".to_owned());
    let aimed = v1::UpdateGroupRequest { stream, group, settings: Some(place("t")), update_mask: None };
    denied("update_group", outcome(consumers.update_group(with(Some("Bearer admin"), aimed)).await));

    let info = streams.get_stream(with(root, v1::GetStreamRequest { stream: "s".into() })).await.expect("granted");
    assert_eq!(
        info.into_inner().info.map(|i| (i.length, i.groups.len())),
        Some((1, 1)),
        "nothing was published or made"
    );
    let own = consumers.acknowledge(with(consumer, ack(by_token(), vec![]))).await.expect("granted").into_inner();
    assert_eq!(own.done, 1);
}

#[tokio::test]
async fn events_without_a_source_stay_without_one() {
    let server = server().await;
    let mut events = EventServiceClient::new(server.channel.clone());
    events.publish(with(Some("Bearer publisher"), publish("s"))).await.expect("granted");
    let read = v1::ReadEventsRequest { stream: "s".into(), ..Default::default() };
    let page = events.read_events(with(Some("Bearer reader"), read)).await.expect("granted").into_inner();
    assert_eq!(page.events[0].event, Some(event("x")), "bytes are stored as they came");
}

#[tokio::test]
async fn health_and_reflection_ask_for_no_key() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_request::MessageRequest};
    let server = server().await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(server.channel.clone());
    health.check(tonic_health::pb::HealthCheckRequest::default()).await.expect("open to everyone");
    let list = MessageRequest::ListServices(String::new());
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let mut reflection = ServerReflectionClient::new(server.channel.clone());
    let answers = reflection.server_reflection_info(tokio_stream::once(request)).await.expect("open to everyone");
    assert!(next(&mut answers.into_inner()).await.expect("it lives").is_some());
}
