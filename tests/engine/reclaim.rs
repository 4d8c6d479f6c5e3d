//! Reclaim, on a disk in memory, stepped by hand, and as it goes by itself: space comes back, and nothing else changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use synapse::engine::stepped::Stepped;
use synapse::engine::{Engine, EngineOptions, Publish, Read, Trim, TrimTo};
use synapse::error::{Error, Reason, Result};
use synapse::faults::{Fault, Faults, Layer};
use synapse::format::event::Event;
use synapse::storage::sim::SimDisk;
use synapse::storage::{Checked, Checkpoint, LogOptions, StateIndex, Verifier};
use synapse::types::{EntryId, IdRange, NewEntry, Retention, StreamSettings};

use crate::space::{removed_held, space_held};
use crate::world::{SEGMENT_BYTES, STORE, World};
use crate::{stream, wait};

/// All that can be read of some streams, in both directions.
fn seen(stepped: &mut Stepped, names: &[&str]) -> String {
    let mut out = String::new();
    for name in names {
        let engine = stepped.engine().clone();
        let info = stepped.run(engine.stream(&stream(name))).expect("is there");
        out += &format!("{name}: {} {} {:?} {}\n", info.length, info.bytes, info.first, info.last);
        for reverse in [false, true] {
            for entry in all(stepped, name, reverse) {
                out += &format!("{} {} {:?}\n", entry.id, entry.append_ms, entry.bytes);
            }
        }
    }
    out
}

fn all(stepped: &mut Stepped, name: &str, reverse: bool) -> Vec<synapse::types::StoredEntry> {
    let engine = stepped.engine().clone();
    let mut range = IdRange::ALL;
    let mut found = Vec::new();
    loop {
        let read = Read { range, reverse, entries_max: 100, ..Read::all(stream(name)) };
        let page = stepped.run(engine.read(read)).expect("reads");
        found.extend(page.entries);
        match page.next {
            Some(next) if reverse => range.last = next,
            Some(next) => range.first = next,
            None => return found,
        }
    }
}

fn trim(stepped: &mut Stepped, name: &str, keep: u64) {
    let engine = stepped.engine().clone();
    let trim = Trim { stream: stream(name), to: TrimTo::KeepEntries(keep), dry_run: false };
    stepped.run(engine.trim(trim)).expect("trims");
}

fn delete(stepped: &mut Stepped, name: &str, ids: impl Iterator<Item = EntryId>) {
    let engine = stepped.engine().clone();
    let ids: Vec<EntryId> = ids.collect();
    for some in ids.chunks(100) {
        stepped.run(engine.delete_entries(&stream(name), some.to_vec())).expect("deletes");
    }
}

/// A publish of one event with this data.
fn one_of(name: &str, data: &[u8]) -> Publish {
    Publish::new(stream(name), vec![Event::new("t", data.to_vec()).into_entry().expect("valid")])
}

/// Publishes events of 300 bytes with these numbers, in one request.
fn publish(stepped: &mut Stepped, name: &str, numbers: std::ops::Range<u64>) {
    let event =
        |n: u64| Event::new(format!("t{}", n % 3), format!("{n:0300}").into_bytes()).into_entry().expect("valid");
    let engine = stepped.engine().clone();
    stepped.run(engine.publish(Publish::new(stream(name), numbers.map(event).collect()))).expect("publishes");
}

fn reclaim(stepped: &mut Stepped) {
    while stepped.reclaim() {}
    // What was given up goes once the state is kept.
    stepped.reclaim();
}

impl World {
    /// Bytes of files on the disk, those that stand ready included.
    fn bytes(&self) -> u64 {
        self.disk.files().values().map(|bytes| bytes.len() as u64).sum()
    }

    fn count(&self, prefix: &str) -> usize {
        self.disk.files().keys().filter(|name| name.starts_with(prefix)).count()
    }
}

/// Every way to start again gives the same.
fn starts_the_same(world: &World, names: &[&str], want: &str) {
    let check = |how: &str| {
        let mut stepped = world.open().unwrap_or_else(|error| panic!("{how}: {error}"));
        assert!(seen(&mut stepped, names) == want, "{how}");
    };
    let checkpoint = world.index.checkpoint();
    check("after a crash");
    world.index.replace(None);
    check("without the index");
    world.index.replace(checkpoint);
    check("with an old index");
}

