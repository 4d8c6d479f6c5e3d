//! One operation at a time: on the engine, on the model, and the answers compared.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use synapse::clock::Now;
use synapse::engine::*;
use synapse::error::{Error, Reason};
use synapse::format::event::Event;
use synapse::types::*;

use crate::group::{Ask, Back, Claimable, Got, Owner, place};
use crate::ops::*;
use crate::stream::{Content, Request, Stream};
use crate::world::*;

const STREAMS: [&str; 5] = ["s0", "s1", "s0.dlq.g0", "s1.dlq.g1", "common"];
/// A stream is trimmed rather than published to beyond this length, so that groups see all of it at once.
const LENGTH_MAX: usize = 1200;

pub(crate) fn s_name(s: u8) -> String {
    STREAMS[s as usize].into()
}
fn g_name(g: u8) -> String {
    format!("g{g}")
}
fn c_name(c: u8) -> String {
    format!("c{c}")
}
fn consumer(c: &str) -> ConsumerName {
    ConsumerName::parse(c).expect("a valid name")
}

/// A request that is polled by hand.
pub(crate) type Pinned = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

impl World {
    pub(crate) fn step(&mut self, op: &Op) -> Outcome {
        match op {
            Op::CreateStream { s, by_event_id, window_ms } => self.create_stream(&s_name(*s), *by_event_id, *window_ms),
            Op::DeleteStream { s } => self.delete_stream(&s_name(*s)),
            Op::ConfigureOnce { s, window_s, names_max } => self.configure_once(&s_name(*s), *window_s, *names_max),
            Op::Expire { s, by, had, later, earlier } => {
                let at_ms = by.map(|by| self.wall(by));
                self.set_expiry(
                    &s_name(*s),
                    SetExpiry { to: at_ms.map(ExpireAt::WallMs), had: *had, later: *later, earlier: *earlier },
                )
            }
            Op::Publish { s, publish } => self.publish(&s_name(*s), publish),
            Op::Read { s, ends, reverse, max, bytes_max, strict } => {
                self.read(&s_name(*s), *ends, (*reverse, *strict), *max as usize, *bytes_max as usize)
            }
            Op::Trim { s, to, dry_run } => self.trim(&s_name(*s), *to, *dry_run),
            Op::Retain { s, entries_max, bytes_max, age_max_ms, until_acknowledged } => {
                let retention = Retention {
                    entries_max: entries_max.map(u64::from),
                    bytes_max: bytes_max.map(u64::from),
                    age_max_ms: age_max_ms.map(u64::from),
                    until_acknowledged: *until_acknowledged,
                };
                self.retain(&s_name(*s), retention)
            }
            Op::Reclaim { all } => self.reclaim(*all),
            Op::Delete { s, picks } => self.delete(&s_name(*s), picks),
            Op::CreateGroup { s, g, start, settings, create_stream } => {
                self.create_group(&s_name(*s), &g_name(*g), *start, settings, *create_stream)
            }
            Op::UpdateGroup { s, g, settings } => self.update_group(&s_name(*s), &g_name(*g), settings),
            Op::DeleteGroup { s, g } => self.delete_group(&s_name(*s), &g_name(*g)),
            Op::Seek { s, g, to, dry_run } => self.seek(&s_name(*s), &g_name(*g), *to, *dry_run),
            Op::Release { s, g, which, how, force } => self.release(&s_name(*s), &g_name(*g), *which, *how, *force),
            Op::TrimSingly { s, to, references, max } => {
                self.trim_singly(&s_name(*s), *to, *references, u64::from(*max))
            }
            Op::Pull { s, g, c, max, bytes_max, no_ack, claim_ms } => {
                let (max, bytes_max) = (*max as usize, *bytes_max as usize);
                let ask = Ask { max, bytes_max, no_ack: *no_ack, claim_ms: claim_ms.map(u64::from) };
                self.pull(&s_name(*s), &g_name(*g), &c_name(*c), ask)
            }
            Op::Settle { s, g, which, who, action } => {
                self.settle_some(&s_name(*s), &g_name(*g), *which, *who, *action)
            }
            Op::AckAndPublish { s, g, which, to, publish } => {
                self.ack_and_publish(&s_name(*s), &g_name(*g), *which, &s_name(*to), publish)
            }
            Op::Claim { s, g, c, idle_ms, ids, from, max } => {
                let idle_ms = u64::from(*idle_ms);
                self.claim(&s_name(*s), &g_name(*g), &c_name(*c), (*ids, *from, *max as usize), idle_ms)
            }
            Op::RemoveConsumer { s, g, c } => self.remove_consumer(&s_name(*s), &g_name(*g), &c_name(*c)),
            Op::OpenSession { slot, s, g, c } => {
                self.open_session(*slot as usize, &s_name(*s), &g_name(*g), &c_name(*c))
            }
            Op::Next { slot, max, bytes_max } => {
                let (max, bytes_max) = (*max as usize, *bytes_max as usize);
                let ask = Ask { max, bytes_max, no_ack: false, claim_ms: None };
                self.next(*slot as usize, ask)
            }
            Op::Drain { slot } => self.end_session(*slot as usize, true),
            Op::Lose { slot } => self.end_session(*slot as usize, false),
            Op::Redrive { s, g, which, to_stream } => {
                self.redrive(&s_name(*s), &g_name(*g), which.as_deref(), *to_stream)
            }
            Op::Purge { s, g, which } => self.purge(&s_name(*s), &g_name(*g), which.as_deref()),
            Op::Advance { ms } => self.advance(*ms),
            Op::Wall { by } => {
                self.set_wall(*by);
                Ok(())
            }
            Op::Restart { clean, index } => self.restart(*clean, *index).and_then(|()| self.compare_all()),
            Op::Torn(op) => self.torn(op).and_then(|()| self.compare_all()),
        }
    }

