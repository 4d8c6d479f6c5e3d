//! A real server, killed, stopped and starved under load: nothing that was acknowledged is lost, nothing comes from
//! nowhere.
//!
//! 30 rounds of kills, or `SYNAPSE_KILL_ROUNDS`; the moments follow from `SYNAPSE_KILL_SEED`, which is printed. A long run:
//! `SYNAPSE_KILL_ROUNDS=1000 cargo test --test process a_killed_server -- --nocapture`. Killing a process does not lose
//! what the system holds for the disk; what a power loss takes is for the simulated disk to show.

#[path = "process/clients.rs"]
mod clients;
#[path = "process/descriptors.rs"]
mod descriptors;
#[path = "process/drains.rs"]
mod drains;
#[path = "process/failing_disk.rs"]
mod failing_disk;
#[path = "process/faults.rs"]
mod faults;
#[path = "process/full_disk.rs"]
mod full_disk;
#[path = "history/mod.rs"]
mod history;
#[path = "process/hostile.rs"]
mod hostile;
#[path = "process/hostile_redis.rs"]
mod hostile_redis;
#[path = "process/one_server.rs"]
mod one_server;
#[path = "process/others.rs"]
mod others;
#[path = "process/pauses.rs"]
mod pauses;
#[path = "process/raw.rs"]
mod raw;
#[path = "process/redis.rs"]
mod redis;
#[path = "resp/client.rs"]
mod redis_client;
#[path = "process/server.rs"]
mod server;
#[path = "process/soak.rs"]
mod soak;
#[path = "process/soak_clients.rs"]
mod soak_clients;
#[path = "space/mod.rs"]
mod space;
#[path = "process/surfaces.rs"]
mod surfaces;
#[path = "process/trial.rs"]
mod trial;
#[path = "process/world.rs"]
mod world;

use std::time::Duration;

use clients::Client;
use others::{At, Other};
use redis::REDIS_PORT;
use server::{FLAGS, Server};
use world::{World, ended};

/// Rounds on one data directory: all that was ever published there is read in every round.
const ROUNDS_OF_A_WORLD: u64 = 30;

#[test]
fn a_killed_server_keeps_every_promise() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = number("SYNAPSE_KILL_ROUNDS").unwrap_or(ROUNDS_OF_A_WORLD);
    let seed = number("SYNAPSE_KILL_SEED").unwrap_or_else(|| getrandom::u64().expect("a number") >> 1);
    eprintln!("{rounds} rounds of kills, SYNAPSE_KILL_SEED={seed}");
    let mut moments = Moments(seed);
    let mut done = 0;
    while done < rounds {
        let count = ROUNDS_OF_A_WORLD.min(rounds - done);
        let seen = kill_again_and_again(count, &mut moments);
        done += count;
        eprintln!("{done} of {rounds} rounds: {seen}");
    }
}

fn kill_again_and_again(rounds: u64, moments: &mut Moments) -> String {
    let (world, others) = (World::new(), Other::both());
    for round in 0..rounds {
        let (server, at) = start(&world);
        world.recorder.begin_run();
        for other in &others {
            other.begin_run();
            if round == 0 {
                other.prepare(&at);
            }
            other.catch_up(&at);
        }
        std::thread::scope(|scope| {
            for other in &others {
                // They end with the server.
                scope.spawn(|| other.publish_on(&at));
                for consumer in ["a", "b"] {
                    let at = &at;
                    scope.spawn(move || other.consume_on(at, consumer));
                }
            }
            world.runtime.block_on(round_of_kills(&world, server, round == 0, moments.next()));
        });
    }
    let (server, at) = start(&world);
    for other in &others {
        other.begin_run();
        other.judge(&at);
    }
    server.terminate();
    let seen = world.judge();
    let names = std::fs::read_dir(world.data_dir.join("log")).expect("listed").flatten();
    let snapshot = names.into_iter().any(|file| file.file_name().to_string_lossy().starts_with("snapshot-"));
    assert!(snapshot || rounds < ROUNDS_OF_A_WORLD, "files were given up in between");
    seen
}

/// A server on what the world holds, with its Redis port.
fn start(world: &World) -> (Server, At) {
    let mut server = Server::start_on(&world.data_dir, "127.0.0.1:0", &[&FLAGS[..], &REDIS_PORT].concat());
    let at = At { url: server.url.clone(), redis_port: redis::port(&mut server) };
    (server, at)
}

/// Load over gRPC, until the server is killed under it.
async fn round_of_kills(world: &World, server: Server, is_first: bool, moment: Duration) {
    if is_first {
        world.prepare(&server).await;
    }
    let mut first = Client::connect(&server.url, &world.recorder).await;
    first.repeat_unanswered().await;
    first.read_all().await;
    let (publishers, consumers) = world.load(&server).await;
    // Any moment will do, and none is the same twice.
    tokio::time::sleep(moment).await;
    server.kill();
    ended(publishers).await;
    ended(consumers).await;
}

/// How long each round goes, from a seed (splitmix64).
struct Moments(u64);

impl Moments {
    fn next(&mut self) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Duration::from_micros(50_000 + (mixed ^ (mixed >> 31)) % 500_000)
    }
}
