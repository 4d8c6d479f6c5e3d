//! Trims that look at what groups have of each entry: they take it out of what is pending, or leave what is needed.
//!
//! The handle shows candidates from the stream's head on, a batch at a time; what becomes of each is decided here, by
//! what the stream and its groups are at that moment. Whatever goes from the head on goes as a trim; entries behind one
//! that stays are deleted singly, though the stream does not tell of that as it does of other deletes.

use super::streams::ADMIN_COST;
use super::{Admit, Core, StreamSlot};
use crate::engine::api::{References, TrimTo};
use crate::engine::command::{SingleTrim, SingleTrimmed};
use crate::engine::reply::Reply;
use crate::error::{Error, Result};
use crate::format::record::{DeletedEntry, LastIdSet, SettledAs, Trimmed};
use crate::group::{Candidate, Group};
use crate::types::{EntryId, GroupNumber, IdRange, StreamNumber};

/// What an entry that goes takes in a commit: its deletion.
const GONE_COST: u64 = 24;
/// What it takes for each group that has it pending.
const SETTLED_COST: u64 = 32;
/// What a group takes beside that.
const GROUP_COST: u64 = 1024;

/// What a batch comes to.
#[derive(Default)]
struct Plan {
    /// What goes, in id order.
    gone: Vec<Candidate>,
    /// How many of them, from the first one on, have nothing before them that stays.
    head: usize,
    /// The candidate after which to go on; `None` where nothing more is to go.
    next: Option<EntryId>,
}

impl Core {
    pub(super) fn trim_singly(&mut self, trim: &SingleTrim, reply: Reply<SingleTrimmed>) {
        let result = self.try_trim_singly(trim);
        self.answer_or_refuse(reply, result);
    }

    fn try_trim_singly(&mut self, trim: &SingleTrim) -> Result<SingleTrimmed> {
        self.check_open()?;
        let slot = self.streams.get(&trim.stream).ok_or_else(|| Error::stream_not_found("(deleted meanwhile)"))?;
        let groups = if trim.references == References::Drop { slot.groups.len() as u64 } else { 0 };
        let fixed = 2 * ADMIN_COST + GROUP_COST * groups;
        let each = GONE_COST + SETTLED_COST * groups;
        // A part of what a commit takes: others are let in between the batches.
        let entries_max = ((self.cost_max() / 4).saturating_sub(fixed) / each).max(1) as usize;
        let plan = self.plan_trim_singly(slot, trim, entries_max);
        self.admit(fixed + each * plan.gone.len() as u64, Admit::Shrinking)?;
        if trim.references == References::Drop {
            self.drop_references(trim.stream, &plan.gone);
        }
        let (head, rest) = plan.gone.split_at(plan.head);
        self.trim_head(trim.stream, head);
        self.delete_untold(trim.stream, rest);
        Ok(SingleTrimmed { dropped: plan.gone.len() as u64, next: plan.next })
    }

    fn plan_trim_singly(&self, slot: &StreamSlot, trim: &SingleTrim, entries_max: usize) -> Plan {
        let stream = &slot.stream;
        let groups: Vec<&Group> = slot.groups.values().map(|number| &self.slot(*number).group).collect();
        let keeps_needed = trim.references == References::Needed;
        // Beyond the cursor that is furthest behind everything is needed.
        let last = groups.iter().map(|group| group.cursor).min().filter(|_| keeps_needed);
        let (mut length, mut bytes) = (stream.length(), stream.bytes);
        let mut at_head = trim.after.next().is_none_or(|first| first <= stream.trimmed_before.max(EntryId::new(0, 1)));
        let mut plan = Plan::default();
        for candidate in trim.candidates.iter().filter(|candidate| stream.exists(candidate.id)) {
            let id = candidate.id;
            let is_over = match trim.to {
                TrimTo::BeforeId(bound) => id < bound,
                TrimTo::BeforeTime(ms) => id.ms < ms,
                TrimTo::KeepEntries(count) => length > count,
                TrimTo::KeepBytes(count) => bytes > count,
            };
            if !is_over || plan.gone.len() as u64 >= trim.dropped_max || last.is_some_and(|last| id > last) {
                plan.next = None;
                return plan;
            }
            if plan.gone.len() >= entries_max {
                return plan;
            }
            plan.next = Some(id);
            if keeps_needed && groups.iter().any(|group| group.needs(id)) {
                at_head = false;
                continue;
            }
            length -= 1;
            bytes -= u64::from(candidate.size).min(bytes);
            plan.head += usize::from(at_head && id < EntryId::MAX);
            plan.gone.push(*candidate);
        }
        plan.next = trim.candidates.last().map(|candidate| candidate.id);
        plan
    }

    /// Takes entries out of what groups have pending. Room was admitted.
    fn drop_references(&mut self, stream: StreamNumber, gone: &[Candidate]) {
        let ids: Vec<IdRange> = gone.iter().map(|candidate| IdRange::one(candidate.id)).collect();
        let groups: Vec<GroupNumber> = self.streams[&stream].groups.values().copied().collect();
        for number in groups {
            let plan = self.slot(number).group.plan_settle(&ids, crate::group::Owner::Anyone);
            if !plan.ids.is_empty() {
                self.settle(number, plan.ranges, SettledAs::Gone);
                self.dispatch(number, self.now);
            }
        }
    }

    /// Drops the first entries of a stream. Room was admitted.
    fn trim_head(&mut self, stream: StreamNumber, head: &[Candidate]) {
        let Some(last) = head.last() else { return };
        let before = last.id.next().unwrap_or(EntryId::MAX);
        let bytes = head.iter().map(|candidate| u64::from(candidate.size)).sum();
        let record = Trimmed { stream, before, ordinal: last.ordinal + 1, bytes };
        self.apply_trimmed(&record);
        self.commit.require_sync();
    }

    /// Deletes entries singly; the stream tells the same greatest deleted id as before. Room was admitted.
    fn delete_untold(&mut self, number: StreamNumber, rest: &[Candidate]) {
        let deleted_max = self.streams.get(&number).map(|slot| slot.stream.deleted_max).unwrap_or_default();
        let entries = rest.iter().map(|candidate| DeletedEntry { id: candidate.id, bytes: candidate.size });
        if self.apply_delete_entries(number, entries.collect()) == 0 {
            return;
        }
        let stream = &self.streams[&number].stream;
        let (last, added_offset) = (stream.last, stream.added_offset);
        let record = LastIdSet { stream: number, last, added_offset, deleted_max };
        self.change_stream(number, |stream| stream.apply_last_id(&record));
        self.record(record, Some(number));
    }
}
