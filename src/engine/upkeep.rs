//! Upkeep of a data directory that nobody has open: making the index anew from the log, giving space back.
//!
//! An ordinary start comes first: it recovers what a crash left with all that the old index knows of it, and stops in
//! order. Where that start used a checkpoint, a second one replays the log from its last snapshot, or its beginning, and
//! only once that succeeded is the old index put aside for the new one. Whatever fails before that leaves the old index in its place.

use std::path::Path;
use std::sync::Arc;

use super::handle::Engine;
use super::options::EngineOptions;
use super::parts::{Progress, Replay};
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Reason, Result};
use crate::limits;
use crate::storage::{Checkpoint, LogExtent, SledIndex, StateIndex, Store};
use crate::types::LogPosition;

/// What a rebuild did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// Commits that were replayed.
    pub frames: u64,
    /// Their bytes in the log.
    pub bytes: u64,
    /// Streams that there are.
    pub streams: u64,
    /// Groups that there are.
    pub groups: u64,
}

/// Makes the index of this data directory anew from its log, and tells after every commit how far it is.
///
/// Fails as [`Engine::open`] does; the index is left as it was then.
pub fn rebuild(data_dir: &Path, progress: &mut dyn FnMut(Replay)) -> Result<Rebuilt> {
    let mut done = replay(data_dir, Store::index, &mut *progress)?;
    if done.resumed {
        let fresh = |store: &Store| Fresh { index: store.index(), begun: false };
        done = replay(data_dir, fresh, progress)?;
    }
    let written = Store::open_existing(data_dir)?.index().load()?;
    if written.is_none_or(|checkpoint| checkpoint.at.end != done.end) {
        return Err(Error::new(Reason::StorageFailed, "the new index could not be written"));
    }
    Ok(done.rebuilt)
}

/// A start that stopped again.
struct Done {
    rebuilt: Rebuilt,
    /// Whether it replayed from a checkpoint on only.
    resumed: bool,
    /// Position after the mark of the clean stop.
    end: LogPosition,
}

/// Starts with this index, and stops in order.
fn replay<I: StateIndex + 'static>(
    data_dir: &Path,
    index: impl FnOnce(&Store) -> I,
    progress: Progress<'_>,
) -> Result<Done> {
    let store = Store::open_existing(data_dir)?;
    let options = options_of(&store)?;
    let index = Box::new(index(&store));
    let clock: Arc<dyn Clock> = SystemClock::new();
    let engine = Engine::open_store(store, index, options, clock, progress)?;
    let (report, stats) = (engine.recovery(), engine.stats());
    let bytes = report.end.0 - engine.resumed_from().unwrap_or(report.first).0;
    let rebuilt = Rebuilt { frames: report.frames, bytes, streams: stats.streams, groups: stats.groups };
    engine.0.stop()?;
    let (resumed, end) = (engine.resumed_from().is_some(), LogPosition(engine.stats().synced_to));
    Ok(Done { rebuilt, resumed, end })
}

/// The settings with which a server's data directory is opened beside it.
fn options_of(store: &Store) -> Result<EngineOptions> {
    let extent = LogExtent::of(&*store.log_files()?)?;
    let mut options = EngineOptions::new(store.path());
    // Files are allocated ahead; those that a server made and will use again are of the length that it was told.
    let lengths = limits::SEGMENT_BYTES_MIN..=limits::SEGMENT_BYTES_MAX;
    if let Some(extent) = extent.filter(|extent| lengths.contains(&extent.segment_bytes)) {
        options.segment_bytes = extent.segment_bytes;
    }
    Ok(options)
}

/// Gives back the space of everything that no longer exists in this data directory, which nobody has open, so that none
/// of its bytes are left there. Answers by how many bytes its files became smaller.
///
/// Fails as [`Engine::open`] does.
pub fn reclaim(data_dir: &Path, progress: &mut dyn FnMut(Replay)) -> Result<u64> {
    let store = Store::open_existing(data_dir)?;
    let (options, index) = (options_of(&store)?, Box::new(store.index()));
    let engine = Engine::open_store(store, index, options, SystemClock::new(), progress)?;
    let done = futures::executor::block_on(engine.reclaim());
    engine.0.stop()?;
    done
}

/// An index that knows nothing, and takes the old one's place once there is something to write.
struct Fresh {
    index: SledIndex,
    begun: bool,
}

impl StateIndex for Fresh {
    fn load(&mut self) -> Result<Option<Checkpoint>> {
        Ok(None)
    }
    fn save(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        if !self.begun {
            self.index.put_aside()?;
            self.begun = true;
        }
        self.index.save(checkpoint)
    }
    fn put_aside(&mut self) -> Result<()> {
        Ok(())
    }
}
