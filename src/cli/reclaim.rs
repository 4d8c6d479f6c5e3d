//! `synapse reclaim`: gives back the space of everything that no longer exists, in a data directory that nobody has open.

use std::io::{self, Write};

use serde_json::json;

use super::directory::Directory;
use super::progress::Progress;
use crate::engine::{self, Replay};

pub(super) fn run(args: &Directory) -> anyhow::Result<()> {
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
