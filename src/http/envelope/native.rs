//! Native JSON events: the whole object, byte for byte, is the data.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::json::{members, scalar};
use super::table::{Copies, Found};
use crate::error::{Error, Reason, Result};
use crate::format::event::Event;
use crate::limits::PUBLISH_EVENTS_MAX;
use crate::types::NewEntry;

/// Media type of native JSON data.
pub(super) const JSON: &str = "application/json";

/// A body of one event, or of an array of events.
pub(in crate::http) fn single(body: &Bytes, source: &str) -> Result<Vec<NewEntry>> {
    let text = text(body)?;
    if text.trim_ascii_start().starts_with('[') {
        return array(body, source);
    }
    let whole: &RawValue = serde_json::from_str(text).map_err(malformed)?;
    Ok(vec![event(body, whole.get(), source)?])
}

/// A body that is an array of events.
pub(in crate::http) fn array(body: &Bytes, source: &str) -> Result<Vec<NewEntry>> {
    let parts: Vec<&RawValue> = serde_json::from_str(text(body)?).map_err(malformed)?;
    check_count(parts.len())?;
    parts
        .iter()
        .enumerate()
        .map(|(n, part)| event(body, part.get(), source).map_err(|e| placed(e, &format!("events[{n}]"))))
        .collect()
}

/// A body of one event a line; empty lines are passed over. One bad line refuses them all.
pub(in crate::http) fn lines(body: &Bytes, source: &str) -> Result<Vec<NewEntry>> {
    let mut entries = Vec::new();
    for (n, line) in body.split(|b| *b == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        check_count(entries.len() + 1)?;
        entries.push(
            line_event(body, line, source).map_err(|e| placed(e, &format!("line {}", n + 1)).with("line", n + 1))?,
        );
    }
    check_count(entries.len())?;
    Ok(entries)
}

fn line_event(body: &Bytes, line: &[u8], source: &str) -> Result<NewEntry> {
    let line = std::str::from_utf8(line).map_err(|_| Error::new(Reason::InvalidEvent, "is not UTF-8"))?;
    super::check_text(line)?;
    let whole: &RawValue = serde_json::from_str(line).map_err(malformed)?;
    event(body, whole.get(), source)
}

/// Events that were members of a larger document.
pub(in crate::http) fn objects(events: Vec<Box<RawValue>>, source: &str) -> Result<Vec<NewEntry>> {
    check_count(events.len())?;
    let bodies = events.into_iter().map(|raw| Bytes::from(String::from(Box::<str>::from(raw))));
    bodies
        .enumerate()
        .map(|(n, body)| {
            let text = std::str::from_utf8(&body).expect("was text");
            event(&body, text, source).map_err(|e| placed(e, &format!("events[{n}]")))
        })
        .collect()
}

/// The event whose data is this object, a part of the body.
fn event(body: &Bytes, object: &str, source: &str) -> Result<NewEntry> {
    let copies = copies(object)?;
    let own = |text: Option<std::borrow::Cow<'_, str>>| text.map(std::borrow::Cow::into_owned);
    Event {
        id: own(copies.id),
        source: own(copies.source).or_else(|| Some(source.to_owned())),
        r#type: own(copies.r#type),
        time: copies.time,
        subject: own(copies.subject),
        data_content_type: Some(JSON.to_owned()),
        data_schema: None,
        data: body.slice_ref(object.as_bytes()),
        attributes: Vec::new(),
        key: own(copies.key),
    }
    .into_entry()
}

/// The attributes that the table takes out of the object in `text`.
fn copies(text: &str) -> Result<Copies<'_>> {
    if !text.starts_with('{') {
        return Err(Error::new(Reason::InvalidEvent, "an event is a JSON object"));
    }
    let mut found = Found::default();
    members(text, |name, value| {
        if Found::knows(&name) {
            found.put(&name, scalar(value));
        }
    })
    .map_err(malformed)?;
    found.copies()
}

