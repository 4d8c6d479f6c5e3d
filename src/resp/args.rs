//! The arguments of a command, taken one after the other.

use std::time::Duration;

use bytes::Bytes;

use super::refusal::Refusal;

/// What is left of a command's arguments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Args<'a> {
    rest: &'a [Bytes],
}

impl<'a> Args<'a> {
    pub(super) fn new(rest: &'a [Bytes]) -> Self {
        Self { rest }
    }

    pub(super) fn rest(self) -> &'a [Bytes] {
        self.rest
    }
    pub(super) fn is_empty(self) -> bool {
        self.rest.is_empty()
    }

    /// The next one; a syntax error where there is none.
    pub(super) fn next(&mut self) -> Result<&'a Bytes, Refusal> {
        let (first, rest) = self.rest.split_first().ok_or_else(Refusal::syntax)?;
        self.rest = rest;
        Ok(first)
    }

    /// The next ones, as many of these as there are.
    pub(super) fn take(&mut self, count: usize) -> &'a [Bytes] {
        let (taken, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// Whether the next one is this word, in any case; takes it then.
    pub(super) fn next_is(&mut self, word: &str) -> bool {
        let is = self.rest.first().is_some_and(|first| first.eq_ignore_ascii_case(word.as_bytes()));
        if is {
            self.rest = &self.rest[1..];
        }
        is
    }

    pub(super) fn int(&mut self) -> Result<i64, Refusal> {
        int(self.next()?).ok_or_else(Refusal::not_an_integer)
    }

    /// Refuses what nobody asked for.
    pub(super) fn end(self) -> Result<(), Refusal> {
        if self.rest.is_empty() { Ok(()) } else { Err(Refusal::syntax()) }
    }
}

/// A number as Redis reads it: no sign but `-`, no leading zeros, no blanks.
pub(super) fn int(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let is_plain = digits.iter().all(u8::is_ascii_digit) && (digits.first() != Some(&b'0') || text == b"0");
    let text = std::str::from_utf8(text).ok().filter(|_| is_plain)?;
    text.parse().ok()
}

/// Milliseconds; what is below zero counts as none.
pub(super) fn duration(ms: i64) -> Duration {
    Duration::from_millis(ms.max(0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_strictly() {
        let read = |text: &str| int(text.as_bytes());
        assert_eq!((read("0"), read("-5"), read("12")), (Some(0), Some(-5), Some(12)));
        for wrong in ["", "-", "+1", "01", "-0", " 1", "1 ", "9223372036854775808", "a"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }
}
