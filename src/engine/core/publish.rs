//! Publishing: plan without changing anything, then append.

use std::collections::VecDeque;
use std::sync::Arc;

use super::heads::{Lack, Waiting, rule, unprepared};
use super::{Admit, Core};
use crate::clock::Now;
use crate::engine::api::{Expected, OnceName, Publish, Published};
use crate::engine::command::{PreparedPublish, Run, RunPublished};
use crate::engine::commit::{BlockEntryParts, Show, trim_cost};
use crate::engine::reply::Reply;
use crate::engine::view::StreamView;
use crate::error::{Error, Reason, Result};
use crate::format::block::{ENTRY_HEAD_BYTES, TYPES_MAX};
use crate::format::event::EventView;
use crate::format::record::{
    CursorMoved, Effect, EventIdsRemembered, IdRun, OnceRemembered, RequestNamed, RequestRemembered, StreamCreated,
};
use crate::limits;
use crate::storage::{block_cost, record_cost};
use crate::stream::{Piece, Stream, TrimRule};
use crate::types::{
    Durability, EntryId, EntryKind, GroupNumber, IdRequest, NewEntry, StreamName, StreamNumber, StreamSettings,
};

/// What a publish would do.
pub(super) enum PublishPlan {
    /// Nothing: it was done before.
    Duplicate(Published),
    /// Append.
    Append(AppendPlan),
}

/// An append that may go ahead.
pub(super) struct AppendPlan {
    /// The stream to be made first, where it is missing.
    create: Option<StreamCreated>,
    stream: StreamNumber,
    ids: IdRun,
    durability: Durability,
    /// For each event, where events are deduplicated by id: its id, and the entry that it is a duplicate of.
    events: Option<Vec<(Option<String>, Option<EntryId>)>>,
    /// Upper bound of the room that it takes.
    pub(super) cost: u64,
}

/// Requests that are taken one after the other, and answered together.
pub(crate) struct PublishTask {
    runs: VecDeque<Run>,
    results: Vec<RunPublished>,
    observed: u64,
    reply: Reply<Vec<RunPublished>>,
}

/// What a trim that goes with a publish has to wait for.
struct Waits {
    stream: StreamNumber,
    rule: TrimRule,
    lack: Lack,
}

/// What is decided about a publish.
enum Decided {
    Plan(PublishPlan),
    /// More has to be known before.
    Waits(Waits),
}

/// What came of a run.
enum Ran {
    Done(RunPublished),
    /// Its requests are to be taken one by one.
    Apart(Run),
    /// Nothing, as yet.
    Waits(Run, Waits),
}

impl AppendPlan {
    /// Where other plans of the same command make streams first, this one's gets a later number.
    pub(super) fn shift_new_stream(&mut self, made_before: u64) -> bool {
        if let Some(create) = &mut self.create {
            create.stream.0 += made_before;
            self.stream = create.stream;
        }
        self.create.is_some()
    }
}

impl Core {
    pub(super) fn publish_each(&mut self, runs: Vec<Run>, reply: Reply<Vec<RunPublished>>, now: Now) {
        let results = Vec::with_capacity(runs.len());
        self.go_on_publishing(PublishTask { runs: runs.into(), results, observed: 0, reply }, now);
    }

    /// Takes one run after the other, up to one that has to wait.
    pub(super) fn go_on_publishing(&mut self, mut task: PublishTask, now: Now) {
        if task.runs.len() > 1 || task.runs.iter().any(|run| run.requests() > 1) {
            self.begin_commit_for(task.runs.iter().map(|run| self.run_cost_max(run)).sum());
        }
        while let Some(run) = task.runs.pop_front() {
            match self.publish_run(run, now, &mut task.observed) {
                Ran::Done(answer) => task.results.push(answer),
                Ran::Apart(run) => {
                    let apart: Vec<PreparedPublish> = run.split().collect();
                    apart.into_iter().rev().for_each(|request| task.runs.push_front(Run::one(request)));
                }
                Ran::Waits(run, waits) => {
                    task.runs.push_front(run);
                    return self.let_wait(waits.stream, &waits.rule, waits.lack, Waiting::Publish(task));
                }
            }
        }
        // The last commit that any of them is in, or looked at, is the last of all to become durable.
        self.answer_observed(task.reply, Ok(task.results), task.observed);
    }

