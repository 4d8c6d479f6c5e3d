//! Publishing over gRPC, one by one and in a stream: ids, order, conditions, deduplication, and errors in the middle.

use synapse::proto::v1::expected::Condition;
use synapse::proto::v1::publish_request::Ids;
use synapse::proto::v1::publish_stream_response::Result as Outcome;
use synapse::proto::v1::{self, Event};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use crate::grpc::{Server, assert_refused, event, failed, id, ids_of, next, read_ids};

fn request(stream: &str, events: Vec<Event>) -> v1::PublishRequest {
    v1::PublishRequest { stream: stream.into(), events, ..Default::default() }
}

fn expecting(condition: Condition) -> v1::PublishRequest {
    let expected = Some(v1::Expected { condition: Some(condition) });
    v1::PublishRequest { expected, ..request("s", vec![event("x")]) }
}

fn producing(sequence: u64, data: &str) -> v1::PublishRequest {
    let producer = Some(v1::ProducerSequence { producer_id: "p".into(), sequence });
    v1::PublishRequest { producer, ..request("s", vec![event(data)]) }
}

#[tokio::test]
async fn what_was_published_is_read_back_as_it_was() {
    let server = Server::start().await;
    let full = Event {
        id: "e-1".into(),
        source: "/tests".into(),
        r#type: "task-created".into(),
        time: Some(prost_types::Timestamp { seconds: -5, nanos: 7 }),
        subject: "task 7".into(),
        data_content_type: "application/json".into(),
        data_schema: "urn:schema".into(),
        data: vec![0, 159, 146, 150].into(),
        attributes: [("user".into(), "ü\"\u{1f600}".into()), ("traceparent".into(), "00-1".into())].into(),
        key: "k".into(),
        deliver_at: None,
    };
    let sent = vec![full, Event::default(), event("last")];
    let answer = server.events().publish(request("s", sent.clone())).await.expect("published").into_inner();
    assert_eq!((answer.count, answer.duplicate, answer.results.len()), (3, false, 0));
    let ids = ids_of(&answer);
    let page = server.events().read_events(v1::ReadEventsRequest { stream: "s".into(), ..Default::default() }).await;
    let page = page.expect("read").into_inner();
    assert_eq!(read_ids(&page.events), ids);
    assert!(page.events.iter().all(|e| e.stream == "s" && e.schema_id == 0 && e.fields.is_empty()));
    let appended = page.events[0].append_time.expect("always set");
    assert_eq!(appended.seconds as u64 * 1000 + appended.nanos as u64 / 1_000_000, ids[0].ms);
    assert_eq!(page.events.into_iter().filter_map(|e| e.event).collect::<Vec<_>>(), sent);
    assert_eq!(page.next_id, None);
}

#[tokio::test]
async fn publishers_may_choose_ids() {
    let server = Server::start().await;
    let by = |ids, count| v1::PublishRequest { ids: Some(ids), ..request("s", vec![event("x"); count]) };
    let publish = async |request| server.events().publish(request).await.map(|a| ids_of(&a.into_inner()));
    assert_eq!(publish(by(Ids::ExactId(id(5, 7)), 1)).await.expect("the first"), [id(5, 7)]);
    assert_eq!(publish(by(Ids::IdMs(5), 2)).await.expect("goes on"), [id(5, 8), id(5, 9)]);
    assert_eq!(publish(by(Ids::IdMs(6), 1)).await.expect("begins anew"), [id(6, 0)]);
    let last = publish(by(Ids::ExactId(id(u64::MAX, u64::MAX - 1)), 1)).await.expect("far ahead");
    assert_eq!(publish(request("s", vec![event("x")])).await.expect("the last"), [id(u64::MAX, u64::MAX)]);
    let info = server.stream_info("s").await;
    assert_eq!((info.length, info.first_id, info.last_id), (6, Some(id(5, 7)), Some(id(u64::MAX, u64::MAX))));
    for (refused, reason) in [
        (request("s", vec![event("x")]), "IDS_EXHAUSTED"),
        (by(Ids::IdMs(u64::MAX), 1), "ID_NOT_GREATER"),
        (by(Ids::ExactId(id(u64::MAX, u64::MAX)), 1), "ID_NOT_GREATER"),
    ] {
        let status = server.events().publish(refused).await.expect_err("no id is left");
        assert_refused("after the last", &status, Code::FailedPrecondition, reason, "");
    }
    let first_id = Some(v1::read_events_request::Start::FirstId(id(6, 1)));
    let read = v1::ReadEventsRequest { stream: "s".into(), start: first_id, ..Default::default() };
    let page = server.events().read_events(read).await.expect("read").into_inner();
    assert_eq!(read_ids(&page.events), [last[0], id(u64::MAX, u64::MAX)]);
    // The last id there is can be delivered and settled like any other.
    server.group("s", "g", v1::GroupSettings::default()).await;
    let delivery = server.pull("c", 10).await;
    let range = v1::IdRange { first: Some(id(0, 0)), last: Some(id(u64::MAX, u64::MAX)) };
    let ack = v1::AcknowledgeRequest {
        stream: "s".into(),
        group: "g".into(),
        ids: vec![range],
        holder: Some(v1::acknowledge_request::Holder::DeliveryToken(delivery.delivery_token)),
        publish: Vec::new(),
    };
    assert_eq!(server.consumers().acknowledge(ack).await.expect("settled").into_inner().done, 6);
    assert!(server.pull("c", 10).await.events.is_empty());
    assert_eq!((server.stream_info("s").await.length, last.len()), (6, 1));
}

