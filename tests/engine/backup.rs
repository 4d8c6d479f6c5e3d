//! Backups of a running engine, and what is restored of them: one state of all streams and groups, at any moment that the
//! backup covers, whatever is published, trimmed and reclaimed meanwhile.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use synapse::engine::{
    Acknowledge, BackupSource, CreateGroup, Engine, EngineOptions, Holder, Pull, Read, StartAt, Trim, TrimTo,
};
use synapse::error::{Error, Reason};
use synapse::format::segment::StoreId;
use synapse::storage::{Backup, BackupFolder, Checked, Restored, Taken, Until, Verifier};
use synapse::types::{GroupSettings, IdRange, LogPosition, Retention, StreamSettings};

use crate::index::{make_groups, told, work};
use crate::{consumer, events, group, stream, wait};

const ANOTHER: StoreId = StoreId([9; 16]);

fn open(data: &Path) -> Engine {
    let options = EngineOptions { segment_bytes: 256 << 10, checkpoint_bytes: 100_000, ..EngineOptions::new(data) };
    Engine::open(options).expect("opens")
}

/// Copies what is missing; answers how many bytes that was.
fn copy(folder: &mut BackupFolder, source: &BackupSource) -> u64 {
    folder.begin(source.plan()).expect("is of this store");
    let mut fetched = 0;
    for file in source.plan().files.clone() {
        let Some(mut receiving) = folder.receive(&file).expect("is taken") else { continue };
        while !receiving.is_whole() {
            let offset = receiving.next_offset();
            let piece = wait(source.read(&file.name, offset, 10_000)).expect("is read");
            fetched += piece.len() as u64;
            receiving.take(offset, &piece, crc32c(&piece)).expect("is next");
        }
        folder.keep(receiving).expect("is whole");
    }
    fetched
}

fn crc32c(bytes: &[u8]) -> u32 {
    synapse::format::crc::content(bytes)
}

fn back_up(engine: &Engine, to: &Path) -> (Taken, u64) {
    let mut folder = BackupFolder::open(to).expect("is a folder for a backup");
    folder.check(&mut |_| ()).expect("is read");
    let source = wait(engine.begin_backup()).expect("begins");
    let fetched = copy(&mut folder, &source);
    (folder.finish(source.plan()).expect("is whole"), fetched)
}

fn restore(from: &Path, to: &Path, until: Until) -> Result<Restored, Error> {
    Backup::open(from)?.restore(to, until, ANOTHER, 1_700_000_000_000, &mut |_| ())
}

/// Opens what was restored, asks it, and sees that it is sound.
fn asked<T>(data: &Path, ask: impl FnOnce(&Engine) -> T) -> T {
    let check = || {
        let report = Verifier::open(data).expect("is a store").run(&mut |checked| {
            if let Checked::Found(finding) = checked {
                assert!(!finding.is_flaw, "{finding:?}");
            }
        });
        report.expect("is checked")
    };
    check();
    let engine = open(data);
    let found = ask(&engine);
    wait(engine.shutdown()).expect("stops in order");
    check();
    found
}

#[test]
fn every_moment_comes_back_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, to) = (folder.path().join("data"), folder.path().join("backup"));
    let engine = open(&data);
    make_groups(&engine);
    let mut moments = Vec::new();
    let note = |moments: &mut Vec<(LogPosition, String)>| {
        let told = told(&engine);
        moments.push((LogPosition(engine.stats().synced_to), told));
    };
    work(&engine, 0);
    note(&mut moments);
    let (first, fetched) = back_up(&engine, &to);
    assert_eq!((first.covered.oldest.position, first.bytes), (LogPosition(0), fetched));
    work(&engine, 1);
    note(&mut moments);
    wait(engine.publish(events("logs", 0..50))).expect("publishes");
    note(&mut moments);
    let (second, fetched) = back_up(&engine, &to);
    assert!(second.bytes > fetched && fetched > 0, "{fetched} of {} bytes came again", second.bytes);
    assert_eq!(back_up(&engine, &to).1, 0, "nothing was written since");
    wait(engine.shutdown()).expect("stops");
    drop(engine);

    for (n, (position, told_then)) in moments.iter().enumerate() {
        let data = folder.path().join(format!("restored-{n}"));
        let restored = restore(&to, &data, Until::Position(*position)).expect("is covered");
        assert_eq!(restored.moment.position, *position);
        assert!(asked(&data, told) == *told_then, "moment {n}");
    }
    let last = folder.path().join("last");
    let restored = restore(&to, &last, Until::End).expect("restores");
    assert_eq!(restored.moment.position, second.covered.end.position);
    assert!(asked(&last, told) == moments[2].1);
    let nothing = folder.path().join("nothing");
    restore(&to, &nothing, Until::Position(LogPosition(0))).expect("restores the beginning");
    assert_eq!(asked(&nothing, |engine| engine.stats().streams), 0);
    // In the middle of a commit it is the state before that.
    let inside = folder.path().join("inside");
    let until = Until::Position(LogPosition(moments[1].0.0 + 1));
    assert_eq!(restore(&to, &inside, until).expect("restores").moment.position, moments[1].0);
}

