//! What `benches/compare` measures itself, one case a run: the disk, a gRPC service that does nothing, the engine in
//! process, and groups of JetStream and Redis. Each prints one JSON object.

mod disk;
mod do_nothing;
mod in_process;
mod jetstream;
mod redis;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use serde_json::{Value, json};

#[derive(Debug, clap::Parser)]
#[command(about = "Measures one case beside `synapse bench`")]
struct Args {
    /// Bytes of an event's data.
    #[arg(long, global = true, default_value_t = 200)]
    size: usize,
    /// How long a case goes on.
    #[arg(long, global = true, default_value_t = 3.0)]
    seconds: f64,
    #[command(subcommand)]
    case: Case,
}

#[derive(Debug, clap::Subcommand)]
enum Case {
    /// Write and fdatasync so many bytes at a time to one file, in a folder that is there.
    Disk { folder: PathBuf, bytes: usize },
    /// Serve publishes without doing anything, until ended.
    DoNothing { listen: SocketAddr },
    /// Publish to an engine in a folder of its own.
    InProcess { folder: PathBuf, batch: usize, in_flight: usize },
    /// Publish to JetStream with a window of unacknowledged events, on one connection.
    JetstreamPublish { server: SocketAddr, window: u64 },
    /// Fetch what JetStream holds and acknowledge it, on one connection.
    JetstreamConsume { server: SocketAddr },
    /// Read what a Redis stream holds through a group, so many entries at a time, and acknowledge it, on one connection.
    RedisConsume { server: SocketAddr, stream: String, batch: usize },
    /// Wait on so many connections in a group of a Redis stream for what one writer adds.
    RedisWake { server: SocketAddr, waiting: usize },
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let (size, over) = (args.size, Duration::from_secs_f64(args.seconds));
    let report = match args.case {
        Case::Disk { folder, bytes } => disk::run(&folder, bytes, over)?,
        Case::DoNothing { listen } => return do_nothing::serve(listen),
        Case::InProcess { folder, batch, in_flight } => in_process::run(folder, size, batch, in_flight, over)?,
        Case::JetstreamPublish { server, window } => jetstream::publish(server, size, window, over)?,
        Case::JetstreamConsume { server } => jetstream::consume(server, over)?,
        Case::RedisConsume { server, stream, batch } => redis::consume(server, &stream, batch, over)?,
        Case::RedisWake { server, waiting } => redis::wake(server, waiting, over)?,
    };
    println!("{report}");
    Ok(())
}

/// The report of so many events in that time.
fn rate(events: u64, taken: Duration) -> Value {
    json!({ "events": events, "events_per_s": (events as f64 / taken.as_secs_f64()).round() })
}
