//! What a release would do: entries are nobody's any more, and others may take them over at once.

use std::collections::BTreeMap;

use super::{Deliverable, Group};
use crate::format::record::ClaimedEntry;
use crate::types::EntryId;

/// How often what is released counts as delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseAs {
    /// Once less than before: as if it had not been delivered.
    NotDelivered,
    /// As often as before.
    Delivered,
    /// As often as can be counted.
    Hopeless,
    /// So often.
    DeliveredTimes(u32),
}

impl ReleaseAs {
    fn counted(self, before: u32) -> u32 {
        match self {
            Self::NotDelivered => before.saturating_sub(1),
            Self::Delivered => before,
            Self::Hopeless => u32::MAX,
            Self::DeliveredTimes(count) => count,
        }
    }
}

impl Group {
    /// What becomes of these entries, in their order; one that is named twice is released twice. `forced` are those that
    /// are released even if they are not pending, in id order.
    pub fn plan_release(&self, ids: &[EntryId], how: ReleaseAs, forced: &[Deliverable]) -> Vec<ClaimedEntry> {
        let mut known: BTreeMap<EntryId, ClaimedEntry> = BTreeMap::new();
        let mut plan = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(before) = known.get(id).copied().or_else(|| self.releasable(*id, forced)) else { continue };
            let entry = ClaimedEntry { deliveries: how.counted(before.deliveries), ..before };
            known.insert(*id, entry);
            plan.push(entry);
        }
        plan
    }

    fn releasable(&self, id: EntryId, forced: &[Deliverable]) -> Option<ClaimedEntry> {
        if let Some(entry) = self.pending.get(id) {
            let key = self.pending.key_of(id);
            let entry = ClaimedEntry { id, size: entry.size, key, deliveries: entry.deliveries };
            return (!self.pending.is_exhausted(id)).then_some(entry);
        }
        let at = forced.binary_search_by_key(&id, |what| what.id).ok()?;
        let Deliverable { id, size, key } = forced[at];
        Some(ClaimedEntry { id, size, key, deliveries: 0 })
    }
}
