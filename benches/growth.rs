//! What growth costs an engine in process: many events, many streams, many pending entries, many groups.
//!
//! `cargo bench --bench growth -- --events 100000000` fills an engine, stops it and measures it again; every part runs in
//! a process of its own, so that its memory is its own. `--part` runs one part alone. The data lies in the target folder
//! (`--folder` for another) and is removed. Figures go to `docs/BENCHMARKS.md`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use synapse::engine::{
    Acknowledge, CreateGroup, Engine, EngineOptions, Holder, Publish, Published, Pull, Read, StartAt, TailFrom,
};
use synapse::error::Result;
use synapse::format::event::Event;
use synapse::types::{ConsumerName, EntryId, GroupName, GroupSettings, IdRange, NewEntry, StreamName};

/// Requests handed over together, and how many such handfuls are in flight.
const REQUESTS: usize = 64;
const IN_FLIGHT: usize = 16;
/// Rates are medians of so many runs of this length.
const RUNS: usize = 5;
const RUN: Duration = Duration::from_secs(2);
/// Tails and groups that read beside publishers.
const READERS: usize = 8;
/// Streams that are read from their beginning.
const CAUGHT_UP: usize = 20;

const PARTS: [&str; 11] =
    ["empty", "fill", "full", "catch-up", "alone", "few", "wide", "pending-fill", "pending", "pending-start", "groups"];

/// What is asked for on the command line.
struct Args {
    events: u64,
    streams: usize,
    size: usize,
    batch: usize,
    folder: PathBuf,
    part: Option<String>,
}

impl Args {
    fn parse() -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("growth");
        let mut args = Self { events: 1_000_000, streams: 10_000, size: 100, batch: 16, folder, part: None };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| panic!("{word} needs a value"));
            match word.as_str() {
                "--events" => args.events = value().parse().expect("a number of events"),
                "--streams" => args.streams = value().parse().expect("a number of streams"),
                "--size" => args.size = value().parse().expect("bytes of an event"),
                "--batch" => args.batch = value().parse().expect("events of a request"),
                "--folder" => args.folder = value().into(),
                "--part" => args.part = Some(value()),
                // What cargo adds.
                "--bench" => {}
                other => panic!("{other}: known are --events, --streams, --size, --batch, --folder, --part"),
            }
        }
        args
    }

    /// This program again, for one part.
    fn run_part(&self, part: &str) {
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new(program);
        command.args(["--events", &self.events.to_string(), "--streams", &self.streams.to_string()]);
        command.args(["--size", &self.size.to_string(), "--batch", &self.batch.to_string(), "--part", part]);
        command.arg("--folder").arg(&self.folder);
        assert!(command.status().expect("runs").success(), "part {part} failed");
    }

    fn data(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// An empty data directory.
    fn fresh(&self, name: &str) -> PathBuf {
        let folder = self.data(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&self.folder).expect("makes the folder");
        folder
    }
}

fn main() {
    let args = Args::parse();
    match args.part.as_deref() {
        None => {
            PARTS.iter().for_each(|part| args.run_part(part));
            let _ = fs::remove_dir_all(&args.folder);
        }
        Some("empty") => empty(&args),
        Some("fill") => fill(&args),
        Some("full") => full(&args),
        Some("catch-up") => catch_up(&args),
        Some("alone") => alone(&args),
        Some("few") => streams(&args, 10),
        Some("wide") => streams(&args, 100_000),
        Some("pending-fill") => pending_fill(&args),
        Some("pending") => pending(&args),
        Some("pending-start") => pending_start(&args),
        Some("groups") => groups(&args),
        Some(other) => panic!("{other}: parts are {PARTS:?}"),
    }
}

/// A source of requests: batches for streams in an order without pattern.
struct Load {
    names: Vec<StreamName>,
    batch: Vec<NewEntry>,
    random: u64,
}

impl Load {
    fn new(args: &Args, streams: usize) -> Self {
        let names = (0..streams).map(|i| StreamName::parse(&format!("events-{i}")).expect("valid")).collect();
        // Beside the data an event has its type, its source and the lengths of them.
        let data = vec![b'x'; args.size.saturating_sub(32)];
        let event = Event::new("inference-complete", data).source("cyrex").into_entry().expect("valid");
        Self { names, batch: vec![event; args.batch], random: 1 }
    }

    fn request(&mut self) -> Publish {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let stream = self.names[(self.random >> 33) as usize % self.names.len()].clone();
        Publish::new(stream, self.batch.clone())
    }

