//! The commands that look after groups and streams: pending, claim, ack, nack, seek, trim, dead-letters, redrive.

use serde_json::{Value, json};

use crate::http_client::Connection;
use crate::process::{Outcome, Server, outcome, synapse};

/// A server with a stream `s` of so many events, and a group `g` on it.
struct Given {
    server: Server,
    ids: Vec<String>,
}

impl Given {
    fn new(events: usize, flags: &[&str]) -> Self {
        let server = Server::start();
        let input: String = (0..events).map(|n| format!("{{\"type\":\"t\",\"n\":{n}}}\n")).collect();
        let ids = server.run_with_input(&["publish", "s", "-"], &input).ok().lines().map(str::to_owned).collect();
        let group = ["groups", "create", "s", "g", "--ack-wait", "0s"];
        server.run(&[&group, flags].concat()).ok();
        Self { server, ids }
    }

    /// The consumer gets so many events and keeps them.
    fn hold(&self, consumer: &str, count: u32) {
        let body = json!({ "consumer": consumer, "entries_max": count }).to_string();
        let (status, got) = Connection::open(self.server.address()).post("/streams/s/groups/g/pull", &body);
        assert_eq!(status, 200, "{got}");
        let got: Value = serde_json::from_str(&got).expect("JSON");
        assert_eq!(got["events"].as_array().map(Vec::len), Some(count as usize), "{got}");
    }

    fn run(&self, args: &[&str]) -> Outcome {
        self.server.run(args)
    }

    fn json(&self, args: &[&str]) -> Vec<Value> {
        let out = self.run(&[args, &["--json"]].concat()).ok();
        out.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{l}: {e}"))).collect()
    }

    /// The ids that are pending, each with its consumer.
    fn pending(&self) -> Vec<(String, String)> {
        let text = |v: &Value| v.as_str().expect("text").to_owned();
        self.json(&["pending", "s", "g"]).iter().map(|e| (text(&e["id"]), text(&e["consumer"]))).collect()
    }
}

#[test]
fn pending_events_are_listed_and_chosen() {
    let given = Given::new(5, &[]);
    given.hold("one", 2);
    given.hold("two", 2);
    let all = given.pending();
    let of = |n: usize, consumer: &str| (given.ids[n].clone(), consumer.to_owned());
    assert_eq!(all, [of(0, "one"), of(1, "one"), of(2, "two"), of(3, "two")]);
    let out = given.run(&["pending", "s", "g", "--consumer", "two"]).ok();
    let lines: Vec<Vec<&str>> = out.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["ID", "CONSUMER", "IDLE", "DUE", "IN", "DELIVERIES", "FAILURES"]);
    assert_eq!((lines.len(), lines[1][0], lines[1][1], lines[1][4]), (3, given.ids[2].as_str(), "two", "1"));
    assert_eq!(given.json(&["pending", "s", "g", "--idle", "1h"]).len(), 0);
    assert_eq!(given.json(&["pending", "s", "g", "--idle", "0s"]).len(), 4);
    assert_eq!(given.json(&["pending", "s", "g", "--from", &given.ids[3]]).len(), 1);
    let cut = given.run(&["pending", "s", "g", "--count", "1", "--json"]);
    assert!(cut.err.contains("there may be more"), "{}", cut.err);
    let entry: Value = serde_json::from_str(&cut.ok()).expect("one object");
    assert_eq!((&entry["deliveries"], &entry["failures"], &entry["due_ms"]), (&1.into(), &0.into(), &Value::Null));
}

#[test]
fn a_consumer_takes_over_what_another_holds() {
    let given = Given::new(4, &[]);
    given.hold("gone", 3);
    assert_eq!(given.run(&["claim", "s", "g", "--consumer", "heir", "--idle", "1h"]).ok(), "");
    let out = given.run(&["claim", "s", "g", &given.ids[1], "--consumer", "heir"]).ok();
    assert_eq!(out, format!("{} t /cli {{\"type\":\"t\",\"n\":1}}\n", given.ids[1]));
    let rest = given.json(&["claim", "s", "g", "--consumer", "heir"]);
    assert_eq!(rest.len(), 3, "{rest:?}");
    assert_eq!((&rest[1]["deliveries"], &rest[0]["deliveries"]), (&3.into(), &2.into()));
    assert!(given.pending().iter().all(|(_, consumer)| consumer == "heir"));
}

#[test]
fn acknowledging_says_what_it_could_not() {
    let given = Given::new(6, &[]);
    given.hold("one", 4);
    let ids = &given.ids;
    assert_eq!(given.run(&["ack", "s", "g", &ids[0]]).ok(), "acknowledged 1\n");
    let twice = given.run(&["ack", "s", "g", &ids[0], &ids[1], "--consumer", "one"]);
    assert_eq!(twice.out, "acknowledged 1\n");
    assert!(twice.failed(1).contains(&format!("not pending: {}", ids[0])));
    let other = given.run(&["ack", "s", "g", &ids[2], "--consumer", "two", "--json"]);
    assert_eq!(other.out, format!("{}\n", json!({ "done": 0, "not_pending": [], "not_owned": [ids[2]] })));
    assert!(other.failed(1).contains("not owned"));
    let all = format!("{}..{}", ids[0], ids[5]);
    assert_eq!(given.run(&["ack", "s", "g", &all]).ok(), "acknowledged 2\n");
    assert_eq!(given.pending(), []);
}