#[test]
fn moments_that_are_not_covered_and_places_that_are_taken_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, to) = (folder.path().join("data"), folder.path().join("backup"));
    let engine = open(&data);
    for n in 0..100 {
        wait(engine.publish(events("s", n * 100..n * 100 + 100))).expect("publishes");
    }
    let trim = Trim { stream: stream("s"), to: TrimTo::KeepEntries(150), dry_run: false };
    wait(engine.trim(trim)).expect("trims");
    wait(engine.reclaim()).expect("reclaims");
    wait(engine.publish(events("s", 0..7))).expect("publishes");
    let (taken, _) = back_up(&engine, &to);
    let covered = taken.covered;
    assert!(covered.oldest.position.0 > 0 && covered.oldest.position < covered.end.position, "{covered:?}");
    let new = folder.path().join("new");
    for until in [
        Until::Position(LogPosition(covered.oldest.position.0 - 1)),
        Until::Position(LogPosition(covered.end.position.0 + 1)),
        Until::Time(covered.oldest.wall_ms - 1),
        Until::Time(covered.end.wall_ms + 1),
    ] {
        let error = restore(&to, &new, until).expect_err("is out of range");
        assert_eq!(error.reason(), Reason::InvalidArgument, "{error}");
        let range = format!("positions {} to {}", covered.oldest.position, covered.end.position);
        assert!(format!("{error:?}").contains(&range), "{error:?}");
        assert!(!new.exists());
    }
    restore(&to, &new, Until::Position(covered.oldest.position)).expect("the oldest is covered");
    assert_eq!(asked(&new, |engine| wait(engine.stream(&stream("s"))).expect("is there").length), 150);
    assert_eq!(restore(&to, &new, Until::End).expect_err("is occupied").reason(), Reason::DataDirectory);
    let error = restore(&data, &folder.path().join("x"), Until::End).expect_err("is no backup");
    assert_eq!(error.reason(), Reason::DataDirectory, "{error}");
    let error = BackupFolder::open(&data).err().expect("is no folder of a backup");
    assert_eq!(error.reason(), Reason::DataDirectory, "{error}");
    // Another store's backup does not go into the folder.
    let other = open(&folder.path().join("other"));
    let mut to = BackupFolder::open(&to).expect("opens");
    let source = wait(other.begin_backup()).expect("begins");
    assert_eq!(to.begin(source.plan()).expect_err("is another's").reason(), Reason::DataDirectory);
}

#[test]
fn a_damaged_backup_is_refused_by_file_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, to, new) = (folder.path().join("data"), folder.path().join("backup"), folder.path().join("new"));
    let engine = open(&data);
    make_groups(&engine);
    work(&engine, 0);
    back_up(&engine, &to);
    for entry in fs::read_dir(to.join("log")).expect("a folder") {
        let path = entry.expect("an entry").path();
        let sound = fs::read(&path).expect("is read");
        for at in [0, 20, 79, 100, sound.len() / 2, sound.len() - 1] {
            let mut bytes = sound.clone();
            bytes[at] ^= 8;
            fs::write(&path, bytes).expect("written");
            let error = restore(&to, &new, Until::End).expect_err("is damaged");
            assert_eq!(error.reason(), Reason::Corrupt, "{error}");
            assert!(error.message().contains(path.to_str().expect("text")), "{error}");
            assert!(!new.exists());
        }
        fs::write(&path, &sound[..sound.len() - 1]).expect("written");
        assert_eq!(restore(&to, &new, Until::End).expect_err("is cut").reason(), Reason::Corrupt);
        fs::remove_file(&path).expect("removed");
        assert_eq!(restore(&to, &new, Until::End).expect_err("is cut").reason(), Reason::Corrupt);
        fs::write(&path, &sound).expect("written");
    }
    // What is damaged is fetched again.
    let path = fs::read_dir(to.join("log")).expect("a folder").next().expect("a file").expect("an entry").path();
    let mut bytes = fs::read(&path).expect("is read");
    let length = bytes.len() as u64;
    bytes[1000] ^= 1;
    fs::write(&path, bytes).expect("written");
    assert!(back_up(&engine, &to).1 >= length);
    restore(&to, &new, Until::End).expect("is whole again");
}