#[test]
fn what_was_trimmed_gives_its_space_back() {
    let world = World::new();
    let mut stepped = world.open().expect("opens");
    for n in 0..100 {
        publish(&mut stepped, "s", n * 100..n * 100 + 100);
    }
    let full = world.bytes();
    assert!(full > 6 * SEGMENT_BYTES, "{full}");
    trim(&mut stepped, "s", 150);
    let before = seen(&mut stepped, &["s"]);
    reclaim(&mut stepped);
    assert!(world.bytes() <= 4 * SEGMENT_BYTES, "{} of {full} bytes are left", world.bytes());
    assert_eq!(world.count("snapshot-"), 1);
    assert_eq!(seen(&mut stepped, &["s"]), before);
    drop(stepped);
    starts_the_same(&world, &["s"], &before);
}

#[test]
fn deleted_entries_give_their_space_back_where_files_are_shared() {
    let world = World::new();
    let mut stepped = world.open().expect("opens");
    for n in 0..60 {
        publish(&mut stepped, "kept", n * 5..n * 5 + 5);
        publish(&mut stepped, "thinned", n * 100..n * 100 + 100);
    }
    let full = world.bytes();
    let ids: Vec<EntryId> = all(&mut stepped, "thinned", false).iter().map(|entry| entry.id).collect();
    let kept = |n: usize| n % 10 == 3 && n % 700 < 500;
    delete(&mut stepped, "thinned", ids.iter().enumerate().filter(|(n, _)| !kept(*n)).map(|(_, id)| *id));
    let before = seen(&mut stepped, &["kept", "thinned"]);
    reclaim(&mut stepped);
    assert!(world.count("c0") > 0, "files were rewritten");
    assert!(world.bytes() < full / 2, "{} of {full} bytes are left", world.bytes());
    assert_eq!(seen(&mut stepped, &["kept", "thinned"]), before);

    // Counts and ordinals are what they were: trims by count meet the same entries.
    let left: Vec<EntryId> = all(&mut stepped, "thinned", false).iter().map(|entry| entry.id).collect();
    trim(&mut stepped, "thinned", 77);
    let now: Vec<EntryId> = all(&mut stepped, "thinned", false).iter().map(|entry| entry.id).collect();
    assert_eq!(now, left[left.len() - 77..]);
    publish(&mut stepped, "thinned", 0..10);
    let engine = stepped.engine().clone();
    assert_eq!(stepped.run(engine.stream(&stream("thinned"))).expect("is there").length, 87);
    let after = seen(&mut stepped, &["kept", "thinned"]);
    drop(stepped);
    starts_the_same(&world, &["kept", "thinned"], &after);
}

#[test]
fn a_rewritten_file_is_rewritten_again() {
    let world = World::new();
    let mut stepped = world.open().expect("opens");
    for round in 0..6 {
        for n in 0..20 {
            publish(&mut stepped, "a", n * 50..n * 50 + 50);
            publish(&mut stepped, "b", n * 50..n * 50 + 50);
            publish(&mut stepped, &format!("gone-{round}"), n * 10..n * 10 + 10);
        }
        let ids: Vec<EntryId> = all(&mut stepped, "a", false).iter().map(|entry| entry.id).collect();
        delete(&mut stepped, "a", ids.iter().enumerate().filter(|(n, _)| n % 4 != 0).map(|(_, id)| *id));
        trim(&mut stepped, "b", 30);
        let engine = stepped.engine().clone();
        stepped.run(engine.delete_stream(&stream(&format!("gone-{round}")))).expect("deletes");
        let before = seen(&mut stepped, &["a", "b"]);
        reclaim(&mut stepped);
        assert_eq!(seen(&mut stepped, &["a", "b"]), before, "round {round}");
        assert!(world.bytes() < 6 * SEGMENT_BYTES, "round {round}: {} bytes", world.bytes());
        drop(stepped);
        starts_the_same(&world, &["a", "b"], &before);
        stepped = world.open().expect("opens");
    }
}

#[test]
fn nothing_that_was_deleted_is_left_after_everything_was_reclaimed() {
    let world = World::new();
    let mut stepped = world.open().expect("opens");
    let secret = b"the number of a card";
    for n in 0..40 {
        publish(&mut stepped, "s", n * 100..n * 100 + 100);
    }
    let engine = stepped.engine().clone();
    let published = stepped.run(engine.publish(one_of("s", secret))).expect("publishes");
    publish(&mut stepped, "s", 0..100);
    let holds = |world: &World| {
        world.disk.files().values().any(|bytes| bytes.windows(secret.len()).any(|window| window == secret))
    };
    assert!(holds(&world));
    delete(&mut stepped, "s", [published.first].into_iter());
    let before = seen(&mut stepped, &["s"]);
    stepped.reclaim_all().expect("nothing hinders it");
    stepped.reclaim();
    assert!(!holds(&world));
    assert_eq!(seen(&mut stepped, &["s"]), before);
    drop(stepped);
    starts_the_same(&world, &["s"], &before);
}

