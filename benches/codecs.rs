//! Criterion benches of the codecs: events, blocks and heads of frames, both ways.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use synapse::clock::Now;
use synapse::format::block::{AppendTime, BlockBuilder, BlockMeta, BlockView, FileId};
use synapse::format::crc;
use synapse::format::event::{self, Event, EventView};
use synapse::format::frame::{ENTRIES_VERSION, FrameHead, KIND_ENTRIES, RecordHead};
use synapse::types::{EntryId, LogPosition, NewEntry, StreamNumber};

const BATCH: u64 = 256;

fn sample() -> Event {
    Event::new("inference-complete", vec![b'x'; 200]).source("cyrex").key("user-7").attribute("model", "m-1")
}

fn events(c: &mut Criterion) {
    let encoded = Bytes::from(sample().encode());
    let mut group = c.benchmark_group("event of 200 bytes");
    group.throughput(Throughput::Elements(1));
    group.bench_function("encode", |b| b.iter_with_setup(sample, |event| event.encode()));
    group.bench_function("check", |b| b.iter(|| event::check(black_box(encoded.clone())).expect("valid")));
    group.bench_function("decode", |b| {
        b.iter(|| EventView::parse(black_box(&encoded)).expect("valid").type_or_default())
    });
    group.finish();
}

fn build(entry: &NewEntry) -> (BlockMeta, Bytes) {
    let mut builder = BlockBuilder::new(StreamNumber(1), 0, AppendTime::default());
    builder.reserve(entry.bytes.len() * (BATCH as usize + 8));
    for seq in 0..BATCH {
        builder.push(EntryId::new(1_000, seq), entry.kind, false, entry.type_hash, &entry.bytes);
    }
    builder.finish()
}

fn blocks(c: &mut Criterion) {
    let entry = sample().into_entry().expect("valid");
    let (meta, content) = build(&entry);
    let place = meta.at(FileId(0), 0, content.len() as u32, crc::content(&content));
    let mut group = c.benchmark_group("block of 256 events");
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("encode", |b| b.iter(|| build(black_box(&entry))));
    group.bench_function("checksum", |b| b.iter(|| crc::content(black_box(&content))));
    group.bench_function("decode", |b| {
        b.iter(|| {
            let view = BlockView::new(black_box(content.clone()), &place).expect("sound");
            view.entries().map(|entry| entry.bytes.len()).sum::<usize>()
        });
    });
    group.finish();
}

fn frames(c: &mut Criterion) {
    let (meta, content) = build(&sample().into_entry().expect("valid"));
    let (length, crc) = (content.len() as u32, crc::content(&content));
    let record = RecordHead { kind: KIND_ENTRIES, version: ENTRIES_VERSION, length, crc, block: Some(meta) };
    let head = FrameHead {
        position: LogPosition(4096),
        now: Now { wall_ms: 1_000, engine_ms: 1_000 },
        synced_to: LogPosition(4096),
        clean_stop: false,
        records: vec![record; 16],
    };
    let encoded = head.encode(7);
    let mut group = c.benchmark_group("head of a frame of 16 blocks");
    group.throughput(Throughput::Bytes(encoded.len() as u64));
    group.bench_function("encode", |b| b.iter(|| black_box(&head).encode(7)));
    group.bench_function("decode", |b| {
        b.iter(|| FrameHead::decode(black_box(&encoded), 7, LogPosition(4096)).expect("sound"));
    });
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2))
}

criterion_group! { name = benches; config = quick(); targets = events, blocks, frames }
criterion_main!(benches);
