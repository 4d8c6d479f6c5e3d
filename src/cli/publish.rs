//! `synapse publish`: one event from the arguments or a file, or many from standard input.
//!
//! Standard input is NDJSON, sent in chunks, each of them atomic. A line that is no event ends the command and is
//! named; what came before it is published, nothing after it is.

use std::io::{self, BufRead, Read, Write};
use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use prost::Message;
use serde_json::json;
use tokio::sync::mpsc;

use super::client::{Connect, Service, refused};
use super::progress::Progress;
use super::render::Output;
use super::{usage, values};
use crate::limits;
use crate::proto::v1;
use crate::proto::v1::event_service_client::EventServiceClient;

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("payload").required(true).args(["data", "file", "stdin"])))]
pub(super) struct Args {
    /// The stream.
    stream: String,
    /// `-`: read NDJSON from standard input, one event a line.
    #[arg(value_parser = ["-"], value_name = "-")]
    stdin: Option<String>,
    /// The event as JSON; of an object, type, source, key and so on are taken from it.
    #[arg(long, value_name = "JSON")]
    data: Option<String>,
    /// File with the event's data: JSON as with --data, or any other bytes.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    over: Over,
    /// When to be answered: fsync or os.
    #[arg(long, value_parser = values::durability, value_name = "D")]
    durability: Option<v1::Durability>,
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    output: Output,
}

/// What goes over the attributes that were found in the data.
#[derive(Debug, clap::Args)]
struct Over {
    /// What happened, as task-created.
    #[arg(long = "type", value_name = "T")]
    r#type: Option<String>,
    /// Who it is from.
    #[arg(long, value_name = "S")]
    source: Option<String>,
    /// Events of one key stay in order in key-ordered groups.
    #[arg(long, value_name = "K")]
    key: Option<String>,
    /// What it is about.
    #[arg(long, value_name = "S")]
    subject: Option<String>,
    /// The publisher's own id of the event.
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// A further attribute; may be given again.
    #[arg(long = "attr", value_parser = attribute, value_name = "K=V")]
    attributes: Vec<(String, String)>,
}

fn attribute(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok((name.into(), value.into()))
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    if args.stdin.is_some() {
        if args.over.id.is_some() {
            return usage("--id is for a single event");
        }
        return publish_lines(args).await;
    }
    let data: Bytes = match (&args.data, &args.file) {
        (Some(data), _) => {
            if serde_json::from_str::<serde::de::IgnoredAny>(data).is_err() {
                return usage("--data is not JSON; --file takes any bytes");
            }
            data.clone().into()
        }
        (None, Some(file)) => std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?.into(),
        (None, None) => return usage("one of --data, --file and - is needed"),
    };
    let event = event(data, &args.over)?;
    let mut client = args.connect.events().await?;
    let ids = send(&mut client, &args, vec![event]).await?;
    Ok(print(&args, &ids)?)
}

/// The event that the data is, with what the arguments say over it.
fn event(data: Bytes, over: &Over) -> anyhow::Result<v1::Event> {
    let mut event = if data.trim_ascii_start().starts_with(b"{") {
        let entry = crate::http::native_event(&data, SOURCE_DEFAULT).map_err(|e| anyhow!("{}", e.message()))?;
        v1::Event::decode(entry.bytes)?
    } else {
        v1::Event { source: SOURCE_DEFAULT.into(), data, ..Default::default() }
    };
    for (field, value) in [
        (&mut event.r#type, &over.r#type),
        (&mut event.source, &over.source),
        (&mut event.key, &over.key),
        (&mut event.subject, &over.subject),
        (&mut event.id, &over.id),
    ] {
        if let Some(value) = value {
            field.clone_from(value);
        }
    }
    event.attributes.extend(over.attributes.iter().cloned());
    Ok(event)
}

/// Publishes events; answers the id of each in order, and whether it was a duplicate.
async fn send(
    client: &mut EventServiceClient<Service>,
    args: &Args,
    events: Vec<v1::Event>,
) -> anyhow::Result<Vec<(String, bool)>> {
    let request = v1::PublishRequest {
        stream: args.stream.clone(),
        events,
        durability: args.durability.unwrap_or_default().into(),
        ..Default::default()
    };
    Ok(ids(&client.publish(request).await.map_err(refused)?.into_inner()))
}

fn print(args: &Args, ids: &[(String, bool)]) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for (id, duplicate) in ids {
        if args.output.json {
            writeln!(out, "{}", json!({ "stream": args.stream, "id": id, "duplicate": duplicate }))?;
        } else {
            writeln!(out, "{id}")?;
        }
    }
    out.flush()
}

/// Bytes of standard input, where it is a file.
fn input_bytes() -> Option<u64> {
    let status = rustix::fs::fstat(io::stdin()).ok()?;
    let is_file = rustix::fs::FileType::from_raw_mode(status.st_mode).is_file();
    is_file.then(|| u64::try_from(status.st_size).unwrap_or_default())
}

