//! The engine on a simulated disk, a mixed workload over it, and the record of what was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use synapse::clock::ManualClock;
use synapse::engine::stepped::Stepped;
use synapse::engine::{
    Acknowledge, CreateGroup, Engine, EngineOptions, Holder, Publish, PublishTrim, Pull, Read, StartAt,
    TransactionRoom, Trim, TrimTo, Trimmed,
};
use synapse::error::Result;
use synapse::faults::Faults;
use synapse::format::event::{Event, EventView};
use synapse::format::segment::StoreId;
use synapse::storage::sim::SimDisk;
use synapse::storage::{Files, LogOptions, MemoryIndex};
use synapse::types::{ConsumerName, EntryId, GroupName, GroupSettings, IdRange, NewEntry, StreamName};

const SEGMENT_BYTES: u64 = 64 << 10;
/// Log between two checkpoints.
const CHECKPOINT_BYTES: u64 = 40 << 10;
const STREAMS: [&str; 2] = ["a", "b"];

/// Steps of a workload, each of one to four commits.
fn rounds() -> u64 {
    crate::setting("SYNAPSE_CRASH_ROUNDS", 48)
}

/// What can be read of every stream: ids with the number that each event carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dump(BTreeMap<String, BTreeMap<EntryId, u64>>);

impl Dump {
    /// Whether all that another has is here, too, but what is among these; says what is not.
    fn has_all_of(
        &self,
        other: &Self,
        removed: &BTreeMap<&'static str, BTreeSet<EntryId>>,
    ) -> std::result::Result<(), String> {
        for (stream, entries) in &other.0 {
            let is_removed = |id| removed.get(stream.as_str()).is_some_and(|removed| removed.contains(id));
            let missing = entries.keys().find(|id| !self.has(stream, **id) && !is_removed(id));
            if let Some(id) = missing {
                return Err(format!("{stream}: entry {id} was read and is gone"));
            }
        }
        Ok(())
    }
    pub(crate) fn len_of(&self, stream: &str) -> u64 {
        self.0.get(stream).map_or(0, |entries| entries.len() as u64)
    }
    pub(crate) fn has(&self, stream: &str, id: EntryId) -> bool {
        self.0.get(stream).is_some_and(|entries| entries.contains_key(&id))
    }
}

/// An engine on a simulated disk.
pub(crate) struct World {
    stepped: Stepped,
    disk: SimDisk,
}

/// Whose logs the worlds have.
pub(crate) fn log_options() -> LogOptions {
    LogOptions::new(StoreId([7; 16]))
}

impl World {
    pub(crate) fn open(disk: &SimDisk, seed: u64, faults: Faults) -> Result<Self> {
        Self::open_with(disk, &MemoryIndex::default(), seed, faults)
    }

    /// A world with an index that may have outlived another.
    pub(crate) fn open_with(disk: &SimDisk, index: &MemoryIndex, seed: u64, faults: Faults) -> Result<Self> {
        let clock = ManualClock::at(1_000_000);
        let options = EngineOptions {
            segment_bytes: SEGMENT_BYTES,
            cache_bytes: 32 << 10,
            checkpoint_bytes: CHECKPOINT_BYTES,
            faults,
            ..EngineOptions::new("/nowhere")
        };
        let mut salt = seed;
        let salts = Box::new(move || {
            salt = salt.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            salt
        });
        let files: Arc<dyn Files> = Arc::new(disk.clone());
        let index = Box::new(index.clone());
        let stepped = Stepped::open_with(files, log_options(), index, options, clock, salts)?;
        Ok(Self { stepped, disk: disk.clone() })
    }

    /// A world of its own, with so much room.
    pub(crate) fn small(seed: u64, budget: u64) -> Self {
        Self::open(&SimDisk::new(seed, budget), seed, Faults::default()).expect("an empty disk opens")
    }

    pub(crate) fn disk(&self) -> &SimDisk {
        &self.disk
    }

    pub(crate) fn publish(&mut self, stream: &str, numbers: &[u64], size: usize) -> Result<Vec<EntryId>> {
        let engine = self.stepped.engine().clone();
        let request = Publish::new(name(stream), numbers.iter().map(|n| event(*n, size)).collect());
        let published = self.stepped.run(engine.publish(request))?;
        Ok(published.ids().into_iter().map(|(id, _)| id).collect())
    }

