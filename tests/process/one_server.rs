//! A data directory has one server: also where somebody takes its lock away, or the whole directory.

use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::server::{FLAGS, Server};
use crate::surfaces::{DONE, Surfaces};
use crate::world::World;

/// A server whose complaints are kept.
fn start(world: &World) -> Server {
    let mut command = Server::command(&world.data_dir, "127.0.0.1:0", &FLAGS);
    command.stderr(Stdio::piped());
    Server::spawn(command)
}

/// How it ended, which it soon does, and what it said.
fn ended(mut server: Server) -> (ExitStatus, String) {
    let until = Instant::now() + Duration::from_secs(20);
    let status = loop {
        if let Some(status) = server.child.try_wait().expect("it is ours") {
            break status;
        }
        assert!(Instant::now() < until, "the server goes on");
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut said = String::new();
    server.child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    (status, said)
}

fn publish(world: &World, server: &Server, stream: &str) {
    world.runtime.block_on(async {
        let surfaces = Surfaces::of(&server.url).await;
        assert_eq!(surfaces.publish(stream, 100).await, [DONE; 3]);
    });
}

fn entries(world: &World, server: &Server, stream: &str) -> u64 {
    world.runtime.block_on(async { Surfaces::of(&server.url).await.read_through(stream).await })
}

#[test]
fn without_its_lock_a_directory_still_has_one_server_and_that_one_stops() {
    let world = World::new();
    let server = start(&world);
    publish(&world, &server, "s");
    std::fs::remove_file(world.data_dir.join("LOCK")).expect("it is there");
    let second = Server::command(&world.data_dir, "127.0.0.1:0", &FLAGS).stderr(Stdio::piped()).output();
    let second = second.expect("it ends by itself");
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && said.contains("in use by another process"), "{said}");
    let (status, said) = ended(server);
    assert!(!status.success() && said.contains("LOCK was"), "{status}: {said}");
    let server = start(&world);
    assert_eq!(entries(&world, &server, "s"), 3, "what was acknowledged is there");
    server.terminate();
}

#[test]
fn a_server_whose_directory_was_replaced_stops_and_touches_nothing_of_the_other() {
    let world = World::new();
    let server = start(&world);
    publish(&world, &server, "s");
    let moved = world.folder().join("moved");
    std::fs::rename(&world.data_dir, &moved).expect("moved");
    let second = start(&world);
    publish(&world, &second, "t");
    let (status, said) = ended(server);
    assert!(!status.success() && said.contains("was replaced while it was in use"), "{status}: {said}");
    publish(&world, &second, "t");
    assert_eq!(entries(&world, &second, "t"), 6);
    second.terminate();
    let check = |folder: &std::path::Path| {
        let checked = Command::new(env!("CARGO_BIN_EXE_synapse")).args(["verify", "--data-dir"]).arg(folder).output();
        let checked = checked.expect("it runs");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    };
    check(&world.data_dir);
    check(&moved);
}
