//! `synapse redrive`: sends dead letters back, to their group or to the stream.

use anyhow::bail;

use super::client::refused;
use super::dead_letters::Which;
use super::groups::Of;
use super::render::{Outcome, print_outcome};
use crate::proto::v1;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    which: Which,
    /// Where to: back to the group alone, or to the stream as new entries for every group.
    #[arg(long, value_enum, value_name = "TARGET")]
    to: Target,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Target {
    Group,
    Stream,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let (target, what) = match args.to {
        Target::Group => (v1::RedriveTarget::Group, "redriven to the group"),
        Target::Stream => (v1::RedriveTarget::Stream, "redriven to the stream"),
    };
    let request = v1::RedriveDeadLettersRequest {
        stream: args.of.stream,
        group: args.of.group,
        which: Some(args.which.choice()),
        target: target.into(),
        ..Default::default()
    };
    let gone = args.of.connect.consumers().await?.redrive_dead_letters(request).await.map_err(refused)?.into_inner();
    let left = [("not_found", &gone.not_found[..]), ("original_gone", &gone.original_gone[..])];
    let told = print_outcome(args.of.output, &Outcome { what, done: gone.done, left: &left });
    if !gone.original_gone.is_empty() {
        eprintln!("synapse: original_gone: the stream has their originals no more; --to stream sends them to it anew");
    }
    if gone.is_cut_short {
        bail!(
            "cut short: the group's bound on pending entries leaves no room for the others, which are dead letters still"
        );
    }
    told
}
