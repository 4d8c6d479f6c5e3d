//! `synapse streams`: the catalogue of streams.

use std::io;
use std::time::Duration;

use serde_json::json;

use super::client::{Connect, refused};
use super::render::{Output, id, stream_json, write_table};
use super::values;
use crate::proto::v1;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List streams by name.
    List(List),
    /// Make a stream.
    Create(Create),
    /// Delete a stream with its events and groups.
    Delete(Delete),
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only names that begin so.
    #[arg(default_value = "")]
    prefix: String,
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
struct Create {
    /// Its name.
    stream: String,
    /// Text for people.
    #[arg(long, default_value = "")]
    description: String,
    /// Keep at most this many events.
    #[arg(long, value_name = "N")]
    entries_max: Option<u64>,
    /// Keep at most this many bytes of events.
    #[arg(long, value_name = "BYTES")]
    bytes_max: Option<u64>,
    /// Keep events no older than this, as 7d.
    #[arg(long, value_parser = values::duration, value_name = "DURATION")]
    age_max: Option<Duration>,
    /// Drop what every group is done with: acknowledged, skipped, dead-lettered, delivered without acknowledgement,
    /// dropped with a consumer, or passed by a cursor that was moved.
    #[arg(long)]
    until_acknowledged: bool,
    /// When a publish is answered: fsync or os.
    #[arg(long, value_parser = values::durability, value_name = "D")]
    durability: Option<v1::Durability>,
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
struct Delete {
    /// Its name.
    stream: String,
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::List(args) => list(args).await,
        Command::Create(args) => create(args).await,
        Command::Delete(args) => delete(args).await,
    }
}

async fn list(args: List) -> anyhow::Result<()> {
    let streams = all(&args.connect, &args.prefix).await?;
    if args.output.json {
        streams.iter().for_each(|s| println!("{}", stream_json(s)));
        return Ok(());
    }
    let rows: Vec<Vec<String>> = streams
        .iter()
        .map(|s| {
            let groups = s.groups.len().to_string();
            vec![s.name.clone(), s.length.to_string(), s.bytes.to_string(), id(s.last_id.as_ref()), groups]
        })
        .collect();
    write_table(&mut io::stdout().lock(), &["STREAM", "EVENTS", "BYTES", "LAST ID", "GROUPS"], &rows)?;
    Ok(())
}

/// Every stream whose name begins so, page by page.
pub(super) async fn all(connect: &Connect, prefix: &str) -> anyhow::Result<Vec<v1::StreamInfo>> {
    let mut client = connect.streams().await?;
    let mut streams = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListStreamsRequest { prefix: prefix.into(), page_size: 1_000, page_token };
        let page = client.list_streams(request).await.map_err(refused)?.into_inner();
        streams.extend(page.streams);
        if page.next_page_token.is_empty() {
            return Ok(streams);
        }
        page_token = page.next_page_token;
    }
}

async fn create(args: Create) -> anyhow::Result<()> {
    let retention = v1::Retention {
        entries_max: args.entries_max,
        bytes_max: args.bytes_max,
        age_max: args.age_max.map(values::proto_duration),
        until_acknowledged: args.until_acknowledged,
    };
    let settings = v1::StreamSettings {
        description: args.description,
        durability: args.durability.unwrap_or_default().into(),
        retention: Some(retention),
        dedup: None,
    };
    let request = v1::CreateStreamRequest { stream: args.stream, settings: Some(settings) };
    let info = args.connect.streams().await?.create_stream(request).await.map_err(refused)?.into_inner().info;
    let info = info.unwrap_or_default();
    if args.output.json {
        println!("{}", stream_json(&info));
    } else {
        println!("created {}", info.name);
    }
    Ok(())
}

async fn delete(args: Delete) -> anyhow::Result<()> {
    let request = v1::DeleteStreamRequest { stream: args.stream.clone() };
    args.connect.streams().await?.delete_stream(request).await.map_err(refused)?;
    if args.output.json {
        println!("{}", json!({ "deleted": args.stream }));
    } else {
        println!("deleted {}", args.stream);
    }
    Ok(())
}
