//! `synapse seek`: moves the cursor of a group, forward or back.

use std::io::{self, Write};

use serde_json::json;

use super::client::refused;
use super::groups::Of;
use super::render::{id, id_json};
use super::values;
use crate::proto::v1;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    of: Of,
    /// Where to: earliest, latest, an id (what comes after it), or a time.
    #[arg(value_parser = values::position, value_name = "PLACE")]
    to: v1::Position,
    /// Only say how many entries it concerns.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let request =
        v1::SeekGroupRequest { stream: args.of.stream, group: args.of.group, to: Some(args.to), dry_run: args.dry_run };
    let moved = args.of.connect.consumers().await?.seek_group(request).await.map_err(refused)?.into_inner();
    let (from, to, entries) = (moved.from.as_ref(), moved.to.as_ref(), moved.entries);
    let mut out = io::stdout().lock();
    if args.of.output.json {
        let backwards = moved.backwards;
        let (from, to, dry_run) = (id_json(from), id_json(to), args.dry_run);
        let told = json!({ "from": from, "to": to, "entries": entries, "backwards": backwards, "dry_run": dry_run });
        writeln!(out, "{told}")?;
        return Ok(());
    }
    let moves = if args.dry_run { "would move" } else { "moved" };
    let fate = if moved.backwards { "to be delivered again" } else { "skipped" };
    writeln!(out, "{moves} the cursor from {} to {}: {entries} entries {fate}", id(from), id(to))?;
    Ok(())
}
