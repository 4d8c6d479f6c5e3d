//! Pending entries by id, in about 60 bytes each: packed, in chunks, each of which knows when to look for ended leases.
//!
//! A chunk's time is a lower bound of the ends of the leases in it; looking makes it exact. Chunks do not overlap, and
//! each is found by an id that is not above its first one. A frozen copy shares them until they change.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use super::PendingEntry;
use crate::types::{ConsumerNumber, DeliveryNumber, EntryId, IdRange};

/// Entries of one chunk at most.
const CHUNK: usize = 128;

/// Pending entries with their keys.
#[derive(Clone, Debug, Default)]
pub(super) struct PendingStore {
    chunks: BTreeMap<EntryId, Arc<Chunk>>,
    /// When to look into which chunk.
    leases: BTreeSet<(u64, EntryId)>,
    len: usize,
}

/// The entries as they were at one moment.
pub(super) struct FrozenStore(Vec<Arc<Chunk>>);

impl FrozenStore {
    pub(super) fn iter(&self) -> impl Iterator<Item = (EntryId, PendingEntry, u64)> {
        self.0.iter().flat_map(|chunk| &chunk.entries).map(|p| (p.id(), p.entry(), p.key()))
    }
}

#[derive(Clone, Debug, Default)]
struct Chunk {
    entries: VecDeque<Packed>,
    /// No lease in it ends before; `u64::MAX` where there is none.
    lease_ms: u64,
}

/// An entry with its id and its key, in words so that nothing is lost to alignment.
#[derive(Clone, Copy, Debug)]
struct Packed([u32; 15]);

/// Times are kept in 48 bits, of which the greatest stands for never.
const MS_BITS: u64 = (1 << 48) - 1;

fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

