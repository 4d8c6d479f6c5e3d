//! Values as they are typed on the command line: durations, places in a stream, durability.

use std::time::Duration;

use prost_types::Timestamp;

use crate::proto::v1::{self, position};
use crate::types::EntryId;

/// Reads `250ms`, `30s`, `5m`, `2h` or `7d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("must be a number with a unit: ms, s, m, h or d, as in 30s".into()),
    };
    let number: u64 = number.parse().map_err(|_| "must begin with a number, as in 30s".to_owned())?;
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(|| "is too long".into())
}

/// A duration as protobuf has it.
pub(super) fn proto_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: duration.as_secs() as i64, nanos: duration.subsec_nanos() as i32 }
}

/// Reads a place in a stream: `earliest`, `latest`, an id (what comes after it), or an RFC 3339 time.
pub(super) fn position(text: &str) -> Result<v1::Position, String> {
    let position = match text {
        "earliest" => position::Position::Earliest(()),
        "latest" => position::Position::Latest(()),
        _ => match EntryId::parse(text) {
            Ok(id) => position::Position::After(v1::EntryId { ms: id.ms, seq: id.seq }),
            Err(_) => position::Position::Time(time(text).ok_or_else(|| {
                "must be earliest, latest, an id as 1700000000000-0, or a time as 2026-01-31T12:00:00Z".to_owned()
            })?),
        },
    };
    Ok(v1::Position { position: Some(position) })
}

fn time(text: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() })
}

/// Reads an id.
pub(super) fn id(text: &str) -> Result<v1::EntryId, String> {
    let id = EntryId::parse(text).map_err(|_| "must be an id, as 1700000000000-0".to_owned())?;
    Ok(v1::EntryId { ms: id.ms, seq: id.seq })
}

/// Reads an id, or `FIRST..LAST` for all from one to the other.
pub(super) fn id_range(text: &str) -> Result<v1::IdRange, String> {
    let Some((first, last)) = text.split_once("..") else {
        return Ok(v1::IdRange { first: Some(id(text)?), last: None });
    };
    Ok(v1::IdRange { first: Some(id(first)?), last: Some(id(last)?) })
}

/// What is older: by id, or by time of the append.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Before {
    /// What has a smaller id.
    Id(v1::EntryId),
    /// What was appended earlier.
    Time(Timestamp),
}

/// Reads an id or an RFC 3339 time.
pub(super) fn before(text: &str) -> Result<Before, String> {
    match id(text) {
        Ok(id) => Ok(Before::Id(id)),
        Err(_) => time(text)
            .map(Before::Time)
            .ok_or_else(|| "must be an id as 1700000000000-0, or a time as 2026-01-31T12:00:00Z".to_owned()),
    }
}

/// Reads `fsync` or `os`.
pub(super) fn durability(text: &str) -> Result<v1::Durability, String> {
    crate::server::settings::parse_durability(text).map(|durability| match durability {
        crate::types::Durability::Fsync => v1::Durability::Fsync,
        crate::types::Durability::Os => v1::Durability::Os,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(7 * 86_400)));
        for bad in ["", "5", "s", "-1s", "1.5s", "99999999999999999999s", "18446744073709551615d"] {
            duration(bad).expect_err(bad);
        }
    }

    #[test]
    fn positions() {
        let read = |text| position(text).map(|p| p.position.expect("set"));
        assert_eq!(read("earliest"), Ok(position::Position::Earliest(())));
        assert_eq!(read("5-3"), Ok(position::Position::After(v1::EntryId { ms: 5, seq: 3 })));
        assert_eq!(read("1970-01-01T00:01:00Z"), Ok(position::Position::Time(Timestamp { seconds: 60, nanos: 0 })));
        read("yesterday").expect_err("no place");
    }

    #[test]
    fn ids_and_ranges_of_them() {
        let (five, six) = (v1::EntryId { ms: 5, seq: 0 }, v1::EntryId { ms: 6, seq: 1 });
        assert_eq!(id_range("5-0"), Ok(v1::IdRange { first: Some(five), last: None }));
        assert_eq!(id_range("5-0..6-1"), Ok(v1::IdRange { first: Some(five), last: Some(six) }));
        for bad in ["", "x", "5-0..", "..6-1", "5-0..6-1..7-0"] {
            id_range(bad).expect_err(bad);
        }
        assert_eq!(before("6-1"), Ok(Before::Id(six)));
        assert_eq!(before("1970-01-01T00:01:00Z"), Ok(Before::Time(Timestamp { seconds: 60, nanos: 0 })));
        before("earliest").expect_err("no bound");
    }
}
