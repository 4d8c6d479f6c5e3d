//! A group as simply as it can be said: a cursor, a map of pending entries, and a walk over all of it for each answer.

use std::collections::{BTreeMap, BTreeSet};

use synapse::engine::{ReleaseAs, StartAt};
use synapse::types::{Dispatch, EntryId, GroupSettings, IdRange};

use crate::stream::Stream;

#[derive(Clone, Debug)]
pub(crate) struct Pending {
    /// Who holds it, by which delivery; nobody while it waits.
    pub(crate) held: Option<(String, u64)>,
    pub(crate) deliveries: u32,
    pub(crate) failures: u32,
    pub(crate) delivered_ms: u64,
    /// Held: end of the lease, zero if by hand. Waiting: when it may be delivered again.
    pub(crate) due_ms: u64,
    /// Its place in the order of releases; zero where it was not released.
    pub(crate) released: u64,
    /// Whether it was handed out before the last restart.
    is_earlier: bool,
    size: usize,
    key: Option<u8>,
}

#[derive(Clone, Debug)]
pub(crate) struct Consumer {
    pub(crate) seen_ms: u64,
    /// What the log knows of it: the rest is forgotten by a restart.
    logged_ms: u64,
    pub(crate) active_ms: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) settings: GroupSettings,
    pub(crate) cursor: EntryId,
    /// Entries that were trimmed when the cursor was put where it is: they are not skipped by it.
    pub(crate) trimmed: usize,
    pub(crate) pending: BTreeMap<EntryId, Pending>,
    pub(crate) consumers: BTreeMap<String, Consumer>,
    pub(crate) sessions: BTreeMap<u64, String>,
    pub(crate) active: Option<String>,
    /// Trimmed before it was delivered: at least and at most.
    pub(crate) skipped: (u64, u64),
    pub(crate) acknowledged: u64,
    pub(crate) dead_lettered: u64,
    /// Releases so far.
    releases: u64,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) max: usize,
    pub(crate) bytes_max: usize,
    pub(crate) no_ack: bool,
    /// What others hold for so long is taken over.
    pub(crate) claim_ms: Option<u64>,
}

/// Id, deliveries, failures.
pub(crate) type Got = (EntryId, u32, u32);

/// An entry with its size and key.
pub(crate) type Item = (EntryId, usize, Option<u8>);

/// Whose entries are meant.
#[derive(Clone, Debug)]
pub(crate) enum Owner {
    Anyone,
    Delivery(u64),
    Consumer(String),
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Meant {
    pub(crate) ids: Vec<EntryId>,
    pub(crate) not_pending: Vec<EntryId>,
    pub(crate) not_owned: Vec<EntryId>,
}

/// Entries that failed for the last time: id and what they had been through.
pub(crate) type Buried = Vec<Got>;

impl Group {
    pub(crate) fn new(settings: GroupSettings, cursor: EntryId, trimmed: usize) -> Self {
        Self {
            settings,
            cursor,
            trimmed,
            pending: BTreeMap::new(),
            consumers: BTreeMap::new(),
            sessions: BTreeMap::new(),
            active: None,
            skipped: (0, 0),
            acknowledged: 0,
            dead_lettered: 0,
            releases: 0,
        }
    }

    pub(crate) fn touch(&mut self, consumer: &str, now_ms: u64) {
        let new = Consumer { seen_ms: now_ms, logged_ms: now_ms, active_ms: None };
        self.consumers.entry(consumer.into()).or_insert(new).seen_ms = now_ms;
    }

    /// The consumer that a single-active group delivers to; whether its time is over.
    pub(crate) fn is_replaceable(&self, now_ms: u64) -> bool {
        let Some(active) = &self.active else { return true };
        if self.sessions.values().any(|c| c == active) {
            return false;
        }
        let wait = self.settings.ack_wait_ms.max(5_000);
        self.consumers.get(active).is_none_or(|c| c.seen_ms + wait <= now_ms)
    }

