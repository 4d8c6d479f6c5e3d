//! What a stream remembers of requests that are to be appended once, by the names that their producers give them.
//!
//! Bounded by age, for each producer by count, and by count in all: the oldest goes first. Age is told by the ids of
//! entries, so that what is remembered follows from what was appended.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::format::record::{OnceConfigured, OnceRemembered};
use crate::limits::ONCE_NAMES_MAX;
use crate::types::EntryId;

/// How long, and how much, a stream remembers of requests that are to be appended once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnceSettings {
    /// Seconds that a name is remembered.
    pub window_s: u32,
    /// Names of one producer at most.
    pub names_max: u32,
}

impl Default for OnceSettings {
    fn default() -> Self {
        Self { window_s: 100, names_max: 100 }
    }
}

/// What a stream remembers, and has counted since the program started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnceInfo {
    /// How long and how much it remembers.
    pub settings: OnceSettings,
    /// Producers of which it remembers a request.
    pub producers: u64,
    /// Requests that it remembers.
    pub names: u64,
    /// Requests that were appended.
    pub added: u64,
    /// Requests that were not, since they had been before.
    pub duplicates: u64,
}

/// A producer's name, and its name for a request.
type Names = (Vec<u8>, Vec<u8>);

/// The memory of one stream.
#[derive(Clone, Debug, Default)]
pub struct Once {
    settings: OnceSettings,
    producers: HashMap<Vec<u8>, Producer>,
    /// By the entry that came of it: oldest first.
    by_entry: BTreeMap<EntryId, Names>,
    /// Requests since the program started: nothing of a duplicate is written down.
    added: u64,
    duplicates: u64,
}

#[derive(Clone, Debug, Default)]
struct Producer {
    names: HashMap<Vec<u8>, EntryId>,
    /// Oldest first.
    entries: VecDeque<EntryId>,
}

impl Once {
    /// How long and how much is remembered.
    pub fn settings(&self) -> OnceSettings {
        self.settings
    }

    /// The entry that a request of this name became, where that is remembered still.
    pub fn find(&self, producer: &[u8], name: &[u8], now_ms: u64) -> Option<EntryId> {
        let entry = *self.producers.get(producer)?.names.get(name)?;
        (now_ms.saturating_sub(entry.ms) <= self.window_ms()).then_some(entry)
    }

    /// What is remembered at this time, and was counted; `None` where there never was such a request, as far as is known,
    /// nor other settings.
    pub fn info(&self, now_ms: u64) -> Option<OnceInfo> {
        let is_unused = self.by_entry.is_empty() && self.settings == OnceSettings::default();
        if is_unused && self.added == 0 && self.duplicates == 0 {
            return None;
        }
        let oldest = EntryId::new(now_ms.saturating_sub(self.window_ms()), 0);
        let is_known = |of: &&Producer| of.entries.back().is_some_and(|last| *last >= oldest);
        Some(OnceInfo {
            settings: self.settings,
            producers: self.producers.values().filter(is_known).count() as u64,
            names: self.by_entry.range(oldest..).count() as u64,
            added: self.added,
            duplicates: self.duplicates,
        })
    }

    /// Counts a request that was appended.
    pub fn count_added(&mut self) {
        self.added += 1;
    }

    /// Counts a request that had been appended before.
    pub fn count_duplicate(&mut self) {
        self.duplicates += 1;
    }

    /// Remembers a request.
    pub fn remember(&mut self, record: &OnceRemembered) {
        self.put(record.producer.clone(), record.name.clone(), record.entry);
        let names_max = self.settings.names_max as usize;
        while let Some(producer) = self.producers.get(&record.producer).filter(|p| p.entries.len() > names_max) {
            let Some(oldest) = producer.entries.front().copied() else { break };
            self.forget(oldest);
        }
        while let Some((oldest, _)) = self.by_entry.first_key_value() {
            let is_old = record.entry.ms.saturating_sub(oldest.ms) > self.window_ms();
            if !is_old && self.by_entry.len() <= ONCE_NAMES_MAX {
                break;
            }
            self.forget(*oldest);
        }
    }

