//! Groups through the handle: make, describe, change, seek; settle what was delivered.

use std::sync::Arc;

use super::api::{
    Acknowledge, CreateGroup, Extend, GroupInfo, ListPending, Nack, NackAction, PendingInfo, Seeked, Settled, StartAt,
};
use super::command::{Command, Cursor, HeldEntries};
use super::handle::{Engine, check_count, check_ids, check_text, group_key};
use super::publish::prepare;
use super::view::StreamView;
use crate::error::{Error, Result};
use crate::limits;
use crate::types::{ConsumerName, EntryId, GroupName, GroupSettings, IdRange, StreamName};

impl Engine {
    /// Makes a group.
    pub async fn create_group(&self, request: CreateGroup) -> Result<GroupInfo> {
        self.create_group_counted(request, None).await
    }

    /// Makes a group, and says how many entries count as read, as Redis counts them.
    pub async fn create_group_counted(&self, request: CreateGroup, reads: Option<u64>) -> Result<GroupInfo> {
        let cursor = match self.view(&request.stream) {
            Ok(view) => Some(self.cursor(view, request.start).await?),
            Err(_) => match request.start {
                StartAt::Earliest | StartAt::Latest => None,
                StartAt::After(id) => Some(Cursor::OfNew { id }),
                StartAt::Time(ms) => Some(Cursor::OfNew { id: before(ms) }),
            },
        };
        let CreateGroup { stream, group, settings, create_stream, .. } = request;
        let key = group_key(&stream, &group);
        let info =
            self.ask(|reply| Command::CreateGroup { key, cursor, reads, settings, create_stream, reply }).await?;
        Ok(self.completed(info).await)
    }

    /// With what only the stored entries tell, unless the group is gone again.
    async fn completed(&self, info: GroupInfo) -> GroupInfo {
        self.group(&info.stream, &info.name).await.unwrap_or(info)
    }

    /// What is known of a group.
    pub async fn group(&self, stream: &StreamName, group: &GroupName) -> Result<GroupInfo> {
        let key = group_key(stream, group);
        let (mut info, pending) = self.ask(|reply| Command::GroupInfo { key, reply }).await?;
        info.oldest_unacknowledged_ms = self.oldest_unacknowledged(stream, &info, pending).await?;
        Ok(info)
    }

    /// When the first of the oldest pending and the oldest undelivered entry was appended.
    async fn oldest_unacknowledged(
        &self,
        stream: &StreamName,
        info: &GroupInfo,
        pending: Option<EntryId>,
    ) -> Result<Option<u64>> {
        let undelivered = if info.undelivered > 0 { info.cursor.next() } else { None };
        let Some(first) = pending.into_iter().chain(undelivered).min() else { return Ok(None) };
        let range = IdRange { first, last: EntryId::MAX };
        let view = self.view(stream)?;
        Ok(self.first_readable(view, range).await?.map(|e| e.append_ms))
    }

