//! Ids as commands name them, by rules 6 and 7 of the stream commands.

use super::refusal::Refusal;
use crate::types::{EntryId, IdRange, IdRequest};

/// A whole or partial id, without `-` and `+`.
pub(super) fn strict(text: &[u8], seq_default: u64) -> Result<EntryId, Refusal> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() < 128);
    let parsed = text.and_then(|text| EntryId::parse_with_default(text, seq_default).ok());
    parsed.ok_or_else(Refusal::invalid_id)
}

/// The same, or `-` for the smallest and `+` for the greatest id.
pub(super) fn lenient(text: &[u8], seq_default: u64) -> Result<EntryId, Refusal> {
    match text {
        b"-" => Ok(EntryId::ZERO),
        b"+" => Ok(EntryId::MAX),
        _ => strict(text, seq_default),
    }
}

/// What XADD asks for; that no entry has the id 0-0 is for the caller to see to.
pub(super) fn requested(text: &[u8]) -> Result<IdRequest, Refusal> {
    if text == b"*" {
        return Ok(IdRequest::Auto);
    }
    if let Some(ms) = text.strip_suffix(b"-*") {
        let whole = strict(ms, 0).ok().filter(|_| ms.iter().all(u8::is_ascii_digit));
        return whole.map(|id| IdRequest::AutoSeq(id.ms)).ok_or_else(Refusal::invalid_id);
    }
    strict(text, 0).map(IdRequest::Exact)
}

/// The ids of an interval, each end possibly behind a `(` that excludes it; `None` where none can be in it.
pub(super) fn interval(start: &[u8], end: &[u8]) -> Result<Option<IdRange>, Refusal> {
    let first = match start.strip_prefix(b"(") {
        Some(id) => strict(id, 0)?.next().ok_or_else(|| Refusal::new("ERR invalid start ID for the interval"))?,
        None => lenient(start, 0)?,
    };
    let last = match end.strip_prefix(b"(") {
        Some(id) => strict(id, u64::MAX)?.prev().ok_or_else(|| Refusal::new("ERR invalid end ID for the interval"))?,
        None => lenient(end, u64::MAX)?,
    };
    Ok((first <= last).then_some(IdRange { first, last }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_redis_reads_them() {
        assert_eq!(strict(b"5", 0), Ok(EntryId::new(5, 0)));
        assert_eq!(strict(b"5-7", 0), Ok(EntryId::new(5, 7)));
        for wrong in ["123-", "-123", "--", "abc", "-", "+", "", "1-2-3", "18446744073709551616"] {
            assert_eq!(strict(wrong.as_bytes(), 0), Err(Refusal::invalid_id()), "{wrong}");
        }
        assert_eq!(requested(b"7-*"), Ok(IdRequest::AutoSeq(7)));
        assert_eq!(requested(b"7-1-*"), Err(Refusal::invalid_id()));
        assert_eq!(requested(b"0"), Ok(IdRequest::Exact(EntryId::ZERO)));
    }

    #[test]
    fn ends_of_an_interval_may_be_left_out() {
        let range = |first, last| Ok(Some(IdRange { first, last }));
        assert_eq!(interval(b"-", b"+"), range(EntryId::ZERO, EntryId::MAX));
        assert_eq!(interval(b"5", b"6"), range(EntryId::new(5, 0), EntryId::new(6, u64::MAX)));
        assert_eq!(interval(b"(5-1", b"(6-0"), range(EntryId::new(5, 2), EntryId::new(5, u64::MAX)));
        assert_eq!(interval(b"6", b"5"), Ok(None));
        let max = b"(18446744073709551615-18446744073709551615";
        assert_eq!(interval(max, b"+").unwrap_err().0, "ERR invalid start ID for the interval");
        assert_eq!(interval(b"-", b"(0-0").unwrap_err().0, "ERR invalid end ID for the interval");
        assert_eq!(interval(b"(-", b"+"), Err(Refusal::invalid_id()));
    }
}