    pub(crate) fn trim_to(&mut self, stream: &str, keep: u64) -> Result<Trimmed> {
        let engine = self.stepped.engine().clone();
        self.stepped.run(engine.trim(Trim { stream: name(stream), to: TrimTo::KeepEntries(keep), dry_run: false }))
    }

    fn delete(&mut self, stream: &str, ids: Vec<EntryId>) -> Result<u64> {
        let engine = self.stepped.engine().clone();
        self.stepped.run(engine.delete_entries(&name(stream), ids))
    }

    fn create_group(&mut self) -> Result<()> {
        let engine = self.stepped.engine().clone();
        let request = CreateGroup {
            stream: name("a"),
            group: group(),
            start: StartAt::Earliest,
            settings: GroupSettings::by_hand(),
            create_stream: true,
        };
        self.stepped.run(engine.create_group(request)).map(|_| ())
    }

    fn pull(&mut self, max: usize) -> Result<Vec<EntryId>> {
        let engine = self.stepped.engine().clone();
        let pull = Pull {
            stream: name("a"),
            group: group(),
            consumer: ConsumerName::parse("c").expect("valid"),
            entries_max: max,
            bytes_max: 1 << 20,
            wait: Duration::ZERO,
            no_ack: false,
        };
        let delivery = self.stepped.run(engine.pull(pull))?;
        Ok(delivery.entries.iter().map(|d| d.entry.id).collect())
    }

    fn acknowledge(&mut self, ids: &[EntryId]) -> Result<u64> {
        let engine = self.stepped.engine().clone();
        let ids = ids.iter().map(|id| IdRange::one(*id)).collect();
        let request = Acknowledge { stream: name("a"), group: group(), ids, holder: Holder::Anyone, publish: vec![] };
        Ok(self.stepped.run(engine.acknowledge(request))?.done)
    }

    /// Everything that can be read.
    pub(crate) fn dump(&mut self) -> Dump {
        let mut dump = Dump::default();
        for stream in STREAMS {
            let engine = self.stepped.engine().clone();
            let mut first = EntryId::ZERO;
            loop {
                let range = IdRange { first, last: EntryId::MAX };
                let Ok(page) = self.stepped.run(engine.read(Read { range, ..Read::all(name(stream)) })) else { break };
                let entries = dump.0.entry(stream.to_owned()).or_default();
                entries.extend(page.entries.iter().map(|e| (e.id, number(&e.bytes))));
                match page.next {
                    Some(next) => first = next,
                    None => break,
                }
            }
        }
        dump
    }
}

