//! Dead letters: exhausted entries move in one commit with their acknowledgement; redriven ones come back.
//!
//! The core knows which entries are exhausted, not what they hold: a reader fetches them and the core is asked again.

use std::collections::HashSet;
use std::sync::Arc;

use super::streams::ADMIN_COST;
use super::{Admit, Core};
use crate::clock::Now;
use crate::engine::api::{RedriveTo, Redriven};
use crate::engine::command::{Fetched, GroupKey, Job, LetterToFetch, RedriveOne};
use crate::engine::dead_letter::Origin;
use crate::engine::reply::Reply;
use crate::error::Result;
use crate::faults::Fault;
use crate::format::block::ENTRY_HEAD_BYTES;
use crate::format::record::{DeletedEntry, Revived, SettledAs};
use crate::group::dead_letter_stream;
use crate::types::{
    Dispatch, EntryId, GroupNumber, IdRange, IdRequest, NewEntry, StreamName, StreamNumber, StreamSettings,
};

/// Letters fetched in one go.
const LETTERS_PER_JOB: usize = 256;
/// Bytes of letters fetched in one go, unless a single one is larger.
const LETTER_BYTES_PER_JOB: usize = 1 << 20;
/// How long to wait after a failed try to move letters, in milliseconds.
const RETRY_MS: u64 = 1000;
/// What an entry grows by at most when it becomes a letter.
const ORIGIN_BYTES_MAX: u64 = 2048;

impl Core {
    /// Has exhausted entries fetched, unless that is under way.
    pub(super) fn fetch_dead_letters(&mut self, number: GroupNumber, now: Now) {
        let Some(slot) = self.groups.get(&number) else { return };
        if slot.fetching || slot.retry_ms.is_some() {
            return;
        }
        let stream = &self.streams[&slot.group.stream];
        let view = Arc::clone(&stream.view);
        let letters = self.letters_to_fetch(number, now);
        let slot = self.slot_mut(number);
        if letters.is_empty() && slot.group.pending.exhausted().next().is_some() {
            slot.retry_ms = Some(now.engine_ms + RETRY_MS);
            return;
        }
        if letters.is_empty() {
            for reply in std::mem::take(&mut slot.letter_replies) {
                self.commit.on_durable(reply);
            }
            return;
        }
        slot.fetching = true;
        self.jobs.push(Job::FetchDeadLetters { view, group: number, letters });
    }

    fn letters_to_fetch(&self, number: GroupNumber, now: Now) -> Vec<LetterToFetch> {
        let group = &self.slot(number).group;
        let stream = &self.streams[&group.stream].stream.name;
        let bytes_max = LETTER_BYTES_PER_JOB.min(self.frame_cost_max() as usize / 4);
        let mut bytes = 0;
        let mut letters = Vec::new();
        // What is not durable yet no reader finds.
        let visible = self.streams[&group.stream].visible;
        for (id, reason) in group.pending.exhausted().filter(|(id, _)| *id <= visible).take(LETTERS_PER_JOB) {
            let Some(entry) = group.pending.get(id) else { continue };
            bytes += entry.size as usize + ORIGIN_BYTES_MAX as usize;
            if bytes > bytes_max && !letters.is_empty() {
                break;
            }
            let reason = match reason {
                Some(reason) => reason.to_string(),
                None => format!("{} deliveries failed", entry.failures),
            };
            let origin = Origin {
                stream: stream.to_string(),
                id,
                group: group.name.to_string(),
                deliveries: entry.deliveries,
                failures: entry.failures,
                reason,
                failed_ms: now.wall_ms,
            };
            letters.push(LetterToFetch { id, origin });
        }
        letters
    }

    /// Moves fetched entries to the dead letters and out of the pending ones, in one commit.
    pub(super) fn dead_letter(&mut self, number: GroupNumber, fetched: Result<Vec<Fetched>>, now: Now) {
        if !self.groups.contains_key(&number) {
            return;
        }
        self.slot_mut(number).fetching = false;
        let moved = self.check_open().and(fetched).and_then(|fetched| self.try_dead_letter(number, fetched, now));
        match moved {
            Ok(()) => self.fetch_dead_letters(number, now),
            Err(error) => {
                tracing::warn!(group = number.0, %error, "dead letters could not be moved, trying again");
                self.slot_mut(number).retry_ms = Some(now.engine_ms + RETRY_MS);
            }
        }
        self.dispatch(number, now);
    }

