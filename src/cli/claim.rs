//! `synapse claim`: takes pending entries over from other consumers, and prints them.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::json;

use super::client::refused;
use super::groups::Of;
use super::render::{id, id_json, write_delivered};
use super::values;
use crate::proto::v1;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    of: Of,
    /// Which; any where left out.
    #[arg(value_parser = values::id, value_name = "ID")]
    ids: Vec<v1::EntryId>,
    /// Who takes them.
    #[arg(long, value_name = "NAME")]
    consumer: String,
    /// Only what was delivered at least so long ago, as 30s.
    #[arg(long, value_parser = values::duration, default_value = "0s", value_name = "DURATION")]
    idle: Duration,
    /// Take at most this many where no ids are named.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    count: u32,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let mut client = args.of.connect.consumers().await?;
    let mut ids = args.ids.clone();
    ids.sort_by_key(|id| (id.ms, id.seq));
    let (mut first_id, mut left) = (None, if ids.is_empty() { args.count } else { u32::MAX });
    loop {
        let request = v1::ClaimPendingRequest {
            stream: args.of.stream.clone(),
            group: args.of.group.clone(),
            consumer: args.consumer.clone(),
            idle_min: Some(values::proto_duration(args.idle)),
            ids: ids.clone(),
            first_id,
            entries_max: if ids.is_empty() { left.min(PAGE_ENTRIES) } else { 0 },
        };
        let claimed = client.claim_pending(request).await.map_err(refused)?.into_inner();
        print(&args, &claimed)?;
        left = left.saturating_sub(claimed.events.len() as u32);
        let Some(next) = claimed.next_id.filter(|_| left > 0) else { return Ok(()) };
        ids.retain(|id| (id.ms, id.seq) >= (next.ms, next.seq));
        if !args.ids.is_empty() && ids.is_empty() {
            return Ok(());
        }
        first_id = Some(next).filter(|_| args.ids.is_empty());
    }
}

fn print(args: &Args, claimed: &v1::ClaimPendingResponse) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for delivered in &claimed.events {
        write_delivered(&mut out, args.of.output, delivered)?;
    }
    for gone in &claimed.gone {
        if args.of.output.json {
            writeln!(out, "{}", json!({ "id": id_json(Some(gone)), "gone": true }))?;
        } else {
            eprintln!("synapse: {} no longer exists, and is no longer pending", id(Some(gone)));
        }
    }
    out.flush()
}

/// Entries asked for at a time.
const PAGE_ENTRIES: u32 = 10_000;