    /// Refuses what is left of it.
    pub(super) fn refuse_publishing(&mut self, mut task: PublishTask, error: &Error) {
        for run in task.runs {
            task.results.push(RunPublished::Each(vec![Err(error.clone()); run.requests()]));
        }
        let observed = self.last_effect();
        self.answer_observed(task.reply, Ok(task.results), observed);
    }

    /// Appends requests as one where that is what they come to one by one.
    fn publish_run(&mut self, run: Run, now: Now, observed: &mut u64) -> Ran {
        if run.requests() == 1 {
            return match self.decide(&run.publish, now, observed) {
                Ok(Decided::Waits(waits)) => Ran::Waits(run, waits),
                Ok(Decided::Plan(plan)) => Ran::Done(RunPublished::One(Ok(self.carry_out(plan, run.publish, now)))),
                Err(error) => Ran::Done(RunPublished::One(Err(error))),
            };
        }
        let known = self.names.get(&run.publish.request.stream).and_then(|n| self.streams.get(n));
        // An event may be a duplicate of one in a request before it, though not of one in its own.
        let alike = known.is_none_or(|slot| !slot.stream.settings.dedup.by_event_id);
        if !alike {
            return Ran::Apart(run);
        }
        match self.decide(&run.publish, now, observed) {
            Ok(Decided::Plan(PublishPlan::Append(plan))) => {
                let (stream, trim) = (plan.stream, run.publish.request.trim);
                let first = self.apply_publish(plan, run.publish, now).first;
                self.trim_published(stream, trim, run.counts.len());
                Ran::Done(RunPublished::Joined { first, counts: run.counts })
            }
            Ok(Decided::Waits(waits)) => Ran::Waits(run, waits),
            Ok(Decided::Plan(PublishPlan::Duplicate(_))) | Err(_) => Ran::Apart(run),
        }
    }

    fn carry_out(&mut self, plan: PublishPlan, request: PreparedPublish, now: Now) -> Published {
        match plan {
            PublishPlan::Duplicate(published) => {
                self.count_once_duplicate(&request);
                self.count(|c| &c.duplicates, u64::from(published.count));
                published
            }
            PublishPlan::Append(plan) => {
                let (stream, trim) = (plan.stream, request.request.trim);
                let published = self.apply_publish(plan, request, now);
                self.trim_published(stream, trim, 1);
                published
            }
        }
    }

    /// Plans a publish and admits it; notes the commit that its answer has to wait for.
    fn decide(&mut self, request: &PreparedPublish, now: Now, observed: &mut u64) -> Result<Decided> {
        self.check_open()?;
        let looked_at = self.names.get(&request.request.stream).and_then(|n| self.streams.get(n)).map(|s| s.dirty);
        *observed = (*observed).max(looked_at.unwrap_or_else(|| self.last_effect()));
        let plan = self.plan_publish(request, now)?;
        if let PublishPlan::Append(plan) = &plan {
            if let Some(trim) = request.request.trim {
                let (stream, rule) = (plan.stream, rule(trim));
                let coming = (u64::from(plan.ids.count), request.bytes as u64);
                match self.plan_trim(stream, &rule, coming) {
                    Err(_) if self.together.is_some() => return Err(unprepared()),
                    Err(lack) => return Ok(Decided::Waits(Waits { stream, rule, lack })),
                    Ok(_) => {}
                }
            }
            self.admit(plan.cost, Admit::Growing)?;
            *observed = self.commit_number();
        }
        Ok(Decided::Plan(plan))
    }

    pub(super) fn commit_number(&self) -> u64 {
        self.number
    }

