//! Consume sessions over gRPC: windows, settlement, fencing, draining, and clients that are slow or vanish.

use std::time::Duration;

use prost_types::Duration as PbDuration;
use synapse::proto::v1::consume_request::Request;
use synapse::proto::v1::consume_response::Response;
use synapse::proto::v1::nack_action::{Action, DeadLetter, Retry};
use synapse::proto::v1::{self, EntryId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::grpc::{Bare, Server, assert_refused, big, delivered_ids, event, id, next, ranges};

/// A session that is open.
struct Session {
    requests: mpsc::Sender<v1::ConsumeRequest>,
    answers: Streaming<v1::ConsumeResponse>,
    token: String,
    /// What was delivered while something else was waited for.
    delivered: Vec<v1::DeliveredEvent>,
}

impl Session {
    /// Opens a session of `g` over `s` with a window of so many entries.
    async fn open(server: &Server, consumer: &str, entries_max: u32) -> Self {
        let window = Some(v1::ConsumeFlow { entries_max, bytes_max: 0 });
        Self::open_with(server, consumer, window).await
    }

    async fn open_with(server: &Server, consumer: &str, window: Option<v1::ConsumeFlow>) -> Self {
        let (requests, receiver) = mpsc::channel(64);
        let (stream, group, consumer) = ("s".into(), "g".into(), consumer.into());
        let open = v1::ConsumeOpen { stream, group, consumer, window, ..Default::default() };
        let request = v1::ConsumeRequest { request: Some(Request::Open(open)) };
        requests.send(request).await.expect("room");
        let answers = server.consumers().consume(ReceiverStream::new(receiver)).await.expect("a session");
        let mut session = Self { requests, answers: answers.into_inner(), token: String::new(), delivered: Vec::new() };
        match session.next().await {
            Ok(Some(Response::Opened(opened))) => session.token = opened.session_token,
            other => panic!("opened comes first: {other:?}"),
        }
        session
    }

    async fn ask(&self, request: impl Into<Option<Request>>) {
        self.requests.send(v1::ConsumeRequest { request: request.into() }).await.expect("the session lives");
    }

    async fn flow(&self, entries_max: u32, bytes_max: u32) {
        self.ask(Request::Flow(v1::ConsumeFlow { entries_max, bytes_max })).await;
    }

    async fn ack(&self, seq: u64, ids: &[EntryId]) {
        self.ask(Request::Ack(v1::ConsumeAck { seq, ids: ranges(ids), publish: Vec::new() })).await;
    }

    async fn next(&mut self) -> Result<Option<Response>, Status> {
        let answer = next(&mut self.answers).await?;
        Ok(answer.map(|answer| answer.response.expect("always set")))
    }

    /// Takes deliveries until so many entries are there; no more may come with them.
    async fn take(&mut self, count: usize) -> Vec<v1::DeliveredEvent> {
        let mut events = std::mem::take(&mut self.delivered);
        while events.len() < count {
            match self.next().await {
                Ok(Some(Response::Batch(batch))) if !batch.events.is_empty() => events.extend(batch.events),
                other => panic!("instead of entry {} of {count}: {other:?}", events.len()),
            }
        }
        assert_eq!(events.len(), count, "more than the window");
        events
    }

    /// The result of a settlement that was asked for; no other may come before.
    async fn result(&mut self, seq: u64) -> v1::ConsumeAckResult {
        loop {
            match self.next().await {
                Ok(Some(Response::AckResult(result))) if result.seq == seq => return result,
                // What is settled makes room at once.
                Ok(Some(Response::Batch(batch))) => self.delivered.extend(batch.events),
                other => panic!("instead of result {seq}: {other:?}"),
            }
        }
    }

    /// That nothing was delivered up to now: what is asked now is answered next.
    async fn is_quiet(&mut self) {
        self.ack(u64::MAX, &[id(9, 9)]).await;
        let result = self.result(u64::MAX).await;
        assert_eq!((result.done, result.not_pending.as_slice()), (0, &[id(9, 9)][..]));
        assert!(self.delivered.is_empty(), "delivered beyond the window: {:?}", delivered_ids(&self.delivered));
    }

    /// Drains the session; answers how many entries were handed back.
    async fn drain(mut self) -> u64 {
        self.ask(Request::Drain(v1::ConsumeDrain {})).await;
        self.drained().await
    }

    /// Reads to the end, which must be a good one.
    async fn drained(&mut self) -> u64 {
        loop {
            match self.next().await.expect("the session ends well") {
                Some(Response::Drained(drained)) => {
                    assert_eq!(self.next().await.expect("OK"), None, "drained is the last message");
                    return drained.handed_back;
                }
                Some(_) => {}
                None => panic!("it ended without saying so"),
            }
        }
    }
}

/// A server with a stream `s` of so many entries, and its group `g`.
async fn server(entries: u32) -> (Server, Vec<EntryId>) {
    let server = Server::start().await;
    server.group("s", "g", v1::GroupSettings::default()).await;
    let ids = if entries == 0 { Vec::new() } else { server.fill("s", 0..entries).await };
    (server, ids)
}

#[tokio::test]
async fn the_window_is_absolute() {
    let (server, ids) = server(20).await;
    let mut session = Session::open(&server, "c", 0).await;
    session.is_quiet().await;
    session.flow(5, 0).await;
    assert_eq!(delivered_ids(&session.take(5).await), ids[..5]);
    session.is_quiet().await;
    // Absolute, not an increment: three more make eight.
    session.flow(8, 0).await;
    assert_eq!(delivered_ids(&session.take(3).await), ids[5..8]);
    session.flow(8, 0).await;
    session.is_quiet().await;
    // Below what is held: nothing comes until that much is settled.
    session.flow(6, 0).await;
    session.ack(1, &ids[..2]).await;
    assert_eq!(session.result(1).await.done, 2);
    session.is_quiet().await;
    session.ack(2, &ids[2..4]).await;
    assert_eq!(session.result(2).await.done, 2);
    assert_eq!(delivered_ids(&session.take(2).await), ids[8..10]);
    session.flow(0, 0).await;
    session.ack(3, &ids[4..10]).await;
    assert_eq!(session.result(3).await.done, 6);
    session.is_quiet().await;
    let info = server.group_info("s", "g").await;
    assert_eq!((info.pending, info.undelivered, info.acknowledged), (0, 10, 10));
    session.flow(100_000, 64 << 20).await;
    assert_eq!(delivered_ids(&session.take(10).await), ids[10..]);
    assert_eq!(session.drain().await, 10);
}

#[tokio::test]
async fn a_smaller_window_holds_for_what_was_asked_before() {
    let (server, _) = server(0).await;
    let mut session = Session::open(&server, "c", 1000).await;
    session.flow(2, 0).await;
    session.is_quiet().await;
    let ids = server.fill("s", 0..50).await;
    let taken = session.take(2).await;
    assert_eq!(delivered_ids(&taken), ids[..2]);
    assert!(taken.iter().all(|e| (e.deliveries, e.failures) == (1, 0)), "what was taken back is no delivery");
    session.is_quiet().await;
    session.flow(0, 0).await;
    session.ack(1, &ids[..2]).await;
    assert_eq!(session.result(1).await.done, 2);
    session.is_quiet().await;
    assert_eq!(server.group_info("s", "g").await.undelivered, 48);
}

#[tokio::test]
async fn the_last_of_a_window_comes_too() {
    let (server, _) = server(97).await;
    let mut session = Session::open(&server, "c", 100).await;
    session.take(97).await;
    let ids = server.fill("s", 97..120).await;
    // A client may wait for its window to be full before it settles anything.
    assert_eq!(delivered_ids(&session.take(3).await), ids[..3]);
    session.is_quiet().await;
}

#[tokio::test]
async fn the_window_counts_bytes_too() {
    let (server, _) = server(0).await;
    for _ in 0..8 {
        server.publish("s", vec![big(600_000)]).await;
    }
    let mut session = Session::open_with(&server, "c", Some(v1::ConsumeFlow { entries_max: 10, bytes_max: 1 })).await;
    let first = session.take(1).await;
    session.is_quiet().await;
    session.flow(10, 600_000).await;
    session.is_quiet().await;
    session.ack(1, &delivered_ids(&first)).await;
    assert_eq!(session.result(1).await.done, 1);
    session.take(1).await;
    session.is_quiet().await;
    // Room for three more, and a little: where there is room at all one entry is delivered.
    session.flow(10, 2_500_000).await;
    session.take(4).await;
    session.is_quiet().await;
    assert_eq!(server.group_info("s", "g").await.pending, 5);
    assert_eq!(session.drain().await, 5);
}

#[tokio::test]
async fn settlements_are_answered_in_order() {
    let (server, ids) = server(12).await;
    let other = server.pull("other", 2).await;
    assert_eq!(delivered_ids(&other.events), ids[..2]);
    let mut session = Session::open_with(&server, "c", None).await;
    let events = session.take(10).await;
    assert!(events.iter().all(|e| (e.deliveries, e.failures) == (1, 0)));
    assert_eq!(events[0].event.as_ref().and_then(|e| e.event.as_ref()), Some(&event("2")));
    session.flow(0, 0).await;

    session.ack(7, &[ids[0], ids[2], id(9, 9)]).await;
    let action = |action| Some(v1::NackAction { action: Some(action) });
    let nack = |seq, ids: &[EntryId], action| Request::Nack(v1::ConsumeNack { seq, ids: ranges(ids), action });
    session.ask(nack(7, &ids[3..5], action(Action::Retry(Retry::default())))).await;
    session.ask(nack(0, &ids[5..6], action(Action::DeadLetter(DeadLetter { reason: "broken".into() })))).await;
    session.ask(nack(1, &ids[6..7], action(Action::HandBack(())))).await;
    session.ask(nack(2, &ids[7..8], action(Action::Skip(())))).await;
    session.ask(nack(3, &ids[8..9], None)).await;
    let lease = Some(PbDuration { seconds: 7200, nanos: 0 });
    session.ask(Request::Extend(v1::ConsumeExtend { seq: 4, ids: ranges(&ids[8..10]), lease })).await;
    session.ask(Request::Extend(v1::ConsumeExtend { seq: 5, ids: ranges(&ids[..2]), lease })).await;
    session
        .ask(Request::Extend(v1::ConsumeExtend { seq: 6, ids: ranges(&ids[8..9]), lease: Some(PbDuration::default()) }))
        .await;
    session.ack(8, &[]).await;
    let publish =
        |stream: &str| v1::PublishRequest { stream: stream.into(), events: vec![event("out")], ..Default::default() };
    let riding = |seq, ids: &[EntryId], stream: &str| {
        Request::Ack(v1::ConsumeAck { seq, ids: ranges(ids), publish: vec![publish(stream)] })
    };
    session.ask(riding(9, &ids[9..10], "out")).await;
    session.ask(riding(10, &ids[9..11], "out")).await;
    session.ask(riding(11, &ids[10..11], "\n")).await;

    let acked = session.result(7).await;
    assert_eq!((acked.done, &acked.not_owned[..], &acked.not_pending[..]), (1, &ids[..1], &[id(9, 9)][..]));
    assert_eq!(session.result(7).await.done, 2, "numbers are the client's own");
    for seq in [0, 1, 2] {
        assert_eq!(session.result(seq).await.done, 1, "{seq}");
    }
    let refused = |result: v1::ConsumeAckResult, code: Code, reason: &str, field: &str| {
        let error = result.error.expect("refused");
        let named = error.violations.first().map(|v| v.field.as_str()).unwrap_or_default();
        assert_eq!((error.code, error.reason.as_str(), named, result.done), (code as i32, reason, field, 0));
    };
    refused(session.result(3).await, Code::InvalidArgument, "INVALID_ARGUMENT", "nack.action");
    assert_eq!(session.result(4).await.done, 2);
    let foreign = session.result(5).await;
    assert_eq!((foreign.done, foreign.not_owned.len() + foreign.not_pending.len()), (0, 2));
    refused(session.result(6).await, Code::InvalidArgument, "INVALID_ARGUMENT", "lease");
    refused(session.result(8).await, Code::InvalidArgument, "INVALID_ARGUMENT", "ack.ids");
    let published = session.result(9).await;
    assert_eq!((published.done, published.published.len()), (1, 1));
    refused(session.result(10).await, Code::FailedPrecondition, "NOT_HELD", "");
    refused(session.result(11).await, Code::InvalidArgument, "INVALID_NAME", "ack.publish[0].stream");
    assert_eq!(server.stream_info("out").await.length, 1);
    let info = server.group_info("s", "g").await;
    assert_eq!((info.acknowledged, info.dead_lettered, info.pending, info.waiting), (3, 1, 8, 3));
    assert_eq!(session.drain().await, 3);
}

#[tokio::test]
async fn sessions_of_one_consumer_are_fenced_from_each_other() {
    let (server, ids) = server(4).await;
    let mut first = Session::open(&server, "c", 2).await;
    first.take(2).await;
    let mut second = Session::open(&server, "c", 10).await;
    assert_eq!(delivered_ids(&second.take(2).await), ids[2..]);
    assert_ne!(first.token, second.token);
    second.ack(1, &ids).await;
    let result = second.result(1).await;
    assert_eq!((result.done, &result.not_owned[..]), (2, &ids[..2]));
    let consumers = server.group_info("s", "g").await.consumers;
    assert_eq!((consumers[0].sessions, consumers[0].pending), (2, 2));

    // A unary call that carries the token speaks for the session.
    let by_token = |token: &str| v1::AcknowledgeRequest {
        stream: "s".into(),
        group: "g".into(),
        ids: ranges(&ids[..1]),
        holder: Some(v1::acknowledge_request::Holder::DeliveryToken(token.into())),
        publish: Vec::new(),
    };
    let foreign = server.consumers().acknowledge(by_token(&second.token)).await.expect("taken").into_inner();
    assert_eq!((foreign.done, &foreign.not_owned[..]), (0, &ids[..1]));
    let own = server.consumers().acknowledge(by_token(&first.token)).await.expect("taken").into_inner();
    assert_eq!(own.done, 1);
}

#[tokio::test]
async fn what_a_lost_session_held_comes_again() {
    let (server, ids) = server(3).await;
    let mut lost = Session::open(&server, "c", 10).await;
    lost.take(3).await;
    let mut heir = Session::open(&server, "c", 10).await;
    let Session { requests, answers, token, .. } = lost;
    drop((requests, answers));
    let again = heir.take(3).await;
    assert_eq!(delivered_ids(&again), ids);
    assert!(again.iter().all(|e| (e.deliveries, e.failures) == (2, 1)), "a lost session failed: {again:?}");
    let late = v1::AcknowledgeRequest {
        stream: "s".into(),
        group: "g".into(),
        ids: ranges(&ids),
        holder: Some(v1::acknowledge_request::Holder::DeliveryToken(token)),
        publish: Vec::new(),
    };
    let late = server.consumers().acknowledge(late).await.expect("taken").into_inner();
    assert_eq!((late.done, late.not_owned.len()), (0, 3), "the heir holds them");
    heir.ack(1, &ids).await;
    assert_eq!(heir.result(1).await.done, 3);
}

#[tokio::test]
async fn drained_and_half_closed_sessions_hand_back_and_end_well() {
    let (server, ids) = server(6).await;
    let mut draining = Session::open(&server, "c", 3).await;
    draining.take(3).await;
    // What is settled makes no room.
    draining.flow(0, 0).await;
    draining.ack(1, &ids[..1]).await;
    draining.ask(Request::Drain(v1::ConsumeDrain {})).await;
    assert_eq!(draining.result(1).await.done, 1, "what was asked before is settled");
    assert_eq!(draining.drained().await, 2);

    let mut closing = Session::open(&server, "c", 3).await;
    let again = closing.take(3).await;
    assert_eq!(delivered_ids(&again)[..2], ids[1..3]);
    assert!(again[..2].iter().all(|e| (e.deliveries, e.failures) == (2, 0)), "handing back is no failure");
    closing.flow(0, 0).await;
    closing.ack(5, &ids[1..2]).await;
    drop(std::mem::replace(&mut closing.requests, mpsc::channel(1).0));
    assert_eq!(closing.result(5).await.done, 1, "what was asked before is answered");
    assert_eq!(closing.drained().await, 2);
    let info = server.group_info("s", "g").await;
    assert_eq!((info.acknowledged, info.pending, info.consumers[0].sessions), (2, 2, 0));
}

#[tokio::test]
async fn sessions_end_with_what_they_need() {
    let (server, _) = server(2).await;
    for (asked, field) in [
        (None, "request"),
        (Some(Request::Open(v1::ConsumeOpen::default())), "open"),
        (Some(Request::Flow(v1::ConsumeFlow { entries_max: 100_001, bytes_max: 0 })), "flow.entries_max"),
        (Some(Request::Flow(v1::ConsumeFlow { entries_max: 1, bytes_max: u32::MAX })), "flow.bytes_max"),
    ] {
        let mut session = Session::open(&server, "c", 10).await;
        session.take(2).await;
        let what = format!("{asked:?}");
        session.ask(asked).await;
        let status = session.next().await.expect_err("a mistake of the client ends its session");
        assert_refused(&what, &status, Code::InvalidArgument, "INVALID_ARGUMENT", field);
    }

    let mut session = Session::open(&server, "c", 10).await;
    session.take(2).await;
    let request = v1::DeleteGroupRequest { stream: "s".into(), group: "g".into() };
    server.consumers().delete_group(request).await.expect("deleted");
    let status = session.next().await.expect_err("there is no group");
    assert_refused("group deleted", &status, Code::NotFound, "GROUP_NOT_FOUND", "");

    server.group("s", "g", v1::GroupSettings::default()).await;
    let mut session = Session::open(&server, "c", 10).await;
    session.take(2).await;
    let request = v1::RemoveConsumerRequest { stream: "s".into(), group: "g".into(), consumer: "c".into() };
    server.consumers().remove_consumer(request).await.expect("removed");
    let status = session.next().await.expect_err("there is no consumer");
    assert_refused("consumer removed", &status, Code::NotFound, "CONSUMER_NOT_FOUND", "");
}

#[tokio::test]
async fn only_one_consumer_is_active_where_the_group_says_so() {
    let server = Server::start().await;
    let dispatch = v1::Dispatch::SingleActive as i32;
    server.group("s", "g", v1::GroupSettings { dispatch, ..Default::default() }).await;
    let mut active = Session::open(&server, "a", 10).await;
    let first = server.fill("s", 0..1).await;
    assert_eq!(delivered_ids(&active.take(1).await), first);
    let mut standby = Session::open(&server, "b", 10).await;
    let second = server.fill("s", 1..2).await;
    assert_eq!(delivered_ids(&active.take(1).await), second);
    standby.is_quiet().await;
    assert_eq!(active.drain().await, 2);
    let taken = standby.take(2).await;
    assert_eq!(delivered_ids(&taken), [first, second].concat());
}

#[tokio::test]
async fn a_client_that_does_not_read_is_bounded_and_hinders_nobody() {
    let (server, _) = server(0).await;
    // 40 MB in all, far more than a connection's windows take.
    for _ in 0..40 {
        server.publish("s", vec![big(1_000_000)]).await;
    }
    let deaf = Session::open_with(&server, "deaf", Some(v1::ConsumeFlow { entries_max: 3, bytes_max: 64 << 20 })).await;
    let mut hearing = Session::open(&server, "hearing", 1).await;
    // Whatever the other does not read, the one on the same connection gets its entries one by one.
    for seq in 0..37 {
        let taken = delivered_ids(&hearing.take(1).await);
        hearing.ack(seq, &taken).await;
        assert_eq!(hearing.result(seq).await.done, 1);
    }
    hearing.is_quiet().await;
    let info = server.group_info("s", "g").await;
    let held: Vec<_> = info.consumers.iter().map(|c| (c.name.as_str(), c.pending)).collect();
    assert_eq!((held, info.undelivered), (vec![("deaf", 3), ("hearing", 0)], 0), "the window bounds what it is sent");
    // It may settle without reading a single answer: they wait, bounded, and none is lost.
    let mut deaf = deaf;
    let requests = deaf.requests.clone();
    let asking = tokio::spawn(async move {
        for seq in 0..5_000 {
            let ack = Request::Ack(v1::ConsumeAck { seq, ids: ranges(&[id(9, 9)]), publish: Vec::new() });
            requests.send(v1::ConsumeRequest { request: Some(ack) }).await.expect("the session lives");
        }
    });
    let (mut entries, mut answers) = (0, 0);
    while (entries, answers) != (3, 5_000) {
        match deaf.next().await {
            Ok(Some(Response::Batch(batch))) => entries += batch.events.len(),
            Ok(Some(Response::AckResult(result))) => {
                assert_eq!(result.seq, answers, "in order");
                answers += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    asking.await.expect("asked");
    assert_eq!(deaf.drain().await, 3);
}

#[tokio::test]
async fn leases_of_a_session_run_out_and_free_its_window() {
    let server = Server::start().await;
    let ack_wait = Some(PbDuration { seconds: 0, nanos: 100_000_000 });
    server.group("s", "g", v1::GroupSettings { ack_wait, ..Default::default() }).await;
    let ids = server.fill("s", 0..2).await;
    let mut session = Session::open(&server, "c", 10).await;
    assert_eq!(delivered_ids(&session.take(2).await), ids);
    let again = session.take(2).await;
    assert_eq!(delivered_ids(&again), ids);
    assert!(again.iter().all(|e| e.deliveries == 2 && e.failures == 1), "{again:?}");
}

#[tokio::test]
async fn silence_is_broken_by_heartbeats() {
    let options = synapse::grpc::Options { heartbeat: Duration::from_millis(50), ..Default::default() };
    let bare = Bare::start(options).await;
    let mut client = bare.consumers();
    let create =
        v1::CreateGroupRequest { stream: "s".into(), group: "g".into(), create_stream: true, ..Default::default() };
    client.create_group(create).await.expect("made");
    let open = v1::ConsumeOpen { stream: "s".into(), group: "g".into(), consumer: "c".into(), ..Default::default() };
    let (requests, receiver) = mpsc::channel(4);
    requests.send(v1::ConsumeRequest { request: Some(Request::Open(open)) }).await.expect("room");
    let mut answers = client.consume(ReceiverStream::new(receiver)).await.expect("a session").into_inner();
    let opened = next(&mut answers).await.expect("it lives").and_then(|a| a.response);
    let interval = Some(PbDuration { seconds: 0, nanos: 50_000_000 });
    assert!(matches!(opened, Some(Response::Opened(o)) if o.heartbeat_interval == interval));
    for _ in 0..3 {
        let beat = next(&mut answers).await.expect("it lives").and_then(|a| a.response);
        let nothing = v1::ConsumeHeartbeat { held_entries: 0, held_bytes: 0 };
        assert_eq!(beat, Some(Response::Heartbeat(nothing)));
    }
    bare.engine.shutdown().await.expect("closed");
}
