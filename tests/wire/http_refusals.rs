//! What every route refuses alike: bad names, unknown parameters and methods, missing keys, foreign origins.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use synapse::access::{ApiKey, Grant, Permission};
use synapse::http::HttpOptions;

use crate::http::Server;

/// Every route of the document: method, and path with names filled in.
fn routes(server: &Server) -> Vec<(String, String)> {
    let document = server.get("/openapi.json").is(200).json();
    let paths = document["paths"].as_object().expect("paths").clone();
    let filled = |path: &str| {
        path.replace("{stream}", "s").replace("{group}", "g").replace("{consumer}", "c").replace("{id}", "1-1")
    };
    let methods = |(path, item): (&String, &Value)| {
        let methods = item.as_object().expect("methods").keys();
        methods.map(|m| (m.to_uppercase(), filled(path))).collect::<Vec<_>>()
    };
    paths.iter().flat_map(methods).collect()
}

#[test]
fn no_route_takes_what_it_does_not_know() {
    let server = Server::start();
    server.fill("s", 0..1);
    let routes = routes(&server);
    assert!(routes.len() > 30, "{routes:?}");
    for (method, path) in routes {
        let answer = server.ask(&method, &format!("{path}?bogus=1"), &[], b"{}");
        assert_eq!(answer.status, 400, "{method} {path}: {}", answer.body);
        let refused = answer.refused(400, "INVALID_ARGUMENT");
        assert!(refused["detail"].as_str().is_some_and(|d| d.contains("bogus")), "{method} {path}: {refused}");
        let wrong = server.ask("PUT", &path, &[], b"");
        assert!(wrong.header("allow").is_some_and(|allow| allow.contains(&method)), "{path}: {:?}", wrong.headers);
        wrong.refused(405, "UNSUPPORTED");
    }
    assert_eq!(server.get("/streams/s").is(200).json()["length"], 1);
    server.get("/nothing/here").refused(404, "UNSUPPORTED");
}