    /// Decides about a publish without changing anything.
    pub(super) fn plan_publish(&self, prepared: &PreparedPublish, now: Now) -> Result<PublishPlan> {
        let request = &prepared.request;
        let known = self.names.get(&request.stream).and_then(|n| self.streams.get(n));
        let created;
        let (stream, create) = match known {
            Some(slot) => (&slot.stream, None),
            None => {
                let record = self.plan_implicit_stream(prepared, now)?;
                created = Stream::create(&record);
                (&created, Some(record))
            }
        };
        // A duplicate is recognised before `expected` is judged: the first attempt may have made it untrue.
        if let Some(published) = find_duplicate(stream, prepared, now)? {
            return Ok(PublishPlan::Duplicate(published));
        }
        if let Some(entry) = request.once.as_ref().and_then(|o| stream.once.find(&o.producer, &o.name, now.wall_ms)) {
            let published = Published { first: entry, last: entry, count: 1, duplicate: true, each: None };
            return Ok(PublishPlan::Duplicate(published));
        }
        if let Some(name) = request.name
            && let Some(found) =
                stream.named.find(name, prepared.hash, stream.settings.dedup.window_ms, now.engine_ms)?
        {
            return Ok(PublishPlan::Duplicate(published_before(found)));
        }
        check_expected(stream, request.expected, create.is_none())?;
        let events = plan_event_ids(stream, prepared, now);
        let fresh = match &events {
            Some(events) => events.iter().filter(|(_, duplicate)| duplicate.is_none()).count(),
            None => request.entries.len(),
        };
        if let (0, Some(events)) = (fresh, &events) {
            return Ok(PublishPlan::Duplicate(all_duplicates(events)));
        }
        let ids = stream.plan_ids(request.ids, fresh as u32, now)?;
        let durability = request.durability.or(stream.settings.durability).unwrap_or(self.shared.options.durability);
        let cost = publish_cost(prepared, create.as_ref(), events.as_deref()) + self.passed_cost(stream.number);
        Ok(PublishPlan::Append(AppendPlan { create, stream: stream.number, ids, durability, events, cost }))
    }

    fn plan_implicit_stream(&self, prepared: &PreparedPublish, now: Now) -> Result<StreamCreated> {
        let name = &prepared.request.stream;
        if !prepared.may_create(self.shared.options.auto_create_streams) {
            return Err(Error::stream_not_found(name));
        }
        self.plan_stream(name, StreamSettings::default(), now)
    }

    /// The record of a new stream.
    pub(super) fn plan_stream(&self, name: &StreamName, settings: StreamSettings, now: Now) -> Result<StreamCreated> {
        if self.names.len() >= limits::STREAMS_MAX {
            let max = limits::STREAMS_MAX;
            return Err(Error::new(Reason::LimitReached, format!("there are {max} streams, and no more are allowed")));
        }
        Ok(StreamCreated {
            stream: StreamNumber(self.next_stream),
            name: name.clone(),
            settings,
            created_ms: now.wall_ms,
        })
    }

    /// Does what was planned. The answer must wait for the commit being filled.
    pub(super) fn apply_publish(&mut self, plan: AppendPlan, prepared: PreparedPublish, now: Now) -> Published {
        if let Some(record) = plan.create {
            self.apply_stream_created(record);
            if prepared.request.trim.is_some() {
                self.begin_head(plan.stream);
            }
        }
        let request = prepared.request;
        let Fresh { entries, each, remembered } = match plan.events {
            None => Fresh { entries: request.entries, each: None, remembered: Vec::new() },
            Some(events) => Fresh::of(events, request.entries, plan.ids),
        };
        self.append(plan.stream, plan.ids, &entries, now);
        self.remember(plan.stream, request.producer, prepared.hash, plan.ids, remembered, now);
        if let Some(name) = request.name {
            self.remember_named(plan.stream, name, prepared.hash, plan.ids, now);
        }
        if let Some(OnceName { producer, name }) = request.once {
            self.remember_once(OnceRemembered { stream: plan.stream, producer, name, entry: plan.ids.first });
        }
        if plan.durability == Durability::Fsync {
            self.commit.require_sync();
        }
        let each = each.filter(|each| each.iter().any(|(_, duplicate)| *duplicate));
        let count = each.as_ref().map_or(plan.ids.count, |each| each.len() as u32);
        Published { first: plan.ids.first, last: plan.ids.last(), count, duplicate: false, each }
    }

