//! Streams: make, describe, change, delete, trim.

use std::sync::Arc;

use super::{Admit, Core, StreamSlot};
use crate::clock::Now;
use crate::engine::api::StreamInfo;
use crate::engine::commit::Show;
use crate::engine::reply::Reply;
use crate::engine::retention::Retained;
use crate::engine::view::StreamView;
use crate::error::{Error, Reason, Result};
use crate::format::record::{DeletedEntry, EntriesDeleted, StreamDeleted, StreamRenamed, StreamUpdated};
use crate::stream::Stream;
use crate::types::{EntryId, Retention, StreamName, StreamNumber, StreamSettings};

/// Upper bound of what a small administrative command writes, names and settings included.
pub(super) const ADMIN_COST: u64 = 8192;

/// Upper bound of what one of several deleted streams writes.
const DELETED_COST: u64 = 40;

impl Core {
    /// Takes a stream into the maps; in replay, too.
    pub(crate) fn add_stream(&mut self, stream: Stream, view: Arc<StreamView>) {
        self.next_stream = self.next_stream.max(stream.number.0 + 1);
        self.names.insert(stream.name.clone(), stream.number);
        self.names_in_order.insert(stream.name.clone());
        let visible = stream.last;
        let number = stream.number;
        self.streams
            .insert(number, StreamSlot { stream, view, groups: Default::default(), visible, dirty: 0, head: None });
    }

    /// Takes a stream and its groups out of the maps; in replay, too.
    pub(crate) fn forget_stream(&mut self, number: StreamNumber) -> Option<StreamSlot> {
        let mut slot = self.streams.remove(&number)?;
        self.forget_head(&mut slot);
        self.names.remove(&slot.stream.name);
        self.names_in_order.remove(&slot.stream.name);
        self.forget_expiry(&slot.stream);
        for group in slot.groups.values() {
            self.forget_group(*group);
        }
        Some(slot)
    }

    pub(super) fn create_stream(
        &mut self,
        name: StreamName,
        settings: StreamSettings,
        reply: Reply<StreamInfo>,
        now: Now,
    ) {
        let result = self.try_create_stream(name, settings, now);
        self.answer_or_refuse(reply, result);
    }

    fn try_create_stream(&mut self, name: StreamName, settings: StreamSettings, now: Now) -> Result<StreamInfo> {
        self.check_open()?;
        settings.validate()?;
        if self.names.contains_key(&name) {
            return Err(Error::new(Reason::StreamExists, format!("stream {name} exists")).with("stream", &name));
        }
        let record = self.plan_stream(&name, settings, now)?;
        self.admit(ADMIN_COST, Admit::Growing)?;
        let number = record.stream;
        self.apply_stream_created(record);
        Ok(self.describe_stream(number))
    }

    pub(super) fn stream_info(&mut self, name: &StreamName, reply: Reply<StreamInfo>) {
        match self.stream_number(name).map(|n| (self.describe_stream(n), self.streams[&n].dirty)) {
            Ok((info, dirty)) => self.answer_observed(reply, Ok(info), dirty),
            Err(error) => self.refuse(reply, error),
        }
    }

    /// All that is known of a stream without reading entries: the first id is for the reader to find.
    pub(super) fn describe_stream(&self, number: StreamNumber) -> StreamInfo {
        let slot = &self.streams[&number];
        let stream = &slot.stream;
        StreamInfo {
            name: stream.name.clone(),
            number: number.0,
            settings: stream.settings.clone(),
            length: stream.length(),
            bytes: stream.bytes,
            first: None,
            last: stream.last,
            appended: stream.appended,
            added: stream.added(),
            deleted_max: stream.deleted_max,
            created_ms: stream.created_ms,
            expires_ms: stream.expires.map(|at| at.wall_ms(self.now)),
            groups: slot.groups.keys().cloned().collect(),
        }
    }

    pub(super) fn update_stream(&mut self, name: &StreamName, settings: StreamSettings, reply: Reply<StreamInfo>) {
        let result = self.try_update_stream(name, settings);
        self.answer_or_refuse(reply, result);
    }

    fn try_update_stream(&mut self, name: &StreamName, settings: StreamSettings) -> Result<StreamInfo> {
        self.check_open()?;
        settings.validate()?;
        let number = self.stream_number(name)?;
        // A shorter retention is how a full disk gets room.
        self.admit(ADMIN_COST, Admit::Delivering)?;
        self.change_stream(number, |stream| stream.settings = settings.clone());
        self.record(StreamUpdated { stream: number, settings }, Some(number));
        Ok(self.describe_stream(number))
    }

    pub(super) fn change_stream(&mut self, number: StreamNumber, change: impl FnOnce(&mut Stream)) {
        let commit = self.commit_number();
        if let Some(slot) = self.streams.get_mut(&number) {
            change(&mut slot.stream);
            slot.dirty = commit;
        }
    }

    pub(super) fn delete_stream(&mut self, name: &StreamName, reply: Reply<()>) {
        let result = self.try_delete_stream(name);
        self.answer_or_refuse(reply, result);
    }

    fn try_delete_stream(&mut self, name: &StreamName) -> Result<()> {
        self.check_open()?;
        let number = self.stream_number(name)?;
        self.admit(ADMIN_COST, Admit::Shrinking)?;
        self.apply_stream_deleted(number);
        Ok(())
    }

    pub(super) fn delete_streams(&mut self, names: &[StreamName], reply: Reply<u64>) {
        let result = self.try_delete_streams(names);
        self.answer_or_refuse(reply, result);
    }

