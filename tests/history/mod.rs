//! Checks what clients saw of one stream and one group over there and back again of its server: recorded operations
//! in, violations out. Pure, so that it can be tested on histories made by hand (`tests.rs`).
//!
//! Moments are numbers from one counter that all clients share: an operation that ended before another started came
//! before it, whatever else is true of them.

use std::collections::{BTreeMap, BTreeSet};

#[cfg(test)]
mod tests;

/// An entry's id: milliseconds, sequence.
pub(crate) type Id = (u64, u64);

/// A publish request, with its repetitions: it started with the first of them. Every event of a history carries a number
/// of its own.
#[derive(Clone, Debug)]
pub(crate) struct Publish {
    pub(crate) started: u64,
    pub(crate) events: Vec<u64>,
    /// When it was answered with which ids; unset where no answer came.
    pub(crate) answer: Option<(u64, Vec<Id>)>,
}

/// A pull with what it brought: ids with the numbers of their events.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pull {
    pub(crate) started: u64,
    pub(crate) ended: u64,
    pub(crate) entries: Vec<(Id, u64)>,
    /// How often each entry had been delivered by then, this time included; in their order.
    pub(crate) counts: Vec<u32>,
    /// Which run of the server answered. What one run delivered the next may not know of.
    pub(crate) run: u64,
    /// When it started and ended by a clock that does not jump, in milliseconds.
    pub(crate) from_ms: u64,
    pub(crate) to_ms: u64,
}

/// An acknowledgement that was answered: the entries that it took effect on.
#[derive(Clone, Debug)]
pub(crate) struct Acknowledged {
    pub(crate) ended: u64,
    pub(crate) ids: Vec<Id>,
}

/// All of the stream, in the order in which it was read, while no publish was under way.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) started: u64,
    pub(crate) entries: Vec<(Id, u64)>,
}

/// What the clients recorded.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) publishes: Vec<Publish>,
    pub(crate) pulls: Vec<Pull>,
    pub(crate) acknowledged: Vec<Acknowledged>,
    pub(crate) readings: Vec<Reading>,
    /// Whether the group was emptied at the end: then nothing may be left undelivered.
    pub(crate) drained: bool,
    /// For how long a delivery is its consumer's alone; nobody gives entries back or asks for more time.
    pub(crate) lease_ms: u64,
}

/// A promise that was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// An acknowledged event is not in a later reading, or an entry that was read is gone.
    Lost(Id),
    /// An entry carries a number that nobody published.
    Invented(Id),
    /// An event stands in the stream twice.
    Doubled(u64),
    /// An entry has other contents than it was acknowledged, read or delivered with before.
    Changed(Id),
    /// Ids of a reading do not rise.
    Disordered(Id),
    /// A publish that started after another was answered got smaller ids.
    Overtaken(Id),
    /// A request is in the stream in part, or not as one run.
    Torn(u64),
    /// An acknowledged entry was delivered by a pull that started later.
    DeliveredAgain(Id),
    /// An entry was delivered while the lease of an earlier delivery certainly lasted.
    HeldTwice(Id),
    /// An entry's count of deliveries did not rise with a later delivery.
    Miscounted(Id),
    /// An entry was never delivered, though the group was emptied.
    NeverDelivered(Id),
}

/// Every promise that the history shows broken.
pub(crate) fn check(history: &History) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut contents: BTreeMap<Id, u64> = BTreeMap::new();
    check_contents(history, &mut contents, &mut violations);
    check_readings(history, &mut violations);
    check_real_time(history, &mut violations);
    check_deliveries(history, &contents, &mut violations);
    check_leases(history, &mut violations);
    violations
}

/// One number an id, wherever it shows; and only numbers that were published.
fn check_contents(history: &History, contents: &mut BTreeMap<Id, u64>, violations: &mut Vec<Violation>) {
    let sent: BTreeSet<u64> = history.publishes.iter().flat_map(|p| p.events.iter().copied()).collect();
    let answered = history.publishes.iter().filter_map(|p| {
        let (_, ids) = p.answer.as_ref()?;
        Some(ids.iter().copied().zip(p.events.iter().copied()))
    });
    let read = history.readings.iter().flat_map(|r| r.entries.iter().copied());
    let pulled = history.pulls.iter().flat_map(|p| p.entries.iter().copied());
    for (id, event) in answered.flatten().chain(read).chain(pulled) {
        if !sent.contains(&event) {
            violations.push(Violation::Invented(id));
        } else if *contents.entry(id).or_insert(event) != event {
            violations.push(Violation::Changed(id));
        }
    }
}

