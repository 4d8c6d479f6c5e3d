//! Entry ids, the one identity of an entry within its stream, and the other numbers that must not be mixed up.
//!
//! Ids are parsed strictly; see [`EntryId::parse`]. Their text form `ms-seq` is used by every front end.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Reason};

/// Identity and place of an entry in its stream: milliseconds since the Unix epoch, then a sequence number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntryId {
    /// Milliseconds since the Unix epoch by the server's clock when it made the id.
    pub ms: u64,
    /// Position among the ids of the same millisecond.
    pub seq: u64,
}

impl EntryId {
    /// `0-0`: below every entry; no entry has it.
    pub const ZERO: Self = Self { ms: 0, seq: 0 };
    /// The greatest id.
    pub const MAX: Self = Self { ms: u64::MAX, seq: u64::MAX };

    /// The id of these two numbers.
    pub const fn new(ms: u64, seq: u64) -> Self {
        Self { ms, seq }
    }

    /// The next greater id, or `None` after [`EntryId::MAX`].
    pub fn next(self) -> Option<Self> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(Self { ms: self.ms, seq }),
            None => self.ms.checked_add(1).map(|ms| Self { ms, seq: 0 }),
        }
    }

    /// The next smaller id, or `None` below `0-0`.
    pub fn prev(self) -> Option<Self> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(Self { ms: self.ms, seq }),
            None => self.ms.checked_sub(1).map(|ms| Self { ms, seq: u64::MAX }),
        }
    }

    /// Reads `ms-seq`; where the sequence is missing it is taken as `seq_default`.
    ///
    /// Both numbers are decimal digits only: no sign, no space. Anything else is `INVALID_ID`.
    pub fn parse_with_default(text: &str, seq_default: u64) -> Result<Self, Error> {
        let bad =
            || Error::new(Reason::InvalidId, format!("not an entry id: {:?}", shorten(text))).with("id", shorten(text));
        let number = |part: &str| -> Option<u64> {
            (!part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse().ok()).flatten()
        };
        match text.split_once('-') {
            Some((ms, seq)) => match (number(ms), number(seq)) {
                (Some(ms), Some(seq)) => Ok(Self { ms, seq }),
                _ => Err(bad()),
            },
            None => number(text).map(|ms| Self { ms, seq: seq_default }).ok_or_else(bad),
        }
    }

    /// Reads `ms-seq`, or `ms` for `ms-0`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::parse_with_default(text, 0)
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

impl std::str::FromStr for EntryId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

/// A closed range of ids: both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IdRange {
    /// The smallest id of the range.
    pub first: EntryId,
    /// The greatest id of the range.
    pub last: EntryId,
}

impl IdRange {
    /// Every id.
    pub const ALL: Self = Self { first: EntryId::ZERO, last: EntryId::MAX };

    /// The range from `first` to `last`; refused where it would be empty.
    pub fn new(first: EntryId, last: EntryId) -> Result<Self, Error> {
        if first > last {
            return Err(Error::new(Reason::InvalidId, format!("id range {first} to {last} runs backwards")));
        }
        Ok(Self { first, last })
    }

    /// The range of one id.
    pub const fn one(id: EntryId) -> Self {
        Self { first: id, last: id }
    }

    /// Whether the id lies in the range.
    pub fn contains(&self, id: EntryId) -> bool {
        self.first <= id && id <= self.last
    }
}

/// Which ids a publish asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdRequest {
    /// The server's clock, one id after the other: `*`.
    #[default]
    Auto,
    /// A given millisecond, the next free sequence: `ms-*`.
    AutoSeq(u64),
    /// Exactly this id; for one entry only.
    Exact(EntryId),
}

/// Number of a stream in one store: never reused, even when its name is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamNumber(pub u64);

/// Number of a group in one store: never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupNumber(pub u64);

/// Number of a consumer in its group; 0 stands for nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConsumerNumber(pub u32);

impl ConsumerNumber {
    /// Nobody: an entry that waits to be delivered again.
    pub const NOBODY: Self = Self(0);
}

/// Number of a delivery (one pull, or one consume session) in one store: what fences acknowledgements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeliveryNumber(pub u64);

/// A byte position in the log as a whole: it only grows, across all files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogPosition(pub u64);

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn strict_text_form() {
        assert_eq!(EntryId::parse("5-3").expect("valid"), EntryId::new(5, 3));
        assert_eq!(EntryId::parse("5").expect("valid"), EntryId::new(5, 0));
        assert_eq!(EntryId::parse_with_default("5", u64::MAX).expect("valid"), EntryId::new(5, u64::MAX));
        for bad in
            ["", "-", "5-", "-5", "+5", "5-+1", " 5", "5-1-2", "18446744073709551616", "5-18446744073709551616", "x"]
        {
            assert_eq!(EntryId::parse(bad).expect_err(bad).reason(), Reason::InvalidId, "{bad}");
        }
    }

    #[test]
    fn neighbours_carry_over() {
        assert_eq!(EntryId::new(1, u64::MAX).next(), Some(EntryId::new(2, 0)));
        assert_eq!(EntryId::new(2, 0).prev(), Some(EntryId::new(1, u64::MAX)));
        assert_eq!(EntryId::MAX.next(), None);
        assert_eq!(EntryId::ZERO.prev(), None);
    }

    proptest! {
        #[test]
        fn text_round_trip(ms: u64, seq: u64) {
            let id = EntryId::new(ms, seq);
            prop_assert_eq!(id.to_string().parse::<EntryId>().expect("own text"), id);
        }
    }
}