/// An index of which nothing can be read, written or put aside.
struct SickIndex;

impl StateIndex for SickIndex {
    fn load(&mut self) -> Result<Option<Checkpoint>> {
        Err(Error::new(Reason::StorageFailed, "no index can be read"))
    }
    fn save(&mut self, _: &Checkpoint) -> Result<()> {
        Err(Error::new(Reason::StorageFull, "no index can be written"))
    }
    fn put_aside(&mut self) -> Result<()> {
        Err(Error::new(Reason::StorageFailed, "no index can be put aside"))
    }
}

#[test]
fn an_index_that_fails_hinders_neither_reclaim_nor_a_start() {
    let world = World::new();
    let mut stepped = world.open_with(Box::new(SickIndex)).expect("opens");
    assert_eq!(stepped.engine().index_trouble().as_deref(), Some("no index can be read"));
    for round in 0..3 {
        for n in 0..100 {
            publish(&mut stepped, "s", n * 100..n * 100 + 100);
        }
        trim(&mut stepped, "s", 150);
        let (full, before) = (world.bytes(), seen(&mut stepped, &["s"]));
        reclaim(&mut stepped);
        assert!(world.bytes() <= 4 * SEGMENT_BYTES, "round {round}: {} of {full} bytes are left", world.bytes());
        assert_eq!(stepped.engine().index_trouble().as_deref(), Some("no index can be written"));
        drop(stepped);
        stepped = world.open_with(Box::new(SickIndex)).expect("opens again");
        assert_eq!(seen(&mut stepped, &["s"]), before, "round {round}");
    }
    drop(stepped);
    let mut stepped = world.open().expect("opens with one that works");
    assert_eq!(stepped.engine().index_trouble(), None);
    publish(&mut stepped, "s", 0..100);
}

#[test]
fn a_snapshot_that_found_no_room_is_written_later() {
    let world = World::new();
    let mut stepped = world.open().expect("opens");
    for n in 0..100 {
        publish(&mut stepped, "s", n * 100..n * 100 + 100);
    }
    trim(&mut stepped, "s", 0);
    world.disk.set_budget(0);
    let full = world.bytes();
    reclaim(&mut stepped);
    assert_eq!((world.bytes(), world.count("snapshot-")), (full, 0), "none can be written");
    world.disk.set_budget(64 << 20);
    // Nothing is published or trimmed meanwhile.
    for _ in 0..10 {
        world.clock.advance(Duration::from_secs(10));
        reclaim(&mut stepped);
    }
    assert!(world.bytes() <= 4 * SEGMENT_BYTES, "{} of {full} bytes are left", world.bytes());
    assert_eq!(world.count("snapshot-"), 1);
    let before = seen(&mut stepped, &["s"]);
    drop(stepped);
    starts_the_same(&world, &["s"], &before);
}

/// Nothing is dead, and there is no room for what is live of several files.
#[test]
fn with_little_room_files_are_rewritten_singly() {
    let world = World::new();
    let mut stepped = world.open().expect("opens");
    for n in 0..60 {
        publish(&mut stepped, "s", n * 100..n * 100 + 100);
    }
    let ids: Vec<EntryId> = all(&mut stepped, "s", false).iter().map(|entry| entry.id).collect();
    delete(&mut stepped, "s", ids.iter().enumerate().filter(|(n, _)| n % 8 != 0).map(|(_, id)| *id));
    let (full, before) = (world.bytes(), seen(&mut stepped, &["s"]));
    // Enough for a snapshot and for what is live of one file.
    world.disk.set_budget(200 << 10);
    for _ in 0..20 {
        world.clock.advance(Duration::from_secs(10));
        reclaim(&mut stepped);
    }
    assert!(world.bytes() < full / 2, "{} of {full} bytes are left", world.bytes());
    assert_eq!(seen(&mut stepped, &["s"]), before);
    drop(stepped);
    starts_the_same(&world, &["s"], &before);
}

