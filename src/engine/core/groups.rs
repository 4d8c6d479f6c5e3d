//! Groups: make, describe, change, delete, seek; consumers and sessions.

use std::collections::VecDeque;

use super::settle::give_back_cost;
use super::streams::ADMIN_COST;
use super::{Admit, Core, GroupSlot, Waiter};
use crate::clock::Now;
use crate::engine::api::{ConsumerInfo, GroupInfo, ListPending, PendingInfo};
use crate::engine::command::{Cursor, DeliverAnswer, GroupKey, HeldEntries, SeekAnswer};
use crate::engine::reply::Reply;
use crate::error::{Error, Reason, Result};
use crate::format::record::{
    ConsumerAdded, ConsumerRemoved, CursorMoved, GroupCreated, GroupDeleted, GroupUpdated, ReturnedAs, SettledAs,
};
use crate::group::{Group, PendingEntry, Window, dead_letter_stream};
use crate::limits;
use crate::types::{
    ConsumerName, ConsumerNumber, DeliveryNumber, EntryId, GroupName, GroupNumber, GroupSettings, IdRange,
    StreamNumber, StreamSettings,
};

impl Core {
    /// Takes a group into the maps; in replay, too.
    pub(crate) fn add_group(&mut self, group: Group) {
        self.next_group = self.next_group.max(group.number.0 + 1);
        if let Some(slot) = self.streams.get_mut(&group.stream) {
            slot.groups.insert(group.name.clone(), group.number);
        }
        self.count(|c| &c.groups, u64::from(self.room.is_some()));
        self.groups.insert(group.number, GroupSlot::new(group));
    }

    /// Takes a group out of the maps and ends its waits; in replay, too.
    pub(crate) fn forget_group(&mut self, number: GroupNumber) {
        self.set_timer(number, None);
        let Some(slot) = self.groups.remove(&number) else { return };
        if self.room.is_some() {
            self.shared.counters.groups.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        }
        let name = slot.group.name.clone();
        if let Some(stream) = self.streams.get_mut(&slot.group.stream) {
            stream.groups.remove(&name);
        }
        self.refuse_waiters(&name, slot.waiters);
    }

    /// Tells who waits in a stream's groups that these are gone.
    pub(super) fn end_waits(&mut self, stream: StreamNumber) {
        let groups = self.streams.get(&stream).map(|slot| slot.groups.clone()).unwrap_or_default();
        for (name, number) in groups {
            let waiters = std::mem::take(&mut self.slot_mut(number).waiters);
            self.refuse_waiters(&name, waiters);
        }
    }

    /// Tells who waits in a stream's groups that there is nothing, for them to ask again: another stream takes the name,
    /// and may have such a group. Sessions end with their group.
    pub(super) fn have_asked_again(&mut self, stream: StreamNumber) {
        let groups = self.streams.get(&stream).map(|slot| slot.groups.clone()).unwrap_or_default();
        for number in groups.into_values() {
            let waiters = std::mem::take(&mut self.slot_mut(number).waiters).into_iter();
            let (pulls, sessions): (VecDeque<_>, VecDeque<_>) = waiters.partition(|waiter| waiter.session.is_none());
            self.slot_mut(number).waiters = sessions;
            for reply in pulls.iter().filter_map(|waiter| waiter.asker.take_reply()) {
                self.commit.on_durable(Box::new(move || reply.send(Ok(DeliverAnswer::Nothing))));
            }
        }
    }

    /// Answers once what ended their wait is durable.
    fn refuse_waiters(&mut self, name: &GroupName, waiters: VecDeque<Waiter>) {
        for reply in waiters.iter().filter_map(|waiter| waiter.asker.take_reply()) {
            let error = Error::new(Reason::GroupNotFound, format!("group {name} was deleted"));
            self.commit.on_durable(Box::new(move || reply.send(Err(error))));
        }
    }

    pub(super) fn create_group(
        &mut self,
        key: &GroupKey,
        start: (Option<Cursor>, Option<u64>),
        settings: GroupSettings,
        create_stream: bool,
        reply: Reply<GroupInfo>,
        now: Now,
    ) {
        let result = self.try_create_group(key, start, settings, create_stream, now);
        self.answer_or_refuse(reply, result);
    }

