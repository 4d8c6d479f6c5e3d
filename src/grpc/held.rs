//! What a consume session holds, as its window counts it: entries that were delivered and not settled yet, until their
//! lease runs out. Kept in runs, one per batch, so that whole batches settle at once.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::types::{EntryId, IdRange};

/// Entries that a session holds.
#[derive(Debug, Default)]
pub(super) struct Held {
    runs: Vec<Run>,
    entries: usize,
    bytes: usize,
}

/// Entries of one lease, in id order.
#[derive(Debug)]
pub(super) struct Run {
    /// When they are no longer held; `None` if by hand.
    until: Option<Instant>,
    ids: VecDeque<(EntryId, u32)>,
}

impl Held {
    pub(super) fn entries(&self) -> usize {
        self.entries
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes note of a batch: ids with their bytes.
    pub(super) fn add(&mut self, ids: impl IntoIterator<Item = (EntryId, u32)>, until: Option<Instant>) {
        let mut ids: Vec<_> = ids.into_iter().collect();
        // Redelivered entries stand before new ones.
        if !ids.is_sorted_by_key(|(id, _)| *id) {
            ids.sort_unstable_by_key(|(id, _)| *id);
        }
        self.put_back(Run { until, ids: ids.into() });
    }

    /// Takes note of entries taken out before.
    pub(super) fn put_back(&mut self, run: Run) {
        self.entries += run.ids.len();
        self.bytes += bytes_of(&run.ids);
        if !run.ids.is_empty() {
            self.runs.push(run);
        }
    }

    /// Takes out what lies in the ranges.
    pub(super) fn take(&mut self, ranges: &[IdRange]) -> Vec<Run> {
        let mut taken = Vec::new();
        for range in ranges {
            for run in &mut self.runs {
                if let Some(part) = run.take(*range) {
                    self.entries -= part.ids.len();
                    self.bytes -= bytes_of(&part.ids);
                    taken.push(part);
                }
            }
        }
        self.runs.retain(|run| !run.ids.is_empty());
        taken
    }

    /// Forgets what is no longer held by now.
    pub(super) fn expire(&mut self, now: Instant) {
        let (entries, bytes) = (&mut self.entries, &mut self.bytes);
        self.runs.retain(|run| {
            let keep = run.until.is_none_or(|until| until > now);
            if !keep {
                *entries -= run.ids.len();
                *bytes -= bytes_of(&run.ids);
            }
            keep
        });
    }
}

impl Run {
    /// The same entries under another lease.
    pub(super) fn lasting(self, until: Option<Instant>) -> Self {
        Self { until, ..self }
    }

    fn take(&mut self, range: IdRange) -> Option<Self> {
        let from = self.ids.partition_point(|(id, _)| *id < range.first);
        let to = self.ids.partition_point(|(id, _)| *id <= range.last);
        if from == to {
            return None;
        }
        let ids = if to - from == self.ids.len() {
            std::mem::take(&mut self.ids)
        } else {
            self.ids.drain(from..to).collect()
        };
        Some(Self { until: self.until, ids })
    }
}

fn bytes_of(ids: &VecDeque<(EntryId, u32)>) -> usize {
    ids.iter().map(|(_, bytes)| *bytes as usize).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(ms: u64) -> EntryId {
        EntryId::new(ms, 0)
    }

    fn counts(held: &Held) -> (usize, usize) {
        (held.entries(), held.bytes())
    }

    #[test]
    fn settling_frees_the_window() {
        let mut held = Held::default();
        held.add([(at(7), 10), (at(1), 1), (at(2), 1)], None);
        held.add([(at(8), 10), (at(9), 10)], None);
        assert_eq!(counts(&held), (5, 32));
        let range = IdRange::new(at(2), at(8)).expect("forward");
        let taken = held.take(&[range]);
        assert_eq!(counts(&held), (2, 11));
        taken.into_iter().for_each(|run| held.put_back(run));
        assert_eq!(counts(&held), (5, 32));
        held.take(&[IdRange::ALL, IdRange::ALL]);
        assert_eq!(counts(&held), (0, 0));
    }

    #[tokio::test]
    async fn leases_run_out() {
        let now = Instant::now();
        let mut held = Held::default();
        held.add([(at(1), 5)], Some(now + Duration::from_secs(1)));
        held.add([(at(2), 7)], Some(now + Duration::from_secs(9)));
        held.add([(at(3), 9)], None);
        held.expire(now + Duration::from_secs(1));
        assert_eq!(counts(&held), (2, 16));
        let extended = held.take(&[IdRange::one(at(2))]);
        extended.into_iter().for_each(|run| held.put_back(run.lasting(Some(now + Duration::from_secs(99)))));
        held.expire(now + Duration::from_secs(10));
        assert_eq!(counts(&held), (2, 16));
    }
}
