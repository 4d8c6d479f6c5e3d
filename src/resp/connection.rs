//! One connection: requests in, replies out, in their order; what came together is answered together.
//!
//! Bounded: a request by the limits of the parser, what waits to be read and to be written by the room that all
//! connections share, and both in time. A client that goes away ends what it waits for.

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::commands::{Add, added};
use super::input::Input;
use super::output::Output;
use super::parse::Parser;
use super::refusal::Refusal;
use super::reply::Reply;
use super::session::Session;

/// Publishes of one client that the engine has at a time.
const TOGETHER_MAX: usize = 1024;

/// A connection and its state.
pub(super) struct Connection<S> {
    stream: S,
    session: Session,
    input: Input,
    output: Output,
}

/// That a connection is over.
struct Over;

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn new(stream: S, session: Session) -> Self {
        let (room, options) = (&session.port.room, session.port.options);
        let input = Input::new(Parser::new(options.request_bytes_max), room.share(), options.wait_max);
        let output = Output::new(room.share(), options.wait_max);
        Self { stream, session, input, output }
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
            let over = self.session.client.over.clone();
            let read = tokio::select! {
                read = self.input.read(&mut self.stream) => read,
                () = over.cancelled() => return Err(Over),
            };
            match read {
                Ok(true) => {}
                Ok(false) => return Err(Over),
                Err(refusal) => {
                    self.reply(refusal.into());
                    self.flush().await?;
                    return Err(Over);
                }
            }
        }
    }

    /// Runs every whole request that was received; publishes that follow each other go to the engine together.
    async fn answer_received(&mut self) -> Result<(), Over> {
        let mut adds: Vec<Result<Add, Refusal>> = Vec::new();
        loop {
            let request = match self.input.next() {
                Ok(request) => request,
                Err(error) => {
                    self.publish(&mut adds).await;
                    self.reply(Refusal::new(format!("ERR Protocol error: {error}")).into());
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
            if self.output.is_much() {
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
        self.session.note("xadd", None);
        let (port, began, calls) = (Arc::clone(&self.session.port), self.session.clock.micros(), adds.len());
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
        port.stats.called("xadd", calls as u64, self.session.clock.micros() - began);
        for refused in refused {
            let outcome = match refused {
                Some(refusal) => Err(refusal),
                None => added(answers.next().unwrap_or_else(|| Err(crate::error::Error::draining()))),
            };
            let reply = outcome.unwrap_or_else(Reply::from);
            port.stats.answered("xadd", &reply);
            self.reply(reply);
        }
    }

    /// Runs a command. One that may wait for long does so unless the client goes away or the connection is to end; any other
    /// that was begun is answered.
    async fn run(&mut self, request: &[Bytes]) -> Result<(), Over> {
        // What it waits for must not wait for replies that are still here.
        let may_wait = super::may_wait(request);
        if may_wait {
            self.flush().await?;
        }
        let client = Arc::clone(&self.session.client);
        let reply = tokio::select! {
            biased;
            reply = self.session.run(request) => reply,
            how = client.unblocked() => how.reply(),
            () = self.input.closed(&mut self.stream) => return Err(Over),
            () = client.over.cancelled(), if may_wait => return Err(Over),
        };
        self.reply(reply);
        // A client that sends many commands at once leaves time for others.
        tokio::task::coop::consume_budget().await;
        Ok(())
    }

    fn reply(&mut self, reply: Reply) {
        if let Reply::Refused(refusal) = &reply {
            self.session.port.stats.refused(refusal);
        }
        if self.session.replies.take() {
            self.output.push(reply, self.session.protocol);
        }
    }

    async fn flush(&mut self) -> Result<(), Over> {
        self.output.flush(&mut self.stream, &self.session.client.over).await.map_err(|_| Over)
    }
}
