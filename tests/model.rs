//! Random programs against a naive model: every answer of the engine is compared, restarts included.
//!
//! 200 programs of 10,000 operations; `SYNAPSE_MODEL_SEEDS` and `SYNAPSE_MODEL_OPS` change that, and
//! `SYNAPSE_MODEL_FIRST` the first seed. A program that fails is shrunk and printed with its seed.

#[path = "model/compare.rs"]
mod compare;
#[path = "model/disk.rs"]
mod disk;
#[path = "model/group.rs"]
mod group;
#[path = "model/ops.rs"]
mod ops;
#[path = "model/shrink.rs"]
mod shrink;
#[path = "model/steps.rs"]
mod steps;
#[path = "model/stream.rs"]
mod stream;
#[path = "model/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use ops::Op;
use parking_lot::Mutex;
use shrink::shrink;
use synapse::faults::{Fault, Faults, Layer};
use world::World;

/// The place at which a program fails, and how.
fn run(program: &[Op], faults: Faults) -> Result<(), (usize, String)> {
    let mut at = 0;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(faults);
        for op in program {
            world.step(op)?;
            at += 1;
            if at % 500 == 0 {
                world.compare_all()?;
            }
        }
        world.compare_all()
    }));
    match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(difference)) => Err((at, difference)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Err((at, format!("a panic: {}", text.unwrap_or_default())))
        }
    }
}

/// What is wrong with the program of this seed, with the shortest form of it that shows so.
fn check(seed: u64, count: usize) -> Option<String> {
    let mut program = ops::program(seed, count);
    let (at, difference) = run(&program, Faults::default()).err()?;
    println!("seed {seed}, operation {at}: {difference}\nlooking for a shorter program");
    program.truncate(at + 1);
    let program = shrink(program, |shorter| run(shorter, Faults::default()).err().map(|(at, _)| at));
    let (_, difference) = run(&program, Faults::default()).err()?;
    let listing: String = program.iter().map(|op| format!("    {op:?},\n")).collect();
    Some(format!("seed {seed}, operation {at}: {difference}\nin {} operations:\n{listing}", program.len()))
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Programs that are tried to find a planted fault, and how long they are.
const FAULT_SEEDS: u64 = 20;
const FAULT_OPS: usize = 2000;

#[test]
fn planted_faults_are_caught() {
    for fault in Fault::of(Layer::Model) {
        let caught = (1..=FAULT_SEEDS).any(|seed| run(&ops::program(seed, FAULT_OPS), Faults::plant(fault)).is_err());
        assert!(caught, "{fault:?} is not noticed");
    }
}

#[test]
fn the_engine_does_what_the_model_says() {
    let (first, seeds) = (setting("SYNAPSE_MODEL_FIRST", 1), setting("SYNAPSE_MODEL_SEEDS", 200));
    let count = setting("SYNAPSE_MODEL_OPS", 10_000) as usize;
    let next = AtomicU64::new(first);
    let failures = Mutex::new(Vec::new());
    // A panic of the engine is a finding like any other; while shrinking there are many.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds || !failures.lock().is_empty() {
                return;
            }
            let failure = check(seed, count);
            failures.lock().extend(failure);
            println!("seed {seed} of {first} to {}: {count} operations", first + seeds - 1);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    std::panic::set_hook(hook);
    let failures = failures.into_inner();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
