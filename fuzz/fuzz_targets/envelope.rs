//! JSON in and out: what is accepted is stored as an event that passes the checks of every front end, native data is
//! the sender's bytes, and both written forms are JSON that carries what was accepted.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use synapse::format::event::{self, EventView};
use synapse::http::testing;
use synapse::types::{EntryId, NewEntry, StoredEntry, StreamName};

fuzz_target!(|data: &[u8]| {
    let [form, body @ ..] = data else { return };
    let body = Bytes::copy_from_slice(body);
    let accepted = match form % 4 {
        0 => testing::native(&body, "/fuzz"),
        1 => testing::native_lines(&body, "/fuzz"),
        2 => testing::cloud_event(&body).map(|entry| vec![entry]),
        _ => testing::cloud_event_batch(&body),
    };
    let Ok(entries) = accepted else { return };
    assert!(!entries.is_empty());
    for entry in entries {
        check(entry, form % 4 < 2, &body);
    }
});

fn check(entry: NewEntry, is_native: bool, body: &Bytes) {
    let checked = event::check(entry.bytes.clone()).expect("accepted here, accepted everywhere");
    assert_eq!(checked, entry);
    let view = EventView::parse(&entry.bytes).expect("an event");
    if is_native {
        assert!(body.windows(view.data.len()).any(|part| part == view.data), "data is the sender's bytes");
        assert!(
            serde_json::from_slice::<Value>(view.data).is_ok_and(|data| data.is_object()) || has_odd_numbers(view.data)
        );
    }
    let stream = StreamName::parse("fuzz").expect("valid");
    let stored = StoredEntry { id: EntryId::new(5, 0), append_ms: 5, kind: entry.kind, bytes: entry.bytes.clone() };
    if let Some(native) = json(&testing::show_native(&stream, &stored), view.data) {
        assert_eq!((&native["_id"], &native["_stream"]), (&Value::from("5-0"), &Value::from("fuzz")));
    }
    let Some(cloud) = json(&testing::show_cloud_event(&stream, &stored), view.data) else { return };
    for (name, value) in [("id", view.id), ("source", view.source), ("subject", view.subject)] {
        assert!(value.is_empty() || cloud[name] == value, "{name} is lost");
    }
    assert_eq!(cloud["type"], view.type_or_default());
}

/// What was written, as JSON. `None` where only a number is the trouble: one beyond a float is carried as it came.
fn json(text: &str, data: &[u8]) -> Option<Value> {
    match serde_json::from_str(text) {
        Ok(value) => Some(value),
        Err(_) if has_odd_numbers(data) => None,
        Err(error) => panic!("{error}: {text}"),
    }
}

/// Whether these bytes are JSON but for numbers that a float cannot hold.
fn has_odd_numbers(data: &[u8]) -> bool {
    serde_json::from_slice::<Value>(data).is_err_and(|error| error.to_string().starts_with("number out of range"))
}
