//! `synapse bench end-to-end`: latency from the time an event was due to be published until a consumer holds it.
//!
//! Every event carries when it was due, in nanoseconds since the start, in the first 8 bytes of its data.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::consume::Session;
use super::delivered::{Batch, Delivered};
use super::report::{Tally, print};
use super::{Load, load, pace};
use crate::cli::client::refused;
use crate::cli::progress::Progress;
use crate::cli::usage;
use crate::proto::v1::{self, position, publish_stream_response};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    load: Load,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let mut load = args.load;
    load.rate.get_or_insert(RATE_DEFAULT);
    load.validate()?;
    if load.size < STAMP_BYTES || load.clients != 1 {
        return usage(format!("--size must be at least {STAMP_BYTES} and --clients 1"));
    }
    let group = format!("bench-{}", std::process::id());
    load::ensure_group(&load.connect, from_now_on(&load, &group)).await?;
    let started = Instant::now();
    let progress = Progress::lasting("measuring", load.duration());
    let open = v1::ConsumeOpen {
        stream: load.stream.clone(),
        group: group.clone(),
        consumer: "bench".into(),
        window: Some(v1::ConsumeFlow { entries_max: WINDOW_ENTRIES, bytes_max: WINDOW_BYTES }),
        ..Default::default()
    };
    let session = Session::open(&load, open, Arc::new(AtomicU64::new(0)), started).await?;
    let publishing = tokio::spawn(publish(load.clone(), started));
    let (tally, missing) = receive(session, publishing, started).await?;
    drop(progress);
    print(&load, "end-to-end", &tally, started.elapsed().min(load.duration()));
    let request = v1::DeleteGroupRequest { stream: load.stream.clone(), group };
    load.connect.consumers().await?.delete_group(request).await.map_err(refused)?;
    if missing > 0 {
        anyhow::bail!("{missing} events were acknowledged to the publisher and not delivered");
    }
    Ok(())
}

fn from_now_on(load: &Load, group: &str) -> v1::CreateGroupRequest {
    v1::CreateGroupRequest {
        stream: load.stream.clone(),
        group: group.into(),
        start: Some(v1::Position { position: Some(position::Position::Latest(())) }),
        settings: None,
        create_stream: true,
    }
}

/// Publishes at the rate; answers how many events were acknowledged.
async fn publish(load: Load, started: Instant) -> anyhow::Result<u64> {
    let interval = load.interval().unwrap_or_default();
    let due = pace::due_times(started, interval, load.requests_max(), load.duration());
    let batch = load.batch as u64;
    let mut client = load.connect.events().await?;
    let requests = ReceiverStream::new(due).map(move |due| {
        let mut data = vec![b'x'; load.size];
        data[..STAMP_BYTES].copy_from_slice(&((due - started).as_nanos() as u64).to_be_bytes());
        let event = load::event(Bytes::from(data));
        v1::PublishStreamRequest { seq: 0, publish: Some(load::request(&load, vec![event; load.batch])) }
    });
    let mut answers = client.publish_stream(requests).await.map_err(refused)?.into_inner();
    let mut acknowledged = 0;
    while let Some(answer) = answers.message().await.map_err(refused)? {
        match answer.result {
            Some(publish_stream_response::Result::Published(_)) => acknowledged += batch,
            Some(publish_stream_response::Result::Error(error)) => {
                return Err(crate::cli::client::refused_within(&error));
            }
            None => {}
        }
    }
    Ok(acknowledged)
}

/// Takes events until all that were acknowledged to the publisher are here, or none comes any more; answers how many
/// are missing.
async fn receive(
    mut session: Session,
    publishing: tokio::task::JoinHandle<anyhow::Result<u64>>,
    started: Instant,
) -> anyhow::Result<(Tally, u64)> {
    let mut tally = Tally::default();
    let mut publishing = Some(publishing);
    let mut published = None;
    while published.is_none_or(|all| tally.events < all) {
        let message = tokio::select! {
            message = session.next() => message?,
            outcome = join(&mut publishing) => { published = Some(outcome?); continue }
            () = tokio::time::sleep(PATIENCE), if published.is_some() => break,
        };
        let Some(message) = message else { break };
        if let Some(batch) = message.batch {
            session.acknowledge(&batch).await?;
            arrived(&batch, started, &mut tally);
        }
        if let Some(result) = message.ack_result {
            session.settled(&result, &mut Tally::default());
        }
    }
    let missing = published.unwrap_or_default().saturating_sub(tally.events);
    Ok((tally, missing))
}

async fn join(publishing: &mut Option<tokio::task::JoinHandle<anyhow::Result<u64>>>) -> anyhow::Result<u64> {
    match publishing {
        Some(task) => {
            let outcome = task.await;
            *publishing = None;
            outcome?
        }
        None => std::future::pending().await,
    }
}

fn arrived(batch: &Batch, started: Instant, tally: &mut Tally) {
    let now = Instant::now();
    for data in batch.events.iter().filter_map(Delivered::data) {
        if let Some(stamp) = data.first_chunk::<STAMP_BYTES>() {
            let due = started + Duration::from_nanos(u64::from_be_bytes(*stamp));
            tally.done(1, now.saturating_duration_since(due));
        }
    }
}

/// Bytes of an event's data that say when it was due.
const STAMP_BYTES: usize = 8;
/// Events a second where no rate is set.
const RATE_DEFAULT: f64 = 10_000.0;
/// How long to wait for events that were acknowledged to the publisher.
const PATIENCE: Duration = Duration::from_secs(5);
const WINDOW_ENTRIES: u32 = 50_000;
const WINDOW_BYTES: u32 = 64 << 20;
