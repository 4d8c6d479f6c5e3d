//! `synapse bench consume`: a group that takes what a stream holds, and acknowledges it. Latency is from an
//! acknowledgement to its answer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::{Request as Call, Streaming};
use tonic_prost::ProstCodec;

use super::delivered::{Batch, Delivered, Response};
use super::load::CONSUME;
use super::report::{Tally, print};
use super::{Load, load};
use crate::cli::client::refused;
use crate::cli::progress::Progress;
use crate::proto::v1::{self, consume_request::Request};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The group; one of its own from the earliest event, deleted at the end, where left out.
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Events that one client may hold unacknowledged.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    in_flight: u32,
    /// End where nothing came for this long, in milliseconds.
    #[arg(long, default_value_t = 1_000, value_name = "MS")]
    idle_ms: u64,
    #[command(flatten)]
    load: Load,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    args.load.validate()?;
    let group = args.group.clone().unwrap_or_else(|| format!("bench-{}", std::process::id()));
    let create = v1::CreateGroupRequest {
        stream: args.load.stream.clone(),
        group: group.clone(),
        settings: Some(v1::GroupSettings { pending_max: PENDING_MAX, ..Default::default() }),
        ..Default::default()
    };
    load::ensure_group(&args.load.connect, create).await?;
    let taken = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let progress = Progress::lasting("measuring", args.load.duration());
    let mut clients = JoinSet::new();
    for number in 0..args.load.clients {
        let open = v1::ConsumeOpen {
            stream: args.load.stream.clone(),
            group: group.clone(),
            consumer: format!("bench-{number}"),
            window: Some(v1::ConsumeFlow { entries_max: args.in_flight, bytes_max: WINDOW_BYTES }),
            ..Default::default()
        };
        let session = Session::open(&args.load, open, Arc::clone(&taken), started).await?;
        clients.spawn(session.run(Duration::from_millis(args.idle_ms)));
    }
    let mut tally = Tally::default();
    let mut last = started;
    while let Some(outcome) = clients.join_next().await {
        let (client_tally, client_last) = outcome??;
        tally.add(client_tally);
        last = last.max(client_last);
    }
    drop(progress);
    print(&args.load, "consume", &tally, last - started);
    if args.group.is_none() {
        let request = v1::DeleteGroupRequest { stream: args.load.stream.clone(), group };
        args.load.connect.consumers().await?.delete_group(request).await.map_err(refused)?;
    }
    match tally.first_error {
        Some(error) => bail!("{} acknowledgements failed; the first: {error}", tally.errors),
        None => Ok(()),
    }
}

/// One consume session.
pub(super) struct Session {
    requests: mpsc::Sender<v1::ConsumeRequest>,
    responses: Streaming<Response>,
    /// Acknowledgements under way: when they were sent, and how many events they were for.
    acks: VecDeque<(Instant, u64)>,
    taken: Arc<AtomicU64>,
    events_max: u64,
    ends: Instant,
}

impl Session {
    pub(super) async fn open(
        load: &Load,
        open: v1::ConsumeOpen,
        taken: Arc<AtomicU64>,
        started: Instant,
    ) -> anyhow::Result<Self> {
        let (requests, receiver) = mpsc::channel(REQUESTS_WAITING);
        let first = v1::ConsumeRequest { request: Some(Request::Open(open)) };
        if requests.send(first).await.is_err() {
            bail!("the session ended before it began");
        }
        let mut call = Call::new(ReceiverStream::new(receiver));
        load.connect.sign(call.metadata_mut())?;
        let mut grpc = Grpc::new(load.connect.channel().await?).max_decoding_message_size(MESSAGE_BYTES_MAX);
        grpc.ready().await?;
        let responses = grpc.streaming(call, CONSUME, ProstCodec::default()).await.map_err(refused)?.into_inner();
        Ok(Self {
            requests,
            responses,
            acks: VecDeque::new(),
            taken,
            events_max: load.events.unwrap_or(u64::MAX),
            ends: started + load.duration(),
        })
    }

    /// Takes and acknowledges until it has enough, time is up, or nothing comes any more. Also says when the last
    /// answer came.
    async fn run(mut self, idle: Duration) -> anyhow::Result<(Tally, Instant)> {
        let mut tally = Tally::default();
        let mut last = Instant::now();
        while Instant::now() < self.ends {
            let Ok(message) = tokio::time::timeout(idle, self.responses.message()).await else { break };
            let Some(message) = message.map_err(refused)? else { break };
            if let Some(batch) = message.batch {
                self.acknowledge(&batch).await?;
            }
            if let Some(result) = message.ack_result {
                self.settled(&result, &mut tally);
                last = Instant::now();
            }
            if self.acks.is_empty() && self.taken.load(Ordering::Relaxed) >= self.events_max {
                break;
            }
        }
        Ok((tally, last))
    }

    /// Acknowledges a batch: its ids as ranges, since what this session holds between two of its ids is its own.
    pub(super) async fn acknowledge(&mut self, batch: &Batch) -> anyhow::Result<()> {
        let ids = ranges(batch);
        let events = batch.events.len() as u64;
        self.taken.fetch_add(events, Ordering::Relaxed);
        self.acks.push_back((Instant::now(), events));
        let ack = v1::ConsumeAck { seq: 0, ids, publish: Vec::new() };
        if self.requests.send(v1::ConsumeRequest { request: Some(Request::Ack(ack)) }).await.is_err() {
            bail!("the server ended the session");
        }
        Ok(())
    }

    /// An acknowledgement was answered.
    pub(super) fn settled(&mut self, result: &v1::ConsumeAckResult, tally: &mut Tally) {
        let (since, events) = self.acks.pop_front().unwrap_or((Instant::now(), 0));
        match &result.error {
            Some(error) => tally.failed(format!("{}: {}", error.reason, error.message)),
            None if result.done < events => tally.failed("events went to another consumer"),
            None => tally.done(events, since.elapsed()),
        }
    }

    /// The next message of the server.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Response>> {
        self.responses.message().await.map_err(refused)
    }
}

/// The ids of a batch as few ranges: one for each run of rising ids (redelivered ones come first).
fn ranges(batch: &Batch) -> Vec<v1::IdRange> {
    let mut ranges: Vec<v1::IdRange> = Vec::new();
    for id in batch.events.iter().filter_map(Delivered::id) {
        match ranges.last_mut() {
            Some(range) if order(range.last) < order(Some(id)) => range.last = Some(id),
            _ => ranges.push(v1::IdRange { first: Some(id), last: Some(id) }),
        }
    }
    ranges
}

fn order(id: Option<v1::EntryId>) -> Option<(u64, u64)> {
    id.map(|id| (id.ms, id.seq))
}

/// Requests that may wait for the connection.
const REQUESTS_WAITING: usize = 64;
/// Bytes of events that one client may hold unacknowledged.
const WINDOW_BYTES: u32 = 16 << 20;
/// Pending entries of a group that the load makes.
const PENDING_MAX: u32 = 10_000_000;
/// A message holds at least one event of whatever size the server allows.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
