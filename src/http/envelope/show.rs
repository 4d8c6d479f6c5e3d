//! Entries as native JSON, out: the object as it was sent, with `_id`, `_stream` and `_time` before its members.
//!
//! Attributes that the object does not carry itself (of a CloudEvent, or of an event that came over gRPC) stand beside
//! them under names with an underscore. What is not a JSON object, or has one of those names itself, is shown as an
//! event with its attributes and `data`. Nothing that was stored is lost either way.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::cloud_events::is_json_type;
use super::json::{is_json, members, push_member, push_name, scalar};
use super::native::JSON;
use super::table::{Copies, Found};
use super::time::{write_ms, write_timestamp};
use crate::format::event::{EventView, derived_id};
use crate::format::fields;
use crate::types::{EntryKind, StoredEntry, StreamName};

/// Source of events that came over HTTP and have none of their own.
pub(in crate::http) const SOURCE_DEFAULT: &str = "/http";

/// Names that stand beside the members of an object.
const BESIDE: [&str; 12] = [
    "_id",
    "_stream",
    "_time",
    "_event_id",
    "_type",
    "_source",
    "_event_time",
    "_subject",
    "_key",
    "_data_content_type",
    "_data_schema",
    "_attributes",
];

/// Appends an entry as one JSON object.
pub(in crate::http) fn write_native(out: &mut String, stream: &StreamName, entry: &StoredEntry) {
    write_place(out, stream, entry);
    match entry.kind {
        EntryKind::Fields => write_fields(out, &entry.bytes),
        EntryKind::Event => match EventView::parse(&entry.bytes) {
            Ok(event) => write_event(out, stream, entry, &event),
            // Checked when it came in; shown as it is rather than not at all.
            Err(_) => push_member(out, "data_base64", &BASE64.encode(&entry.bytes)),
        },
    }
    out.push('}');
}

fn write_place(out: &mut String, stream: &StreamName, entry: &StoredEntry) {
    out.push_str("{\"_id\":\"");
    out.push_str(&entry.id.to_string());
    out.push('"');
    push_member(out, "_stream", stream.as_str());
    out.push_str(",\"_time\":\"");
    write_ms(out, entry.append_ms);
    out.push('"');
}

fn write_event(out: &mut String, stream: &StreamName, entry: &StoredEntry, event: &EventView<'_>) {
    match object_of(event) {
        Some((inside, copies)) => {
            write_beside(out, event, &copies);
            if !inside.trim_ascii().is_empty() {
                out.push(',');
                out.push_str(inside);
            }
        }
        None => write_wrapped(out, stream, entry, event),
    }
}

/// Where the data is a JSON object whose members can stand in the open: what is between its braces, and the
/// attributes that it carries itself.
fn object_of<'a>(event: &EventView<'a>) -> Option<(&'a str, Copies<'a>)> {
    if !event.data_content_type.is_empty() && !is_json_type(event.data_content_type) {
        return None;
    }
    let text = std::str::from_utf8(event.data).ok()?.trim_ascii();
    let inside = text.strip_prefix('{')?.strip_suffix('}')?;
    let (mut found, mut clash) = (Found::default(), false);
    members(text, |name, value| {
        if Found::knows(&name) {
            found.put(&name, scalar(value));
        }
        clash |= name.starts_with('_') && BESIDE.contains(&&*name);
    })
    .ok()?;
    // An object that a publisher without the rules of this front end sent may hold what cannot be an attribute.
    (!clash).then(|| (inside, found.copies().unwrap_or_default()))
}