    /// The engine's request for an operation that may be torn.
    pub(crate) fn request(&mut self, op: &Op) -> Option<Pinned> {
        let engine = self.engine();
        match op {
            Op::Publish { s, publish } => {
                let (_, request) = self.to_publish(&s_name(*s), publish);
                Some(Box::pin(async move { engine.publish(request).await.map(drop) }))
            }
            Op::Pull { s, g, c, max, bytes_max, no_ack, .. } => {
                let (max, bytes_max) = (*max as usize, *bytes_max as usize);
                let ask = Ask { max, bytes_max, no_ack: *no_ack, claim_ms: None };
                let request = to_pull(&s_name(*s), &g_name(*g), &c_name(*c), ask);
                Some(Box::pin(async move { engine.pull(request).await.map(drop) }))
            }
            Op::Settle { s, g, which, .. } => {
                let (s, g) = (s_name(*s), g_name(*g));
                let (ids, _) = self.some(&s, &g, *which)?;
                let (stream, group) = (name(&s), group_name(&g));
                let request = Acknowledge { stream, group, ids, holder: Holder::Anyone, publish: vec![] };
                Some(Box::pin(async move { engine.acknowledge(request).await.map(drop) }))
            }
            _ => None,
        }
    }

    pub(crate) fn pick(&self, s: &str, pick: Pick) -> EntryId {
        let entries = self.streams.get(s).map_or(&[][..], |s| &s.entries[..]);
        match pick {
            Pick::Zero => EntryId::ZERO,
            Pick::Max => EntryId::MAX,
            Pick::Last => entries.last().map_or(EntryId::ZERO, |e| e.id),
            Pick::Nth(n) if !entries.is_empty() => entries[n as usize % entries.len()].id,
            Pick::Nth(n) => EntryId::new(u64::from(n), 0),
            Pick::Now(by) => EntryId::new(self.wall(by), 0),
        }
    }

    fn wall(&self, by: i32) -> u64 {
        self.now().wall_ms.saturating_add_signed(i64::from(by))
    }

    fn create_stream(&mut self, s: &str, by_event_id: bool, window_ms: u64) -> Outcome {
        let dedup = DedupSettings { by_event_id, window_ms, ..DedupSettings::default() };
        let settings = StreamSettings { dedup, ..StreamSettings::default() };
        let engine = self.engine();
        let got = self.answer(engine.create_stream(name(s), settings.clone())).map(drop);
        let now = self.now();
        let want = if self.streams.contains_key(s) { Err(Reason::StreamExists) } else { Ok(()) };
        if want.is_ok() {
            self.streams.insert(s.into(), Stream::new(settings, now));
        }
        same("create stream", got, want)
    }

    fn delete_stream(&mut self, s: &str) -> Outcome {
        let engine = self.engine();
        let got = self.answer(engine.delete_stream(&name(s)));
        same("delete stream", got, self.streams.remove(s).map(drop).ok_or(Reason::StreamNotFound))
    }

    fn configure_once(&mut self, s: &str, window_s: Option<u32>, names_max: Option<u32>) -> Outcome {
        let engine = self.engine();
        let got = self.answer(engine.configure_once(&name(s), window_s, names_max));
        let configured = self.streams.get_mut(s).map(|stream| stream.once.configure(window_s, names_max));
        same("configure once", got, configured.ok_or(Reason::StreamNotFound))?;
        self.compare_once(s)
    }

    fn set_expiry(&mut self, s: &str, to: SetExpiry) -> Outcome {
        let engine = self.engine();
        let got = self.answer(engine.set_expiry(&name(s), to));
        let at_ms = to.to.map(|to| match to {
            ExpireAt::WallMs(at_ms) => at_ms,
            // Both clocks of a world go together, but where one is set.
            ExpireAt::AfterMs(ms) => self.now().wall_ms + ms,
        });
        let want = self.streams.get_mut(s).is_some_and(|stream| {
            let had = stream.expires_ms;
            let (old, new) = (had.unwrap_or(u64::MAX), at_ms.unwrap_or(u64::MAX));
            let holds = to.had.is_none_or(|wanted| wanted == had.is_some())
                && (!to.later || new > old)
                && (!to.earlier || new < old);
            if holds {
                stream.expires_ms = at_ms;
            }
            holds
        });
        self.expire();
        same("set expiry", got, Ok(want))?;
        self.compare_stream(s)
    }