    fn try_dead_letter(&mut self, number: GroupNumber, fetched: Vec<Fetched>, now: Now) -> Result<()> {
        let group = &self.slot(number).group;
        let exhausted: std::collections::BTreeSet<EntryId> = group.pending.exhausted().map(|(id, _)| id).collect();
        let stream = &self.streams[&group.stream].stream;
        let (mut letters, mut moved, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for one in fetched.into_iter().filter(|one| exhausted.contains(&one.id)) {
            match one.entry.filter(|_| stream.exists(one.id)) {
                Some(entry) => {
                    letters.push(entry);
                    moved.push(IdRange::one(one.id));
                }
                None => gone.push(IdRange::one(one.id)),
            }
        }
        let target = dead_letter_stream(&stream.name, &group.name, &group.settings);
        self.admit(append_cost(&letters) + ADMIN_COST + 40 * (moved.len() + gone.len()) as u64, Admit::Growing)?;
        self.append_letters(&target, letters, now)?;
        self.count(|c| &c.dead_lettered, moved.len() as u64);
        self.settle(number, moved, SettledAs::DeadLettered);
        self.settle(number, gone, SettledAs::Gone);
        Ok(())
    }

    fn append_letters(&mut self, target: &StreamName, letters: Vec<NewEntry>, now: Now) -> Result<()> {
        if letters.is_empty() {
            return Ok(());
        }
        let stream = match self.names.get(target) {
            Some(number) => *number,
            None => {
                let record = self.plan_stream(target, StreamSettings::default(), now)?;
                let number = record.stream;
                self.apply_stream_created(record);
                number
            }
        };
        self.append_auto(stream, letters, now)
    }

    fn append_auto(&mut self, stream: StreamNumber, entries: Vec<NewEntry>, now: Now) -> Result<()> {
        let ids = self.streams[&stream].stream.plan_ids(IdRequest::Auto, entries.len() as u32, now)?;
        self.append(stream, ids, &entries, now);
        self.commit.require_sync();
        Ok(())
    }

    pub(super) fn redrive(
        &mut self,
        key: &GroupKey,
        letters: Vec<RedriveOne>,
        to: RedriveTo,
        reply: Reply<Redriven>,
        now: Now,
    ) {
        let result = self.try_redrive(key, letters, to, now);
        self.answer_or_refuse(reply, result);
    }

    fn try_redrive(&mut self, key: &GroupKey, letters: Vec<RedriveOne>, to: RedriveTo, now: Now) -> Result<Redriven> {
        self.check_open()?;
        let number = self.group_number(key)?;
        let group = &self.slot(number).group;
        let (stream_number, source) = (group.stream, dead_letter_stream(&key.stream, &key.group, &group.settings));
        let source = self.stream_number(&source)?;
        let ordered = group.settings.dispatch == Dispatch::KeyOrdered;
        let room = (group.settings.pending_max as usize).saturating_sub(group.pending.len());
        let (stream, letter_stream) = (&self.streams[&stream_number].stream, &self.streams[&source].stream);
        let mut answer = Redriven::default();
        let mut deleted: Vec<DeletedEntry> = Vec::new();
        let mut revived: Vec<(EntryId, u32, u64)> = Vec::new();
        let mut entries: Vec<NewEntry> = Vec::new();
        // What several letters tell of, or what is pending already, takes room once.
        let mut fresh: HashSet<EntryId> = HashSet::new();
        for one in letters {
            if !letter_stream.exists(one.letter.id) {
                answer.not_found.push(one.letter.id);
                continue;
            }
            match (to, one.original.filter(|_| stream.exists(one.origin))) {
                (RedriveTo::Stream, _) => entries.push(one.entry),
                (RedriveTo::Group, Some((size, key))) => {
                    let is_known = group.pending.is_pending(one.origin) || fresh.contains(&one.origin);
                    if !is_known && fresh.len() >= room {
                        answer.is_cut_short = true;
                        continue;
                    }
                    fresh.extend((!is_known).then_some(one.origin));
                    revived.push((one.origin, size, if ordered { key } else { 0 }));
                }
                (RedriveTo::Group, None) => {
                    answer.original_gone.push(one.letter.id);
                    continue;
                }
            }
            deleted.push(one.letter);
        }
        if deleted.is_empty() {
            return Ok(answer);
        }
        answer.done = deleted.len() as u64;
        let cost = append_cost(&entries) + ADMIN_COST + 80 * deleted.len() as u64;
        self.admit(cost, if to == RedriveTo::Stream { Admit::Growing } else { Admit::Shrinking })?;
        if !entries.is_empty() {
            self.append_auto(stream_number, entries, now)?;
        }
        if !revived.is_empty() {
            let record = Revived { stream: stream_number, group: number, entries: revived, at_ms: now.engine_ms };
            self.slot_mut(number).group.apply_revived(&record);
            if self.shared.options.faults.has(Fault::MoveCursorOnRedrive) {
                let group = &mut self.slot_mut(number).group;
                (group.cursor, group.cursor_ordinal) = (EntryId::ZERO, 0);
            }
            self.record(record, None);
            self.mark_group(number);
        }
        self.apply_delete_entries(source, deleted);
        self.dispatch(number, now);
        Ok(answer)
    }
}

/// Upper bound of the room that appending these takes.
fn append_cost(entries: &[NewEntry]) -> u64 {
    let bytes: usize = entries.iter().map(|e| e.bytes.len() + ENTRY_HEAD_BYTES + 20).sum();
    let blocks = bytes / crate::limits::BLOCK_BYTES_TARGET + 1;
    bytes as u64 + blocks as u64 * crate::storage::block_cost(0, entries.len().min(crate::format::block::TYPES_MAX))
}
