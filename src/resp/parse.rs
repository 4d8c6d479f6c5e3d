//! Requests off the wire: arrays of bulk strings, and inline commands. No I/O, and no allocation beyond what was sent.
//!
//! A request may come in any pieces: what was read of it is kept, so that nothing is read twice. After an error the
//! connection is of no use any more, as with Redis.

use bytes::{Buf, Bytes, BytesMut};

/// Arguments of one request at most, as with Redis.
const ARGUMENTS_MAX: i64 = 1 << 20;
/// Bytes of an inline command, or of a line that tells a length.
const LINE_BYTES_MAX: usize = 64 << 10;

/// What cannot be read as a request; the text follows `ERR Protocol error: `.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ProtocolError {
    Is(&'static str),
    /// This stands where an argument should begin.
    NoArgument(u8),
}

impl std::fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Is(what) => f.write_str(what),
            Self::NoArgument(byte) => write!(f, "expected '$', got '{}'", char::from(*byte)),
        }
    }
}

/// Takes requests out of what was received.
#[derive(Debug)]
pub(super) struct Parser {
    argument_bytes_max: i64,
    request_bytes_max: usize,
    arguments: Vec<Bytes>,
    /// Arguments that the request lacks; zero between two requests.
    missing: i64,
    /// Length of the argument that is being received.
    length: Option<usize>,
    /// Bytes of the arguments so far.
    bytes: usize,
}

impl Parser {
    /// For requests of so many bytes at most.
    pub(super) fn new(request_bytes_max: usize) -> Self {
        let argument_bytes_max = request_bytes_max as i64;
        Self { argument_bytes_max, request_bytes_max, arguments: Vec::new(), missing: 0, length: None, bytes: 0 }
    }

    /// Bytes that are held of a request that has begun and is not whole, beside what is still to be taken from the input;
    /// `None` between two requests.
    pub(super) fn holds(&self) -> Option<usize> {
        let received = self.bytes - self.length.unwrap_or(0);
        (self.missing > 0).then_some(received + self.arguments.len() * size_of::<Bytes>())
    }

    /// The next whole request; `None` until more is received. Empty requests are stepped over.
    pub(super) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        loop {
            if self.missing == 0 {
                match input.first() {
                    None => return Ok(None),
                    Some(b'*') => {
                        let Some(count) = number(input, "invalid multibulk length")? else { return Ok(None) };
                        if count > ARGUMENTS_MAX {
                            return Err(ProtocolError::Is("invalid multibulk length"));
                        }
                        (self.missing, self.bytes) = (count.max(0), 0);
                        continue;
                    }
                    Some(_) => match inline(input)? {
                        None => return Ok(None),
                        Some(words) if words.is_empty() => continue,
                        words => return Ok(words),
                    },
                }
            }
            if !self.argument(input)? {
                return Ok(None);
            }
            if self.missing == 0 {
                return Ok(Some(std::mem::take(&mut self.arguments)));
            }
        }
    }

    /// Takes one argument; whether it was there as a whole.
    fn argument(&mut self, input: &mut BytesMut) -> Result<bool, ProtocolError> {
        let length = match self.length {
            Some(length) => length,
            None => {
                match input.first() {
                    None => return Ok(false),
                    Some(b'$') => {}
                    Some(other) => return Err(ProtocolError::NoArgument(*other)),
                }
                let Some(length) = number(input, "invalid bulk length")? else { return Ok(false) };
                if !(0..=self.argument_bytes_max).contains(&length) {
                    return Err(ProtocolError::Is("invalid bulk length"));
                }
                self.bytes += length as usize;
                if self.bytes > self.request_bytes_max {
                    return Err(ProtocolError::Is("too big mbulk count string"));
                }
                *self.length.insert(length as usize)
            }
        };
        if input.len() < length + 2 {
            return Ok(false);
        }
        self.arguments.push(input.split_to(length).freeze());
        // Redis, too, does not look at what ends an argument.
        input.advance(2);
        self.length = None;
        self.missing -= 1;
        Ok(true)
    }
}

/// The number on a line behind its first byte; `None` until the line is whole.
fn number(input: &mut BytesMut, wrong: &'static str) -> Result<Option<i64>, ProtocolError> {
    let Some((line, end)) = line(input, "too big count string")? else { return Ok(None) };
    let text = std::str::from_utf8(&line[1..]).ok();
    let number = text.and_then(|text| text.parse().ok()).ok_or(ProtocolError::Is(wrong))?;
    input.advance(end);
    Ok(Some(number))
}

/// A line without its end, and where the next one begins; `None` until it is whole.
fn line<'i>(input: &'i BytesMut, too_long: &'static str) -> Result<Option<(&'i [u8], usize)>, ProtocolError> {
    let Some(end) = input.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') else {
        return if input.len() >= LINE_BYTES_MAX { Err(ProtocolError::Is(too_long)) } else { Ok(None) };
    };
    let line = &input[..end];
    Ok(Some((line.strip_suffix(b"\r").unwrap_or(line), end + 1)))
}

