//! Faults of the disk under a real process: what cannot be made durable ends writing, said everywhere, and nothing that
//! was acknowledged is lost.

use std::time::Duration;

use tonic_health::pb::health_check_response::ServingStatus;

use crate::clients::Client;
use crate::failing_disk::FailingDisk;
use crate::server::{FLAGS, Server};
use crate::surfaces::{DONE, PUBLISHES, Surfaces};
use crate::world::{World, ended};

/// Has such calls on files of such names fail under load, and looks at what the server says and does then.
fn writing_ends_and_nothing_is_lost(what: &str, beginning: &str) {
    let world = World::new();
    let Some(disk) = FailingDisk::under(&world.data_dir) else { return };
    let mut command = Server::command(&world.data_dir, "127.0.0.1:0", &FLAGS);
    disk.put_under(&mut command);
    let mut server = Server::spawn(command);
    world.runtime.block_on(async {
        world.prepare(&server).await;
        let (publishers, consumers) = world.load(&server).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert!(disk.calls().iter().any(|call| call.what == what && !call.failed), "its calls are seen");
        disk.fail(what, beginning);
        ended(publishers).await;
        ended(consumers).await;
        let surfaces = Surfaces::of(&server.url).await;
        let (all, events, status, state, up) = surfaces.health().await;
        assert_eq!((all, events), (ServingStatus::NotServing, ServingStatus::NotServing));
        assert_eq!((status, state.as_str(), up), (503, "failed", false));
        let (_, health) = surfaces.http("GET", "/health", "").await;
        assert!(health.contains("Input/output error"), "{health}");
        for (surface, outcome) in PUBLISHES.iter().zip(surfaces.publish("work", 10).await) {
            assert_eq!(outcome, "STORAGE_FAILED", "{surface}");
        }
        assert_eq!(surfaces.acknowledge("work", "workers").await, "STORAGE_FAILED");
        assert_eq!(surfaces.trim("work", 1).await, "STORAGE_FAILED");
        assert_eq!(surfaces.read("work").await, [DONE, DONE]);
        Client::connect(&server.url, &world.recorder).await.read_all().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    });
    let calls = disk.calls();
    let first = calls.iter().position(|call| call.failed).expect("one failed");
    let name = &calls[first].name;
    let again: Vec<_> = calls[first + 1..].iter().filter(|call| call.name == *name).collect();
    assert!(again.is_empty(), "nothing touches {name} after its {what} failed: {again:?}");
    assert_eq!(calls.iter().filter(|call| call.failed).count(), 1, "{what} is never tried again");
    rustix::process::kill_process(rustix::process::Pid::from_child(&server.child), rustix::process::Signal::TERM)
        .expect("it runs");
    let status = server.child.wait().expect("it ends");
    assert_eq!(status.code(), Some(1), "a stop that cannot leave its files synced says so");
    assert_eq!(disk.calls().iter().filter(|call| call.failed).count(), 1, "nor at the stop");
    world.judge();
}

#[test]
fn a_failed_sync_ends_writing_is_never_tried_again_and_loses_nothing() {
    writing_ends_and_nothing_is_lost("sync", "0");
}

#[test]
fn a_failed_write_ends_writing_and_loses_nothing() {
    writing_ends_and_nothing_is_lost("write", "0");
}

#[test]
fn a_file_that_cannot_be_made_ends_writing_and_loses_nothing() {
    writing_ends_and_nothing_is_lost("allocate", "spare");
}

#[test]
fn a_file_that_cannot_be_begun_ends_writing_and_loses_nothing() {
    writing_ends_and_nothing_is_lost("sync", "spare");
}
