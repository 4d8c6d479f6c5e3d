//! Crashes on the simulated disk: power lost before every operation of a mixed workload, failed operations, a full
//! disk, and planted faults that must be caught.
//!
//! The engine runs stepped on one thread, so a seed and the number of an operation say everything about a run.
//! `SYNAPSE_CRASH_SEEDS` sets how many seeds are run (2 unless set).

#[path = "crash/world.rs"]
mod world;

use std::sync::Arc;

use synapse::engine::EngineFaults;
use synapse::error::Reason;
use synapse::storage::sim::SimDisk;
use synapse::storage::{Checked, Faults, Finding, MemoryIndex, Verifier};
use world::{World, run_until_power_off};

fn seeds() -> u64 {
    std::env::var("SYNAPSE_CRASH_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(2)
}

/// Runs a workload with the power lost before operation `at`, then recovers twice. Answers what was violated.
fn crash_at(seed: u64, at: u64, faults: EngineFaults) -> Result<(), String> {
    let (disk, record) = run_until_power_off(seed, Some(at), faults);
    let survived = disk.crash();
    // The index survives every other crash.
    let index = if at.is_multiple_of(2) { record.index.clone() } else { MemoryIndex::default() };
    let mut first = World::open_with(&survived, &index, seed, EngineFaults::default())
        .map_err(|e| format!("recovery refused: {e}"))?;
    let state = first.dump();
    record.check(&state)?;
    drop(first);
    let again = survived.crash();
    let mut second =
        World::open(&again, seed, EngineFaults::default()).map_err(|e| format!("second recovery refused: {e}"))?;
    if second.dump() != state {
        return Err("a second recovery gives another state".into());
    }
    record.check_group(&mut second)
}

fn operations(seed: u64) -> u64 {
    run_until_power_off(seed, None, EngineFaults::default()).0.operations()
}

#[test]
fn every_crash_point_recovers_to_what_was_acknowledged() {
    for seed in 1..=seeds() {
        let count = operations(seed);
        assert!(count > 150, "the workload has {count} operations only");
        for at in 0..=count {
            crash_at(seed, at, EngineFaults::default())
                .unwrap_or_else(|violation| panic!("seed {seed}, crash before operation {at} of {count}: {violation}"));
        }
    }
}

/// What a check of what is on the disk takes for damage.
fn flaws(disk: &SimDisk) -> Vec<Finding> {
    let mut flaws = Vec::new();
    let verifier = Verifier::over(Arc::new(disk.clone()), &world::log_options()).expect("the folder is listed");
    let report = verifier.run(&mut |checked| match checked {
        Checked::Found(finding) if finding.is_flaw => flaws.push(finding),
        Checked::Found(_) | Checked::Bytes(_) => {}
    });
    report.expect("is checked");
    flaws
}

#[test]
fn no_crash_looks_like_damage_to_a_check() {
    let count = operations(1);
    for at in 0..=count {
        let (disk, _) = run_until_power_off(1, Some(at), EngineFaults::default());
        let survived = disk.crash();
        assert_eq!(flaws(&survived), [], "crash before operation {at} of {count}");
        drop(World::open(&survived, 1, EngineFaults::default()).expect("recovers"));
        assert_eq!(flaws(&survived), [], "recovered from a crash before operation {at} of {count}");
        assert_eq!(flaws(&survived.crash()), [], "recovered, and again a crash, {at} of {count}");
    }
}

/// Whether the checker catches a planted fault at some crash point.
fn is_caught(faults: EngineFaults) -> bool {
    let count = operations(1);
    (0..=count).any(|at| crash_at(1, at, faults).is_err())
}

#[test]
fn skipping_the_sync_is_caught() {
    assert!(is_caught(EngineFaults {
        log: Faults { skip_sync: true, ..Faults::default() },
        ..EngineFaults::default()
    }));
}

#[test]
fn answering_before_the_sync_is_caught() {
    assert!(is_caught(EngineFaults { answer_before_sync: true, ..EngineFaults::default() }));
}

#[test]
fn forgetting_to_sync_the_folder_is_caught() {
    let log = Faults { forget_dir_sync: true, ..Faults::default() };
    assert!(is_caught(EngineFaults { log, ..EngineFaults::default() }));
}

#[test]
fn a_failed_operation_ends_writing_and_loses_nothing() {
    let count = operations(3);
    for at in (0..count).step_by(3) {
        let (disk, record) = world::run_with_failure(3, at);
        let survived = disk.crash();
        let mut world = match World::open(&survived, 3, EngineFaults::default()) {
            Ok(world) => world,
            Err(error) => panic!("operation {at} failed, then recovery was refused: {error}"),
        };
        let state = world.dump();
        record.check(&state).unwrap_or_else(|violation| panic!("operation {at} failed: {violation}"));
    }
}

#[test]
fn a_full_disk_refuses_publishes_only_until_there_is_room() {
    let mut world = World::small(7, 4 * 64 * 1024);
    let mut refused = None;
    for n in 0..200 {
        if let Err(error) = world.publish("a", &[n], 4000) {
            refused = Some(error);
            break;
        }
    }
    assert_eq!(refused.expect("it fills up").reason(), Reason::StorageFull);
    let before = world.dump();
    assert_eq!(world.trim_to("a", 3).expect("a trim fits the reserve").entries, before.len_of("a") - 3);
    assert_eq!(world.publish("a", &[900], 4000).expect_err("no room yet").reason(), Reason::StorageFull);
    world.disk().set_budget(1 << 20);
    let id = world.publish("a", &[901], 4000).expect("there is room again, without a restart");
    assert!(world.dump().has("a", id[0]));
}
