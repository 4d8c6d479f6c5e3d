//! Names, ids, times and bounds between messages and the engine's types: each refused precisely, naming its field.

use std::time::Duration;

use prost_types::{Duration as PbDuration, Timestamp as PbTimestamp};

use super::pb;
use crate::engine::{Holder, StartAt, TailFrom};
use crate::error::{Error, Reason, Result};
use crate::limits;
use crate::types::{ConsumerName, DeliveryNumber, EntryId, GroupName, IdRange, StreamName};

/// The stream and group of a request.
pub(super) fn group_of(stream: &str, group: &str) -> Result<(StreamName, GroupName)> {
    Ok((StreamName::parse(stream)?, GroupName::parse(group)?))
}

pub(super) fn id(id: pb::EntryId) -> EntryId {
    EntryId::new(id.ms, id.seq)
}

pub(super) fn pb_id(id: EntryId) -> pb::EntryId {
    pb::EntryId { ms: id.ms, seq: id.seq }
}

pub(super) fn pb_ids(ids: &[EntryId]) -> Vec<pb::EntryId> {
    ids.iter().copied().map(pb_id).collect()
}

/// The ids of a list that needs at least one and has a bound.
pub(super) fn ids(field: &str, list: Vec<pb::EntryId>) -> Result<Vec<EntryId>> {
    check_count(field, list.len())?;
    Ok(list.into_iter().map(id).collect())
}

/// The ranges of a list that needs at least one and has a bound.
pub(super) fn ranges(field: &str, list: Vec<pb::IdRange>) -> Result<Vec<IdRange>> {
    check_count(field, list.len())?;
    list.into_iter().enumerate().map(|(n, r)| range(&r).map_err(|e| within(&format!("{field}[{n}]"), e))).collect()
}

fn check_count(field: &str, count: usize) -> Result<()> {
    if count == 0 {
        return Err(Error::invalid(field, "at least one is needed"));
    }
    if count > limits::IDS_PER_REQUEST_MAX {
        return Err(Error::new(
            Reason::BatchTooLarge,
            format!("{field}: {count}, at most {} are allowed", limits::IDS_PER_REQUEST_MAX),
        )
        .with("count", count)
        .with("max", limits::IDS_PER_REQUEST_MAX)
        .violation(field, format!("at most {}", limits::IDS_PER_REQUEST_MAX)));
    }
    Ok(())
}

/// A closed range; without `last` it is the one id.
pub(super) fn range(range: &pb::IdRange) -> Result<IdRange> {
    let first = range.first.map(id).ok_or_else(|| Error::invalid("first", "is needed"))?;
    let last = range.last.map_or(first, id);
    IdRange::new(first, last).map_err(|e| e.violation("last", "is smaller than first"))
}

/// Milliseconds since the Unix epoch, rounded down; what is earlier counts as the epoch.
pub(super) fn time_ms(field: &str, time: &PbTimestamp) -> Result<u64> {
    if !(0..1_000_000_000).contains(&time.nanos) || time.seconds > TIMESTAMP_SECONDS_MAX {
        return Err(Error::invalid(field, "is not a timestamp between the years 1 and 9999"));
    }
    let ms = u64::try_from(time.seconds).map_or(0, |s| s * 1000 + time.nanos as u64 / 1_000_000);
    Ok(ms)
}

pub(super) fn pb_time(ms: u64) -> PbTimestamp {
    PbTimestamp { seconds: (ms / 1000) as i64, nanos: (ms % 1000) as i32 * 1_000_000 }
}

/// A span of time, neither negative nor malformed, up to a bound.
pub(super) fn span(field: &str, span: &PbDuration, max: Duration) -> Result<Duration> {
    let (Ok(seconds), Ok(nanos @ 0..1_000_000_000)) = (u64::try_from(span.seconds), u32::try_from(span.nanos)) else {
        return Err(Error::invalid(field, "is negative or malformed"));
    };
    let span = Duration::new(seconds, nanos);
    if span > max {
        return Err(Error::invalid(field, format!("is {seconds} s, at most {} s are allowed", max.as_secs())));
    }
    Ok(span)
}

/// A span in whole milliseconds.
pub(super) fn span_ms(field: &str, value: &PbDuration, max: Duration) -> Result<u64> {
    span(field, value, max).map(|d| d.as_millis() as u64)
}

pub(super) fn duration(span: Duration) -> PbDuration {
    PbDuration { seconds: span.as_secs() as i64, nanos: span.subsec_nanos() as i32 }
}

pub(super) fn duration_ms(ms: u64) -> PbDuration {
    duration(Duration::from_millis(ms))
}

/// A count or size with a default for 0 and a bound.
pub(super) fn bounded(field: &str, value: u32, default: usize, max: usize) -> Result<usize> {
    match value as usize {
        0 => Ok(default),
        value if value <= max => Ok(value),
        value => Err(Error::invalid(field, format!("is {value}, at most {max} are allowed"))),
    }
}

/// The entries and bytes that a page, delivery or message may hold.
pub(super) fn page(entries: u32, bytes: u32, entries_default: usize) -> Result<(usize, usize)> {
    Ok((
        bounded("entries_max", entries, entries_default, limits::PAGE_ENTRIES_MAX)?,
        bounded("bytes_max", bytes, limits::PAGE_BYTES_DEFAULT, limits::PAGE_BYTES_DEFAULT)?,
    ))
}

