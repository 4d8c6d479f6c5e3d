//! Checkpoints on a disk in memory, stepped by hand: what a start replays, and what it trusts.

use synapse::engine::Read;
use synapse::engine::stepped::Stepped;
use synapse::error::Reason;
use synapse::storage::sim::SimDisk;
use synapse::storage::{Checkpoint, MemoryIndex};
use synapse::types::{EntryId, StreamSettings};

use crate::stream;
use crate::world::{CHECKPOINT_BYTES, World, publish};

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

impl World {
    /// The file and the place in it where the frame stands that the checkpoint names.
    fn frame(&self) -> (String, usize) {
        let position = self.checkpoint().at.position.0;
        let first = |name: &str| name.strip_suffix(".log").and_then(|first| first.parse::<u64>().ok());
        let files = self.disk.files();
        let logs = files.keys().filter_map(|name| Some((first(name)?, name)));
        let (first, name) = logs.filter(|(first, _)| *first <= position).max().expect("a file has it");
        (name.clone(), 80 + (position - first) as usize)
    }

    fn checkpoint(&self) -> Checkpoint {
        self.index.checkpoint().expect("there is one")
    }

    /// Works until a checkpoint is made, which names the last frame of the log then, and crashes.
    fn until_checkpoint(&self, mut work: impl FnMut(&mut Stepped, u64)) {
        let mut stepped = self.open().expect("opens");
        (0..).take_while(|_| self.index.checkpoint().is_none()).for_each(|n| work(&mut stepped, n));
    }

    /// A world of the same time with a copy of the files and of the checkpoint.
    fn fork(&self) -> Self {
        let disk = SimDisk::of_files(2, 64 << 20, self.disk.files());
        let index = MemoryIndex::default();
        index.replace(self.index.checkpoint());
        Self { disk, index, clock: self.clock.fork() }
    }
}

fn publish_ten(stepped: &mut Stepped, n: u64) {
    publish(stepped, "s", n * 10..n * 10 + 10);
}

fn create(stepped: &mut Stepped, n: u64) {
    let engine = stepped.engine().clone();
    let name = stream(&format!("stream-{n}"));
    stepped.run(engine.create_stream(name, StreamSettings::default())).expect("makes the stream");
}

/// Flips a byte of the content of the frame that the checkpoint names.
fn damage_content(world: &World) {
    let (name, at) = world.frame();
    let bytes = &world.disk.files()[&name][at..];
    let head = u32::from_le_bytes(bytes[8..12].try_into().expect("four bytes")) as usize;
    world.disk.corrupt(&name, at + head, |bytes| bytes[0] ^= 1);
}

#[test]
fn the_frame_that_a_checkpoint_names_is_never_taken_for_a_torn_tail() {
    let world = World::new();
    world.until_checkpoint(publish_ten);
    damage_content(&world);
    let forgetful = world.fork();
    let mut stepped = world.open().expect("damaged events refuse no start");
    let report = stepped.report();
    assert_eq!((report.cut.as_ref(), report.damaged_count), (None, 1));
    let engine = stepped.engine().clone();
    let read = stepped.run(engine.read(Read { reverse: true, entries_max: 1, ..Read::all(stream("s")) }));
    assert_eq!(read.expect_err("it is damaged").reason(), Reason::Corrupt);

    // Nothing but the checkpoint knew that it was synced.
    forgetful.index.replace(None);
    assert!(forgetful.open().expect("opens").report().cut.is_some());
}

#[test]
fn damaged_state_in_the_frame_that_a_checkpoint_names_is_refused() {
    let world = World::new();
    world.until_checkpoint(create);
    let (name, at) = world.frame();
    let headless = world.fork();
    headless.disk.corrupt(&name, at + 20, |bytes| bytes[0] ^= 1);
    damage_content(&world);
    for world in [&world, &headless] {
        let before = world.disk.files();
        let refused = world.open().err().expect("what is damaged was synced");
        assert_eq!(refused.reason(), Reason::Corrupt, "{refused}");
        assert!(world.disk.files() == before, "a refused start changes nothing");
        world.index.replace(None);
        assert!(world.open().expect("opens").report().cut.is_some());
    }
}

#[test]
fn a_checkpoint_of_another_history_is_not_used() {
    let world = World::new();
    publish_ten(&mut world.open().expect("opens"), 0);
    let (other, misaligned) = (world.fork(), world.fork());
    world.until_checkpoint(|stepped, n| publish(stepped, "s", 1000 + n * 10..1010 + n * 10));
    let ours = world.checkpoint();

    // The same sizes, other events: only the digest tells that this is not what was.
    other.until_checkpoint(|stepped, n| publish(stepped, "s", 5000 + n * 10..5010 + n * 10));
    let theirs = other.checkpoint();
    assert_eq!((theirs.at.position, theirs.at.end), (ours.at.position, ours.at.end));
    assert_ne!(theirs.at.digest, ours.at.digest);
    let before = dump(&mut other.open().expect("opens"));
    other.index.replace(Some(ours.clone()));
    let mut stepped = other.open().expect("the log alone is enough");
    assert!(stepped.report().frames > 20, "all was replayed, not {}", stepped.report().frames);
    assert!(dump(&mut stepped) == before, "what the checkpoint says of another history showed");
    assert!(other.index.checkpoint().is_none_or(|found| found != ours), "it was kept");

    // Where the log has no frame at that place, what was synced once is lost, or the index is no part of this copy.
    let mut stepped = misaligned.open().expect("opens");
    (0..60).for_each(|n| publish(&mut stepped, "s", n * 11..n * 11 + 11));
    drop(stepped);
    misaligned.index.replace(Some(ours));
    let refused = misaligned.open().err().expect("no frame begins there");
    assert_eq!(refused.reason(), Reason::Corrupt);
    assert!(refused.message().contains("before a checkpoint"), "{refused}");
    misaligned.index.replace(None);
    misaligned.open().expect("without the index the log is what there is");
}

fn dump(stepped: &mut Stepped) -> Vec<(EntryId, Vec<u8>)> {
    let engine = stepped.engine().clone();
    let page = stepped.run(engine.read(Read { entries_max: 10_000, ..Read::all(stream("s")) })).expect("reads");
    page.entries.into_iter().map(|entry| (entry.id, entry.bytes.to_vec())).collect()
}
