//! Random programs to Synapse and to Redis, several clients at a time, some of them waiting: every reply is compared.
//!
//! `SYNAPSE_REDIS_SEEDS` sets how many programs are run (4 unless set), `SYNAPSE_REDIS_COMMANDS` how long each is (250
//! unless set), `SYNAPSE_REDIS_FIRST` the first seed. A program that fails is shrunk and printed with its seed. What is
//! not compared is in the tables of `docs/REDIS.md`.

#[path = "random/generate.rs"]
mod generate;
#[path = "random/sides.rs"]
mod sides;
#[path = "random/value.rs"]
mod value;

use crate::servers::{Redis, Synapse};
use crate::shrink::shrink;
pub(crate) use generate::Random;
use sides::Sides;

/// Commands of one client, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) client: usize,
    pub(crate) lines: Vec<String>,
}

/// The place at which a program fails, and how.
type Failure = (usize, String);

fn run(redis: &Redis, synapse: &Synapse, program: &[Step], resp3: bool) -> Result<(), Failure> {
    let mut sides = Sides::connect(redis.port(), synapse, resp3);
    for (at, step) in program.iter().enumerate() {
        // Who waits for two keys that are filled at once gets what is in one of them from version 7.0, and here all.
        if step.lines[0] == "MULTI" && sides.someone_waits_for_two() {
            continue;
        }
        for line in &step.lines {
            sides.run(step.client, line).map_err(|difference| (at, difference))?;
        }
    }
    sides.compare_all().map_err(|difference| (program.len(), difference))
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn random_programs_are_answered_as_by_redis() {
    let Some(redis) = Redis::start() else { return };
    let synapse = Synapse::start();
    let (first, seeds) = (setting("SYNAPSE_REDIS_FIRST", 1), setting("SYNAPSE_REDIS_SEEDS", 4));
    let count = setting("SYNAPSE_REDIS_COMMANDS", 250) as usize;
    for seed in first..first + seeds {
        let (mut program, resp3) = (generate::program(seed, count), seed % 2 == 0);
        if let Err((at, difference)) = run(&redis, &synapse, &program, resp3) {
            program.truncate(at + 1);
            let program = shrink(program, |shorter| run(&redis, &synapse, shorter, resp3).err().map(|(at, _)| at));
            let shown = run(&redis, &synapse, &program, resp3).err().map_or(difference, |(_, difference)| difference);
            let listing: String = program.iter().map(|step| format!("    {step:?}\n")).collect();
            panic!("seed {seed}, step {at}: {shown}\nin {} steps:\n{listing}", program.len());
        }
        println!("seed {seed} of {first} to {}: {count} steps", first + seeds - 1);
    }
}
