//! CloudEvents 1.0 over HTTP, in: binary (attributes in headers), structured (one JSON object) and batch (an array).
//!
//! A CloudEvent has its own attributes and data; both are kept, the data as its bytes came. The extension
//! `partitionkey` is the event's key. Refused: other spec versions, missing required attributes, extension names
//! that Synapse reserves.

use std::borrow::Cow;

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::value::RawValue;

use super::json::{members, scalar};
use super::native::{JSON, check_count, malformed, placed, text};
use super::time::parse_rfc3339;
use crate::error::{Error, Reason, Result};
use crate::format::event::Event;
use crate::types::NewEntry;

/// The extension that carries the key.
pub(super) const PARTITION_KEY: &str = "partitionkey";

/// A CloudEvent in binary mode: `ce-` headers beside the data.
pub(in crate::http) fn binary(headers: &HeaderMap, content_type: Option<&str>, body: Bytes) -> Result<NewEntry> {
    let mut draft = Draft::default();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix("ce-") else { continue };
        let value = value.to_str().ok().and_then(percent_decode);
        let value = value.ok_or_else(|| invalid(name, "is not percent-encoded UTF-8"))?;
        if name == "datacontenttype" {
            return Err(invalid(name, "goes into the content-type header in binary mode"));
        }
        draft.put(name, value.into())?;
    }
    draft.event.data_content_type = content_type.map(str::to_owned);
    draft.event.data = body;
    draft.finish()
}

/// A CloudEvent in structured mode.
pub(in crate::http) fn structured(body: &Bytes) -> Result<NewEntry> {
    let whole: &RawValue = serde_json::from_str(text(body)?).map_err(malformed)?;
    object(body, whole.get())
}

/// A batch of CloudEvents.
pub(in crate::http) fn batch(body: &Bytes) -> Result<Vec<NewEntry>> {
    let parts: Vec<&RawValue> = serde_json::from_str(text(body)?).map_err(malformed)?;
    check_count(parts.len())?;
    let events = parts.iter().enumerate();
    events.map(|(n, part)| object(body, part.get()).map_err(|e| placed(e, &format!("events[{n}]")))).collect()
}

fn object(body: &Bytes, text: &str) -> Result<NewEntry> {
    if !text.starts_with('{') {
        return Err(Error::new(Reason::InvalidEvent, "a CloudEvent is a JSON object"));
    }
    let (mut draft, mut data, mut result) = (Draft::default(), Data::None, Ok(()));
    members(text, |name, value| {
        if result.is_ok() {
            result = take_member(&mut draft, &mut data, &name, value);
        }
    })
    .map_err(malformed)?;
    result?;
    data.put_into(&mut draft.event, body)?;
    draft.finish()
}

fn take_member<'a>(draft: &mut Draft, data: &mut Data<'a>, name: &str, value: &'a RawValue) -> Result<()> {
    let null = value.get() == "null";
    match name {
        "data" if matches!(data, Data::None) => *data = Data::Json(value),
        // An absent attribute may be written as null.
        "data_base64" if null => {}
        "data_base64" if matches!(data, Data::None) => *data = Data::Base64(value),
        "data" | "data_base64" => return Err(invalid("data", "an event has one of data and data_base64, once")),
        _ if null => {}
        _ => draft.put(name, attribute_text(name, value)?)?,
    }
    Ok(())
}

/// An attribute's value as text: strings, integers and booleans have one.
fn attribute_text<'a>(name: &str, value: &'a RawValue) -> Result<Cow<'a, str>> {
    let text = value.get();
    if matches!(text, "true" | "false") {
        return Ok(text.into());
    }
    let integer = text.parse::<i32>().is_ok();
    scalar(value)
        .filter(|_| integer || text.starts_with('"'))
        .ok_or_else(|| invalid(name, "must be a string, a boolean or a 32-bit integer"))
}

enum Data<'a> {
    None,
    Json(&'a RawValue),
    Base64(&'a RawValue),
}

impl Data<'_> {
    fn put_into(self, event: &mut Event, body: &Bytes) -> Result<()> {
        let json = is_json_type(event.data_content_type.as_deref().unwrap_or(JSON));
        match self {
            Data::None => {}
            // Data of a type that is not JSON is carried as a string.
            Data::Json(value) if !json && value.get().starts_with('"') => {
                let text = scalar(value).ok_or_else(|| invalid("data", "is not a valid string"))?;
                event.data = Bytes::from(text.into_owned());
            }
            Data::Json(value) => {
                event.data = body.slice_ref(value.get().as_bytes());
                event.data_content_type.get_or_insert_with(|| JSON.to_owned());
            }
            Data::Base64(value) => {
                let decoded = scalar(value).and_then(|text| BASE64.decode(text.as_bytes()).ok());
                event.data = decoded.ok_or_else(|| invalid("data_base64", "is not base64"))?.into();
            }
        }
        Ok(())
    }
}

/// A CloudEvent whose attributes are being gathered.
#[derive(Default)]
struct Draft {
    event: Event,
    spec_version: Option<String>,
}