    fn to_publish(&self, s: &str, op: &PublishOp) -> (Request, Publish) {
        let contents: Vec<Content> = (0..op.count).map(|n| content(op, n)).collect();
        let ids = match op.ids {
            Ids::Auto => IdRequest::Auto,
            Ids::AutoSeq(by) => IdRequest::AutoSeq(self.wall(by)),
            Ids::Exact(pick, more) => {
                let at = self.pick(s, pick);
                // The greatest ids would end the stream.
                let at = if at == EntryId::MAX { EntryId::new(5, 5) } else { at };
                IdRequest::Exact(EntryId::new(at.ms, at.seq + u64::from(more)))
            }
        };
        let last = self.streams.get(s).map_or(EntryId::ZERO, Stream::last);
        let expected = op.expect.map(|e| match e {
            Expect::Exists => Expected::Exists,
            Expect::Empty => Expected::Empty,
            Expect::LastId => Expected::LastId(last),
            Expect::Other => Expected::LastId(EntryId::new(last.ms, last.seq + 1)),
        });
        let producer = op.producer.map(|(p, sequence)| (format!("p{p}"), u64::from(sequence)));
        let by_event_id = op.event_ids.is_some_and(|(_, asked)| asked);
        let entry = |c: &Content| synapse::format::event::stored_as(c.kind, c.bytes.clone());
        let trim = op.trim.map(|to| self.trim_to(s, to));
        let publish = Publish {
            ids,
            expected,
            producer: producer.clone().map(|(p, sequence)| ProducerSequence {
                producer: ProducerId::parse(&p).expect("a valid name"),
                sequence,
            }),
            once: op.once.map(|(producer, name)| OnceName { producer: vec![producer], name: vec![b'n', name] }),
            dedup_by_event_id: by_event_id,
            create_stream: op.create,
            trim: trim.map(|to| PublishTrim { to, nodes: None }),
            ..Publish::new(name(s), contents.iter().map(entry).collect())
        };
        (Request { contents, ids, expected, producer, once: op.once, by_event_id, trim }, publish)
    }

    /// Publishes in the model.
    fn publish_model(
        &mut self,
        s: &str,
        request: &Request,
        create: Option<bool>,
        now: Now,
    ) -> Result<Published, Reason> {
        if request.is_bad() {
            return Err(Reason::InvalidArgument);
        }
        if let Some(stream) = self.streams.get_mut(s) {
            return stream.publish(request, now);
        }
        if create == Some(false) || request.expected == Some(Expected::Exists) {
            return Err(Reason::StreamNotFound);
        }
        let mut stream = Stream::new(StreamSettings::default(), now);
        let published = stream.publish(request, now)?;
        self.streams.insert(s.into(), stream);
        Ok(published)
    }

    fn publish(&mut self, s: &str, op: &PublishOp) -> Outcome {
        if self.streams.get(s).is_some_and(|s| s.existing().count() > LENGTH_MAX) {
            return self.trim(s, TrimOp::KeepEntries(100), false);
        }
        let (request, publish) = self.to_publish(s, op);
        let engine = self.engine();
        let got = self.answer(engine.publish(publish));
        let want = self.publish_model(s, &request, op.create, self.now());
        same("publish", got, want)?;
        self.compare_stream(s)
    }

    fn read(&mut self, s: &str, ends: (Pick, Pick), how: (bool, bool), max: usize, bytes_max: usize) -> Outcome {
        let (a, b) = (self.pick(s, ends.0), self.pick(s, ends.1));
        let range = IdRange { first: a.min(b), last: a.max(b) };
        let (reverse, strict) = how;
        let read = Read { stream: name(s), range, reverse, entries_max: max, bytes_max, strict };
        let engine = self.engine();
        let got = self.answer(engine.read(read)).map(|p| (p.entries, p.next));
        let want = self.stream(s).and_then(|stream| {
            if strict && range.first < stream.trimmed_before {
                return Err(Reason::IdTrimmed);
            }
            let page = stream.page(range, reverse, max, bytes_max);
            Ok((page.entries, page.next))
        });
        same("read", got, want)
    }

    fn trim_to(&self, s: &str, to: TrimOp) -> TrimTo {
        match to {
            TrimOp::BeforeId(pick) => TrimTo::BeforeId(self.pick(s, pick)),
            TrimOp::BeforeTime(by) => TrimTo::BeforeTime(self.wall(by)),
            TrimOp::KeepEntries(n) => TrimTo::KeepEntries(u64::from(n)),
            TrimOp::KeepBytes(n) => TrimTo::KeepBytes(u64::from(n)),
        }
    }

    fn trim(&mut self, s: &str, to: TrimOp, dry_run: bool) -> Outcome {
        let to = self.trim_to(s, to);
        let engine = self.engine();
        let got = self.answer(engine.trim(Trim { stream: name(s), to, dry_run }));
        let want = self.stream(s).map(|stream| stream.plan_trim(to));
        if let (Ok((_, Some(before))), false) = (&want, dry_run) {
            self.streams.get_mut(s).expect("it was trimmed").trimmed_before = *before;
        }
        same(&format!("trim to {to:?}"), got, want.map(|(trimmed, _)| trimmed))?;
        self.compare_stream(s)
    }

