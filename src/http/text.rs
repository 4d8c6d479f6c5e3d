//! Values that JSON and query parameters carry as text: ids, durations, times, places. Parsed strictly, written back
//! the same way. Words are those of the proto files, whose JSON form these follow where they have one.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::envelope::{parse_rfc3339, write_ms};
use crate::engine::{StartAt, TailFrom};
use crate::error::{Error, Reason, Result};
use crate::types::{EntryId, IdRange};

/// An entry id, `ms-seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, examples("1700000000000-0"))]
pub(super) struct IdText(pub(super) EntryId);

impl Serialize for IdText {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for IdText {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        parse_text(d, "an entry id", |text| EntryId::parse(text).map(Self))
    }
}

impl From<EntryId> for IdText {
    fn from(id: EntryId) -> Self {
        Self(id)
    }
}

/// A length of time: a number and a unit (`ms`, `s`, `m`, `h`, `d`), exact to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, examples("30s", "0.250s", "5m"))]
pub(super) struct DurationText(pub(super) Duration);

impl DurationText {
    pub(super) const fn from_ms(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }
    pub(super) fn ms(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
    pub(super) fn parse(text: &str) -> Result<Self> {
        let bad = || {
            let text: String = text.chars().take(64).collect();
            Error::new(Reason::InvalidArgument, format!("not a duration: {text:?}, but like 30s, 250ms, 5m, 12h or 7d"))
        };
        let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(bad)?;
        let (number, unit) = text.split_at(unit_at);
        let unit_ms: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(bad()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |t: &str| !t.is_empty() && t.len() <= 20 && t.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return Err(bad());
        }
        let number = |t: &str| t.parse::<u64>().map_err(|_| bad());
        let whole_ms = number(whole)?.checked_mul(unit_ms).ok_or_else(bad)?;
        let fraction_ms = u128::from(number(fraction)?) * u128::from(unit_ms) / 10u128.pow(fraction.len() as u32);
        let ms = whole_ms.checked_add(fraction_ms as u64).ok_or_else(bad)?;
        Ok(Self::from_ms(ms))
    }
}

impl Serialize for DurationText {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.0.subsec_millis() {
            0 => s.collect_str(&format_args!("{}s", self.0.as_secs())),
            ms => s.collect_str(&format_args!("{}.{ms:03}s", self.0.as_secs())),
        }
    }
}

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        parse_text(d, "a duration like 30s", Self::parse)
    }
}

/// A moment, RFC 3339, exact to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, format = DateTime, examples("2026-01-02T03:04:05.678Z"))]
pub(super) struct TimeText(pub(super) u64);

impl TimeText {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let time = parse_rfc3339(text).ok_or_else(|| {
            let text: String = text.chars().take(64).collect();
            Error::new(Reason::InvalidArgument, format!("not an RFC 3339 time: {text:?}"))
        })?;
        let ms = time.seconds * 1000 + i64::from(time.nanos / 1_000_000);
        u64::try_from(ms).map(Self).map_err(|_| Error::new(Reason::InvalidArgument, "a time before 1970"))
    }
}

impl Serialize for TimeText {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut out = String::with_capacity(24);
        write_ms(&mut out, self.0);
        s.serialize_str(&out)
    }
}

impl<'de> Deserialize<'de> for TimeText {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        parse_text(d, "an RFC 3339 time", Self::parse)
    }
}

/// A place in a stream; what comes next is the first entry after it.
/// `earliest`, `latest`, an entry id (after it), or an RFC 3339 time (appended then or later).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    Earliest,
    Latest,
    After(EntryId),
    Time(u64),
}

impl Position {
    pub(super) fn parse(text: &str) -> Result<Self> {
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            _ if text.contains(':') => TimeText::parse(text).map(|t| Self::Time(t.0)),
            _ => EntryId::parse(text).map(Self::After),
        }
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        parse_text(d, "earliest, latest, an entry id or a time", Self::parse)
    }
}

impl ToSchema for Position {}

impl PartialSchema for Position {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("`earliest`, `latest`, after this entry id, or from this RFC 3339 time on"))
            .examples(["earliest", "latest", "1700000000000-0", "2026-01-02T03:04:05Z"])
            .into()
    }
}

impl From<Position> for StartAt {
    fn from(position: Position) -> Self {
        match position {
            Position::Earliest => Self::Earliest,
            Position::Latest => Self::Latest,
            Position::After(id) => Self::After(id),
            Position::Time(ms) => Self::Time(ms),
        }
    }
}

impl From<Position> for TailFrom {
    fn from(position: Position) -> Self {
        match position {
            Position::Earliest => Self::Earliest,
            Position::Latest => Self::Latest,
            Position::After(id) => Self::After(id),
            Position::Time(ms) => Self::Time(ms),
        }
    }
}

/// One end of a range: an id (`ms-seq`, or `ms` for all of that millisecond) or an RFC 3339 time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    first: EntryId,
    last: EntryId,
}

impl Bound {
    /// The range between two ends, both inclusive; an absent end is open.
    pub(super) fn range(from: Option<Self>, to: Option<Self>) -> Result<IdRange> {
        IdRange::new(from.map_or(EntryId::ZERO, |b| b.first), to.map_or(EntryId::MAX, |b| b.last))
    }

