//! The wire form of an event: what a publisher sends is what is stored is what is delivered.
//!
//! The bytes are a protobuf `synapse.v1.Event` (`proto/synapse/v1/event.proto`). [`EventView`] reads them in place,
//! without allocating; [`check`] is the light scan that every published event passes once; [`Event`] builds them.
//! Refused here: bytes that are not that message, fields that it does not have, text that is not UTF-8 or too long,
//! attribute names that are reserved, and (until scheduling exists) `deliver_at`.

use bytes::Bytes;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint, encoded_len_varint};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::block::type_hash;
use crate::error::{Error, Reason, Result};
use crate::limits;
use crate::types::{EntryId, EntryKind, NewEntry, StreamName};

/// Field numbers of `synapse.v1.Event`. Stored on disk: never reused.
mod tag {
    pub(super) const ID: u32 = 1;
    pub(super) const SOURCE: u32 = 2;
    pub(super) const TYPE: u32 = 3;
    pub(super) const TIME: u32 = 4;
    pub(super) const SUBJECT: u32 = 5;
    pub(super) const DATA_CONTENT_TYPE: u32 = 6;
    pub(super) const DATA_SCHEMA: u32 = 7;
    pub(super) const DATA: u32 = 8;
    pub(super) const ATTRIBUTES: u32 = 9;
    pub(super) const KEY: u32 = 10;
    pub(super) const DELIVER_AT: u32 = 11;
}

/// Type of an event whose publisher gave none.
pub const TYPE_DEFAULT: &str = "synapse.event";
/// Attribute names starting with this are the server's own.
pub const RESERVED_PREFIX: &str = "synapse";
/// Names that an attribute may not take, since a field of the event has them.
pub const RESERVED_NAMES: [&str; 12] = [
    "id",
    "source",
    "type",
    "time",
    "subject",
    "key",
    "data",
    "datacontenttype",
    "dataschema",
    "specversion",
    "data_base64",
    "deliver_at",
];

/// An instant as protobuf writes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds since the Unix epoch.
    pub seconds: i64,
    /// Nanoseconds within the second, 0 to 999,999,999.
    pub nanos: i32,
}

impl Timestamp {
    /// The instant of so many milliseconds since the Unix epoch.
    pub fn from_ms(ms: u64) -> Self {
        Self { seconds: (ms / 1000) as i64, nanos: (ms % 1000) as i32 * 1_000_000 }
    }
}

/// An event to be published, as its parts. Absent parts take no room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The publisher's own id.
    pub id: Option<String>,
    /// Who it is from.
    pub source: Option<String>,
    /// What happened.
    pub r#type: Option<String>,
    /// When it happened.
    pub time: Option<Timestamp>,
    /// What it is about.
    pub subject: Option<String>,
    /// Media type of the data.
    pub data_content_type: Option<String>,
    /// Reference to the schema of the data.
    pub data_schema: Option<String>,
    /// The payload.
    pub data: Bytes,
    /// Further attributes.
    pub attributes: Vec<(String, String)>,
    /// Entries of one key stay in order in key-ordered groups.
    pub key: Option<String>,
}

impl Event {
    /// An event of this type and data.
    pub fn new(r#type: impl Into<String>, data: impl Into<Bytes>) -> Self {
        Self { r#type: Some(r#type.into()), data: data.into(), ..Self::default() }
    }
    /// Sets who it is from.
    #[must_use]
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.source = Some(source.into());
        self
    }
    /// Sets the key.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }
    /// Sets the publisher's own id.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }
    /// Adds an attribute.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }

    /// The wire form, unchecked: for events whose parts are known to be good, see [`Event::into_entry`].
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.data.len() + 128);
        let text = [
            (tag::ID, &self.id),
            (tag::SOURCE, &self.source),
            (tag::TYPE, &self.r#type),
            (tag::SUBJECT, &self.subject),
            (tag::DATA_CONTENT_TYPE, &self.data_content_type),
            (tag::DATA_SCHEMA, &self.data_schema),
            (tag::KEY, &self.key),
        ];
        for (tag, value) in text {
            if let Some(value) = value.as_deref().filter(|v| !v.is_empty()) {
                put_bytes(&mut out, tag, value.as_bytes());
            }
        }
        if let Some(time) = self.time {
            put_bytes(&mut out, tag::TIME, &encode_timestamp(time));
        }
        for (name, value) in &self.attributes {
            put_attribute(&mut out, name, value);
        }
        if !self.data.is_empty() {
            put_bytes(&mut out, tag::DATA, &self.data);
        }
        out
    }

    /// The entry to publish, checked like any other.
    pub fn into_entry(self) -> Result<NewEntry> {
        check(Bytes::from(self.encode()))
    }
}

