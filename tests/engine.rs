//! The engine as a library user sees it: one binary, a module a topic.

#[path = "engine/backup.rs"]
mod backup;
#[path = "engine/checkpoints.rs"]
mod checkpoints;
#[path = "engine/clocks.rs"]
mod clocks;
#[path = "engine/deep.rs"]
mod deep;
#[path = "engine/groups.rs"]
mod groups;
#[path = "engine/index.rs"]
mod index;
#[path = "engine/index_bytes.rs"]
mod index_bytes;
#[path = "engine/limits.rs"]
mod limits;
#[path = "engine/reclaim.rs"]
mod reclaim;
#[path = "engine/retention.rs"]
mod retention;
#[path = "engine/small_events.rs"]
mod small_events;
#[path = "space/mod.rs"]
mod space;
#[path = "engine/streams.rs"]
mod streams;
#[path = "engine/together.rs"]
mod together;
#[path = "engine/transactions.rs"]
mod transactions;
#[path = "engine/ungranted.rs"]
mod ungranted;
#[path = "engine/world.rs"]
mod world;

use std::future::Future;

use synapse::engine::{Engine, EngineOptions, Publish};
use synapse::format::event::Event;
use synapse::types::{ConsumerName, GroupName, NewEntry, StreamName};

/// An engine in a folder of its own, which may be opened again.
pub(crate) struct Fixture {
    folder: tempfile::TempDir,
    pub(crate) engine: Engine,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let engine = Engine::open(options(&folder)).expect("an empty folder opens");
        Self { folder, engine }
    }

    /// Stops in order and opens again.
    pub(crate) fn restart(self) -> Self {
        wait(self.engine.shutdown()).expect("stops in order");
        drop(self.engine);
        let engine = Engine::open(options(&self.folder)).expect("opens again");
        Self { folder: self.folder, engine }
    }
}

fn options(folder: &tempfile::TempDir) -> EngineOptions {
    EngineOptions { segment_bytes: 1 << 20, ..EngineOptions::new(folder.path().join("data")) }
}

pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    futures::executor::block_on(future)
}

pub(crate) fn stream(name: &str) -> StreamName {
    StreamName::parse(name).expect("a valid name")
}
pub(crate) fn group(name: &str) -> GroupName {
    GroupName::parse(name).expect("a valid name")
}
pub(crate) fn consumer(name: &str) -> ConsumerName {
    ConsumerName::parse(name).expect("a valid name")
}

pub(crate) fn event(n: u64) -> NewEntry {
    Event::new("test", format!("{{\"n\":{n}}}").into_bytes()).key(format!("k{}", n % 3)).into_entry().expect("valid")
}

/// A publish of events with these numbers.
pub(crate) fn events(name: &str, numbers: std::ops::Range<u64>) -> Publish {
    Publish::new(stream(name), numbers.map(event).collect())
}
