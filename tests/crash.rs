//! Crashes on the simulated disk: power lost before every operation of a mixed workload, failed operations, a full
//! disk, and planted faults that must be caught.
//!
//! The engine runs stepped on one thread, so a seed and the number of an operation say everything about a run.
//! `SYNAPSE_CRASH_SEEDS` sets how many seeds are run (2 unless set), `SYNAPSE_CRASH_ROUNDS` how long a workload is (48
//! steps unless set).

#[path = "crash/world.rs"]
mod world;

use std::sync::Arc;

use synapse::error::Reason;
use synapse::faults::{Fault, Faults, Layer};
use synapse::storage::sim::SimDisk;
use synapse::storage::{Checked, Finding, MemoryIndex, Verifier};
use world::{World, run_until_power_off};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// Runs a workload with the power lost before operation `at`, then recovers twice. Answers what was violated.
fn crash_at(seed: u64, at: u64, faults: Faults) -> Result<(), String> {
    let (disk, record) = run_until_power_off(seed, Some(at), faults);
    let survived = disk.crash();
    // The index survives every other crash.
    let index = if at.is_multiple_of(2) { record.index.clone() } else { MemoryIndex::default() };
    let mut first =
        World::open_with(&survived, &index, seed, Faults::default()).map_err(|e| format!("recovery refused: {e}"))?;
    let state = first.dump();
    record.check(&state)?;
    drop(first);
    let again = survived.crash();
    let mut second =
        World::open(&again, seed, Faults::default()).map_err(|e| format!("second recovery refused: {e}"))?;
    if second.dump() != state {
        return Err("a second recovery gives another state".into());
    }
    record.check_group(&mut second)
}

fn operations(seed: u64) -> u64 {
    run_until_power_off(seed, None, Faults::default()).0.operations()
}

#[test]
fn every_crash_point_recovers_to_what_was_acknowledged() {
    let seeds = setting("SYNAPSE_CRASH_SEEDS", 2);
    for seed in 1..=seeds {
        let count = operations(seed);
        assert!(count > 150, "the workload has {count} operations only");
        for at in 0..=count {
            crash_at(seed, at, Faults::default())
                .unwrap_or_else(|violation| panic!("seed {seed}, crash before operation {at} of {count}: {violation}"));
        }
        println!("seed {seed} of {seeds}: {count} operations, a crash before each");
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
        let (disk, _) = run_until_power_off(1, Some(at), Faults::default());
        let survived = disk.crash();
        assert_eq!(flaws(&survived), [], "crash before operation {at} of {count}");
        drop(World::open(&survived, 1, Faults::default()).expect("recovers"));
        assert_eq!(flaws(&survived), [], "recovered from a crash before operation {at} of {count}");
        assert_eq!(flaws(&survived.crash()), [], "recovered, and again a crash, {at} of {count}");
    }
}

/// Fails one operation of a workload, then the power. Answers what was violated.
fn fail_at(seed: u64, at: u64, faults: Faults) -> Result<(), String> {
    let (disk, record) = world::run_with_failure(seed, at, faults);
    if disk.retried_syncs() > 0 {
        return Err("a failed sync is tried again".into());
    }
    let survived = disk.crash();
    let world = World::open(&survived, seed, Faults::default());
    record.check(&world.map_err(|e| format!("recovery refused: {e}"))?.dump())
}

#[test]
fn a_failed_operation_ends_writing_and_loses_nothing() {
    for at in (0..operations(3)).step_by(3) {
        fail_at(3, at, Faults::default()).unwrap_or_else(|violation| panic!("operation {at} failed: {violation}"));
    }
}

/// Workloads that are tried to find a planted fault: a single one may not come to what it breaks.
const FAULT_SEEDS: u64 = 8;

#[test]
fn planted_faults_are_caught() {
    for fault in Fault::of(Layer::Crash) {
        let faults = Faults::plant(fault);
        let is_seen = |seed, at| crash_at(seed, at, faults).and_then(|()| fail_at(seed, at, faults)).is_err();
        let caught = (1..=FAULT_SEEDS).any(|seed| (0..=operations(seed)).any(|at| is_seen(seed, at)));
        assert!(caught, "{fault:?} is not noticed");
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