/// What was deleted is gone within a day, however often the store is started in it; so is what a start cut off.
#[test]
fn the_time_for_deleted_bytes_to_go_outlives_restarts() {
    const STEP: Duration = Duration::from_secs(5 * 3600);
    let mut world = World::new();
    let secret = b"the number of a card";
    let holds = |world: &World| {
        world.disk.files().values().any(|bytes| bytes.windows(secret.len()).any(|window| window == secret))
    };
    let mut stepped = world.open().expect("opens");
    assert!(!stepped.reclaim_all_where_due().expect("is known"));
    let engine = stepped.engine().clone();
    let published = stepped.run(engine.publish(one_of("s", secret))).expect("publishes");
    publish(&mut stepped, "s", 0..10);
    delete(&mut stepped, "s", [published.first].into_iter());
    drop((stepped, engine));
    // As a start leaves it that finds a torn tail.
    let mut files = world.disk.files();
    files.insert("cut-00000000000000000080-00000000".into(), secret.to_vec());
    world.disk = SimDisk::of_files(1, 64 << 20, files);
    let mut hours = 0;
    while holds(&world) {
        assert!(hours < 24, "deleted bytes are there after {hours} hours");
        let mut stepped = world.open().expect("opens again");
        stepped.reclaim_all_where_due().expect("nothing hinders it");
        // What the clock showed last is in the log.
        publish(&mut stepped, "s", 0..1);
        world.clock.advance(STEP);
        stepped.reclaim_all_where_due().expect("nothing hinders it");
        publish(&mut stepped, "s", 0..1);
        hours += 5;
    }
    assert!(hours >= 20, "it was not due before");
    assert_eq!(world.count("erased-"), 1);
    let mut stepped = world.open().expect("opens again");
    assert!(!stepped.reclaim_all_where_due().expect("is known"), "the time begins anew");
}

#[test]
fn a_file_that_was_never_taken_into_use_goes_and_takes_nothing_with_it() {
    let world = World::new();
    let mut stepped = world.open().expect("opens");
    for n in 0..40 {
        publish(&mut stepped, "s", n * 100..n * 100 + 100);
    }
    drop(stepped);
    // As a crash leaves it that comes between the file and the commit that takes it into use.
    let mut files = world.disk.files();
    files.insert("c00000000000000000001.log".into(), vec![1; 5000]);
    let world = World { disk: SimDisk::of_files(1, 64 << 20, files), ..world };
    let mut stepped = world.open().expect("opens");
    let ids: Vec<EntryId> = all(&mut stepped, "s", false).iter().map(|entry| entry.id).collect();
    delete(&mut stepped, "s", ids.iter().enumerate().filter(|(n, _)| n % 5 != 0).map(|(_, id)| *id));
    let before = seen(&mut stepped, &["s"]);
    stepped.reclaim_all().expect("nothing hinders it");
    stepped.reclaim();
    assert!(world.count("c0") > 0 && world.count("c00000000000000000001") == 0);
    assert_eq!(seen(&mut stepped, &["s"]), before);
    drop(stepped);
    starts_the_same(&world, &["s"], &before);
}

#[test]
fn a_log_without_its_first_files_needs_a_state_that_covers_them() {
    let world = World::new();
    let mut stepped = world.open().expect("opens");
    for n in 0..100 {
        publish(&mut stepped, "s", n * 100..n * 100 + 100);
    }
    trim(&mut stepped, "s", 10);
    reclaim(&mut stepped);
    drop(stepped);
    world.index.replace(None);
    let name = world.disk.files().keys().find(|name| name.starts_with("snapshot-")).cloned().expect("there is one");
    world.disk.corrupt(&name, 100, |bytes| bytes[0] ^= 1);
    let error = world.open().err().expect("is refused");
    assert_eq!(error.reason(), Reason::Corrupt, "{error}");
    world.disk.corrupt(&name, 100, |bytes| bytes[0] ^= 1);
    let mut stepped = world.open().expect("opens again");
    assert_eq!(all(&mut stepped, "s", false).len(), 10);
}

/// What a check of the disk takes for damage: file, offset, and what it says.
fn flaws(world: &World) -> Vec<(String, u64, String)> {
    let verifier = Verifier::over(Arc::new(world.disk.clone()), &LogOptions::new(STORE)).expect("is listed");
    let mut found = Vec::new();
    let report = verifier.run(&mut |checked| {
        if let Checked::Found(finding) = checked
            && finding.is_flaw
        {
            found.push((finding.file, finding.offset, finding.message));
        }
    });
    report.expect("is checked");
    found
}

