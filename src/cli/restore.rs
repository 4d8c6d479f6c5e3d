//! `synapse restore`: a new data directory of a whole backup, as the store was at its end or at a moment before.

use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::json;

use super::backup::{add_covered, write_covered};
use super::progress::Progress;
use super::render::{Output, moment};
use crate::clock::{Clock, SystemClock};
use crate::format::segment::StoreId;
use crate::storage::{Backup, Restored, Until};
use crate::types::LogPosition;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder of the backup.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The new data directory: missing or empty.
    #[arg(long, value_name = "DIR", required_unless_present = "show")]
    data_dir: Option<PathBuf>,
    /// Restore what the store was at a time, or at a position of its log; without this, at the backup's end.
    #[arg(long, value_parser = until, value_name = "TIME|POSITION")]
    until: Option<Until>,
    /// Only say what the backup covers.
    #[arg(long, conflicts_with_all = ["data_dir", "until"])]
    show: bool,
    #[command(flatten)]
    output: Output,
}

/// Reads a position of the log, or an RFC 3339 time.
fn until(text: &str) -> Result<Until, String> {
    if let Ok(position) = text.parse() {
        return Ok(Until::Position(LogPosition(position)));
    }
    let time: Result<jiff::Timestamp, _> = text.parse();
    let ms = time.ok().and_then(|time| u64::try_from(time.as_millisecond()).ok());
    ms.map(Until::Time).ok_or_else(|| "must be a time as 2026-01-31T12:00:00Z, or a position of the log".to_owned())
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let backup = Backup::open(&args.from)?;
    let Some(data_dir) = &args.data_dir else { return Ok(show(&backup, args.output)?) };
    let progress = Progress::bytes("restoring", 2 * backup.bytes());
    let mut id = [0; 16];
    getrandom::fill(&mut id)?;
    let until = args.until.unwrap_or(Until::End);
    let now_ms = SystemClock::new().now().wall_ms;
    let restored = backup.restore(data_dir, until, StoreId(id), now_ms, &mut |done| progress.set(done))?;
    drop(progress);
    print(args.output, restored)?;
    Ok(())
}

fn show(backup: &Backup, output: Output) -> io::Result<()> {
    let (covered, store) = (backup.covered(), backup.store());
    let (files, bytes) = (backup.files(), backup.bytes());
    let mut out = io::stdout().lock();
    if output.json {
        let mut object = json!({ "store": store, "files": files, "bytes": bytes });
        add_covered(&mut object, covered);
        return writeln!(out, "{object}");
    }
    writeln!(out, "store {store}: {files} files, {bytes} bytes")?;
    write_covered(&mut out, covered)
}

fn print(output: Output, Restored { moment: at, store }: Restored) -> io::Result<()> {
    let (position, time) = (at.position.0, moment(at.wall_ms));
    let store: String = store.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut out = io::stdout().lock();
    if output.json {
        return writeln!(out, "{}", json!({ "position": position, "time": time, "store": store }));
    }
    writeln!(out, "restored position {position}, {time}, as store {store}")
}