    fn try_create_group(
        &mut self,
        key: &GroupKey,
        (cursor, reads): (Option<Cursor>, Option<u64>),
        settings: GroupSettings,
        create_stream: bool,
        now: Now,
    ) -> Result<GroupInfo> {
        self.check_open()?;
        check_group_settings(key, &settings)?;
        let existing = self.names.get(&key.stream).copied();
        if let Some(slot) = existing.and_then(|n| self.streams.get(&n)) {
            if slot.groups.contains_key(&key.group) {
                return Err(Error::new(
                    Reason::GroupExists,
                    format!("stream {} has a group {}", key.stream, key.group),
                )
                .with("stream", &key.stream)
                .with("group", &key.group));
            }
            let max = self.shared.options.groups_per_stream_max;
            if slot.groups.len() >= max {
                return Err(limit_reached("stream", "groups", max, "groups_per_stream_max"));
            }
        } else if !create_stream {
            return Err(Error::stream_not_found(&key.stream));
        }
        match (existing, cursor) {
            // It was deleted since the cursor was looked up: nothing is made for that.
            (None, Some(Cursor::At { .. })) => return Err(Error::stream_not_found(&key.stream)),
            (Some(stream), Some(cursor)) => {
                self.place_cursor(stream, cursor)?;
            }
            _ => {}
        }
        // A group is how a full disk is drained; only what makes a stream grows.
        let what = if existing.is_some() { Admit::Delivering } else { Admit::Growing };
        self.admit(2 * ADMIN_COST, what)?;
        let stream = match existing {
            Some(number) => number,
            None => {
                let record = self.plan_stream(&key.stream, StreamSettings::default(), now)?;
                let number = record.stream;
                self.apply_stream_created(record);
                number
            }
        };
        let (cursor, cursor_ordinal) = self.place_cursor(stream, cursor.unwrap_or(Cursor::Latest))?;
        let number = GroupNumber(self.next_group);
        let record = GroupCreated { stream, group: number, name: key.group.clone(), settings, cursor, cursor_ordinal };
        self.add_group(Group::create(&record));
        self.mark_group(number);
        self.record(record, None);
        self.set_reads(number, reads);
        Ok(self.describe_group(number, now))
    }

    /// Where a cursor stands, with the number of entries ever appended up to it.
    pub(super) fn place_cursor(&self, stream: StreamNumber, cursor: Cursor) -> Result<(EntryId, u64)> {
        let state = &self.streams[&stream].stream;
        match cursor {
            Cursor::Earliest => Ok((state.trimmed_before.prev().unwrap_or_default(), state.trimmed_ordinal)),
            Cursor::Latest => Ok((state.last, state.appended)),
            Cursor::OfNew { id } if id >= state.last => Ok((id, state.appended)),
            Cursor::OfNew { .. } => Err(Error::overloaded("the stream, which was made meanwhile")),
            Cursor::At { stream: seen, .. } if seen != stream => Err(Error::stream_not_found("(deleted meanwhile)")),
            Cursor::At { id, .. } if id >= state.last => Ok((id, state.appended)),
            // What was trimmed before the cursor came there is not counted as skipped.
            Cursor::At { id, ordinal, .. } => Ok((id, ordinal.max(state.trimmed_ordinal))),
        }
    }

    /// Notes that answers about this group must wait for the commit being filled.
    pub(super) fn mark_group(&mut self, number: GroupNumber) {
        let commit = self.commit_number();
        self.slot_mut(number).dirty = commit;
    }

    pub(super) fn group_info(&mut self, key: &GroupKey, reply: Reply<(GroupInfo, Option<EntryId>)>, now: Now) {
        match self.group_number(key) {
            Ok(number) => {
                let info = self.describe_group(number, now);
                let group = &self.slot(number).group;
                let stream = &self.streams[&group.stream].stream;
                let oldest = group.pending.range(IdRange::ALL).map(|(id, _)| id).find(|id| stream.exists(*id));
                let observed = self.last_effect();
                self.answer_observed(reply, Ok((info, oldest)), observed);
            }
            Err(error) => self.refuse(reply, error),
        }
    }