    /// One event to every stream, so that all of them exist.
    fn touch(&self, engine: &Engine) {
        for names in self.names.chunks(1024) {
            let requests = names.iter().map(|name| Publish::new(name.clone(), self.batch[..1].to_vec())).collect();
            block_on(engine.publish_each(requests)).into_iter().for_each(|answer| _ = answer.expect("publishes"));
        }
    }

    /// Publishes with many requests in flight as long as `more` says, asked with the events answered so far; answers
    /// the rate in events a second.
    fn publish(&mut self, engine: &Engine, more: impl Fn(u64) -> bool) -> f64 {
        let started = Instant::now();
        let mut done = 0;
        let mut flying = FuturesUnordered::new();
        block_on(async {
            loop {
                while flying.len() < IN_FLIGHT && more(done + (flying.len() * REQUESTS * self.batch.len()) as u64) {
                    let requests: Vec<Publish> = (0..REQUESTS).map(|_| self.request()).collect();
                    flying.push(engine.publish_each(requests));
                }
                let Some(answers) = flying.next().await else { break };
                let counted = |answer: Result<Published>| u64::from(answer.expect("publishes").count);
                done += answers.into_iter().map(counted).sum::<u64>();
            }
        });
        done as f64 / started.elapsed().as_secs_f64()
    }

    /// The median rate of some runs.
    fn rate(&mut self, engine: &Engine) -> f64 {
        let mut rates: Vec<f64> = (0..RUNS)
            .map(|_| {
                let started = Instant::now();
                self.publish(engine, |_| started.elapsed() < RUN)
            })
            .collect();
        rates.sort_by(f64::total_cmp);
        rates[RUNS / 2]
    }

    /// The slowest of single publishes one after the other, in ms, and the median, with checkpoints all the time.
    fn slowest(&mut self, engine: &Engine) -> (f64, f64) {
        let started = Instant::now();
        let mut times = Vec::new();
        while started.elapsed() < 3 * RUN {
            let sent = Instant::now();
            engine.publish_blocking(self.request()).expect("publishes");
            times.push(sent.elapsed().as_secs_f64() * 1000.0);
        }
        times.sort_by(f64::total_cmp);
        (times[times.len() - 1], times[times.len() / 2])
    }
}

fn open(folder: &Path) -> Engine {
    Engine::open(EngineOptions::new(folder)).expect("opens")
}

fn stop(engine: Engine) {
    block_on(engine.shutdown()).expect("stops in order");
}

/// What a line of `/proc/self/status` says, in MiB.
fn memory(line: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find_map(|l| l.strip_prefix(line)?.trim_start_matches(':').split_whitespace().next());
    found.and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
}

/// Makes the system forget what it cached of a data directory.
fn make_cold(folder: &Path) {
    for entry in fs::read_dir(folder.join("log")).expect("a log").flatten() {
        let file = fs::File::open(entry.path()).expect("opens");
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advises");
    }
}

fn empty(args: &Args) {
    let engine = open(&args.fresh("empty"));
    let mut load = Load::new(args, args.streams);
    load.touch(&engine);
    println!("empty: publishing over {} streams: {:.0} events/s", args.streams, load.rate(&engine));
    stop(engine);
    let _ = fs::remove_dir_all(args.data("empty"));
}

fn fill(args: &Args) {
    let engine = open(&args.fresh("full"));
    let mut load = Load::new(args, args.streams);
    load.touch(&engine);
    let rate = load.publish(&engine, |done| done < args.events);
    println!(
        "fill: {} events of {} bytes: {rate:.0} events/s, memory at most {:.0} MiB",
        args.events,
        args.size,
        memory("VmHWM")
    );
    let started = Instant::now();
    stop(engine);
    println!("fill: stop: {:.3} s", started.elapsed().as_secs_f64());
}

fn full(args: &Args) {
    let folder = args.data("full");
    for state in ["cold", "warm"] {
        if state == "cold" {
            make_cold(&folder);
        }
        let started = Instant::now();
        let engine = open(&folder);
        let taken = started.elapsed().as_secs_f64();
        println!(
            "full: start, {state}: {taken:.3} s, {} files, {:.0} MiB",
            engine.recovery().segments,
            memory("VmRSS")
        );
        stop(engine);
    }
    let engine = open(&folder);
    let mut load = Load::new(args, args.streams);
    println!("full: publishing: {:.0} events/s, memory {:.0} MiB", load.rate(&engine), memory("VmRSS"));
    let readers: Vec<_> = (0..READERS).map(|i| reader(&engine, &load.names[i])).collect();
    let rate = load.rate(&engine);
    println!("full: publishing beside {READERS} tails and {READERS} groups: {rate:.0} events/s");
    stop(engine);
    let (tailed, pulled) =
        readers.into_iter().map(|r| r.join().expect("reads")).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    println!("full: {tailed} tailed, {pulled} pulled; memory at most {:.0} MiB", memory("VmHWM"));
}