    fn trim_singly(&mut self, s: &str, to: TrimOp, references: References, max: u64) -> Outcome {
        let to = self.trim_to(s, to);
        let engine = self.engine();
        let got = self.answer(engine.trim_by_references(&name(s), to, references, max));
        let trimmed = self.streams.get_mut(s).map(|stream| stream.trim_singly(to, references, max));
        let want = trimmed.ok_or(Reason::StreamNotFound);
        same(&format!("trim to {to:?} by {references:?}"), got, want)?;
        self.compare_stream(s)?;
        let groups: Vec<String> = self.streams.get(s).map_or(Vec::new(), |s| s.groups.keys().cloned().collect());
        groups.iter().try_for_each(|g| self.compare_group(s, g))
    }

    fn release(&mut self, s: &str, g: &str, which: Which, how: ReleaseAs, force: bool) -> Outcome {
        let Some((ranges, _)) = self.some(s, g, which) else { return Ok(()) };
        // Ends of ranges: out of order, and some of them twice.
        let mut ids: Vec<EntryId> = ranges.iter().flat_map(|range| [range.last, range.first]).collect();
        if !which.span {
            ids.dedup();
        }
        let request = Release { stream: name(s), group: group_name(g), ids: ids.clone(), how, force };
        let engine = self.engine();
        let got = self.answer(engine.release(request));
        let now_ms = self.now().engine_ms;
        let want = self.with_group(s, g, |group, stream| group.release(&ids, how, force, stream, now_ms));
        same("release", got, want)?;
        self.compare_group(s, g)
    }

    fn retain(&mut self, s: &str, retention: Retention) -> Outcome {
        let Some(stream) = self.streams.get(s) else { return Ok(()) };
        let limited = StreamSettings { retention: retention.clone(), ..stream.settings.clone() };
        let (engine, engine_ms) = (self.engine(), self.now().engine_ms);
        self.answer(engine.update_stream(&name(s), limited)).map(drop).map_err(|e| format!("limits: {e:?}"))?;
        self.stepped.as_mut().expect("it is open").retain();
        let stream = self.streams.get_mut(s).expect("it was there");
        if let Some(before) = stream.plan_retention(&retention, engine_ms) {
            stream.trimmed_before = before;
        }
        let unlimited = stream.settings.clone();
        self.answer(engine.update_stream(&name(s), unlimited)).map(drop).map_err(|e| format!("limits: {e:?}"))?;
        self.compare_stream(s)
    }

    /// Nobody sees that space is given back.
    fn reclaim(&mut self, all: bool) -> Outcome {
        let stepped = self.stepped.as_mut().expect("it is open");
        if all {
            stepped.reclaim_all().map_err(|error| format!("reclaim: {error}"))?;
        } else {
            while stepped.reclaim() {}
        }
        self.compare_all()
    }

    fn delete(&mut self, s: &str, picks: &[u16]) -> Outcome {
        let ids: Vec<EntryId> = picks.iter().map(|n| self.pick(s, Pick::Nth(*n))).collect();
        let engine = self.engine();
        let got = self.answer(engine.delete_entries(&name(s), ids.clone()));
        let want = self.streams.get_mut(s).map(|stream| stream.delete(&ids)).ok_or(Reason::StreamNotFound);
        same("delete", got, want)?;
        self.compare_stream(s)
    }

    fn start(&self, s: &str, start: Start) -> StartAt {
        match start {
            Start::Earliest => StartAt::Earliest,
            Start::Latest => StartAt::Latest,
            Start::After(pick) => StartAt::After(self.pick(s, pick)),
            Start::Time(by) => StartAt::Time(self.wall(by)),
        }
    }

    fn create_group(&mut self, s: &str, g: &str, start: Start, settings: &SettingsOp, create: bool) -> Outcome {
        let start = self.start(s, start);
        let settings = to_settings(s, settings);
        let (stream, group) = (name(s), group_name(g));
        let request = CreateGroup { stream, group, start, settings: settings.clone(), create_stream: create };
        let engine = self.engine();
        let got = self.answer(engine.create_group(request)).map(drop);
        let now = self.now();
        let want = match self.streams.get(s) {
            None if !create => Err(Reason::StreamNotFound),
            Some(stream) if stream.groups.contains_key(g) => Err(Reason::GroupExists),
            _ => Ok(()),
        };
        same("create group", got, want)?;
        if want.is_ok() {
            let stream = self.streams.entry(s.into()).or_insert_with(|| Stream::new(StreamSettings::default(), now));
            let (cursor, trimmed) = (place(stream, start), stream.trimmed());
            stream.groups.insert(g.into(), crate::group::Group::new(settings, cursor, trimmed));
        }
        self.compare_group(s, g)
    }

    fn update_group(&mut self, s: &str, g: &str, settings: &SettingsOp) -> Outcome {
        let settings = to_settings(s, settings);
        let engine = self.engine();
        let got = self.answer(engine.update_group(&name(s), &group_name(g), settings.clone())).map(drop);
        let want = self.group(s, g).and_then(|group| {
            if settings.dispatch != group.settings.dispatch && !group.pending.is_empty() {
                return Err(Reason::InvalidArgument);
            }
            group.settings = settings;
            group.active = None;
            Ok(())
        });
        same("update group", got, want)?;
        self.compare_group(s, g)
    }

    fn delete_group(&mut self, s: &str, g: &str) -> Outcome {
        let engine = self.engine();
        let got = self.answer(engine.delete_group(&name(s), &group_name(g)));
        let want = self.group(s, g).map(drop);
        if let Some(stream) = self.streams.get_mut(s) {
            stream.groups.remove(g);
        }
        same("delete group", got, want)
    }