#[test]
fn a_check_knows_rewritten_files_and_snapshots() {
    let world = World::new();
    let mut stepped = world.open().expect("opens");
    for n in 0..60 {
        publish(&mut stepped, "kept", n * 5..n * 5 + 5);
        publish(&mut stepped, "thinned", n * 100..n * 100 + 100);
    }
    let ids: Vec<EntryId> = all(&mut stepped, "thinned", false).iter().map(|entry| entry.id).collect();
    delete(&mut stepped, "thinned", ids.iter().enumerate().filter(|(n, _)| n % 10 != 3).map(|(_, id)| *id));
    reclaim(&mut stepped);
    drop(stepped);
    assert_eq!(flaws(&world), []);
    let names: Vec<String> = world.disk.files().into_keys().collect();
    let rewritten = names.iter().find(|name| name.starts_with("c0")).expect("files were rewritten");
    let snapshot = names.iter().find(|name| name.starts_with("snapshot-")).expect("there is one");
    for (name, offset) in [(rewritten, 2000), (rewritten, 90), (rewritten, 40), (snapshot, 500)] {
        world.disk.corrupt(name, offset, |bytes| bytes[0] ^= 4);
        let found = flaws(&world);
        assert!(found.iter().any(|(file, ..)| file.ends_with(name.as_str())), "{name} at {offset}: {found:?}");
        world.disk.corrupt(name, offset, |bytes| bytes[0] ^= 4);
    }
    assert_eq!(flaws(&world), []);
    let lost: BTreeMap<String, Vec<u8>> =
        world.disk.files().into_iter().filter(|(name, _)| name != rewritten).collect();
    let world = World { disk: SimDisk::of_files(1, 64 << 20, lost), ..world };
    assert!(flaws(&world).iter().any(|(file, _, message)| file.ends_with(rewritten) && message.contains("missing")));
    let error = world.open().err().expect("is refused");
    assert_eq!(error.reason(), Reason::Corrupt, "{error}");
}

/// What a folder took of the disk at most while something was done.
fn largest_during(folder: &std::path::Path, work: impl FnOnce()) -> u64 {
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut largest = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                largest = largest.max(held(folder));
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            largest
        });
        work();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        watcher.join().expect("watches to the end")
    })
}

/// What a folder takes of the disk, removed files that are open in this process included.
fn held(folder: &std::path::Path) -> u64 {
    space_held(folder, std::process::id())
}

/// Whoever read a file or wrote it lets go of it with its removal, reads under way excepted.
#[test]
fn files_that_are_given_up_are_closed_by_all_who_had_them_open() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let options = || EngineOptions { segment_bytes: 1 << 20, cache_bytes: 1 << 20, ..EngineOptions::new(&data) };
    let event = || Event::new("t", vec![7; 10_000]).into_entry().expect("valid");
    let engine = Engine::open(options()).expect("opens");
    for round in 0..3 {
        for _ in 0..200 {
            wait(engine.publish(Publish::new(stream("s"), (0..10).map(|_| event()).collect()))).expect("publishes");
        }
        let mut range = IdRange::ALL;
        while let Some(next) = wait(engine.read(Read { range, ..Read::all(stream("s")) })).expect("reads").next {
            range.first = next;
        }
        let full = held(&data);
        let trim = Trim { stream: stream("s"), to: TrimTo::KeepEntries(3), dry_run: false };
        wait(engine.trim(trim)).expect("trims");
        let until = Instant::now() + Duration::from_secs(20);
        while held(&data) > 5 << 20 {
            assert!(Instant::now() < until, "round {round}: {} of {full} bytes are held", held(&data));
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(removed_held(&data, std::process::id()), Vec::<std::path::PathBuf>::new(), "round {round}");
    }
}