    /// Serves a consumer that is known.
    pub(crate) fn deliver(&mut self, entries: &Stream, who: (&str, u64), ask: Ask, now_ms: u64) -> Vec<Got> {
        if self.settings.dispatch == Dispatch::SingleActive {
            if self.active.as_deref() != Some(who.0) && self.is_replaceable(now_ms) {
                self.active = Some(who.0.into());
            }
            if self.active.as_deref() != Some(who.0) {
                return Vec::new();
            }
        }
        loop {
            let ready = if ask.no_ack { Vec::new() } else { self.ready(now_ms, ask.max) };
            let mut plan = Plan::new(ask);
            let gone = plan.again(&ready, entries);
            self.take_over(&mut plan, entries, now_ms);
            let known = plan.taken.len();
            let cursor = self.plan_new(&mut plan, entries);
            if plan.taken.is_empty() && plan.parked.is_empty() && gone.is_empty() && cursor == self.cursor {
                return Vec::new();
            }
            gone.iter().chain(&plan.anew).for_each(|id| drop(self.pending.remove(id)));
            if cursor != self.cursor {
                self.skipped = self.skipped_by(entries);
            }
            self.cursor = cursor;
            for (id, size, key) in plan.parked {
                self.park(id, size, key, now_ms);
            }
            if !plan.taken.is_empty() {
                let (known, new) = plan.taken.split_at(known);
                let mut got = self.hand_over(known, who, false, now_ms);
                got.extend(self.hand_over(new, who, ask.no_ack, now_ms));
                return got;
            }
        }
    }

    /// What was trimmed before it was delivered, with what was since the last delivery: at least and at most. Entries
    /// that were deleted before they were trimmed may count, also those from the trim point on: of what was rewritten
    /// nobody knows where they stood.
    pub(crate) fn skipped_by(&self, entries: &Stream) -> (u64, u64) {
        let (at, trimmed) = (entries.ordinal(self.cursor).max(self.trimmed), entries.trimmed());
        if at >= trimmed {
            return self.skipped;
        }
        let existed = entries.entries[at..trimmed].iter().filter(|e| !e.deleted).count() as u64;
        let gone_above = entries.entries[trimmed..].iter().take_while(|e| e.deleted).count();
        (self.skipped.0 + existed, self.skipped.1 + (trimmed - at + gone_above) as u64)
    }

    /// Waiting entries that may go out, in id order: the earliest due first where that is too many.
    fn ready(&self, now_ms: u64, max: usize) -> Vec<Item> {
        let waiting: Vec<_> = self.pending.iter().filter(|(_, p)| p.held.is_none()).collect();
        let mut plain: Vec<_> = waiting.iter().filter(|(_, p)| p.key.is_none() && p.due_ms <= now_ms).collect();
        plain.sort_by_key(|(id, p)| (p.due_ms, **id));
        let mut out: Vec<_> = plain.iter().take(max).map(|(id, p)| (**id, p.size, None)).collect();
        let mut keys: Vec<(u64, EntryId, u8)> = Vec::new();
        for (id, p) in &waiting {
            if let Some(key) = p.key
                && !keys.iter().any(|k| k.2 == key)
                && !self.pending.values().any(|p| p.key == Some(key) && p.held.is_some())
            {
                keys.push((p.due_ms, **id, key));
            }
        }
        keys.sort_unstable();
        for (.., key) in keys.into_iter().filter(|(due, ..)| *due <= now_ms) {
            let of_key = waiting.iter().filter(|(_, p)| p.key == Some(key));
            let due = of_key.take_while(|(_, p)| p.due_ms <= now_ms).take(max - out.len().min(max));
            out.extend(due.map(|(id, p)| (**id, p.size, p.key)));
        }
        out.sort_unstable();
        out
    }

    /// Adds what was released, then what is held for so long, to a plan.
    fn take_over(&self, plan: &mut Plan, entries: &Stream, now_ms: u64) {
        let Some(claim_ms) = plan.ask.claim_ms else { return };
        let number = |p: &Pending| p.held.as_ref().map_or(p.released, |(_, delivery)| *delivery);
        let mut aged: Vec<_> = self.pending.iter().filter(|(_, p)| p.held.is_some() || p.released > 0).collect();
        aged.sort_by_key(|(id, p)| (p.released == 0, p.delivered_ms, number(p), **id));
        for (id, p) in aged {
            if p.released == 0 && now_ms - p.delivered_ms < claim_ms {
                break;
            }
            let came = p.released > 0 && p.due_ms <= now_ms && !plan.ask.no_ack;
            if came || !entries.exists(*id) {
                continue;
            }
            if plan.is_full(p.size) {
                break;
            }
            plan.take(*id, p.size, p.key);
        }
    }

