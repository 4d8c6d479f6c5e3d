//! Criterion benches of the engine in process, at `fsync`: publishing beside one file that is written and synced in the
//! same sizes, reading back, and a group's cycle.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use futures::executor::block_on;
use futures::future::join_all;
use synapse::engine::{Acknowledge, CreateGroup, Engine, EngineOptions, Holder, Publish, Pull, Read, StartAt};
use synapse::format::event::Event;
use synapse::limits;
use synapse::types::{ConsumerName, GroupName, GroupSettings, IdRange, NewEntry, StreamName};

const BATCH: usize = 256;

fn entries(count: usize) -> Vec<NewEntry> {
    let event = Event::new("inference-complete", vec![b'x'; 200]).source("cyrex").into_entry().expect("valid");
    vec![event; count]
}

fn stream() -> StreamName {
    StreamName::parse("inference-events").expect("valid")
}

/// A folder in the target folder, which is on a disk where a temporary folder may not be.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder")
}

fn engine() -> (tempfile::TempDir, Engine) {
    engine_with(|_| {})
}

fn engine_with(change: impl FnOnce(&mut EngineOptions)) -> (tempfile::TempDir, Engine) {
    let folder = folder();
    let mut options = EngineOptions::new(folder.path().join("data"));
    change(&mut options);
    let engine = Engine::open(options).expect("opens");
    (folder, engine)
}

fn publish_batch(engine: &Engine, batch: &[NewEntry]) {
    engine.publish_blocking(Publish::new(stream(), batch.to_vec())).expect("publishes");
}

/// One batch after the other, each answered before the next; and 64 at once, as that many connections would.
fn publish(c: &mut Criterion) {
    let (_folder, engine) = engine();
    let mut group = c.benchmark_group("publish at fsync");
    for size in [1, 16, BATCH] {
        let batch = entries(size);
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(format!("batches of {size}, 1 in flight"), |b| b.iter(|| publish_batch(&engine, &batch)));
        group.throughput(Throughput::Elements(64 * size as u64));
        group.bench_function(format!("batches of {size}, 64 in flight"), |b| {
            b.iter(|| {
                let sent = (0..64).map(|_| engine.publish(Publish::new(stream(), batch.clone())));
                for answer in block_on(join_all(sent)) {
                    answer.expect("publishes");
                }
            });
        });
    }
    group.finish();
}

/// What [`publish`] is measured by.
fn plain_file(c: &mut Criterion) {
    let folder = folder();
    let mut file = File::create(folder.path().join("plain")).expect("a file");
    let mut group = c.benchmark_group("one plain file, written and synced");
    for size in [1, 16, BATCH] {
        let block: Vec<u8> = entries(size).iter().flat_map(|entry| entry.bytes.to_vec()).collect();
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(format!("batches of {size}"), |b| {
            b.iter(|| {
                file.write_all(&block).expect("writes");
                file.sync_data().expect("syncs");
            });
        });
    }
    group.finish();
}

fn read(c: &mut Criterion) {
    let mut group = c.benchmark_group("read a page of 1000");
    group.throughput(Throughput::Elements(1000));
    let (_folder, cached) = engine();
    // Without a cache each block is read from its file: the last segment, or a sealed one with its index.
    let (_live_folder, live) = engine_with(|options| options.cache_bytes = 0);
    let (_sealed_folder, sealed) = engine_with(|options| {
        options.cache_bytes = 0;
        options.segment_bytes = 8 * limits::SEGMENT_BYTES_MIN;
    });
    for (name, engine) in [("cached", cached), ("from the live file", live), ("from a sealed file", sealed)] {
        for _ in 0..100 {
            publish_batch(&engine, &entries(BATCH));
        }
        group
            .bench_function(name, |b| b.iter(|| black_box(block_on(engine.read(Read::all(stream()))).expect("reads"))));
    }
    group.finish();
}

fn create_group(engine: &Engine, group: &GroupName) {
    let request = CreateGroup {
        stream: stream(),
        group: group.clone(),
        start: StartAt::Earliest,
        settings: GroupSettings::default(),
        create_stream: true,
    };
    block_on(engine.create_group(request)).expect("makes the group");
}

/// Pulls one batch and acknowledges it.
fn deliver_and_acknowledge(engine: &Engine, group: &GroupName) {
    let pull = Pull {
        stream: stream(),
        group: group.clone(),
        consumer: ConsumerName::parse("c").expect("valid"),
        entries_max: BATCH,
        bytes_max: 1 << 20,
        wait: Duration::from_secs(5),
        no_ack: false,
    };
    let got = block_on(engine.pull(pull)).expect("pulls");
    let range = IdRange { first: got.entries[0].entry.id, last: got.entries[got.entries.len() - 1].entry.id };
    let holder = Holder::Delivery(got.delivery);
    let request = Acknowledge { stream: stream(), group: group.clone(), ids: vec![range], holder, publish: Vec::new() };
    let settled = block_on(engine.acknowledge(request)).expect("acknowledges");
    assert_eq!(settled.done as usize, BATCH, "every entry of the batch");
}

fn group_cycle(c: &mut Criterion) {
    let (_folder, engine) = engine();
    let name = GroupName::parse("g").expect("valid");
    create_group(&engine, &name);
    let batch = entries(BATCH);
    let mut group = c.benchmark_group("group");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("deliver and acknowledge 256", |b| {
        let publish = || publish_batch(&engine, &batch);
        b.iter_batched(publish, |()| deliver_and_acknowledge(&engine, &name), BatchSize::PerIteration);
    });
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(30)
}

criterion_group! { name = benches; config = quick(); targets = publish, plain_file, read, group_cycle }
criterion_main!(benches);