/// The attributes that the object does not carry itself.
fn write_beside(out: &mut String, event: &EventView<'_>, carried: &Copies<'_>) {
    let texts = [
        ("_event_id", event.id, carried.id.as_deref()),
        ("_type", event.r#type, carried.r#type.as_deref()),
        ("_source", event.source, carried.source.as_deref().or(Some(SOURCE_DEFAULT))),
        ("_subject", event.subject, carried.subject.as_deref()),
        ("_key", event.key, carried.key.as_deref()),
        ("_data_content_type", event.data_content_type, Some(JSON)),
        ("_data_schema", event.data_schema, None),
    ];
    for (name, value, known) in texts {
        if !value.is_empty() && known != Some(value) {
            push_member(out, name, value);
        }
    }
    if let Some(time) = event.time.filter(|t| carried.time != Some(*t)) {
        push_name(out, "_event_time");
        out.push('"');
        write_timestamp(out, time);
        out.push('"');
    }
    write_attributes(out, "_attributes", event);
}

fn write_wrapped(out: &mut String, stream: &StreamName, entry: &StoredEntry, event: &EventView<'_>) {
    if event.id.is_empty() {
        push_member(out, "id", &derived_id(stream, entry.id));
    } else {
        push_member(out, "id", event.id);
    }
    push_member(out, "type", event.type_or_default());
    let texts = [("source", event.source), ("subject", event.subject), ("key", event.key)];
    let texts =
        texts.into_iter().chain([("data_content_type", event.data_content_type), ("data_schema", event.data_schema)]);
    for (name, value) in texts.filter(|(_, value)| !value.is_empty()) {
        push_member(out, name, value);
    }
    if let Some(time) = event.time {
        push_name(out, "time");
        out.push('"');
        write_timestamp(out, time);
        out.push('"');
    }
    write_attributes(out, "attributes", event);
    write_data(out, event.data_content_type, event.data);
}

fn write_attributes(out: &mut String, name: &str, event: &EventView<'_>) {
    let mut attributes = event.attributes().peekable();
    if attributes.peek().is_none() {
        return;
    }
    push_name(out, name);
    out.push('{');
    for (name, value) in attributes {
        push_member(out, name, value);
    }
    out.push('}');
}

/// The data as a member: JSON as it stands, text as a string, anything else as base64; nothing where it is empty.
pub(super) fn write_data(out: &mut String, content_type: &str, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let text = std::str::from_utf8(data).ok();
    let json = content_type.is_empty() || is_json_type(content_type);
    match text {
        Some(text) if json && is_json(text) => {
            push_name(out, "data");
            out.push_str(text.trim_ascii());
        }
        Some(text) if content_type.starts_with("text/") => push_member(out, "data", text),
        _ => push_member(out, "data_base64", &BASE64.encode(data)),
    }
}

/// The fields as members, or as a list of pairs where they are not text, or not distinct.
fn write_fields(out: &mut String, bytes: &[u8]) {
    match plain_fields(bytes) {
        Some(pairs) => pairs.into_iter().for_each(|(name, value)| push_member(out, name, value)),
        None => write_pairs(out, bytes),
    }
}

/// The pairs as text with distinct names that do not clash with those beside them; `None` where they are not that.
pub(super) fn plain_fields(bytes: &[u8]) -> Option<Vec<(&str, &str)>> {
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    let mut names = std::collections::HashSet::new();
    for (name, value) in fields::pairs(bytes) {
        let (name, value) = (std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?);
        if BESIDE.contains(&name) || !names.insert(name) {
            return None;
        }
        pairs.push((name, value));
    }
    Some(pairs)
}

/// A member `fields`: the pairs in order, each part as text where it is, otherwise as base64.
pub(super) fn write_pairs(out: &mut String, bytes: &[u8]) {
    push_name(out, "fields");
    out.push('[');
    for (n, (name, value)) in fields::pairs(bytes).enumerate() {
        out.push_str(if n == 0 { "{" } else { ",{" });
        for (text_name, base64_name, part) in [("name", "name_base64", name), ("value", "value_base64", value)] {
            match std::str::from_utf8(part) {
                Ok(text) => push_member(out, text_name, text),
                Err(_) => push_member(out, base64_name, &BASE64.encode(part)),
            }
        }
        out.push('}');
    }
    out.push(']');
}