/// A transaction: numbers of the events that it publishes to each stream, and what it acknowledges.
struct Transacted {
    published: [(&'static str, Vec<u64>); 2],
    acknowledged: Vec<EntryId>,
}

/// What was acknowledged, and what was asked for without an answer.
#[derive(Default)]
pub(crate) struct Record {
    published: BTreeMap<&'static str, BTreeMap<EntryId, u64>>,
    /// Numbers of events whose publish got no answer, in requests: all or none of each.
    unanswered: Vec<(&'static str, Vec<u64>)>,
    removed: BTreeMap<&'static str, BTreeSet<EntryId>>,
    /// Ids that an unanswered trim or delete may have removed.
    maybe_removed: BTreeMap<&'static str, BTreeSet<EntryId>>,
    /// The number of an event whose publish got no answer, and what is gone where it is there.
    unanswered_trim: Option<(u64, BTreeSet<EntryId>)>,
    /// A transaction that got no answer.
    unanswered_transaction: Option<Transacted>,
    acknowledged: BTreeSet<EntryId>,
    maybe_acknowledged: BTreeSet<EntryId>,
    has_group: bool,
    /// What could be read at the end, whatever had failed.
    seen: Dump,
    /// The index as it was left.
    pub(crate) index: MemoryIndex,
}

impl Record {
    /// Whether the state is what was acknowledged, or a legal extension of it.
    pub(crate) fn check(&self, dump: &Dump) -> std::result::Result<(), String> {
        dump.has_all_of(&self.seen, &self.maybe_removed)?;
        let nothing = BTreeMap::new();
        let none = BTreeSet::new();
        for stream in STREAMS {
            let stored = dump.0.get(stream).unwrap_or(&nothing);
            let published = self.published.get(stream).unwrap_or(&nothing);
            let removed = self.removed.get(stream).unwrap_or(&none);
            let maybe = self.maybe_removed.get(stream).unwrap_or(&none);
            for (id, number) in published {
                match stored.get(id) {
                    Some(_) if removed.contains(id) => return Err(format!("{stream}: removed entry {id} came back")),
                    Some(found) if found != number => return Err(format!("{stream}: entry {id} changed")),
                    None if !removed.contains(id) && !maybe.contains(id) => {
                        return Err(format!("{stream}: acknowledged entry {id} is lost"));
                    }
                    _ => {}
                }
            }
            let extra: Vec<u64> =
                stored.iter().filter(|(id, _)| !published.contains_key(id)).map(|(_, n)| *n).collect();
            self.check_extra(stream, &extra)?;
        }
        if let Some((number, gone)) = &self.unanswered_trim {
            let stored = dump.0.get("b").unwrap_or(&nothing);
            let is_there = stored.values().any(|stored| stored == number);
            if let Some(id) = gone.iter().find(|id| stored.contains_key(id) == is_there) {
                return Err(format!("b: event {number} is there: {is_there}, and so is {id}, which goes with it"));
            }
        }
        self.is_transaction_there(dump).map(|_| ())
    }

    /// Whether the transaction without an answer is there; fails where a part of it is.
    fn is_transaction_there(&self, dump: &Dump) -> std::result::Result<bool, String> {
        let Some(transaction) = &self.unanswered_transaction else { return Ok(false) };
        let stored = |stream: &str, number: u64| dump.0.get(stream).is_some_and(|s| s.values().any(|n| *n == number));
        let numbers = transaction.published.iter().flat_map(|(stream, numbers)| numbers.iter().map(|n| (*stream, *n)));
        let found: Vec<bool> = numbers.map(|(stream, number)| stored(stream, number)).collect();
        if found.iter().any(|there| *there != found[0]) {
            return Err(format!("a part of a transaction is there: {found:?}"));
        }
        Ok(found[0])
    }

    /// What nobody was told of must be whole requests that got no answer.
    fn check_extra(&self, stream: &str, extra: &[u64]) -> std::result::Result<(), String> {
        let mut rest: BTreeSet<u64> = extra.iter().copied().collect();
        for (_, numbers) in self.unanswered.iter().filter(|(s, _)| *s == stream) {
            let found = numbers.iter().filter(|n| rest.remove(n)).count();
            if found != 0 && found != numbers.len() {
                return Err(format!("{stream}: {found} of the {} entries of one request are there", numbers.len()));
            }
        }
        if rest.is_empty() { Ok(()) } else { Err(format!("{stream}: invented entries {rest:?}")) }
    }

    /// Whether the group delivers everything that was not acknowledged, and nothing that was.
    pub(crate) fn check_group(&self, world: &mut World) -> std::result::Result<(), String> {
        if !self.has_group {
            return Ok(());
        }
        let dump = world.dump();
        let engine = world.stepped.engine().clone();
        let list = synapse::engine::ListPending {
            stream: name("a"),
            group: group(),
            range: IdRange::ALL,
            entries_max: 10_000,
            consumer: None,
            idle_min: Duration::ZERO,
        };
        let pending = world.stepped.run(engine.list_pending(list)).map_err(|e| format!("no pending list: {e}"))?;
        let mut left: BTreeSet<EntryId> = pending.iter().map(|p| p.id).collect();
        loop {
            let got = world.pull(1000).map_err(|e| format!("the group cannot be pulled: {e}"))?;
            if got.is_empty() {
                break;
            }
            left.extend(got);
        }
        let is_there = self.is_transaction_there(&dump)?;
        let transacted = self.unanswered_transaction.iter().flat_map(|transaction| &transaction.acknowledged);
        if let Some(id) = transacted.into_iter().find(|id| left.contains(id) == is_there) {
            return Err(format!("{id} is left, and the rest of its transaction is there: {is_there}"));
        }
        if let Some(id) = left.intersection(&self.acknowledged).next() {
            return Err(format!("entry {id} was acknowledged and is there again"));
        }
        let stored = dump.0.get("a").cloned().unwrap_or_default();
        let missing = stored
            .keys()
            .find(|id| !left.contains(id) && !self.acknowledged.contains(id) && !self.maybe_acknowledged.contains(id));
        missing.map_or(Ok(()), |id| Err(format!("entry {id} is neither pending nor delivered nor acknowledged")))
    }
}

/// Runs the workload until it is done or the power goes off before the operation of that number.
pub(crate) fn run_until_power_off(seed: u64, at: Option<u64>, faults: Faults) -> (SimDisk, Record) {
    let disk = SimDisk::new(seed, 1 << 30);
    if let Some(at) = at {
        disk.power_off_at(at);
    }
    let (record, outcome) = run(&disk, seed, faults);
    if at.is_none() {
        outcome.unwrap_or_else(|error| panic!("seed {seed}: the workload fails on a healthy disk: {error:?}"));
    }
    (disk, record)
}

/// Runs the workload with one failing operation.
pub(crate) fn run_with_failure(seed: u64, at: u64, faults: Faults) -> (SimDisk, Record) {
    let disk = SimDisk::new(seed, 1 << 30);
    disk.fail_at(at);
    let (record, _) = run(&disk, seed, faults);
    (disk, record)
}

/// The first failure ends the workload: what came before is acknowledged, what failed may be in or out.
fn run(disk: &SimDisk, seed: u64, faults: Faults) -> (Record, Result<()>) {
    let mut record = Record::default();
    let outcome = World::open_with(disk, &record.index, seed, faults).and_then(|mut world| {
        let outcome = work(&mut world, &mut record, seed);
        record.seen = world.dump();
        outcome
    });
    (record, outcome)
}

fn work(world: &mut World, record: &mut Record, seed: u64) -> Result<()> {
    let mut random = seed | 1;
    let mut below = |bound: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % bound
    };
    let mut next = 0;
    world.create_group()?;
    record.has_group = true;
    for round in 0..rounds() {
        let requests: Vec<(&'static str, Vec<u64>, usize)> = (0..1 + below(3))
            .map(|_| {
                let count = 1 + below(4);
                next += count;
                let size = if below(4) == 0 { 6000 } else { 100 };
                (STREAMS[below(2) as usize], (next - count..next).collect(), size)
            })
            .collect();
        publish_together(world, record, &requests)?;
        match round % 5 {
            1 | 3 => consume(world, record, 1 + below(5) as usize)?,
            2 => remove_one(world, record, below(8) as usize)?,
            4 if below(2) == 0 => trim(world, record, 5 + below(10))?,
            4 => {
                next += 1;
                add_and_trim(world, record, next - 1, 5 + below(10))?;
            }
            _ => {}
        }
        if round % 4 == 2 {
            next += 3;
            transact(world, record, next - 3)?;
        }
        match round % 12 {
            5 => drop(world.stepped.reclaim()),
            11 => world.stepped.reclaim_all()?,
            _ => {}
        }
    }
    Ok(())
}

/// Publishes several requests at once, as several connections would.
fn publish_together(
    world: &mut World,
    record: &mut Record,
    requests: &[(&'static str, Vec<u64>, usize)],
) -> Result<()> {
    let engine = world.stepped.engine().clone();
    let sent = requests.iter().map(|(stream, numbers, size)| {
        engine.publish(Publish::new(name(stream), numbers.iter().map(|n| event(*n, *size)).collect()))
    });
    let answers = world.stepped.run(join_all(sent));
    let mut failed = None;
    for ((stream, numbers, _), answer) in requests.iter().zip(answers) {
        match answer {
            Ok(published) => {
                let ids = published.ids().into_iter().map(|(id, _)| id);
                record.published.entry(stream).or_default().extend(ids.zip(numbers.iter().copied()));
            }
            Err(error) => {
                record.unanswered.push((stream, numbers.clone()));
                failed = Some(error);
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

fn consume(world: &mut World, record: &mut Record, max: usize) -> Result<()> {
    let got = world.pull(max)?;
    let half = &got[..got.len().div_ceil(2)];
    if half.is_empty() {
        return Ok(());
    }
    record.maybe_acknowledged.extend(half);
    world.acknowledge(half)?;
    record.acknowledged.extend(half);
    Ok(())
}

/// Publishes to both streams and acknowledges, as one.
fn transact(world: &mut World, record: &mut Record, first: u64) -> Result<()> {
    let acknowledged = world.pull(2)?;
    let published = [("a", vec![first]), ("b", vec![first + 1, first + 2])];
    let work = {
        let (published, ids) = (published.clone(), acknowledged.iter().map(|id| IdRange::one(*id)).collect::<Vec<_>>());
        async move |engine: Engine| {
            let mut added = Vec::new();
            for (stream, numbers) in published {
                let entries = numbers.iter().map(|n| event(*n, 100)).collect();
                added.push(engine.publish(Publish::new(name(stream), entries)).await?);
                let request = Acknowledge {
                    stream: name("a"),
                    group: group(),
                    ids: ids.clone(),
                    holder: Holder::Anyone,
                    publish: vec![],
                };
                if !ids.is_empty() {
                    engine.acknowledge(request).await?;
                }
            }
            Ok::<_, synapse::error::Error>(added)
        }
    };
    record.maybe_acknowledged.extend(&acknowledged);
    let engine = world.stepped.engine().clone();
    let room = TransactionRoom { bytes: 4096, grows: true };
    match world.stepped.run(engine.transaction(room, work)).flatten() {
        Ok(added) => {
            for ((stream, numbers), added) in published.into_iter().zip(added) {
                let ids = added.ids().into_iter().map(|(id, _)| id);
                record.published.entry(stream).or_default().extend(ids.zip(numbers));
            }
            record.acknowledged.extend(acknowledged);
            Ok(())
        }
        Err(error) => {
            record.unanswered.extend(published.clone());
            record.unanswered_transaction = Some(Transacted { published, acknowledged });
            Err(error)
        }
    }
}

fn remove_one(world: &mut World, record: &mut Record, nth: usize) -> Result<()> {
    let Some(id) = record.published.get("b").and_then(|entries| entries.keys().nth_back(nth)).copied() else {
        return Ok(());
    };
    record.maybe_removed.entry("b").or_default().insert(id);
    world.delete("b", vec![id])?;
    record.removed.entry("b").or_default().insert(id);
    Ok(())
}

fn trim(world: &mut World, record: &mut Record, keep: u64) -> Result<()> {
    let before: BTreeSet<EntryId> = record.published.get("b").into_iter().flatten().map(|(id, _)| *id).collect();
    record.maybe_removed.entry("b").or_default().extend(&before);
    let outcome = world.trim_to("b", keep);
    let first = match outcome {
        Ok(trimmed) => trimmed.first,
        Err(error) if error.reason() == synapse::error::Reason::StreamNotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let gone: BTreeSet<EntryId> = before.into_iter().filter(|id| first.is_none_or(|first| *id < first)).collect();
    let already = record.removed.entry("b").or_default();
    already.extend(&gone);
    record.maybe_removed.insert("b", already.clone());
    Ok(())
}

/// Publishes, and drops the oldest entries by the same request.
fn add_and_trim(world: &mut World, record: &mut Record, added: u64, keep: u64) -> Result<()> {
    let removed = record.removed.entry("b").or_default();
    let there: Vec<EntryId> = record
        .published
        .get("b")
        .into_iter()
        .flat_map(BTreeMap::keys)
        .filter(|id| !removed.contains(id))
        .copied()
        .collect();
    let gone: BTreeSet<EntryId> = there.iter().take((there.len() + 1).saturating_sub(keep as usize)).copied().collect();
    let engine = world.stepped.engine().clone();
    let trim = Some(PublishTrim { to: TrimTo::KeepEntries(keep), nodes: None });
    let request = Publish { trim, ..Publish::new(name("b"), vec![event(added, 100)]) };
    match world.stepped.run(engine.publish(request)) {
        Ok(published) => {
            record.published.entry("b").or_default().insert(published.first, added);
            removed.extend(&gone);
            record.maybe_removed.insert("b", removed.clone());
            Ok(())
        }
        Err(error) => {
            record.unanswered.push(("b", vec![added]));
            record.maybe_removed.entry("b").or_default().extend(&gone);
            record.unanswered_trim = Some((added, gone));
            Err(error)
        }
    }
}

fn name(stream: &str) -> StreamName {
    StreamName::parse(stream).expect("valid")
}

fn group() -> GroupName {
    GroupName::parse("g").expect("valid")
}

fn event(number: u64, size: usize) -> NewEntry {
    let mut data = number.to_le_bytes().to_vec();
    data.resize(size.max(8), b'x');
    Event::new("test", data).into_entry().expect("valid")
}

fn number(bytes: &[u8]) -> u64 {
    let event = EventView::parse(bytes).expect("an event");
    u64::from_le_bytes(*event.data.first_chunk().expect("a number"))
}
