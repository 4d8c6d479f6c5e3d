//! Faults of the disk under a real process: what cannot be made durable ends writing, said everywhere, and nothing that
//! was acknowledged is lost.

use std::time::Duration;

use tonic_health::pb::health_check_response::ServingStatus;

use crate::clients::Client;
use crate::failing_disk::FailingDisk;
use crate::redis::{REDIS_PORT, Redis};
use crate::server::{FLAGS, Server};
use crate::surfaces::{DONE, PUBLISHES, Surfaces};
use crate::world::{World, ended};

/// Has such calls on files of such names fail under load, and looks at what the server says and does then.
fn writing_ends_and_nothing_is_lost(what: &str, beginning: &str) {
    let world = World::new();
    let Some(disk) = FailingDisk::under(&world.data_dir) else { return };
    let flags = [&FLAGS[..], &REDIS_PORT].concat();
    let mut command = Server::command(&world.data_dir, "127.0.0.1:0", &flags);
    disk.put_under(&mut command);
    let mut server = Server::spawn(command);
    let mut redis = Redis::prepare(&mut server);
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
        refused_over_redis(&mut redis);
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
    let mut server = Server::start_on(&world.data_dir, "127.0.0.1:0", &flags);
    redis.connect(&mut server);
    assert!(redis.has_all(), "what was acknowledged over the Redis port is there");
    server.kill();
    world.judge();
}

/// The Redis port says so, too, and reads.
fn refused_over_redis(redis: &mut Redis) {
    let failed = |reply: &str| reply.contains("MISCONF STORAGE_FAILED: ");
    let refusals = [redis.add(10), redis.add_in_transaction(10)].map(|refusal| refusal.expect("it is refused"));
    assert!(refusals.iter().all(|refusal| failed(refusal)), "{refusals:?}");
    for command in ["XTRIM redis-worn MAXLEN 1", "XDEL redis-worn 1-0", "XREADGROUP GROUP g c STREAMS redis-worn >"] {
        let reply = redis.ask(command);
        assert!(failed(&reply), "{command}: {reply}");
    }
    assert!(redis.has_all() && redis.answers());
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