    /// Appends entries to a stream, with these ids.
    pub(super) fn append(&mut self, stream: StreamNumber, ids: IdRun, entries: &[NewEntry], now: Now) {
        self.count_passed(stream, ids);
        let nodes = self.shared.node_limits();
        let Some(slot) = self.streams.get_mut(&stream) else { return };
        let total: usize = entries.iter().map(|e| e.bytes.len()).sum();
        let mut bytes_ahead = total + entries.len() * ENTRY_HEAD_BYTES;
        let pieces = slot.head.as_ref().map_or(0, |head| head.pieces());
        slot.head.iter_mut().for_each(|head| head.bound());
        for (id, entry) in ids.ids().zip(entries) {
            let ordinal = slot.stream.appended;
            let node_start = slot.stream.apply_entry(id, entry.bytes.len() as u32, nodes);
            let parts = BlockEntryParts {
                id,
                ordinal,
                kind: entry.kind,
                node_start,
                type_hash: entry.type_hash,
                payload: &entry.bytes,
            };
            self.commit.push_entry(&slot.view, &parts, now, bytes_ahead);
            bytes_ahead -= entry.bytes.len() + ENTRY_HEAD_BYTES;
            if let Some(head) = &mut slot.head {
                head.push(Piece::entry(id, ordinal, entry.bytes.len() as u32, node_start));
            }
        }
        self.head_pieces = self.head_pieces + slot.head.as_ref().map_or(0, |head| head.pieces()) - pieces;
        slot.dirty = self.number;
        self.count(|c| &c.appended_entries, entries.len() as u64);
        self.count(|c| &c.appended_bytes, total as u64);
    }

    /// A cursor that stands beyond the last entry counts as passed what is appended below it.
    fn count_passed(&mut self, stream: StreamNumber, ids: IdRun) {
        let Some(slot) = self.streams.get(&stream) else { return };
        let passed: Vec<CursorMoved> = slot
            .groups
            .values()
            .filter_map(|number| self.groups.get(number).map(|slot| &slot.group))
            .filter(|group| group.cursor > slot.stream.last)
            .map(|group| {
                let count = ids.ids().take_while(|id| *id <= group.cursor).count() as u64;
                let (group, cursor, cursor_ordinal) = (group.number, group.cursor, group.cursor_ordinal + count);
                CursorMoved { stream, group, cursor, cursor_ordinal, skipped: 0 }
            })
            .collect();
        for moved in passed {
            let (number, reads) = (moved.group, self.slot(moved.group).group.reads());
            self.slot_mut(number).group.apply_cursor(&moved);
            self.record_lazily(moved, None);
            self.set_reads(number, reads);
        }
    }

    /// Upper bound of the room that a run can take, also where its requests are taken one by one, and whatever comes
    /// before it.
    fn run_cost_max(&self, run: &Run) -> u64 {
        let request = &run.publish.request;
        let passed = self.names.get(&request.stream).map_or(0, |stream| self.passed_cost(*stream));
        let made = request.stream.as_str().len() as u64 + NEW_STREAM_COST + trim_cost();
        // Event ids are part of the entries' bytes.
        let of = |entries: usize, bytes: usize| {
            append_cost(entries, bytes) + (bytes + entries * REMEMBERED_COST) as u64 + passed + made
        };
        if run.counts.is_empty() {
            return of(request.entries.len(), run.publish.bytes) + once_cost(&run.publish) as u64;
        }
        let mut entries = &request.entries[..];
        let each = run.counts.iter().map(|count| {
            let (own, rest) = entries.split_at(*count as usize);
            entries = rest;
            of(own.len(), own.iter().map(|entry| entry.bytes.len()).sum())
        });
        each.sum()
    }

    /// Upper bound of the room that [`Core::count_passed`] takes.
    fn passed_cost(&self, stream: StreamNumber) -> u64 {
        let Some(slot) = self.streams.get(&stream) else { return 0 };
        let beyond = |number: &&GroupNumber| self.groups.get(number).is_some_and(|g| g.group.cursor > slot.stream.last);
        slot.groups.values().filter(beyond).count() as u64 * 192
    }

    fn remember(
        &mut self,
        stream: StreamNumber,
        producer: Option<crate::engine::api::ProducerSequence>,
        hash: u128,
        entries: IdRun,
        events: Vec<(String, EntryId)>,
        now: Now,
    ) {
        let at_ms = now.engine_ms;
        if let Some(p) = producer {
            let record = RequestRemembered { stream, producer: p.producer, sequence: p.sequence, hash, entries, at_ms };
            if let Some(slot) = self.streams.get_mut(&stream) {
                slot.stream.apply_request(&record);
            }
            self.record_lazily(record, None);
        }
        if !events.is_empty() {
            let record = EventIdsRemembered { stream, events, at_ms };
            if let Some(slot) = self.streams.get_mut(&stream) {
                slot.stream.apply_event_ids(&record);
            }
            self.record_lazily(record, None);
        }
    }

