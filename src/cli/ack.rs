//! `synapse ack`: acknowledges pending entries from outside of a session.

use super::client::refused;
use super::groups::Of;
use super::render::{Outcome, print_outcome};
use super::values;
use crate::proto::v1::{self, acknowledge_request};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    of: Of,
    /// Which: an id, or FIRST..LAST for all pending ones from one to the other.
    #[arg(value_parser = values::id_range, required = true, value_name = "ID")]
    ids: Vec<v1::IdRange>,
    #[command(flatten)]
    holder: Holder,
}

/// On whose behalf entries are settled; whoever holds them where nothing is said.
#[derive(Clone, Debug, clap::Args)]
#[group(multiple = false)]
pub(super) struct Holder {
    /// Only what this consumer holds; whoever's where left out, which needs the admin permission.
    #[arg(long, value_name = "NAME")]
    pub(super) consumer: Option<String>,
    /// Only what the delivery of this token handed out.
    #[arg(long, value_name = "TOKEN")]
    pub(super) token: Option<String>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    use acknowledge_request::Holder as By;
    let request = v1::AcknowledgeRequest {
        stream: args.of.stream,
        group: args.of.group,
        ids: args.ids,
        holder: args.holder.consumer.map(By::Consumer).or(args.holder.token.map(By::DeliveryToken)),
        publish: Vec::new(),
    };
    let settled = args.of.connect.consumers().await?.acknowledge(request).await.map_err(refused)?.into_inner();
    let left = [("not_pending", &settled.not_pending[..]), ("not_owned", &settled.not_owned[..])];
    print_outcome(args.of.output, &Outcome { what: "acknowledged", done: settled.done, left: &left })
}
