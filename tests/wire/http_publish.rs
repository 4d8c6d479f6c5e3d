//! Publishing over HTTP in every form, and reading back what was sent.

use serde_json::json;

use crate::http::{Server, text};

#[test]
fn an_event_comes_back_as_it_was_sent() {
    let server = Server::start();
    let sent = r#"{"event": "task-created", "timestamp": "2026-01-02T03:04:05Z", "source": "task-orchestrator", "data": {"taskId": "t",  "n": 1.50}}"#;
    let answer = server.post("/events/platform-events", sent).is(201).json();
    assert_eq!((&answer["count"], &answer["duplicate"]), (&json!(1), &json!(false)));
    let id = text(&answer["ids"][0]).to_owned();
    assert_eq!((&answer["first_id"], &answer["last_id"]), (&json!(id), &json!(id)));

    let page = server.get("/streams/platform-events/messages").is(200);
    assert!(page.body.contains(&sent[1..]), "the bytes stand in {}", page.body);
    let event = &page.json()["events"][0];
    assert_eq!(
        (&event["_id"], &event["_stream"], &event["data"]["taskId"]),
        (&json!(id), &json!("platform-events"), &json!("t"))
    );
    assert!(text(&event["_time"]).ends_with('Z'));

    let cloud =
        server.ask("GET", "/streams/platform-events/messages", &[("accept", "application/cloudevents+json")], b"");
    let cloud = cloud.is(200).json();
    let cloud = &cloud["events"][0];
    assert_eq!(
        (&cloud["specversion"], &cloud["type"], &cloud["source"]),
        (&json!("1.0"), &json!("task-created"), &json!("task-orchestrator"))
    );
    assert_eq!((&cloud["time"], &cloud["synapseid"]), (&json!("2026-01-02T03:04:05Z"), &json!(id)));
}

#[test]
fn every_content_type_is_taken() {
    let server = Server::start();
    let cloud = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":1}}"#;
    for (kind, body, count) in [
        ("application/json", r#"[{"a":1},{"a":2}]"#, 2),
        ("application/json; charset=utf-8", r#"{"a":3}"#, 1),
        ("application/x-ndjson", "{\"a\":4}\n{\"a\":5}\n", 2),
        ("application/cloudevents+json", cloud, 1),
        ("application/cloudevents-batch+json; charset=UTF-8", &format!("[{cloud},{cloud}]"), 2),
    ] {
        let answer = server.ask("POST", "/events/s", &[("content-type", kind)], body.as_bytes()).is(201).json();
        assert_eq!(answer["ids"].as_array().map(Vec::len), Some(count), "{kind}");
    }
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "b"),
        ("ce-source", "/s"),
        ("ce-type", "t"),
        ("content-type", "image/png"),
    ];
    server.ask("POST", "/events/s", &headers, b"\x89PNG\xff").is(201);
    server.ask("POST", "/events/s", &[], b"{\"no\":\"content type\"}").is(201);
    assert_eq!(server.get("/streams/s").is(200).json()["length"], 10);
    let last = server.get("/streams/s/messages?count=2&order=desc").is(200).json();
    assert_eq!(last["events"][0]["no"], "content type");
    assert_eq!((&last["events"][1]["data_base64"], &last["events"][1]["type"]), (&json!("iVBOR/8="), &json!("t")));
}

