//! Times in JSON: RFC 3339 text, and numbers since the Unix epoch.

use std::fmt::Write;

use crate::format::event::Timestamp;

/// Numbers below this are seconds since the epoch, others milliseconds.
const SECONDS_BELOW: i128 = 100_000_000_000;
/// The range of a protobuf timestamp: years 1 to 9999.
const SECONDS: std::ops::RangeInclusive<i128> = -62_135_596_800..=253_402_300_799;

/// Reads RFC 3339, or a number since the Unix epoch (also as text); `None` where it is neither.
pub(super) fn parse_any(text: &str) -> Option<Timestamp> {
    parse_epoch(text).or_else(|| parse_rfc3339(text))
}

/// Reads an RFC 3339 instant: date, `T` or a space, time, and an offset, which may not be missing.
pub(in crate::http) fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    // The library reads more (week dates, time zone names in brackets); RFC 3339 has none of it.
    if !(20..=64).contains(&text.len()) || text.contains('[') {
        return None;
    }
    let instant: jiff::Timestamp = text.parse().ok()?;
    let nanos = instant.as_nanosecond();
    timestamp(nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000) as i32)
}

/// Reads a decimal number since the epoch exactly, so that no digit is lost in a float; exponents go by float.
fn parse_epoch(text: &str) -> Option<Timestamp> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    if !digits.starts_with(|c: char| c.is_ascii_digit()) || digits.len() > 40 {
        return None;
    }
    if digits.contains(['e', 'E']) {
        return from_float(text.parse().ok()?);
    }
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole: i128 = whole.parse().ok()?;
    // In units of 10^-9 of whatever the number counts; further digits are cut off.
    let fraction: i128 = format!("{fraction:0<9.9}").parse().ok()?;
    let scaled = whole.checked_mul(1_000_000_000)?.checked_add(fraction)?;
    let nanos = if whole < SECONDS_BELOW { scaled } else { scaled / 1000 };
    let nanos = if negative { -nanos } else { nanos };
    timestamp(nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000) as i32)
}

fn from_float(number: f64) -> Option<Timestamp> {
    if !number.is_finite() || number.abs() > 1e18 {
        return None;
    }
    let seconds = if number.abs() < SECONDS_BELOW as f64 { number } else { number / 1000.0 };
    let whole = seconds.floor();
    timestamp(whole as i128, ((seconds - whole) * 1e9) as i32)
}

fn timestamp(seconds: i128, nanos: i32) -> Option<Timestamp> {
    (SECONDS.contains(&seconds) && (0..1_000_000_000).contains(&nanos))
        .then_some(Timestamp { seconds: seconds as i64, nanos })
}

/// Writes an instant as RFC 3339 in UTC, without quotes; with a fraction where there is one.
pub(in crate::http) fn write_timestamp(out: &mut String, time: Timestamp) {
    match jiff::Timestamp::new(time.seconds, time.nanos) {
        Ok(instant) => {
            let _ = write!(out, "{instant}");
        }
        // Stored times were checked when they came in; the edges of the range are wider than the library's.
        Err(_) => out.push_str(if time.seconds < 0 { "0001-01-01T00:00:00Z" } else { "9999-12-31T23:59:59Z" }),
    }
}

/// Writes milliseconds since the epoch as RFC 3339 in UTC with exactly three digits of fraction, without quotes.
pub(in crate::http) fn write_ms(out: &mut String, ms: u64) {
    match i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()) {
        Some(instant) => {
            let _ = write!(out, "{instant:.3}");
        }
        None => out.push_str("9999-12-31T23:59:59.999Z"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, nanos: i32) -> Option<Timestamp> {
        Some(Timestamp { seconds, nanos })
    }

    #[test]
    fn numbers_are_seconds_or_milliseconds() {
        assert_eq!(parse_any("1700000000"), at(1_700_000_000, 0));
        assert_eq!(parse_any("1700000000.123456789"), at(1_700_000_000, 123_456_789));
        assert_eq!(parse_any("1700000000123"), at(1_700_000_000, 123_000_000));
        assert_eq!(parse_any("1700000000123.5"), at(1_700_000_000, 123_500_000));
        assert_eq!(parse_any("99999999999"), at(99_999_999_999, 0), "the last number of seconds");
        assert_eq!(parse_any("100000000000"), at(100_000_000, 0), "the first number of milliseconds");
        assert_eq!(parse_any("-1.5"), at(-2, 500_000_000));
        assert_eq!(parse_any("1.7e9"), at(1_700_000_000, 0));
        assert_eq!(parse_any("0"), at(0, 0));
    }

    #[test]
    fn text_is_rfc_3339() {
        assert_eq!(parse_any("2024-01-02T03:04:05Z"), at(1_704_164_645, 0));
        assert_eq!(parse_any("2024-01-02T03:04:05.250+01:00"), at(1_704_161_045, 250_000_000));
        for bad in ["", "now", "2024-01-02", "2024-01-02T03:04:05", "2024-13-02T03:04:05Z", "1e400", "1_0", "1.2.3"] {
            assert_eq!(parse_any(bad), None, "{bad}");
        }
        assert_eq!(parse_any("2024-01-02T03:04:05+01:00[Europe/Berlin]"), None);
    }

    #[test]
    fn times_are_written_in_utc() {
        let mut out = String::new();
        write_ms(&mut out, 1_700_000_000_120);
        out.push(' ');
        write_timestamp(&mut out, Timestamp { seconds: 1_700_000_000, nanos: 0 });
        assert_eq!(out, "2023-11-14T22:13:20.120Z 2023-11-14T22:13:20Z");
        write_ms(&mut out, u64::MAX);
    }
}
