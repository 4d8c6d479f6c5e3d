//! Entries, streams and groups as the commands print them: a line of text, or one JSON object a line.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use crate::format::event::TYPE_DEFAULT;
use crate::proto::v1;

/// How a command prints.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Output {
    /// Print JSON, one object a line.
    #[arg(long)]
    pub(super) json: bool,
}

/// An id as text.
pub(super) fn id(id: Option<&v1::EntryId>) -> String {
    id.map_or_else(|| "-".into(), |id| format!("{}-{}", id.ms, id.seq))
}

/// An id as JSON: text, or null where there is none.
pub(super) fn id_json(id: Option<&v1::EntryId>) -> Value {
    id.map_or(Value::Null, |id| format!("{}-{}", id.ms, id.seq).into())
}

/// A time as RFC 3339 text, or null where there is none.
pub(super) fn time_json(time: Option<&prost_types::Timestamp>) -> Value {
    time.and_then(|t| jiff::Timestamp::new(t.seconds, t.nanos).ok()).map_or(Value::Null, |t| t.to_string().into())
}

/// A moment in milliseconds since the Unix epoch as RFC 3339 text.
pub(super) fn moment(wall_ms: u64) -> String {
    let time = i64::try_from(wall_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| "-".into(), |time| time.to_string())
}

/// Writes an entry as a line: its id, type, source and key, then its data.
pub(super) fn write_entry(out: &mut impl Write, output: Output, entry: &v1::RecordedEvent) -> io::Result<()> {
    if output.json {
        return writeln!(out, "{}", entry_json(entry));
    }
    let none = v1::Event::default();
    let event = entry.event.as_ref().unwrap_or(&none);
    let r#type = if event.r#type.is_empty() { TYPE_DEFAULT } else { &event.r#type };
    write!(out, "{} {} {}", id(entry.id.as_ref()), or_dash(r#type), or_dash(&event.source))?;
    if !event.key.is_empty() {
        write!(out, " key={}", event.key.escape_debug())?;
    }
    match std::str::from_utf8(&event.data) {
        Ok(text) if !text.contains(char::is_control) => writeln!(out, " {text}"),
        _ => writeln!(out, " {}", data_json(&event.data).1),
    }
}

/// Text on one line, a dash where there is none.
pub(super) fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".into() } else { text.escape_debug().to_string() }
}

/// Writes an entry that was delivered; as JSON with how often it was.
pub(super) fn write_delivered(out: &mut impl Write, output: Output, delivered: &v1::DeliveredEvent) -> io::Result<()> {
    let none = v1::RecordedEvent::default();
    let entry = delivered.event.as_ref().unwrap_or(&none);
    if !output.json {
        return write_entry(out, output, entry);
    }
    let mut object = entry_json(entry);
    object["deliveries"] = delivered.deliveries.into();
    object["failures"] = delivered.failures.into();
    writeln!(out, "{object}")
}

/// What a command did to entries that it was told of, and what it left as it was, under the names of the messages.
pub(super) struct Outcome<'a> {
    /// What was done, as `acknowledged`.
    pub(super) what: &'a str,
    /// To how many.
    pub(super) done: u64,
    /// Why others were left, and which.
    pub(super) left: &'a [(&'a str, &'a [v1::EntryId])],
}

/// Prints an outcome; fails where something was left as it was.
pub(super) fn print_outcome(output: Output, outcome: &Outcome<'_>) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if output.json {
        let mut object = json!({ "done": outcome.done });
        for (why, ids) in outcome.left {
            object[*why] = ids.iter().map(|id| id_json(Some(id))).collect::<Vec<Value>>().into();
        }
        writeln!(out, "{object}")?;
    } else {
        writeln!(out, "{} {}", outcome.what, outcome.done)?;
    }
    let left: Vec<String> = outcome
        .left
        .iter()
        .filter(|(_, ids)| !ids.is_empty())
        .map(|(why, ids)| {
            let ids: Vec<String> = ids.iter().map(|i| id(Some(i))).collect();
            format!("{}: {}", why.replace('_', " "), ids.join(", "))
        })
        .collect();
    if left.is_empty() { Ok(()) } else { Err(anyhow::anyhow!("{}", left.join("; "))) }
}

/// A duration in whole milliseconds, or null where there is none.
pub(super) fn duration_ms(duration: Option<&prost_types::Duration>) -> Value {
    duration.map_or(Value::Null, |d| (d.seconds * 1_000 + i64::from(d.nanos / 1_000_000)).into())
}

/// A duration in its two greatest units, a dash where there is none.
pub(super) fn duration(duration: Option<&prost_types::Duration>) -> String {
    let Some(d) = duration else { return "-".into() };
    match d.seconds {
        ..1 => format!("{}ms", d.nanos / 1_000_000),
        s @ 1..60 => format!("{s}s"),
        s @ 60..3_600 => format!("{}m{}s", s / 60, s % 60),
        s @ 3_600..86_400 => format!("{}h{}m", s / 3_600, s / 60 % 60),
        s => format!("{}d{}h", s / 86_400, s / 3_600 % 24),
    }
}

