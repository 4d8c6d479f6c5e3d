//! `synapse info`: a stream with its groups, or all streams in sum.

use serde_json::{Value, json};

use super::client::{Connect, refused};
use super::render::{Output, group_json, id, stream_json};
use super::{groups, streams};
use crate::proto::v1;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The stream; all streams in sum where left out.
    stream: Option<String>,
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    match &args.stream {
        Some(stream) => one(&args, stream).await,
        None => sum(&args).await,
    }
}

async fn one(args: &Args, stream: &str) -> anyhow::Result<()> {
    let request = v1::GetStreamRequest { stream: stream.into() };
    let info = args.connect.streams().await?.get_stream(request).await.map_err(refused)?.into_inner().info;
    let info = info.unwrap_or_default();
    let request = v1::ListGroupsRequest { stream: stream.into() };
    let found = args.connect.consumers().await?.list_groups(request).await.map_err(refused)?.into_inner().groups;
    if args.output.json {
        let mut object = stream_json(&info);
        object["groups"] = found.iter().map(group_json).collect::<Vec<Value>>().into();
        println!("{object}");
        return Ok(());
    }
    println!("stream    {}", info.name);
    println!("events    {} ({} bytes), {} ever appended", info.length, info.bytes, info.appended);
    println!("ids       {} to {}", id(info.first_id.as_ref()), id(info.last_id.as_ref()));
    if found.is_empty() {
        return Ok(());
    }
    println!();
    groups::print_all(args.output, &found)
}

async fn sum(args: &Args) -> anyhow::Result<()> {
    let found = streams::all(&args.connect, "").await?;
    let events: u64 = found.iter().map(|s| s.length).sum();
    let bytes: u64 = found.iter().map(|s| s.bytes).sum();
    let groups: usize = found.iter().map(|s| s.groups.len()).sum();
    if args.output.json {
        println!("{}", json!({ "streams": found.len(), "groups": groups, "events": events, "bytes": bytes }));
    } else {
        println!("{} streams, {groups} groups, {events} events, {bytes} bytes", found.len());
    }
    Ok(())
}
