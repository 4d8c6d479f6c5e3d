//! `synapse nack`: gives pending entries back, with what to do with them.

use std::time::Duration;

use super::ack::Holder;
use super::client::refused;
use super::groups::Of;
use super::render::{Outcome, print_outcome};
use super::values;
use crate::proto::v1::{self, nack_action, nack_request};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    of: Of,
    /// Which: an id, or FIRST..LAST for all pending ones from one to the other.
    #[arg(value_parser = values::id_range, required = true, value_name = "ID")]
    ids: Vec<v1::IdRange>,
    #[command(flatten)]
    action: Action,
    #[command(flatten)]
    holder: Holder,
}

/// What becomes of the entries.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Action {
    /// Deliver again after the group's back-off; counts as a failure.
    #[arg(long)]
    retry: bool,
    /// Deliver again after this long, as 10s; counts as a failure.
    #[arg(long, value_parser = values::duration, value_name = "DURATION")]
    delay: Option<Duration>,
    /// Move to the dead letters, with this reason.
    #[arg(long, value_name = "REASON")]
    dead_letter: Option<String>,
    /// Drop, as if acknowledged.
    #[arg(long)]
    skip: bool,
    /// Give back unprocessed: deliver again now, without counting a failure.
    #[arg(long)]
    hand_back: bool,
}

impl Action {
    /// The action, and the word for what it did.
    fn settle(self) -> (v1::NackAction, &'static str) {
        use nack_action::Action as To;
        let (action, what) = match (self.dead_letter, self.delay) {
            (Some(reason), _) => (To::DeadLetter(nack_action::DeadLetter { reason }), "dead-lettered"),
            (None, Some(delay)) => {
                let delay = Some(values::proto_duration(delay));
                (To::Retry(nack_action::Retry { delay }), "to be delivered again:")
            }
            (None, None) if self.skip => (To::Skip(()), "skipped"),
            (None, None) if self.hand_back => (To::HandBack(()), "handed back"),
            (None, None) => (To::Retry(nack_action::Retry { delay: None }), "to be delivered again:"),
        };
        (v1::NackAction { action: Some(action) }, what)
    }
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    use nack_request::Holder as By;
    let (action, what) = args.action.settle();
    let request = v1::NackRequest {
        stream: args.of.stream,
        group: args.of.group,
        ids: args.ids,
        holder: args.holder.consumer.map(By::Consumer).or(args.holder.token.map(By::DeliveryToken)),
        action: Some(action),
    };
    let settled = args.of.connect.consumers().await?.nack(request).await.map_err(refused)?.into_inner();
    let left = [("not_pending", &settled.not_pending[..]), ("not_owned", &settled.not_owned[..])];
    print_outcome(args.of.output, &Outcome { what, done: settled.done, left: &left })
}
