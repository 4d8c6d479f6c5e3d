//! One group's state machine: cursor, pending entries, consumers; deliver, settle, give back, claim, seek.
//!
//! Pure: a plan reads `&self` and the time it is handed and yields an effect; an effect is applied without failing,
//! live and in replay alike. What exists in the stream is asked through a function that the caller passes.
//!
//! Invariants. **G4** the cursor passes an entry only in the effect that delivers it, parks it, or moves the cursor
//! on purpose. **G5** a consumer's `pending` equals the entries that it holds. G1 to G3 are in `pending`.

mod claim;
mod pending;
mod plan;
mod release;
mod rows;
mod store;
mod ungrant;
mod window;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::format::record::{
    Claimed, ConsumerAdded, ConsumerRemoved, CursorMoved, Delivered, Extended, GroupCreated, IdRun, Released, Returned,
    ReturnedAs, Revived, Settled, SettledAs,
};
use crate::limits::NAME_BYTES_MAX;
use crate::types::{
    ConsumerName, ConsumerNumber, DeliveryNumber, EntryId, GroupName, GroupNumber, GroupSettings, StreamName,
    StreamNumber,
};

pub use claim::{ClaimPlan, ClaimRequest};
pub use pending::{Deliverable, PendingEntry, PendingSet};
pub use plan::{DeliveryPlan, DeliveryRequest, Owner, SettlePlan};
pub use release::ReleaseAs;
pub use rows::FrozenGroup;
pub use ungrant::GrantUndo;
pub use window::{Candidate, Window};

/// What a group remembers of a consumer. Times are engine time in milliseconds.
#[derive(Clone, Debug)]
pub struct Consumer {
    /// Its name.
    pub name: ConsumerName,
    /// Entries that it holds.
    pub pending: u64,
    /// When it was last heard of by the log.
    logged_ms: u64,
    /// When it was last heard of at all, in this run.
    touched_ms: u64,
    /// When it last got an entry.
    pub active_ms: Option<u64>,
}

impl Consumer {
    fn new(name: ConsumerName, logged_ms: u64, active_ms: Option<u64>) -> Self {
        Self { name, pending: 0, logged_ms, touched_ms: 0, active_ms }
    }

    /// When it was last heard of.
    pub fn seen_ms(&self) -> u64 {
        self.logged_ms.max(self.touched_ms)
    }
}

/// The state of one group.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its number, never reused.
    pub number: GroupNumber,
    /// The stream that it is over.
    pub stream: StreamNumber,
    /// Its name.
    pub name: GroupName,
    /// Its settings.
    pub settings: GroupSettings,
    /// Entries up to this id were delivered or stepped over.
    pub cursor: EntryId,
    /// Entries ever appended up to the cursor.
    pub cursor_ordinal: u64,
    /// Delivered and not acknowledged.
    pub pending: PendingSet,
    /// Entries trimmed before they were delivered.
    pub skipped: u64,
    /// Entries acknowledged so far.
    pub acknowledged: u64,
    /// Entries dead-lettered so far.
    pub dead_lettered: u64,
    /// The greatest delivery number that the log knows of this group.
    pub delivery_max: DeliveryNumber,
    /// What is added to the cursor's ordinal to tell how many entries were read, as Redis counts them; unset where that
    /// is not known.
    pub reads_offset: Option<i64>,
    consumers: BTreeMap<ConsumerNumber, Consumer>,
    names: BTreeMap<ConsumerName, ConsumerNumber>,
    consumer_max: ConsumerNumber,
}

impl Group {
    /// The group of this record.
    pub fn create(record: &GroupCreated) -> Self {
        Self {
            number: record.group,
            stream: record.stream,
            name: record.name.clone(),
            settings: record.settings.clone(),
            cursor: record.cursor,
            cursor_ordinal: record.cursor_ordinal,
            pending: PendingSet::default(),
            skipped: 0,
            acknowledged: 0,
            dead_lettered: 0,
            delivery_max: DeliveryNumber(0),
            reads_offset: None,
            consumers: BTreeMap::new(),
            names: BTreeMap::new(),
            consumer_max: ConsumerNumber::NOBODY,
        }
    }

