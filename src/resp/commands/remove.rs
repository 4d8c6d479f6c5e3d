//! XDELEX, XACKDEL: entries go together with what groups have of them, or only where no group needs them.
//!
//! One commit, as a transaction of the engine: outside MULTI it is one by itself.

use std::time::Duration;

use bytes::Bytes;

use super::groups::is_missing;
use crate::access::Permission;
use crate::engine::{Acknowledge, GroupInfo, Holder, ListPending, References, TransactionRoom};
use crate::limits::IDS_PER_REQUEST_MAX;
use crate::resp::args::Args;
use crate::resp::ids;
use crate::resp::refusal::Refusal;
use crate::resp::reply::Reply;
use crate::resp::session::Session;
use crate::types::{EntryId, GroupName, IdRange, StreamName};

/// What one id takes in a commit: its deletion, and for each group that it is no longer pending there.
const ID_COST: usize = 128;

/// What came of an id.
const MISSING: i64 = -1;
const DONE: i64 = 1;
const KEPT: i64 = 2;

/// What is to go.
#[derive(Clone)]
struct Removal {
    stream: StreamName,
    /// The group that acknowledges it first.
    group: Option<GroupName>,
    references: References,
    ids: Vec<EntryId>,
}

impl Session {
    /// `XDELEX key [KEEPREF | DELREF | ACKED] IDS n id [id ...]`, and XACKDEL, which has a group before the policy.
    pub(in crate::resp) async fn remove(
        &self,
        mut args: Args<'_>,
        acknowledges: bool,
        alone: bool,
    ) -> Result<Reply, Refusal> {
        let key = args.next()?;
        let group = if acknowledges { Some(args.next()?) } else { None };
        let (references, listed) = parse(args)?;
        let stream = self.stream(key, Permission::Admin)?;
        if acknowledges {
            self.may(Permission::Consume, stream.as_str())?;
        }
        let group = group.map(|name| GroupName::from_bytes(name)).transpose()?;
        let found = match self.engine.stream_counts(&stream).await {
            Err(error) if is_missing(&error) => None,
            found => Some(found?).filter(|info| group.as_ref().is_none_or(|group| info.groups.contains(group))),
        };
        // Where there is no such key or group, ids are not looked at.
        let Some(info) = found else { return Ok(outcomes(vec![MISSING; listed.len()])) };
        let ids = listed.iter().map(|id| ids::strict(id, 0)).collect::<Result<Vec<_>, _>>()?;
        let removal = Removal { stream, group, references, ids };
        let done = match alone {
            false => self.remove_all(&removal).await?,
            true => {
                let bytes = removal.ids.len() * ID_COST * (2 + info.groups.len());
                let mut session = self.clone();
                let work = move |engine| async move {
                    session.engine = engine;
                    session.remove_all(&removal).await
                };
                self.engine.transaction(TransactionRoom { bytes, grows: false }, work).await??
            }
        };
        Ok(outcomes(done))
    }

    /// What came of each id. Within a transaction.
    async fn remove_all(&self, removal: &Removal) -> Result<Vec<i64>, Refusal> {
        let missing = || Ok(vec![MISSING; removal.ids.len()]);
        let groups = match self.engine.groups(&removal.stream).await {
            Err(error) if is_missing(&error) => return missing(),
            groups => groups?,
        };
        let group = groups.iter().find(|info| Some(&info.name) == removal.group.as_ref());
        if removal.group.is_some() && group.is_none() {
            return missing();
        }
        let mut outcomes = Vec::with_capacity(removal.ids.len());
        for id in &removal.ids {
            outcomes.push(self.remove_one(removal, group, &groups, *id).await?);
        }
        Ok(outcomes)
    }

    async fn remove_one(
        &self,
        removal: &Removal,
        group: Option<&GroupInfo>,
        groups: &[GroupInfo],
        id: EntryId,
    ) -> Result<i64, Refusal> {
        if let Some(group) = group
            && self.settle(group, id).await? == 0
        {
            return Ok(MISSING);
        }
        // What was acknowledged counts as gone, also where it was gone before.
        let gone = if group.is_some() { DONE } else { MISSING };
        match removal.references {
            References::Keep => {}
            References::Drop => {
                for group in groups {
                    self.settle(group, id).await?;
                }
            }
            References::Needed => {
                let page = self.page(&removal.stream, IdRange::one(id), false, 1).await?;
                if page.is_none_or(|page| page.entries.is_empty()) {
                    return Ok(gone);
                }
                for group in groups {
                    if group.cursor < id || self.is_pending(group, id).await? {
                        return Ok(KEPT);
                    }
                }
            }
        }
        let deleted = self.engine.delete_entries(&removal.stream, vec![id]).await?;
        Ok(if deleted > 0 { DONE } else { gone })
    }

    /// Takes an id out of what a group has pending; answers how many that were.
    async fn settle(&self, group: &GroupInfo, id: EntryId) -> Result<u64, Refusal> {
        let request = Acknowledge {
            stream: group.stream.clone(),
            group: group.name.clone(),
            ids: vec![IdRange::one(id)],
            holder: Holder::Anyone,
            publish: Vec::new(),
        };
        Ok(self.engine.acknowledge(request).await?.done)
    }

    async fn is_pending(&self, group: &GroupInfo, id: EntryId) -> Result<bool, Refusal> {
        let list = ListPending {
            stream: group.stream.clone(),
            group: group.name.clone(),
            range: IdRange::one(id),
            entries_max: 1,
            consumer: None,
            idle_min: Duration::ZERO,
        };
        Ok(!self.engine.list_pending(list).await?.is_empty())
    }
}

fn outcomes(all: Vec<i64>) -> Reply {
    Reply::Array(all.into_iter().map(Reply::Int).collect())
}

/// `[KEEPREF | DELREF | ACKED] IDS n id [id ...]`, where the last list counts.
fn parse(mut args: Args<'_>) -> Result<(References, &[Bytes]), Refusal> {
    let (mut references, mut ids) = (None, None);
    while !args.is_empty() {
        if args.next_is("ids") {
            ids = Some(listed(&mut args)?);
        } else {
            let policy = policy(&mut args).ok_or_else(Refusal::syntax)?;
            if references.replace(policy).is_some() {
                return Err(Refusal::syntax());
            }
        }
    }
    let ids = ids.ok_or_else(|| Refusal::new("ERR IDS option is required"))?;
    Ok((references.unwrap_or(References::Keep), ids))
}

/// `KEEPREF`, `DELREF` or `ACKED`, where the next word is one of them.
pub(super) fn policy(args: &mut Args<'_>) -> Option<References> {
    let all = [("keepref", References::Keep), ("delref", References::Drop), ("acked", References::Needed)];
    all.into_iter().find(|(word, _)| args.next_is(word)).map(|(_, policy)| policy)
}

/// `n id [id ...]`
pub(super) fn listed<'a>(args: &mut Args<'a>) -> Result<&'a [Bytes], Refusal> {
    let count = args.int().ok().and_then(|count| usize::try_from(count).ok()).filter(|count| *count > 0);
    let count = count.ok_or_else(|| Refusal::new("ERR Number of IDs must be a positive integer"))?;
    if count > args.rest().len() {
        return Err(Refusal::new("ERR The `numids` parameter must match the number of arguments"));
    }
    if count > IDS_PER_REQUEST_MAX {
        return Err(Refusal::new(format!("ERR at most {IDS_PER_REQUEST_MAX} IDs are taken at once")));
    }
    Ok(args.take(count))
}
