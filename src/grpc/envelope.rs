//! How an entry of fields shows as an event: what its fields say under the names that publishers use.
//!
//! A field counts where it is UTF-8; of several names for one thing the first that is there wins. What is absent stays
//! absent. All fields are shown beside the event, so nothing is lost.

use bytes::Bytes;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use crate::format::event::{Event, Timestamp};
use crate::format::fields;

const ID: [&str; 2] = ["id", "event_id"];
const TYPE: [&str; 3] = ["type", "event_type", "event"];
const SOURCE: [&str; 2] = ["source", "service"];
const TIME: [&str; 2] = ["timestamp", "time"];
/// Epoch numbers below this are seconds, others milliseconds.
const EPOCH_MS_FROM: f64 = 1e11;

/// The event in a stored field entry, in its wire form.
pub(super) fn event_of(stored: &[u8]) -> Bytes {
    let text = |names: &[&str]| names.iter().find_map(|name| text_field(stored, name)).map(str::to_owned);
    let event = Event {
        id: text(&ID),
        r#type: text(&TYPE),
        source: text(&SOURCE),
        time: TIME.iter().find_map(|name| text_field(stored, name)).and_then(parse_time),
        subject: text(&["subject"]),
        key: text(&["key"]),
        data_content_type: text(&["datacontenttype"]),
        data_schema: text(&["dataschema"]),
        data: field(stored, "data").map(Bytes::copy_from_slice).unwrap_or_default(),
        attributes: Vec::new(),
    };
    Bytes::from(event.encode())
}

/// The fields of a stored field entry as `repeated Field fields = 6` in its wire form.
pub(super) fn fields_of(stored: &[u8]) -> Bytes {
    const FIELDS: u32 = 6;
    let mut out = Vec::with_capacity(stored.len() + 16);
    for (name, value) in fields::pairs(stored) {
        let length: usize = [name, value].iter().map(|part| part_len(part)).sum();
        encode_key(FIELDS, WireType::LengthDelimited, &mut out);
        encode_varint(length as u64, &mut out);
        for (number, part) in [(1, name), (2, value)] {
            if !part.is_empty() {
                encode_key(number, WireType::LengthDelimited, &mut out);
                encode_varint(part.len() as u64, &mut out);
                out.extend_from_slice(part);
            }
        }
    }
    Bytes::from(out)
}

fn part_len(part: &[u8]) -> usize {
    if part.is_empty() { 0 } else { 1 + encoded_len_varint(part.len() as u64) + part.len() }
}

fn field<'a>(stored: &'a [u8], name: &str) -> Option<&'a [u8]> {
    fields::pairs(stored).find(|(n, _)| *n == name.as_bytes()).map(|(_, value)| value)
}

fn text_field<'a>(stored: &'a [u8], name: &str) -> Option<&'a str> {
    field(stored, name).and_then(|value| std::str::from_utf8(value).ok())
}

/// RFC 3339, or a number since the Unix epoch.
fn parse_time(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        let (seconds, nanos) = (time.as_second(), time.subsec_nanosecond());
        // Before the epoch jiff counts the fraction back, protobuf always forward.
        return Some(if nanos < 0 {
            Timestamp { seconds: seconds - 1, nanos: nanos + 1_000_000_000 }
        } else {
            Timestamp { seconds, nanos }
        });
    }
    let number: f64 = text.parse().ok()?;
    let ms = if number < EPOCH_MS_FROM { number * 1000.0 } else { number };
    (0.0..253_402_300_800_000.0).contains(&ms).then(|| Timestamp::from_ms(ms as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, want) in [
            ("2023-11-14T22:13:20Z", Some((1_700_000_000, 0))),
            ("2023-11-14T22:13:20.5+00:00", Some((1_700_000_000, 500_000_000))),
            ("1969-12-31T23:59:59.5Z", Some((-1, 500_000_000))),
            ("1700000000", Some((1_700_000_000, 0))),
            ("1700000000.25", Some((1_700_000_000, 250_000_000))),
            ("1700000000250", Some((1_700_000_000, 250_000_000))),
            ("yesterday", None),
            ("-5", None),
            ("NaN", None),
        ] {
            assert_eq!(parse_time(text).map(|t| (t.seconds, t.nanos)), want, "{text}");
        }
    }
}