/// The words of an inline command; `None` until its line is whole.
fn inline(input: &mut BytesMut) -> Result<Option<Vec<Bytes>>, ProtocolError> {
    let Some((line, end)) = line(input, "too big inline request")? else { return Ok(None) };
    let words = words(line).ok_or(ProtocolError::Is("unbalanced quotes in request"))?;
    input.advance(end);
    Ok(Some(words))
}

/// Words between blanks; in quotes a word may hold blanks, in double ones escapes, too.
fn words(line: &[u8]) -> Option<Vec<Bytes>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        let Some(first) = rest.first() else { return Some(words) };
        let word = match first {
            b'"' | b'\'' => {
                let (word, after) = quoted(rest)?;
                if after.first().is_some_and(|byte| !byte.is_ascii_whitespace()) {
                    return None;
                }
                rest = after;
                word
            }
            _ => {
                let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                rest = after;
                word.to_vec()
            }
        };
        words.push(word.into());
    }
}

/// The word in the quotes that the text begins with, and what comes after them.
fn quoted(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (quote, mut rest) = text.split_first()?;
    let mut word = Vec::new();
    loop {
        let (byte, after) = rest.split_first()?;
        rest = after;
        match byte {
            b'\\' if *quote == b'"' => {
                let (escaped, after) = rest.split_first()?;
                rest = after;
                let hex = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
                match (escaped, hex.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
                    (b'x', Some(value)) => {
                        word.push(value);
                        rest = &rest[2..];
                    }
                    (b'n', _) => word.push(b'\n'),
                    (b'r', _) => word.push(b'\r'),
                    (b't', _) => word.push(b'\t'),
                    (b'b', _) => word.push(8),
                    (b'a', _) => word.push(7),
                    (other, _) => word.push(*other),
                }
            }
            b'\\' if rest.first() == Some(&b'\'') => {
                word.push(b'\'');
                rest = &rest[1..];
            }
            byte if byte == quote => return Some((word, rest)),
            byte => word.push(*byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(bytes: &[u8], piece: usize) -> Result<Vec<Vec<Vec<u8>>>, ProtocolError> {
        let (mut parser, mut input, mut found) = (Parser::new(1000), BytesMut::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            input.extend_from_slice(piece);
            while let Some(request) = parser.next(&mut input)? {
                found.push(request.iter().map(|word| word.to_vec()).collect());
            }
        }
        Ok(found)
    }

    fn strings(words: &[&str]) -> Vec<Vec<u8>> {
        words.iter().map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn requests_come_in_any_pieces() {
        let bytes =
            b"*2\r\n$4\r\nPING\r\n$0\r\n\r\n\r\nSET a \"b \\x41\\n\" 'c\\'d'\r\n*0\r\n*-1\r\n*1\r\n$3\r\nabc\r\n";
        let want = vec![strings(&["PING", ""]), strings(&["SET", "a", "b A\n", "c'd"]), strings(&["abc"])];
        for piece in 1..bytes.len() {
            assert_eq!(all(bytes, piece), Ok(want.clone()), "in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_no_request_is_told() {
        let cases: [(&[u8], &str); 8] = [
            (b"*x\r\n", "invalid multibulk length"),
            (b"*1048577\r\n", "invalid multibulk length"),
            (b"*1\r\n:1\r\n", "expected '$', got ':'"),
            (b"*1\r\n$x\r\n", "invalid bulk length"),
            (b"*1\r\n$-1\r\n", "invalid bulk length"),
            (b"*1\r\n$1001\r\n", "invalid bulk length"),
            (b"a \"b\r\n", "unbalanced quotes in request"),
            (b"a \"b\"c\r\n", "unbalanced quotes in request"),
        ];
        for (bytes, want) in cases {
            assert_eq!(
                all(bytes, 3).map_err(|error| error.to_string()),
                Err(want.to_owned()),
                "{}",
                String::from_utf8_lossy(bytes)
            );
        }
        assert_eq!(all(&vec![b'a'; LINE_BYTES_MAX], 4096), Err(ProtocolError::Is("too big inline request")));
        let many = b"*3\r\n$900\r\n".iter().copied().chain([b'a'; 900]).chain(*b"\r\n$200\r\n").collect::<Vec<u8>>();
        assert_eq!(all(&many, 100), Err(ProtocolError::Is("too big mbulk count string")));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_alike_in_any_pieces(bytes: Vec<u8>, piece in 1usize..20) {
            let whole = all(&bytes, bytes.len().max(1));
            prop_assert_eq!(all(&bytes, piece).is_ok(), whole.is_ok());
        }

        #[test]
        fn arguments_are_any_bytes(request in prop::collection::vec(any::<Vec<u8>>(), 1..6), piece in 1usize..50) {
            let mut bytes = format!("*{}\r\n", request.len()).into_bytes();
            for argument in &request {
                bytes.extend(format!("${}\r\n", argument.len()).into_bytes());
                bytes.extend(argument);
                bytes.extend(b"\r\n");
            }
            prop_assert_eq!(all(&bytes, piece), Ok(vec![request]));
        }
    }
}