    fn remember_named(&mut self, stream: StreamNumber, name: u128, hash: u128, entries: IdRun, now: Now) {
        let record = RequestNamed { stream, name, hash, entries, at_ms: now.engine_ms };
        if let Some(slot) = self.streams.get_mut(&stream) {
            slot.stream.apply_named(&record);
        }
        self.record_lazily(record, None);
    }

    fn remember_once(&mut self, record: OnceRemembered) {
        if let Some(slot) = self.streams.get_mut(&record.stream) {
            slot.stream.once.remember(&record);
            slot.stream.once.count_added();
        }
        self.record_lazily(record, None);
    }

    /// Counts a request that was appended before, where it is to be appended once.
    pub(super) fn count_once_duplicate(&mut self, prepared: &PreparedPublish) {
        let Publish { stream, once: Some(_), .. } = &prepared.request else { return };
        if let Some(slot) = self.names.get(stream).and_then(|number| self.streams.get_mut(number)) {
            slot.stream.once.count_duplicate();
        }
    }

    /// Makes the stream of a record that was planned.
    pub(super) fn apply_stream_created(&mut self, record: StreamCreated) {
        let view = StreamView::new(record.name.clone(), record.stream);
        self.add_stream(Stream::create(&record), Arc::clone(&view));
        if let Some(slot) = self.streams.get_mut(&record.stream) {
            slot.dirty = self.number;
        }
        self.commit.show(Show::Created(view));
        let number = record.stream;
        self.record(record, None);
        self.begin_once(number);
    }
}

/// The entries of a request that are no duplicates by their events' own ids, and what its answer says of each.
struct Fresh {
    entries: Vec<NewEntry>,
    each: Option<Vec<(EntryId, bool)>>,
    /// The events' ids to be remembered.
    remembered: Vec<(String, EntryId)>,
}

impl Fresh {
    fn of(events: Vec<(Option<String>, Option<EntryId>)>, entries: Vec<NewEntry>, ids: IdRun) -> Self {
        let mut ids = ids.ids();
        let mut fresh = Self { entries: Vec::new(), each: None, remembered: Vec::new() };
        let mut each = Vec::with_capacity(entries.len());
        for (entry, (event_id, duplicate)) in entries.into_iter().zip(events) {
            if let Some(duplicate) = duplicate {
                each.push((duplicate, true));
                continue;
            }
            let Some(id) = ids.next() else { break };
            fresh.remembered.extend(event_id.map(|event_id| (event_id, id)));
            each.push((id, false));
            fresh.entries.push(entry);
        }
        fresh.each = Some(each);
        fresh
    }
}

fn find_duplicate(stream: &Stream, prepared: &PreparedPublish, now: Now) -> Result<Option<Published>> {
    let Some(producer) = &prepared.request.producer else { return Ok(None) };
    let settings = &stream.settings.dedup;
    let found =
        stream.dedup.find_request(&producer.producer, producer.sequence, prepared.hash, settings, now.engine_ms)?;
    Ok(found.map(|found| published_before(found.entries)))
}

fn published_before(entries: IdRun) -> Published {
    Published { first: entries.first, last: entries.last(), count: entries.count, duplicate: true, each: None }
}

fn check_expected(stream: &Stream, expected: Option<Expected>, exists: bool) -> Result<()> {
    let holds = match expected {
        None => true,
        Some(Expected::Exists) => exists,
        Some(Expected::Empty) => stream.last == EntryId::ZERO,
        Some(Expected::LastId(id)) => stream.last == id,
    };
    if holds {
        return Ok(());
    }
    let wanted = match expected {
        Some(Expected::LastId(id)) => id,
        _ => EntryId::ZERO,
    };
    Err(Error::new(Reason::IdConflict, format!("the stream's last id is {}, not {wanted} as expected", stream.last))
        .with("expected", wanted)
        .with("actual", stream.last))
}