#[test]
fn a_backup_under_load_is_one_state_of_everything() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, to) = (folder.path().join("data"), folder.path().join("backup"));
    let engine = open(&data);
    let retention = Retention { entries_max: Some(2_000), ..Retention::default() };
    let settings = StreamSettings { retention, ..StreamSettings::default() };
    wait(engine.create_stream(stream("short"), settings)).expect("makes it");
    let request = CreateGroup {
        stream: stream("a"),
        group: group("g"),
        start: StartAt::Earliest,
        settings: GroupSettings { ack_wait_ms: 3_600_000, ..GroupSettings::default() },
        create_stream: true,
    };
    wait(engine.create_group(request)).expect("makes it");
    let (done, published) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let n = published.load(Ordering::Relaxed);
                wait(engine.publish(events("a", n..n + 1))).expect("publishes");
                wait(engine.publish(events("b", n..n + 1))).expect("publishes");
                wait(engine.publish(events("short", n * 200..n * 200 + 200))).expect("publishes");
                published.fetch_add(1, Ordering::Relaxed);
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                consume(&engine);
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                wait(engine.reclaim()).expect("reclaims");
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let _ends = SetAtEnd(&done);
        for round in 0..5 {
            std::thread::sleep(Duration::from_millis(400));
            let before = published.load(Ordering::Relaxed);
            back_up(&engine, &to);
            let data = folder.path().join(format!("restored-{round}"));
            restore(&to, &data, Until::End).expect("restores");
            asked(&data, |restored| one_state(restored, before));
        }
    });
    assert!(published.load(Ordering::Relaxed) > 50, "there was a load");
}

/// Takes a few entries, and acknowledges every other one.
fn consume(engine: &Engine) {
    let pull = Pull {
        stream: stream("a"),
        group: group("g"),
        consumer: consumer("c"),
        entries_max: 4,
        bytes_max: 1 << 20,
        wait: Duration::from_millis(20),
        no_ack: false,
    };
    let got = match wait(engine.pull(pull)) {
        // Segments so small are full at times.
        Err(error) if error.reason() == Reason::Overloaded => return,
        got => got.expect("pulls"),
    };
    let ids: Vec<IdRange> = got.entries.iter().step_by(2).map(|d| IdRange::one(d.entry.id)).collect();
    if !ids.is_empty() {
        let holder = Holder::Anyone;
        let ack = Acknowledge { stream: stream("a"), group: group("g"), ids, holder, publish: Vec::new() };
        wait(engine.acknowledge(ack)).expect("acknowledges");
    }
}

/// What three streams and a group have is of one moment, not before so many rounds were published.
fn one_state(engine: &Engine, before: u64) {
    let all = |name: &str| {
        let mut range = IdRange::ALL;
        let mut entries = Vec::new();
        loop {
            let page = wait(engine.read(Read { range, entries_max: 1000, ..Read::all(stream(name)) })).expect("reads");
            entries.extend(page.entries);
            let Some(next) = page.next else { return entries };
            range.first = next;
        }
    };
    let (a, b) = (all("a"), all("b"));
    assert!(a.len() as u64 >= before && b.len() as u64 >= before, "{} {} of {before}", a.len(), b.len());
    assert!(a.len() == b.len() || a.len() == b.len() + 1, "{} of the one, {} of the other", a.len(), b.len());
    let appended = wait(engine.stream(&stream("short"))).expect("is there").appended;
    assert!(appended == b.len() as u64 * 200 || appended + 200 == b.len() as u64 * 200, "{appended}");
    // Retention goes on here: once it did what was to be done, nothing changes any more.
    let is_as_long = || all("short").len() as u64 == wait(engine.stream(&stream("short"))).expect("is there").length;
    assert!(is_as_long() || is_as_long(), "what can be read is as much as the stream tells");
    let of = wait(engine.group(&stream("a"), &group("g"))).expect("is there");
    assert_eq!(of.undelivered + of.pending + of.acknowledged, a.len() as u64, "{of:?}");
}

#[test]
fn files_stay_while_they_are_copied_and_only_then() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, to) = (folder.path().join("data"), folder.path().join("backup"));
    let engine = open(&data);
    for n in 0..100 {
        wait(engine.publish(events("s", n * 100..n * 100 + 100))).expect("publishes");
    }
    for n in 0..40 {
        wait(engine.publish(events("s", n * 1000..n * 1000 + 1000))).expect("publishes");
    }
    let source = wait(engine.begin_backup()).expect("begins");
    let trim = Trim { stream: stream("s"), to: TrimTo::KeepEntries(1), dry_run: false };
    wait(engine.trim(trim)).expect("trims");
    let segments = || fs::read_dir(data.join("log")).expect("a folder").count();
    let before = segments();
    std::thread::sleep(Duration::from_millis(500));
    assert!(segments() >= before, "a file went");
    let mut to_folder = BackupFolder::open(&to).expect("opens");
    copy(&mut to_folder, &source);
    to_folder.finish(source.plan()).expect("is whole");
    let second = wait(engine.begin_backup()).expect("two at a time");
    assert_eq!(wait(engine.begin_backup()).err().expect("no more").reason(), Reason::LimitReached);
    drop((source, second));
    wait(engine.reclaim()).expect("reclaims");
    assert!(segments() < before, "the space came back");
    let new = folder.path().join("new");
    restore(&to, &new, Until::End).expect("restores");
    assert_eq!(asked(&new, |engine| wait(engine.stream(&stream("s"))).expect("is there").length), 50_000);
}

/// Ends the threads beside a test however the test ends.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