#[tokio::test]
async fn conditions_hold_or_change_nothing() {
    let server = Server::start().await;
    let publish = async |request| server.events().publish(request).await;
    let conflict = async |request: v1::PublishRequest, expected: &str, actual: &str| {
        let status = failed("a conflict", publish(request).await);
        assert_refused("a conflict", &status, Code::FailedPrecondition, "ID_CONFLICT", "");
        let info = tonic_types::StatusExt::get_error_details(&status).error_info().cloned().expect("always set");
        let of = |name: &str| info.metadata.get(name).cloned().unwrap_or_default();
        assert_eq!((of("expected"), of("actual")), (expected.into(), actual.into()));
    };
    let status = failed("no stream", publish(expecting(Condition::Exists(()))).await);
    assert_refused("no stream", &status, Code::NotFound, "STREAM_NOT_FOUND", "");
    conflict(expecting(Condition::LastId(id(1, 1))), "1-1", "0-0").await;
    let never = v1::PublishRequest { create_stream: Some(false), ..request("s", vec![event("x")]) };
    assert_refused("no stream", &failed("no stream", publish(never).await), Code::NotFound, "STREAM_NOT_FOUND", "");
    assert_eq!(server.snapshot().await, "", "no stream was made");

    let first = publish(expecting(Condition::Empty(()))).await.expect("it is empty").into_inner();
    let last = first.last_id.expect("always set");
    let text = format!("{}-{}", last.ms, last.seq);
    conflict(expecting(Condition::Empty(())), "0-0", &text).await;
    conflict(expecting(Condition::LastId(id(1, 1))), "1-1", &text).await;
    assert_eq!(server.stream_info("s").await.length, 1);
    publish(expecting(Condition::Exists(()))).await.expect("it exists");
    let now = server.stream_info("s").await.last_id.expect("always set");
    conflict(expecting(Condition::LastId(last)), &text, &format!("{}-{}", now.ms, now.seq)).await;
    publish(expecting(Condition::LastId(now))).await.expect("the last");
    assert_eq!(server.stream_info("s").await.length, 3);
}

#[tokio::test]
async fn repeated_requests_are_answered_with_what_they_got() {
    let server = Server::start().await;
    let publish = async |request| server.events().publish(request).await.map(tonic::Response::into_inner);
    let first = publish(producing(1, "a")).await.expect("published");
    let again = publish(producing(1, "a")).await.expect("recognised");
    assert_eq!((again.first_id, again.last_id, again.duplicate), (first.first_id, first.last_id, true));
    let status = publish(producing(1, "b")).await.expect_err("other content");
    assert_refused("other content", &status, Code::FailedPrecondition, "DUPLICATE_MISMATCH", "");
    for sequence in 10..15 {
        assert!(!publish(producing(sequence, "a")).await.expect("published").duplicate);
    }
    let status = publish(producing(1, "a")).await.expect_err("five later ones are remembered");
    assert_refused("too old", &status, Code::FailedPrecondition, "PRODUCER_SEQUENCE_OLD", "");
    assert_eq!(server.stream_info("s").await.length, 6);

    let named = |id: &str| Event { id: id.into(), ..event("n") };
    let by_id = |ids: &[&str]| v1::PublishRequest {
        dedup_by_event_id: true,
        ..request("by-id", ids.iter().map(|id| named(id)).collect())
    };
    let ab = ids_of(&publish(by_id(&["a", "b"])).await.expect("published"));
    let whole = publish(by_id(&["a", "b"])).await.expect("recognised");
    assert_eq!((ids_of(&whole), whole.duplicate), (ab.clone(), true));
    let part = publish(by_id(&["b", "c"])).await.expect("one is new");
    let results: Vec<_> = part.results.iter().map(|r| r.duplicate).collect();
    assert_eq!((part.count, part.duplicate, results, part.results[0].id), (2, false, vec![true, false], Some(ab[1])));
    assert_eq!(part.results[1].id, server.stream_info("by-id").await.last_id);
    assert_eq!(server.stream_info("by-id").await.length, 3);
}

/// A publish stream that is open.
struct Publishing {
    requests: mpsc::Sender<v1::PublishStreamRequest>,
    answers: Streaming<v1::PublishStreamResponse>,
}

impl Publishing {
    async fn open(server: &Server) -> Self {
        let (requests, receiver) = mpsc::channel(64);
        let answers = server.events().publish_stream(ReceiverStream::new(receiver)).await.expect("it opens");
        Self { requests, answers: answers.into_inner() }
    }

    async fn send(&self, seq: u64, publish: impl Into<Option<v1::PublishRequest>>) {
        let request = v1::PublishStreamRequest { seq, publish: publish.into() };
        self.requests.send(request).await.expect("the stream lives");
    }

