//! The catalogue, reading, deleting, trimming, and what the server says of itself.

use serde_json::json;

use crate::http::{Server, text};

#[test]
fn streams_are_made_changed_and_removed() {
    let server = Server::start();
    let form = r#"{"stream":"orders","settings":{"description":"d","durability":"os","retention":{"entries_max":10,"age_max":"1h"}}}"#;
    let made = server.post("/streams", form).is(201).json();
    assert_eq!((&made["name"], &made["last_id"], &made["length"]), (&json!("orders"), &json!("0-0"), &json!(0)));
    assert_eq!(
        made["settings"]["retention"],
        json!({"entries_max": 10, "age_max": "3600s", "until_acknowledged": false})
    );
    server.post("/streams", form).refused(409, "STREAM_EXISTS");

    let change = r#"{"settings":{"retention":{"entries_max":null,"bytes_max":1000}}}"#;
    let changed = server.patch("/streams/orders", change).is(200).json();
    assert_eq!(
        changed["settings"]["retention"],
        json!({"bytes_max": 1000, "age_max": "3600s", "until_acknowledged": false})
    );
    assert_eq!((&changed["settings"]["description"], &changed["settings"]["durability"]), (&json!("d"), &json!("os")));
    server.patch("/streams/orders", r#"{"settings":{"retention":{"bytes_max":0}}}"#).refused(400, "INVALID_ARGUMENT");
    server.patch("/streams/orders", r#"{"settings":{"colour":"red"}}"#).refused(400, "INVALID_ARGUMENT");
    assert_eq!(server.get("/streams/orders").is(200).json(), changed);

    server.delete("/streams/orders").is(204);
    server.get("/streams/orders").refused(404, "STREAM_NOT_FOUND");
    server.delete("/streams/orders").refused(404, "STREAM_NOT_FOUND");
}

#[test]
fn lists_come_in_pages() {
    let server = Server::start();
    for name in ["a", "b%2Fc", "b%20d", "e"] {
        server.post(&format!("/events/{name}"), "{}").is(201);
    }
    let names = |path: &str| -> Vec<String> {
        let list = server.get(path).is(200).json();
        list["streams"].as_array().expect("streams").iter().map(|s| text(&s["name"]).to_owned()).collect()
    };
    assert_eq!(names("/streams"), ["a", "b d", "b/c", "e"]);
    assert_eq!(names("/streams?prefix=b"), ["b d", "b/c"]);
    let page = server.get("/streams?page_size=3").is(200).json();
    assert_eq!(page["next_page_token"], "b/c");
    assert_eq!(names("/streams?page_size=3&page_token=b%2Fc"), ["e"]);
    server.get("/streams/b%2Fc").is(200);
    server.get("/streams?page_size=0").refused(400, "INVALID_ARGUMENT");
    server.get("/streams?page_size=1001").refused(400, "INVALID_ARGUMENT");
}

#[test]
fn pages_go_both_ways() {
    let server = Server::start();
    let ids = server.fill("s", 0..10);
    let numbers = |path: &str| -> (Vec<u64>, Option<String>) {
        let page = server.get(path).is(200).json();
        let events = page["events"].as_array().expect("events");
        (events.iter().filter_map(|e| e["n"].as_u64()).collect(), page["next_id"].as_str().map(str::to_owned))
    };
    assert_eq!(numbers("/streams/s/messages"), ((0..10).collect(), None));
    let (first, next) = numbers("/streams/s/messages?count=4");
    assert_eq!((first, next.as_deref()), (vec![0, 1, 2, 3], Some(ids[4].as_str())));
    let (rest, next) = numbers(&format!("/streams/s/messages?from={}", ids[4]));
    assert_eq!((rest, next), ((4..10).collect(), None));
    let (back, next) = numbers(&format!("/streams/s/messages?order=desc&count=3&to={}", ids[8]));
    assert_eq!((back, next.as_deref()), (vec![8, 7, 6], Some(ids[5].as_str())));
    assert_eq!(numbers("/streams/s/messages?from=2020-01-01T00:00:00Z&to=2100-01-01T00:00:00Z").0.len(), 10);
    assert_eq!(numbers("/streams/s/messages?from=2100-01-01T00:00:00Z").0.len(), 0);
    for bad in [
        "count=0",
        "count=10001",
        "count=x",
        "from=5-",
        "from=x",
        "order=up",
        "from=5&to=3",
        "colour=red",
        "count=1&count=2",
    ] {
        let status = server.get(&format!("/streams/s/messages?{bad}"));
        assert_eq!(status.status, 400, "{bad}: {}", status.body);
    }
    server.get("/streams/s/messages?from=x").refused(400, "INVALID_ID");
    server.get("/streams/s/messages?filter=type=x").refused(501, "UNSUPPORTED");
    server.get("/streams/nowhere/messages").refused(404, "STREAM_NOT_FOUND");
}

#[test]
fn deleted_entries_are_gone_at_once() {
    let server = Server::start();
    let ids = server.fill("s", 0..5);
    assert_eq!(server.delete(&format!("/streams/s/messages/{}", ids[1])).is(200).json(), json!({"deleted": 1}));
    assert_eq!(server.delete(&format!("/streams/s/messages/{}", ids[1])).is(200).json(), json!({"deleted": 0}));
    let body = json!({"ids": [ids[0], ids[3], "1-1"]}).to_string();
    assert_eq!(server.post("/streams/s/messages/delete", &body).is(200).json(), json!({"deleted": 2}));
    let page = server.get("/streams/s/messages").is(200).json();
    assert_eq!(page["events"].as_array().map(Vec::len), Some(2));
    server.delete("/streams/s/messages/x").refused(400, "INVALID_ID");
    server.post("/streams/s/messages/delete", r#"{"ids":[]}"#).refused(400, "INVALID_ARGUMENT");
    server.post("/streams/s/messages/delete", r#"{"ids":[7]}"#).refused(400, "INVALID_ARGUMENT");
    server.post("/streams/s/messages/delete", r#"{"ids":["x"]}"#).refused(400, "INVALID_ID");
}

#[test]
fn trims_are_tried_before_they_are_done() {
    let server = Server::start();
    let ids = server.fill("s", 0..10);
    let dry = server.post("/streams/s/trim", r#"{"keep_entries":4,"dry_run":true}"#).is(200).json();
    assert_eq!((&dry["entries"], &dry["first_id"], &dry["dry_run"]), (&json!(6), &json!(ids[6]), &json!(true)));
    assert_eq!(server.get("/streams/s").is(200).json()["length"], 10);
    let done = server.post("/streams/s/trim", &json!({"before_id": ids[6]}).to_string()).is(200).json();
    assert_eq!((&done["entries"], &done["first_id"]), (&dry["entries"], &dry["first_id"]));
    assert_eq!(server.get("/streams/s").is(200).json()["first_id"], json!(ids[6]));
    server.get("/streams/s/messages?from=1-1&strict=true").refused(410, "ID_TRIMMED");
    for bad in ["{}", r#"{"keep_entries":1,"keep_bytes":1}"#, r#"{"keep_entries":-1}"#, r#"{"keep":1}"#, "[]", "{"] {
        server.post("/streams/s/trim", bad).refused(400, "INVALID_ARGUMENT");
    }
    assert_eq!(server.get("/streams/s").is(200).json()["length"], 4);
}

#[test]
fn info_has_groups_and_rates() {
    let server = Server::start();
    server.fill("s", 0..10);
    server.post("/streams/s/groups", r#"{"group":"g"}"#).is(201);
    server.post("/streams/s/groups/g/pull", r#"{"consumer":"c","entries_max":3}"#).is(200);
    let info = server.get("/streams/s/info").is(200).json();
    let group = &info["groups"][0];
    assert_eq!((&group["undelivered"], &group["pending"], &group["lag"]), (&json!(7), &json!(3), &json!(10)));
    assert!(info["rates"]["events_per_s"].as_f64().expect("a rate") > 0.1, "{info}");
    assert!(group["oldest_unacknowledged_time"].is_string());
    server.get("/streams/none/info").refused(404, "STREAM_NOT_FOUND");
}

#[test]
fn the_server_tells_of_itself() {
    let server = Server::start();
    server.fill("s", 0..3);
    server.post("/streams/s/groups", r#"{"group":"g"}"#).is(201);
    let health = server.get("/health").is(200).json();
    assert_eq!((&health["state"], &health["storage"]["writable"]), (&json!("serving"), &json!(true)));
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));

    let metrics = server.get("/metrics").is(200);
    assert!(metrics.header("content-type").is_some_and(|kind| kind.starts_with("application/openmetrics-text")));
    for line in [
        "synapse_stream_entries{stream=\"s\"} 3.0",
        "synapse_group_undelivered_entries{stream=\"s\",group=\"g\"} 3.0",
        "synapse_appended_entries_total 3",
    ] {
        assert!(metrics.body.lines().any(|l| l == line), "{line} is missing from\n{}", metrics.body);
    }
    assert!(metrics.body.contains("route=\"/events/{stream}\",method=\"POST\",status=\"201\""), "{}", metrics.body);

    let document = server.get("/openapi.json").is(200).json();
    assert_eq!(document["info"]["title"], "Synapse");
    let home = server.get("/").is(200);
    assert!(home.body.contains("/streams/{stream}/live"));

    server.shutdown.cancel();
    let health = server.get("/health").is(503).json();
    assert_eq!((&health["state"], &health["reason"]), (&json!("draining"), &json!("DRAINING")));
}

#[test]
fn series_are_bounded() {
    let options = synapse::http::HttpOptions { metrics_streams_max: 2, ..Default::default() };
    let server = Server::start_with(Vec::new(), options);
    for name in ["a", "b", "c", "d"] {
        server.fill(name, 0..5);
    }
    let metrics = server.get("/metrics").is(200).body;
    assert!(metrics.contains("synapse_stream_entries{stream=\"b\"} 5.0"), "{metrics}");
    assert!(metrics.contains("synapse_stream_entries{stream=\"other\"} 10.0"), "{metrics}");
    assert!(!metrics.contains("stream=\"c\""), "{metrics}");
    assert!(metrics.contains("synapse_streams 4"), "{metrics}");
}
