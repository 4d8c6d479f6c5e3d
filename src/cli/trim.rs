//! `synapse trim`: drops the oldest entries of a stream.

use std::io::{self, Write};

use serde_json::json;

use super::client::{Connect, refused};
use super::render::{Output, id, id_json};
use super::values::{self, Before};
use crate::proto::v1;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The stream.
    stream: String,
    #[command(flatten)]
    to: To,
    /// Only say what would go.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    output: Output,
}

/// What is kept.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct To {
    /// Drop what has a smaller id, or was appended before a time.
    #[arg(long, value_parser = values::before, value_name = "ID|TIME")]
    before: Option<Before>,
    /// Keep the last so many events.
    #[arg(long, value_name = "N")]
    keep_entries: Option<u64>,
    /// Keep the last so many bytes of events.
    #[arg(long, value_name = "BYTES")]
    keep_bytes: Option<u64>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let (before_id, before_time) = match args.to.before {
        Some(Before::Id(id)) => (Some(id), None),
        Some(Before::Time(time)) => (None, Some(time)),
        None => (None, None),
    };
    let request = v1::TrimStreamRequest {
        stream: args.stream,
        before_id,
        before_time,
        keep_entries: args.to.keep_entries,
        keep_bytes: args.to.keep_bytes,
        dry_run: args.dry_run,
    };
    let went = args.connect.streams().await?.trim_stream(request).await.map_err(refused)?.into_inner();
    let (entries, bytes, first) = (went.entries, went.bytes, went.first_id.as_ref());
    let mut out = io::stdout().lock();
    if args.output.json {
        let (first_id, dry_run) = (id_json(first), args.dry_run);
        let told = json!({ "entries": entries, "bytes": bytes, "first_id": first_id, "dry_run": dry_run });
        writeln!(out, "{told}")?;
        return Ok(());
    }
    let trims = if args.dry_run { "would trim" } else { "trimmed" };
    writeln!(out, "{trims} {entries} events ({bytes} bytes); the first one left: {}", id(first))?;
    Ok(())
}
