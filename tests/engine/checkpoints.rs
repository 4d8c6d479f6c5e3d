//! Checkpoints on a disk in memory, stepped by hand: what a start replays, and what it trusts.

use std::sync::Arc;

use synapse::clock::ManualClock;
use synapse::engine::EngineOptions;
use synapse::engine::stepped::Stepped;
use synapse::error::Result;
use synapse::format::segment::StoreId;
use synapse::storage::sim::SimDisk;
use synapse::storage::{LogOptions, MemoryIndex};

use crate::events;

const CHECKPOINT_BYTES: u64 = 32 << 10;

/// A log and an index that outlive the engines over them.
pub(crate) struct World {
    pub(crate) disk: SimDisk,
    pub(crate) index: MemoryIndex,
    pub(crate) clock: Arc<ManualClock>,
}

impl World {
    pub(crate) fn new() -> Self {
        let (disk, clock) = (SimDisk::new(1, 64 << 20), ManualClock::at(1_700_000_000_000));
        Self { disk, index: MemoryIndex::default(), clock }
    }

    /// An engine over them; dropped, it ends without a clean stop.
    pub(crate) fn open(&self) -> Result<Stepped> {
        let options = EngineOptions {
            segment_bytes: 256 << 10,
            checkpoint_bytes: CHECKPOINT_BYTES,
            ..EngineOptions::new("/nowhere")
        };
        let mut salt = 0;
        let salts = Box::new(move || {
            salt += 1;
            salt
        });
        let log = LogOptions::new(StoreId([7; 16]));
        let (files, index) = (Arc::new(self.disk.clone()), Box::new(self.index.clone()));
        Stepped::open_with(files, log, index, options, Arc::<ManualClock>::clone(&self.clock), salts)
    }
}

pub(crate) fn publish(stepped: &mut Stepped, name: &str, numbers: std::ops::Range<u64>) {
    let engine = stepped.engine().clone();
    stepped.run(engine.publish(events(name, numbers))).expect("publishes");
}

#[test]
fn runs_that_write_little_and_are_killed_do_not_let_the_replay_grow() {
    let world = World::new();
    for run in 0..80 {
        let mut stepped = world.open().expect("opens");
        let from = world.index.checkpoint().map_or(0, |checkpoint| checkpoint.at.position.0);
        let replayed = stepped.report().end.0 - from;
        assert!(replayed < CHECKPOINT_BYTES + (4 << 10), "run {run} replayed {replayed} bytes");
        // One commit is enough for a checkpoint that is due.
        for n in 0..1 + run % 4 {
            publish(&mut stepped, "s", run * 100 + n * 10..run * 100 + n * 10 + 10);
        }
    }
    assert!(world.index.checkpoint().is_some(), "they wrote enough for a few");
}