#[test]
fn what_is_given_back_goes_where_it_is_sent() {
    let given = Given::new(5, &[]);
    given.hold("one", 5);
    let ids = &given.ids;
    let nack = |id: &str, flags: &[&str]| given.run(&[&["nack", "s", "g", id], flags].concat()).ok();
    assert_eq!(nack(&ids[0], &["--delay", "1h"]), "to be delivered again: 1\n");
    assert_eq!(nack(&ids[1], &["--dead-letter", "broken"]), "dead-lettered 1\n");
    assert_eq!(nack(&ids[2], &["--skip"]), "skipped 1\n");
    assert_eq!(nack(&ids[3], &["--hand-back", "--consumer", "one"]), "handed back 1\n");
    assert_eq!(nack(&ids[4], &["--retry"]), "to be delivered again: 1\n");
    let left = given.json(&["pending", "s", "g"]);
    let failures: Vec<(&Value, &Value)> = left.iter().map(|e| (&e["id"], &e["failures"])).collect();
    let of = |n: usize| Value::from(ids[n].as_str());
    let one = Value::from(1);
    assert_eq!(failures, [(&of(0), &one), (&of(3), &0.into()), (&of(4), &one)]);
    assert!(left[0]["due_ms"].as_u64().is_some_and(|due| due > 3_500_000), "{left:?}");
    let letters = given.json(&["dead-letters", "list", "s", "g"]);
    assert_eq!((letters.len(), &letters[0]["reason"], &letters[0]["origin_id"]), (1, &"broken".into(), &of(1)));
    assert!(given.run(&["nack", "s", "g", &ids[2], "--skip"]).failed(1).contains("not pending"));
}

#[test]
fn the_cursor_moves_and_says_how_far() {
    let given = Given::new(4, &[]);
    let ids = &given.ids;
    let dry = given.run(&["seek", "s", "g", "latest", "--dry-run"]).ok();
    assert_eq!(dry, format!("would move the cursor from 0-0 to {}: 4 entries skipped\n", ids[3]));
    assert_eq!(given.json(&["groups", "info", "s", "g"])[0]["undelivered"], 4, "a dry run changes nothing");
    given.run(&["seek", "s", "g", "latest"]).ok();
    let back = given.run(&["seek", "s", "g", &ids[1]]).ok();
    assert_eq!(back, format!("moved the cursor from {} to {}: 2 entries to be delivered again\n", ids[3], ids[1]));
    let told = given.json(&["seek", "s", "g", "2020-01-01T00:00:00Z"]);
    assert_eq!(
        (&told[0]["entries"], &told[0]["backwards"], &told[0]["dry_run"]),
        (&2.into(), &true.into(), &false.into())
    );
    given.run(&["seek", "s", "g", "earliest"]).ok();
    assert_eq!(given.json(&["groups", "info", "s", "g"])[0]["undelivered"], 4);
}

#[test]
fn a_stream_is_trimmed_as_told() {
    let given = Given::new(6, &[]);
    let ids = &given.ids;
    let dry = given.json(&["trim", "s", "--keep-entries", "1", "--dry-run"]);
    assert_eq!((&dry[0]["entries"], &dry[0]["first_id"]), (&5.into(), &ids[5].as_str().into()));
    let out = given.run(&["trim", "s", "--before", &ids[2]]).ok();
    assert!(out.starts_with("trimmed 2 events (") && out.ends_with(&format!("left: {}\n", ids[2])), "{out}");
    assert_eq!(given.json(&["trim", "s", "--before", "2020-01-01T00:00:00Z"])[0]["entries"], 0);
    assert_eq!(given.json(&["trim", "s", "--keep-entries", "3"])[0]["entries"], 1);
    let out = given.run(&["trim", "s", "--keep-bytes", "0"]).ok();
    assert!(out.starts_with("trimmed 3 events (") && out.ends_with("left: -\n"), "{out}");
}

