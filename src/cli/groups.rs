//! `synapse groups`: the groups of a stream.

use std::io;
use std::time::Duration;

use serde_json::json;

use super::client::{Connect, refused};
use super::render::{Output, group_json, id, write_table};
use super::values;
use crate::proto::v1;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the groups of a stream with their lag.
    List(List),
    /// Show a group with its consumers.
    Info(Of),
    /// Make a group.
    Create(Create),
    /// Delete a group with its cursor and pending entries.
    Delete(Of),
}

#[derive(Debug, clap::Args)]
struct List {
    /// The stream.
    stream: String,
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    output: Output,
}

/// A group, and how it is spoken of.
#[derive(Debug, clap::Args)]
pub(super) struct Of {
    /// The stream.
    pub(super) stream: String,
    /// The group.
    pub(super) group: String,
    #[command(flatten)]
    pub(super) connect: Connect,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Debug, clap::Args)]
struct Create {
    /// The stream.
    stream: String,
    /// The group's name.
    group: String,
    /// Where it starts: earliest, latest, an id (what comes after it), or a time.
    #[arg(long, value_parser = values::position, default_value = "earliest", value_name = "PLACE")]
    start: v1::Position,
    /// Lease of a delivered event, as 30s; 0s: events never come back by themselves.
    #[arg(long, value_parser = values::duration, default_value = "30s", value_name = "DURATION")]
    ack_wait: Duration,
    /// Failed deliveries after which an event goes to the dead letters; 0: never.
    #[arg(long, default_value_t = 0, value_name = "N")]
    max_deliveries: u32,
    /// Delays before redeliveries, comma-separated, as 1s,10s; the last one repeats.
    #[arg(long, value_parser = values::duration, value_delimiter = ',', value_name = "LIST")]
    backoff: Vec<Duration>,
    /// Who gets an event: any consumer, one consumer a key, or one consumer in all.
    #[arg(long, value_parser = ["shared", "key-ordered", "single-active"], default_value = "shared")]
    dispatch: String,
    /// Pending events at most; delivery pauses there. 0: the server's default.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pending_max: u32,
    /// Make the stream, too, where it is missing.
    #[arg(long)]
    create_stream: bool,
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::List(args) => list(args).await,
        Command::Info(args) => info(args).await,
        Command::Create(args) => create(args).await,
        Command::Delete(args) => delete(args).await,
    }
}

async fn list(args: List) -> anyhow::Result<()> {
    let request = v1::ListGroupsRequest { stream: args.stream };
    let groups = args.connect.consumers().await?.list_groups(request).await.map_err(refused)?.into_inner().groups;
    print_all(args.output, &groups)
}

/// Prints groups as a table, or as JSON lines.
pub(super) fn print_all(output: Output, groups: &[v1::GroupInfo]) -> anyhow::Result<()> {
    if output.json {
        groups.iter().for_each(|g| println!("{}", group_json(g)));
        return Ok(());
    }
    let rows: Vec<Vec<String>> = groups
        .iter()
        .map(|g| {
            let figures = [g.undelivered, g.pending, g.acknowledged, g.dead_lettered].map(|n| n.to_string());
            [vec![g.name.clone(), id(g.cursor.as_ref())], figures.to_vec()].concat()
        })
        .collect();
    let headings = ["GROUP", "CURSOR", "UNDELIVERED", "PENDING", "ACKNOWLEDGED", "DEAD"];
    write_table(&mut io::stdout().lock(), &headings, &rows)?;
    Ok(())
}

async fn info(args: Of) -> anyhow::Result<()> {
    let request = v1::GetGroupRequest { stream: args.stream, group: args.group };
    let info = args.connect.consumers().await?.get_group(request).await.map_err(refused)?.into_inner().info;
    let info = info.unwrap_or_default();
    print_all(args.output, std::slice::from_ref(&info))?;
    if args.output.json || info.consumers.is_empty() {
        return Ok(());
    }
    let rows: Vec<Vec<String>> =
        info.consumers.iter().map(|c| vec![c.name.clone(), c.pending.to_string(), c.sessions.to_string()]).collect();
    println!();
    write_table(&mut io::stdout().lock(), &["CONSUMER", "PENDING", "SESSIONS"], &rows)?;
    Ok(())
}

async fn create(args: Create) -> anyhow::Result<()> {
    let dispatch = match args.dispatch.as_str() {
        "key-ordered" => v1::Dispatch::KeyOrdered,
        "single-active" => v1::Dispatch::SingleActive,
        _ => v1::Dispatch::Shared,
    };
    let settings = v1::GroupSettings {
        ack_wait: Some(values::proto_duration(args.ack_wait)),
        max_deliveries: args.max_deliveries,
        backoff: args.backoff.into_iter().map(values::proto_duration).collect(),
        dispatch: dispatch.into(),
        pending_max: args.pending_max,
        ..Default::default()
    };
    let request = v1::CreateGroupRequest {
        stream: args.stream,
        group: args.group,
        start: Some(args.start),
        settings: Some(settings),
        create_stream: args.create_stream,
    };
    let info = args.connect.consumers().await?.create_group(request).await.map_err(refused)?.into_inner().info;
    let info = info.unwrap_or_default();
    if args.output.json {
        println!("{}", group_json(&info));
    } else {
        println!("created {} on {}", info.name, info.stream);
    }
    Ok(())
}

async fn delete(args: Of) -> anyhow::Result<()> {
    let request = v1::DeleteGroupRequest { stream: args.stream.clone(), group: args.group.clone() };
    args.connect.consumers().await?.delete_group(request).await.map_err(refused)?;
    if args.output.json {
        println!("{}", json!({ "deleted": args.group, "stream": args.stream }));
    } else {
        println!("deleted {} on {}", args.group, args.stream);
    }
    Ok(())
}