    fn seek(&mut self, s: &str, g: &str, to: Start, dry_run: bool) -> Outcome {
        let to = self.start(s, to);
        let engine = self.engine();
        let got = self.answer(engine.seek_group(&name(s), &group_name(g), to, dry_run));
        let want = self.with_group(s, g, |group, stream| {
            let (from, to) = (group.cursor, place(stream, to));
            if !dry_run {
                (group.cursor, group.trimmed) = (to, stream.trimmed());
            }
            let entries = stream.after(from).count().abs_diff(stream.after(to).count()) as u64;
            Seeked { from, to, entries, backwards: to < from }
        });
        same("seek", got, want)?;
        self.compare_group(s, g)
    }

    /// Checks a delivery and its number.
    fn check_delivery(
        &mut self,
        s: &str,
        what: &str,
        got: Result<Delivery, Reason>,
        want: Result<Vec<Got>, Reason>,
    ) -> Outcome {
        let entries = got.as_ref().map(|d| d.entries.iter().map(|e| (e.entry.id, e.deliveries, e.failures)).collect());
        same(what, entries.map_err(|e| *e), want)?;
        let Ok(delivery) = got else { return Ok(()) };
        for delivered in &delivery.entries {
            let entry = self.streams[s].get(delivered.entry.id).ok_or("a delivered entry does not exist")?;
            same("delivered entry", &delivered.entry, &crate::stream::stored(entry))?;
        }
        Ok(())
    }

    fn pull(&mut self, s: &str, g: &str, c: &str, ask: Ask) -> Outcome {
        let engine = self.engine();
        let request = to_pull(s, g, c, ask);
        let got = match ask.claim_ms {
            Some(idle_ms) => self.answer(engine.pull_idle(request, Duration::from_millis(idle_ms))),
            None => self.answer(engine.pull(request)),
        };
        let number = got.as_ref().map_or(0, |d| d.delivery.0);
        let now_ms = self.now().engine_ms;
        let want = self.with_group(s, g, |group, stream| {
            group.touch(c, now_ms);
            group.deliver(stream, (c, number), ask, now_ms)
        });
        let holds_back = self.with_group(s, g, |group, stream| group.holds_back(stream) && !ask.no_ack);
        let want = match holds_back {
            Ok(true) => want.and_then(|w| if w.is_empty() { Err(Reason::LimitReached) } else { Ok(w) }),
            _ => want,
        };
        if want.as_ref().is_ok_and(|w| !w.is_empty()) {
            self.check_number(number)?;
        }
        self.check_delivery(s, "pull", got, want)?;
        self.compare_group(s, g)
    }

    /// A pull's number is greater than all before it.
    fn check_number(&mut self, number: u64) -> Outcome {
        if number <= self.delivery_max {
            return Err(format!("delivery number {number} after {}", self.delivery_max));
        }
        self.delivery_max = number;
        Ok(())
    }

    /// Ranges for a command on pending entries, and the number of the delivery that holds the first of them.
    fn some(&mut self, s: &str, g: &str, which: Which) -> Option<(Vec<IdRange>, u64)> {
        let stray = which.stray.map(|n| IdRange::one(self.pick(s, Pick::Nth(n))));
        let group = self.group(s, g).ok()?;
        let all: Vec<EntryId> = group.pending.keys().copied().collect();
        let from = if all.is_empty() { 0 } else { which.from as usize % all.len() };
        let chosen: Vec<EntryId> = all[from..].iter().take(which.count as usize).copied().collect();
        let number = chosen.first().and_then(|id| group.pending[id].held.as_ref()).map_or(0, |h| h.1);
        let mut ranges: Vec<IdRange> = match (chosen.first(), chosen.last()) {
            (Some(first), Some(last)) if which.span => {
                let middle = chosen[chosen.len() / 2];
                vec![IdRange { first: middle, last: *last }, IdRange { first: *first, last: middle }]
            }
            _ => chosen.iter().map(|id| IdRange::one(*id)).collect(),
        };
        ranges.extend(stray);
        (!ranges.is_empty()).then_some((ranges, number))
    }