    /// The number of a consumer.
    pub fn consumer_number(&self, name: &ConsumerName) -> Option<ConsumerNumber> {
        self.names.get(name).copied()
    }
    /// The number that a new consumer gets.
    pub fn next_consumer_number(&self) -> ConsumerNumber {
        ConsumerNumber(self.consumer_max.0 + 1)
    }
    /// What is remembered of a consumer.
    pub fn consumer(&self, number: ConsumerNumber) -> Option<&Consumer> {
        self.consumers.get(&number)
    }
    /// The consumers in name order.
    pub fn consumers(&self) -> impl Iterator<Item = (ConsumerNumber, &Consumer)> {
        self.names.values().filter_map(|number| self.consumers.get(number).map(|c| (*number, c)))
    }
    /// How many consumers are remembered.
    pub fn consumer_count(&self) -> usize {
        self.consumers.len()
    }
    /// Of so many consumers after one, in the order of their numbers and round again, those that hold nothing and were
    /// not heard of since that time; and the last that was looked at.
    pub fn idle_consumers(
        &self,
        after: ConsumerNumber,
        count: usize,
        since_ms: u64,
    ) -> (Vec<ConsumerNumber>, ConsumerNumber) {
        let rest = self.consumers.range((Bound::Excluded(after), Bound::Unbounded));
        let looked_at: Vec<_> = rest.chain(self.consumers.range(..=after)).take(count).collect();
        let last = looked_at.last().map_or(after, |(number, _)| **number);
        let idle = looked_at.into_iter().filter(|(_, c)| c.pending == 0 && c.seen_ms() <= since_ms);
        (idle.map(|(number, _)| *number).collect(), last)
    }
    /// Whether it has yet to deliver an entry, or has it pending.
    pub fn needs(&self, id: EntryId) -> bool {
        self.cursor < id || self.pending.is_pending(id)
    }
    /// Whether no new entry can become pending.
    pub fn is_at_bound(&self) -> bool {
        self.pending.len() >= self.settings.pending_max as usize
    }
    /// Notes that a consumer was heard of.
    pub fn touch(&mut self, number: ConsumerNumber, now_ms: u64) {
        if let Some(consumer) = self.consumers.get_mut(&number) {
            consumer.touched_ms = consumer.touched_ms.max(now_ms);
        }
    }

    /// Takes other settings; what was exhausted under the old ones may come back.
    pub fn apply_settings(&mut self, settings: GroupSettings, now_ms: u64) {
        self.settings = settings;
        let max = self.settings.max_deliveries;
        let revived: Vec<EntryId> = self
            .pending
            .exhausted()
            .filter(|(id, reason)| {
                reason.is_none() && (max == 0 || self.pending.get(*id).is_none_or(|e| e.failures < max))
            })
            .map(|(id, _)| id)
            .collect();
        for id in revived {
            self.pending.unexhaust(id, now_ms);
        }
    }

    /// Moves the cursor.
    pub fn apply_cursor(&mut self, moved: &CursorMoved) {
        self.cursor = moved.cursor;
        self.cursor_ordinal = moved.cursor_ordinal;
        self.skipped += moved.skipped;
    }

    /// Remembers a consumer.
    pub fn apply_consumer_added(&mut self, added: &ConsumerAdded) {
        self.consumer_max = self.consumer_max.max(added.consumer);
        self.names.insert(added.name.clone(), added.consumer);
        let consumer = Consumer::new(added.name.clone(), added.at_ms, None);
        self.consumers.insert(added.consumer, consumer);
    }

    /// Forgets a consumer.
    pub fn apply_consumer_removed(&mut self, removed: &ConsumerRemoved) {
        if let Some(consumer) = self.consumers.remove(&removed.consumer) {
            self.names.remove(&consumer.name);
        }
    }

    /// Hands entries to a consumer, or parks them.
    pub fn apply_delivered(&mut self, delivered: &Delivered) {
        if delivered.cursor > self.cursor {
            self.cursor = delivered.cursor;
            self.cursor_ordinal = delivered.cursor_ordinal;
        }
        self.delivery_max = self.delivery_max.max(delivered.delivery);
        if let Some(consumer) = self.consumers.get_mut(&delivered.consumer) {
            consumer.logged_ms = consumer.logged_ms.max(delivered.at_ms);
            if !delivered.sizes.is_empty() {
                consumer.active_ms = Some(delivered.at_ms);
            }
        }
        if delivered.no_ack {
            self.acknowledged += delivered.sizes.len() as u64;
            return;
        }
        let ids = delivered.entries.iter().copied().flat_map(IdRun::ids);
        for (n, id) in ids.enumerate() {
            let size = delivered.sizes.get(n).copied().unwrap_or(0);
            let key = delivered.keys.get(n).copied().unwrap_or(0);
            self.apply_one_delivered(Deliverable { id, size, key }, delivered);
        }
    }

    fn apply_one_delivered(&mut self, what: Deliverable, delivered: &Delivered) {
        if delivered.consumer == ConsumerNumber::NOBODY {
            self.pending.park(what, delivered.at_ms);
            return;
        }
        if let Some(before) = self.pending.get(what.id).map(|e| e.consumer) {
            self.count_pending(before, -1);
        }
        self.pending.hold(what, delivered.consumer, delivered.delivery, delivered.at_ms, delivered.deadline_ms);
        self.count_pending(delivered.consumer, 1);
    }

