//! Criterion benches of what is done with a whole log: replaying it, starting from a checkpoint, making one, reclaiming.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::executor::block_on;
use futures::future::join_all;
use synapse::engine::{Engine, EngineOptions, Publish, Trim, TrimTo};
use synapse::format::event::Event;
use synapse::types::{NewEntry, StreamName};
use tempfile::TempDir;

const STREAMS: usize = 10_000;

fn entries(count: usize) -> Vec<NewEntry> {
    let event = Event::new("inference-complete", vec![b'x'; 200]).source("cyrex").into_entry().expect("valid");
    vec![event; count]
}

fn stream(number: usize) -> StreamName {
    StreamName::parse(&format!("inference-events-{number}")).expect("valid")
}

fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder")
}

fn open(folder: &Path) -> Engine {
    Engine::open(EngineOptions::new(folder.join("data"))).expect("opens")
}

fn stop(engine: Engine) {
    block_on(engine.shutdown()).expect("stops in order");
}

/// Publishes to streams 0 and on, in turn, some hundreds of requests at a time.
fn fill(engine: &Engine, requests: usize, batch: usize, streams: usize) {
    let batch = entries(batch);
    for first in (0..requests).step_by(IN_FLIGHT) {
        let sent = (first..requests.min(first + IN_FLIGHT))
            .map(|number| engine.publish(Publish::new(stream(number % streams), batch.clone())));
        for answer in block_on(join_all(sent)) {
            answer.expect("publishes");
        }
    }
}

/// The time that so many starts take. What comes between them is not part of it.
fn starts(folder: &Path, times: u64, mut prepare: impl FnMut()) -> Duration {
    let mut taken = Duration::ZERO;
    for _ in 0..times {
        prepare();
        let started = Instant::now();
        let engine = open(folder);
        taken += started.elapsed();
        stop(engine);
    }
    taken
}

fn replay(c: &mut Criterion) {
    let mut group = c.benchmark_group("start");
    for (requests, batch) in [(1_000, 256), (20_000, 1)] {
        let folder = folder();
        let engine = open(folder.path());
        fill(&engine, requests, batch, 1);
        stop(engine);
        let forget = || fs::remove_dir_all(folder.path().join("data/index")).expect("there is an index");
        let stored = format!("{} entries in batches of {batch}", requests * batch);
        group.throughput(Throughput::Elements((requests * batch) as u64));
        group.bench_function(format!("replay of {stored}"), |b| {
            b.iter_custom(|times| starts(folder.path(), times, forget));
        });
        group.bench_function(format!("from a checkpoint after {stored}"), |b| {
            b.iter_custom(|times| starts(folder.path(), times, || {}));
        });
    }
    group.finish();
}

/// A stop captures the state and saves it: here of many streams, of which all or few have changed.
fn checkpoint(c: &mut Criterion) {
    let mut group = c.benchmark_group("checkpoint of 10,000 streams");
    group.throughput(Throughput::Elements(STREAMS as u64));
    for (name, changed) in [("all changed", STREAMS), ("100 changed", 100)] {
        let folder = folder();
        let engine = open(folder.path());
        fill(&engine, STREAMS, 1, STREAMS);
        stop(engine);
        group.bench_function(format!("{name}, captured and saved"), |b| {
            b.iter_custom(|times| {
                let mut taken = Duration::ZERO;
                for _ in 0..times {
                    let engine = open(folder.path());
                    fill(&engine, changed, 1, STREAMS);
                    let started = Instant::now();
                    stop(engine);
                    taken += started.elapsed();
                }
                taken
            });
        });
        group.bench_function(format!("{name}, started from"), |b| {
            b.iter_custom(|times| starts(folder.path(), times, || {}));
        });
    }
    group.finish();
}

/// Gives back what nine of ten streams held, which lies beside what the tenth holds.
fn reclaim(c: &mut Criterion) {
    const REQUESTS: usize = 10_000;
    let mut group = c.benchmark_group("reclaim");
    group.throughput(Throughput::Elements((REQUESTS * 16) as u64));
    group.bench_function(format!("{} entries of ten streams, nine trimmed", REQUESTS * 16), |b| {
        b.iter_custom(|times| {
            let mut taken = Duration::ZERO;
            for _ in 0..times {
                let folder = folder();
                let engine = open(folder.path());
                fill(&engine, REQUESTS, 16, 10);
                for number in 0..9 {
                    let trim = Trim { stream: stream(number), to: TrimTo::KeepEntries(0), dry_run: false };
                    block_on(engine.trim(trim)).expect("trims");
                }
                let started = Instant::now();
                let given_back = block_on(engine.reclaim()).expect("reclaims");
                taken += started.elapsed();
                assert!(given_back > (REQUESTS * 16 * 200 / 2) as u64, "only {given_back} bytes were given back");
                stop(engine);
            }
            taken
        });
    });
    group.finish();
}

/// Requests that are with the engine at a time.
const IN_FLIGHT: usize = 500;

fn quick() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .sample_size(10)
}

criterion_group! { name = benches; config = quick(); targets = replay, checkpoint, reclaim }
criterion_main!(benches);