#[test]
fn bodies_have_no_unknown_members() {
    let server = Server::start();
    server.fill("s", 0..1);
    server.post("/streams/s/groups", r#"{"group":"g"}"#).is(201);
    for (method, path) in routes(&server) {
        let takes_json = (method == "POST" || method == "PATCH") && !path.starts_with("/events/");
        if takes_json {
            for body in [r#"{"bogus":1}"#, "[]", "{", "nonsense"] {
                let answer = server.ask(&method, &path, &[("content-type", "application/json")], body.as_bytes());
                answer.refused(400, "INVALID_ARGUMENT");
            }
            server.ask(&method, &path, &[("content-type", "text/xml")], b"<a/>").refused(415, "INVALID_ARGUMENT");
        }
    }
}

#[test]
fn names_have_rules() {
    let server = Server::start();
    let long = "x".repeat(256);
    for name in [long.as_str(), "a%0Ab", "%7F", "%C2%85"] {
        for (method, path) in
            [("POST", "/events/{s}"), ("GET", "/streams/{s}"), ("GET", "/streams/{s}/live"), ("DELETE", "/streams/{s}")]
        {
            server.ask(method, &path.replace("{s}", name), &[], b"{}").refused(400, "INVALID_NAME");
        }
        server.fill("s", 0..1);
        server.get(&format!("/streams/s/groups/{name}")).refused(400, "INVALID_NAME");
        server.delete(&format!("/streams/s/groups/g/consumers/{name}")).refused(400, "INVALID_NAME");
    }
    server.post("/streams", &json!({"stream": "a\nb"}).to_string()).refused(400, "INVALID_NAME");
    server.post("/streams", r#"{"stream":""}"#).refused(400, "INVALID_NAME");
    server.get("/streams/%FF").refused(400, "INVALID_ARGUMENT");
    let longest = "x".repeat(255);
    server.post(&format!("/events/{longest}"), "{}").is(201);
}

fn key(name: &str, secret: &str, streams: &str, permissions: &[Permission]) -> ApiKey {
    let sha256 = Sha256::digest(secret.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let grants = vec![Grant { streams: streams.into(), permissions: permissions.into() }];
    ApiKey { name: name.into(), sha256, grants }
}

#[test]
fn keys_open_what_they_grant() {
    use Permission::{Admin, Consume, Publish, Read};
    let keys = vec![
        key("helox", "pub", "training-*", &[Publish]),
        key("reader", "read", "*", &[Read, Consume]),
        key("root", "root", "*", &[Publish, Consume, Read, Admin]),
    ];
    let server = Server::start_with(keys, HttpOptions::default());
    let ask = |secret: &str, method: &str, path: &str, body: &str| {
        server.ask(method, path, &[("authorization", &format!("Bearer {secret}"))], body.as_bytes())
    };
    let none = server.get("/streams");
    assert!(none.header("www-authenticate").is_some_and(|scheme| scheme.starts_with("Bearer")));
    none.refused(401, "UNAUTHENTICATED");
    ask("wrong", "GET", "/streams", "").refused(401, "UNAUTHENTICATED");
    server.ask("GET", "/streams", &[("authorization", "Basic cHVi")], b"").refused(401, "UNAUTHENTICATED");
    server.get("/health").is(200);
    server.get("/").is(200);
    server.get("/metrics").refused(401, "UNAUTHENTICATED");
    server.get("/openapi.json").refused(401, "UNAUTHENTICATED");
    ask("pub", "GET", "/metrics", "").is(200);

    ask("pub", "POST", "/events/training-events", "{\"event\":\"x\"}").is(201);
    ask("pub", "POST", "/events/other", "{}").refused(403, "PERMISSION_DENIED");
    ask("pub", "GET", "/streams/training-events/messages", "").refused(403, "PERMISSION_DENIED");
    let page = ask("read", "GET", "/streams/training-events/messages", "").is(200).json();
    assert_eq!(page["events"][0]["_source"], "helox", "the key's name stands for the source");
    assert_eq!(ask("pub", "GET", "/streams", "").is(200).json()["streams"], json!([]), "only what may be read");
    ask("read", "POST", "/streams/training-events/groups", r#"{"group":"g"}"#).refused(403, "PERMISSION_DENIED");
    ask("root", "POST", "/streams/training-events/groups", r#"{"group":"g"}"#).is(201);
    let group = "/streams/training-events/groups/g";
    let delivery = ask("read", "POST", &format!("{group}/pull"), r#"{"consumer":"c"}"#).is(200).json();
    let id = &delivery["events"][0]["id"];
    let anybody = json!({"ids": [id]}).to_string();
    ask("read", "POST", &format!("{group}/ack"), &anybody).refused(403, "PERMISSION_DENIED");
    let publishing = json!({"ids": [id], "consumer": "c", "publish": [{"stream": "o", "events": [{}]}]}).to_string();
    ask("read", "POST", &format!("{group}/ack"), &publishing).refused(403, "PERMISSION_DENIED");
    let own = json!({"ids": [id], "consumer": "c"}).to_string();
    assert_eq!(ask("read", "POST", &format!("{group}/ack"), &own).is(200).json()["done"], 1);
    for (method, path) in [("DELETE", "/streams/training-events"), ("POST", "/streams/training-events/trim")] {
        ask("read", method, path, r#"{"keep_entries":0}"#).refused(403, "PERMISSION_DENIED");
    }
}

#[test]
fn foreign_pages_change_nothing() {
    let options = HttpOptions { cors_origins: vec!["https://app.example".into()], ..HttpOptions::default() };
    let server = Server::start_with(Vec::new(), options);
    let publish = |origin: &str| server.ask("POST", "/events/s", &[("origin", origin)], b"{}");
    publish("https://evil.example").refused(403, "PERMISSION_DENIED");
    publish("null").refused(403, "PERMISSION_DENIED");
    server.get("/streams/s").refused(404, "STREAM_NOT_FOUND");
    publish("http://127.0.0.1").is(201);
    let allowed = publish("https://app.example").is(201);
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://app.example"));
    let preflight = [
        ("origin", "https://app.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type"),
    ];
    let preflight = server.ask("OPTIONS", "/events/s", &preflight, b"").is(200);
    assert!(preflight.header("access-control-allow-methods").is_some_and(|m| m.contains("POST")));
    let foreign = server.ask("GET", "/streams", &[("origin", "https://evil.example")], b"").is(200);
    assert_eq!(foreign.header("access-control-allow-origin"), None, "the page cannot read it");
}
