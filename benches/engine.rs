//! Criterion benches of the engine in process: publish at `fsync`, read back, one cycle of a group.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::executor::block_on;
use futures::future::join_all;
use synapse::engine::{Acknowledge, CreateGroup, Engine, EngineOptions, Holder, Publish, Pull, Read, StartAt};
use synapse::format::event::Event;
use synapse::types::{ConsumerName, GroupName, GroupSettings, IdRange, NewEntry, StreamName};

fn entries(count: usize) -> Vec<NewEntry> {
    let event = Event::new("inference-complete", vec![b'x'; 200]).source("cyrex").into_entry().expect("valid");
    vec![event; count]
}

fn stream() -> StreamName {
    StreamName::parse("inference-events").expect("valid")
}

fn engine() -> (tempfile::TempDir, Engine) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let engine = Engine::open(EngineOptions::new(folder.path().join("data"))).expect("opens");
    (folder, engine)
}

/// Publishes 64 batches at once, as that many connections would.
fn publish(c: &mut Criterion) {
    let (_folder, engine) = engine();
    let mut group = c.benchmark_group("publish, fsync, 64 in flight");
    for size in [1usize, 16, 256] {
        let batch = entries(size);
        group.throughput(Throughput::Elements(64 * size as u64));
        group.bench_function(format!("batches of {size}"), |b| {
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

fn read(c: &mut Criterion) {
    let (_folder, engine) = engine();
    for _ in 0..100 {
        block_on(engine.publish(Publish::new(stream(), entries(256)))).expect("publishes");
    }
    let mut group = c.benchmark_group("read");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("page of 1000 from the cache", |b| {
        b.iter(|| black_box(block_on(engine.read(Read::all(stream()))).expect("reads")));
    });
    group.finish();
}

/// Publishes, pulls and acknowledges one batch.
async fn cycle(engine: &Engine, name: &GroupName, batch: &[NewEntry]) {
    engine.publish(Publish::new(stream(), batch.to_vec())).await.expect("publishes");
    let pull = Pull {
        stream: stream(),
        group: name.clone(),
        consumer: ConsumerName::parse("c").expect("valid"),
        entries_max: batch.len(),
        bytes_max: 1 << 20,
        wait: Duration::from_secs(5),
        no_ack: false,
    };
    let got = engine.pull(pull).await.expect("pulls");
    let range = IdRange { first: got.entries[0].entry.id, last: got.entries[got.entries.len() - 1].entry.id };
    let holder = Holder::Delivery(got.delivery);
    let request = Acknowledge { stream: stream(), group: name.clone(), ids: vec![range], holder, publish: Vec::new() };
    engine.acknowledge(request).await.expect("acknowledges");
}

fn group_cycle(c: &mut Criterion) {
    let (_folder, engine) = engine();
    let name = GroupName::parse("g").expect("valid");
    let request = CreateGroup {
        stream: stream(),
        group: name.clone(),
        start: StartAt::Earliest,
        settings: GroupSettings::default(),
        create_stream: true,
    };
    block_on(engine.create_group(request)).expect("makes the group");
    let batch = entries(256);
    let mut group = c.benchmark_group("group");
    group.throughput(Throughput::Elements(256));
    group.bench_function("publish, pull and acknowledge 256", |b| b.iter(|| block_on(cycle(&engine, &name, &batch))));
    group.finish();
}

criterion_group!(benches, publish, read, group_cycle);
criterion_main!(benches);
