//! A process that stands still now and then, as under a debugger, a frozen container or a machine that sleeps.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::server::Server;
use crate::world::World;

/// Longer than the group's leases, shorter, and hardly at all.
const PAUSES_MS: [u64; 6] = [700, 20, 350, 5, 500, 100];

#[test]
fn a_server_that_stands_still_loses_and_doubles_nothing_and_its_clients_go_on() {
    let world = World::new();
    let server = Server::start(&world.data_dir);
    let signal = |signal| kill_process(Pid::from_child(&server.child), signal).expect("it runs");
    world.runtime.block_on(async {
        world.prepare(&server).await;
        let (mut publishers, mut consumers) = world.load(&server).await;
        let answered = || world.recorder.history.lock().publishes.iter().filter(|p| p.answer.is_some()).count();
        for pause in PAUSES_MS {
            let before = answered();
            tokio::time::sleep(Duration::from_millis(150)).await;
            assert!(answered() > before, "clients go on");
            signal(Signal::STOP);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            signal(Signal::CONT);
        }
        let before = answered();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(answered() > before, "clients go on");
        let ended = publishers.try_join_next().is_some() || consumers.try_join_next().is_some();
        assert!(!ended, "no call failed for that the server stood still");
        publishers.shutdown().await;
        consumers.shutdown().await;
    });
    server.terminate();
    world.judge();
}