/// `SYNAPSE_RECLAIM_SCALE=64` publishes 4 GiB through a stream kept to 64 MiB, in segments of 64 MiB.
#[test]
fn a_stream_kept_to_so_much_never_holds_much_more_on_the_disk() {
    let scale: u64 = std::env::var("SYNAPSE_RECLAIM_SCALE").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let (segment, kept, all) = (scale << 20, scale << 20, scale << 26);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let options = EngineOptions { segment_bytes: segment, ..EngineOptions::new(&data) };
    let engine = Engine::open(options).expect("opens");
    let retention = Retention { bytes_max: Some(kept), ..Retention::default() };
    let settings = StreamSettings { retention, ..StreamSettings::default() };
    wait(engine.create_stream(stream("s"), settings)).expect("makes the stream");
    let events: Vec<NewEntry> = (0..64).map(|_| Event::new("t", vec![7; 1000]).into_entry().expect("valid")).collect();
    let bytes: u64 = events.iter().map(|event| event.bytes.len() as u64).sum();
    let largest = largest_during(&data, || {
        for _ in 0..all / bytes {
            wait(engine.publish(Publish::new(stream("s"), events.clone()))).expect("publishes");
        }
    });
    eprintln!("{} MiB published, at most {} MiB on the disk", all >> 20, largest >> 20);
    // Retention and reclaim follow what is published by a fraction of a second, in which small segments fill by dozens.
    assert!(
        largest <= 2 * kept + 4 * segment + if scale == 64 { 0 } else { all },
        "{largest} bytes on the disk, {kept} kept"
    );
    let until = Instant::now() + Duration::from_secs(20);
    while held(&data) > 2 * kept + 4 * segment {
        assert!(Instant::now() < until, "{} bytes stay on the disk", held(&data));
        std::thread::sleep(Duration::from_millis(20));
    }
    while engine.stats().log_bytes > 2 * kept + 4 * segment {
        assert!(Instant::now() < until, "{} bytes are told of {} on the disk", engine.stats().log_bytes, held(&data));
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut info = wait(engine.stream(&stream("s"))).expect("is there");
    // What was published last may wait for retention to come round.
    while info.bytes > kept {
        assert!(Instant::now() < until, "{} bytes stay in the stream", info.bytes);
        std::thread::sleep(Duration::from_millis(20));
        info = wait(engine.stream(&stream("s"))).expect("is there");
    }
    wait(engine.shutdown()).expect("stops in order");
    std::fs::remove_dir_all(data.join("index")).expect("removed");
    let engine = Engine::open(EngineOptions { segment_bytes: segment, ..EngineOptions::new(&data) }).expect("opens");
    let again = wait(engine.stream(&stream("s"))).expect("is there");
    assert!(again.length <= info.length && again.last == info.last && again.bytes <= kept, "{again:?}");
}

/// What was asked for is done when the answer comes, whichever way the entries went and whatever shares their file.
#[test]
fn everything_is_reclaimed_on_request() {
    let none = Faults::default();
    assert!(!is_left_by_reclaim(none, "s", delete_first), "of a deleted entry");
    let all = Trim { stream: stream("other"), to: TrimTo::KeepEntries(0), dry_run: false };
    let trimmed = |engine: &Engine, _| _ = wait(engine.trim(all)).expect("trims");
    assert!(!is_left_by_reclaim(none, "other", trimmed), "of a trimmed stream");
    let gone = |engine: &Engine, _| wait(engine.delete_stream(&stream("other"))).expect("deletes");
    assert!(!is_left_by_reclaim(none, "other", gone), "of a deleted stream");
}

#[test]
fn planted_faults_are_caught() {
    for fault in Fault::of(Layer::Reclaim) {
        assert!(is_left_by_reclaim(Faults::plant(fault), "s", delete_first), "{fault:?} is not noticed");
    }
}

fn delete_first(engine: &Engine, first: EntryId) {
    wait(engine.delete_entries(&stream("s"), vec![first])).expect("deletes");
}

/// Publishes what must not stay to this stream, and something harmless to `s`, removes the one and reclaims everything;
/// whether any of its bytes are left.
fn is_left_by_reclaim(faults: Faults, name: &str, remove: impl FnOnce(&Engine, EntryId)) -> bool {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let engine = Engine::open(EngineOptions { faults, ..EngineOptions::new(&data) }).expect("opens");
    let secret = b"the number of a card";
    let holds = || {
        let files = std::fs::read_dir(data.join("log")).expect("is there").flatten();
        files.into_iter().any(|file| {
            let bytes = std::fs::read(file.path()).unwrap_or_default();
            bytes.windows(secret.len()).any(|window| window == secret)
        })
    };
    let first = wait(engine.publish(one_of(name, secret))).expect("publishes").first;
    wait(engine.publish(one_of("s", b"harmless"))).expect("publishes");
    remove(&engine, first);
    assert!(holds());
    assert!(wait(engine.reclaim()).expect("reclaims") > 0);
    let page = wait(engine.read(Read::all(stream("s")))).expect("reads");
    assert_eq!(page.entries.len(), 1);
    assert_eq!(wait(engine.reclaim()).expect("reclaims again"), 0, "there was nothing left");
    holds()
}
