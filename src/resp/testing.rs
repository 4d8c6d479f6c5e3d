//! The parser of this front end, opened to fuzzing. What it promises is in `docs/REDIS.md`.

use bytes::{Bytes, BytesMut};

use super::parse::Parser;

/// The requests in what is received in these pieces, and whether what follows them is refused. A request has at most
/// so many bytes.
pub fn requests(pieces: &[&[u8]], request_bytes_max: usize) -> (Vec<Vec<Bytes>>, Option<String>) {
    let (mut parser, mut input, mut found) = (Parser::new(request_bytes_max), BytesMut::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match parser.next(&mut input) {
                Ok(Some(request)) => found.push(request),
                Ok(None) => break,
                Err(error) => return (found, Some(error.to_string())),
            }
        }
    }
    (found, None)
}