/// The body as text, nested no deeper than is taken.
pub(super) fn text(body: &[u8]) -> Result<&str> {
    let text = std::str::from_utf8(body)
        .map_err(|e| Error::new(Reason::InvalidEvent, format!("is not UTF-8 from byte {}", e.valid_up_to())))?;
    super::check_text(text)?;
    Ok(text)
}

pub(super) fn check_count(count: usize) -> Result<()> {
    if count == 0 {
        return Err(Error::invalid("events", "at least one event is needed"));
    }
    if count > PUBLISH_EVENTS_MAX {
        return Err(Error::new(Reason::BatchTooLarge, format!("at most {PUBLISH_EVENTS_MAX} events in one request"))
            .with("max", PUBLISH_EVENTS_MAX));
    }
    Ok(())
}

pub(super) fn malformed(error: serde_json::Error) -> Error {
    Error::new(Reason::InvalidEvent, format!("malformed JSON: {error}"))
}

/// The same error, saying in which of several events it is.
pub(super) fn placed(error: Error, place: &str) -> Error {
    let mut placed = Error::new(error.reason(), format!("{place}: {}", error.message()));
    for (name, value) in error.details() {
        placed = placed.with(name, value);
    }
    if error.violations().is_empty() {
        placed = placed.violation(place, error.message());
    }
    for (field, description) in error.violations() {
        placed = placed.violation(format!("{place}.{field}"), description);
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::event::EventView;

    fn one(body: &'static str) -> Result<Vec<NewEntry>> {
        single(&Bytes::from_static(body.as_bytes()), "/http")
    }

    #[test]
    fn bytes_stay_as_they_came() {
        let entries =
            one(" [ {\"event\" : \"a\",  \"x\":1.0e+2}\r\n,{\"type\":\"b\",\"id\":7, \"\\u006bey\":\"k\"} ] ")
                .expect("good");
        let first = EventView::parse(&entries[0].bytes).expect("event");
        assert_eq!((first.r#type, first.data), ("a", &b"{\"event\" : \"a\",  \"x\":1.0e+2}"[..]));
        assert_eq!((first.source, first.data_content_type), ("/http", JSON));
        let second = EventView::parse(&entries[1].bytes).expect("event");
        assert_eq!((second.r#type, second.id, second.key), ("b", "7", "k"));
    }

    #[test]
    fn bad_bodies_are_refused() {
        for bad in ["", "1", "null", "\"x\"", "{", "{\"a\":1}}", "[1]", "[{},2]", "{\"a\":1} {\"b\":2}", "{'a':1}"] {
            assert_eq!(one(bad).expect_err(bad).reason(), Reason::InvalidEvent, "{bad}");
        }
        assert_eq!(one("[]").expect_err("nothing").reason(), Reason::InvalidArgument);
        let error = one("[{},{\"id\":\"a\\u0000\"}]").expect_err("control character");
        assert_eq!(error.violations()[0].0, "events[1].id");
        let many = Bytes::from(format!("[{}{{}}]", "{},".repeat(1000)));
        assert_eq!(single(&many, "/http").expect_err("too many").reason(), Reason::BatchTooLarge);
    }

    #[test]
    fn a_broken_line_is_named() {
        let body = Bytes::from_static(b"{\"a\":1}\n\n{\"b\":2}\r\n{\"c\":\n{\"d\":4}\n");
        let error = lines(&body, "/http").expect_err("line 4 is broken");
        assert_eq!((error.reason(), error.detail("line")), (Reason::InvalidEvent, Some("4")));
        let entries = lines(&Bytes::from_static(b"{\"a\":1}\n\n {\"b\":2}\r\n"), "/http").expect("good");
        assert_eq!(EventView::parse(&entries[1].bytes).expect("event").data, b"{\"b\":2}");
        lines(&Bytes::from_static(b" \n\n"), "/http").expect_err("no event");
    }
}
