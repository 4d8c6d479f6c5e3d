//! The index is no truth: lost, old, another store's or damaged, every answer is the same as before. A log that lacks
//! what the index knows to be synced is refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use synapse::engine::{
    Acknowledge, CreateGroup, Engine, EngineOptions, Holder, ListPending, Nack, NackAction, ProducerSequence, Publish,
    Pull, Read, StartAt, Trim, TrimTo,
};
use synapse::error::Reason;
use synapse::types::{Dispatch, EntryId, GroupSettings, IdRange, ProducerId, StreamSettings};

use crate::{consumer, event, events, group, stream, wait};

const GROUPS: [(&str, &str); 2] = [("orders", "workers"), ("orders", "by-key")];

fn open(data: &Path) -> synapse::error::Result<Engine> {
    // Of so few segments it is never worth to give any up, so that there is no snapshot to start from.
    Engine::open(EngineOptions { segment_bytes: 256 << 10, checkpoint_bytes: 100_000, ..EngineOptions::new(data) })
}

fn stop(engine: Engine) {
    wait(engine.shutdown()).expect("stops in order");
}

/// Makes the groups that [`work`] works with.
pub(crate) fn make_groups(engine: &Engine) {
    for (n, (name, of)) in GROUPS.into_iter().enumerate() {
        let dispatch = if n == 0 { Dispatch::Shared } else { Dispatch::KeyOrdered };
        // Leases that outlast the test: what comes back by itself would differ from run to run.
        let settings =
            GroupSettings { dispatch, max_deliveries: 2, ack_wait_ms: 3_600_000, ..GroupSettings::default() };
        let start = StartAt::Earliest;
        let request = CreateGroup { stream: stream(name), group: group(of), start, settings, create_stream: true };
        wait(engine.create_group(request)).expect("makes the group");
    }
}

/// A store with something of everything, in several segments; `between` is called in the middle, while it is stopped.
fn fill(data: &Path, between: impl FnOnce()) {
    let engine = open(data).expect("opens");
    make_groups(&engine);
    work(&engine, 0);
    stop(engine);
    between();
    let engine = open(data).expect("opens again");
    work(&engine, 1);
    let settings = StreamSettings { description: "orders".into(), ..StreamSettings::default() };
    wait(engine.update_stream(&stream("orders"), settings)).expect("updates");
    stop(engine);
}

pub(crate) fn work(engine: &Engine, round: u64) {
    for n in 0..200 {
        let numbers = round * 10_000 + n * 10..round * 10_000 + n * 10 + 10;
        let producer = ProducerSequence { producer: ProducerId::parse("p").expect("valid"), sequence: round * 200 + n };
        let publish = Publish { producer: Some(producer), ..events("orders", numbers.clone()) };
        wait(engine.publish(publish)).expect("publishes");
        let numbered = (numbers.start..numbers.start + 2).map(event).collect();
        let publish = Publish { dedup_by_event_id: true, ..Publish::new(stream("logs"), numbered) };
        wait(engine.publish(publish)).expect("publishes");
    }
    for (name, of) in GROUPS {
        let ids = pull(engine, name, of, 60);
        if ids.is_empty() {
            // Every key is busy with what was left in the first round.
            assert_eq!((round, of), (1, "by-key"));
            continue;
        }
        let some = |from: usize, to: usize| ids[from..to].iter().map(|id| IdRange::one(*id)).collect();
        let (s, g, holder) = (stream(name), group(of), Holder::Anyone);
        let ack = Acknowledge { stream: s.clone(), group: g.clone(), ids: some(3, 20), holder, publish: vec![] };
        wait(engine.acknowledge(ack)).expect("acknowledges");
        for (from, to, action) in [
            (20, 24, NackAction::DeadLetter { reason: "broken".into() }),
            (24, 30, NackAction::Retry { delay: Some(Duration::from_secs(86_400)) }),
        ] {
            let holder = Holder::Anyone;
            let nack = Nack { stream: s.clone(), group: g.clone(), ids: some(from, to), holder, action };
            wait(engine.nack(nack)).expect("is taken");
        }
        let doomed = vec![ids[30], ids[32]];
        wait(engine.delete_entries(&s, doomed)).expect("deletes");
    }
    let trim = Trim { stream: stream("logs"), to: TrimTo::KeepEntries(150), dry_run: false };
    wait(engine.trim(trim)).expect("trims");
    wait(engine.publish(events("short-lived", 0..3))).expect("publishes");
    wait(engine.delete_stream(&stream("short-lived"))).expect("deletes");
}

