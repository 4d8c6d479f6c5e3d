//! What a client has sent and what is not a whole request yet: bounded in what it holds and in how long it takes.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::Instant;

use super::parse::{Parser, ProtocolError};
use super::refusal::Refusal;
use super::room::Share;

/// Bytes that are read at a time from clients that send much, and that may wait while a command runs.
const READ_BYTES: usize = 64 << 10;
/// Bytes that are read at a time from others.
const READ_BYTES_FEW: usize = 8 << 10;
/// Room that is used up before more is made: what is read keeps all of the piece of memory that it was read into.
const READ_BYTES_MIN: usize = 1 << 10;

/// Bytes that were received, and the request that they begin.
pub(super) struct Input {
    parser: Parser,
    bytes: BytesMut,
    read_bytes: usize,
    share: Share,
    wait_max: Duration,
    /// When the request that has begun must be whole.
    deadline: Option<Instant>,
}

impl Input {
    pub(super) fn new(parser: Parser, share: Share, wait_max: Duration) -> Self {
        Self { parser, bytes: BytesMut::new(), read_bytes: READ_BYTES_FEW, share, wait_max, deadline: None }
    }

    /// The next whole request; `None` until more is received.
    pub(super) fn next(&mut self) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        let request = self.parser.next(&mut self.bytes)?;
        if request.is_some() {
            self.deadline = None;
        }
        Ok(request)
    }

    /// Reads more; whether there was any. A refusal ends the connection.
    pub(super) async fn read<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> Result<bool, Refusal> {
        if self.has_begun() {
            self.deadline.get_or_insert_with(|| Instant::now() + self.wait_max);
        } else {
            self.deadline = None;
            // What is left of a larger piece of memory is given back.
            self.bytes = BytesMut::new();
        }
        // No more than at the last time.
        let _ = self.share.hold(self.holds());
        let deadline = self.deadline;
        let late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let read = tokio::select! {
            biased;
            read = receive(stream, &mut self.bytes, self.read_bytes) => read.unwrap_or(0),
            () = late => {
                let wait_ms = self.wait_max.as_millis();
                return Err(Refusal::new(format!("ERR Protocol error: a request was not whole after {wait_ms} ms")));
            }
        };
        self.read_bytes = if read < READ_BYTES_FEW / 2 { READ_BYTES_FEW } else { READ_BYTES };
        self.share.hold(self.holds())?;
        Ok(read > 0)
    }

    /// Resolves when the client closes its end. What it sends meanwhile is kept, up to a bound; then it is not looked at.
    pub(super) async fn closed<S: AsyncRead + Unpin>(&mut self, stream: &mut S) {
        while self.bytes.len() < READ_BYTES && self.share.hold(self.holds() + self.read_bytes).is_ok() {
            match receive(stream, &mut self.bytes, self.read_bytes).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        std::future::pending().await
    }

    fn holds(&self) -> usize {
        self.parser.holds().unwrap_or(0) + self.bytes.len()
    }

    fn has_begun(&self) -> bool {
        self.parser.holds().is_some() || !self.bytes.is_empty()
    }
}

async fn receive<S: AsyncRead + Unpin>(stream: &mut S, bytes: &mut BytesMut, read_bytes: usize) -> io::Result<usize> {
    if bytes.capacity() - bytes.len() < READ_BYTES_MIN {
        bytes.reserve(read_bytes);
    }
    stream.read_buf(bytes).await
}
