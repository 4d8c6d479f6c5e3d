//! Entries as replies: a field list as it was added, an event as its parts in a fixed order.

use bytes::Bytes;

use super::reply::Reply;
use crate::format::event::EventView;
use crate::format::fields;
use crate::types::{EntryId, EntryKind, StoredEntry};

/// An entry: its id, and its fields with their values as one flat list.
pub(super) fn entry(entry: &StoredEntry) -> Reply {
    Reply::Array(vec![id(entry.id), Reply::Array(flat(entry))])
}

/// An entry that is gone.
pub(super) fn gone(of: EntryId) -> Reply {
    Reply::Array(vec![id(of), Reply::NullArray])
}

pub(super) fn id(id: EntryId) -> Reply {
    Reply::text(id.to_string())
}

/// How often an entry counts as delivered: what is counted no further is as much as can be told.
pub(super) fn deliveries(count: u32) -> Reply {
    Reply::Int(if count == u32::MAX { i64::MAX } else { i64::from(count) })
}

fn flat(entry: &StoredEntry) -> Vec<Reply> {
    let slice = |part: &[u8]| Reply::Bulk(entry.bytes.slice_ref(part));
    match entry.kind {
        EntryKind::Fields => {
            fields::pairs(&entry.bytes).flat_map(|(name, value)| [slice(name), slice(value)]).collect()
        }
        EntryKind::Event => EventView::parse(&entry.bytes).map_or_else(|_| Vec::new(), |event| parts(&event, &slice)),
    }
}

/// An event's parts, those that are set, in the order that clients rely on; the data comes last and always.
fn parts(event: &EventView<'_>, slice: &dyn Fn(&[u8]) -> Reply) -> Vec<Reply> {
    let mut out = Vec::new();
    let mut put = |name: &str, value: Reply| out.extend([Reply::Bulk(Bytes::copy_from_slice(name.as_bytes())), value]);
    let time = event
        .time
        .and_then(|time| jiff::Timestamp::new(time.seconds, time.nanos).ok())
        .map(|time| Reply::text(time.to_string()));
    let text = |value: &str| (!value.is_empty()).then(|| slice(value.as_bytes()));
    let set = [
        ("id", text(event.id)),
        ("type", text(event.r#type)),
        ("source", text(event.source)),
        ("time", time),
        ("subject", text(event.subject)),
        ("key", text(event.key)),
        ("datacontenttype", text(event.data_content_type)),
        ("dataschema", text(event.data_schema)),
    ];
    set.into_iter().for_each(|(name, value)| value.into_iter().for_each(|value| put(name, value)));
    event.attributes().for_each(|(name, value)| put(name, slice(value.as_bytes())));
    put("data", slice(event.data));
    out
}
