//! The client commands: what they print, and how they fail.

use serde_json::Value;

use crate::process::{Server, outcome, synapse};

fn json_lines(out: &str) -> Vec<Value> {
    out.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{l}: {e}"))).collect()
}

#[test]
fn what_is_published_is_tailed() {
    let server = Server::start();
    let data = r#"{"event":"task-created","source":"task-orchestrator","key":"u-7","data":{"taskId":"t-1"}}"#;
    let id = server.run(&["publish", "platform-events", "--data", data, "--attr", "tenant=a"]).ok();
    let out = server.run(&["tail", "platform-events"]).ok();
    assert_eq!(out, format!("{} task-created task-orchestrator key=u-7 {data}\n", id.trim()));
    let events = json_lines(&server.run(&["tail", "platform-events", "--json"]).ok());
    assert_eq!(events[0]["id"], id.trim());
    assert_eq!(events[0]["event"]["type"], "task-created");
    assert_eq!(events[0]["event"]["attributes"]["tenant"], "a");
    assert_eq!(events[0]["event"]["data"]["data"]["taskId"], "t-1");
}

#[test]
fn a_tail_tells_what_was_trimmed() {
    let server = Server::start();
    let ids = server.run_with_input(&["publish", "s", "-"], "{}\n{}\n{}\n{}\n").ok();
    let ids: Vec<&str> = ids.lines().collect();
    server.run(&["trim", "s", "--before", ids[2]]).ok();
    let paged = format!("gap: events before {} may have been trimmed unread\n", ids[2]);
    let followed = format!("gap: events may have been trimmed unread between {} and {}\n", ids[0], ids[2]);
    for (flags, told) in [(&[][..], paged), (&["--follow", "--count", "2"], followed)] {
        let tail = server.run(&[&["tail", "s", "--from", ids[0]], flags].concat());
        assert_eq!(tail.err, told);
        assert_eq!(tail.ok().lines().count(), 2);
    }
    assert_eq!(server.run(&["tail", "s"]).err, "");
}