    fn try_delete_streams(&mut self, names: &[StreamName]) -> Result<u64> {
        self.check_open()?;
        self.admit(ADMIN_COST + DELETED_COST * names.len() as u64, Admit::Shrinking)?;
        self.commit.keep_together();
        let mut deleted = 0;
        for name in names {
            if let Some(number) = self.names.get(name).copied() {
                self.apply_stream_deleted(number);
                deleted += 1;
            }
        }
        Ok(deleted)
    }

    pub(super) fn apply_stream_deleted(&mut self, number: StreamNumber) {
        self.record(StreamDeleted { stream: number }, Some(number));
        self.commit.forget_trim(number);
        if let Some(slot) = self.forget_stream(number) {
            self.commit.show(Show::Deleted(slot.view));
        }
    }

    pub(super) fn rename_stream(&mut self, name: &StreamName, to: StreamName, replace: bool, reply: Reply<bool>) {
        let result = self.try_rename_stream(name, to, replace);
        self.answer_or_refuse(reply, result);
    }

    fn try_rename_stream(&mut self, name: &StreamName, to: StreamName, replace: bool) -> Result<bool> {
        self.check_open()?;
        let number = self.stream_number(name)?;
        let taken = self.names.get(&to).copied();
        if taken.is_some() && !replace || taken == Some(number) {
            return Ok(replace);
        }
        self.admit(2 * ADMIN_COST, Admit::Shrinking)?;
        // Nobody is to find the name without a stream.
        self.commit.keep_together();
        if let Some(taken) = taken {
            self.have_asked_again(taken);
            self.apply_stream_deleted(taken);
        }
        self.end_waits(number);
        self.change_stream(number, |_| ());
        self.forget_view_together(number);
        if let Some(view) = self.rename_in_maps(number, &to) {
            self.commit.show(Show::Renamed(view, to.clone()));
        }
        self.record(StreamRenamed { stream: number, name: to }, Some(number));
        Ok(true)
    }

    /// Gives a stream another name in the maps; in replay, too.
    pub(crate) fn rename_in_maps(&mut self, number: StreamNumber, to: &StreamName) -> Option<Arc<StreamView>> {
        let slot = self.streams.get_mut(&number)?;
        let from = std::mem::replace(&mut slot.stream.name, to.clone());
        self.names.remove(&from);
        self.names_in_order.remove(&from);
        self.names.insert(to.clone(), number);
        self.names_in_order.insert(to.clone());
        Some(Arc::clone(&slot.view))
    }

    /// The streams that keep more than they are to, as far as that can be told without a look at their entries, by
    /// number, once all that they rest on is durable.
    pub(super) fn retained(&mut self, reply: Reply<Vec<Retained>>) {
        let limited = self.streams.values().filter(|slot| slot.stream.settings.retention != Retention::default());
        let mut found: Vec<Retained> = limited.filter_map(|slot| self.describe_retained(slot)).collect();
        found.sort_unstable_by_key(|retained| retained.view.number);
        let observed = self.last_effect();
        self.answer_observed(reply, Ok(found), observed);
    }

    fn describe_retained(&self, slot: &StreamSlot) -> Option<Retained> {
        let retention = slot.stream.settings.retention.clone();
        let first = self.first_unacknowledged(slot).filter(|_| retention.until_acknowledged);
        let is_over = match first {
            Some(first) => first > slot.stream.trimmed_before,
            None => {
                let entries = retention.entries_max.is_some_and(|max| slot.stream.length() > max);
                let bytes = retention.bytes_max.is_some_and(|max| slot.stream.bytes > max);
                entries || bytes || retention.age_max_ms.is_some()
            }
        };
        let unacknowledged = first.is_some();
        (is_over && slot.stream.length() > 0).then(|| Retained {
            view: Arc::clone(&slot.view),
            retention,
            unacknowledged,
        })
    }

    /// The first id that some group has not acknowledged; `None` without a group.
    pub(super) fn first_unacknowledged(&self, slot: &StreamSlot) -> Option<EntryId> {
        let groups = slot.groups.values().filter_map(|number| self.groups.get(number)).map(|slot| &slot.group);
        let unacknowledged = groups.map(|group| {
            let undelivered = group.cursor.next().unwrap_or(EntryId::MAX);
            group.pending.first().map_or(undelivered, |pending| pending.min(undelivered))
        });
        unacknowledged.min()
    }

    pub(super) fn delete_entries(&mut self, stream: StreamNumber, entries: Vec<DeletedEntry>, reply: Reply<u64>) {
        let result = self.try_delete_entries(stream, entries);
        self.answer_or_refuse(reply, result);
    }

    fn try_delete_entries(&mut self, stream: StreamNumber, entries: Vec<DeletedEntry>) -> Result<u64> {
        self.check_open()?;
        if !self.streams.contains_key(&stream) {
            return Err(Error::stream_not_found("(deleted meanwhile)"));
        }
        self.admit(ADMIN_COST + 24 * entries.len() as u64, Admit::Shrinking)?;
        Ok(self.apply_delete_entries(stream, entries))
    }

    /// Deletes those of the entries that exist. Room was admitted.
    pub(super) fn apply_delete_entries(&mut self, stream: StreamNumber, mut entries: Vec<DeletedEntry>) -> u64 {
        let Some(slot) = self.streams.get(&stream) else { return 0 };
        entries.retain(|e| slot.stream.exists(e.id));
        if entries.is_empty() {
            return 0;
        }
        let view = Arc::clone(&slot.view);
        let shown: Vec<(EntryId, u32)> = entries.iter().map(|e| (e.id, e.bytes)).collect();
        let count = entries.len() as u64;
        let record = EntriesDeleted { stream, entries };
        self.change_stream(stream, |s| s.apply_deleted(&record));
        self.commit.show(Show::EntriesDeleted(view, shown));
        self.record(record, Some(stream));
        count
    }
}
