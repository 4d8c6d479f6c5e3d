//! `synapse bench`: load on a server, and what came of it as one JSON object.
//!
//! Requests are encoded once, before the clock starts. Without a rate the load is closed-loop: as much as the server
//! takes. With a rate it is open-loop: every request has its time, and a late answer counts from then, so that waiting
//! is part of the latency.

mod codec;
mod consume;
mod delivered;
mod end_to_end;
mod load;
mod pace;
mod publish;
mod report;

use std::time::Duration;

use super::client::Connect;
use super::usage;
use super::values;
use crate::proto::v1;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Publish as fast as the server takes it, or at a rate.
    Publish(publish::Args),
    /// Consume and acknowledge what a stream holds.
    Consume(consume::Args),
    /// Publish at a rate and consume at once: latency from the publish's due time to its delivery.
    EndToEnd(end_to_end::Args),
}

/// What all loads are told.
#[derive(Clone, Debug, clap::Args)]
struct Load {
    /// The stream; made where it is missing.
    #[arg(long, default_value = "bench", value_name = "S")]
    stream: String,
    /// Bytes of an event's data.
    #[arg(long, default_value_t = 200, value_name = "BYTES")]
    size: usize,
    /// Events of one request or delivery.
    #[arg(long, default_value_t = 1, value_name = "N")]
    batch: usize,
    /// Callers, publish streams or consume sessions at a time.
    #[arg(long, default_value_t = 1, value_name = "N")]
    clients: usize,
    /// Connections that the clients share.
    #[arg(long, default_value_t = 1, value_name = "N")]
    connections: usize,
    /// How long to go on.
    #[arg(long, default_value_t = 10, value_name = "S")]
    seconds: u64,
    /// End after this many events, if that is earlier.
    #[arg(long, value_name = "N")]
    events: Option<u64>,
    /// Events a second in all; as fast as possible where left out.
    #[arg(long, value_name = "R")]
    rate: Option<f64>,
    /// When publishes are answered: fsync or os; the server's default where left out.
    #[arg(long, value_parser = values::durability, value_name = "D")]
    durability: Option<v1::Durability>,
    /// Print one JSON object instead of lines for people.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: Connect,
}

impl Load {
    fn validate(&self) -> anyhow::Result<()> {
        if !(1..=crate::limits::PUBLISH_EVENTS_MAX).contains(&self.batch) {
            return usage(format!("--batch must be from 1 to {}", crate::limits::PUBLISH_EVENTS_MAX));
        }
        if self.clients == 0 || self.connections == 0 {
            return usage("--clients and --connections must be at least 1");
        }
        if self.rate.is_some_and(|r| !(r.is_finite() && r > 0.0)) {
            return usage("--rate must be greater than zero");
        }
        Ok(())
    }

    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// Time between two requests of one client at the set rate.
    fn interval(&self) -> Option<Duration> {
        self.rate.map(|rate| Duration::from_secs_f64(self.batch as f64 * self.clients as f64 / rate))
    }

    /// Requests that one client may make in all.
    fn requests_max(&self) -> u64 {
        let per_request = (self.batch * self.clients) as u64;
        self.events.map_or(u64::MAX, |events| events.div_ceil(per_request))
    }
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Publish(args) => publish::run(args).await,
        Command::Consume(args) => consume::run(args).await,
        Command::EndToEnd(args) => end_to_end::run(args).await,
    }
}