#[test]
fn flags_go_over_what_the_data_says() {
    let server = Server::start();
    server.run(&["publish", "s", "--data", r#"{"event":"a","key":"k"}"#, "--type", "b", "--source", "me"]).ok();
    let events = json_lines(&server.run(&["tail", "s", "--json"]).ok());
    let event = &events[0]["event"];
    assert_eq!((&event["type"], &event["source"], &event["key"]), (&"b".into(), &"me".into(), &"k".into()));
}

#[test]
fn any_bytes_go_from_a_file() {
    let server = Server::start();
    let file = server.folder.path().join("bytes");
    std::fs::write(&file, b"\xff\x00").expect("written");
    server.run(&["publish", "s", "--file", file.to_str().expect("text")]).ok();
    let events = json_lines(&server.run(&["tail", "s", "--json"]).ok());
    assert_eq!(events[0]["event"]["data_base64"], "/wA=");
}

#[test]
fn standard_input_is_published_line_by_line() {
    let server = Server::start();
    let input: String = (0..2_500).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let ids = server.run_with_input(&["publish", "s", "-"], &input).ok();
    assert_eq!(ids.lines().count(), 2_500);
    let out = server.run(&["tail", "s"]).ok();
    let expected: String =
        ids.lines().enumerate().map(|(n, id)| format!("{id} synapse.event /cli {{\"n\":{n}}}\n")).collect();
    assert!(out == expected, "the tail differs from what was published");
}

#[test]
fn a_bad_line_is_named_and_nothing_after_it_is_published() {
    let server = Server::start();
    for (bad, why) in [("nope", "is not a JSON object"), ("{\"a\":", "EOF"), ("[1]", "is not a JSON object")] {
        let input = format!("{{\"n\":1}}\n\n{bad}\n{{\"n\":2}}\n");
        let err = server.run_with_input(&["publish", "s", "-"], &input).failed(1);
        assert!(err.contains("line 3") && err.contains(why), "{bad}: {err}");
    }
    let out = server.run(&["tail", "s"]).ok();
    assert_eq!(out.lines().count(), 3, "{out}");
    assert!(!out.contains("\"n\":2"), "{out}");
}

#[test]
fn a_tail_starts_where_it_is_told_and_ends_when_it_has_enough() {
    let server = Server::start();
    let ids = server.run_with_input(&["publish", "s", "-"], "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n").ok();
    let ids: Vec<&str> = ids.lines().collect();
    let tail = |flags: &[&str]| -> Vec<String> {
        let out = server.run(&[&["tail", "s"], flags].concat()).ok();
        out.lines().filter_map(|l| l.split(' ').next().map(str::to_owned)).collect()
    };
    assert_eq!(tail(&[]), ids);
    assert_eq!(tail(&["--count", "2"]), ids[..2]);
    assert_eq!(tail(&["--from", ids[0]]), ids[1..]);
    assert_eq!(tail(&["--from", "2020-01-01T00:00:00Z"]), ids);
    assert_eq!(tail(&["--from", "latest"]), Vec::<String>::new());
    assert_eq!(tail(&["--follow", "--from", "earliest", "--count", "3"]), ids);
}

#[test]
fn a_group_gets_each_event_once() {
    let server = Server::start();
    server.run_with_input(&["publish", "s", "-"], "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n").ok();
    server.run(&["groups", "create", "s", "g"]).ok();
    let consume =
        |flags: &[&str]| server.run(&[&["consume", "s", "g", "--consumer", "c", "--idle", "1s"], flags].concat()).ok();
    assert_eq!(consume(&["--count", "1"]).lines().count(), 1);
    let kept = consume(&["--no-ack"]);
    assert_eq!(kept.lines().count(), 2);
    assert_eq!(consume(&[]), kept, "what was not acknowledged comes again");
    assert_eq!(consume(&[]), "");
    let info = json_lines(&server.run(&["groups", "info", "s", "g", "--json"]).ok());
    assert_eq!((&info[0]["acknowledged"], &info[0]["pending"]), (&3.into(), &0.into()));
    assert_eq!(info[0]["consumers"][0]["name"], "c");
}

#[test]
fn streams_and_groups_come_and_go() {
    let server = Server::start();
    assert_eq!(server.run(&["streams", "create", "s", "--entries-max", "5"]).ok(), "created s\n");
    assert!(server.run(&["streams", "create", "s"]).failed(1).contains("STREAM_EXISTS"));
    let flags = ["--ack-wait", "5s", "--max-deliveries", "3", "--backoff", "1s,10s", "--dispatch", "key-ordered"];
    assert_eq!(server.run(&[&["groups", "create", "s", "g"], &flags[..]].concat()).ok(), "created g on s\n");
    assert!(server.run(&["groups", "create", "s", "g"]).failed(1).contains("GROUP_EXISTS"));
    assert!(server.run(&["groups", "list", "s"]).ok().contains("g      0-0"));
    let info = json_lines(&server.run(&["info", "s", "--json"]).ok());
    assert_eq!(info[0]["groups"][0]["name"], "g");
    assert!(server.run(&["info"]).ok().starts_with("7 streams, 1 groups"));
    assert_eq!(server.run(&["groups", "delete", "s", "g"]).ok(), "deleted g on s\n");
    server.run(&["groups", "create", "s", "h"]).ok();
    let gone = json_lines(&server.run(&["groups", "delete", "s", "h", "--json"]).ok());
    assert_eq!((&gone[0]["deleted"], &gone[0]["stream"]), (&"h".into(), &"s".into()));
    assert!(server.run(&["consume", "s", "g"]).failed(1).contains("GROUP_NOT_FOUND"));
    assert_eq!(server.run(&["streams", "delete", "s"]).ok(), "deleted s\n");
    server.run(&["streams", "create", "t"]).ok();
    assert_eq!(json_lines(&server.run(&["streams", "delete", "t", "--json"]).ok())[0]["deleted"], "t");
    assert!(server.run(&["tail", "s"]).failed(1).contains("STREAM_NOT_FOUND"));
}

#[test]
fn wrong_usage_ends_with_code_2() {
    for args in [
        &["publish", "s"][..],
        &["publish", "s", "--data", "{"],
        &["publish", "s", "--data", "{}", "--attr", "novalue"],
        &["publish", "s", "--data", "{}", "--url", "nowhere"],
        &["publish", "s", "--data", "{}", "--url", "https://127.0.0.1:1"],
        &["tail", "s", "--from", "yesterday"],
        &["groups", "create", "s", "g", "--ack-wait", "5"],
        &["bench", "publish", "--batch", "0"],
        &["frobnicate"],
    ] {
        let mut command = synapse();
        command.args(args);
        outcome(command, "").failed(2);
    }
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let mut command = synapse();
    command.args(["info", "--url", "http://127.0.0.1:1"]);
    let err = outcome(command, "").failed(1);
    assert!(err.contains("cannot connect to http://127.0.0.1:1"), "{err}");
}
