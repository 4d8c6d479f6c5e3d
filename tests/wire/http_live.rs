//! The live view over HTTP.

use std::time::Duration;

use synapse::http::HttpOptions;

use crate::http::{Server, text};

#[test]
fn a_live_view_catches_up_and_goes_on() {
    let server = Server::start();
    let ids = server.fill("s", 0..3);
    let mut view = server.follow("/streams/s/live?from=earliest", &[]);
    assert_eq!(view.frame(), [": open"]);
    for (n, id) in ids.iter().enumerate() {
        let (first, event) = view.event();
        assert_eq!((first, event["n"].as_u64()), (format!("id: {id}"), Some(n as u64)));
    }
    let more = server.fill("s", 3..4);
    assert_eq!(view.event().0, format!("id: {}", more[0]));
}

#[test]
fn a_reader_goes_on_where_it_was() {
    let server = Server::start();
    let ids = server.fill("s", 0..5);
    let mut view = server.follow("/streams/s/live", &[("last-event-id", &ids[2])]);
    assert_eq!(view.event().0, format!("id: {}", ids[3]));
    let mut latest = server.follow("/streams/s/live", &[("accept", "application/cloudevents+json, text/event-stream")]);
    assert_eq!(latest.frame(), [": open"]);
    let more = server.fill("s", 5..6);
    let (first, event) = latest.event();
    assert_eq!((first, text(&event["specversion"])), (format!("id: {}", more[0]), "1.0"));
}

#[test]
fn what_was_trimmed_unseen_is_told() {
    let server = Server::start();
    let ids = server.fill("s", 0..5);
    let trim = format!("{{\"before_id\":\"{}\"}}", ids[3]);
    server.post("/streams/s/trim", &trim).is(200);
    let mut view = server.follow("/streams/s/live", &[("last-event-id", &ids[0])]);
    let (first, gap) = view.event();
    assert_eq!((first.as_str(), text(&gap["after_id"]), text(&gap["before_id"])), ("event: gap", &*ids[0], &*ids[3]));
    assert!(gap["missed"].is_null(), "what it had is gone, so nobody knows");
    assert_eq!(view.event().0, format!("id: {}", ids[3]));
    let mut whole = server.follow("/streams/s/live", &[("last-event-id", &ids[3])]);
    assert_eq!(whole.event().0, format!("id: {}", ids[4]), "nothing is missing here");
}

/// A reader that had everything, in batches of one event, and then stalls while the stream goes on and is trimmed.
#[test]
fn a_reader_that_stalls_is_told_what_it_missed() {
    let server = Server::start();
    server.fill("s", 0..1);
    let mut view = server.follow("/streams/s/live?from=earliest", &[]);
    assert_eq!(view.frame(), [": open"]);
    assert_eq!(view.event().1["n"], 0);
    // More than what is on its way to a reader, which a system may let grow to many megabytes.
    let (data, total) = ("x".repeat(30_000), 800);
    let mut last = String::new();
    for n in 1..total {
        let answer = server.post("/events/s", &format!("{{\"n\":{n},\"data\":\"{data}\"}}")).is(201).json();
        last = text(&answer["ids"][0]).to_owned();
    }
    server.post("/streams/s/trim", &format!("{{\"before_id\":\"{last}\"}}")).is(200);
    let (mut next, mut missed) = (1, 0);
    while next < total {
        let (first, event) = view.event();
        if first == "event: gap" {
            let gap = event["missed"].as_u64().expect("it is known");
            (next, missed) = (next + gap, missed + gap);
        } else {
            assert_eq!(event["n"].as_u64(), Some(next), "after {missed} that were told to be missing");
            next += 1;
        }
    }
    assert!(missed > 0, "it stalled");
}

#[test]
fn data_of_several_lines_stays_whole() {
    let server = Server::start();
    server.post("/events/s", "{\"a\":\r\n 1,\n\n\"b\": \"x\\ny\"}").is(201);
    let (_, event) = server.follow("/streams/s/live?from=0-0", &[]).event();
    assert_eq!((event["a"].as_u64(), text(&event["b"])), (Some(1), "x\ny"));
}

#[test]
fn quiet_views_have_heartbeats_and_ends_have_reasons() {
    let options = HttpOptions { heartbeat: Duration::from_millis(50), ..HttpOptions::default() };
    let server = Server::start_with(Vec::new(), options);
    server.fill("s", 0..1);
    let mut view = server.follow("/streams/s/live", &[]);
    assert_eq!(view.frame(), [": open"]);
    assert_eq!(view.frame(), [": heartbeat"]);
    server.delete("/streams/s").is(204);
    let (first, problem) = view.event();
    assert_eq!((first.as_str(), text(&problem["reason"])), ("event: error", "STREAM_NOT_FOUND"));
    view.ended();

    server.fill("t", 0..1);
    let mut view = server.follow("/streams/t/live", &[]);
    assert_eq!(view.frame(), [": open"]);
    server.shutdown.cancel();
    assert_eq!(text(&view.event().1["reason"]), "DRAINING");
    view.ended();
}

#[test]
fn bad_views_are_refused() {
    let options = HttpOptions { live_views_max: 1, ..HttpOptions::default() };
    let server = Server::start_with(Vec::new(), options);
    server.get("/streams/none/live").refused(404, "STREAM_NOT_FOUND");
    server.fill("s", 0..1);
    server.get("/streams/s/live?from=x").refused(400, "INVALID_ID");
    server.ask("GET", "/streams/s/live", &[("last-event-id", "x")], b"").refused(400, "INVALID_ID");
    server.get("/streams/s/live?filter=x").refused(501, "UNSUPPORTED");
    server.get("/streams/s/live?speed=2").refused(400, "INVALID_ARGUMENT");
    let mut open = server.follow("/streams/s/live", &[]);
    assert_eq!(open.frame(), [": open"]);
    let refused = server.get("/streams/s/live");
    assert!(refused.header("retry-after").is_some());
    refused.refused(429, "LIMIT_REACHED");
}