    /// Releases entries; those that are not pending, too, where that is forced. Answers how many.
    pub(crate) fn release(
        &mut self,
        ids: &[EntryId],
        how: ReleaseAs,
        force: bool,
        entries: &Stream,
        now_ms: u64,
    ) -> u64 {
        let mut done = 0;
        for id in ids {
            if let Some(entry) = entries.get(*id).filter(|_| force) {
                let key = entry.content.key.filter(|_| self.settings.dispatch == Dispatch::KeyOrdered);
                self.park(*id, entry.content.bytes.len(), key, now_ms);
            }
            let Some(p) = self.pending.get_mut(id) else { continue };
            self.releases += 1;
            (p.held, p.delivered_ms, p.released) = (None, 0, self.releases);
            p.due_ms = if self.settings.ack_wait_ms == 0 { u64::MAX } else { now_ms };
            p.deliveries = match how {
                ReleaseAs::NotDelivered => p.deliveries.saturating_sub(1),
                ReleaseAs::Delivered => p.deliveries,
                ReleaseAs::Hopeless => u32::MAX,
                ReleaseAs::DeliveredTimes(count) => count,
            };
            done += 1;
        }
        done
    }

    /// Adds new entries to a plan; the cursor afterwards.
    fn plan_new(&self, plan: &mut Plan, entries: &Stream) -> EntryId {
        let ordered = self.settings.dispatch == Dispatch::KeyOrdered && !plan.ask.no_ack;
        let mut room = (self.settings.pending_max as usize).saturating_sub(self.pending.len());
        let busy: BTreeSet<u8> = self.pending.values().filter_map(|p| p.key).collect();
        let mut own = BTreeSet::new();
        let mut cursor = self.cursor;
        for entry in entries.after(self.cursor) {
            let pending = self.pending.get(&entry.id);
            // What is claimed by hand is delivered anew after the cursor was moved back.
            let by_hand = self.settings.ack_wait_ms == 0 && self.settings.dispatch != Dispatch::KeyOrdered;
            let was_out = |p: &Pending| plan.ask.no_ack || p.held.is_some() || p.released > 0;
            let is_known = plan.taken.iter().any(|(id, ..)| *id == entry.id);
            let anew = by_hand && !is_known && pending.is_some_and(was_out);
            if pending.is_none() || anew {
                let key = entry.content.key.filter(|_| ordered);
                let waits = key.is_some_and(|k| busy.contains(&k) && !own.contains(&k));
                let size = entry.content.bytes.len();
                let needs_room = !plan.ask.no_ack && !anew;
                if (needs_room && room == 0) || (!waits && plan.is_full(size)) {
                    break;
                }
                room -= usize::from(needs_room);
                plan.anew.extend((anew && !plan.ask.no_ack).then_some(entry.id));
                if waits {
                    plan.parked.push((entry.id, size, key));
                } else {
                    own.extend(key);
                    plan.take(entry.id, size, key);
                }
            }
            cursor = entry.id;
        }
        cursor
    }

    /// Whether there are new entries that it does not deliver since it has as many pending ones as it may.
    pub(crate) fn holds_back(&self, entries: &Stream) -> bool {
        self.pending.len() >= self.settings.pending_max as usize && entries.after(self.cursor).next().is_some()
    }

