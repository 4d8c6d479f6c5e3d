//! One connection: requests in, replies out, in their order; what came together is answered together.
//!
//! Bounded: a request by the limits of the parser, what waits to be read by one buffer, what waits to be written by
//! the client's own pace. A client that goes away ends what it waits for.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::commands::{Add, added};
use super::parse::{Parser, ProtocolError};
use super::refusal::Refusal;
use super::reply::Reply;
use super::session::Session;

/// Bytes that are read at a time, and that may wait while a command runs.
const READ_BYTES: usize = 64 << 10;
/// Replies are written once they are so many bytes, even if more requests are there.
const WRITE_BYTES: usize = 256 << 10;
/// Publishes of one client that the engine has at a time.
const TOGETHER_MAX: usize = 1024;

/// A connection and its state.
pub(super) struct Connection<S> {
    pub(super) stream: S,
    pub(super) session: Session,
    pub(super) parser: Parser,
    pub(super) drain: CancellationToken,
    input: BytesMut,
    output: Vec<u8>,
}

/// That a connection is over.
struct Over;

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn new(stream: S, session: Session, parser: Parser, drain: CancellationToken) -> Self {
        Self { stream, session, parser, drain, input: BytesMut::new(), output: Vec::new() }
    }

    /// Serves it to its end, or to the server's.
    pub(super) async fn serve(mut self) {
        let _ = self.serve_all().await;
    }

    async fn serve_all(&mut self) -> Result<(), Over> {
        loop {
            self.answer_received().await?;
            self.flush().await?;
            if self.session.quits {
                return Err(Over);
            }
            let drain = self.drain.clone();
            self.input.reserve(READ_BYTES);
            let read = tokio::select! {
                read = self.stream.read_buf(&mut self.input) => read.unwrap_or(0),
                () = drain.cancelled() => 0,
            };
            if read == 0 {
                return Err(Over);
            }
        }
    }

    /// Runs every whole request that was received; publishes that follow each other go to the engine together.
    async fn answer_received(&mut self) -> Result<(), Over> {
        let mut adds: Vec<Result<Add, Refusal>> = Vec::new();
        loop {
            let request = match self.parser.next(&mut self.input) {
                Ok(request) => request,
                Err(ProtocolError(what)) => {
                    self.publish(&mut adds).await;
                    self.reply(&Refusal::new(format!("ERR Protocol error: {what}")).into());
                    let _ = self.flush().await;
                    return Err(Over);
                }
            };
            if let Some(add) = request.as_ref().and_then(|request| self.session.plain_add(request)) {
                adds.push(add);
                if adds.len() < TOGETHER_MAX {
                    continue;
                }
                self.publish(&mut adds).await;
            } else {
                self.publish(&mut adds).await;
                let Some(request) = request else { return Ok(()) };
                self.run(&request).await?;
            }
            if self.output.len() >= WRITE_BYTES {
                self.flush().await?;
            }
            if self.session.quits {
                return Ok(());
            }
        }
    }

    async fn publish(&mut self, adds: &mut Vec<Result<Add, Refusal>>) {
        if adds.is_empty() {
            return;
        }
        let (mut requests, mut refused) = (Vec::new(), Vec::new());
        for add in adds.drain(..) {
            match add {
                Ok(add) => {
                    requests.push(add.publish);
                    refused.push(None);
                }
                Err(refusal) => refused.push(Some(refusal)),
            }
        }
        let mut answers = self.session.engine.publish_each(requests).await.into_iter();
        for refused in refused {
            let outcome = match refused {
                Some(refusal) => Err(refusal),
                None => added(answers.next().unwrap_or_else(|| Err(crate::error::Error::draining()))),
            };
            self.reply(&outcome.unwrap_or_else(Reply::from));
        }
    }

    /// Runs a command, which may wait for long: unless the client goes away, or the server does.
    async fn run(&mut self, request: &[Bytes]) -> Result<(), Over> {
        // What it waits for must not wait for replies that are still here.
        if super::may_wait(request) {
            self.flush().await?;
        }
        let (stream, input, drain) = (&mut self.stream, &mut self.input, self.drain.clone());
        let reply = tokio::select! {
            biased;
            reply = self.session.run(request) => reply,
            () = gone(stream, input) => return Err(Over),
            () = drain.cancelled() => return Err(Over),
        };
        self.reply(&reply);
        Ok(())
    }

    fn reply(&mut self, reply: &Reply) {
        reply.write(self.session.protocol, &mut self.output);
    }

    async fn flush(&mut self) -> Result<(), Over> {
        if self.output.is_empty() {
            return Ok(());
        }
        let written = self.stream.write_all(&self.output).await;
        self.output.clear();
        written.map_err(|_| Over)
    }
}

/// Resolves when the client closes its end. What it sends meanwhile is kept, up to a bound; then it is not looked at.
async fn gone<S: AsyncRead + Unpin>(stream: &mut S, input: &mut BytesMut) {
    while input.len() < READ_BYTES {
        input.reserve(READ_BYTES - input.len());
        match stream.read_buf(input).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    std::future::pending().await
}