    /// Gives entries to the consumer that claimed them.
    pub fn apply_claimed(&mut self, claimed: &Claimed) {
        self.delivery_max = self.delivery_max.max(claimed.delivery);
        if let Some(consumer) = self.consumers.get_mut(&claimed.consumer) {
            consumer.logged_ms = consumer.logged_ms.max(claimed.at_ms);
            if !claimed.entries.is_empty() {
                consumer.active_ms = Some(claimed.at_ms);
            }
        }
        for entry in &claimed.entries {
            if let Some(before) = self.pending.get(entry.id).map(|e| e.consumer) {
                self.count_pending(before, -1);
            }
            let what = Deliverable { id: entry.id, size: entry.size, key: entry.key };
            self.pending.hold(what, claimed.consumer, claimed.delivery, claimed.delivered_ms, claimed.deadline_ms);
            self.pending.count_deliveries(entry.id, entry.deliveries);
            self.count_pending(claimed.consumer, 1);
        }
    }

    /// Entries read so far as Redis counts them, where that is known.
    pub fn reads(&self) -> Option<u64> {
        Some(self.cursor_ordinal.saturating_add_signed(self.reads_offset?))
    }

    /// Takes every pending entry of these ranges out.
    pub fn apply_settled(&mut self, settled: &Settled) {
        for range in &settled.ranges {
            let ids: Vec<EntryId> = self.pending.range(*range).map(|(id, _)| id).collect();
            for id in ids {
                let Some(entry) = self.pending.remove(id) else { continue };
                self.count_pending(entry.consumer, -1);
                match settled.how {
                    SettledAs::Acknowledged => self.acknowledged += 1,
                    SettledAs::DeadLettered => self.dead_lettered += 1,
                    SettledAs::Gone | SettledAs::Dropped => {}
                }
            }
        }
    }

    /// Gives entries back to the group.
    pub fn apply_returned(&mut self, returned: &Returned) {
        let failed = !matches!(returned.how, ReturnedAs::HandedBack);
        let reason: Option<Arc<str>> = match &returned.how {
            ReturnedAs::GivenUp(reason) => Some(reason.as_str().into()),
            _ => None,
        };
        for (id, due_ms) in &returned.entries {
            let Some(holder) = self.pending.give_back(*id, *due_ms, failed) else { continue };
            self.count_pending(holder, -1);
            let failures = self.pending.get(*id).map_or(0, |e| e.failures);
            let max = self.settings.max_deliveries;
            if reason.is_some() || (failed && max > 0 && failures >= max) {
                self.pending.exhaust(*id, reason.clone());
            }
        }
    }

    /// Sets leases anew.
    pub fn apply_extended(&mut self, extended: &Extended) {
        for id in extended.entries.iter().copied().flat_map(IdRun::ids) {
            self.pending.extend(id, extended.deadline_ms);
        }
    }

    /// Takes entries from whoever holds them, for others to take over.
    pub fn apply_released(&mut self, released: &Released) {
        for (n, entry) in released.entries.iter().enumerate() {
            let order = DeliveryNumber(released.delivery.0 + n as u64);
            self.delivery_max = self.delivery_max.max(order);
            let what = Deliverable { id: entry.id, size: entry.size, key: entry.key };
            if let Some(holder) = self.pending.release(what, order, entry.deliveries, released.due_ms) {
                self.count_pending(holder, -1);
            }
        }
    }

    /// Makes redriven entries pending again, held by nobody.
    pub fn apply_revived(&mut self, revived: &Revived) {
        for (id, size, key) in &revived.entries {
            self.pending.park(Deliverable { id: *id, size: *size, key: *key }, revived.at_ms);
        }
    }

    fn count_pending(&mut self, consumer: ConsumerNumber, change: i64) {
        if let Some(consumer) = self.consumers.get_mut(&consumer) {
            consumer.pending = consumer.pending.saturating_add_signed(change);
        }
    }
}

/// The stream that takes a group's dead letters, unless its settings name one: `{stream}.dlq.{group}`.
///
/// Where that would be no valid name (too long, or a group name that is no text), the group's name is replaced by
/// its hash and the stream's name is cut.
pub fn dead_letter_stream(stream: &StreamName, group: &GroupName, settings: &GroupSettings) -> StreamName {
    if let Some(named) = &settings.dead_letter_stream {
        return named.clone();
    }
    let plain = std::str::from_utf8(group.as_bytes()).ok().map(|group| format!("{stream}.dlq.{group}"));
    if let Some(name) = plain.and_then(|name| StreamName::parse(&name).ok()) {
        return name;
    }
    let suffix = format!(".dlq.{:016x}", xxhash_rust::xxh3::xxh3_64(group.as_bytes()));
    let mut end = stream.as_str().len().min(NAME_BYTES_MAX - suffix.len());
    while !stream.as_str().is_char_boundary(end) {
        end -= 1;
    }
    let name = format!("{}{suffix}", &stream.as_str()[..end]);
    StreamName::parse(&name).expect("a cut stream name with a short suffix is a valid name")
}

#[cfg(test)]
mod tests;
