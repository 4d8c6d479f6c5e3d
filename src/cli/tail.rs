//! `synapse tail`: what a stream holds, and what comes.

use std::io::{self, Write};

use super::client::{Connect, Service, refused};
use super::render::{Output, write_entry};
use super::values;
use crate::proto::v1::event_service_client::EventServiceClient;
use crate::proto::v1::{self, position, read_events_request};
use crate::types::EntryId;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The stream.
    stream: String,
    /// Where to start: earliest, latest, an id (what comes after it), or a time. With --follow: latest if left out,
    /// otherwise earliest.
    #[arg(long, value_parser = values::position, value_name = "PLACE")]
    from: Option<v1::Position>,
    /// Go on with what comes.
    #[arg(long, short)]
    follow: bool,
    /// End after this many events.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let client = args.connect.events().await?;
    if args.follow { follow(client, args).await } else { page_through(client, args).await }
}

async fn follow(mut client: EventServiceClient<Service>, args: Args) -> anyhow::Result<()> {
    let mut left = args.count.unwrap_or(u64::MAX);
    let request = v1::TailEventsRequest {
        stream: args.stream,
        from: args.from,
        entries_max: left.min(1_000) as u32,
        ..Default::default()
    };
    let mut tail = client.tail_events(request).await.map_err(refused)?.into_inner();
    while left > 0 {
        let Some(message) = tail.message().await.map_err(refused)? else { break };
        if let Some(gap) = &message.gap {
            tell(gap);
        }
        left -= print(args.output, &message.events, left)?;
    }
    Ok(())
}

/// Says what was trimmed before it was read.
fn tell(gap: &v1::Gap) {
    let id = |id: &Option<v1::EntryId>| id.map_or(EntryId::ZERO, EntryId::from);
    let missed = match gap.missed {
        Some(1) => "1 event was".to_owned(),
        Some(missed) => format!("{missed} events were"),
        None => "events may have been".to_owned(),
    };
    eprintln!("gap: {missed} trimmed unread between {} and {}", id(&gap.after), id(&gap.before));
}

async fn page_through(mut client: EventServiceClient<Service>, args: Args) -> anyhow::Result<()> {
    let mut left = args.count.unwrap_or(u64::MAX);
    let Some(mut start) = start_of(args.from) else { return Ok(()) };
    while left > 0 {
        let request = v1::ReadEventsRequest {
            stream: args.stream.clone(),
            start: start.take(),
            entries_max: left.min(1_000) as u32,
            ..Default::default()
        };
        let page = client.read_events(request).await.map_err(refused)?.into_inner();
        if let Some(bound) = page.trimmed_before {
            eprintln!("gap: events before {} may have been trimmed unread", EntryId::from(bound));
        }
        left -= print(args.output, &page.events, left)?;
        let Some(next) = page.next_id else { break };
        start = Some(read_events_request::Start::FirstId(next));
    }
    Ok(())
}

/// The start of the first page; none where nothing can be there yet.
fn start_of(from: Option<v1::Position>) -> Option<Option<read_events_request::Start>> {
    match from.and_then(|p| p.position) {
        None | Some(position::Position::Earliest(())) => Some(None),
        Some(position::Position::Latest(())) => None,
        Some(position::Position::Time(time)) => Some(Some(read_events_request::Start::FirstTime(time))),
        Some(position::Position::After(id)) => {
            let next = EntryId::new(id.ms, id.seq).next()?;
            Some(Some(read_events_request::Start::FirstId(v1::EntryId { ms: next.ms, seq: next.seq })))
        }
    }
}

/// Prints up to `left` entries, and answers how many.
fn print(output: Output, entries: &[v1::RecordedEvent], left: u64) -> io::Result<u64> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let entries = &entries[..entries.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
    for entry in entries {
        write_entry(&mut out, output, entry)?;
    }
    out.flush()?;
    Ok(entries.len() as u64)
}