fn pull(engine: &Engine, name: &str, of: &str, max: usize) -> Vec<EntryId> {
    let request = Pull {
        stream: stream(name),
        group: group(of),
        consumer: consumer("c"),
        entries_max: max,
        bytes_max: 1 << 20,
        wait: Duration::ZERO,
        no_ack: false,
    };
    wait(engine.pull(request)).expect("pulls").entries.iter().map(|d| d.entry.id).collect()
}

/// Everything that can be asked, as text, without what depends on when it is asked.
fn answers(engine: &Engine) -> String {
    let producer = ProducerSequence { producer: ProducerId::parse("p").expect("valid"), sequence: 399 };
    let again = Publish { producer: Some(producer), ..events("orders", 11_990..12_000) };
    told(engine) + &format!("{:?}", wait(engine.publish(again)).expect("is remembered"))
}

/// What streams, groups, pending entries and dead letters there are.
pub(crate) fn told(engine: &Engine) -> String {
    let mut out = String::new();
    for info in wait(engine.streams("", None, 100)).expect("lists") {
        out += &format!("{info:#?}\n");
        let page = wait(engine.read(Read { entries_max: 10_000, ..Read::all(info.name.clone()) })).expect("reads");
        assert!(page.next.is_none());
        for entry in page.entries {
            out += &format!("{} {} {:?}\n", entry.id, entry.append_ms, entry.bytes);
        }
    }
    for (name, of) in GROUPS {
        let mut info = wait(engine.group(&stream(name), &group(of))).expect("is there");
        for consumer in &mut info.consumers {
            (consumer.idle_ms, consumer.inactive_ms) = (0, consumer.inactive_ms.map(|_| 0));
        }
        out += &format!("{info:#?}\n");
        let all = ListPending {
            stream: stream(name),
            group: group(of),
            range: IdRange::ALL,
            entries_max: 10_000,
            consumer: None,
            idle_min: Duration::ZERO,
        };
        for p in wait(engine.list_pending(all)).expect("lists") {
            out += &format!("{} {:?} {} {} {}\n", p.id, p.consumer, p.deliveries, p.failures, p.due_ms.is_some());
        }
        let letters = wait(engine.dead_letters(&stream(name), &group(of), None, 1000)).expect("lists").letters;
        letters.iter().for_each(|letter| out += &format!("{} {:?}\n", letter.id, letter));
    }
    out
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copies");
        }
    }
}

fn files_under(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files_under(&path, out) } else { out.push(path) }
    }
}

/// A filled store, stopped in order, what it answers, and its index as it was before the second half.
struct Filled {
    folder: tempfile::TempDir,
    answers: String,
}

impl Filled {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        let old = folder.path().join("old");
        fill(&data, || copy(&data.join("index"), &old));
        copy(&data, &folder.path().join("asked"));
        let engine = open(&folder.path().join("asked")).expect("opens");
        assert!(engine.recovery().frames <= 1, "replayed {} commits after a clean stop", engine.recovery().frames);
        assert!(engine.recovery().segments > 1, "one segment is too few");
        let answers = answers(&engine);
        assert!(answers.len() > 100_000, "there is much to ask for");
        Self { folder, answers }
    }

    /// A copy of the store in which something happened to the index.
    fn with(&self, name: &str, change: impl FnOnce(&Path)) -> PathBuf {
        let data = self.folder.path().join(name);
        copy(&self.folder.path().join("data"), &data);
        change(&data.join("index"));
        data
    }

    /// The copy answers what the store did; says how many commits were replayed for it.
    fn check(&self, what: &str, data: &Path) -> u64 {
        let engine = open(data).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(answers(&engine) == self.answers, "{what}: other answers");
        let replayed = engine.recovery().frames;
        stop(engine);
        fs::remove_dir_all(data).expect("removed");
        replayed
    }
}