    /// Takes other settings, and forgets everything.
    pub fn configure(&mut self, record: &OnceConfigured) {
        let settings = OnceSettings { window_s: record.window_s, names_max: record.names_max };
        *self = Self { settings, added: self.added, duplicates: self.duplicates, ..Self::default() };
    }

    /// Takes settings back, as they were.
    pub(super) fn restore_settings(&mut self, (window_s, names_max): (u32, u32)) {
        self.settings = OnceSettings { window_s, names_max };
    }

    /// Takes back what was remembered.
    pub(super) fn restore(&mut self, (producer, name, entry): (Vec<u8>, Vec<u8>, EntryId)) {
        self.put(producer, name, entry);
    }

    /// What is remembered, oldest first.
    pub(super) fn rows(&self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>, EntryId)> {
        self.by_entry.iter().map(|(entry, (producer, name))| (producer.clone(), name.clone(), *entry))
    }

    fn window_ms(&self) -> u64 {
        u64::from(self.settings.window_s) * 1000
    }

    fn put(&mut self, producer: Vec<u8>, name: Vec<u8>, entry: EntryId) {
        let of = self.producers.entry(producer.clone()).or_default();
        // The name was remembered too long ago: it stands for the new entry from now on.
        let before = of.names.insert(name.clone(), entry);
        of.entries.push_back(entry);
        if let Some(before) = before {
            of.entries.retain(|known| *known != before);
            self.by_entry.remove(&before);
        }
        self.by_entry.insert(entry, (producer, name));
    }

    fn forget(&mut self, entry: EntryId) {
        let Some((producer, name)) = self.by_entry.remove(&entry) else { return };
        let Some(of) = self.producers.get_mut(&producer) else { return };
        of.names.remove(&name);
        // It is the first one: those of one producer are as old as their entries.
        if of.entries.front() == Some(&entry) {
            of.entries.pop_front();
        }
        if of.entries.is_empty() {
            self.producers.remove(&producer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::StreamNumber;

    fn remember(once: &mut Once, producer: &str, name: &str, ms: u64) {
        let (producer, name) = (producer.into(), name.into());
        let entry = EntryId::new(ms, 0);
        once.remember(&OnceRemembered { stream: StreamNumber(1), producer, name, entry });
        let count: usize = once.producers.values().map(|of| of.entries.len()).sum();
        let names: usize = once.producers.values().map(|of| of.names.len()).sum();
        assert_eq!((count, names), (once.by_entry.len(), once.by_entry.len()));
    }

    fn find(once: &Once, producer: &str, name: &str, now_ms: u64) -> Option<u64> {
        once.find(producer.as_bytes(), name.as_bytes(), now_ms).map(|entry| entry.ms)
    }

    #[test]
    fn names_are_remembered_for_a_while_and_up_to_a_number() {
        let mut once = Once::default();
        once.configure(&OnceConfigured { stream: StreamNumber(1), window_s: 10, names_max: 3 });
        remember(&mut once, "p", "a", 1_000);
        remember(&mut once, "q", "a", 2_000);
        assert_eq!((find(&once, "p", "a", 1_500), find(&once, "q", "a", 1_500)), (Some(1_000), Some(2_000)));
        assert_eq!((find(&once, "p", "a", 11_000), find(&once, "p", "a", 11_001)), (Some(1_000), None));
        assert_eq!((find(&once, "p", "b", 1_500), find(&once, "r", "a", 1_500)), (None, None));
        (0..3).for_each(|n| remember(&mut once, "p", &format!("n{n}"), 3_000 + n));
        assert_eq!((find(&once, "p", "a", 3_000), find(&once, "p", "n0", 3_000)), (None, Some(3_000)));
        assert_eq!(once.rows().count(), 4);
        remember(&mut once, "p", "n1", 13_001);
        assert_eq!(find(&once, "q", "a", 2_000), None, "forgotten by age");
        assert_eq!((find(&once, "p", "n1", 13_001), find(&once, "p", "n2", 13_001)), (Some(13_001), Some(3_002)));
        let mut copy = Once::default();
        copy.restore_settings((10, 3));
        once.rows().for_each(|row| copy.restore(row));
        assert!(copy.rows().eq(once.rows()) && copy.settings() == once.settings());
    }
}
