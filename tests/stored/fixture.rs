//! Data directories as earlier builds left them, and what has to be read from them.
//!
//! `tests/fixtures/store-N` is one that format version N was written in: `data` is the directory, `expected.txt` all
//! that can be asked of it, as text that does not depend on how this build names things inside. What a release wrote is
//! never written again. `cargo test --test stored -- --ignored write_the_fixture` writes the one of a new version.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use synapse::engine::stepped::Stepped;
use synapse::engine::{DeadLetter, GroupInfo, ListPending, PendingInfo, Read, StreamInfo};
use synapse::engine::{Engine, EngineOptions};
use synapse::error::Result;
use synapse::faults::Faults;
use synapse::format::crc;
use synapse::format::segment::FORMAT_VERSION;
use synapse::storage::{Files, Store};
use synapse::types::{IdRange, StoredEntry};

use crate::seen::drain;
use crate::store::{self, GROUPS, SESSIONS, group, remembered_event, remembered_request, stream};

/// Small enough that the fixture has one sealed segment and one that is being written.
const ROUNDS: u64 = 20;

pub(crate) fn folder_of(version: u16) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/store-{version}"))
}

#[test]
fn stores_of_every_format_version_are_read() {
    for version in 1..=FORMAT_VERSION {
        let folder = folder_of(version);
        let copy = tempfile::tempdir().expect("a temporary folder");
        copy_folder(&folder.join("data"), copy.path());
        let expected = fs::read_to_string(folder.join("expected.txt")).expect("beside the data");
        assert_eq!(told(copy.path()).expect("opens and is read"), expected, "version {version}");
        // What was asked changed the state: deliveries, acknowledgements. What stands in the streams is the same.
        assert_eq!(streams_of(&told(copy.path()).expect("opens again")), streams_of(&expected));
    }
}

#[test]
fn the_whole_engine_opens_what_earlier_builds_left() {
    for version in 1..=FORMAT_VERSION {
        let copy = tempfile::tempdir().expect("a temporary folder");
        copy_folder(&folder_of(version).join("data"), copy.path());
        let options = EngineOptions { segment_bytes: store::SEGMENT_BYTES, ..EngineOptions::new(copy.path()) };
        let engine = Engine::open(options).expect("opens");
        let report = engine.recovery();
        assert!(report.clean && report.damaged_count == 0 && report.damaged_indexes.is_empty(), "{report:?}");
        let page = futures::executor::block_on(engine.read(Read::all(stream("logs")))).expect("is read");
        let text: String = page.entries.iter().map(entry_line).collect();
        let expected = fs::read_to_string(folder_of(version).join("expected.txt")).expect("beside the data");
        assert!(!text.is_empty() && expected.contains(&text));
        futures::executor::block_on(engine.shutdown()).expect("stops");
    }
}

#[test]
#[ignore = "writes the fixture of a new version of the format"]
fn write_the_fixture() {
    let folder = folder_of(FORMAT_VERSION);
    assert!(!folder.exists(), "{} is there; what a release wrote stays as it is", folder.display());
    let data = folder.join("data");
    fs::create_dir_all(&folder).expect("made");
    let mut opened = Store::open(&data, 1_700_000_000_000, &mut || 0x5eed).expect("an empty folder opens");
    let files = opened.log_files().expect("the log folder is made");
    (0..SESSIONS).for_each(|session| store::fill(&files, opened.id(), session, ROUNDS));
    opened.mark_opened().expect("written");
    let spares = files.list().expect("listed").into_iter().filter(|name| name.starts_with("spare"));
    spares.for_each(|name| files.remove(&name).expect("removed"));
    drop(opened);
    fs::remove_file(data.join("LOCK")).expect("removed");
    let copy = tempfile::tempdir().expect("a temporary folder");
    copy_folder(&data, copy.path());
    fs::write(folder.join("expected.txt"), told(copy.path()).expect("is read")).expect("written");
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("listed") {
        let entry = entry.expect("listed");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("copied");
        }
    }
}

/// The lines about streams and their entries.
fn streams_of(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.starts_with("stream ") || line.starts_with("  entry ")).collect()
}

/// All that a data directory answers, as text.
fn told(data: &Path) -> Result<String> {
    let opened = Store::open(data, 0, &mut || 0)?;
    let files: Arc<dyn Files> = opened.log_files()?;
    let mut stepped = store::open(files, opened.id(), Faults::default())?;
    let mut out = String::new();
    tell_streams(&mut stepped, &mut out)?;
    for (name, of) in GROUPS {
        tell_group(&mut stepped, &mut out, name, of)?;
    }
    for (what, request) in [("request", remembered_request()), ("event", remembered_event())] {
        let engine = stepped.engine().clone();
        let answer = stepped.run(engine.publish(request))?;
        put(
            &mut out,
            format_args!("remembered {what}: {} to {}, duplicate {}", answer.first, answer.last, answer.duplicate),
        );
    }
    stepped.stop();
    Ok(out)
}

