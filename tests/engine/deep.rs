//! The deep check: silent on what is sound, whatever a start would go on from, and told of a state that differs and of
//! entries that are named and cannot be read. It changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use synapse::engine::{DeepReport, Engine, EngineOptions, ListPending, Trim, TrimTo, verify_deep};
use synapse::error::Reason;
use synapse::format::state::Row;
use synapse::storage::{SledIndex, StateIndex};
use synapse::types::IdRange;

use crate::index::{make_groups, work};
use crate::{events, group, stream, wait};

fn open(data: &Path) -> Engine {
    let options = EngineOptions { segment_bytes: 256 << 10, checkpoint_bytes: 100_000, ..EngineOptions::new(data) };
    Engine::open(options).expect("opens")
}

fn bytes_of(folder: &Path, out: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            bytes_of(&path, out);
        } else {
            out.insert(path.clone(), fs::read(&path).expect("is read"));
        }
    }
}

/// Checks, and sees that nothing changed.
fn checked(data: &Path) -> DeepReport {
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    bytes_of(data, &mut before);
    let report = verify_deep(data).expect("a start is possible");
    bytes_of(data, &mut after);
    assert!(before == after, "the directory is as it was");
    report
}

/// A store with something of everything.
fn filled(folder: &Path) -> PathBuf {
    let data = folder.join("data");
    let engine = open(&data);
    make_groups(&engine);
    work(&engine, 0);
    work(&engine, 1);
    wait(engine.shutdown()).expect("stops in order");
    data
}

#[test]
fn every_state_comes_to_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = filled(folder.path());
    let report = checked(&data);
    assert_eq!(
        (&report.flaws, report.compared.as_slice()),
        (&vec![], &["the log's beginning", "the index"].map(String::from)[..])
    );
    assert!(report.rows > 10 && report.entries > 100, "{report:?}");
    // With files given up there is a snapshot, and something to replay after it.
    let engine = open(&data);
    for n in 0..40 {
        wait(engine.publish(events("more", n * 500..n * 500 + 500))).expect("publishes");
    }
    let trim = Trim { stream: stream("more"), to: TrimTo::KeepEntries(150), dry_run: false };
    wait(engine.trim(trim)).expect("trims");
    wait(engine.reclaim()).expect("reclaims");
    wait(engine.publish(events("more", 0..7))).expect("publishes");
    let error = verify_deep(&data).expect_err("is in use");
    assert_eq!(error.reason(), Reason::DataDirectory, "{error}");
    wait(engine.shutdown()).expect("stops in order");
    let report = checked(&data);
    assert_eq!(report.flaws, Vec::<String>::new());
    assert_eq!(report.compared, ["the snapshot", "the index"]);
}

#[test]
fn an_index_that_says_something_else_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = filled(folder.path());
    let mut index = SledIndex::new(&data.join("index"));
    let mut checkpoint = index.load().expect("is read").expect("is there");
    for (key, content) in &mut checkpoint.rows {
        if let Ok(Row::Group(mut row)) = Row::decode(key.kind, checkpoint.version, content) {
            row.acknowledged += 1;
            *content = Row::Group(row).encode();
        }
    }
    index.save(&checkpoint).expect("is saved");
    drop(index);
    let report = checked(&data);
    assert_eq!(report.flaws.len(), 2, "one for each group: {report:?}");
    assert!(report.flaws[0].contains("by the log") && report.flaws[0].contains("acknowledged"), "{report:?}");
}

#[test]
fn a_pending_entry_that_cannot_be_read_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = filled(folder.path());
    let engine = open(&data);
    let all = ListPending {
        stream: stream("orders"),
        group: group("workers"),
        range: IdRange::ALL,
        entries_max: 1,
        consumer: None,
        idle_min: Duration::ZERO,
    };
    let id = wait(engine.list_pending(all)).expect("lists")[0].id;
    let read = synapse::engine::Read { range: IdRange::one(id), ..synapse::engine::Read::all(stream("orders")) };
    let entry = wait(engine.read(read)).expect("reads").entries.remove(0);
    wait(engine.shutdown()).expect("stops in order");
    drop(engine);
    let path = data.join("log").join("00000000000000000000.log");
    let mut bytes = fs::read(&path).expect("is read");
    let at =
        bytes.windows(entry.bytes.len()).position(|window| window == entry.bytes).expect("stands in the first file");
    bytes[at] ^= 1;
    fs::write(&path, bytes).expect("written");
    let report = checked(&data);
    let told = |flaw: &&String| flaw.contains("pending in group workers") && flaw.contains("CORRUPT");
    assert!(report.flaws.iter().any(|flaw| told(&flaw)), "{report:?}");
}