/// Checks bytes that a publisher sent as an event, and takes them as they are.
pub fn check(bytes: Bytes) -> Result<NewEntry> {
    let view = EventView::parse(&bytes)?;
    check_text("id", view.id)?;
    check_text("source", view.source)?;
    check_text("type", view.r#type)?;
    check_text("subject", view.subject)?;
    check_text("data_content_type", view.data_content_type)?;
    check_text("data_schema", view.data_schema)?;
    check_text("key", view.key)?;
    if view.has_deliver_at {
        return Err(Error::new(Reason::Unsupported, "deliver_at: scheduled events are not supported yet")
            .violation("deliver_at", "scheduled events are not supported yet"));
    }
    if let Some(time) = view.time {
        check_timestamp(time)?;
    }
    let mut count = 0usize;
    for (name, _) in view.attributes() {
        check_attribute_name(name)?;
        count += 1;
    }
    if count > limits::ATTRIBUTES_MAX {
        return Err(invalid(
            "attributes",
            format!("{count} attributes, at most {} are allowed", limits::ATTRIBUTES_MAX),
        ));
    }
    let type_hash = Some(type_hash(view.type_or_default()));
    Ok(NewEntry { kind: EntryKind::Event, bytes, type_hash })
}

/// An entry to be appended whose bytes were stored before, and so were checked before.
pub fn stored_as(kind: EntryKind, bytes: Bytes) -> NewEntry {
    let event = if kind == EntryKind::Event { EventView::parse(&bytes).ok() } else { None };
    let type_hash = event.map(|event| type_hash(event.type_or_default()));
    NewEntry { kind, bytes, type_hash }
}

/// Whether an attribute may have this name: 1 to 64 of `a-z 0-9 _ . -`, not reserved.
pub fn check_attribute_name(name: &str) -> Result<()> {
    let field = || format!("attributes[{name:?}]");
    if name.is_empty() || name.len() > limits::ATTRIBUTE_NAME_BYTES_MAX {
        return Err(invalid(
            field(),
            format!("an attribute name has 1 to {} characters", limits::ATTRIBUTE_NAME_BYTES_MAX),
        ));
    }
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'-')) {
        return Err(invalid(field(), "an attribute name consists of a-z, 0-9, '_', '.' and '-'"));
    }
    if RESERVED_NAMES.contains(&name) || name.starts_with(RESERVED_PREFIX) {
        return Err(invalid(field(), "the name is reserved"));
    }
    Ok(())
}

fn check_text(field: &str, text: &str) -> Result<()> {
    if text.len() > limits::EVENT_TEXT_BYTES_MAX {
        return Err(invalid(
            field,
            format!("{} bytes, at most {} are allowed", text.len(), limits::EVENT_TEXT_BYTES_MAX),
        ));
    }
    // Control characters are below 0x20, 0x7f, or begin with 0xc2 in UTF-8: one look at the bytes settles most texts.
    let suspicious = text.bytes().any(|b| b < 0x20 || b == 0x7f || b == 0xc2);
    if suspicious && text.chars().any(char::is_control) {
        return Err(invalid(field, "may not contain control characters"));
    }
    Ok(())
}

fn check_timestamp(time: Timestamp) -> Result<()> {
    // The range of google.protobuf.Timestamp: years 1 to 9999.
    if !(-62_135_596_800..=253_402_300_799).contains(&time.seconds) || !(0..1_000_000_000).contains(&time.nanos) {
        return Err(invalid("time", "outside the years 1 to 9999"));
    }
    Ok(())
}

fn invalid(field: impl Into<String>, why: impl Into<String>) -> Error {
    let (field, why) = (field.into(), why.into());
    Error::new(Reason::InvalidEvent, format!("{field}: {why}")).violation(field, why)
}

/// An event read in place. Absent text is empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventView<'a> {
    /// The publisher's own id.
    pub id: &'a str,
    /// Who it is from.
    pub source: &'a str,
    /// What happened.
    pub r#type: &'a str,
    /// When it happened.
    pub time: Option<Timestamp>,
    /// What it is about.
    pub subject: &'a str,
    /// Media type of the data.
    pub data_content_type: &'a str,
    /// Reference to the schema of the data.
    pub data_schema: &'a str,
    /// The payload.
    pub data: &'a [u8],
    /// What keeps entries in order in key-ordered groups.
    pub key: &'a str,
    /// Whether a delivery time was asked for.
    pub has_deliver_at: bool,
    has_attributes: bool,
    bytes: &'a [u8],
}

