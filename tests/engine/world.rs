//! An engine on a disk in memory, stepped by hand, with a clock that does what it is told.

use std::sync::Arc;

use synapse::clock::ManualClock;
use synapse::engine::EngineOptions;
use synapse::engine::stepped::Stepped;
use synapse::error::Result;
use synapse::format::segment::StoreId;
use synapse::storage::sim::SimDisk;
use synapse::storage::{LogOptions, MemoryIndex, StateIndex};

use crate::events;

/// Whose log it is.
pub(crate) const STORE: StoreId = StoreId([7; 16]);
/// Length of a segment.
pub(crate) const SEGMENT_BYTES: u64 = 256 << 10;
/// Log between two checkpoints.
pub(crate) const CHECKPOINT_BYTES: u64 = 32 << 10;

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
        self.open_with(Box::new(self.index.clone()))
    }

    /// The same over another index.
    pub(crate) fn open_with(&self, index: Box<dyn StateIndex>) -> Result<Stepped> {
        let options = EngineOptions {
            segment_bytes: SEGMENT_BYTES,
            checkpoint_bytes: CHECKPOINT_BYTES,
            ..EngineOptions::new("/nowhere")
        };
        let mut salt = 0;
        let salts = Box::new(move || {
            salt += 1;
            salt
        });
        let log = LogOptions::new(STORE);
        let files = Arc::new(self.disk.clone());
        Stepped::open_with(files, log, index, options, Arc::<ManualClock>::clone(&self.clock), salts)
    }
}

/// Publishes events with these numbers.
pub(crate) fn publish(stepped: &mut Stepped, name: &str, numbers: std::ops::Range<u64>) {
    let engine = stepped.engine().clone();
    stepped.run(engine.publish(events(name, numbers))).expect("publishes");
}