/// A thread that tails a stream and consumes it in a group until the engine stops; answers both counts.
fn reader(engine: &Engine, stream: &StreamName) -> std::thread::JoinHandle<(u64, u64)> {
    let (engine, stream) = (engine.clone(), stream.clone());
    std::thread::spawn(move || {
        let group = make_group(&engine, &stream, &format!("of-{}", std::process::id()), StartAt::Latest, 100_000);
        let tailing = async {
            let mut tail = engine.tail(&stream, TailFrom::Latest).await.expect("tails");
            let mut count = 0;
            while let Ok(batch) = tail.next(1000, 1 << 20).await {
                count += batch.entries.len() as u64;
            }
            count
        };
        let pulling = async {
            let mut count = 0;
            while let Ok(pulled) = consume(&engine, &stream, &group, 1000, Duration::from_secs(60)).await {
                count += pulled;
            }
            count
        };
        block_on(futures::future::join(tailing, pulling))
    })
}

fn make_group(engine: &Engine, stream: &StreamName, name: &str, start: StartAt, pending_max: u32) -> GroupName {
    let group = GroupName::parse(name).expect("valid");
    let settings = GroupSettings { pending_max, ack_wait_ms: 600_000, ..GroupSettings::default() };
    let (stream, create_stream) = (stream.clone(), true);
    let made = engine.create_group(CreateGroup { stream, group: group.clone(), start, settings, create_stream });
    block_on(made).expect("makes the group");
    group
}

fn pull(stream: &StreamName, group: &GroupName, entries_max: usize, wait: Duration) -> Pull {
    let (stream, group) = (stream.clone(), group.clone());
    let consumer = ConsumerName::parse("consumer").expect("valid");
    Pull { stream, group, consumer, entries_max, bytes_max: 8 << 20, wait, no_ack: false }
}

/// Pulls and acknowledges once; answers how many.
async fn consume(engine: &Engine, stream: &StreamName, group: &GroupName, max: usize, wait: Duration) -> Result<u64> {
    let got = engine.pull(pull(stream, group, max, wait)).await?;
    let (Some(first), Some(last)) = (got.entries.first(), got.entries.last()) else { return Ok(0) };
    let ids = vec![IdRange { first: first.entry.id, last: last.entry.id }];
    let (stream, group, holder) = (stream.clone(), group.clone(), Holder::Delivery(got.delivery));
    engine.acknowledge(Acknowledge { stream, group, ids, holder, publish: Vec::new() }).await?;
    Ok(got.entries.len() as u64)
}

/// Reads a stream from its beginning up to so many entries; answers how many there were.
fn read_through(engine: &Engine, stream: &StreamName, max: u64) -> u64 {
    let mut read = Read { entries_max: 1000, ..Read::all(stream.clone()) };
    let mut count = 0;
    while count < max {
        let page = block_on(engine.read(read.clone())).expect("reads");
        count += page.entries.len() as u64;
        let Some(next) = page.next else { break };
        read.range = IdRange { first: next, last: EntryId::MAX };
    }
    count
}

fn catch_up(args: &Args) {
    let load = Load::new(args, args.streams);
    for state in ["cold", "warm"] {
        if state == "cold" {
            make_cold(&args.data("full"));
        }
        let engine = open(&args.data("full"));
        let started = Instant::now();
        let step = (args.streams / CAUGHT_UP).max(1);
        let count: u64 = load.names.iter().step_by(step).map(|name| read_through(&engine, name, u64::MAX)).sum();
        println!(
            "catch-up: one stream of {}, {state}: {:.0} events/s",
            args.streams,
            count as f64 / started.elapsed().as_secs_f64()
        );
        stop(engine);
    }
}

fn alone(args: &Args) {
    let folder = args.fresh("alone");
    let engine = open(&folder);
    let mut load = Load::new(args, 1);
    load.publish(&engine, |done| done < 2_000_000);
    stop(engine);
    for state in ["cold", "warm"] {
        if state == "cold" {
            make_cold(&folder);
        }
        let engine = open(&folder);
        let started = Instant::now();
        let count = read_through(&engine, &load.names[0], 1_000_000);
        println!("alone: the only stream, {state}: {:.0} events/s", count as f64 / started.elapsed().as_secs_f64());
        stop(engine);
    }
    let _ = fs::remove_dir_all(folder);
}