    /// All that is known of a group; `oldest_unacknowledged_ms` holds the oldest pending id's milliseconds, for the
    /// handle to replace by what the entry says.
    fn describe_group(&self, number: GroupNumber, now: Now) -> GroupInfo {
        let slot = self.slot(number);
        let group = &slot.group;
        let stream = &self.streams[&group.stream].stream;
        let mut settings = group.settings.clone();
        settings.dead_letter_stream = Some(dead_letter_stream(&stream.name, &group.name, &settings));
        GroupInfo {
            stream: stream.name.clone(),
            name: group.name.clone(),
            settings,
            cursor: group.cursor,
            undelivered: stream.entries_after(group.cursor, group.cursor_ordinal),
            pending: group.pending.len() as u64,
            waiting: group.pending.waiting(),
            released: group.pending.released(),
            pending_ends: group.pending.first().zip(group.pending.last()),
            oldest_unacknowledged_ms: group.pending.first().map(|id| id.ms),
            reads: group.reads(),
            skipped_by_trim: group.skipped + stream.trimmed_ordinal.saturating_sub(group.cursor_ordinal),
            acknowledged: group.acknowledged,
            dead_lettered: group.dead_lettered,
            consumers: group.consumers().map(|(n, _)| self.describe_consumer(slot, n, now)).collect(),
        }
    }

    fn describe_consumer(&self, slot: &GroupSlot, number: ConsumerNumber, now: Now) -> ConsumerInfo {
        let consumer = slot.group.consumer(number).expect("listed by its group");
        ConsumerInfo {
            name: consumer.name.clone(),
            pending: consumer.pending,
            idle_ms: now.engine_ms.saturating_sub(consumer.seen_ms()),
            inactive_ms: consumer.active_ms.map(|at| now.engine_ms.saturating_sub(at)),
            active: slot.active == Some(number),
            sessions: slot.sessions.values().filter(|c| **c == number).count() as u32,
        }
    }

    pub(super) fn update_group(&mut self, key: &GroupKey, settings: GroupSettings, reply: Reply<GroupInfo>, now: Now) {
        let result = self.try_update_group(key, settings, now);
        self.answer_or_refuse(reply, result);
    }

    fn try_update_group(&mut self, key: &GroupKey, settings: GroupSettings, now: Now) -> Result<GroupInfo> {
        self.check_open()?;
        check_group_settings(key, &settings)?;
        let number = self.group_number(key)?;
        let group = &self.slot(number).group;
        if settings.dispatch != group.settings.dispatch && !group.pending.is_empty() {
            return Err(Error::invalid("dispatch", "cannot change while entries are pending"));
        }
        let stream = group.stream;
        self.admit(ADMIN_COST, Admit::Delivering)?;
        let slot = self.slot_mut(number);
        let window = Window::at(slot.group.cursor);
        slot.group.apply_settings(settings.clone(), now.engine_ms);
        slot.window = window;
        slot.untaken.clear();
        slot.active = None;
        self.mark_group(number);
        self.record(GroupUpdated { stream, group: number, settings, at_ms: now.engine_ms }, None);
        self.dispatch(number, now);
        Ok(self.describe_group(number, now))
    }

    pub(super) fn delete_group(&mut self, key: &GroupKey, reply: Reply<()>) {
        let result = self.try_delete_group(key);
        self.answer_or_refuse(reply, result);
    }

    fn try_delete_group(&mut self, key: &GroupKey) -> Result<()> {
        self.check_open()?;
        let group = self.group_number(key)?;
        let stream = self.slot(group).group.stream;
        self.admit(ADMIN_COST, Admit::Shrinking)?;
        self.record(GroupDeleted { stream, group }, None);
        self.forget_group(group);
        Ok(())
    }

    pub(super) fn seek(&mut self, key: &GroupKey, to: (Cursor, Option<u64>), dry_run: bool, reply: Reply<SeekAnswer>) {
        let result = self.try_seek(key, to, dry_run);
        self.answer_or_refuse(reply, result);
    }