/// Refuses a field that is defined but not served yet, where it is set.
pub(super) fn unsupported(field: &str, set: bool) -> Result<()> {
    if set {
        return Err(Error::new(Reason::Unsupported, format!("{field} is not supported yet"))
            .violation(field, "is not supported yet"));
    }
    Ok(())
}

/// Where a group starts or goes.
pub(super) fn start_at(field: &str, position: Option<pb::Position>) -> Result<Option<StartAt>> {
    use pb::position::Position as P;
    let Some(position) = position else { return Ok(None) };
    Ok(Some(match position.position {
        Some(P::Earliest(())) => StartAt::Earliest,
        Some(P::Latest(())) => StartAt::Latest,
        Some(P::After(after)) => StartAt::After(id(after)),
        Some(P::Time(time)) => StartAt::Time(time_ms(field, &time)?),
        None => return Err(Error::invalid(field, "names no position")),
    }))
}

/// Where a tail starts.
pub(super) fn tail_from(position: Option<pb::Position>) -> Result<TailFrom> {
    Ok(match start_at("from", position)? {
        Some(StartAt::Earliest) => TailFrom::Earliest,
        Some(StartAt::Latest) | None => TailFrom::Latest,
        Some(StartAt::After(id)) => TailFrom::After(id),
        Some(StartAt::Time(ms)) => TailFrom::Time(ms),
    })
}

/// The delivery that a token names.
pub(super) fn delivery(token: &str) -> Result<Holder> {
    let number = token.parse().map_err(|_| Error::invalid("delivery_token", "is not one that this server gave"))?;
    Ok(Holder::Delivery(DeliveryNumber(number)))
}

pub(super) fn token(delivery: DeliveryNumber) -> String {
    delivery.0.to_string()
}

/// The consumer that a request speaks for.
pub(super) fn consumer(name: &str) -> Result<Holder> {
    ConsumerName::parse(name).map(Holder::Consumer)
}

/// The error with its fields seen from the message around.
pub(super) fn within(place: &str, error: Error) -> Error {
    let mut out = Error::new(error.reason(), format!("{place}: {}", error.message()));
    for (name, value) in error.details() {
        out = out.with(name, value);
    }
    for (field, description) in error.violations() {
        out = out.violation(format!("{place}.{field}"), description);
    }
    match error.retry_delay() {
        Some(delay) => out.retry_after(delay),
        None => out,
    }
}

/// The error of a value that does not stand in the field which the error names.
pub(super) fn named(field: &str, error: Error) -> Error {
    let why = error.violations().first().map(|(_, description)| description.clone());
    Error::new(error.reason(), format!("{field}: {}", error.message())).violation(field, why.unwrap_or_default())
}

/// Seconds since the Unix epoch at the end of the year 9999.
const TIMESTAMP_SECONDS_MAX: i64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    fn field_of(error: Error) -> String {
        error.violations().first().expect("a field is named").0.clone()
    }

    #[test]
    fn ranges_are_closed_and_run_forward() {
        let at = |ms| Some(pb::EntryId { ms, seq: 0 });
        assert_eq!(range(&pb::IdRange { first: at(1), last: None }).expect("one id").last, EntryId::new(1, 0));
        let back = ranges("ids", vec![pb::IdRange { first: at(2), last: at(1) }]).expect_err("backwards");
        assert_eq!((back.reason(), field_of(back).as_str()), (Reason::InvalidId, "ids[0].last"));
        assert_eq!(field_of(ranges("ids", vec![]).expect_err("none")), "ids");
        assert_eq!(field_of(ranges("ids", vec![pb::IdRange::default()]).expect_err("unset")), "ids[0].first");
    }

    #[test]
    fn times_and_spans_have_bounds() {
        let second = Duration::from_secs(1);
        assert_eq!(span("wait", &PbDuration { seconds: 1, nanos: 0 }, second).expect("at the bound"), second);
        for (seconds, nanos) in [(-1, 0), (0, -1), (1, 1), (0, 1_000_000_000), (i64::MAX, 0)] {
            span("wait", &PbDuration { seconds, nanos }, second).expect_err("refused");
        }
        assert_eq!(time_ms("t", &PbTimestamp { seconds: -5, nanos: 0 }).expect("before the epoch"), 0);
        assert_eq!(time_ms("t", &PbTimestamp { seconds: 1, nanos: 2_999_999 }).expect("rounded down"), 1_002);
        time_ms("t", &PbTimestamp { seconds: i64::MAX, nanos: 0 }).expect_err("too late");
    }

    #[test]
    fn tokens_come_back() {
        let delivery = DeliveryNumber(77);
        assert_eq!(super::delivery(&token(delivery)).expect("own token"), Holder::Delivery(delivery));
        super::delivery("x").expect_err("not a token");
        super::delivery("").expect_err("empty");
    }

    #[test]
    fn unset_positions_have_no_guess() {
        assert_eq!(tail_from(None).expect("default"), TailFrom::Latest);
        start_at("to", Some(pb::Position { position: None })).expect_err("empty");
    }
}