fn tell_streams(stepped: &mut Stepped, out: &mut String) -> Result<()> {
    let engine = stepped.engine().clone();
    for info in stepped.run(engine.streams("", None, 1000))? {
        let page = stepped.run(engine.read(Read::all(info.name.clone())))?;
        assert_eq!(page.next, None, "one page holds all");
        put(out, format_args!("{}", stream_line(&info)));
        page.entries.iter().for_each(|entry| out.push_str(&entry_line(entry)));
    }
    Ok(())
}

fn stream_line(info: &StreamInfo) -> String {
    let StreamInfo { name, number, settings, length, bytes, first, last, appended, deleted_max, created_ms, .. } = info;
    let first = first.map_or("none".to_owned(), |id| id.to_string());
    format!(
        "stream {name}: number {number}, {:?}, {length} entries of {bytes} bytes from {first} to {last}, \
         appended {appended}, deleted up to {deleted_max}, created {created_ms}",
        settings.description
    )
}

fn entry_line(entry: &StoredEntry) -> String {
    let (bytes, sum) = (entry.bytes.len(), crc::content(&entry.bytes));
    format!("  entry {} at {}: {:?} of {bytes} bytes, checksum {sum:08x}\n", entry.id, entry.append_ms, entry.kind)
}

fn tell_group(stepped: &mut Stepped, out: &mut String, name: &str, of: &str) -> Result<()> {
    let (engine, s, g) = (stepped.engine().clone(), stream(name), group(of));
    let info = stepped.run(engine.group(&s, &g))?;
    put(out, format_args!("{}", group_line(&info)));
    for consumer in &info.consumers {
        put(out, format_args!("  consumer {} holds {}", consumer.name, consumer.pending));
    }
    let (range, idle_min) = (IdRange::ALL, Duration::ZERO);
    let list = ListPending { stream: s.clone(), group: g.clone(), range, entries_max: 1000, consumer: None, idle_min };
    let pending = stepped.run(engine.list_pending(list))?;
    pending.iter().for_each(|entry| put(out, format_args!("{}", pending_line(entry))));
    if info.dead_lettered > 0 {
        let letters = stepped.run(engine.dead_letters(&s, &g, None, 1000))?;
        letters.letters.iter().for_each(|letter| put(out, format_args!("{}", letter_line(letter))));
    }
    let delivered = drain(stepped, name, of)?;
    assert!(delivered.gaps.is_empty());
    delivered.entries.values().for_each(|entry| put(out, format_args!("  delivers {}", entry.id)));
    Ok(())
}

fn group_line(info: &GroupInfo) -> String {
    let GroupInfo { stream, name, settings, cursor, undelivered, pending, waiting, .. } = info;
    let GroupInfo { skipped_by_trim, acknowledged, dead_lettered, oldest_unacknowledged_ms, .. } = info;
    let oldest = oldest_unacknowledged_ms.unwrap_or_default();
    format!(
        "group {name} of {stream}: {:?}, lease {} ms, {} deliveries, {} pending at most; cursor {cursor}, \
         {undelivered} undelivered from {oldest} on, {pending} pending, {waiting} waiting, \
         {skipped_by_trim} skipped, {acknowledged} acknowledged, {dead_lettered} dead letters",
        settings.dispatch, settings.ack_wait_ms, settings.max_deliveries, settings.pending_max
    )
}

fn pending_line(entry: &PendingInfo) -> String {
    let PendingInfo { id, consumer, idle_ms, due_ms, deliveries, failures } = entry;
    let (holder, due) =
        (consumer.as_ref().map_or("nobody".to_owned(), ToString::to_string), due_ms.unwrap_or_default());
    format!("  pending {id}: held by {holder}, idle {idle_ms}, due {due}, {deliveries} deliveries, {failures} failures")
}

fn letter_line(letter: &DeadLetter) -> String {
    let DeadLetter { id, origin_stream, origin_id, group, deliveries, failures, reason, failed_ms, .. } = letter;
    let sum = crc::content(&letter.entry.bytes);
    format!(
        "  letter {id}: {origin_id} of {origin_stream} by {group} at {failed_ms}, {deliveries} deliveries, \
         {failures} failures, {reason:?}, checksum {sum:08x}"
    )
}

fn put(out: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(out, "{line}").expect("a string takes everything");
}