    /// Hands entries to a consumer.
    pub(crate) fn hand_over(
        &mut self,
        what: &[Item],
        (consumer, delivery): (&str, u64),
        no_ack: bool,
        now_ms: u64,
    ) -> Vec<Got> {
        if let Some(known) = self.consumers.get_mut(consumer) {
            (known.seen_ms, known.logged_ms) = (known.seen_ms.max(now_ms), now_ms);
            if !what.is_empty() {
                known.active_ms = Some(now_ms);
            }
        }
        if no_ack {
            self.acknowledged += what.len() as u64;
            return what.iter().map(|(id, ..)| (*id, 1, 0)).collect();
        }
        let lease_ms = self.settings.ack_wait_ms;
        let due_ms = if lease_ms == 0 { 0 } else { now_ms + lease_ms };
        let mut got = Vec::new();
        for (id, size, key) in what {
            self.park(*id, *size, *key, now_ms);
            let p = self.pending.get_mut(id).expect("it was just put there");
            p.held = Some((consumer.into(), delivery));
            p.deliveries = p.deliveries.saturating_add(1);
            (p.delivered_ms, p.due_ms, p.released, p.is_earlier) = (now_ms, due_ms, 0, false);
            got.push((*id, p.deliveries, p.failures));
        }
        got
    }

    /// Makes an entry pending that is not, without delivering it.
    pub(crate) fn park(&mut self, id: EntryId, size: usize, key: Option<u8>, now_ms: u64) {
        let (deliveries, failures, released) = (0, 0, 0);
        let (delivered_ms, due_ms) = (now_ms, now_ms);
        let new =
            Pending { held: None, deliveries, failures, delivered_ms, due_ms, released, is_earlier: false, size, key };
        self.pending.entry(id).or_insert(new);
    }

    /// Which entries a command means.
    pub(crate) fn meant(&self, ranges: &[IdRange], owner: &Owner) -> Meant {
        let mut meant = Meant::default();
        let owns = |p: &Pending| match (owner, &p.held) {
            (Owner::Anyone, _) => true,
            (_, None) => false,
            (Owner::Delivery(number), Some((_, delivery))) => number == delivery,
            (Owner::Consumer(name), Some((consumer, _))) => name == consumer,
        };
        for (id, p) in self.pending.iter().filter(|(id, _)| ranges.iter().any(|r| r.contains(**id))) {
            if owns(p) { meant.ids.push(*id) } else { meant.not_owned.push(*id) }
        }
        let single = ranges.iter().filter(|r| r.first == r.last && !self.pending.contains_key(&r.first));
        let covered = |id: EntryId| ranges.iter().any(|r| r.first < r.last && r.contains(id));
        let missing: BTreeSet<EntryId> = single.map(|r| r.first).filter(|id| !covered(*id)).collect();
        meant.not_pending = missing.into_iter().collect();
        meant
    }

    pub(crate) fn acknowledge(&mut self, ids: &[EntryId]) {
        ids.iter().for_each(|id| drop(self.pending.remove(id)));
        self.acknowledged += ids.len() as u64;
    }

    /// Gives entries back; those that failed too often, or are given up, leave for the dead letters.
    pub(crate) fn give_back(&mut self, ids: &[EntryId], how: Back, now_ms: u64) -> Buried {
        let mut buried = Vec::new();
        for id in ids {
            let settings = &self.settings;
            let Some(p) = self.pending.get_mut(id) else { continue };
            (p.held, p.released) = (None, 0);
            p.failures += u32::from(how != Back::Unhandled);
            p.due_ms = now_ms
                + match how {
                    Back::Unhandled | Back::GivenUp => 0,
                    Back::Failed(Some(delay)) => delay,
                    Back::Failed(None) => settings.backoff_after(p.failures),
                };
            let worn = settings.max_deliveries > 0 && p.failures >= settings.max_deliveries;
            if how == Back::GivenUp || (how != Back::Unhandled && worn) {
                buried.push((*id, p.deliveries, p.failures));
                self.pending.remove(id);
            }
        }
        buried
    }

    /// Ends leases.
    pub(crate) fn tick(&mut self, now_ms: u64) -> Buried {
        let ended = self.pending.iter().filter(|(_, p)| p.held.is_some() && p.due_ms != 0 && p.due_ms <= now_ms);
        let ended: Vec<(EntryId, bool)> = ended.map(|(id, p)| (*id, p.is_earlier)).collect();
        let of = |earlier: bool| ended.iter().filter(|(_, e)| *e == earlier).map(|(id, _)| *id).collect::<Vec<_>>();
        // Whoever held something before a restart could do nothing about that.
        self.give_back(&of(true), Back::Unhandled, now_ms);
        self.give_back(&of(false), Back::Failed(None), now_ms)
    }

