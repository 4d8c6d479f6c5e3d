//! The Redis protocol: commands of Redis Streams over the engine, for clients that were written for Redis.
//!
//! RESP2 and RESP3 on a port of its own. A key is a stream, groups are the engine's groups, and what is added here is
//! read everywhere. The parser does no I/O; a connection runs one command after the other.

mod args;
mod clients;
mod commands;
mod connection;
mod entries;
mod ids;
mod input;
mod output;
mod parse;
mod port;
mod refusal;
mod reply;
mod room;
mod session;
mod stats;
#[cfg(feature = "testing")]
pub mod testing;
mod transaction;
mod work;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::access::Keyring;
use crate::engine::Engine;
pub use clients::Ends;
use connection::Connection;
use port::Port;
use session::Session;

/// Bounds of the Redis port.
#[derive(Clone, Copy, Debug)]
pub struct RespOptions {
    /// Bytes of a request at most.
    pub request_bytes_max: usize,
    /// How long a request may take from its beginning until it is whole, and how long a client may leave replies unread.
    pub wait_max: Duration,
}

/// The Redis port: serves connections over one engine.
pub struct Resp {
    port: Arc<Port>,
}

impl Resp {
    /// A front end over the engine; connections end when `drain` is cancelled.
    pub fn new(engine: Engine, keyring: Keyring, options: RespOptions, drain: CancellationToken) -> Arc<Self> {
        Arc::new(Self { port: Arc::new(Port::new(engine, keyring, options, drain)) })
    }

    /// Serves one connection to its end, or to the server's.
    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) {
        self.serve_between(stream, None).await;
    }

    /// The same for a connection of which it is known what it connects, where it is.
    pub async fn serve_between<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S, ends: Option<Ends>) {
        let admitted = self.port.admit(ends);
        let session = Session::new(Arc::clone(&admitted.port), Arc::clone(&admitted.client));
        Connection::new(stream, session).serve().await;
    }
}

/// Whether a command may wait for what others send.
fn may_wait(request: &[Bytes]) -> bool {
    let is = |name: &str| request.first().is_some_and(|first| first.eq_ignore_ascii_case(name.as_bytes()));
    is("xread") || is("xreadgroup")
}