#[test]
fn an_idempotency_key_is_one_request() {
    let server = Server::start();
    let publish = |stream: &str, key: &str, body: &str| {
        server.ask("POST", &format!("/events/{stream}"), &[("idempotency-key", key)], body.as_bytes())
    };
    let first = publish("s", "order-1", r#"[{"n":1},{"n":2}]"#).is(201).json();
    let again = publish("s", "order-1", r#"[{"n":1},{"n":2}]"#).is(201).json();
    assert_eq!((&first["ids"], &first["duplicate"], &again["duplicate"]), (&again["ids"], &json!(false), &json!(true)));
    publish("s", "order-1", r#"[{"n":1},{"n":3}]"#).refused(422, "DUPLICATE_MISMATCH");
    publish("s", "order-2", r#"[{"n":1},{"n":2}]"#).is(201);
    publish("other", "order-1", r#"{"n":9}"#).is(201);
    assert_eq!(server.get("/streams/s").is(200).json()["length"], 4);
    publish("s", "", "{}").refused(400, "INVALID_ARGUMENT");
    publish("s?producer_id=p&producer_sequence=1", "k", "{}").refused(400, "INVALID_ARGUMENT");
}

#[test]
fn more_producers_than_can_be_remembered_are_told_to_come_later() {
    let server = Server::start();
    server.post("/streams", r#"{"name":"s","settings":{"dedup":{"producers_max":1}}}"#).is(201);
    let publish = |producer: &str| server.post(&format!("/events/s?producer_id={producer}&producer_sequence=1"), "{}");
    publish("helox").is(201);
    publish("cyrex").refused(429, "LIMIT_REACHED");
    assert_eq!(publish("helox").is(201).json()["duplicate"], true);
    assert_eq!(server.get("/streams/s").is(200).json()["length"], 1);
}

#[test]
fn producers_and_event_ids_deduplicate() {
    let server = Server::start();
    let path = "/events/s?producer_id=helox&producer_sequence=7";
    let first = server.post(path, "{\"n\":1}").is(201).json();
    let again = server.post(path, "{\"n\":1}").is(201).json();
    assert_eq!((&again["ids"], &again["duplicate"]), (&first["ids"], &json!(true)));

    let path = "/events/t?dedup_by_event_id=true";
    server.post(path, r#"{"id":"a"}"#).is(201);
    let mixed = server.post(path, r#"[{"id":"a"},{"id":"b"}]"#).is(201).json();
    assert_eq!(mixed["results"][0]["duplicate"], true);
    assert_eq!(mixed["results"][1]["duplicate"], false);
    assert_eq!(server.get("/streams/t").is(200).json()["length"], 2);
}

#[test]
fn conditions_hold_or_nothing_happens() {
    let server = Server::start();
    server.post("/events/s?expected=exists", "{}").refused(404, "STREAM_NOT_FOUND");
    server.post("/events/s?create_stream=false", "{}").refused(404, "STREAM_NOT_FOUND");
    let first = server.post("/events/s?expected=empty&durability=os", "{}").is(201).json();
    let conflict = server.post("/events/s?expected=1-1", "{}").refused(412, "ID_CONFLICT");
    assert_eq!((&conflict["details"]["expected"], &conflict["details"]["actual"]), (&json!("1-1"), &first["last_id"]));
    server.post("/events/s?expected=empty", "{}").refused(412, "ID_CONFLICT");
    server.post(&format!("/events/s?expected={}", text(&first["last_id"])), "{}").is(201);
    server.post("/events/s?exact_id=1-1", "{}").refused(409, "ID_NOT_GREATER");
    let exact = server.post("/events/s?exact_id=99999999999999-5", "{}").is(201).json();
    assert_eq!(exact["ids"], json!(["99999999999999-5"]));
    assert_eq!(server.get("/streams/s").is(200).json()["length"], 3);
}

#[test]
fn what_is_broken_publishes_nothing() {
    let server = Server::start();
    let ndjson =
        |body: &str| server.ask("POST", "/events/s", &[("content-type", "application/x-ndjson")], body.as_bytes());
    let problem = ndjson("{\"a\":1}\n{\"a\":\n{\"a\":3}\n").refused(400, "INVALID_EVENT");
    assert_eq!(problem["details"]["line"], "2");
    ndjson("").refused(400, "INVALID_ARGUMENT");
    for body in ["", "[", "{]", "7", "null", "[{},7]", "{\"a\":1}{\"b\":2}", "{\"type\":\"a\\u0000\"}"] {
        server.post("/events/s", body).refused(400, "INVALID_EVENT");
    }
    server.post("/events/s", "[]").refused(400, "INVALID_ARGUMENT");
    server.post("/events/s", &format!("{}1{}", "[".repeat(1000), "]".repeat(1000))).refused(400, "INVALID_EVENT");
    server.ask("POST", "/events/s", &[], b"{\"a\":\"\xff\"}").refused(400, "INVALID_EVENT");

    let cloud = |body: &str| {
        server.ask("POST", "/events/s", &[("content-type", "application/cloudevents+json")], body.as_bytes())
    };
    cloud(r#"{"id":"1","source":"/s","type":"t"}"#).refused(400, "INVALID_EVENT");
    let reserved = cloud(r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","synapsehop":"1"}"#);
    let reserved = reserved.refused(400, "INVALID_EVENT");
    assert_eq!(reserved["violations"][0]["field"], "attributes[\"synapsehop\"]");
    server.ask("POST", "/events/s", &[("ce-id", "1"), ("ce-type", "t")], b"{}").refused(400, "INVALID_EVENT");
    server.ask("POST", "/events/s", &[("content-type", "text/plain")], b"{}").refused(415, "INVALID_ARGUMENT");
    server.ask("POST", "/events/s", &[("content-encoding", "gzip")], b"{}").refused(415, "INVALID_ARGUMENT");
    server.get("/streams/s").refused(404, "STREAM_NOT_FOUND");
}

#[test]
fn what_is_too_large_publishes_nothing() {
    let server = Server::start();
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20));
    server.post("/events/s", &large).refused(413, "EVENT_TOO_LARGE");
    let small = format!("{{\"a\":\"{}\"}}", "x".repeat(900 << 10));
    server.post("/events/s", &format!("[{}]", [&small[..]; 5].join(","))).refused(413, "BATCH_TOO_LARGE");
    server.post("/events/s", &format!("[{}]", vec!["{}"; 1001].join(","))).refused(413, "BATCH_TOO_LARGE");
    server.ask("POST", "/events/s", &[], &vec![b' '; 6 << 20]).refused(413, "BATCH_TOO_LARGE");
    server.get("/streams/s").refused(404, "STREAM_NOT_FOUND");
    server.post("/events/s", &format!("[{}]", vec!["{}"; 1000].join(","))).is(201);
}