/// For each event its own id and the entry that it duplicates; `None` where events are not deduplicated by id.
fn plan_event_ids(
    stream: &Stream,
    prepared: &PreparedPublish,
    now: Now,
) -> Option<Vec<(Option<String>, Option<EntryId>)>> {
    let request = &prepared.request;
    if !request.dedup_by_event_id && !stream.settings.dedup.by_event_id {
        return None;
    }
    if matches!(request.ids, IdRequest::Exact(_)) {
        return None;
    }
    let mut seen = std::collections::HashSet::new();
    let events = request.entries.iter().map(|entry| {
        let event_id = event_id(entry)?;
        // The same id twice in one request: the second is left to stand, being no repetition of a request.
        seen.insert(event_id.clone()).then_some(event_id)
    });
    let find = |id: &String| stream.dedup.find_event(id, &stream.settings.dedup, now.engine_ms);
    Some(
        events
            .map(|id| {
                let duplicate = id.as_ref().and_then(find);
                (id, duplicate)
            })
            .collect(),
    )
}

fn event_id(entry: &NewEntry) -> Option<String> {
    if entry.kind != EntryKind::Event {
        return None;
    }
    let view = EventView::parse(&entry.bytes).ok()?;
    (!view.id.is_empty()).then(|| view.id.to_owned())
}

fn all_duplicates(events: &[(Option<String>, Option<EntryId>)]) -> Published {
    let ids: Vec<EntryId> = events.iter().filter_map(|(_, duplicate)| *duplicate).collect();
    let (first, last) = (ids.first().copied().unwrap_or_default(), ids.last().copied().unwrap_or_default());
    let run = ids.windows(2).all(|pair| pair[0].ms == pair[1].ms && pair[0].next() == Some(pair[1]));
    let each = (!run).then(|| ids.iter().map(|id| (*id, true)).collect());
    Published { first, last, count: ids.len() as u32, duplicate: true, each }
}

/// What a remembered event id takes beside its bytes.
const REMEMBERED_COST: usize = 24;
/// What a request that is to be appended once takes beside the bytes of its names.
const ONCE_COST: usize = 96;
/// What a new stream takes beside its name.
const NEW_STREAM_COST: u64 = 512;

/// Upper bound of the room that a publish takes, with the stream that it may make and what is remembered of it.
fn publish_cost(
    prepared: &PreparedPublish,
    create: Option<&StreamCreated>,
    events: Option<&[(Option<String>, Option<EntryId>)]>,
) -> u64 {
    let id_bytes = |id: &Option<String>| id.as_ref().map_or(0, String::len);
    let remembered: usize = events.map_or(0, |e| e.iter().map(|(id, _)| id_bytes(id) + REMEMBERED_COST).sum());
    let create = create.map_or(0, |c| c.name.as_str().len() + NEW_STREAM_COST as usize);
    let once = once_cost(prepared);
    let trim = if prepared.request.trim.is_some() { trim_cost() } else { 0 };
    let named = prepared.request.name.map_or(0, named_cost);
    append_cost(prepared.request.entries.len(), prepared.bytes) + (remembered + create + once) as u64 + trim + named
}

/// What a request takes that is remembered by its name.
fn named_cost(name: u128) -> u64 {
    let entries = IdRun { first: EntryId::ZERO, count: 0 };
    let record = RequestNamed { stream: StreamNumber(0), name, hash: 0, entries, at_ms: 0 };
    record_cost(Effect::from(record).encode().len())
}

/// What the name of a request takes that is to be appended once.
fn once_cost(prepared: &PreparedPublish) -> usize {
    let bytes = |once: &OnceName| once.producer.len() + once.name.len() + ONCE_COST;
    prepared.request.once.as_ref().map_or(0, bytes)
}

/// Upper bound of the room that so many entries take, of so many bytes together.
fn append_cost(entries: usize, bytes: usize) -> u64 {
    let content = bytes + entries * (ENTRY_HEAD_BYTES + 16 + 4);
    let blocks = (content / limits::BLOCK_BYTES_TARGET).max(entries / limits::BLOCK_ENTRIES_MAX) + 1;
    blocks as u64 * block_cost(0, entries.min(TYPES_MAX)) + (content + 512) as u64
}
