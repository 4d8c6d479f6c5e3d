//! A process that stands still now and then, as under a debugger, a frozen container or a machine that sleeps, beside clients
//! of every surface.
//!
//! It stands still for 1.5 s at most, five leases, or for `SYNAPSE_PAUSE_MS`, up to 15,000.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::others::Other;
use crate::start;
use crate::world::World;

/// Longer than the group's leases, shorter, and hardly at all.
const PAUSES_MS: [u64; 6] = [700, 20, 350, 5, 500, 100];
/// Much longer than leases.
const LONG_MS: u64 = 1_500;

#[test]
fn a_server_that_stands_still_loses_and_doubles_nothing_and_its_clients_go_on() {
    let long = std::env::var("SYNAPSE_PAUSE_MS").ok().and_then(|text| text.parse().ok()).unwrap_or(LONG_MS);
    let (world, others) = (World::new(), Other::both());
    let (server, at) = start(&world);
    others.iter().for_each(|other| other.prepare(&at));
    let pid = Pid::from_child(&server.child);
    let signal = |signal| kill_process(pid, signal).expect("it runs");
    let load = async {
        world.prepare(&server).await;
        let (mut publishers, mut consumers) = world.load(&server).await;
        let answered = || [world.recorder.answered(), others[0].answered(), others[1].answered()];
        for pause in PAUSES_MS.into_iter().chain([long]) {
            go_on(&answered).await;
            signal(Signal::STOP);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            signal(Signal::CONT);
        }
        go_on(&answered).await;
        let ended = publishers.try_join_next().is_some() || consumers.try_join_next().is_some();
        assert!(!ended, "no call failed for that the server stood still");
        publishers.shutdown().await;
        consumers.shutdown().await;
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = others
            .iter()
            .flat_map(|other| [scope.spawn(|| other.publish_on(&at)), scope.spawn(|| other.consume_on(&at, "a"))])
            .collect();
        world.runtime.block_on(load);
        let has_ended = clients.iter().any(|client| client.is_finished());
        // Its end is theirs.
        signal(Signal::TERM);
        assert!(!has_ended, "no request failed for that the server stood still");
    });
    server.terminate();
    let (server, at) = start(&world);
    others.iter().for_each(|other| other.begin_run());
    others.iter().for_each(|other| other.judge(&at));
    server.terminate();
    world.judge();
}

/// Waits until more of all surfaces was answered.
async fn go_on(answered: &impl Fn() -> [usize; 3]) {
    let (before, until) = (answered(), Instant::now() + Duration::from_secs(20));
    while answered().iter().zip(before).any(|(now, before)| *now <= before + 5) {
        assert!(Instant::now() < until, "clients of every surface go on: {before:?}, then {:?}", answered());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
