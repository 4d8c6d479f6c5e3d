//! Golden tests of the envelope: every folder under `tests/golden/http` is one case.
//!
//! `request.json` is what a client sends (`content_type`, `headers`, `body` as text), or `stored` where the entry came
//! another way; `event.json`, `native.json` and `cloud_event.json` are what is stored and what is shown, byte for byte.
//! Run with `SYNAPSE_UPDATE_GOLDEN=1` to write what the code does now, and look at the difference.

use std::path::Path;

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::{Value, json};

use super::time::write_timestamp;
use super::*;
use crate::format::event::{Event, EventView};
use crate::format::fields;
use crate::types::{EntryId, EntryKind, NewEntry, StoredEntry, StreamName};

#[test]
fn the_envelope_is_as_pinned() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/http");
    let mut cases = 0;
    for case in std::fs::read_dir(&root).expect("golden files") {
        check(&case.expect("an entry").path());
        cases += 1;
    }
    assert!(cases >= 15, "only {cases} golden cases found");
}

fn check(case: &Path) {
    let request = std::fs::read(case.join("request.json")).expect("a request");
    let request: Value = serde_json::from_slice(&request).expect("JSON");
    let entries = entries(&request);
    let stream = StreamName::parse("golden").expect("a good name");
    let (mut stored, mut native, mut cloud) = (String::new(), String::new(), String::new());
    for (n, entry) in entries.into_iter().enumerate() {
        stored.push_str(&format!("{:#}\n", stored_form(&entry)));
        let entry = StoredEntry {
            id: EntryId::new(1_700_000_000_000, n as u64),
            append_ms: 1_700_000_000_000,
            kind: entry.kind,
            bytes: entry.bytes,
        };
        write_native(&mut native, &stream, &entry);
        write_cloud_event(&mut cloud, &stream, &entry);
        (native, cloud) = (native + "\n", cloud + "\n");
    }
    for line in native.lines().chain(cloud.lines()).filter(|l| l.starts_with("{\"_id\"") || l.starts_with("{\"spec")) {
        // An object as sent may span lines; those that do not must be JSON by themselves.
        if line.ends_with('}') {
            serde_json::from_str::<Value>(line).expect("what is shown is JSON");
        }
    }
    for (file, found) in [("event.json", stored), ("native.json", native), ("cloud_event.json", cloud)] {
        compare(&case.join(file), &found);
    }
}

fn entries(request: &Value) -> Vec<NewEntry> {
    if let Some(event) = request.get("grpc") {
        return vec![grpc_event(event).into_entry().expect("a good event")];
    }
    if let Some(pairs) = request.get("fields") {
        let pairs: Vec<(Vec<u8>, Vec<u8>)> = pairs
            .as_array()
            .expect("pairs")
            .iter()
            .map(|pair| {
                (BASE64.decode(text(&pair[0])).expect("base64"), BASE64.decode(text(&pair[1])).expect("base64"))
            })
            .collect();
        return vec![fields::encode(pairs.iter().map(|(n, v)| (&n[..], &v[..]))).expect("good fields")];
    }
    let body = Bytes::from(text(&request["body"]).to_owned());
    let mut headers = HeaderMap::new();
    for (name, value) in request["headers"].as_object().into_iter().flatten() {
        headers.insert(
            axum::http::HeaderName::try_from(name.as_str()).expect("a header name"),
            text(value).parse().expect("a header value"),
        );
    }
    match text(&request["content_type"]) {
        "application/x-ndjson" => lines(&body, "/http"),
        "application/cloudevents+json" => cloud_event(&body).map(|e| vec![e]),
        "application/cloudevents-batch+json" => cloud_event_batch(&body),
        other if !headers.is_empty() => cloud_event_binary(&headers, Some(other), body).map(|e| vec![e]),
        _ => single(&body, "/http"),
    }
    .expect("a good request")
}

fn grpc_event(json: &Value) -> Event {
    let part = |name: &str| json.get(name).map(|v| text(v).to_owned());
    Event {
        id: part("id"),
        source: part("source"),
        r#type: part("type"),
        time: part("time").and_then(|t| parse_rfc3339(&t)),
        subject: part("subject"),
        data_content_type: part("data_content_type"),
        data_schema: part("data_schema"),
        data: part("data")
            .map(Bytes::from)
            .or(part("data_base64").map(|b| BASE64.decode(b).expect("base64").into()))
            .unwrap_or_default(),
        attributes: json["attributes"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(n, v)| (n.clone(), text(v).to_owned()))
            .collect(),
        key: part("key"),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

fn stored_form(entry: &NewEntry) -> Value {
    if entry.kind == EntryKind::Fields {
        let pairs = fields::pairs(&entry.bytes);
        return json!(pairs.map(|(n, v)| [String::from_utf8_lossy(n), String::from_utf8_lossy(v)]).collect::<Vec<_>>());
    }
    let view = EventView::parse(&entry.bytes).expect("an event");
    json!({
        "id": view.id,
        "source": view.source,
        "type": view.r#type,
        "time": view.time.map(|t| { let mut s = String::new(); write_timestamp(&mut s, t); s }),
        "subject": view.subject,
        "key": view.key,
        "data_content_type": view.data_content_type,
        "data_schema": view.data_schema,
        "attributes": view.attributes().collect::<std::collections::BTreeMap<_, _>>(),
        "data": String::from_utf8_lossy(view.data),
    })
}

fn compare(path: &Path, found: &str) {
    if std::env::var_os("SYNAPSE_UPDATE_GOLDEN").is_some() {
        std::fs::write(path, found).expect("golden files can be written");
    }
    let want = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(found, want, "{}", path.display());
}