    fn settle_some(&mut self, s: &str, g: &str, which: Which, who: Who, action: Action) -> Outcome {
        let Some((ids, number)) = self.some(s, g, which) else { return Ok(()) };
        let (holder, owner) = match who {
            Who::Anyone => (Holder::Anyone, Owner::Anyone),
            Who::Consumer(c) => (Holder::Consumer(consumer(&c_name(c))), Owner::Consumer(c_name(c))),
            Who::Own => (Holder::Delivery(DeliveryNumber(number)), Owner::Delivery(number)),
            Who::Foreign => (Holder::Delivery(DeliveryNumber(number + 1)), Owner::Delivery(number + 1)),
        };
        let got = self.settle_engine(s, g, ids.clone(), holder, action);
        let now_ms = self.now().engine_ms;
        let mut buried = Vec::new();
        let want = self.group(s, g).and_then(|group| {
            if let Owner::Consumer(name) = &owner
                && group.consumers.contains_key(name)
            {
                group.touch(name, now_ms);
            }
            let meant = group.meant(&ids, &owner);
            let mut done = meant.ids.len() as u64;
            match action {
                Action::Acknowledge | Action::Skip => group.acknowledge(&meant.ids),
                Action::HandBack => drop(group.give_back(&meant.ids, Back::Unhandled, now_ms)),
                Action::DeadLetter => buried = group.give_back(&meant.ids, Back::GivenUp, now_ms),
                Action::Retry(delay) => {
                    buried = group.give_back(&meant.ids, Back::Failed(delay.map(u64::from)), now_ms);
                }
                Action::Extend(lease) => {
                    if group.settings.ack_wait_ms == 0 {
                        return Err(Reason::InvalidArgument);
                    }
                    let due_ms = now_ms + lease.map_or(group.settings.ack_wait_ms, u64::from);
                    done = 0;
                    for id in &meant.ids {
                        let pending = group.pending.get_mut(id).expect("it is meant");
                        if pending.held.is_some() {
                            pending.due_ms = due_ms;
                            done += 1;
                        }
                    }
                }
            }
            Ok(Settled { done, not_pending: meant.not_pending, not_owned: meant.not_owned, published: vec![] })
        });
        same("settle", got, want)?;
        self.bury(vec![(s.into(), g.into(), buried)])?;
        self.compare_group(s, g)
    }

    fn settle_engine(
        &mut self,
        s: &str,
        g: &str,
        ids: Vec<IdRange>,
        holder: Holder,
        action: Action,
    ) -> Result<Settled, Reason> {
        let (stream, group, engine) = (name(s), group_name(g), self.engine());
        let ms = |ms: u16| Duration::from_millis(u64::from(ms));
        let action = match action {
            Action::Acknowledge => {
                return self.answer(engine.acknowledge(Acknowledge { stream, group, ids, holder, publish: vec![] }));
            }
            Action::Extend(lease) => {
                return self.answer(engine.extend(Extend { stream, group, ids, holder, lease: lease.map(ms) }));
            }
            Action::Retry(delay) => NackAction::Retry { delay: delay.map(ms) },
            Action::DeadLetter => NackAction::DeadLetter { reason: "broken".into() },
            Action::Skip => NackAction::Skip,
            Action::HandBack => NackAction::HandBack,
        };
        self.answer(engine.nack(Nack { stream, group, ids, holder, action }))
    }

    fn ack_and_publish(&mut self, s: &str, g: &str, which: Which, to: &str, op: &PublishOp) -> Outcome {
        let Some((ids, _)) = self.some(s, g, which) else { return Ok(()) };
        let (request, publish) = self.to_publish(to, op);
        let holder = Holder::Anyone;
        let engine = self.engine();
        let (stream, group) = (name(s), group_name(g));
        let all = Acknowledge { stream, group, ids: ids.clone(), holder, publish: vec![publish] };
        let got = self.answer(engine.acknowledge(all));
        let now = self.now();
        let meant = self.group(s, g).expect("it has pending entries").meant(&ids, &Owner::Anyone);
        let want = if request.is_bad() {
            Err(Reason::InvalidArgument)
        } else if !meant.not_pending.is_empty() || meant.ids.is_empty() {
            Err(Reason::NotHeld)
        } else {
            self.publish_model(to, &request, op.create, now)
        };
        if want.is_ok() {
            self.group(s, g).expect("it has pending entries").acknowledge(&meant.ids);
        }
        let done = meant.ids.len() as u64;
        let want = want.map(|p| Settled { done, not_pending: vec![], not_owned: vec![], published: vec![p] });
        same("acknowledge and publish", got, want)?;
        self.compare_stream(to)?;
        self.compare_group(s, g)
    }

    fn claim(&mut self, s: &str, g: &str, c: &str, what: (Option<Which>, Pick, usize), idle_ms: u64) -> Outcome {
        let (which, from, max) = what;
        let ids: Vec<EntryId> = which
            .and_then(|which| self.some(s, g, which))
            .map_or(Vec::new(), |(ranges, _)| ranges.iter().map(|r| r.first).collect());
        let from = self.pick(s, from);
        let request = Claim {
            stream: name(s),
            group: group_name(g),
            consumer: consumer(c),
            idle_min: Duration::from_millis(idle_ms),
            ids: ids.clone(),
            from,
            entries_max: max,
            options: ClaimOptions::default(),
        };
        let engine = self.engine();
        let got = self.answer(engine.claim(request));
        let now_ms = self.now().engine_ms;
        let number = got.as_ref().map_or(0, |c| c.delivery.delivery.0);
        let want = self.with_group(s, g, |group, stream| {
            group.touch(c, now_ms);
            let Claimable { taken, gone, next } = group.claimable((&ids, from, max), idle_ms, now_ms, stream);
            gone.iter().for_each(|id| drop(group.pending.remove(id)));
            (group.hand_over(&taken, (c, number), false, now_ms), gone.into_iter().collect::<Vec<_>>(), next)
        });
        let rest = |c: &Claimed| (c.gone.clone(), c.next);
        same("claim", got.as_ref().map(rest).map_err(|e| *e), want.clone().map(|(_, gone, next)| (gone, next)))?;
        if want.as_ref().is_ok_and(|(taken, ..)| !taken.is_empty()) {
            self.check_number(number)?;
        }
        self.check_delivery(s, "claim", got.map(|c| c.delivery), want.map(|(taken, ..)| taken))?;
        self.compare_group(s, g)
    }

