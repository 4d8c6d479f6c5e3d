//! `synapse pending`: what the consumers of a group hold, or what waits to be delivered again.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::json;

use super::client::refused;
use super::groups::Of;
use super::render::{duration, duration_ms, id, id_json, or_dash, write_table};
use super::values;
use crate::proto::v1;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    of: Of,
    /// Only what this consumer holds.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    consumer: String,
    /// Only what was delivered at least so long ago, as 30s.
    #[arg(long, value_parser = values::duration, value_name = "DURATION")]
    idle: Option<Duration>,
    /// Only ids from this one on.
    #[arg(long, value_parser = values::id, value_name = "ID")]
    from: Option<v1::EntryId>,
    /// List at most this many.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    count: u32,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let (entries, more) = list(&args).await?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    if args.of.output.json {
        for entry in &entries {
            writeln!(out, "{}", entry_json(entry))?;
        }
    } else {
        let rows: Vec<Vec<String>> = entries.iter().map(row).collect();
        write_table(&mut out, &["ID", "CONSUMER", "IDLE", "DUE IN", "DELIVERIES", "FAILURES"], &rows)?;
    }
    out.flush()?;
    if let Some(next) = more {
        eprintln!("synapse: there may be more, from {} on", id(Some(&next)));
    }
    Ok(())
}

/// Up to `count` pending entries, page by page, and where there may be more.
async fn list(args: &Args) -> anyhow::Result<(Vec<v1::PendingEntry>, Option<v1::EntryId>)> {
    let mut client = args.of.connect.consumers().await?;
    let mut entries = Vec::new();
    let mut next = args.from;
    loop {
        let first = next.unwrap_or_default();
        let left = args.count - entries.len() as u32;
        let request = v1::ListPendingRequest {
            stream: args.of.stream.clone(),
            group: args.of.group.clone(),
            range: Some(v1::IdRange { first: Some(first), last: Some(v1::EntryId { ms: u64::MAX, seq: u64::MAX }) }),
            entries_max: left.min(PAGE_ENTRIES),
            consumer: args.consumer.clone(),
            idle_min: args.idle.map(values::proto_duration),
        };
        let page = client.list_pending(request).await.map_err(refused)?.into_inner();
        entries.extend(page.entries.into_iter().take(left as usize));
        next = page.next_id;
        if next.is_none() || entries.len() >= args.count as usize {
            return Ok((entries, next));
        }
    }
}

fn row(entry: &v1::PendingEntry) -> Vec<String> {
    vec![
        id(entry.id.as_ref()),
        or_dash(&entry.consumer),
        duration(entry.idle.as_ref()),
        duration(entry.due.as_ref()),
        entry.deliveries.to_string(),
        entry.failures.to_string(),
    ]
}

fn entry_json(entry: &v1::PendingEntry) -> serde_json::Value {
    json!({
        "id": id_json(entry.id.as_ref()),
        "consumer": entry.consumer,
        "idle_ms": duration_ms(entry.idle.as_ref()),
        "due_ms": duration_ms(entry.due.as_ref()),
        "deliveries": entry.deliveries,
        "failures": entry.failures,
    })
}

/// Entries asked for at a time.
const PAGE_ENTRIES: u32 = 10_000;
