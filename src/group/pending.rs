//! The pending entries of a group: who holds which, what waits for redelivery and from when, which keys are busy.
//!
//! Invariants. **G1** every pending entry is in exactly one place: held by a consumer, waiting (by itself or in the
//! queue of its key), or exhausted. **G2** an entry of a key is deliverable only if no entry of that key is held and
//! no smaller id of that key waits. **G3** `held` of a key equals the number of its entries that consumers hold.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::store::{FrozenStore, PendingStore};
use crate::format::record::PendingBefore;
use crate::format::state::PendingRow;
use crate::types::{ConsumerNumber, DeliveryNumber, EntryId, IdRange};

/// One pending entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingEntry {
    /// Who holds it; nobody while it waits.
    pub consumer: ConsumerNumber,
    /// Times delivered.
    pub deliveries: u32,
    /// Times that a delivery failed.
    pub failures: u32,
    /// Its size in bytes.
    pub size: u32,
    /// The pull or session that holds it. Of what was released: its place in the order of that; zero for what else waits.
    pub delivery: DeliveryNumber,
    /// Engine time of its last delivery; zero for what was released.
    pub delivered_ms: u64,
    /// Held: end of the lease, zero if by hand. Waiting: when it may be delivered again.
    pub due_ms: u64,
}

impl PendingEntry {
    /// Whether it was released: it waits for whoever takes it over.
    pub fn is_released(&self) -> bool {
        self.consumer == ConsumerNumber::NOBODY && self.delivery != DeliveryNumber(0)
    }
    fn is_aged(&self) -> bool {
        self.consumer != ConsumerNumber::NOBODY || self.is_released()
    }
}

/// An entry with what a delivery needs to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deliverable {
    /// Its id.
    pub id: EntryId,
    /// Its size in bytes.
    pub size: u32,
    /// Hash of its key; zero for none, or where keys do not matter.
    pub key: u64,
}

#[derive(Clone, Debug, Default)]
struct KeyQueue {
    held: u32,
    waiting: BTreeMap<EntryId, u64>,
}

/// Place of an entry by age: whether it is held, when it was delivered, the number of the delivery or of the release, id.
type Age = (bool, u64, u64, EntryId);

fn age_of(id: EntryId, entry: &PendingEntry) -> Age {
    (!entry.is_released(), entry.delivered_ms, entry.delivery.0, id)
}

/// The pending entries of one group.
#[derive(Clone, Debug, Default)]
pub struct PendingSet {
    entries: PendingStore,
    /// Waiting entries without a key, by the time from which they may be delivered.
    waiting: BTreeSet<(u64, EntryId)>,
    keys: HashMap<u64, KeyQueue>,
    /// For each key that nobody holds: its smallest waiting id, by when that is due.
    ready_keys: BTreeSet<(u64, EntryId, u64)>,
    /// Failed too often or given up: they wait to be dead-lettered, with the reason where a consumer gave one.
    exhausted: BTreeMap<EntryId, Option<Arc<str>>>,
    held: u64,
    released: u64,
    /// What is held or was released, by age: what was released first of all. Unset until somebody asks for it.
    by_age: Option<BTreeSet<Age>>,
}

/// The pending entries of one group as they were at one moment, without a copy of those that did not change since.
pub(super) struct FrozenPending {
    entries: FrozenStore,
    exhausted: BTreeMap<EntryId, Option<Arc<str>>>,
}

impl FrozenPending {
    /// The entries as rows, in id order.
    pub(super) fn rows(&self) -> impl Iterator<Item = PendingRow> {
        self.entries.iter().map(|(id, entry, key)| PendingRow {
            id,
            consumer: entry.consumer,
            deliveries: entry.deliveries,
            failures: entry.failures,
            size: entry.size,
            delivery: entry.delivery,
            delivered_ms: entry.delivered_ms,
            due_ms: entry.due_ms,
            key,
            exhausted: self.exhausted.get(&id).map(|reason| reason.as_ref().map(|text| text.to_string())),
        })
    }
}

