//! A trial: attacks on one server, one after the other, each beside somebody who behaves. What the server takes for an
//! attacker is bounded and given back, and who behaves is served.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long each attack goes on.
pub(crate) const LENGTH: Duration = Duration::from_millis(1200);

/// Held by each test that measures: they take all there is of the machine.
pub(crate) static ALONE: parking_lot::Mutex<()> = parking_lot::Mutex::new(());

/// A server on trial. `B` is who behaves: asks one thing after the other until then, and tells how long each took.
pub(crate) struct Trial<B> {
    pid: u32,
    behaves: B,
    quiet: Served,
    /// What the server had before all of it.
    memory_mib: u64,
    table: String,
}

/// How somebody was served: median and 99th percentile in milliseconds, and how often.
#[derive(Clone, Copy)]
struct Served {
    p50: f64,
    p99: f64,
    count: usize,
}

impl<B: Fn(Instant) -> Vec<Duration> + Sync> Trial<B> {
    /// Begins with how it is while nobody attacks.
    pub(crate) fn begin(pid: u32, behaves: B) -> Self {
        served(&behaves, Instant::now() + Duration::from_millis(300), || {});
        let quiet = served(&behaves, Instant::now() + LENGTH, || std::thread::sleep(LENGTH));
        let table = format!("quiet: p50 {:.2} ms, p99 {:.2} ms\n", quiet.p50, quiet.p99);
        Self { pid, behaves, quiet, memory_mib: Usage::of(pid).memory_mib, table }
    }

    /// An attack goes on until the time that it is told, and tells what became of it; the server may grow by so many MiB.
    pub(crate) fn attack(&mut self, name: &str, attack: impl FnOnce(Instant) -> String, grows_max: u64) {
        let until = Instant::now() + LENGTH;
        let before = Usage::of(self.pid);
        let watch = Watch::start(self.pid);
        let mut outcome = String::new();
        let Served { p50, p99, count } = served(&self.behaves, until, || outcome = attack(until));
        let peak = watch.peak();
        let grew = peak.memory_mib.saturating_sub(before.memory_mib);
        let (quiet, table) = (self.quiet, &mut self.table);
        writeln!(
            table,
            "{name}: p50 {p50:.2} ms, p99 {p99:.2} ms ({:.1} x), {count} served; {grew} MiB, {} descriptors; {outcome}",
            p99 / quiet.p99,
            peak.descriptors
        )
        .expect("room");
        assert!(grew <= grows_max, "{name}: grew by {grew} MiB, at most {grows_max}\n{table}");
        assert!(peak.descriptors < before.descriptors + 1100, "{name}: {} descriptors\n{table}", peak.descriptors);
        assert_eq!(peak.threads.max(before.threads + 8), before.threads + 8, "{name}: threads\n{table}");
        assert!(p99 < (quiet.p99 * 50.0).max(500.0) && count > 10, "{name}: others are served\n{table}");
        let gone = Instant::now() + Duration::from_secs(5);
        while Usage::of(self.pid).descriptors > before.descriptors + 20 {
            assert!(Instant::now() < gone, "{name}: its connections are closed\n{table}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Prints the figures. The server may keep so many MiB of what it held.
    pub(crate) fn end(self, kept_max: u64) {
        let (at_first, at_last) = (self.memory_mib, Usage::of(self.pid).memory_mib);
        eprintln!("{}{at_first} MiB before all of them, {at_last} MiB after", self.table);
        assert!(at_last < at_first + kept_max, "what was held for them is given back");
    }
}

/// How who behaves is served until then, beside what is done meanwhile.
fn served(behaves: &(impl Fn(Instant) -> Vec<Duration> + Sync), until: Instant, meanwhile: impl FnOnce()) -> Served {
    let mut times = std::thread::scope(|scope| {
        let serving = scope.spawn(|| behaves(until));
        meanwhile();
        serving.join().expect("no panic")
    });
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1000.0;
    Served { p50: at(0.5), p99: at(0.99), count: times.len() }
}

/// What a process uses.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) memory_mib: u64,
    pub(crate) threads: u64,
    pub(crate) descriptors: u64,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("it is there");
            line.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).expect("a number")
        };
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").count() as u64;
        Self { memory_mib: field("VmRSS:") / 1024, threads: field("Threads:"), descriptors }
    }
}

/// Looks at a process again and again.
struct Watch {
    stop: Arc<AtomicBool>,
    looking: std::thread::JoinHandle<Usage>,
}

impl Watch {
    fn start(pid: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let looking = std::thread::spawn(move || {
            let mut peak = Usage::default();
            while !stopped.load(Ordering::Relaxed) {
                let now = Usage::of(pid);
                peak.memory_mib = peak.memory_mib.max(now.memory_mib);
                peak.threads = peak.threads.max(now.threads);
                peak.descriptors = peak.descriptors.max(now.descriptors);
                std::thread::sleep(Duration::from_millis(25));
            }
            peak
        });
        Self { stop, looking }
    }

    fn peak(self) -> Usage {
        self.stop.store(true, Ordering::Relaxed);
        self.looking.join().expect("no panic")
    }
}