    async fn answer(&mut self) -> (u64, Outcome) {
        let answer = next(&mut self.answers).await.expect("the stream lives").expect("an answer");
        (answer.seq, answer.result.expect("always set"))
    }

    async fn published(&mut self, seq: u64) -> v1::PublishResponse {
        match self.answer().await {
            (found, Outcome::Published(published)) if found == seq => published,
            other => panic!("instead of {seq}: {other:?}"),
        }
    }

    async fn refused(&mut self, seq: u64, code: Code, reason: &str, field: &str) -> v1::Error {
        match self.answer().await {
            (found, Outcome::Error(error)) if found == seq => {
                let named = error.violations.first().map(|v| v.field.as_str()).unwrap_or_default();
                assert_eq!((error.code, error.reason.as_str(), named), (code as i32, reason, field), "{error:?}");
                error
            }
            other => panic!("instead of {seq}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_publish_stream_answers_in_order() {
    let server = Server::start().await;
    let mut publishing = Publishing::open(&server).await;
    const COUNT: u64 = 2000;
    let requests = publishing.requests.clone();
    let sending = tokio::spawn(async move {
        for n in 0..COUNT {
            // The numbers are the client's own: any will do.
            let publish = Some(request("s", vec![event(&n.to_string())]));
            requests.send(v1::PublishStreamRequest { seq: n / 2, publish }).await.expect("the stream lives");
        }
    });
    let mut last = id(0, 0);
    for n in 0..COUNT {
        let published = publishing.published(n / 2).await;
        let at = published.first_id.expect("always set");
        assert!((at.ms, at.seq) > (last.ms, last.seq), "ids rise with the requests");
        last = at;
    }
    sending.await.expect("sent");
    let Publishing { requests, mut answers } = publishing;
    drop(requests);
    assert_eq!(next(&mut answers).await.expect("it ends well"), None);
    let info = server.stream_info("s").await;
    assert_eq!((info.length, info.last_id), (COUNT, Some(last)));
}

#[tokio::test]
async fn a_refused_request_does_not_end_a_publish_stream() {
    let server = Server::start().await;
    let mut publishing = Publishing::open(&server).await;
    let reserved = Event { attributes: [("synapse_x".into(), "x".into())].into(), ..event("x") };
    publishing.send(1, request("s", vec![event("1")])).await;
    publishing.send(2, request("s", vec![event("good"), reserved])).await;
    publishing.send(3, None).await;
    publishing.send(4, request("", vec![event("x")])).await;
    publishing.send(5, request("s", vec![])).await;
    publishing.send(6, expecting(Condition::Empty(()))).await;
    publishing.send(7, request("s", vec![crate::grpc::big(1 << 20)])).await;
    publishing.send(8, v1::PublishRequest { durability: 77, ..request("s", vec![event("x")]) }).await;
    publishing.send(9, request("s", vec![event("9")])).await;
    drop(std::mem::replace(&mut publishing.requests, mpsc::channel(1).0));

    publishing.published(1).await;
    let field = "events[1].attributes[\"synapse_x\"]";
    publishing.refused(2, Code::InvalidArgument, "INVALID_EVENT", field).await;
    publishing.refused(3, Code::InvalidArgument, "INVALID_ARGUMENT", "publish").await;
    publishing.refused(4, Code::InvalidArgument, "INVALID_NAME", "stream").await;
    publishing.refused(5, Code::InvalidArgument, "INVALID_ARGUMENT", "events").await;
    let conflict = publishing.refused(6, Code::FailedPrecondition, "ID_CONFLICT", "").await;
    assert!(conflict.metadata.contains_key("actual") && conflict.retry_delay.is_none(), "{conflict:?}");
    let large = publishing.refused(7, Code::InvalidArgument, "EVENT_TOO_LARGE", "events[0]").await;
    assert_eq!(large.metadata["max"], (1 << 20).to_string());
    publishing.refused(8, Code::InvalidArgument, "INVALID_ARGUMENT", "durability").await;
    publishing.published(9).await;
    assert_eq!(next(&mut publishing.answers).await.expect("it ends well"), None);
    assert_eq!(server.stream_info("s").await.length, 2);
}

#[tokio::test]
async fn a_publish_stream_serves_many_streams_and_durabilities() {
    let server = Server::start().await;
    let mut publishing = Publishing::open(&server).await;
    for n in 0..60 {
        let durability = (n % 3) as i32;
        let stream = format!("s-{}", n % 4);
        publishing.send(n, v1::PublishRequest { durability, ..request(&stream, vec![event("x")]) }).await;
    }
    publishing.send(60, producing(7, "a")).await;
    publishing.send(61, producing(7, "a")).await;
    for n in 0..60 {
        publishing.published(n).await;
    }
    let (first, again) = (publishing.published(60).await, publishing.published(61).await);
    assert_eq!((again.duplicate, again.first_id), (true, first.first_id));
    for n in 0..4 {
        assert_eq!(server.stream_info(&format!("s-{n}")).await.length, 15);
    }
}