impl PendingSet {
    /// How many entries are pending.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
    /// Whether nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.entries.len() == 0
    }
    /// How many of them nobody holds.
    pub fn waiting(&self) -> u64 {
        self.entries.len() as u64 - self.held
    }
    /// How many of these were released.
    pub fn released(&self) -> u64 {
        self.released
    }
    /// Has what is held or was released kept in the order of its age from now on.
    pub fn order_by_age(&mut self) {
        if self.by_age.is_none() {
            let aged = self.entries.range(IdRange::ALL).filter(|(_, entry)| entry.is_aged());
            self.by_age = Some(aged.map(|(id, entry)| age_of(id, &entry)).collect());
        }
    }
    /// What is held or was released: what was released in the order of that, then the rest in the order of deliveries.
    /// Nothing before [`PendingSet::order_by_age`]; what is gone from the stream may be left out.
    pub fn oldest(&self) -> impl Iterator<Item = (EntryId, PendingEntry)> {
        let ids = self.by_age.iter().flatten().map(|(.., id)| *id);
        ids.filter_map(|id| self.entries.get(id).map(|entry| (id, entry)))
    }
    /// Leaves the oldest out of that order as long as they are gone from the stream, for they do not come back.
    pub fn forget_age_of_gone(&mut self, exists: &dyn Fn(EntryId) -> bool) {
        let Some(by_age) = &mut self.by_age else { return };
        while by_age.first().is_some_and(|(.., id)| !exists(*id)) {
            by_age.pop_first();
        }
    }
    /// Whether the entry waits to be dead-lettered.
    pub fn is_exhausted(&self, id: EntryId) -> bool {
        self.exhausted.contains_key(&id)
    }
    /// The entry of that id.
    pub fn get(&self, id: EntryId) -> Option<PendingEntry> {
        self.entries.get(id)
    }
    /// Whether the entry is pending; quick for ids above all that are.
    pub fn is_pending(&self, id: EntryId) -> bool {
        self.entries.last().is_some_and(|last| last >= id) && self.entries.get(id).is_some()
    }
    /// The entries of a range, in id order.
    pub fn range(&self, range: IdRange) -> impl DoubleEndedIterator<Item = (EntryId, PendingEntry)> {
        self.entries.range(range)
    }
    /// The smallest pending id.
    pub fn first(&self) -> Option<EntryId> {
        self.entries.first()
    }
    /// The greatest pending id.
    pub fn last(&self) -> Option<EntryId> {
        self.entries.last()
    }
    /// Entries that wait to be dead-lettered, with the consumer's reason.
    pub fn exhausted(&self) -> impl Iterator<Item = (EntryId, Option<&Arc<str>>)> {
        self.exhausted.iter().map(|(id, reason)| (*id, reason.as_ref()))
    }
    /// Whether an entry of that key is held, or waits.
    pub fn is_key_busy(&self, key: u64) -> bool {
        key != 0 && self.keys.contains_key(&key)
    }
    /// Hash of the key of a pending entry; zero for none.
    pub fn key_of(&self, id: EntryId) -> u64 {
        self.entries.key_of(id)
    }

    /// When something falls due next: a lease ends, or a waiting entry may be delivered.
    pub fn next_lease_end(&self) -> Option<u64> {
        self.entries.next_lease_end()
    }
    /// The earliest time at which a waiting entry may be delivered.
    pub fn next_ready(&self) -> Option<u64> {
        let plain = self.waiting.first().map(|(due, _)| *due);
        let keyed = self.ready_keys.first().map(|(due, ..)| *due);
        plain.into_iter().chain(keyed).min()
    }

    /// Waiting entries that may be delivered now, up to a count: in id order, and of one key in its order.
    pub fn ready(&self, now_ms: u64, max: usize) -> Vec<Deliverable> {
        let mut out: Vec<Deliverable> = Vec::new();
        let plain = self.waiting.iter().take_while(|(due, _)| *due <= now_ms).take(max);
        out.extend(plain.map(|(_, id)| self.deliverable(*id, 0)));
        for (_, _, key) in self.ready_keys.iter().take_while(|(due, ..)| *due <= now_ms) {
            if out.len() >= max {
                break;
            }
            let queue = self.keys[key].waiting.iter().take_while(|(_, due)| **due <= now_ms);
            out.extend(queue.take(max - out.len()).map(|(id, _)| self.deliverable(*id, *key)));
        }
        out.sort_by_key(|d| d.id);
        out
    }

    fn deliverable(&self, id: EntryId, key: u64) -> Deliverable {
        Deliverable { id, size: self.entries.get(id).map_or(0, |e| e.size), key }
    }

    /// Takes the ids whose leases have ended, up to about a count. The caller returns every one of them.
    pub fn take_expired(&mut self, now_ms: u64, max: usize) -> Vec<EntryId> {
        self.entries.take_expired(now_ms, max)
    }

    /// An entry is handed to a consumer, for the first time or again.
    pub fn hold(
        &mut self,
        what: Deliverable,
        consumer: ConsumerNumber,
        delivery: DeliveryNumber,
        at_ms: u64,
        deadline_ms: u64,
    ) {
        let before = self.leave_place(what.id);
        let (deliveries, failures) = before.map_or((0, 0), |e| (e.deliveries, e.failures));
        let entry = PendingEntry {
            consumer,
            deliveries: deliveries.saturating_add(1),
            failures,
            size: what.size,
            delivery,
            delivered_ms: at_ms,
            due_ms: deadline_ms,
        };
        self.entries.insert(what.id, &entry, what.key);
        self.held += 1;
        self.enter_age(what.id, &entry);
        if what.key != 0 {
            self.leave_ready(what.key);
            self.keys.entry(what.key).or_default().held += 1;
        }
    }

    /// Nobody holds an entry any more, which waits for whoever takes it over, behind what was released before; one that
    /// was not pending is from now on. Answers who held it.
    pub fn release(
        &mut self,
        what: Deliverable,
        order: DeliveryNumber,
        deliveries: u32,
        due_ms: u64,
    ) -> Option<ConsumerNumber> {
        let before = self.leave_place(what.id);
        let entry = PendingEntry {
            consumer: ConsumerNumber::NOBODY,
            deliveries,
            failures: before.map_or(0, |e| e.failures),
            size: what.size,
            delivery: order,
            delivered_ms: 0,
            due_ms,
        };
        self.entries.insert(what.id, &entry, what.key);
        self.released += 1;
        self.enter_age(what.id, &entry);
        self.enqueue(what.id, due_ms);
        before.map(|e| e.consumer)
    }

    fn enter_age(&mut self, id: EntryId, entry: &PendingEntry) {
        if let Some(by_age) = &mut self.by_age {
            by_age.insert(age_of(id, entry));
        }
    }

    /// An entry was delivered so often.
    pub fn count_deliveries(&mut self, id: EntryId, deliveries: u32) {
        self.entries.update(id, |entry| entry.deliveries = deliveries);
    }

    /// Has the leases of these entries looked at again at that time: what was taken as expired was not returned.
    pub fn look_again(&mut self, ids: &[EntryId], at_ms: u64) {
        self.entries.look_again(ids, at_ms);
    }

    /// An entry waits without having been delivered (behind its key), or once more after a redrive.
    pub fn park(&mut self, what: Deliverable, at_ms: u64) {
        if self.entries.get(what.id).is_some() {
            return;
        }
        let entry = PendingEntry {
            consumer: ConsumerNumber::NOBODY,
            deliveries: 0,
            failures: 0,
            size: what.size,
            delivery: DeliveryNumber(0),
            delivered_ms: at_ms,
            due_ms: at_ms,
        };
        self.entries.insert(what.id, &entry, what.key);
        self.enqueue(what.id, at_ms);
    }

    /// An entry goes back to the group; with `failed` it counts one failure more. Answers who held it.
    pub fn give_back(&mut self, id: EntryId, due_ms: u64, failed: bool) -> Option<ConsumerNumber> {
        let holder = self.leave_place(id)?.consumer;
        self.entries.update(id, |entry| {
            entry.consumer = ConsumerNumber::NOBODY;
            entry.delivery = DeliveryNumber(0);
            entry.due_ms = due_ms;
            entry.failures = entry.failures.saturating_add(u32::from(failed));
        });
        self.enqueue(id, due_ms);
        Some(holder)
    }

    /// A waiting entry is exhausted: it will not be delivered again, and keeps its key blocked until it is settled.
    pub fn exhaust(&mut self, id: EntryId, reason: Option<Arc<str>>) {
        self.dequeue(id);
        self.entries.update(id, |entry| entry.due_ms = u64::MAX);
        let key = self.key_of(id);
        if key != 0 {
            self.enqueue(id, u64::MAX);
        }
        self.exhausted.insert(id, reason);
    }

    /// Takes back what `exhaust` did: the entry may be delivered again.
    pub fn unexhaust(&mut self, id: EntryId, due_ms: u64) {
        if self.exhausted.remove(&id).is_some() {
            self.dequeue(id);
            self.entries.update(id, |entry| entry.due_ms = due_ms);
            self.enqueue(id, due_ms);
        }
    }

    /// The lease of a held entry ends at another time.
    pub fn extend(&mut self, id: EntryId, deadline_ms: u64) {
        self.entries.update(id, |entry| {
            if entry.consumer != ConsumerNumber::NOBODY {
                entry.due_ms = deadline_ms;
            }
        });
    }

    /// The entry is no longer pending.
    pub fn remove(&mut self, id: EntryId) -> Option<PendingEntry> {
        let entry = self.leave_place(id)?;
        self.entries.remove(id);
        Some(entry)
    }

    /// The entry is pending as it was before; answers who held it meanwhile.
    pub fn put_back(&mut self, before: &PendingBefore) -> Option<ConsumerNumber> {
        let meanwhile = self.leave_place(before.id).map(|entry| entry.consumer);
        let PendingBefore { id, consumer, deliveries, failures, size, delivery, delivered_ms, due_ms, key } = *before;
        let entry = PendingEntry { consumer, deliveries, failures, size, delivery, delivered_ms, due_ms };
        if entry.is_aged() {
            self.enter_age(id, &entry);
        }
        let exhausted = None;
        self.restore_one(PendingRow {
            id,
            consumer,
            deliveries,
            failures,
            size,
            delivery,
            delivered_ms,
            due_ms,
            key,
            exhausted,
        });
        meanwhile
    }

    /// The entries as they are now.
    pub(super) fn freeze(&self) -> FrozenPending {
        FrozenPending { entries: self.entries.freeze(), exhausted: self.exhausted.clone() }
    }

    /// Takes rows back, in id order.
    pub(super) fn restore(&mut self, rows: Vec<PendingRow>) {
        for row in rows {
            self.restore_one(row);
        }
    }

    fn restore_one(&mut self, row: PendingRow) {
        let held = row.consumer != ConsumerNumber::NOBODY;
        let entry = PendingEntry {
            consumer: row.consumer,
            deliveries: row.deliveries,
            failures: row.failures,
            size: row.size,
            delivery: row.delivery,
            delivered_ms: row.delivered_ms,
            due_ms: row.due_ms,
        };
        self.entries.insert(row.id, &entry, row.key);
        self.released += u64::from(entry.is_released());
        if held {
            self.held += 1;
            if row.key != 0 {
                self.leave_ready(row.key);
                self.keys.entry(row.key).or_default().held += 1;
            }
        } else if row.exhausted.is_none() || row.key != 0 {
            // What is exhausted waits in no queue but that of its key, which it keeps blocked.
            self.enqueue(row.id, row.due_ms);
        }
        if let Some(reason) = row.exhausted {
            self.exhausted.insert(row.id, reason.map(Into::into));
        }
    }

    /// Takes the entry out of whatever place it is in (G1), before it changes or goes.
    fn leave_place(&mut self, id: EntryId) -> Option<PendingEntry> {
        let entry = self.entries.get(id)?;
        if let Some(by_age) = &mut self.by_age {
            by_age.remove(&age_of(id, &entry));
        }
        self.released -= u64::from(entry.is_released());
        if entry.consumer == ConsumerNumber::NOBODY {
            self.exhausted.remove(&id);
            self.dequeue_due(id, entry.due_ms);
        } else {
            self.held -= 1;
            let key = self.key_of(id);
            if let Some(queue) = self.keys.get_mut(&key) {
                queue.held -= 1;
                self.settle_key(key);
            }
        }
        Some(entry)
    }

    fn enqueue(&mut self, id: EntryId, due_ms: u64) {
        let key = self.key_of(id);
        if key == 0 {
            self.waiting.insert((due_ms, id));
            return;
        }
        self.leave_ready(key);
        self.keys.entry(key).or_default().waiting.insert(id, due_ms);
        self.settle_key(key);
    }

    fn dequeue(&mut self, id: EntryId) {
        if let Some(due_ms) = self.entries.get(id).map(|e| e.due_ms) {
            self.dequeue_due(id, due_ms);
        }
    }

    fn dequeue_due(&mut self, id: EntryId, due_ms: u64) {
        let key = self.key_of(id);
        if key == 0 {
            self.waiting.remove(&(due_ms, id));
            return;
        }
        self.leave_ready(key);
        if let Some(queue) = self.keys.get_mut(&key) {
            queue.waiting.remove(&id);
        }
        self.settle_key(key);
    }

    /// Takes a key off the ready list, before its queue changes.
    fn leave_ready(&mut self, key: u64) {
        if let Some((first, due)) = self.keys.get(&key).and_then(|q| q.waiting.first_key_value()) {
            self.ready_keys.remove(&(*due, *first, key));
        }
    }

    /// Puts a key on the ready list, or forgets it, after its queue changed (G2, G3).
    fn settle_key(&mut self, key: u64) {
        let Some(queue) = self.keys.get(&key) else { return };
        match (queue.held, queue.waiting.first_key_value()) {
            (0, Some((first, due))) => {
                self.ready_keys.insert((*due, *first, key));
            }
            (0, None) => {
                self.keys.remove(&key);
            }
            _ => {}
        }
    }

    /// Whether the indexes agree with the entries; for tests.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let held = self.entries.iter().filter(|(_, e, _)| e.consumer != ConsumerNumber::NOBODY).count() as u64;
        assert_eq!(held, self.held, "G1: held");
        let released = self.entries.iter().filter(|(_, e, _)| e.is_released()).count() as u64;
        assert_eq!(released, self.released, "released");
        if let Some(by_age) = &self.by_age {
            let aged = self.entries.iter().filter(|(_, e, _)| e.is_aged());
            let aged: BTreeSet<Age> = aged.map(|(id, e, _)| age_of(id, &e)).collect();
            assert!(by_age.is_subset(&aged), "by age");
        }
        let queued: usize = self.waiting.len() + self.keys.values().map(|q| q.waiting.len()).sum::<usize>();
        let exhausted_plain = self.exhausted.keys().filter(|id| self.key_of(**id) == 0).count();
        assert_eq!(queued + exhausted_plain + held as usize, self.entries.len(), "G1: one place each");
        for (key, queue) in &self.keys {
            let held =
                self.entries.iter().filter(|(_, e, of)| e.consumer != ConsumerNumber::NOBODY && of == key).count();
            assert_eq!(held as u32, queue.held, "G3");
            let ready = self.ready_keys.iter().filter(|(_, _, k)| k == key).count();
            assert_eq!(ready, usize::from(queue.held == 0 && !queue.waiting.is_empty()), "G2");
        }
        assert!(self.ready_keys.iter().all(|(_, _, key)| self.keys.contains_key(key)), "G2: no stale key");
    }
}