#[test]
fn dead_letters_are_listed_redriven_and_purged() {
    let given = Given::new(4, &[]);
    given.hold("one", 4);
    let all = format!("{}..{}", given.ids[0], given.ids[3]);
    given.run(&["nack", "s", "g", &all, "--dead-letter", "broken\nbadly"]).ok();
    let letters = given.json(&["dead-letters", "list", "s", "g"]);
    let ids: Vec<&str> = letters.iter().filter_map(|l| l["id"].as_str()).collect();
    assert_eq!((ids.len(), &letters[0]["entry"]["event"]["type"]), (4, &"t".into()));
    let out = given.run(&["dead-letters", "list", "s", "g", "--count", "2"]);
    assert!(out.err.contains(&format!("there may be more, after {}", ids[1])), "{}", out.err);
    let out = out.ok();
    assert!(out.starts_with("ID ") && out.contains(r"broken\nbadly") && out.lines().count() == 3, "{out}");
    let redrive = |args: &[&str]| given.run(&[&["redrive", "s", "g"], args].concat());
    assert_eq!(redrive(&[ids[0], "--to", "group"]).ok(), "redriven to the group 1\n");
    assert_eq!(given.pending(), [(given.ids[0].clone(), String::new())]);
    assert!(redrive(&[ids[0], "--to", "group"]).failed(1).contains("not found"));
    assert_eq!(redrive(&[ids[1], "--to", "stream"]).ok(), "redriven to the stream 1\n");
    given.run(&["trim", "s", "--before", &given.ids[3]]).ok();
    let gone = redrive(&[ids[2], "--to", "group"]);
    assert!(gone.failed(1).contains(&format!("original gone: {}", ids[2])));
    assert_eq!(given.run(&["dead-letters", "purge", "s", "g", ids[2]]).ok(), "purged 1\n");
    let purged = given.json(&["dead-letters", "purge", "s", "g", "--all"]);
    assert_eq!(purged, [json!({ "done": 1, "not_found": [] })]);
    assert_eq!(given.json(&["dead-letters", "list", "s", "g"]).len(), 0);
}

#[test]
fn a_redrive_that_finds_no_room_says_so() {
    let given = Given::new(6, &["--pending-max", "3"]);
    for from in [0, 3] {
        given.hold("one", 3);
        let range = format!("{}..{}", given.ids[from], given.ids[from + 2]);
        given.run(&["nack", "s", "g", &range, "--dead-letter", "broken"]).ok();
    }
    let cut = given.run(&["redrive", "s", "g", "--all", "--to", "group"]);
    assert_eq!(cut.out, "redriven to the group 3\n");
    assert!(cut.failed(1).contains("cut short"));
    assert_eq!(given.json(&["dead-letters", "list", "s", "g"]).len(), 3);
}

#[test]
fn refusals_name_the_reason() {
    let given = Given::new(1, &[]);
    for (args, reason) in [
        (&["pending", "s", "nobody"][..], "GROUP_NOT_FOUND"),
        (&["claim", "nothing", "g", "--consumer", "c"], "STREAM_NOT_FOUND"),
        (&["claim", "s", "g", "--consumer", "\n"], "INVALID_NAME"),
        (&["ack", "s", "nobody", "1-0"], "GROUP_NOT_FOUND"),
        (&["ack", "s", "g", "5-0..1-0"], "INVALID_ID"),
        (&["nack", "nothing", "g", "1-0", "--skip"], "STREAM_NOT_FOUND"),
        (&["nack", "s", "g", "1-0", "--delay", "8d"], "INVALID_ARGUMENT"),
        (&["seek", "s", "nobody", "earliest"], "GROUP_NOT_FOUND"),
        (&["trim", "nothing", "--keep-entries", "1"], "STREAM_NOT_FOUND"),
        (&["dead-letters", "list", "s", "nobody"], "GROUP_NOT_FOUND"),
        (&["dead-letters", "purge", "nothing", "g", "--all"], "STREAM_NOT_FOUND"),
        (&["redrive", "s", "nobody", "--all", "--to", "group"], "GROUP_NOT_FOUND"),
    ] {
        let err = given.run(args).failed(1);
        assert!(err.contains(reason), "{args:?}: {err}");
    }
}

#[test]
fn wrong_usage_of_them_ends_with_code_2() {
    for args in [
        &["pending", "s"][..],
        &["pending", "s", "g", "--idle", "5"],
        &["pending", "s", "g", "--count", "0"],
        &["claim", "s", "g"],
        &["claim", "s", "g", "x", "--consumer", "c"],
        &["ack", "s", "g"],
        &["ack", "s", "g", "1-0.."],
        &["ack", "s", "g", "1-0", "--consumer", "c", "--token", "t"],
        &["nack", "s", "g", "1-0"],
        &["nack", "s", "g", "1-0", "--skip", "--retry"],
        &["nack", "s", "g", "--skip"],
        &["seek", "s", "g"],
        &["seek", "s", "g", "yesterday"],
        &["trim", "s"],
        &["trim", "s", "--keep-entries", "1", "--keep-bytes", "1"],
        &["trim", "s", "--before", "earliest"],
        &["dead-letters", "s", "g"],
        &["dead-letters", "purge", "s", "g"],
        &["dead-letters", "purge", "s", "g", "1-0", "--all"],
        &["redrive", "s", "g", "--all"],
        &["redrive", "s", "g", "--to", "group"],
        &["redrive", "s", "g", "--all", "--to", "moon"],
    ] {
        let mut command = synapse();
        command.args(args);
        let ended = outcome(command, "");
        assert_eq!(ended.code, Some(2), "{args:?}: {}{}", ended.out, ended.err);
    }
}