    pub(crate) fn held_by(&self, which: impl Fn(&(String, u64)) -> bool) -> Vec<EntryId> {
        self.pending.iter().filter(|(_, p)| p.held.as_ref().is_some_and(&which)).map(|(id, _)| *id).collect()
    }

    /// What a claim takes, of these ids or of any from an id on, what it finds gone, and where it goes on.
    pub(crate) fn claimable(
        &self,
        (ids, from, max): (&[EntryId], EntryId, usize),
        idle_ms: u64,
        now_ms: u64,
        entries: &Stream,
    ) -> Claimable {
        let idle = |p: &Pending| p.held.is_none() || now_ms - p.delivered_ms >= idle_ms;
        let mut found = Claimable::default();
        let named = ids.iter().filter_map(|id| Some((id, self.pending.get(id)?)));
        let from = self.pending.range(from..);
        let all: Box<dyn Iterator<Item = _>> = if ids.is_empty() { Box::new(from) } else { Box::new(named) };
        for (id, p) in all {
            if ids.is_empty() && found.taken.len() + found.gone.len() == max {
                found.next = Some(*id);
                break;
            }
            let again = found.taken.iter().any(|(taken, ..)| taken == id);
            if !entries.exists(*id) {
                found.gone.insert(*id);
            } else if if again { idle_ms == 0 } else { idle(p) } {
                found.taken.push((*id, p.size, p.key));
            }
        }
        found
    }

    /// What a restart forgets.
    pub(crate) fn restart(&mut self) {
        self.sessions.clear();
        self.active = None;
        self.pending.values_mut().for_each(|p| p.is_earlier = p.held.is_some());
        for consumer in self.consumers.values_mut() {
            consumer.seen_ms = consumer.logged_ms;
        }
    }
}

/// What a claim comes to.
#[derive(Default)]
pub(crate) struct Claimable {
    pub(crate) taken: Vec<Item>,
    pub(crate) gone: BTreeSet<EntryId>,
    pub(crate) next: Option<EntryId>,
}

/// How entries come back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Back {
    Failed(Option<u64>),
    Unhandled,
    GivenUp,
}

/// A delivery in the making.
struct Plan {
    ask: Ask,
    taken: Vec<Item>,
    parked: Vec<Item>,
    /// Of what is taken, what is pending already and counted anew.
    anew: Vec<EntryId>,
    bytes: usize,
}

impl Plan {
    fn new(ask: Ask) -> Self {
        Self { ask, taken: Vec::new(), parked: Vec::new(), anew: Vec::new(), bytes: 0 }
    }
    fn is_full(&self, size: usize) -> bool {
        self.taken.len() >= self.ask.max || (!self.taken.is_empty() && self.bytes + size > self.ask.bytes_max)
    }
    fn take(&mut self, id: EntryId, size: usize, key: Option<u8>) {
        self.bytes += size;
        self.taken.push((id, size, key));
    }
    /// Adds what is ready again; answers which entries no longer exist.
    fn again(&mut self, ready: &[Item], entries: &Stream) -> Vec<EntryId> {
        let (mut gone, mut left_out) = (Vec::new(), BTreeSet::new());
        for (id, size, key) in ready {
            if !entries.exists(*id) {
                gone.push(*id);
            } else if self.is_full(*size) || key.is_some_and(|k| left_out.contains(&k)) {
                left_out.extend(*key);
            } else {
                self.take(*id, *size, *key);
            }
        }
        gone
    }
}

/// Where a start stands.
pub(crate) fn place(stream: &Stream, start: StartAt) -> EntryId {
    match start {
        StartAt::Earliest => stream.trimmed_before.prev().unwrap_or_default(),
        StartAt::Latest => stream.last(),
        StartAt::After(id) => id,
        StartAt::Time(ms) => EntryId::new(ms, 0).prev().unwrap_or_default(),
    }
}
