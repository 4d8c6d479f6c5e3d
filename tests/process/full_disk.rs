//! A disk that is full under a real process: publishes are refused on every surface and nothing else is; with room they
//! go on, without a restart.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tonic_health::pb::health_check_response::ServingStatus;

use crate::redis::{REDIS_PORT, Redis};
use crate::server::{FLAGS, Server};
use crate::space::{removed_held, space_held};
use crate::surfaces::{DONE, PUBLISHES, Surfaces};
use crate::world::{World, ended};

/// A small file system of its own, where this process may mount one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, with a word about it, where it may not; CI must.
    fn at(folder: &Path, bytes: u64) -> Option<Self> {
        std::fs::create_dir(folder).expect("made");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "synapse-test"]).arg(folder);
        match mount.output() {
            Ok(done) if done.status.success() => Some(Self(folder.to_owned())),
            refused => {
                assert!(std::env::var_os("CI").is_none(), "a file system cannot be mounted: {refused:?}");
                eprintln!("SKIPPED: a file system cannot be mounted (that takes root): {refused:?}");
                None
            }
        }
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut ballast = File::options().append(true).create(true).open(self.ballast()).expect("made");
        while ballast.write_all(&[1; 4096]).is_ok() {}
    }

    /// Takes all room that is left, and that comes back, until publishing is refused in every way and stays so.
    async fn fill_for_good(&self, surfaces: &Surfaces) {
        let mut refused = 0;
        while refused < 20 {
            self.fill();
            let full = surfaces.publish("other", 100_000).await.iter().all(|outcome| outcome == "STORAGE_FULL");
            refused = if full { refused + 1 } else { 0 };
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn resize(&self, bytes: u64) {
        let mount = Command::new("mount").args(["-o", &format!("remount,size={bytes}")]).arg(&self.0).status();
        assert!(mount.expect("it runs").success());
    }

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).expect("it is there");
    }

    /// Bytes that are used, as `df` tells them.
    fn used(&self) -> u64 {
        let found = rustix::fs::statvfs(&self.0).expect("it is mounted");
        (found.f_blocks - found.f_bfree) * found.f_frsize
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: whoever has files open on it may take a while to end.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_refuses_publishes_alone_and_only_until_there_is_room() {
    let mut world = World::new();
    let Some(disk) = SmallDisk::at(&world.folder().join("disk"), 64 << 20) else { return };
    world.data_dir = disk.0.join("data");
    let flags = [&FLAGS[..], &REDIS_PORT].concat();
    let mut server = Server::start_on(&world.data_dir, "127.0.0.1:0", &flags);
    let mut redis = Redis::prepare(&mut server);
    world.runtime.block_on(async {
        world.prepare(&server).await;
        let surfaces = Surfaces::of(&server.url).await;
        assert_eq!(surfaces.create_group("other", "g").await, DONE);
        for _ in 0..20 {
            assert_eq!(surfaces.publish("other", 100_000).await, [DONE; 3]);
        }
        let (publishers, mut consumers) = world.load(&server).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        // Each of them ends with its first refusal; what is given back meanwhile is taken, too.
        let ended = ended(publishers);
        let filling = async {
            loop {
                disk.fill();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            () = ended => {}
            () = filling => {}
        }
        disk.fill_for_good(&surfaces).await;
        refused_alone_over_redis(&mut redis);
        refused_alone(&surfaces).await;
        assert!(consumers.try_join_next().is_none(), "consumers did not notice");
        consumers.shutdown().await;

        disk.make_room();
        goes_on(&surfaces, "other").await;
        for _ in 0..20 {
            assert_eq!((redis.add(10_000), redis.add_in_transaction(10_000)), (None, None));
        }
        let (mut publishers, mut consumers) = world.load(&server).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(publishers.try_join_next().is_none() && consumers.try_join_next().is_none(), "all goes on");
        // The index, too: without it no file would be given up.
        let before = disk.used();
        assert_eq!(surfaces.trim("other", 0).await, DONE);
        let gave_back = async {
            while disk.used() + (3 << 20) > before {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), gave_back).await.expect("files are given up");
        publishers.shutdown().await;
        consumers.shutdown().await;
    });
    server.kill();
    let mut server = Server::start_on(&world.data_dir, "127.0.0.1:0", &flags);
    redis.connect(&mut server);
    assert!(redis.has_all(), "what was acknowledged over the Redis port is there");
    server.kill();
    world.judge();
}

/// How a disk is filled again and again: its size, that of segments, and how often. `SYNAPSE_FULL_DISK=long` takes 256 MiB,
/// segments of 4 MiB and ten times.
fn rounds() -> (u64, u64, u32) {
    let long = std::env::var("SYNAPSE_FULL_DISK").is_ok_and(|form| form == "long");
    if long { (256 << 20, 4 << 20, 10) } else { (64 << 20, 1 << 20, 3) }
}

#[test]
fn a_full_disk_that_is_trimmed_is_filled_again_in_the_same_process() {
    let world = World::new();
    let (size, segment, rounds) = rounds();
    let Some(disk) = SmallDisk::at(&world.folder().join("disk"), size) else { return };
    let data = disk.0.join("data");
    let segment_bytes = segment.to_string();
    let flags = ["--segment-bytes", &segment_bytes, "--checkpoint-bytes", "1048576"];
    let mut server = Server::start_on(&data, "127.0.0.1:0", &[&flags[..], &REDIS_PORT].concat());
    let mut redis = Redis::prepare(&mut server);
    let pid = server.child.id();
    world.runtime.block_on(async {
        let surfaces = Surfaces::of(&server.url).await;
        assert_eq!(surfaces.create_group("big", "g").await, DONE);
        for round in 1..=rounds {
            fill_up(&surfaces, &mut redis).await;
            let full = disk.used();
            assert!(full + 2 * segment > size, "round {round}: {full} of {size} bytes are used");
            // Everybody has every file open.
            let (entries, _) = surfaces.held("big").await;
            assert_eq!(surfaces.read_through("big").await, entries);
            assert_eq!(surfaces.acknowledge("big", "g").await, DONE);
            assert!(redis.ask("XRANGE big - + COUNT 1000").starts_with('*'));
            // All of it goes, or some stays.
            assert_eq!(surfaces.trim("big", if round % 2 == 1 { 0 } else { entries / 4 }).await, DONE);
            let (_, live) = surfaces.held("big").await;
            comes_back(&disk, pid, 2 * live + 4 * segment).await;
            goes_on(&surfaces, "big").await;
            assert_eq!(redis.add(10_000), None);
        }
    });
    assert!(redis.has_all());
    server.terminate();
}

/// The index on a file system of its own that is full: it is named, and all else goes on, also over a restart.
#[test]
fn an_index_without_room_is_named_and_hinders_nothing() {
    let world = World::new();
    Server::start(&world.data_dir).terminate();
    let index = world.data_dir.join("index");
    std::fs::remove_dir_all(&index).expect("it is there");
    // Less than the smallest index takes.
    let Some(disk) = SmallDisk::at(&index, 4096) else { return };
    for round in 0..2 {
        let server = Server::start(&world.data_dir);
        let pid = server.child.id();
        world.runtime.block_on(async {
            let surfaces = Surfaces::of(&server.url).await;
            for _ in 0..100 {
                assert_eq!(surfaces.publish_many("s", 8, 16_000).await, DONE);
            }
            assert_eq!(surfaces.trim("s", 0).await, DONE);
            let log = world.data_dir.join("log");
            let gave_back = async {
                while space_held(&log, pid) > 4 << 20 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let gave_back = tokio::time::timeout(Duration::from_secs(20), gave_back).await;
            assert!(gave_back.is_ok(), "round {round}: {} bytes stay", space_held(&log, pid));
            assert_eq!(surfaces.index_is_usable().await, [false; 3], "round {round}");
            let (all, events, status, state, up) = surfaces.health().await;
            assert_eq!((all, events), (ServingStatus::Serving, ServingStatus::Serving));
            assert_eq!((status, state.as_str(), up), (200, "serving", true));
            if round == 1 {
                disk.resize(16 << 20);
                let again = async {
                    while surfaces.index_is_usable().await != [true; 3] {
                        assert_eq!(surfaces.publish_many("s", 8, 16_000).await, DONE);
                    }
                };
                tokio::time::timeout(Duration::from_secs(20), again).await.expect("it is written again");
            }
        });
        if round == 0 { server.kill() } else { server.terminate() }
    }
}

/// Publishes until every surface refuses that, each for the same reason.
async fn fill_up(surfaces: &Surfaces, redis: &mut Redis) {
    let mut refused = false;
    while !refused {
        while surfaces.publish_many("big", 8, 16_000).await == DONE {}
        let outcomes = surfaces.publish("big", 50_000).await;
        assert!(outcomes.iter().all(|outcome| [DONE, "STORAGE_FULL"].contains(&outcome.as_str())), "{outcomes:?}");
        let refusal = redis.add(50_000);
        assert!(refusal.as_ref().is_none_or(|refusal| refusal.contains("OOM STORAGE_FULL: ")), "{refusal:?}");
        refused = outcomes == ["STORAGE_FULL"; 3] && refusal.is_some();
    }
}

/// Soon no more than this is used, and then no removed file is held open.
async fn comes_back(disk: &SmallDisk, pid: u32, bound: u64) {
    let began = Instant::now();
    let back = async {
        while disk.used() > bound {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let took = began.elapsed();
        while !removed_held(&disk.0, pid).is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        eprintln!("{} MiB used, at most {} may be, {took:?}", disk.used() >> 20, bound >> 20);
    };
    if tokio::time::timeout(Duration::from_secs(20), back).await.is_err() {
        let (used, held) = (disk.used(), space_held(&disk.0, pid));
        panic!("{used} bytes used, {held} by the server, at most {bound}: {:?}", removed_held(&disk.0, pid));
    }
}

/// The same of the Redis port.
fn refused_alone_over_redis(redis: &mut Redis) {
    for _ in 0..20 {
        for refusal in [redis.add(10_000), redis.add_in_transaction(10_000)] {
            let refusal = refusal.expect("it is refused");
            assert!(refusal.contains("OOM STORAGE_FULL: "), "{refusal}");
        }
        redis.shrinks();
    }
    assert!(redis.has_all() && redis.answers());
}

/// Full: publishes are refused in every way, everything else works, and health says so.
async fn refused_alone(surfaces: &Surfaces) {
    for _ in 0..20 {
        for (surface, outcome) in PUBLISHES.iter().zip(surfaces.publish("other", 100_000).await) {
            assert_eq!(outcome, "STORAGE_FULL", "{surface}");
        }
        assert_eq!(surfaces.acknowledge("other", "g").await, DONE);
    }
    assert_eq!(surfaces.read("work").await, [DONE, DONE]);
    let (all, events, status, state, up) = surfaces.health().await;
    assert_eq!((all, events), (ServingStatus::Serving, ServingStatus::NotServing));
    assert_eq!((status, state.as_str(), up), (200, "storage_full", false));
    // These may give room back.
    assert_eq!(surfaces.trim("other", 50).await, DONE);
    assert_eq!(surfaces.delete_last("other").await, DONE);
}

/// Soon publishes are taken again, and then all of them.
async fn goes_on(surfaces: &Surfaces, stream: &str) {
    let again = async {
        while surfaces.publish(stream, 100_000).await != [DONE; 3] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), again).await.expect("publishing goes on");
    for _ in 0..20 {
        assert_eq!(surfaces.publish(stream, 100_000).await, [DONE; 3]);
    }
    let (all, events, status, state, up) = surfaces.health().await;
    assert_eq!((all, events), (ServingStatus::Serving, ServingStatus::Serving));
    assert_eq!((status, state.as_str(), up), (200, "serving", true));
}
