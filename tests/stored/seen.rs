//! All that can be asked of a store, around what cannot be read.

use std::collections::BTreeMap;
use std::time::Duration;

use synapse::engine::stepped::Stepped;
use synapse::engine::{ListPending, Publish, Read, StartAt};
use synapse::error::{Error, Reason, Result};
use synapse::types::{EntryId, IdRange, StoredEntry};

use crate::store::{GROUPS, acknowledge, event, group, pull, remembered_event, remembered_request, stream};

/// Answers, each under a name of its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Facts that no damage to a block of entries may touch.
    pub(crate) facts: BTreeMap<String, String>,
    /// Facts that need entries to be read; absent where that failed.
    pub(crate) read: BTreeMap<String, String>,
    /// Entries as streams give them in either direction, and as groups deliver them.
    pub(crate) lists: BTreeMap<String, List>,
}

/// Entries that were read, and the ids that errors named instead.
#[derive(Clone, Debug, Default)]
pub(crate) struct List {
    pub(crate) entries: BTreeMap<EntryId, StoredEntry>,
    pub(crate) gaps: Vec<IdRange>,
}

impl Seen {
    pub(crate) fn has_gaps(&self) -> bool {
        self.lists.values().any(|list| !list.gaps.is_empty())
    }
}

/// Steps that a walk may take before it is taken to make no headway.
const STEPS_MAX: usize = 2000;

/// Asks for everything; first what changes nothing, then all that groups deliver, then what is remembered.
/// Errors are allowed where they name the damaged entries; any other is the answer.
pub(crate) fn look(stepped: &mut Stepped) -> Result<Seen> {
    let mut seen = read_all(stepped)?;
    for (name, of) in GROUPS {
        let list = drain(stepped, name, of)?;
        seen.lists.insert(format!("{of} of {name}"), list);
    }
    for (what, request) in [("request", remembered_request()), ("event", remembered_event())] {
        let engine = stepped.engine().clone();
        let published = stepped.run(engine.publish(request))?;
        seen.facts.insert(format!("remembered {what}"), format!("{published:?}"));
    }
    Ok(seen)
}

/// Asks for everything that changes nothing.
pub(crate) fn read_all(stepped: &mut Stepped) -> Result<Seen> {
    let mut seen = Seen::default();
    let engine = stepped.engine().clone();
    for mut info in stepped.run(engine.streams("", None, 1000))? {
        let (name, first) = (info.name.to_string(), info.first.take());
        seen.facts.insert(format!("stream {name}"), format!("{info:?}"));
        seen.read.insert(format!("first of {name}"), format!("{first:?}"));
        for (direction, reverse) in [("forward", false), ("back", true)] {
            let list = walk(stepped, &name, reverse)?;
            seen.lists.insert(format!("{name} {direction}"), list);
        }
    }
    for (name, of) in GROUPS {
        look_at_group(stepped, &mut seen, name, of)?;
    }
    Ok(seen)
}

fn look_at_group(stepped: &mut Stepped, seen: &mut Seen, name: &str, of: &str) -> Result<()> {
    let (engine, s, g) = (stepped.engine().clone(), stream(name), group(of));
    let mut info = stepped.run(engine.group(&s, &g))?;
    let oldest = info.oldest_unacknowledged_ms.take();
    seen.facts.insert(format!("group {of} of {name}"), format!("{info:?}"));
    seen.read.insert(format!("oldest of {of} of {name}"), format!("{oldest:?}"));
    let (range, idle_min) = (IdRange::ALL, Duration::ZERO);
    let list = ListPending { stream: s.clone(), group: g.clone(), range, entries_max: 1000, consumer: None, idle_min };
    let pending = stepped.run(engine.list_pending(list))?;
    seen.facts.insert(format!("pending of {of} of {name}"), format!("{pending:?}"));
    match stepped.run(engine.dead_letters(&s, &g, None, 1000)) {
        Ok(page) => drop(seen.read.insert(format!("letters of {of} of {name}"), format!("{:?}", page.letters))),
        Err(error) if error.reason() == Reason::StreamNotFound => {}
        Err(error) => drop(named(error)?),
    }
    Ok(())
}

/// Reads a whole stream around what cannot be read.
fn walk(stepped: &mut Stepped, name: &str, reverse: bool) -> Result<List> {
    let mut list = List::default();
    let mut rest = Some(IdRange::ALL);
    for _ in 0..STEPS_MAX {
        let Some(range) = rest else { return Ok(list) };
        let engine = stepped.engine().clone();
        let read = Read { range, reverse, entries_max: 50, ..Read::all(stream(name)) };
        let next = match stepped.run(engine.read(read)) {
            Ok(page) => {
                list.entries.extend(page.entries.into_iter().map(|e| (e.id, e)));
                page.next
            }
            Err(error) => {
                let gap = named(error)?;
                list.gaps.push(gap);
                if reverse { gap.first.prev() } else { gap.last.next() }
            }
        };
        rest = next.map(|id| if reverse { IdRange { last: id, ..range } } else { IdRange { first: id, ..range } });
    }
    panic!("reading {name} makes no headway: {:?}", list.gaps);
}

/// Has a group deliver all that it can; where it stands before damage it is moved to right behind it, by hand.
pub(crate) fn drain(stepped: &mut Stepped, name: &str, of: &str) -> Result<List> {
    let mut list = List::default();
    for _ in 0..STEPS_MAX {
        let engine = stepped.engine().clone();
        match stepped.run(engine.pull(pull(name, of, "late", 1000))) {
            Ok(delivery) if delivery.entries.is_empty() => return Ok(list),
            Ok(delivery) => {
                let ids: Vec<EntryId> = delivery.entries.iter().map(|d| d.entry.id).collect();
                list.entries.extend(delivery.entries.into_iter().map(|d| (d.entry.id, d.entry)));
                stepped.run(engine.acknowledge(acknowledge(name, of, &ids)))?;
            }
            Err(error) => {
                let gap = named(error)?;
                list.gaps.push(gap);
                let (s, g) = (stream(name), group(of));
                stepped.run(engine.seek_group(&s, &g, StartAt::After(gap.last), false))?;
            }
        }
    }
    panic!("group {of} of {name} makes no headway: {:?}", list.gaps);
}

/// The ids that an error of damage names; any other error is one.
fn named(error: Error) -> Result<IdRange> {
    let id = |name| error.detail(name).and_then(|text| EntryId::parse(text).ok());
    match (error.reason(), error.detail("file"), id("first_id"), id("last_id")) {
        (Reason::Corrupt, Some(_), Some(first), Some(last)) => IdRange::new(first, last),
        _ => Err(error),
    }
}

/// Publishes one more event to a stream; answers its id.
pub(crate) fn publish_one(stepped: &mut Stepped, name: &str) -> Result<EntryId> {
    let engine = stepped.engine().clone();
    Ok(stepped.run(engine.publish(Publish::new(stream(name), vec![event(800_000, 100)])))?.first)
}