    fn parse(text: &str) -> Result<Self> {
        if text.contains(':') {
            let ms = TimeText::parse(text)?.0;
            return Ok(Self { first: EntryId::new(ms, 0), last: EntryId::new(ms, u64::MAX) });
        }
        Ok(Self { first: EntryId::parse(text)?, last: EntryId::parse_with_default(text, u64::MAX)? })
    }
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        parse_text(d, "an entry id or a time", Self::parse)
    }
}

/// One id, or a closed range of ids as an object of `first` and `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(value_type = IdRangeForm)]
pub(super) struct IdRangeText(pub(super) IdRange);

/// The two forms of an id range, for the description of the interface.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes a form; never built")]
#[serde(untagged)]
pub(super) enum IdRangeForm {
    /// One id.
    One(IdText),
    /// From the first to the last, both included.
    Range {
        /// The smallest id.
        first: IdText,
        /// The greatest id.
        last: IdText,
    },
}

impl<'de> Deserialize<'de> for IdRangeText {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(IdRangeVisitor)
    }
}

struct IdRangeVisitor;

impl<'de> Visitor<'de> for IdRangeVisitor {
    type Value = IdRangeText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an entry id, or an object of first and last")
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<IdRangeText, E> {
        EntryId::parse(text).map(|id| IdRangeText(IdRange::one(id))).map_err(smuggle)
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<IdRangeText, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Ends {
            first: IdText,
            last: IdText,
        }
        let ends = Ends::deserialize(de::value::MapAccessDeserializer::new(map))?;
        IdRange::new(ends.first.0, ends.last.0).map(IdRangeText).map_err(smuggle)
    }
}

fn parse_text<'de, D: Deserializer<'de>, T>(
    d: D,
    what: &'static str,
    parse: impl FnOnce(&str) -> Result<T>,
) -> Result<T, D::Error> {
    struct Text<F>(&'static str, F);
    impl<T, F: FnOnce(&str) -> Result<T>> Visitor<'_> for Text<F> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            (self.1)(text).map_err(smuggle)
        }
    }
    d.deserialize_str(Text(what, parse))
}

/// Begins an error that is passed through serde, which knows text only, so that [`decode_error`] finds its reason.
const MARK: &str = "\u{1}";

fn smuggle<E: de::Error>(error: Error) -> E {
    let mut text = String::new();
    let _ = write!(text, "{MARK}{}{MARK}{}{MARK}", error.reason().name(), error.message());
    E::custom(text)
}

/// The error of a request whose text forms did not parse: their own reason where they gave one.
pub(super) fn decode_error(place: &str, message: &str) -> Error {
    let mut parts = message.split(MARK);
    let (before, reason, own, after) = (parts.next(), parts.next(), parts.next(), parts.next());
    let (Some(before), Some(reason), Some(own)) = (before, reason, own) else {
        return Error::invalid(place, message);
    };
    let reason = [Reason::InvalidId, Reason::InvalidName, Reason::Unsupported]
        .into_iter()
        .find(|r| r.name() == reason)
        .unwrap_or(Reason::InvalidArgument);
    let own = format!("{before}{own}{}", after.unwrap_or_default());
    Error::new(reason, format!("{place}: {own}")).violation(place, own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_exact() {
        for (text, ms) in [
            ("30s", 30_000),
            ("250ms", 250),
            ("0.25s", 250),
            ("1.5m", 90_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("0s", 0),
        ] {
            assert_eq!(DurationText::parse(text).expect(text), DurationText::from_ms(ms), "{text}");
        }
        for bad in ["", "30", "s", "-1s", "1.s", ".5s", "1 s", "1w", "99999999999999999s", "1e3s", "999999999999999d"] {
            DurationText::parse(bad).expect_err(bad);
        }
        let text = |ms| serde_json::to_string(&DurationText::from_ms(ms)).expect("text");
        assert_eq!((text(30_000), text(1_250)), ("\"30s\"".to_owned(), "\"1.250s\"".to_owned()));
        for longest in [DurationText::parse("213503982334d").expect("fits"), DurationText::from_ms(u64::MAX)] {
            let json = serde_json::to_string(&longest).expect("text");
            assert_eq!(serde_json::from_str::<DurationText>(&json).expect(&json), longest, "own text is read back");
        }
    }

    #[test]
    fn places_are_told_apart() {
        assert_eq!(Position::parse("0").expect("id"), Position::After(EntryId::ZERO));
        assert_eq!(Position::parse("2023-11-14T22:13:20.5Z").expect("time"), Position::Time(1_700_000_000_500));
        for bad in ["", "first", "-", "2023-11-14", "1960-01-01T00:00:00Z"] {
            Position::parse(bad).expect_err(bad);
        }
    }

    #[test]
    fn reasons_come_through_serde() {
        let json = r#"["1-0", {"first": "2-0", "last": "1-0"}]"#;
        let error = serde_json::from_str::<Vec<IdRangeText>>(json).expect_err("backwards");
        let error = decode_error("body", &error.to_string());
        assert_eq!(error.reason(), Reason::InvalidId);
        assert!(!error.message().contains(MARK), "{error}");
        let error = serde_json::from_str::<Vec<IdRangeText>>("[7]").expect_err("a number");
        assert_eq!(decode_error("body", &error.to_string()).reason(), Reason::InvalidArgument);
    }
}