impl<'a> EventView<'a> {
    /// Reads the message; fails with `INVALID_EVENT` where the bytes are not one.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut view = Self { bytes, ..Self::default() };
        let mut fields = Fields { rest: bytes };
        while let Some((number, value)) = fields.next_field()? {
            match number {
                tag::ID => view.id = utf8("id", value)?,
                tag::SOURCE => view.source = utf8("source", value)?,
                tag::TYPE => view.r#type = utf8("type", value)?,
                tag::TIME => view.time = Some(parse_timestamp("time", value)?),
                tag::SUBJECT => view.subject = utf8("subject", value)?,
                tag::DATA_CONTENT_TYPE => view.data_content_type = utf8("data_content_type", value)?,
                tag::DATA_SCHEMA => view.data_schema = utf8("data_schema", value)?,
                tag::DATA => view.data = value,
                tag::ATTRIBUTES => {
                    parse_attribute(value)?;
                    view.has_attributes = true;
                }
                tag::KEY => view.key = utf8("key", value)?,
                tag::DELIVER_AT => {
                    parse_timestamp("deliver_at", value)?;
                    view.has_deliver_at = true;
                }
                other => return Err(invalid("event", format!("unknown field {other}"))),
            }
        }
        Ok(view)
    }

    /// The type, or the one that stands for none.
    pub fn type_or_default(&self) -> &'a str {
        if self.r#type.is_empty() { TYPE_DEFAULT } else { self.r#type }
    }

    /// The attributes in the order in which they stand.
    pub fn attributes(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut fields = Fields { rest: if self.has_attributes { self.bytes } else { &[] } };
        std::iter::from_fn(move || {
            while let Ok(Some((number, value))) = fields.next_field() {
                if number == tag::ATTRIBUTES {
                    return parse_attribute(value).ok();
                }
            }
            None
        })
    }

    /// The attribute of that name.
    pub fn attribute(&self, name: &str) -> Option<&'a str> {
        self.attributes().filter(|(n, _)| *n == name).last().map(|(_, v)| v)
    }

    /// Hash of the key, for key-ordered groups; `None` where there is no key.
    pub fn key_hash(&self) -> Option<u64> {
        (!self.key.is_empty()).then(|| xxhash_rust::xxh3::xxh3_64(self.key.as_bytes()))
    }
}

/// The id that an event without one is shown with: a UUID version 7 made of the entry's own identity,
/// so that it is the same at every reading and takes no room.
pub fn derived_id(stream: &StreamName, id: EntryId) -> String {
    let mut named = Vec::with_capacity(stream.as_str().len() + 16);
    named.extend_from_slice(&id.ms.to_le_bytes());
    named.extend_from_slice(&id.seq.to_le_bytes());
    named.extend_from_slice(stream.as_str().as_bytes());
    let hash = xxh3_128_with_seed(&named, 0);
    let high = (id.ms << 16) | 0x7000 | (hash as u64 & 0x0fff);
    let low = 0x8000_0000_0000_0000 | ((hash >> 64) as u64 & 0x3fff_ffff_ffff_ffff);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

/// Appends an attribute to an event in its wire form.
pub fn put_attribute(out: &mut Vec<u8>, name: &str, value: &str) {
    let mut pair = Vec::with_capacity(name.len() + value.len() + 8);
    put_bytes(&mut pair, 1, name.as_bytes());
    put_bytes(&mut pair, 2, value.as_bytes());
    put_bytes(out, tag::ATTRIBUTES, &pair);
}

/// The event without the attributes whose names the filter refuses; everything else as it stands.
pub fn retain_attributes(bytes: &[u8], keep: impl Fn(&str) -> bool) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut fields = Fields { rest: bytes };
    loop {
        let before = fields.rest;
        let Some((number, value)) = fields.next_field()? else { return Ok(out) };
        if number != tag::ATTRIBUTES || keep(parse_attribute(value)?.0) {
            out.extend_from_slice(&before[..before.len() - fields.rest.len()]);
        }
    }
}

/// Appends a length-delimited protobuf field.
pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    out.reserve(value.len() + 6 + encoded_len_varint(value.len() as u64));
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

fn encode_timestamp(time: Timestamp) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    if time.seconds != 0 {
        encode_key(1, WireType::Varint, &mut out);
        encode_varint(time.seconds as u64, &mut out);
    }
    if time.nanos != 0 {
        encode_key(2, WireType::Varint, &mut out);
        encode_varint(time.nanos as u64, &mut out);
    }
    out
}

fn utf8<'a>(field: &str, bytes: &'a [u8]) -> Result<&'a str> {
    std::str::from_utf8(bytes).map_err(|_| invalid(field, "is not UTF-8"))
}

