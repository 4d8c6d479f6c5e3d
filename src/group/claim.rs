//! What a claim would take: pending entries, named or from an id on, and on request entries that are not pending.

use std::collections::{BTreeMap, BTreeSet};

use super::{Deliverable, Group, PendingEntry};
use crate::format::record::ClaimedEntry;
use crate::limits;
use crate::types::{ConsumerNumber, EntryId, IdRange};

/// What a claim asks for.
#[derive(Clone, Copy, Debug)]
pub struct ClaimRequest<'a> {
    /// These entries, or where empty any pending ones from `from` on.
    pub ids: &'a [EntryId],
    /// Where to start when none are named.
    pub from: EntryId,
    /// Entries at most when none are named, with those that are gone.
    pub entries_max: usize,
    /// Pending entries that are looked at, at most, when none are named.
    pub examined_max: usize,
    /// Only those delivered at least so long ago, in milliseconds.
    pub idle_min_ms: u64,
    /// How often they count as delivered afterwards; unset: once more.
    pub deliveries: Option<u32>,
    /// Unless `deliveries` is set, they count as delivered as often as before.
    pub keep_count: bool,
    /// Named entries that exist and are to be taken even if they are not pending, in id order.
    pub forced: &'a [Deliverable],
}

/// What a claim would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimPlan {
    /// What is taken: named entries in the order in which they are named, otherwise in id order.
    pub entries: Vec<ClaimedEntry>,
    /// Pending entries that no longer exist, in id order.
    pub gone: BTreeSet<EntryId>,
    /// The first entry that was left for another claim, where there is one.
    pub next: Option<EntryId>,
    bytes: usize,
    /// Places in `entries` of what may be named twice.
    places: BTreeMap<EntryId, usize>,
}

impl ClaimPlan {
    /// Whether this entry would go beyond what one answer holds: its bytes are read and sent at once.
    fn is_full(&self, entries_max: usize, size: u32) -> bool {
        let taken = self.entries.len();
        taken >= entries_max || (taken > 0 && self.bytes + size as usize > limits::PAGE_BYTES_DEFAULT)
    }

    fn take(&mut self, what: Deliverable, deliveries: u32) {
        self.bytes += what.size as usize;
        self.places.insert(what.id, self.entries.len());
        self.entries.push(ClaimedEntry { id: what.id, size: what.size, key: what.key, deliveries });
    }
}

impl Group {
    /// What a claim would take now, and which pending entries it finds gone.
    pub fn plan_claim(&self, request: &ClaimRequest<'_>, now_ms: u64, exists: &dyn Fn(EntryId) -> bool) -> ClaimPlan {
        if request.ids.is_empty() {
            self.plan_claim_from(request, now_ms, exists)
        } else {
            self.plan_claim_named(request, now_ms, exists)
        }
    }

    fn plan_claim_from(&self, request: &ClaimRequest<'_>, now_ms: u64, exists: &dyn Fn(EntryId) -> bool) -> ClaimPlan {
        let mut plan = ClaimPlan::default();
        let pending = self.pending.range(IdRange { first: request.from, last: EntryId::MAX });
        for (examined, (id, entry)) in pending.enumerate() {
            let rest = request.entries_max.saturating_sub(plan.gone.len());
            if examined >= request.examined_max || plan.is_full(rest, entry.size) {
                plan.next = Some(id);
                break;
            }
            if !exists(id) {
                plan.gone.insert(id);
            } else if is_idle(&entry, request, now_ms) {
                plan.take(self.pending_deliverable(id, &entry), counted(entry.deliveries, request));
            }
        }
        plan
    }

    fn plan_claim_named(&self, request: &ClaimRequest<'_>, now_ms: u64, exists: &dyn Fn(EntryId) -> bool) -> ClaimPlan {
        let mut plan = ClaimPlan::default();
        for id in request.ids {
            let entry = self.pending.get(*id);
            if !exists(*id) {
                plan.gone.extend(entry.map(|_| *id));
                continue;
            }
            if let Some(place) = plan.places.get(id) {
                // Named twice: it was delivered just now.
                let before = plan.entries[*place];
                if request.idle_min_ms == 0 {
                    let what = Deliverable { id: *id, size: before.size, key: before.key };
                    plan.take(what, counted(before.deliveries, request));
                }
                continue;
            }
            let found = match entry {
                Some(entry) if !is_idle(&entry, request, now_ms) => None,
                Some(entry) => Some((self.pending_deliverable(*id, &entry), entry.deliveries)),
                None => request.forced.binary_search_by_key(id, |w| w.id).ok().map(|at| (request.forced[at], 1)),
            };
            let Some((what, deliveries)) = found else { continue };
            if plan.is_full(limits::PAGE_ENTRIES_MAX, what.size) {
                plan.next = Some(*id);
                break;
            }
            plan.take(what, counted(deliveries, request));
        }
        plan
    }

    fn pending_deliverable(&self, id: EntryId, entry: &PendingEntry) -> Deliverable {
        Deliverable { id, size: entry.size, key: self.pending.key_of(id) }
    }
}

fn is_idle(entry: &PendingEntry, request: &ClaimRequest<'_>, now_ms: u64) -> bool {
    entry.consumer == ConsumerNumber::NOBODY || now_ms.saturating_sub(entry.delivered_ms) >= request.idle_min_ms
}

fn counted(deliveries: u32, request: &ClaimRequest<'_>) -> u32 {
    let once_more = deliveries.saturating_add(u32::from(!request.keep_count));
    request.deliveries.unwrap_or(once_more)
}