/// Order, completeness and wholeness of each reading.
fn check_readings(history: &History, violations: &mut Vec<Violation>) {
    let mut seen: BTreeSet<Id> = BTreeSet::new();
    for reading in &history.readings {
        for pair in reading.entries.windows(2).filter(|pair| pair[0].0 >= pair[1].0) {
            violations.push(Violation::Disordered(pair[1].0));
        }
        let ids: BTreeSet<Id> = reading.entries.iter().map(|(id, _)| *id).collect();
        let answered = history.publishes.iter().filter_map(|p| p.answer.as_ref());
        let due = answered.filter(|(ended, _)| *ended < reading.started).flat_map(|(_, ids)| ids.iter().copied());
        let missing: BTreeSet<Id> = due.chain(seen.iter().copied()).filter(|id| !ids.contains(id)).collect();
        violations.extend(missing.into_iter().map(Violation::Lost));
        seen.extend(ids);
        check_whole(history, reading, violations);
    }
}

fn check_whole(history: &History, reading: &Reading, violations: &mut Vec<Violation>) {
    let mut places: BTreeMap<u64, usize> = BTreeMap::new();
    for (place, (_, event)) in reading.entries.iter().enumerate() {
        if places.insert(*event, place).is_some() {
            violations.push(Violation::Doubled(*event));
        }
    }
    for publish in history.publishes.iter().filter(|p| p.started < reading.started) {
        let found: Vec<Option<usize>> = publish.events.iter().map(|event| places.get(event).copied()).collect();
        let is_absent = found.iter().all(Option::is_none);
        let is_run = found.windows(2).all(|pair| pair[0].is_some_and(|p| pair[1] == Some(p + 1)));
        if !is_absent && !is_run {
            violations.push(Violation::Torn(publish.events[0]));
        }
    }
}

/// What was answered before another publish started has smaller ids.
fn check_real_time(history: &History, violations: &mut Vec<Violation>) {
    let mut answered: Vec<(u64, Id)> = history
        .publishes
        .iter()
        .filter_map(|p| p.answer.as_ref())
        .map(|(ended, ids)| (*ended, ids[ids.len() - 1]))
        .collect();
    answered.sort_unstable();
    let mut by_start: Vec<(u64, Id)> =
        history.publishes.iter().filter_map(|p| p.answer.as_ref().map(|(_, ids)| (p.started, ids[0]))).collect();
    by_start.sort_unstable();
    let (mut next, mut greatest) = (0, (0, 0));
    for (started, first) in by_start {
        while next < answered.len() && answered[next].0 < started {
            greatest = greatest.max(answered[next].1);
            next += 1;
        }
        if first <= greatest {
            violations.push(Violation::Overtaken(first));
        }
    }
}

fn check_deliveries(history: &History, contents: &BTreeMap<Id, u64>, violations: &mut Vec<Violation>) {
    let mut done: BTreeMap<Id, u64> = BTreeMap::new();
    for acknowledged in &history.acknowledged {
        for id in &acknowledged.ids {
            let ended = done.entry(*id).or_insert(acknowledged.ended);
            *ended = (*ended).min(acknowledged.ended);
        }
    }
    let mut delivered = BTreeSet::new();
    for pull in &history.pulls {
        for (id, _) in &pull.entries {
            delivered.insert(*id);
            if done.get(id).is_some_and(|ended| *ended < pull.started) {
                violations.push(Violation::DeliveredAgain(*id));
            }
        }
    }
    // Where a delivery's answer was lost its entries come again, so everything is seen once at least.
    let missed = contents.keys().filter(|id| history.drained && !delivered.contains(id));
    violations.extend(missed.map(|id| Violation::NeverDelivered(*id)));
}

/// Within a run of the server: one holder at a time, and counts that rise.
fn check_leases(history: &History, violations: &mut Vec<Violation>) {
    let mut last: BTreeMap<(u64, Id), (&Pull, u32)> = BTreeMap::new();
    let mut pulls: Vec<&Pull> = history.pulls.iter().collect();
    pulls.sort_by_key(|pull| pull.ended);
    for pull in pulls {
        for ((id, _), count) in pull.entries.iter().zip(&pull.counts) {
            let Some((before, counted)) = last.insert((pull.run, *id), (pull, *count)) else { continue };
            // Whichever of the two came first: which it was is not known where they overlap.
            let apart_ms = (pull.to_ms.saturating_sub(before.from_ms)).max(before.to_ms.saturating_sub(pull.from_ms));
            if apart_ms < history.lease_ms {
                violations.push(Violation::HeldTwice(*id));
            }
            if before.ended < pull.started && *count <= counted {
                violations.push(Violation::Miscounted(*id));
            }
        }
    }
}