impl Draft {
    fn put(&mut self, name: &str, value: Cow<'_, str>) -> Result<()> {
        let place = match name {
            "specversion" => &mut self.spec_version,
            "id" => &mut self.event.id,
            "source" => &mut self.event.source,
            "type" => &mut self.event.r#type,
            "subject" => &mut self.event.subject,
            "datacontenttype" => &mut self.event.data_content_type,
            "dataschema" => &mut self.event.data_schema,
            PARTITION_KEY => &mut self.event.key,
            "time" => {
                let time = parse_rfc3339(&value).ok_or_else(|| invalid("time", "is not an RFC 3339 time"))?;
                self.event.time = Some(time);
                return Ok(());
            }
            _ => {
                if self.event.attributes.iter().any(|(known, _)| known == name) {
                    return Err(invalid(name, "is there twice"));
                }
                self.event.attributes.push((name.to_owned(), value.into_owned()));
                return Ok(());
            }
        };
        if place.replace(value.into_owned()).is_some() {
            return Err(invalid(name, "is there twice"));
        }
        Ok(())
    }

    fn finish(self) -> Result<NewEntry> {
        match self.spec_version.as_deref() {
            Some("1.0") => {}
            Some(other) => return Err(invalid("specversion", format!("is {other:?}, only 1.0 is taken"))),
            None => return Err(invalid("specversion", "is required")),
        }
        for (name, value) in [("id", &self.event.id), ("source", &self.event.source), ("type", &self.event.r#type)] {
            if value.as_deref().is_none_or(str::is_empty) {
                return Err(invalid(name, "is required"));
            }
        }
        self.event.into_entry()
    }
}

/// Whether data of this media type is JSON.
pub(super) fn is_json_type(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case(JSON)
        || essence.eq_ignore_ascii_case("text/json")
        || essence.len() > 5
            && essence.is_char_boundary(essence.len() - 5)
            && essence[essence.len() - 5..].eq_ignore_ascii_case("+json")
}

fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let (pair, after) = rest.split_at_checked(2)?;
            let pair = std::str::from_utf8(pair).ok().filter(|p| p.bytes().all(|b| b.is_ascii_hexdigit()))?;
            out.push(u8::from_str_radix(pair, 16).ok()?);
            rest = after;
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

fn invalid(attribute: &str, why: impl Into<String>) -> Error {
    let why = why.into();
    Error::new(Reason::InvalidEvent, format!("{attribute}: {why}")).violation(attribute, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::event::EventView;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter().map(|(n, v)| (n.parse().expect("name"), v.parse().expect("value"))).collect::<HeaderMap>()
    }

    #[test]
    fn binary_mode_takes_headers() {
        let headers = headers(&[
            ("ce-specversion", "1.0"),
            ("ce-id", "1"),
            ("ce-source", "/s%20%C3%BC"),
            ("ce-type", "t"),
            ("ce-partitionkey", "k"),
            ("ce-traceparent", "00-1"),
            ("x-other", "no"),
        ]);
        let entry = binary(&headers, Some("text/plain"), Bytes::from_static(b"\xff\x00")).expect("good");
        let view = EventView::parse(&entry.bytes).expect("event");
        assert_eq!((view.id, view.source, view.r#type, view.key), ("1", "/s ü", "t", "k"));
        assert_eq!((view.data_content_type, view.data), ("text/plain", &b"\xff\x00"[..]));
        assert_eq!(view.attributes().collect::<Vec<_>>(), [("traceparent", "00-1")]);
    }

    #[test]
    fn structured_mode_keeps_the_data_as_it_came() {
        let body = br#"{"specversion":"1.0","id":"1","source":"s","type":"t","n":5,"b":true,"none":null,"data": {"x" : 1.0} }"#;
        let entry = structured(&Bytes::from_static(body)).expect("good");
        let view = EventView::parse(&entry.bytes).expect("event");
        assert_eq!((view.data, view.data_content_type), (&b"{\"x\" : 1.0}"[..], JSON));
        assert_eq!(view.attributes().collect::<Vec<_>>(), [("n", "5"), ("b", "true")]);
    }

    #[test]
    fn bad_cloud_events_are_refused() {
        let good = r#""specversion":"1.0","id":"1","source":"s","type":"t""#;
        for bad in [
            r#"{"id":"1","source":"s","type":"t"}"#.to_owned(),
            r#"{"specversion":"0.3","id":"1","source":"s","type":"t"}"#.to_owned(),
            r#"{"specversion":"1.0","id":"","source":"s","type":"t"}"#.to_owned(),
            r#"{"specversion":"1.0","id":"1","type":"t"}"#.to_owned(),
            format!("{{{good},\"time\":\"yesterday\"}}"),
            format!("{{{good},\"synapsestream\":\"x\"}}"),
            format!("{{{good},\"Upper\":\"x\"}}"),
            format!("{{{good},\"key\":\"x\"}}"),
            format!("{{{good},\"a\":{{}}}}"),
            format!("{{{good},\"a\":1.5}}"),
            format!("{{{good},\"data\":1,\"data_base64\":\"AA==\"}}"),
            format!("{{{good},\"data_base64\":\"%\"}}"),
            format!("{{{good},\"id\":\"2\"}}"),
            "[]".to_owned(),
        ] {
            assert_eq!(structured(&Bytes::from(bad.clone())).expect_err(&bad).reason(), Reason::InvalidEvent, "{bad}");
        }
    }

    #[test]
    fn json_types() {
        for (media_type, want) in
            [("application/json", true), ("Application/LD+JSON; x=y", true), ("text/plain", false), ("+json", false)]
        {
            assert_eq!(is_json_type(media_type), want, "{media_type}");
        }
    }
}
