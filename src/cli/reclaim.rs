//! `synapse reclaim`: gives back the space of everything that no longer exists, in a data directory that nobody has open.

use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::json;

use super::progress::Progress;
use super::render::Output;
use crate::engine::{self, Replay};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The data directory.
    #[arg(long, env = "SYNAPSE_DATA_DIR", default_value = "./synapse-data", value_name = "DIR")]
    data_dir: PathBuf,
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let mut shown: Option<Progress> = None;
    let bytes = engine::reclaim_directory(&args.data_dir, &mut |Replay { done, total }| {
        shown.get_or_insert_with(|| Progress::bytes("replaying", total)).set(done);
    })?;
    drop(shown);
    let mut out = io::stdout().lock();
    if args.output.json {
        writeln!(out, "{}", json!({ "bytes": bytes }))?;
    } else {
        writeln!(out, "gave back {bytes} bytes: nothing is left of what was trimmed or deleted")?;
    }
    Ok(())
}