fn whole(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

fn packed_ms(ms: u64) -> u64 {
    if ms == u64::MAX { MS_BITS } else { ms.min(MS_BITS - 1) }
}

fn unpacked_ms(ms: u64) -> u64 {
    if ms == MS_BITS { u64::MAX } else { ms }
}

impl Packed {
    fn new(id: EntryId, entry: &PendingEntry, key: u64) -> Self {
        let ([ms, ms_high], [seq, seq_high], [key, key_high]) = (halves(id.ms), halves(id.seq), halves(key));
        let [delivery, delivery_high] = halves(entry.delivery.0);
        let ([delivered, delivered_high], [due, due_high]) =
            (halves(packed_ms(entry.delivered_ms)), halves(packed_ms(entry.due_ms)));
        let high = delivered_high | due_high << 16;
        let PendingEntry { consumer, deliveries, failures, size, .. } = *entry;
        Self([
            ms,
            ms_high,
            seq,
            seq_high,
            key,
            key_high,
            delivery,
            delivery_high,
            consumer.0,
            deliveries,
            failures,
            size,
            delivered,
            due,
            high,
        ])
    }

    fn id(&self) -> EntryId {
        EntryId::new(whole(self.0[0], self.0[1]), whole(self.0[2], self.0[3]))
    }

    fn key(&self) -> u64 {
        whole(self.0[4], self.0[5])
    }

    fn entry(&self) -> PendingEntry {
        let word = &self.0;
        PendingEntry {
            consumer: ConsumerNumber(word[8]),
            deliveries: word[9],
            failures: word[10],
            size: word[11],
            delivery: DeliveryNumber(whole(word[6], word[7])),
            delivered_ms: unpacked_ms(whole(word[12], word[14] & 0xffff)),
            due_ms: unpacked_ms(whole(word[13], word[14] >> 16)),
        }
    }

    /// When its lease ends; `u64::MAX` where it has none.
    fn lease_ms(&self) -> u64 {
        let entry = self.entry();
        let leased = entry.consumer != ConsumerNumber::NOBODY && entry.due_ms != 0;
        if leased { entry.due_ms } else { u64::MAX }
    }
}

impl Chunk {
    fn of(entries: VecDeque<Packed>) -> Self {
        let lease_ms = entries.iter().map(Packed::lease_ms).min().unwrap_or(u64::MAX);
        Self { entries, lease_ms }
    }

    fn place(&self, id: EntryId) -> Result<usize, usize> {
        // Mostly one of the ends: what is new comes last, what is settled was first.
        match (self.entries.front(), self.entries.back()) {
            (Some(first), _) if first.id() == id => Ok(0),
            (_, Some(last)) if last.id() < id => Err(self.entries.len()),
            _ => self.entries.binary_search_by_key(&id, Packed::id),
        }
    }
}

impl PendingStore {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn first(&self) -> Option<EntryId> {
        self.chunks.first_key_value().and_then(|(_, chunk)| chunk.entries.front()).map(Packed::id)
    }

    pub(super) fn last(&self) -> Option<EntryId> {
        self.chunks.last_key_value().and_then(|(_, chunk)| chunk.entries.back()).map(Packed::id)
    }

    /// Where the chunk is found in which an id stands, if it stands anywhere.
    fn chunk_of(&self, id: EntryId) -> Option<EntryId> {
        self.chunks.range(..=id).next_back().map(|(at, _)| *at)
    }

    fn find(&self, id: EntryId) -> Option<&Packed> {
        let (_, chunk) = self.chunks.range(..=id).next_back()?;
        chunk.place(id).ok().map(|at| &chunk.entries[at])
    }

    pub(super) fn get(&self, id: EntryId) -> Option<PendingEntry> {
        self.find(id).map(Packed::entry)
    }

    /// Hash of an entry's key; zero for none, and where there is no such entry.
    pub(super) fn key_of(&self, id: EntryId) -> u64 {
        self.find(id).map_or(0, Packed::key)
    }

    /// The entries as they are now.
    pub(super) fn freeze(&self) -> FrozenStore {
        FrozenStore(self.chunks.values().map(Arc::clone).collect())
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (EntryId, PendingEntry, u64)> {
        self.chunks.values().flat_map(|chunk| &chunk.entries).map(|p| (p.id(), p.entry(), p.key()))
    }

    fn chunk_mut(&mut self, at: EntryId) -> Option<&mut Chunk> {
        self.chunks.get_mut(&at).map(Arc::make_mut)
    }

    /// The entries of a range, in id order.
    pub(super) fn range(&self, range: IdRange) -> impl DoubleEndedIterator<Item = (EntryId, PendingEntry)> {
        let from = self.chunk_of(range.first).unwrap_or(range.first);
        let chunks = self.chunks.range(from..=range.last.max(from));
        chunks.flat_map(move |(_, chunk)| {
            let start = chunk.entries.partition_point(|p| p.id() < range.first);
            let end = chunk.entries.partition_point(|p| p.id() <= range.last).max(start);
            chunk.entries.range(start..end).map(|p| (p.id(), p.entry()))
        })
    }

    /// Adds an entry, or replaces the one of that id.
    pub(super) fn insert(&mut self, id: EntryId, entry: &PendingEntry, key: u64) {
        let packed = Packed::new(id, entry, key);
        let at = self.chunk_to_insert(id);
        let Some(chunk) = self.chunk_mut(at) else { return };
        match chunk.place(id) {
            Ok(place) => chunk.entries[place] = packed,
            Err(place) => {
                chunk.entries.insert(place, packed);
                self.len += 1;
            }
        }
        self.look_at(at, packed.lease_ms());
    }

    /// Where the chunk is found that has room for this id, which may have to be made.
    fn chunk_to_insert(&mut self, id: EntryId) -> EntryId {
        let Some(at) = self.chunk_of(id) else { return self.widen_first(id) };
        let chunk = &self.chunks[&at];
        if chunk.entries.len() < CHUNK {
            return at;
        }
        match chunk.place(id) {
            Ok(_) => at,
            Err(place) if place == CHUNK => self.add_chunk(id, VecDeque::new()),
            Err(place) => {
                let mut entries = self.take_chunk(at);
                let upper = entries.split_off(CHUNK / 2);
                let middle = upper[0].id();
                self.add_chunk(at, entries);
                self.add_chunk(middle, upper);
                if place > CHUNK / 2 { middle } else { at }
            }
        }
    }

    /// Makes the first chunk one that is found by a lower id, or puts one before it.
    fn widen_first(&mut self, id: EntryId) -> EntryId {
        let first = self.chunks.first_key_value().filter(|(_, chunk)| chunk.entries.len() < CHUNK);
        let entries = first.map(|(at, _)| *at).map(|at| self.take_chunk(at)).unwrap_or_default();
        self.add_chunk(id, entries)
    }

    fn add_chunk(&mut self, at: EntryId, entries: VecDeque<Packed>) -> EntryId {
        let chunk = Chunk::of(entries);
        if chunk.lease_ms != u64::MAX {
            self.leases.insert((chunk.lease_ms, at));
        }
        self.chunks.insert(at, Arc::new(chunk));
        at
    }

    fn take_chunk(&mut self, at: EntryId) -> VecDeque<Packed> {
        let chunk = self.chunks.remove(&at).unwrap_or_default();
        self.leases.remove(&(chunk.lease_ms, at));
        Arc::unwrap_or_clone(chunk).entries
    }

    /// Changes an entry; says whether it is there.
    pub(super) fn update(&mut self, id: EntryId, change: impl FnOnce(&mut PendingEntry)) -> bool {
        let Some(at) = self.chunk_of(id) else { return false };
        let Some(chunk) = self.chunk_mut(at) else { return false };
        let Ok(place) = chunk.place(id) else { return false };
        let packed = &mut chunk.entries[place];
        let mut entry = packed.entry();
        change(&mut entry);
        *packed = Packed::new(id, &entry, packed.key());
        let lease_ms = packed.lease_ms();
        self.look_at(at, lease_ms);
        true
    }

    /// Takes an entry out, with its key.
    pub(super) fn remove(&mut self, id: EntryId) -> Option<(PendingEntry, u64)> {
        let at = self.chunk_of(id)?;
        let chunk = self.chunk_mut(at)?;
        let packed = chunk.place(id).ok().and_then(|place| chunk.entries.remove(place))?;
        let left = chunk.entries.len();
        if left * 2 < chunk.entries.capacity() {
            chunk.entries.shrink_to(left + left / 4);
        }
        self.len -= 1;
        if left == 0 {
            self.take_chunk(at);
        } else if left <= CHUNK / 4 && left.is_power_of_two() {
            self.merge(at);
        }
        Some((packed.entry(), packed.key()))
    }

    /// Makes one of a small chunk and a small one after it.
    fn merge(&mut self, at: EntryId) {
        let next = self.chunks.range((Bound::Excluded(at), Bound::Unbounded)).next();
        let next = next.map(|(next, chunk)| (*next, chunk.entries.len()));
        let mut entries = self.take_chunk(at);
        if let Some((next, _)) = next.filter(|(_, len)| len + entries.len() <= CHUNK / 2) {
            entries.append(&mut self.take_chunk(next));
        }
        entries.shrink_to_fit();
        self.add_chunk(at, entries);
    }

    /// Has a chunk looked into at this time, or earlier.
    fn look_at(&mut self, at: EntryId, lease_ms: u64) {
        let Some(chunk) = self.chunks.get_mut(&at).filter(|chunk| lease_ms < chunk.lease_ms) else { return };
        self.leases.remove(&(chunk.lease_ms, at));
        Arc::make_mut(chunk).lease_ms = lease_ms;
        self.leases.insert((lease_ms, at));
    }

    /// Has these entries looked at again at this time.
    pub(super) fn look_again(&mut self, ids: &[EntryId], at_ms: u64) {
        for id in ids {
            if let Some(at) = self.chunk_of(*id) {
                self.look_at(at, at_ms);
            }
        }
    }

    /// When a lease may end next: none does before.
    pub(super) fn next_lease_end(&self) -> Option<u64> {
        self.leases.first().map(|(lease_ms, _)| *lease_ms)
    }

    /// The entries whose leases have ended, up to about a count. They are not told of again unless they change.
    pub(super) fn take_expired(&mut self, now_ms: u64, max: usize) -> Vec<EntryId> {
        let mut out = Vec::new();
        while out.len() < max {
            let Some((_, at)) = self.leases.first().copied().filter(|(lease_ms, _)| *lease_ms <= now_ms) else { break };
            self.leases.pop_first();
            let Some(chunk) = self.chunks.get_mut(&at).map(Arc::make_mut) else { continue };
            chunk.lease_ms = u64::MAX;
            for packed in &chunk.entries {
                match packed.lease_ms() {
                    ended if ended <= now_ms => out.push(packed.id()),
                    later => chunk.lease_ms = chunk.lease_ms.min(later),
                }
            }
            if chunk.lease_ms != u64::MAX {
                self.leases.insert((chunk.lease_ms, at));
            }
        }
        out.sort_unstable();
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(consumer: u32, due_ms: u64) -> PendingEntry {
        PendingEntry {
            consumer: ConsumerNumber(consumer),
            deliveries: 3,
            failures: u32::MAX,
            size: 5,
            delivery: DeliveryNumber(u64::MAX - 1),
            delivered_ms: (1 << 47) + 7,
            due_ms,
        }
    }

    #[test]
    fn an_entry_is_packed_without_loss() {
        assert_eq!(size_of::<Packed>(), 60);
        for (due_ms, key) in [(0, 0), (1 << 40, u64::MAX), (u64::MAX, 1 << 33)] {
            let (id, entry) = (EntryId::new(u64::MAX, 1 << 63), entry(u32::MAX, due_ms));
            let packed = Packed::new(id, &entry, key);
            assert_eq!((packed.id(), packed.entry(), packed.key()), (id, entry, key));
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64, u32, u64),
        Remove(u64),
        Due(u64, u64),
        Expire(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let id = 0..600u64;
        prop_oneof![
            4 => (id.clone(), 0..2u32, 0..50u64).prop_map(|(id, consumer, due)| Step::Insert(id, consumer, due)),
            3 => id.clone().prop_map(Step::Remove),
            1 => (id, 0..50u64).prop_map(|(id, due)| Step::Due(id, due)),
            1 => (1..50u64).prop_map(Step::Expire),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_is_a_map_that_knows_which_leases_ended(
            filled in 0..600u64, steps in prop::collection::vec(step(), 0..1500), first in 0..600u64, count in 0..600u64,
        ) {
            let (mut store, mut map) = (PendingStore::default(), BTreeMap::new());
            let fill = (0..filled).map(|id| Step::Insert(id, 1, 20));
            for step in fill.chain(steps) {
                match step {
                    Step::Insert(id, consumer, due) => {
                        store.insert(EntryId::new(id, 0), &entry(consumer, due), id);
                        map.insert(EntryId::new(id, 0), entry(consumer, due));
                    }
                    Step::Remove(id) => {
                        let id = EntryId::new(id, 0);
                        prop_assert_eq!(store.remove(id), map.remove(&id).map(|e| (e, id.ms)));
                    }
                    Step::Due(id, due) => {
                        let changed = map.get_mut(&EntryId::new(id, 0)).map(|e| e.due_ms = due).is_some();
                        prop_assert_eq!(store.update(EntryId::new(id, 0), |e| e.due_ms = due), changed);
                    }
                    Step::Expire(now) => {
                        let leased = |e: &PendingEntry| e.consumer.0 != 0 && e.due_ms != 0;
                        let ended = map.iter().filter(|(_, e)| leased(e) && e.due_ms <= now).map(|(id, _)| *id);
                        let ended: Vec<EntryId> = ended.collect();
                        prop_assert_eq!(store.take_expired(now, usize::MAX), ended.clone());
                        for id in ended {
                            store.update(id, |e| e.due_ms = 0);
                            map.entry(id).and_modify(|e| e.due_ms = 0);
                        }
                        let next = map.values().filter(|e| leased(e)).map(|e| e.due_ms).min();
                        prop_assert!(store.next_lease_end() <= next || next.is_none());
                    }
                }
            }
            prop_assert_eq!(store.len(), map.len());
            prop_assert_eq!(store.first(), map.keys().next().copied());
            prop_assert_eq!(store.last(), map.keys().next_back().copied());
            prop_assert!(store.iter().eq(map.iter().map(|(id, e)| (*id, *e, id.ms))));
            let range = IdRange { first: EntryId::new(first, 0), last: EntryId::new(first + count, 0) };
            let expected: Vec<_> = map.range(range.first..=range.last).map(|(id, e)| (*id, *e)).collect();
            prop_assert_eq!(store.range(range).collect::<Vec<_>>(), expected.clone());
            prop_assert!(store.range(range).rev().eq(expected.into_iter().rev()));
            prop_assert_eq!(store.get(range.first), map.get(&range.first).copied());
        }
    }
}
