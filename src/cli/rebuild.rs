//! `synapse rebuild`: makes the index of a data directory that nobody has open anew from the log.

use std::io::{self, Write};

use serde_json::json;

use super::directory::Directory;
use super::progress::Progress;
use super::render::Output;
use crate::engine::{self, Rebuilt, Replay};

pub(super) fn run(args: &Directory) -> anyhow::Result<()> {
    let mut shown: Option<(u64, Progress)> = None;
    let rebuilt = engine::rebuild(&args.data_dir, &mut |Replay { done, total }| {
        // A short replay may come before the whole one.
        let (_, bar) = match shown.take() {
            Some(known) if known.0 == total => shown.insert(known),
            _ => shown.insert((total, Progress::bytes("replaying", total))),
        };
        bar.set(done);
    })?;
    drop(shown);
    print(args.output, rebuilt)?;
    Ok(())
}

fn print(output: Output, Rebuilt { frames, bytes, streams, groups }: Rebuilt) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if output.json {
        let sum = json!({ "frames": frames, "bytes": bytes, "streams": streams, "groups": groups });
        return writeln!(out, "{sum}");
    }
    writeln!(out, "replayed {frames} commits, {bytes} bytes: {streams} streams, {groups} groups")
}