fn parse_attribute(bytes: &[u8]) -> Result<(&str, &str)> {
    let (mut name, mut value) = ("", "");
    let mut fields = Fields { rest: bytes };
    while let Some((number, part)) = fields.next_field()? {
        match number {
            1 => name = utf8("attributes", part)?,
            2 => value = utf8("attributes", part)?,
            other => return Err(invalid("attributes", format!("unknown field {other}"))),
        }
    }
    Ok((name, value))
}

fn parse_timestamp(field: &str, mut bytes: &[u8]) -> Result<Timestamp> {
    let bad = || invalid(field, "is not a timestamp");
    let mut time = Timestamp::default();
    while !bytes.is_empty() {
        let (number, wire_type) = decode_key(&mut bytes).map_err(|_| bad())?;
        if wire_type != WireType::Varint {
            return Err(bad());
        }
        let value = decode_varint(&mut bytes).map_err(|_| bad())?;
        match number {
            1 => time.seconds = value as i64,
            2 => time.nanos = value as i32,
            _ => return Err(bad()),
        }
    }
    Ok(time)
}

/// Walks the length-delimited fields of a message; `Event` and its parts have no others.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn next_field(&mut self) -> Result<Option<(u32, &'a [u8])>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let malformed = || invalid("event", "is not a protobuf message");
        let (number, wire_type) = decode_key(&mut self.rest).map_err(|_| malformed())?;
        if wire_type != WireType::LengthDelimited {
            return Err(invalid("event", format!("field {number} has the wrong wire type")));
        }
        let length = decode_varint(&mut self.rest).map_err(|_| malformed())?;
        let length = usize::try_from(length).ok().filter(|l| *l <= self.rest.len()).ok_or_else(malformed)?;
        let (value, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(Some((number, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reason(bytes: &[u8]) -> Reason {
        check(Bytes::copy_from_slice(bytes)).expect_err("must be refused").reason()
    }

    #[test]
    fn parts_survive() {
        let mut event =
            Event::new("task-created", &b"{}"[..]).source("svc").key("k").id("e1").attribute("traceparent", "00-1");
        event.time = Some(Timestamp { seconds: -5, nanos: 7 });
        let entry = event.into_entry().expect("valid");
        let view = EventView::parse(&entry.bytes).expect("own bytes");
        assert_eq!((view.id, view.source, view.r#type, view.key), ("e1", "svc", "task-created", "k"));
        assert_eq!(view.time, Some(Timestamp { seconds: -5, nanos: 7 }));
        assert_eq!(view.data, b"{}");
        assert_eq!(view.attribute("traceparent"), Some("00-1"));
    }

    #[test]
    fn bad_events_are_refused() {
        assert_eq!(reason(&[0xff]), Reason::InvalidEvent);
        assert_eq!(reason(&[0x0a, 5, b'x']), Reason::InvalidEvent);
        assert_eq!(reason(&[0x0a, 1, 0xff]), Reason::InvalidEvent, "not UTF-8");
        assert_eq!(reason(&[0x08, 1]), Reason::InvalidEvent, "wrong wire type");
        assert_eq!(reason(&[0x7a, 0]), Reason::InvalidEvent, "unknown field 15");
        for name in ["id", "synapsestream", "Upper", "", "sp ace"] {
            let event = Event::new("t", "").attribute(name, "v");
            assert_eq!(reason(&event.encode()), Reason::InvalidEvent, "{name}");
        }
        let mut scheduled = Event::new("t", "").encode();
        put_bytes(&mut scheduled, tag::DELIVER_AT, &[]);
        assert_eq!(reason(&scheduled), Reason::Unsupported);
    }

    #[test]
    fn derived_ids_are_uuid_7() {
        let stream = StreamName::parse("s").expect("valid");
        let id = derived_id(&stream, EntryId::new(0x0123_4567_89ab, 3));
        assert_eq!(&id[..15], "01234567-89ab-7");
        assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
        assert_ne!(id, derived_id(&stream, EntryId::new(0x0123_4567_89ab, 4)));
    }

    #[test]
    fn attributes_can_be_taken_out() {
        let event = Event::new("t", "d").attribute("a", "1").attribute("b", "2");
        let rest = retain_attributes(&event.encode(), |n| n != "a").expect("valid");
        let view = EventView::parse(&rest).expect("valid");
        assert_eq!(view.attributes().collect::<Vec<_>>(), [("b", "2")]);
        assert_eq!(view.data, b"d");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Ok(entry) = check(Bytes::from(bytes.clone())) {
                prop_assert_eq!(entry.bytes, bytes);
            }
        }
    }
}
