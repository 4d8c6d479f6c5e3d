//! The Redis protocol: commands of Redis Streams over the engine, for clients that were written for Redis.
//!
//! RESP2 and RESP3 on a port of its own. A key is a stream, groups are the engine's groups, and what is added here is
//! read everywhere. The parser does no I/O; a connection runs one command after the other.

mod args;
mod commands;
mod connection;
mod entries;
mod ids;
mod parse;
mod refusal;
mod reply;
mod session;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::access::Keyring;
use crate::engine::Engine;
use connection::Connection;
use parse::Parser;
use session::Session;

/// What all connections of this port share.
pub struct Resp {
    engine: Engine,
    keyring: Keyring,
    request_bytes_max: usize,
    drain: CancellationToken,
    next: AtomicU64,
}

impl Resp {
    /// A front end over the engine, for requests of so many bytes at most; connections end when `drain` is cancelled.
    pub fn new(engine: Engine, keyring: Keyring, request_bytes_max: usize, drain: CancellationToken) -> Arc<Self> {
        Arc::new(Self { engine, keyring, request_bytes_max, drain, next: AtomicU64::new(1) })
    }

    /// Serves one connection to its end, or to the server's.
    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let session = Session::new(self.engine.clone(), self.keyring.clone(), id);
        Connection::new(stream, session, Parser::new(self.request_bytes_max), self.drain.clone()).serve().await;
    }
}

/// Whether a command may wait for what others send.
fn may_wait(request: &[Bytes]) -> bool {
    let is = |name: &str| request.first().is_some_and(|first| first.eq_ignore_ascii_case(name.as_bytes()));
    is("xread") || is("xreadgroup")
}