#[test]
fn without_its_index_or_with_an_old_or_foreign_one_the_store_is_the_same() {
    let filled = Filled::new();
    let remove = |index: &Path| fs::remove_dir_all(index).expect("removed");
    let lost = filled.check("lost", &filled.with("lost", remove));
    assert!(lost > 400, "everything was replayed, not {lost}");
    let old = filled.with("with-old", |index| {
        remove(index);
        copy(&filled.folder.path().join("old"), index);
    });
    let replayed = filled.check("an old copy", &old);
    assert!(replayed > 100 && replayed < lost, "{replayed} of {lost}");
    let other = tempfile::tempdir().expect("a folder");
    fill(other.path(), || ());
    let foreign = filled.with("foreign", |index| {
        remove(index);
        copy(&other.path().join("index"), index);
    });
    assert_eq!(filled.check("another store's", &foreign), lost);
}

#[test]
fn a_rebuilt_index_gives_the_same_answers() {
    let filled = Filled::new();
    let data = filled.with("rebuilt", |_| ());
    let mut told = Vec::new();
    let rebuilt = synapse::engine::rebuild(&data, &mut |replay| told.push(replay)).expect("rebuilds");
    assert!(rebuilt.frames > 400, "everything was replayed, not {}", rebuilt.frames);
    // What the start before it tells comes first.
    let told = &told[told.len() - rebuilt.frames as usize..];
    assert!(told.is_sorted_by(|a, b| a.done < b.done && a.total == b.total), "it only rises");
    let last = told.last().expect("there were commits");
    assert!(last.done <= last.total && last.total - last.done < 256 << 10, "{last:?}");
    assert_eq!(last.done, rebuilt.bytes);
    let replayed = filled.check("rebuilt", &data);
    assert!(replayed <= 1, "{replayed} commits were replayed after it");
}

#[test]
fn a_flipped_byte_anywhere_in_the_index_changes_no_answer() {
    let filled = Filled::new();
    let mut files = Vec::new();
    files_under(&filled.folder.path().join("data/index"), &mut files);
    let mut tried = 0;
    for file in files {
        let length = fs::metadata(&file).expect("it is there").len();
        let name = file.strip_prefix(filled.folder.path().join("data/index")).expect("under it").to_owned();
        // A spread that begins elsewhere each time; every byte is flipped under the index alone, which is quick.
        let step = (length / FLIPS_PER_FILE).max(1);
        let first = getrandom::u64().expect("random numbers") % step;
        for at in (first..length).step_by(step as usize) {
            let data = filled.with("flipped", |index| {
                let mut bytes = fs::read(index.join(&name)).expect("read");
                bytes[at as usize] ^= 1 << (at % 8);
                fs::write(index.join(&name), bytes).expect("written");
            });
            filled.check(&format!("byte {at} of {}", name.display()), &data);
            tried += 1;
        }
    }
    assert!(tried > 20, "{tried}");
}

/// Flips tried in one file of the index.
const FLIPS_PER_FILE: u64 = 25;

#[test]
fn a_log_that_lacks_what_the_index_knows_is_refused() {
    let filled = Filled::new();
    let data = filled.with("shorter", |_| ());
    let mut logs = Vec::new();
    files_under(&data.join("log"), &mut logs);
    logs.retain(|path| path.extension().is_some_and(|e| e == "log"));
    let last = logs.iter().max().expect("there are log files");
    fs::remove_file(last).expect("removed");
    let refused = open(&data).err().expect("the last file is missing");
    assert_eq!(refused.reason(), Reason::Corrupt, "{refused}");
}
