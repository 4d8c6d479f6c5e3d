//! XNACK: what was delivered goes back to its group, for whoever claims it.

use super::groups::is_missing;
use super::remove::listed;
use crate::access::Permission;
use crate::engine::{Release, ReleaseAs};
use crate::resp::args::Args;
use crate::resp::ids;
use crate::resp::refusal::Refusal;
use crate::resp::reply::Reply;
use crate::resp::session::Session;
use crate::types::GroupName;

impl Session {
    /// `XNACK key group <SILENT | FAIL | FATAL> IDS n id [id ...] [RETRYCOUNT count] [FORCE]`
    pub(in crate::resp) async fn release(&self, mut args: Args<'_>) -> Result<Reply, Refusal> {
        let (key, group_text) = (args.next()?, args.next()?);
        let (stream, group) = (self.stream(key, Permission::Consume)?, GroupName::from_bytes(group_text)?);
        let mut how = mode(&mut args)?;
        if !args.next_is("ids") {
            return Err(Refusal::new("ERR IDS option is required"));
        }
        let ids = listed(&mut args)?.iter().map(|id| ids::strict(id, 0)).collect::<Result<Vec<_>, _>>()?;
        let mut force = false;
        while !args.is_empty() {
            if args.next_is("force") {
                force = true;
            } else if args.next_is("retrycount") {
                let count = u64::try_from(args.int()?).map_err(|_| Refusal::new("ERR RETRYCOUNT must be >= 0"))?;
                how = ReleaseAs::DeliveredTimes(u32::try_from(count).unwrap_or(u32::MAX));
            } else {
                return Err(Refusal::syntax());
            }
        }
        match self.engine.release(Release { stream, group, ids, how, force }).await {
            Err(error) if is_missing(&error) => Err(Refusal::no_group(key, group_text, "")),
            released => Ok(Reply::count(released?)),
        }
    }
}

/// How often what is released counts as delivered.
fn mode(args: &mut Args<'_>) -> Result<ReleaseAs, Refusal> {
    let all = [("silent", ReleaseAs::NotDelivered), ("fail", ReleaseAs::Delivered), ("fatal", ReleaseAs::Hopeless)];
    all.into_iter().find(|(word, _)| args.next_is(word)).map(|(_, how)| how).ok_or_else(Refusal::syntax)
}