/// The id of each event in order, and whether it was a duplicate.
fn ids(published: &v1::PublishResponse) -> Vec<(String, bool)> {
    let text = |id: Option<v1::EntryId>| super::render::id(id.as_ref());
    if !published.results.is_empty() {
        return published.results.iter().map(|r| (text(r.id), r.duplicate)).collect();
    }
    let first = published.first_id.unwrap_or_default();
    (0..u64::from(published.count))
        .map(|n| (text(Some(v1::EntryId { ms: first.ms, seq: first.seq + n })), published.duplicate))
        .collect()
}

/// Publishes the lines of standard input: as many at once as are there, up to a chunk.
async fn publish_lines(args: Args) -> anyhow::Result<()> {
    let mut client = args.connect.events().await?;
    let mut lines = read_lines();
    let mut at_fault = None;
    let mut chunk = Chunk::default();
    let progress = input_bytes().map(|total| Progress::bytes("publishing", total));
    let mut done = 0;
    while let Some(line) = lines.recv().await {
        if let Err(error) = chunk.take(line, &args.over) {
            at_fault = Some(error);
        }
        while at_fault.is_none() && !chunk.is_full() {
            let Ok(line) = lines.try_recv() else { break };
            at_fault = chunk.take(line, &args.over).err();
        }
        if !chunk.events.is_empty() {
            let (first, last) = (chunk.first_line, chunk.last_line);
            done += chunk.bytes as u64;
            let ids = send(&mut client, &args, std::mem::take(&mut chunk).events).await;
            let ids = ids.with_context(|| format!("lines {first} to {last}"))?;
            match &progress {
                Some(progress) => progress.aside(|| print(&args, &ids))?,
                None => print(&args, &ids)?,
            }
            progress.iter().for_each(|progress| progress.set(done));
        }
        if let Some(error) = at_fault {
            return Err(error);
        }
    }
    Ok(())
}

/// Events that go into one request.
#[derive(Default)]
struct Chunk {
    events: Vec<v1::Event>,
    bytes: usize,
    first_line: u64,
    last_line: u64,
}

impl Chunk {
    fn is_full(&self) -> bool {
        self.events.len() == limits::PUBLISH_EVENTS_MAX || self.bytes >= CHUNK_BYTES
    }

    fn take(&mut self, line: Line, over: &Over) -> anyhow::Result<()> {
        let number = line.number;
        let text = line.text.with_context(|| format!("line {number}"))?;
        if text.trim_ascii().is_empty() {
            return Ok(());
        }
        if !text.trim_ascii_start().starts_with(b"{") {
            bail!("line {number}: is not a JSON object");
        }
        self.bytes += text.len();
        self.events.push(event(text, over).with_context(|| format!("line {number}"))?);
        if self.events.len() == 1 {
            self.first_line = number;
        }
        self.last_line = number;
        Ok(())
    }
}

/// A line of standard input, or why it could not be read.
struct Line {
    number: u64,
    text: anyhow::Result<Bytes>,
}

/// Reads standard input on a thread of its own, a bounded number of lines ahead.
fn read_lines() -> mpsc::Receiver<Line> {
    let (sender, receiver) = mpsc::channel(limits::PUBLISH_EVENTS_MAX);
    tokio::task::spawn_blocking(move || {
        let mut input = io::stdin().lock();
        for number in 1.. {
            let text = match read_line(&mut input) {
                Ok(None) => return,
                Ok(Some(text)) => Ok(text),
                Err(error) => Err(error),
            };
            let failed = text.is_err();
            if sender.blocking_send(Line { number, text }).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// The next line without its end; none at the end of the input.
fn read_line(input: &mut impl BufRead) -> anyhow::Result<Option<Bytes>> {
    let mut line = Vec::new();
    let read = input.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if read as u64 > LINE_BYTES_MAX {
        bail!("is longer than {LINE_BYTES_MAX} bytes");
    }
    Ok(Some(line.into()))
}

/// Source of events that name none.
const SOURCE_DEFAULT: &str = "/cli";
/// A chunk is sent once it holds this much, so that it stays below what one request may hold.
const CHUNK_BYTES: usize = 1 << 20;
/// No event is longer.
const LINE_BYTES_MAX: u64 = limits::EVENT_BYTES_MAX as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_the_input_and_are_bounded() {
        let mut input: &[u8] = b"a\n\nb";
        assert_eq!(read_line(&mut input).expect("line").as_deref(), Some(&b"a"[..]));
        assert_eq!(read_line(&mut input).expect("line").as_deref(), Some(&b""[..]));
        assert_eq!(read_line(&mut input).expect("line").as_deref(), Some(&b"b"[..]));
        assert_eq!(read_line(&mut input).expect("end"), None);
        let long = vec![b'x'; LINE_BYTES_MAX as usize + 1];
        read_line(&mut long.as_slice()).expect_err("too long");
    }
}