    fn try_seek(
        &mut self,
        key: &GroupKey,
        (cursor, reads): (Cursor, Option<u64>),
        dry_run: bool,
    ) -> Result<SeekAnswer> {
        self.check_open()?;
        let number = self.group_number(key)?;
        let group = &self.slot(number).group;
        let (stream, from) = (group.stream, (group.cursor, group.cursor_ordinal));
        let to = self.place_cursor(stream, cursor)?;
        let state = &self.streams[&stream].stream;
        let (before, after) = (state.entries_after(from.0, from.1), state.entries_after(to.0, to.1));
        let answer = SeekAnswer { from, to, entries: before.abs_diff(after) };
        if dry_run {
            return Ok(answer);
        }
        self.admit(ADMIN_COST, Admit::Shrinking)?;
        self.put_cursor(number, to);
        self.set_reads(number, reads);
        let now = self.now;
        self.dispatch(number, now);
        Ok(answer)
    }

    /// Puts the cursor where it is told to stand. Room was admitted.
    fn put_cursor(&mut self, number: GroupNumber, (cursor, cursor_ordinal): (EntryId, u64)) {
        let slot = self.slot_mut(number);
        let record = CursorMoved { stream: slot.group.stream, group: number, cursor, cursor_ordinal, skipped: 0 };
        slot.group.apply_cursor(&record);
        slot.window = Window::at(cursor);
        slot.untaken.clear();
        self.mark_group(number);
        self.record(record, None);
    }

    /// Moves the cursor forward, where it does not stand there yet; as many entries count as read as before. Room was
    /// admitted.
    pub(super) fn raise_cursor(&mut self, number: GroupNumber, to: (EntryId, u64)) {
        let group = &self.slot(number).group;
        let (reads, at) = (group.reads(), group.cursor);
        if to.0 > at {
            self.put_cursor(number, to);
            self.set_reads(number, reads);
        }
    }

    pub(super) fn add_consumer(&mut self, key: &GroupKey, name: &ConsumerName, reply: Reply<bool>, now: Now) {
        let result = self.try_add_consumer(key, name, now);
        self.answer_or_refuse(reply, result);
    }

    fn try_add_consumer(&mut self, key: &GroupKey, name: &ConsumerName, now: Now) -> Result<bool> {
        self.check_open()?;
        let number = self.group_number(key)?;
        let is_new = self.slot(number).group.consumer_number(name).is_none();
        self.ensure_consumer(number, name, now)?;
        Ok(is_new)
    }

    /// The number of a consumer, which is made where it is missing.
    pub(super) fn ensure_consumer(
        &mut self,
        number: GroupNumber,
        name: &ConsumerName,
        now: Now,
    ) -> Result<ConsumerNumber> {
        let group = &self.slot(number).group;
        if let Some(known) = group.consumer_number(name) {
            self.slot_mut(number).group.touch(known, now.engine_ms);
            return Ok(known);
        }
        let (count, max) = (group.consumer_count(), self.shared.options.consumers_per_group_max);
        self.admit(1024 + FORGOTTEN_COST * CONSUMERS_PER_LOOK as u64, Admit::Delivering)?;
        if count > limits::CONSUMERS_KEPT || count >= max {
            self.forget_idle_consumers(number, now);
        }
        let group = &self.slot(number).group;
        if group.consumer_count() >= max {
            return Err(limit_reached("group", "consumers", max, "consumers_per_group_max"));
        }
        let (stream, consumer) = (group.stream, group.next_consumer_number());
        let record = ConsumerAdded { stream, group: number, consumer, name: name.clone(), at_ms: now.engine_ms };
        self.slot_mut(number).group.apply_consumer_added(&record);
        self.record_lazily(record, None);
        Ok(consumer)
    }

