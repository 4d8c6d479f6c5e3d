//! The last id of a stream, set by hand, and with it the numbers that the stream tells.

use std::sync::Arc;

use super::streams::ADMIN_COST;
use super::{Admit, Core};
use crate::engine::api::SetLastId;
use crate::engine::commit::Show;
use crate::engine::reply::Reply;
use crate::error::{Error, Reason, Result};
use crate::format::record::LastIdSet;
use crate::stream::Stream;
use crate::types::StreamName;

impl Core {
    pub(super) fn set_last_id(&mut self, name: &StreamName, to: SetLastId, reply: Reply<()>) {
        let result = self.try_set_last_id(name, to);
        self.answer_or_refuse(reply, result);
    }

    fn try_set_last_id(&mut self, name: &StreamName, to: SetLastId) -> Result<()> {
        self.check_open()?;
        let number = self.stream_number(name)?;
        let slot = &self.streams[&number];
        let (record, view) = (plan(&slot.stream, to)?, Arc::clone(&slot.view));
        self.admit(ADMIN_COST, Admit::Shrinking)?;
        self.change_stream(number, |stream| stream.apply_last_id(&record));
        self.forget_view_together(number);
        self.commit.show(Show::Reached(view, record.last));
        self.record(record, Some(number));
        Ok(())
    }
}

fn plan(stream: &Stream, to: SetLastId) -> Result<LastIdSet> {
    let SetLastId { last, added, deleted_max } = to;
    if last < stream.last {
        let message = format!("the stream's last id {} does not go down to {last}", stream.last);
        return Err(Error::new(Reason::IdNotGreater, message).with("id", last).with("last", stream.last));
    }
    if deleted_max.is_some_and(|deleted| deleted > last) {
        return Err(Error::invalid("deleted_max", "is above the last id"));
    }
    if added.is_some_and(|added| added < stream.length()) {
        return Err(Error::invalid("added", format!("the stream has {} entries", stream.length())));
    }
    let offset = |added: u64| added.min(i64::MAX as u64) as i64 - stream.appended as i64;
    Ok(LastIdSet {
        stream: stream.number,
        last,
        added_offset: added.map_or(stream.added_offset, offset),
        deleted_max: deleted_max.unwrap_or(stream.deleted_max),
    })
}