    fn remove_consumer(&mut self, s: &str, g: &str, c: &str) -> Outcome {
        let engine = self.engine();
        let got = self.answer(engine.remove_consumer(&name(s), &group_name(g), &consumer(c)));
        let now_ms = self.now().engine_ms;
        let want = self.group(s, g).and_then(|group| {
            group.consumers.remove(c).ok_or(Reason::ConsumerNotFound)?;
            let held = group.held_by(|(consumer, _)| consumer == c);
            group.give_back(&held, Back::Unhandled, now_ms);
            group.sessions.retain(|_, consumer| consumer != c);
            group.active = group.active.take().filter(|a| a != c);
            Ok(held.len() as u64)
        });
        same("remove consumer", got, want)?;
        self.compare_group(s, g)
    }

    fn open_session(&mut self, slot: usize, s: &str, g: &str, c: &str) -> Outcome {
        if self.sessions[slot].is_some() {
            return self.end_session(slot, true);
        }
        let engine = self.engine();
        let got = self.answer(engine.open_session(&name(s), &group_name(g), consumer(c)));
        let now_ms = self.now().engine_ms;
        let want = self.group(s, g).map(|group| group.touch(c, now_ms));
        same("open session", got.as_ref().map(drop).map_err(|e| *e), want)?;
        if let Ok(session) = got {
            let number = session.number().0;
            self.group(s, g).expect("it was just there").sessions.insert(number, c.into());
            self.sessions[slot] = Some(OpenSession { session, s: s.into(), g: g.into() });
        }
        self.compare_group(s, g)
    }

    fn next(&mut self, slot: usize, ask: Ask) -> Outcome {
        let Some(mut open) = self.sessions[slot].take() else { return Ok(()) };
        let number = open.session.number().0;
        let got = self.ask(open.session.next(ask.max, ask.bytes_max));
        let got = got.unwrap_or_else(|| Ok(Delivery::default())).map_err(|e| e.reason());
        let now_ms = self.now().engine_ms;
        let (s, g) = (open.s.clone(), open.g.clone());
        let want = self.with_group(&s, &g, |group, stream| {
            let c = group.sessions.get(&number).cloned().ok_or(Reason::SessionNotFound)?;
            group.touch(&c, now_ms);
            Ok(group.deliver(stream, (&c, number), ask, now_ms))
        });
        self.sessions[slot] = Some(open);
        if got.as_ref().is_ok_and(|d| !d.entries.is_empty()) {
            self.delivery_max = self.delivery_max.max(number);
        }
        self.check_delivery(&s, "next of a session", got, want.and_then(|w| w))?;
        self.compare_group(&s, &g)
    }

    fn end_session(&mut self, slot: usize, drained: bool) -> Outcome {
        let Some(OpenSession { session, s, g }) = self.sessions[slot].take() else { return Ok(()) };
        let number = session.number().0;
        let now_ms = self.now().engine_ms;
        let got = if drained {
            Some(self.answer(session.drain()))
        } else {
            drop(session);
            self.settle();
            None
        };
        let mut buried = Vec::new();
        let want = self.group(&s, &g).and_then(|group| {
            let c = group.sessions.remove(&number).ok_or(Reason::SessionNotFound)?;
            if group.active.as_ref() == Some(&c) && !group.sessions.values().any(|other| *other == c) {
                group.active = None;
            }
            let held = group.held_by(|(_, delivery)| *delivery == number);
            let how = if drained { Back::Unhandled } else { Back::Failed(None) };
            buried = group.give_back(&held, how, now_ms);
            Ok(held.len() as u64)
        });
        if let Some(got) = got {
            same("drain", got, want)?;
        }
        self.bury(vec![(s.clone(), g.clone(), buried)])?;
        self.compare_group(&s, &g)
    }

    /// Letters of a group by the numbers of a choice, with an id that is none.
    fn letters(&mut self, s: &str, g: &str, which: Option<&[u16]>) -> Result<(String, Vec<EntryId>), Reason> {
        let target = letters_of(s, g, self.group(s, g)?);
        let all: Vec<EntryId> = self.streams.get(&target).map_or(Vec::new(), |stream| {
            let ours = stream
                .existing()
                .filter(|e| e.letter.as_ref().is_some_and(|(_, l)| l.group == g && l.origin_stream == s));
            ours.map(|e| e.id).collect()
        });
        let Some(which) = which else { return Ok((target, all)) };
        let pick = |n: &u16| all.get(*n as usize % (all.len() + 1)).copied().unwrap_or(EntryId::new(1, u64::from(*n)));
        let mut ids: Vec<EntryId> = which.iter().map(pick).collect();
        ids.sort_unstable();
        ids.dedup();
        Ok((target, ids))
    }

    fn redrive(&mut self, s: &str, g: &str, which: Option<&[u16]>, to_stream: bool) -> Outcome {
        let engine = self.engine();
        let chosen = self.letters(s, g, which);
        let choice = match (&chosen, which) {
            (Ok((_, ids)), Some(_)) => DeadLetterChoice::Ids(ids.clone()),
            _ => DeadLetterChoice::All,
        };
        let to = if to_stream { RedriveTo::Stream } else { RedriveTo::Group };
        let got = self.answer(engine.redrive(&name(s), &group_name(g), choice, to));
        let want = chosen.and_then(|(target, ids)| self.redrive_model(s, g, &target, &ids, to));
        same("redrive", got, want)?;
        self.compare_stream(s)?;
        self.compare_group(s, g)
    }

