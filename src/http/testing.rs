//! The parsers of this front end, opened to fuzzing. What they promise is in `docs/HTTP.md`.

use std::time::Duration;

use bytes::Bytes;

use super::envelope;
use super::text::{DurationText, TimeText};
use crate::error::Result;
use crate::types::{NewEntry, StoredEntry, StreamName};

/// The events of a body of native JSON: one object or an array.
pub fn native(body: &Bytes, source: &str) -> Result<Vec<NewEntry>> {
    envelope::single(body, source)
}

/// The events of a body with one native JSON object a line.
pub fn native_lines(body: &Bytes, source: &str) -> Result<Vec<NewEntry>> {
    envelope::lines(body, source)
}

/// The event of a structured CloudEvent.
pub fn cloud_event(body: &Bytes) -> Result<NewEntry> {
    envelope::cloud_event(body)
}

/// The events of a batch of CloudEvents.
pub fn cloud_event_batch(body: &Bytes) -> Result<Vec<NewEntry>> {
    envelope::cloud_event_batch(body)
}

/// An entry as native JSON.
pub fn show_native(stream: &StreamName, entry: &StoredEntry) -> String {
    let mut out = String::new();
    envelope::write_native(&mut out, stream, entry);
    out
}

/// An entry as a CloudEvent in JSON.
pub fn show_cloud_event(stream: &StreamName, entry: &StoredEntry) -> String {
    let mut out = String::new();
    envelope::write_cloud_event(&mut out, stream, entry);
    out
}

/// A length of time and the text that it is written back as.
pub fn duration(text: &str) -> Result<(Duration, String)> {
    DurationText::parse(text).map(|parsed| (parsed.0, written(&parsed)))
}

/// A moment, in milliseconds since the Unix epoch, and the text that it is written back as.
pub fn time(text: &str) -> Result<(u64, String)> {
    TimeText::parse(text).map(|parsed| (parsed.0, written(&parsed)))
}

fn written(value: &impl serde::Serialize) -> String {
    let json = serde_json::to_string(value).expect("text is JSON");
    json.trim_matches('"').to_owned()
}
