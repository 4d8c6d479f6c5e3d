//! Entries as CloudEvents 1.0 in JSON, out.
//!
//! The extensions `synapseid`, `synapsestream` and `synapsetime` say where the entry is and when it was appended;
//! `partitionkey` is its key. Attributes keep the names they have, also where those use more than `a-z 0-9`.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::cloud_events::PARTITION_KEY;
use super::json::{push_member, push_name};
use super::show::{plain_fields, write_data, write_pairs};
use super::table::Found;
use super::time::{write_ms, write_timestamp};
use crate::format::event::{EventView, TYPE_DEFAULT, Timestamp, derived_id};
use crate::types::{EntryKind, StoredEntry, StreamName};

/// Source of an event that has none: CloudEvents require one.
const SOURCE_UNKNOWN: &str = "/synapse";

/// Appends an entry as one CloudEvent.
pub(in crate::http) fn write_cloud_event(out: &mut String, stream: &StreamName, entry: &StoredEntry) {
    out.push_str("{\"specversion\":\"1.0\"");
    match entry.kind {
        EntryKind::Fields => write_fields(out, stream, entry),
        EntryKind::Event => match EventView::parse(&entry.bytes) {
            Ok(event) => write_event(out, stream, entry, &event),
            Err(_) => {
                write_context(out, stream, entry, &Context::default());
                push_member(out, "data_base64", &BASE64.encode(&entry.bytes));
            }
        },
    }
    out.push('}');
}

/// The attributes that every CloudEvent may have; empty ones are absent.
#[derive(Default)]
struct Context<'a> {
    id: &'a str,
    source: &'a str,
    r#type: &'a str,
    time: Option<Timestamp>,
    subject: &'a str,
    key: &'a str,
}

fn write_context(out: &mut String, stream: &StreamName, entry: &StoredEntry, context: &Context<'_>) {
    let id = if context.id.is_empty() { Cow::Owned(derived_id(stream, entry.id)) } else { context.id.into() };
    push_member(out, "id", &id);
    push_member(out, "source", if context.source.is_empty() { SOURCE_UNKNOWN } else { context.source });
    push_member(out, "type", if context.r#type.is_empty() { TYPE_DEFAULT } else { context.r#type });
    push_name(out, "time");
    out.push('"');
    match context.time {
        Some(time) => write_timestamp(out, time),
        None => write_ms(out, entry.append_ms),
    }
    out.push('"');
    for (name, value) in [("subject", context.subject), (PARTITION_KEY, context.key)] {
        if !value.is_empty() {
            push_member(out, name, value);
        }
    }
    push_member(out, "synapseid", &entry.id.to_string());
    push_member(out, "synapsestream", stream.as_str());
    out.push_str(",\"synapsetime\":\"");
    write_ms(out, entry.append_ms);
    out.push('"');
}

fn write_event(out: &mut String, stream: &StreamName, entry: &StoredEntry, event: &EventView<'_>) {
    let context = Context {
        id: event.id,
        source: event.source,
        r#type: event.r#type,
        time: event.time,
        subject: event.subject,
        key: event.key,
    };
    write_context(out, stream, entry, &context);
    for (name, value) in event.attributes() {
        push_member(out, name, value);
    }
    for (name, value) in [("datacontenttype", event.data_content_type), ("dataschema", event.data_schema)] {
        if !value.is_empty() {
            push_member(out, name, value);
        }
    }
    write_data(out, event.data_content_type, event.data);
}

/// A field entry: attributes by the table, its fields as the data.
fn write_fields(out: &mut String, stream: &StreamName, entry: &StoredEntry) {
    let pairs = plain_fields(&entry.bytes);
    let mut found = Found::default();
    for (name, value) in pairs.iter().flatten() {
        found.put(name, Some(Cow::Borrowed(value)));
    }
    let copies = found.copies().unwrap_or_default();
    let context = Context {
        id: copies.id.as_deref().unwrap_or_default(),
        source: copies.source.as_deref().unwrap_or_default(),
        r#type: copies.r#type.as_deref().unwrap_or_default(),
        time: copies.time,
        subject: copies.subject.as_deref().unwrap_or_default(),
        key: copies.key.as_deref().unwrap_or_default(),
    };
    write_context(out, stream, entry, &context);
    push_member(out, "datacontenttype", super::native::JSON);
    push_name(out, "data");
    out.push('{');
    match &pairs {
        Some(pairs) => pairs.iter().for_each(|(name, value)| push_member(out, name, value)),
        None => write_pairs(out, &entry.bytes),
    }
    out.push('}');
}
