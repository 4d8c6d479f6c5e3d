//! XSETID.

use crate::access::Permission;
use crate::engine::SetLastId;
use crate::error::{Error, Reason};
use crate::resp::args::Args;
use crate::resp::ids;
use crate::resp::refusal::Refusal;
use crate::resp::reply::Reply;
use crate::resp::session::Session;
use crate::types::{EntryId, StreamName};

impl Session {
    /// `XSETID key last-id [ENTRIESADDED n] [MAXDELETEDID id]`.
    pub(in crate::resp) async fn set_last_id(&self, mut args: Args<'_>) -> Result<Reply, Refusal> {
        let key = args.next()?;
        let last = ids::strict(args.next()?, 0)?;
        let mut to = SetLastId { last, added: None, deleted_max: None };
        while !args.is_empty() {
            if args.rest().len() > 1 && args.next_is("entriesadded") {
                let added = u64::try_from(args.int()?);
                to.added = Some(added.map_err(|_| Refusal::new("ERR entries_added must be positive"))?);
            } else if args.rest().len() > 1 && args.next_is("maxdeletedid") {
                let deleted = ids::strict(args.next()?, 0)?;
                if deleted > last {
                    return Err(Refusal::new(
                        "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
                    ));
                }
                to.deleted_max = Some(deleted).filter(|id| *id != EntryId::ZERO).or(to.deleted_max);
            } else {
                return Err(Refusal::syntax());
            }
        }
        let stream = self.stream(key, Permission::Admin)?;
        match self.engine.set_last_id(&stream, to).await {
            Ok(()) => Ok(Reply::OK),
            Err(error) => Err(self.why_not_set(&stream, to, error).await),
        }
    }

    /// Why a last id was not set, in the words of Redis where it would not have set it either.
    async fn why_not_set(&self, stream: &StreamName, to: SetLastId, error: Error) -> Refusal {
        match error.reason() {
            Reason::IdNotGreater => match self.end_entry(stream, true).await {
                Ok(found) if found.as_ref().is_none_or(|entry| entry.id <= to.last) => Refusal::new(
                    "ERR The ID specified in XSETID is smaller than the last ID: no ID is given out twice, also where \
                         no entry is left",
                ),
                Ok(_) => Refusal::new("ERR The ID specified in XSETID is smaller than the target stream top item"),
                Err(refusal) => refusal,
            },
            Reason::InvalidArgument if to.added.is_some() => {
                Refusal::new("ERR The entries_added specified in XSETID is smaller than the target stream length")
            }
            _ => error.into(),
        }
    }
}
