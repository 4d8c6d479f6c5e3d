//! A soak: clients of every surface publish, consume, follow and trim, come and go, and the server is killed once. What
//! they were told is there comes to somebody, and what the server takes (memory, descriptors, threads, disk) stays as it is.
//!
//! 20 seconds, or `SYNAPSE_SOAK_SECONDS`; the figures are printed. An hour:
//! `SYNAPSE_SOAK_SECONDS=3600 cargo test --release --test process a_soak -- --nocapture`.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::redis::port;
use crate::server::{FLAGS, Server};
use crate::soak_clients::Soak;
use crate::trial::{ALONE, Usage};

/// How long the server soaks, unless it is told.
const SECONDS: u64 = 20;
const MIB: u64 = 1 << 20;

/// What a server takes at a moment.
#[derive(Clone, Copy)]
struct Taken {
    usage: Usage,
    /// Of the data directory, files included that are removed and still open, in KiB.
    disk_kib: u64,
}

impl Taken {
    fn by(server: &Server, data_dir: &Path) -> Self {
        let pid = server.child.id();
        let removed = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").flatten().filter_map(|file| {
            let target = std::fs::read_link(file.path()).ok()?;
            target.to_str()?.ends_with("(deleted)").then(|| std::fs::metadata(file.path()).ok())?
        });
        let removed: u64 = removed.map(|file| file.blocks()).sum();
        Self { usage: Usage::of(pid), disk_kib: (blocks_of(data_dir) + removed) / 2 }
    }
}

/// Blocks of 512 bytes that a folder takes. Files come and go meanwhile.
fn blocks_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(data) if data.is_dir() => blocks_of(&entry.path()),
        Ok(data) => data.blocks(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// Median and maximum of one figure.
fn figure(taken: &[Taken], of: impl Fn(&Taken) -> u64) -> (u64, u64) {
    let mut all: Vec<u64> = taken.iter().map(of).collect();
    all.sort_unstable();
    (all[all.len() / 2], all[all.len() - 1])
}

fn server(folder: &Path, at: &str, redis: &str) -> Server {
    Server::start_on(&folder.join("data"), at, &[&FLAGS[..], &["--resp-listen", redis]].concat())
}

#[test]
fn a_soak_loses_nothing_and_leaves_everything_flat() {
    let _alone = ALONE.lock();
    let seconds = std::env::var("SYNAPSE_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let folder = tempfile::tempdir().expect("a folder");
    let mut first = server(folder.path(), "127.0.0.1:0", "127.0.0.1:0");
    let redis_port = port(&mut first);
    let soak = Soak {
        url: first.url.clone(),
        redis_port,
        surfaces: Default::default(),
        is_published: false.into(),
        publishers: 0.into(),
        is_over: false.into(),
    };
    soak.prepare();
    let length = Duration::from_secs(seconds);
    let thirds = soak.run(|| {
        std::thread::sleep(length / 10);
        first.kill();
        let address = soak.url.trim_start_matches("http://");
        let server = server(folder.path(), address, &format!("127.0.0.1:{redis_port}"));
        let thirds = [(); 3].map(|()| watch(&server, folder.path(), length * 3 / 10));
        soak.is_published.store(true, std::sync::atomic::Ordering::Relaxed);
        let until = Instant::now() + Duration::from_secs(30);
        while !soak.is_delivered() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
        (thirds, server)
    });
    let (thirds, server) = thirds;
    for (surface, name) in soak.surfaces.iter().zip(["gRPC", "HTTP", "Redis"]) {
        let (published, missing, clients) = surface.count();
        eprintln!("{name}: {published} events published by and delivered to {clients} clients");
        assert_eq!(missing, 0, "{name}: acknowledged and never delivered, of {published}");
        assert!(published as u64 > seconds * 2 && clients > seconds, "{name}: there was load");
    }
    judge(&thirds);
    server.terminate();
}

/// Looks at the server until the time is over.
fn watch(server: &Server, data_dir: &Path, length: Duration) -> Vec<Taken> {
    let until = Instant::now() + length;
    let mut taken = Vec::new();
    while Instant::now() < until {
        taken.push(Taken::by(server, data_dir));
        std::thread::sleep((length / 100).min(Duration::from_secs(1)));
    }
    taken
}

/// The last third takes no more than the one before it, but for what comes and goes.
fn judge(thirds: &[Vec<Taken>; 3]) {
    type Of = fn(&Taken) -> u64;
    let figures: [(&str, Of, u64); 4] = [
        ("memory, MiB", |taken| taken.usage.memory_mib, 16),
        ("descriptors", |taken| taken.usage.descriptors, 12),
        ("threads", |taken| taken.usage.threads, 4),
        ("disk, KiB", |taken| taken.disk_kib, 4 * MIB / 1024),
    ];
    for (name, of, slack) in figures {
        let [warm, before, last] = thirds.each_ref().map(|third| figure(third, of));
        eprintln!("{name} (median, most): {warm:?}, then {before:?}, then {last:?}");
        assert!(last.0 <= before.0 + before.0 / 10 + slack, "{name} grows: {before:?}, then {last:?}");
    }
}
