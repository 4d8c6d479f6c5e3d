//! The set of entries that were deleted singly and are not trimmed yet.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::types::{EntryId, IdRange};

/// Deleted ids with the bytes that each took.
#[derive(Clone, Debug, Default)]
pub struct DeletedIds(BTreeMap<EntryId, u32>);

impl DeletedIds {
    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// Whether there are none: the common case.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Whether this id was deleted.
    pub fn contains(&self, id: EntryId) -> bool {
        !self.0.is_empty() && self.0.contains_key(&id)
    }
    /// The ids in order, with their bytes.
    pub fn iter(&self) -> impl Iterator<Item = (EntryId, u32)> {
        self.0.iter().map(|(id, bytes)| (*id, *bytes))
    }
    /// Those of a range in order, with their bytes.
    pub fn range(&self, range: IdRange) -> impl Iterator<Item = (EntryId, u32)> {
        self.0.range(range.first..=range.last).map(|(id, bytes)| (*id, *bytes))
    }
    /// Adds an id; says whether it was new.
    pub fn insert(&mut self, id: EntryId, bytes: u32) -> bool {
        self.0.insert(id, bytes).is_none()
    }
    /// Adds ids that are new.
    pub(super) fn extend(&mut self, entries: Vec<(EntryId, u32)>) {
        self.0.extend(entries);
    }
    /// Drops what lies below a new trim point.
    pub fn forget_below(&mut self, before: EntryId) {
        if self.0.first_key_value().is_some_and(|(id, _)| *id < before) {
            self.0 = self.0.split_off(&before);
        }
    }
    /// How many lie above an id.
    pub fn count_above(&self, id: EntryId) -> u64 {
        if self.0.last_key_value().is_none_or(|(last, _)| *last <= id) {
            return 0;
        }
        self.0.range((Bound::Excluded(id), Bound::Unbounded)).count() as u64
    }
    /// How many lie in a range, and their bytes.
    pub fn measure(&self, range: IdRange) -> (u64, u64) {
        self.0.range(range.first..=range.last).fold((0, 0), |(n, b), (_, bytes)| (n + 1, b + u64::from(*bytes)))
    }
}
