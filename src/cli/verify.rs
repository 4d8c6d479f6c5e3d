//! `synapse verify`: checks a data directory that nobody has open, and changes nothing.

use std::io::{self, Write};

use anyhow::bail;
use serde_json::json;

use super::directory::Directory;
use super::progress::Progress;
use super::render::{Output, or_dash};
use crate::engine::{DeepReport, verify_deep};
use crate::storage::{Affected, Checked, Finding, Verifier, VerifyReport};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    directory: Directory,
    /// Replay the state besides, from all that a start could go on from, compare what comes of it, and read what groups and
    /// dead letters name.
    #[arg(long)]
    deep: bool,
}

pub(super) fn run(Args { directory, deep }: &Args) -> anyhow::Result<()> {
    let bytes = check_bytes(directory);
    if *deep {
        // What the bytes tell comes first: a start may not be possible because of it.
        let state = check_state(directory);
        return bytes.and(state);
    }
    bytes
}

/// Replays the state and checks what it names.
fn check_state(args: &Directory) -> anyhow::Result<()> {
    let report = verify_deep(&args.data_dir)?;
    let mut out = io::stdout().lock();
    for flaw in &report.flaws {
        if args.output.json {
            writeln!(out, "{}", json!({ "kind": "flaw", "message": flaw }))?;
        } else {
            writeln!(out, "flaw  state: {}", or_dash(flaw))?;
        }
    }
    let DeepReport { compared, rows, entries, flaws } = &report;
    let flaws = flaws.len();
    if args.output.json {
        let sum = json!({
            "kind": "deep_summary",
            "replayed_from": compared,
            "rows": rows,
            "entries": entries,
            "flaws": flaws,
        });
        writeln!(out, "{sum}")?;
    } else {
        let from = compared.join(" and ");
        writeln!(out, "replayed from {from}: {rows} rows of state, {entries} entries named by groups: {flaws} flaws")?;
    }
    if flaws > 0 {
        bail!("{flaws} flaws in the state of {}", args.data_dir.display());
    }
    Ok(())
}

/// Checks every byte.
fn check_bytes(args: &Directory) -> anyhow::Result<()> {
    let verifier = Verifier::open(&args.data_dir)?;
    let progress = Progress::bytes("checking", verifier.bytes());
    let mut written = Ok(());
    let report = verifier.run(&mut |checked| match checked {
        Checked::Bytes(done) => progress.set(done),
        Checked::Found(finding) => {
            if written.is_ok() {
                written = progress.aside(|| print(args.output, &finding));
            }
        }
    })?;
    drop(progress);
    written?;
    print_sum(args.output, &report)?;
    if report.flaws > 0 {
        bail!("{} flaws in {}", report.flaws, args.data_dir.display());
    }
    Ok(())
}

fn print(output: Output, finding: &Finding) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let kind = if finding.is_flaw { "flaw" } else { "note" };
    if !output.json {
        let (file, offset, message) = (or_dash(&finding.file), finding.offset, or_dash(&finding.message));
        let of = finding.affected.as_ref().map_or_else(String::new, |affected| format!("{}: ", text(affected)));
        return writeln!(out, "{kind}  {file} at {offset}: {of}{message}");
    }
    let mut object =
        json!({ "kind": kind, "file": finding.file, "offset": finding.offset, "message": finding.message });
    if let Some(affected) = &finding.affected {
        object["stream"] = affected.name.as_ref().map(ToString::to_string).into();
        object["stream_number"] = affected.stream.0.into();
        object["first_id"] = affected.first.to_string().into();
        object["last_id"] = affected.last.to_string().into();
        object["entries"] = affected.entries.into();
    }
    writeln!(out, "{object}")
}

fn text(affected: &Affected) -> String {
    let number = || format!("number {}", affected.stream.0);
    let stream = affected.name.as_ref().map_or_else(number, ToString::to_string);
    format!("stream {stream}, {} to {} ({} events)", affected.first, affected.last, affected.entries)
}

fn print_sum(output: Output, report: &VerifyReport) -> io::Result<()> {
    let VerifyReport { files, segments, frames, blocks, entries, flaws, notes } = *report;
    let mut out = io::stdout().lock();
    if output.json {
        let sum = json!({
            "kind": "summary",
            "files": files,
            "segments": segments,
            "frames": frames,
            "blocks": blocks,
            "entries": entries,
            "flaws": flaws,
            "notes": notes,
        });
        return writeln!(out, "{sum}");
    }
    let checked = format!("{files} files, {segments} of the log, {frames} commits, {blocks} blocks, {entries} events");
    writeln!(out, "{checked}: {flaws} flaws, {notes} notes")
}
