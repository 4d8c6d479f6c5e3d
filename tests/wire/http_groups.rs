//! Groups over HTTP: pull, acknowledge, give back, claim, seek, dead letters.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{Server, text};

const GROUP: &str = "/streams/s/groups/g";

/// A stream `s` with ten events and a group `g` over it.
fn server() -> (Server, Vec<String>) {
    let server = Server::start();
    let ids = server.fill("s", 0..10);
    server.post("/streams/s/groups", r#"{"group":"g"}"#).is(201);
    (server, ids)
}

fn pull(server: &Server, consumer: &str, entries_max: usize) -> Value {
    let body = json!({"consumer": consumer, "entries_max": entries_max}).to_string();
    server.post(&format!("{GROUP}/pull"), &body).is(200).json()
}

fn ids_of(delivery: &Value) -> Vec<&str> {
    delivery["events"].as_array().expect("events").iter().map(|e| text(&e["id"])).collect()
}

#[test]
fn groups_are_made_changed_and_removed() {
    let (server, ids) = server();
    let form = r#"{"group":"h","start":"latest","settings":{"ack_wait":"5s","backoff":["1s","2s"],"max_deliveries":3,"dispatch":"key_ordered"}}"#;
    let made = server.post("/streams/s/groups", form).is(201).json();
    assert_eq!((&made["cursor"], &made["undelivered"]), (&json!(ids[9]), &json!(0)));
    assert_eq!((&made["settings"]["ack_wait"], &made["settings"]["dispatch"]), (&json!("5s"), &json!("key_ordered")));
    assert_eq!(made["settings"]["dead_letter_stream"], "s.dlq.h");
    server.post("/streams/s/groups", form).refused(409, "GROUP_EXISTS");
    let changed = server.patch("/streams/s/groups/h", r#"{"settings":{"ack_wait":"7s"}}"#).is(200).json();
    assert_eq!((&changed["settings"]["ack_wait"], &changed["settings"]["max_deliveries"]), (&json!("7s"), &json!(3)));
    let list = server.get("/streams/s/groups").is(200).json();
    assert_eq!((&list["groups"][0]["name"], &list["groups"][1]["name"]), (&json!("g"), &json!("h")));
    server.delete("/streams/s/groups/h").is(204);
    server.get("/streams/s/groups/h").refused(404, "GROUP_NOT_FOUND");

    server.post("/streams/none/groups", r#"{"group":"g"}"#).refused(404, "STREAM_NOT_FOUND");
    server.post("/streams/none/groups", r#"{"group":"g","create_stream":true}"#).is(201);
    for (bad, status, reason) in [
        ("{}", 400, "INVALID_ARGUMENT"),
        (r#"{"group":""}"#, 400, "INVALID_NAME"),
        (r#"{"group":"x","start":"soon"}"#, 400, "INVALID_ID"),
        (r#"{"group":"x","settings":{"ack_wait":"30"}}"#, 400, "INVALID_ARGUMENT"),
        (r#"{"group":"x","settings":{"ack_wait":"9d"}}"#, 400, "INVALID_ARGUMENT"),
        (r#"{"group":"x","settings":{"filter":"type = a"}}"#, 501, "UNSUPPORTED"),
        (r#"{"group":"x","colour":1}"#, 400, "INVALID_ARGUMENT"),
    ] {
        server.post("/streams/s/groups", bad).refused(status, reason);
    }
}

#[test]
fn what_is_pulled_is_acknowledged_by_its_token() {
    let (server, ids) = server();
    let delivery = pull(&server, "c1", 4);
    assert_eq!(ids_of(&delivery), ids[..4]);
    assert_eq!((&delivery["lease"], &delivery["events"][0]["deliveries"]), (&json!("30s"), &json!(1)));
    assert_eq!(delivery["events"][2]["event"]["n"], 2);
    let token = &delivery["delivery_token"];

    let ack = |body: Value| server.post(&format!("{GROUP}/ack"), &body.to_string());
    let settled = ack(json!({"ids": [ids[0], {"first": ids[1], "last": ids[2]}, ids[9]], "delivery_token": token}));
    assert_eq!(settled.is(200).json(), json!({"done": 3, "not_pending": [ids[9]], "not_owned": []}));
    let others = pull(&server, "c2", 1);
    let settled = ack(json!({"ids": [ids[3]], "delivery_token": others["delivery_token"]})).is(200).json();
    assert_eq!(settled, json!({"done": 0, "not_pending": [], "not_owned": [ids[3]]}));
    assert_eq!(ack(json!({"ids": [ids[3]], "consumer": "c1"})).is(200).json()["done"], 1);
    assert_eq!(ack(json!({"ids": [ids[4]]})).is(200).json()["done"], 1, "anybody, as administrator");

    ack(json!({"ids": []})).refused(400, "INVALID_ARGUMENT");
    ack(json!({"ids": ["x"]})).refused(400, "INVALID_ID");
    ack(json!({"ids": [{"first": ids[5], "last": ids[1]}]})).refused(400, "INVALID_ID");
    ack(json!({"ids": [ids[5]], "delivery_token": "abc"})).refused(400, "INVALID_ARGUMENT");
    ack(json!({"ids": [ids[5]], "delivery_token": "1", "consumer": "c"})).refused(400, "INVALID_ARGUMENT");
    server.post("/streams/s/groups/none/ack", &json!({"ids": [ids[5]]}).to_string()).refused(404, "GROUP_NOT_FOUND");
    let info = server.get(GROUP).is(200).json();
    assert_eq!((&info["pending"], &info["acknowledged"]), (&json!(0), &json!(5)));
    assert_eq!(info["consumers"][0]["name"], "c1");
}

#[test]
fn a_stage_acknowledges_and_publishes_at_once() {
    let (server, ids) = server();
    let delivery = pull(&server, "c", 2);
    let body = format!(
        r#"{{"ids":["{}"],"delivery_token":{},"publish":[{{"stream":"out","events":[{{"event":"done",  "of":1}}]}}]}}"#,
        ids[0], delivery["delivery_token"]
    );
    let settled = server.post(&format!("{GROUP}/ack"), &body).is(200).json();
    assert_eq!((&settled["done"], &settled["published"][0]["count"]), (&json!(1), &json!(1)));
    assert!(server.get("/streams/out/messages").is(200).body.contains(r#""event":"done",  "of":1}"#));
    let again = server.post(&format!("{GROUP}/ack"), &body);
    assert_eq!(again.status, 409, "no longer held: {}", again.body);
    assert_eq!(server.get("/streams/out").is(200).json()["length"], 1);
    let broken = body.replace("[{\"event\"", "[7,{\"event\"");
    server.post(&format!("{GROUP}/ack"), &broken).refused(400, "INVALID_EVENT");
}

#[test]
fn a_pull_waits_for_what_comes() {
    let (server, _) = server();
    pull(&server, "c", 10);
    let started = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(200));
            server.fill("s", 10..11);
        });
        let answer = server.post(&format!("{GROUP}/pull"), r#"{"consumer":"c","wait":"20s"}"#).is(200).json();
        assert_eq!(answer["events"][0]["event"]["n"], 10);
    });
    assert!(started.elapsed() < Duration::from_secs(10));
    let empty = server.post(&format!("{GROUP}/pull"), r#"{"consumer":"c"}"#).is(200).json();
    assert_eq!((&empty["events"], &empty["delivery_token"]), (&json!([]), &json!("")));
    server.post(&format!("{GROUP}/pull"), r#"{"consumer":"c","wait":"301s"}"#).refused(400, "INVALID_ARGUMENT");
    server.post(&format!("{GROUP}/pull"), r#"{"consumer":""}"#).refused(400, "INVALID_NAME");
    server.post(&format!("{GROUP}/pull"), r#"{"consumer":"c","entries_max":0}"#).refused(400, "INVALID_ARGUMENT");
    server.post(&format!("{GROUP}/pull"), r#"{"consumer":"c","filter":"x"}"#).refused(501, "UNSUPPORTED");
    server.post(&format!("{GROUP}/pull"), "{}").refused(400, "INVALID_ARGUMENT");
}

#[test]
fn entries_are_given_back_extended_and_claimed() {
    let (server, ids) = server();
    let delivery = pull(&server, "c1", 4);
    let token = &delivery["delivery_token"];
    let post = |what: &str, body: Value| server.post(&format!("{GROUP}/{what}"), &body.to_string());
    let retry = json!({"ids": [ids[0]], "delivery_token": token, "action": {"retry": {"delay": "0s"}}});
    assert_eq!(post("nack", retry).is(200).json()["done"], 1);
    let again = pull(&server, "c2", 1);
    assert_eq!((ids_of(&again), &again["events"][0]["failures"]), (vec![ids[0].as_str()], &json!(1)));
    let skip = json!({"ids": [ids[1]], "delivery_token": token, "action": {"skip": {}}});
    assert_eq!(post("nack", skip).is(200).json()["done"], 1);
    post("nack", json!({"ids": [ids[2]], "action": {"drop": {}}})).refused(400, "INVALID_ARGUMENT");
    let extended = post("extend", json!({"ids": [ids[2]], "delivery_token": token, "lease": "300s"}));
    assert_eq!(extended.is(200).json()["done"], 1);

    let pending = server.get(&format!("{GROUP}/pending?consumer=c1")).is(200).json();
    assert_eq!(pending["entries"].as_array().map(Vec::len), Some(2));
    assert_eq!((&pending["entries"][0]["id"], &pending["entries"][0]["consumer"]), (&json!(ids[2]), &json!("c1")));
    let page = server.get(&format!("{GROUP}/pending?count=1")).is(200).json();
    assert!(page["next_id"].is_string());
    server.get(&format!("{GROUP}/pending?idle_min=soon")).refused(400, "INVALID_ARGUMENT");

    let claimed = post("claim", json!({"consumer": "c3", "ids": [ids[2]]})).is(200).json();
    assert_eq!((ids_of(&claimed), &claimed["gone"]), (vec![ids[2].as_str()], &json!([])));
    let any = post("claim", json!({"consumer": "c3", "entries_max": 10})).is(200).json();
    assert_eq!(ids_of(&any).len(), 3, "{any}");
    post("claim", json!({"consumer": "c3", "ids": [ids[2]], "entries_max": 1})).refused(400, "INVALID_ARGUMENT");

    let removed = server.delete(&format!("{GROUP}/consumers/c3")).is(200).json();
    assert_eq!(removed, json!({"handed_back": 3}));
    server.delete(&format!("{GROUP}/consumers/c3")).refused(404, "CONSUMER_NOT_FOUND");
    let consumers = server.get(&format!("{GROUP}/consumers")).is(200).json();
    assert_eq!(consumers["consumers"].as_array().map(Vec::len), Some(2));
}

#[test]
fn seeks_are_tried_before_they_are_done() {
    let (server, ids) = server();
    pull(&server, "c", 10);
    let seek = |body: &str| server.post(&format!("{GROUP}/seek"), body);
    let dry = seek(&json!({"to": ids[6], "dry_run": true}).to_string()).is(200).json();
    assert_eq!(
        (&dry["from"], &dry["to"], &dry["entries"], &dry["backwards"]),
        (&json!(ids[9]), &json!(ids[6]), &json!(3), &json!(true))
    );
    assert_eq!(server.get(GROUP).is(200).json()["cursor"], json!(ids[9]));
    seek(r#"{"to":"earliest"}"#).is(200);
    assert_eq!(server.get(GROUP).is(200).json()["cursor"], "0-0");
    seek("{}").refused(400, "INVALID_ARGUMENT");
    seek(r#"{"to":"x"}"#).refused(400, "INVALID_ID");
}

#[test]
fn dead_letters_are_listed_redriven_and_purged() {
    let (server, ids) = server();
    let delivery = pull(&server, "c", 3);
    let dead = json!({"ids": [{"first": ids[0], "last": ids[2]}], "delivery_token": delivery["delivery_token"],
        "action": {"dead_letter": {"reason": "no such task"}}});
    assert_eq!(server.post(&format!("{GROUP}/nack"), &dead.to_string()).is(200).json()["done"], 3);
    let list = server.get(&format!("{GROUP}/dead-letters")).is(200).json();
    let letters = list["dead_letters"].as_array().expect("letters").clone();
    assert_eq!(letters.len(), 3);
    assert_eq!(
        (&letters[0]["origin_id"], &letters[0]["reason"], &letters[0]["event"]["n"]),
        (&json!(ids[0]), &json!("no such task"), &json!(0))
    );
    assert_eq!(letters[0]["event"]["_stream"], "s.dlq.g");
    assert_eq!(letters[0]["event"]["_id"], letters[0]["id"]);

    let post = |what: &str, body: Value| server.post(&format!("{GROUP}/{what}"), &body.to_string());
    post("redrive", json!({"target": "group"})).refused(400, "INVALID_ARGUMENT");
    post("redrive", json!({"all": true})).refused(400, "INVALID_ARGUMENT");
    let redriven = post("redrive", json!({"ids": [letters[0]["id"], "1-1"], "target": "group"})).is(200).json();
    assert_eq!(redriven, json!({"done": 1, "not_found": ["1-1"], "original_gone": [], "is_cut_short": false}));
    assert_eq!(ids_of(&pull(&server, "c", 1)), [ids[0].as_str()]);
    let purged = post("dead-letters/purge", json!({"ids": [letters[1]["id"]]})).is(200).json();
    assert_eq!(purged["done"], 1);
    assert_eq!(post("redrive", json!({"all": true, "target": "stream"})).is(200).json()["done"], 1);
    assert_eq!(server.get("/streams/s").is(200).json()["length"], 11);
    let list = server.get(&format!("{GROUP}/dead-letters")).is(200).json();
    assert_eq!(list["dead_letters"], json!([]));
    server.get(&format!("{GROUP}/dead-letters?count=0")).refused(400, "INVALID_ARGUMENT");
}