fn streams(args: &Args, count: usize) {
    let folder = args.fresh("streams");
    let engine = open(&folder);
    let mut load = Load::new(args, count);
    load.touch(&engine);
    println!("streams: publishing over {count}: {:.0} events/s, memory {:.0} MiB", load.rate(&engine), memory("VmRSS"));
    stop(engine);
    let started = Instant::now();
    let engine = often_checkpointed(&folder);
    println!("streams: start with {count}: {:.3} s", started.elapsed().as_secs_f64());
    let (slowest, median) = load.slowest(&engine);
    println!("streams: publish while checkpoints are taken: median {median:.2} ms, slowest {slowest:.1} ms");
    stop(engine);
    let _ = fs::remove_dir_all(folder);
}

/// An engine that captures its state as often as it can.
fn often_checkpointed(folder: &Path) -> Engine {
    let options = EngineOptions { checkpoint_bytes: 1 << 20, ..EngineOptions::new(folder) };
    Engine::open(options).expect("opens")
}

/// A million entries for a group that acknowledges nothing.
const PENDING: u64 = 1_000_000;

fn pending_fill(args: &Args) {
    let engine = open(&args.fresh("pending"));
    Load::new(args, 1).publish(&engine, |done| done < PENDING);
    stop(engine);
}

fn pending(args: &Args) {
    let folder = args.data("pending");
    let load = Load::new(args, 1);
    let stream = load.names[0].clone();
    // Blocks in the cache would be counted with what is measured.
    let engine = Engine::open(EngineOptions { cache_bytes: 1 << 20, ..EngineOptions::new(&folder) }).expect("opens");
    let group = make_group(&engine, &stream, "slow", StartAt::Earliest, 2_000_000);
    let pulled = |max| block_on(engine.pull(pull(&stream, &group, max, Duration::ZERO))).expect("pulls").entries.len();
    let mut count = 0;
    while count < 50_000 {
        count += pulled(1000) as u64;
    }
    let (first, before, started) = (count, memory("VmRSS"), Instant::now());
    while count < PENDING {
        count += pulled(1000) as u64;
    }
    let more = (count - first) as f64;
    let (rate, bytes) = (more / started.elapsed().as_secs_f64(), (memory("VmRSS") - before) * 1024.0 * 1024.0 / more);
    println!("pending: {count} delivered at {rate:.0} events/s, {bytes:.0} bytes each");
    stop(engine);
}

fn pending_start(args: &Args) {
    let folder = args.data("pending");
    let mut load = Load::new(args, 1);
    let (group, started) = (GroupName::parse("slow").expect("valid"), Instant::now());
    let engine = often_checkpointed(&folder);
    println!("pending: start: {:.3} s, memory {:.0} MiB", started.elapsed().as_secs_f64(), memory("VmRSS"));
    let (slowest, median) = load.slowest(&engine);
    println!("pending: publish while checkpoints are taken: median {median:.2} ms, slowest {slowest:.1} ms");
    let info = block_on(engine.group(&load.names[0], &group)).expect("is there");
    assert!(info.pending >= PENDING, "nothing of it is lost");
    stop(engine);
    let _ = fs::remove_dir_all(folder);
}

fn groups(args: &Args) {
    let folder = args.fresh("groups");
    let engine = open(&folder);
    let mut load = Load::new(args, 1);
    load.touch(&engine);
    println!("groups: publishing without any: {:.0} events/s", load.rate(&engine));
    for count in [1, 100] {
        let stream = StreamName::parse(&format!("with-{count}")).expect("valid");
        load.names = vec![stream.clone()];
        let make = |i| make_group(&engine, &stream, &format!("group-{i}"), StartAt::Latest, 1_000_000);
        let groups: Vec<GroupName> = (0..count).map(make).collect();
        println!("groups: publishing beside {count} that nobody reads: {:.0} events/s", load.rate(&engine));
        let started = Instant::now();
        let events = 200_000;
        let consumer = engine.clone();
        let of_all = std::thread::spawn(move || {
            let each = groups.iter().map(async |group| {
                let mut seen = 0;
                while seen < events {
                    seen += consume(&consumer, &stream, group, 1000, Duration::from_secs(60)).await.expect("consumes");
                }
                seen
            });
            block_on(join_all(each)).into_iter().sum::<u64>()
        });
        let seen = of_all.join().expect("consumes");
        println!("groups: {count} consume at {:.0} events/s together", seen as f64 / started.elapsed().as_secs_f64());
    }
    stop(engine);
    let _ = fs::remove_dir_all(folder);
}
