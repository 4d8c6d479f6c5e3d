//! `synapse dead-letters`: what a group gave up, listed or deleted.

use std::io::{self, Write};

use serde_json::json;

use super::client::refused;
use super::groups::Of;
use super::render::{Outcome, entry_json, id, id_json, or_dash, print_outcome, time_json, write_table};
use super::values;
use crate::proto::v1::{self, dead_letter_choice};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the dead letters of a group, oldest first.
    List(List),
    /// Delete dead letters for good.
    Purge(Purge),
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    of: Of,
    /// Only those after this id of the dead-letter stream.
    #[arg(long, value_parser = values::id, value_name = "ID")]
    after: Option<v1::EntryId>,
    /// List at most this many.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    count: u32,
}

#[derive(Debug, clap::Args)]
struct Purge {
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    which: Which,
}

/// Which dead letters.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Which {
    /// These ids of the dead-letter stream.
    #[arg(value_parser = values::id, value_name = "ID")]
    ids: Vec<v1::EntryId>,
    /// All that are there when the command starts.
    #[arg(long)]
    all: bool,
}

impl Which {
    pub(super) fn choice(self) -> v1::DeadLetterChoice {
        use dead_letter_choice::{Choice, Ids};
        let choice = if self.all { Choice::All(()) } else { Choice::Ids(Ids { ids: self.ids }) };
        v1::DeadLetterChoice { choice: Some(choice) }
    }
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::List(args) => list(args).await,
        Command::Purge(args) => purge(args).await,
    }
}

async fn list(args: List) -> anyhow::Result<()> {
    let (letters, more) = fetch(&args).await?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    if args.of.output.json {
        for letter in &letters {
            writeln!(out, "{}", letter_json(letter))?;
        }
    } else {
        let rows: Vec<Vec<String>> = letters.iter().map(row).collect();
        write_table(&mut out, &["ID", "ORIGIN", "TYPE", "DELIVERIES", "FAILURES", "TIME", "REASON"], &rows)?;
    }
    out.flush()?;
    if let Some(after) = more {
        eprintln!("synapse: there may be more, after {}", id(Some(&after)));
    }
    Ok(())
}

/// Up to `count` dead letters, page by page, and after which id there may be more.
async fn fetch(args: &List) -> anyhow::Result<(Vec<v1::DeadLetter>, Option<v1::EntryId>)> {
    let mut client = args.of.connect.consumers().await?;
    let (mut letters, mut after) = (Vec::new(), args.after);
    loop {
        let left = args.count - letters.len() as u32;
        let request = v1::ListDeadLettersRequest {
            stream: args.of.stream.clone(),
            group: args.of.group.clone(),
            after,
            entries_max: left.min(PAGE_ENTRIES),
        };
        let page = client.list_dead_letters(request).await.map_err(refused)?.into_inner();
        letters.extend(page.dead_letters.into_iter().take(left as usize));
        after = page.next_after;
        if after.is_none() || letters.len() >= args.count as usize {
            return Ok((letters, after));
        }
    }
}

fn row(letter: &v1::DeadLetter) -> Vec<String> {
    let entry = letter.event.as_ref();
    let r#type = entry.and_then(|e| e.event.as_ref()).map_or("", |event| &event.r#type);
    let time = time_json(letter.failed_time.as_ref());
    vec![
        id(entry.and_then(|e| e.id.as_ref())),
        format!("{}/{}", or_dash(&letter.origin_stream), id(letter.origin_id.as_ref())),
        or_dash(r#type),
        letter.deliveries.to_string(),
        letter.failures.to_string(),
        time.as_str().unwrap_or("-").into(),
        or_dash(&letter.reason),
    ]
}

fn letter_json(letter: &v1::DeadLetter) -> serde_json::Value {
    let entry = letter.event.as_ref();
    json!({
        "id": id_json(entry.and_then(|e| e.id.as_ref())),
        "origin_stream": letter.origin_stream,
        "origin_id": id_json(letter.origin_id.as_ref()),
        "group": letter.group,
        "deliveries": letter.deliveries,
        "failures": letter.failures,
        "reason": letter.reason,
        "failed_time": time_json(letter.failed_time.as_ref()),
        "entry": entry.map(entry_json),
    })
}

async fn purge(args: Purge) -> anyhow::Result<()> {
    let request =
        v1::PurgeDeadLettersRequest { stream: args.of.stream, group: args.of.group, which: Some(args.which.choice()) };
    let purged = args.of.connect.consumers().await?.purge_dead_letters(request).await.map_err(refused)?.into_inner();
    let left = [("not_found", &purged.not_found[..])];
    print_outcome(args.of.output, &Outcome { what: "purged", done: purged.done, left: &left })
}

/// Dead letters asked for at a time.
const PAGE_ENTRIES: u32 = 1_000;