    /// The groups of a stream, by name.
    pub async fn groups(&self, stream: &StreamName) -> Result<Vec<GroupInfo>> {
        let info = self.ask(|reply| Command::StreamInfo { name: stream.clone(), reply }).await?;
        let mut groups = Vec::with_capacity(info.groups.len());
        for group in &info.groups {
            match self.group(stream, group).await {
                Ok(info) => groups.push(info),
                Err(gone) if gone.reason() == crate::error::Reason::GroupNotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(groups)
    }

    /// Gives a group other settings.
    pub async fn update_group(
        &self,
        stream: &StreamName,
        group: &GroupName,
        settings: GroupSettings,
    ) -> Result<GroupInfo> {
        let key = group_key(stream, group);
        let info = self.ask(|reply| Command::UpdateGroup { key, settings, reply }).await?;
        Ok(self.completed(info).await)
    }

    /// Deletes a group with what is pending.
    pub async fn delete_group(&self, stream: &StreamName, group: &GroupName) -> Result<()> {
        let key = group_key(stream, group);
        self.ask(|reply| Command::DeleteGroup { key, reply }).await
    }

    /// Moves a group's cursor, or says what that would mean.
    pub async fn seek_group(
        &self,
        stream: &StreamName,
        group: &GroupName,
        to: StartAt,
        dry_run: bool,
    ) -> Result<Seeked> {
        self.seek_group_counted(stream, group, to, None, dry_run).await
    }

    /// Moves a group's cursor, and says how many entries count as read then, as Redis counts them.
    pub async fn seek_group_counted(
        &self,
        stream: &StreamName,
        group: &GroupName,
        to: StartAt,
        reads: Option<u64>,
        dry_run: bool,
    ) -> Result<Seeked> {
        let cursor = self.cursor(self.view(stream)?, to).await?;
        let key = group_key(stream, group);
        let answer = self.ask(|reply| Command::Seek { key, cursor, reads, dry_run, reply }).await?;
        Ok(Seeked {
            from: answer.from.0,
            to: answer.to.0,
            entries: answer.entries,
            backwards: answer.to.0 < answer.from.0,
        })
    }

    /// Where a start stands in the stream.
    pub(super) async fn cursor(&self, view: Arc<StreamView>, start: StartAt) -> Result<Cursor> {
        let id = match start {
            StartAt::Earliest => return Ok(Cursor::Earliest),
            StartAt::Latest => return Ok(Cursor::Latest),
            StartAt::After(id) => id,
            StartAt::Time(ms) => before(ms),
        };
        let stream = view.number;
        let ordinal = self.on_reader_thread(move |reader| reader.ordinal_after(&view, id)).await?;
        Ok(Cursor::At { stream, id, ordinal })
    }

    /// Acknowledges entries, and publishes what came of them in the same commit.
    pub async fn acknowledge(&self, request: Acknowledge) -> Result<Settled> {
        check_ids(request.ids.len())?;
        let options = &self.0.shared.options;
        if request.publish.iter().any(|publish| publish.trim.is_some()) {
            return Err(Error::invalid("publish", "a trim does not go with an acknowledgement"));
        }
        let publish = request.publish.into_iter().map(|p| prepare(p, options)).collect::<Result<Vec<_>>>()?;
        let bytes: usize = publish.iter().map(|p| p.bytes).sum();
        if bytes > limits::PUBLISH_BYTES_MAX {
            let max = limits::PUBLISH_BYTES_MAX;
            return Err(Error::new(
                crate::error::Reason::BatchTooLarge,
                format!("{bytes} bytes to publish, at most {max} are allowed"),
            ));
        }
        let key = group_key(&request.stream, &request.group);
        let (ids, holder) = (request.ids, request.holder);
        self.ask(|reply| Command::Acknowledge { key, ids, holder, publish, reply }).await
    }

    /// Says that entries were not handled, and what is to become of them.
    pub async fn nack(&self, request: Nack) -> Result<Settled> {
        check_ids(request.ids.len())?;
        match &request.action {
            NackAction::Retry { delay: Some(delay) } if *delay > limits::ACK_WAIT_MAX => {
                return Err(Error::invalid("delay", format!("at most {} s", limits::ACK_WAIT_MAX.as_secs())));
            }
            NackAction::DeadLetter { reason } => check_text("action.dead_letter.reason", reason)?,
            _ => {}
        }
        let key = group_key(&request.stream, &request.group);
        let Nack { ids, holder, action, .. } = request;
        self.ask(|reply| Command::Nack { key, ids, holder, action, reply }).await
    }

    /// Lets leases end later.
    pub async fn extend(&self, request: Extend) -> Result<Settled> {
        check_ids(request.ids.len())?;
        if request.lease.is_some_and(|lease| lease > limits::ACK_WAIT_MAX || lease.is_zero()) {
            return Err(Error::invalid("lease", format!("above 0 and at most {} s", limits::ACK_WAIT_MAX.as_secs())));
        }
        let key = group_key(&request.stream, &request.group);
        let lease_ms = request.lease.map(|l| l.as_millis() as u64);
        let (ids, holder) = (request.ids, request.holder);
        self.ask(|reply| Command::Extend { key, ids, holder, lease_ms, reply }).await
    }

    /// Pending entries, in id order.
    pub async fn list_pending(&self, request: ListPending) -> Result<Vec<PendingInfo>> {
        check_count("entries_max", request.entries_max, limits::PAGE_ENTRIES_MAX)?;
        self.ask(|reply| Command::ListPending { request, reply }).await
    }

    /// Makes a consumer where it is missing; answers whether it was.
    pub async fn add_consumer(&self, stream: &StreamName, group: &GroupName, consumer: ConsumerName) -> Result<bool> {
        let key = group_key(stream, group);
        self.ask(|reply| Command::AddConsumer { key, consumer, reply }).await
    }

    /// Removes a consumer and hands its pending entries back to the group; answers how many.
    pub async fn remove_consumer(
        &self,
        stream: &StreamName,
        group: &GroupName,
        consumer: &ConsumerName,
    ) -> Result<u64> {
        self.part_with_consumer(stream, group, consumer, HeldEntries::Back).await
    }

    /// Removes a consumer, and with it what it holds: those entries are no longer pending and do not come again.
    /// Answers how many.
    pub async fn drop_consumer(&self, stream: &StreamName, group: &GroupName, consumer: &ConsumerName) -> Result<u64> {
        self.part_with_consumer(stream, group, consumer, HeldEntries::Dropped).await
    }

    async fn part_with_consumer(
        &self,
        stream: &StreamName,
        group: &GroupName,
        consumer: &ConsumerName,
        held: HeldEntries,
    ) -> Result<u64> {
        let key = group_key(stream, group);
        self.ask(|reply| Command::RemoveConsumer { key, consumer: consumer.clone(), held, reply }).await
    }
}

/// The last id before a moment.
fn before(ms: u64) -> EntryId {
    EntryId::new(ms, 0).prev().unwrap_or_default()
}