    /// Looks at some of a group's consumers, round and round, and forgets those that hold nothing and were not heard of
    /// for long. Each new name has some looked at, so that their number stays in proportion to those in use. Room was
    /// admitted.
    fn forget_idle_consumers(&mut self, number: GroupNumber, now: Now) {
        let idle_max_ms = self.shared.options.consumer_idle_max.as_millis() as u64;
        // After a start everybody has the whole time again.
        let Some(before_ms) =
            now.engine_ms.checked_sub(idle_max_ms).filter(|at| idle_max_ms > 0 && *at >= self.began_ms)
        else {
            return;
        };
        let slot = self.slot_mut(number);
        let mut idle = slot.group.idle_consumers(slot.looked_at, CONSUMERS_PER_LOOK, before_ms);
        slot.looked_at = idle.1;
        idle.0.retain(|consumer| {
            slot.active != Some(*consumer)
                && slot.sessions.values().all(|of| of != consumer)
                && slot.waiters.iter().all(|waiter| waiter.consumer != *consumer)
        });
        let stream = slot.group.stream;
        for consumer in idle.0 {
            let record = ConsumerRemoved { stream, group: number, consumer };
            self.slot_mut(number).group.apply_consumer_removed(&record);
            self.record_lazily(record, None);
        }
    }

    pub(super) fn open_session(
        &mut self,
        key: &GroupKey,
        consumer: &ConsumerName,
        reply: Reply<DeliveryNumber>,
        now: Now,
    ) {
        let result = self.try_open_session(key, consumer, now);
        self.answer_or_refuse(reply, result);
    }

    fn try_open_session(&mut self, key: &GroupKey, consumer: &ConsumerName, now: Now) -> Result<DeliveryNumber> {
        self.check_open()?;
        let number = self.group_number(key)?;
        let consumer = self.ensure_consumer(number, consumer, now)?;
        let session = self.take_delivery_number();
        self.slot_mut(number).sessions.insert(session, consumer);
        Ok(session)
    }

    pub(super) fn take_delivery_number(&mut self) -> DeliveryNumber {
        self.next_delivery += 1;
        DeliveryNumber(self.next_delivery - 1)
    }

    /// Ends a session that drains.
    pub(super) fn close_session(&mut self, key: &GroupKey, session: DeliveryNumber, reply: Reply<u64>, now: Now) {
        let closed = self.group_number(key).and_then(|number| self.end_session(number, session, true, now));
        self.answer_or_refuse(reply, closed);
    }

    /// Ends a session; answers how many entries it gives back. Where that finds no room the session stays.
    pub(super) fn end_session(
        &mut self,
        number: GroupNumber,
        session: DeliveryNumber,
        drained: bool,
        now: Now,
    ) -> Result<u64> {
        let slot = self.slot(number);
        let Some(consumer) = slot.sessions.get(&session).copied() else {
            return Err(Error::new(Reason::SessionNotFound, "the session has ended"));
        };
        let ids = slot.group.held_by_delivery(session);
        self.admit(give_back_cost(ids.len()), Admit::Shrinking)?;
        let slot = self.slot_mut(number);
        slot.sessions.remove(&session);
        slot.waiters.retain(|w| w.session != Some(session));
        if slot.active == Some(consumer) && !slot.sessions.values().any(|c| *c == consumer) {
            slot.active = None;
        }
        // A lost session failed what it held; a drained one hands it back.
        let (entries, how) = if drained {
            (ids.iter().map(|id| (*id, now.engine_ms)).collect(), ReturnedAs::HandedBack)
        } else {
            (slot.group.plan_retry(&ids, None, now.engine_ms), ReturnedAs::Failed)
        };
        self.apply_give_back(number, entries, how, now);
        self.dispatch(number, now);
        Ok(ids.len() as u64)
    }

    pub(super) fn remove_consumer(
        &mut self,
        key: &GroupKey,
        consumer: &ConsumerName,
        held: HeldEntries,
        reply: Reply<u64>,
        now: Now,
    ) {
        let result = self.try_remove_consumer(key, consumer, held, now);
        self.answer_or_refuse(reply, result);
    }