    fn redrive_model(
        &mut self,
        s: &str,
        g: &str,
        target: &str,
        ids: &[EntryId],
        to: RedriveTo,
    ) -> Result<Redriven, Reason> {
        let now = self.now();
        let mut answer = Redriven::default();
        let mut back = Vec::new();
        let mut again = Vec::new();
        let mut gone = Vec::new();
        let group = self.group(s, g)?;
        let pending_max = group.settings.pending_max as usize;
        // What several letters tell of, or what is pending already, takes room once.
        let mut pending: BTreeSet<EntryId> = group.pending.keys().copied().collect();
        for id in ids {
            let Some(entry) = self.streams.get(target).and_then(|t| t.get(*id)) else {
                answer.not_found.push(*id);
                continue;
            };
            let (plain, letter) = entry.letter.clone().expect("letters of a group are letters");
            match (to, self.streams[s].get(letter.origin_id)) {
                (RedriveTo::Stream, _) => again.push(plain),
                (RedriveTo::Group, Some(original)) => {
                    if !pending.contains(&letter.origin_id) && pending.len() >= pending_max {
                        answer.is_cut_short = true;
                        continue;
                    }
                    pending.insert(letter.origin_id);
                    back.push((letter.origin_id, original.content.bytes.len(), original.content.key));
                }
                (RedriveTo::Group, None) => {
                    answer.original_gone.push(*id);
                    continue;
                }
            }
            gone.push(*id);
        }
        let group = self.group(s, g)?;
        let ordered = group.settings.dispatch == Dispatch::KeyOrdered;
        for (id, size, key) in back {
            group.park(id, size, key.filter(|_| ordered), now.engine_ms);
        }
        let stream = self.streams.get_mut(s).expect("it has the group");
        if !again.is_empty() {
            let ids = stream.plan_ids(IdRequest::Auto, again.len(), now.wall_ms)?;
            ids.into_iter().zip(again).for_each(|(id, content)| stream.append(id, now, content, None));
        }
        answer.done = gone.len() as u64;
        if let Some(target) = self.streams.get_mut(target) {
            target.delete(&gone);
        }
        Ok(answer)
    }

    fn purge(&mut self, s: &str, g: &str, which: Option<&[u16]>) -> Outcome {
        let engine = self.engine();
        let chosen = self.letters(s, g, which);
        let choice = match (&chosen, which) {
            (Ok((_, ids)), Some(_)) => DeadLetterChoice::Ids(ids.clone()),
            _ => DeadLetterChoice::All,
        };
        let got = self.answer(engine.purge_dead_letters(&name(s), &group_name(g), choice));
        let want = chosen.map(|(target, ids)| {
            let found = |id: &EntryId| self.streams.get(&target).is_some_and(|t| t.exists(*id));
            let (gone, not_found): (Vec<EntryId>, Vec<EntryId>) = ids.into_iter().partition(found);
            let done = self.streams.get_mut(&target).map_or(0, |t| t.delete(&gone));
            Redriven { done, not_found, ..Redriven::default() }
        });
        same("purge", got, want)
    }
}

fn to_pull(s: &str, g: &str, c: &str, ask: Ask) -> Pull {
    Pull {
        stream: name(s),
        group: group_name(g),
        consumer: consumer(c),
        entries_max: ask.max,
        bytes_max: ask.bytes_max,
        wait: Duration::ZERO,
        no_ack: ask.no_ack,
    }
}

fn to_settings(s: &str, op: &SettingsOp) -> GroupSettings {
    GroupSettings {
        ack_wait_ms: op.ack_wait_ms,
        max_deliveries: op.max_deliveries,
        backoff_ms: op.backoff_ms.clone(),
        dispatch: op.dispatch,
        pending_max: op.pending_max,
        dead_letter_stream: (op.common_letters && s != "common").then(|| name("common")),
        ..GroupSettings::default()
    }
}

fn content(op: &PublishOp, n: u8) -> Content {
    let tag = op.producer.map_or(op.size, |(p, sequence)| u16::from(p) * 100 + u16::from(sequence));
    let mut data = vec![b'a' + n; usize::from(op.size)];
    data.extend(format!("{tag}{}", if op.spoiled { "!" } else { "" }).bytes());
    if op.fields {
        let entry = synapse::format::fields::encode([(&b"f"[..], &data[..])]).expect("valid");
        return Content { kind: entry.kind, bytes: entry.bytes, key: None, event_id: None };
    }
    let key = (op.keys > 0).then(|| n % op.keys);
    let event_id = op.event_ids.map(|(first, _)| format!("e{}", u16::from(first) + u16::from(n)));
    let mut event = Event::new("t", Bytes::from(data));
    if let Some(key) = key {
        event = event.key(format!("k{key}"));
    }
    if let Some(event_id) = &event_id {
        event = event.id(event_id.clone());
    }
    let entry = event.into_entry().expect("valid");
    Content { kind: entry.kind, bytes: entry.bytes, key, event_id }
}
