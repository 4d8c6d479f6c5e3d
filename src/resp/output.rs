//! Replies on their way to a client: gathered, written, and bounded in what they hold and in how long they may wait. A
//! client whose connection is to end and who takes nothing of them is not waited for.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::reply::{Protocol, Reply, line};
use super::room::Share;

/// Replies are written once they are so many bytes, even if more requests are there.
const WRITE_BYTES: usize = 256 << 10;
/// Smaller pieces are put behind others, so that they are written together.
const COPIED_BYTES_MAX: usize = 64 << 10;
/// How long a client may take nothing once its connection is to end.
const SILENCE_MAX: Duration = Duration::from_millis(500);
/// A client takes so much in a second, or it is taken for gone.
const BYTES_PER_SECOND: usize = 256 << 10;

/// Replies that are not written yet.
pub(super) struct Output {
    /// Pieces that come before the bytes below: what was written already is not copied.
    pieces: Vec<Vec<u8>>,
    bytes: Vec<u8>,
    /// Of both.
    len: usize,
    share: Share,
    /// How long a client may take nothing.
    wait_max: Duration,
}

impl Output {
    pub(super) fn new(share: Share, wait_max: Duration) -> Self {
        Self { pieces: Vec::new(), bytes: Vec::new(), len: 0, share, wait_max }
    }

    /// Takes a reply; where there is no room for it, says so instead.
    pub(super) fn push(&mut self, reply: Reply, protocol: Protocol) {
        match self.share.hold(self.len + reply.bytes()) {
            Ok(()) => self.put(reply, protocol),
            Err(error) => self.put(Reply::Refused(error.into()), protocol),
        }
        self.len = self.pieces.iter().map(Vec::len).sum::<usize>() + self.bytes.len();
    }

    fn put(&mut self, reply: Reply, protocol: Protocol) {
        match reply {
            Reply::Written(count, pieces) => {
                line(&mut self.bytes, '*', count);
                for piece in pieces {
                    if piece.len() < COPIED_BYTES_MAX {
                        self.bytes.extend_from_slice(&piece);
                        continue;
                    }
                    self.pieces.push(std::mem::take(&mut self.bytes));
                    self.pieces.push(piece);
                }
            }
            Reply::Array(replies) => {
                line(&mut self.bytes, '*', replies.len());
                replies.into_iter().for_each(|reply| self.put(reply, protocol));
            }
            Reply::Map(pairs) => {
                protocol.map(&mut self.bytes, pairs.len());
                pairs.into_iter().for_each(|(key, value)| {
                    self.put(key, protocol);
                    self.put(value, protocol);
                });
            }
            other => other.write(protocol, &mut self.bytes),
        }
    }

    /// Whether it is time to write.
    pub(super) fn is_much(&self) -> bool {
        self.len >= WRITE_BYTES
    }

    /// Writes all of it. Fails where the client is gone or does not read; soon, once the connection is to end.
    pub(super) async fn flush<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        over: &CancellationToken,
    ) -> io::Result<()> {
        if self.len == 0 {
            return Ok(());
        }
        let wait = self.wait_max + Duration::from_secs((self.len / BYTES_PER_SECOND) as u64);
        let written = tokio::time::timeout(wait, self.write(stream, over)).await;
        self.bytes.clear();
        self.bytes.shrink_to(WRITE_BYTES);
        self.len = 0;
        // Less never fails.
        let _ = self.share.hold(0);
        written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn write<S: AsyncWrite + Unpin>(&mut self, stream: &mut S, over: &CancellationToken) -> io::Result<()> {
        for piece in std::mem::take(&mut self.pieces) {
            write_all(stream, &piece, over).await?;
            self.len -= piece.len();
            let _ = self.share.hold(self.len);
        }
        write_all(stream, &self.bytes, over).await
    }
}

async fn write_all<S: AsyncWrite + Unpin>(
    stream: &mut S,
    mut bytes: &[u8],
    over: &CancellationToken,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let silent = async {
            over.cancelled().await;
            tokio::time::sleep(SILENCE_MAX).await;
        };
        let written = tokio::select! {
            biased;
            written = stream.write(bytes) => written?,
            () = silent => return Err(io::ErrorKind::TimedOut.into()),
        };
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
    }
    Ok(())
}
