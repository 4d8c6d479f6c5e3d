//! `synapse consume`: a member of a group that prints what it gets.
//!
//! An event is acknowledged once it is printed. Whatever ends the command, what it holds unacknowledged is handed back
//! to the group without counting as a failure.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::bail;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::client::{Connect, refused, refused_within};
use super::render::{Output, write_entry};
use super::values;
use crate::proto::v1::{self, consume_request::Request, consume_response::Response};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The stream.
    stream: String,
    /// The group; it must exist.
    group: String,
    /// Name of this member.
    #[arg(long, default_value = "cli", value_name = "NAME")]
    consumer: String,
    /// End after this many events.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End where nothing came for this long, as 5s.
    #[arg(long, value_parser = values::duration, value_name = "DURATION")]
    idle: Option<Duration>,
    /// Acknowledge nothing: what was printed is handed back at the end.
    #[arg(long)]
    no_ack: bool,
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let mut client = args.connect.consumers().await?;
    let (requests, receiver) = mpsc::channel(REQUESTS_WAITING);
    let mut session = Session { requests, left: args.count.unwrap_or(u64::MAX), acks: 0 };
    session.send(Request::Open(open(&args))).await?;
    let mut responses = client.consume(ReceiverStream::new(receiver)).await.map_err(refused)?.into_inner();
    while session.left > 0 {
        let batch = tokio::select! {
            batch = next_batch(&mut responses) => batch?,
            () = idle(args.idle) => None,
            _ = tokio::signal::ctrl_c() => None,
        };
        let Some(batch) = batch else { break };
        session.take(&args, batch).await?;
    }
    session.end(responses).await
}

fn open(args: &Args) -> v1::ConsumeOpen {
    let entries_max = args.count.unwrap_or(WINDOW_ENTRIES).clamp(1, WINDOW_ENTRIES) as u32;
    v1::ConsumeOpen {
        stream: args.stream.clone(),
        group: args.group.clone(),
        consumer: args.consumer.clone(),
        window: Some(v1::ConsumeFlow { entries_max, bytes_max: 0 }),
        ..Default::default()
    }
}

async fn idle(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// The next entries; none where the server ended the session.
async fn next_batch(responses: &mut Streaming<v1::ConsumeResponse>) -> anyhow::Result<Option<v1::ConsumeBatch>> {
    loop {
        let Some(message) = responses.message().await.map_err(refused)? else { return Ok(None) };
        match message.response {
            Some(Response::Batch(batch)) => return Ok(Some(batch)),
            Some(Response::AckResult(result)) => check(&result)?,
            Some(Response::Drained(_)) => return Ok(None),
            Some(Response::Opened(_) | Response::Heartbeat(_)) | None => {}
        }
    }
}

fn check(result: &v1::ConsumeAckResult) -> anyhow::Result<()> {
    if let Some(error) = &result.error {
        return Err(refused_within(error));
    }
    if !result.not_owned.is_empty() {
        bail!("{} events went to another consumer before they were acknowledged", result.not_owned.len());
    }
    Ok(())
}

/// The sending half of a consume session.
struct Session {
    requests: mpsc::Sender<v1::ConsumeRequest>,
    /// Events still to print.
    left: u64,
    acks: u64,
}

impl Session {
    async fn send(&self, request: Request) -> anyhow::Result<()> {
        match self.requests.send(v1::ConsumeRequest { request: Some(request) }).await {
            Ok(()) => Ok(()),
            Err(_) => bail!("the server ended the session"),
        }
    }

    /// Prints a batch as far as it is wanted, then acknowledges what was printed.
    async fn take(&mut self, args: &Args, batch: v1::ConsumeBatch) -> anyhow::Result<()> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(batch.events.len());
        let entries: Vec<&v1::RecordedEvent> =
            batch.events[..wanted].iter().filter_map(|delivered| delivered.event.as_ref()).collect();
        print(args.output, &entries)?;
        self.left -= wanted as u64;
        if args.no_ack {
            return Ok(());
        }
        let ids = entries.iter().map(|e| v1::IdRange { first: e.id, last: None }).collect();
        self.acks += 1;
        self.send(Request::Ack(v1::ConsumeAck { seq: self.acks, ids, publish: Vec::new() })).await
    }

    /// Hands back what is held, and waits for the answers to what was acknowledged.
    async fn end(self, mut responses: Streaming<v1::ConsumeResponse>) -> anyhow::Result<()> {
        // A session that the server ended takes no drain, and needs none.
        if self.send(Request::Drain(v1::ConsumeDrain {})).await.is_err() {
            return Ok(());
        }
        while next_batch(&mut responses).await?.is_some() {}
        Ok(())
    }
}

fn print(output: Output, entries: &[&v1::RecordedEvent]) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for entry in entries {
        write_entry(&mut out, output, entry)?;
    }
    out.flush()
}

/// Requests that may wait for the connection.
const REQUESTS_WAITING: usize = 16;
/// Entries held at most where the command asks for no smaller number.
const WINDOW_ENTRIES: u64 = 1_000;