    fn try_remove_consumer(&mut self, key: &GroupKey, name: &ConsumerName, held: HeldEntries, now: Now) -> Result<u64> {
        self.check_open()?;
        let number = self.group_number(key)?;
        let group = &self.slot(number).group;
        let stream = group.stream;
        let consumer = group.consumer_number(name).ok_or_else(|| {
            Error::new(Reason::ConsumerNotFound, format!("group {} has no consumer {name}", key.group))
                .with("consumer", name)
        })?;
        let ids = group.held_by_consumer(consumer);
        // A range of one id takes more than an id with the time from which it may be delivered.
        self.admit(ADMIN_COST + give_back_cost(ids.len()) + 8 * ids.len() as u64, Admit::Shrinking)?;
        match held {
            HeldEntries::Back => {
                let entries = ids.iter().map(|id| (*id, now.engine_ms)).collect();
                self.apply_give_back(number, entries, ReturnedAs::HandedBack, now);
            }
            HeldEntries::Dropped => {
                self.settle(number, ids.iter().map(|id| IdRange::one(*id)).collect(), SettledAs::Dropped);
            }
        }
        let record = ConsumerRemoved { stream, group: number, consumer };
        let slot = self.slot_mut(number);
        slot.group.apply_consumer_removed(&record);
        slot.sessions.retain(|_, c| *c != consumer);
        if slot.active == Some(consumer) {
            slot.active = None;
        }
        let waiters = std::mem::take(&mut slot.waiters).into_iter();
        let (gone, kept): (std::collections::VecDeque<super::Waiter>, _) =
            waiters.partition(|w| w.consumer == consumer);
        slot.waiters = kept;
        for reply in gone.iter().filter_map(|waiter| waiter.asker.take_reply()) {
            let error = Error::new(Reason::ConsumerNotFound, format!("consumer {name} was removed"));
            self.commit.on_durable(Box::new(move || reply.send(Err(error))));
        }
        self.mark_group(number);
        self.record(record, None);
        self.dispatch(number, now);
        Ok(ids.len() as u64)
    }

    pub(super) fn list_pending(&mut self, request: &ListPending, reply: Reply<Vec<PendingInfo>>, now: Now) {
        let key = GroupKey { stream: request.stream.clone(), group: request.group.clone() };
        match self.group_number(&key) {
            Ok(number) => {
                let list = list_pending(&self.slot(number).group, request, now);
                let observed = self.last_effect();
                self.answer_observed(reply, Ok(list), observed);
            }
            Err(error) => self.refuse(reply, error),
        }
    }
}

fn list_pending(group: &Group, request: &ListPending, now: Now) -> Vec<PendingInfo> {
    let wanted = match &request.consumer {
        Some(name) => match group.consumer_number(name) {
            Some(number) => Some(number),
            None => return Vec::new(),
        },
        None => None,
    };
    let idle_min_ms = request.idle_min.as_millis() as u64;
    let idle = |delivered_ms: u64| now.engine_ms.saturating_sub(delivered_ms);
    let is_idle = |e: &PendingEntry| e.is_released() || idle(e.delivered_ms) >= idle_min_ms;
    group
        .pending
        .range(request.range)
        .filter(|(_, e)| wanted.is_none_or(|w| w == e.consumer) && is_idle(e))
        .take(request.entries_max)
        .map(|(id, e)| PendingInfo {
            id,
            consumer: group.consumer(e.consumer).map(|c| c.name.clone()),
            idle_ms: idle(e.delivered_ms),
            due_ms: (e.due_ms != 0 && e.due_ms != u64::MAX).then(|| e.due_ms.saturating_sub(now.engine_ms)),
            deliveries: e.deliveries,
            failures: e.failures,
        })
        .collect()
}

/// A bound that is a setting of the server.
fn limit_reached(of: &str, what: &str, max: usize, setting: &'static str) -> Error {
    let message = format!("the {of} has {max} {what}, as many as the server's setting {setting} allows");
    Error::new(Reason::LimitReached, message).with("max", max).with("setting", setting)
}

/// Consumers that are looked at for each new name, and what a forgotten one takes in a commit.
const CONSUMERS_PER_LOOK: usize = 16;
const FORGOTTEN_COST: u64 = 64;

fn check_group_settings(key: &GroupKey, settings: &GroupSettings) -> Result<()> {
    settings.validate()?;
    if settings.dead_letter_stream.as_ref() == Some(&key.stream) {
        return Err(Error::invalid("dead_letter_stream", "a stream cannot take its own dead letters"));
    }
    Ok(())
}