/// An entry as JSON.
pub(super) fn entry_json(entry: &v1::RecordedEvent) -> Value {
    let mut object = Map::new();
    object.insert("id".into(), id_json(entry.id.as_ref()));
    object.insert("stream".into(), entry.stream.as_str().into());
    object.insert("append_time".into(), time_json(entry.append_time.as_ref()));
    if let Some(event) = &entry.event {
        object.insert("event".into(), event_json(event));
    }
    if !entry.fields.is_empty() {
        let pairs = entry.fields.iter().map(|f| json!([lossy(&f.name), lossy(&f.value)])).collect();
        object.insert("fields".into(), Value::Array(pairs));
    }
    Value::Object(object)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn event_json(event: &v1::Event) -> Value {
    let mut object = Map::new();
    for (name, value) in [
        ("id", &event.id),
        ("source", &event.source),
        ("type", &event.r#type),
        ("subject", &event.subject),
        ("key", &event.key),
        ("data_content_type", &event.data_content_type),
        ("data_schema", &event.data_schema),
    ] {
        if !value.is_empty() {
            object.insert(name.into(), value.as_str().into());
        }
    }
    if event.time.is_some() {
        object.insert("time".into(), time_json(event.time.as_ref()));
    }
    if !event.attributes.is_empty() {
        object.insert("attributes".into(), json!(event.attributes));
    }
    let (name, data) = data_json(&event.data);
    object.insert(name.into(), data);
    Value::Object(object)
}

/// Data as JSON where it is JSON, as text where it is text, as base64 otherwise.
fn data_json(data: &[u8]) -> (&'static str, Value) {
    use base64::Engine as _;
    if let Ok(value) = serde_json::from_slice(data) {
        return ("data", value);
    }
    match std::str::from_utf8(data) {
        Ok(text) => ("data", text.into()),
        Err(_) => ("data_base64", base64::engine::general_purpose::STANDARD.encode(data).into()),
    }
}

/// What is known of a stream, as JSON.
pub(super) fn stream_json(info: &v1::StreamInfo) -> Value {
    json!({
        "name": info.name,
        "length": info.length,
        "bytes": info.bytes,
        "first_id": id_json(info.first_id.as_ref()),
        "last_id": id_json(info.last_id.as_ref()),
        "appended": info.appended,
        "create_time": time_json(info.create_time.as_ref()),
        "groups": info.groups,
    })
}

/// What is known of a group, as JSON.
pub(super) fn group_json(info: &v1::GroupInfo) -> Value {
    let consumers: Vec<Value> = info
        .consumers
        .iter()
        .map(|c| json!({ "name": c.name, "pending": c.pending, "sessions": c.sessions, "active": c.active }))
        .collect();
    json!({
        "name": info.name,
        "stream": info.stream,
        "cursor": id_json(info.cursor.as_ref()),
        "undelivered": info.undelivered,
        "pending": info.pending,
        "waiting": info.waiting,
        "oldest_unacknowledged_time": time_json(info.oldest_unacknowledged_time.as_ref()),
        "skipped_by_trim": info.skipped_by_trim,
        "acknowledged": info.acknowledged,
        "dead_lettered": info.dead_lettered,
        "consumers": consumers,
    })
}

/// Prints rows under headings, columns aligned.
pub(super) fn write_table(out: &mut impl Write, headings: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let width = |column: usize| {
        rows.iter().map(|r| r[column].chars().count()).chain([headings[column].len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let headings: Vec<String> = headings.iter().map(|h| (*h).into()).collect();
    for row in std::iter::once(&headings).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(data: &'static [u8]) -> v1::RecordedEvent {
        v1::RecordedEvent {
            stream: "s".into(),
            id: Some(v1::EntryId { ms: 5, seq: 1 }),
            event: Some(v1::Event { r#type: "t".into(), data: data.into(), ..Default::default() }),
            ..Default::default()
        }
    }

    fn line(json: bool, data: &'static [u8]) -> String {
        let mut out = Vec::new();
        write_entry(&mut out, Output { json }, &entry(data)).expect("memory takes it");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn durations_have_two_units() {
        let text = |seconds, nanos| duration(Some(&prost_types::Duration { seconds, nanos }));
        assert_eq!([text(0, 7_000_000), text(59, 0), text(61, 0)], ["7ms", "59s", "1m1s"]);
        assert_eq!([text(3_720, 0), text(90_000, 0), duration(None)], ["1h2m", "1d1h", "-"]);
    }

    #[test]
    fn an_entry_is_one_line_whatever_its_data() {
        assert_eq!(line(false, br#"{"a":1}"#), "5-1 t - {\"a\":1}\n");
        assert_eq!(line(false, b"{\n\"a\":1}"), "5-1 t - {\"a\":1}\n");
        assert_eq!(line(false, b"a\nb"), "5-1 t - \"a\\nb\"\n");
        assert_eq!(line(false, b"\xff"), "5-1 t - \"/w==\"\n");
        assert!(line(true, b"a\nb").trim_end().ends_with(r#""stream":"s"}"#));
    }
}
