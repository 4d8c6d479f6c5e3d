//! Criterion benches of the log on the disk: a commit appended and synced, beside one file that is written and synced
//! in the same sizes. The data lies in the target folder, which is on a disk where a temporary folder may not be.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use synapse::clock::Now;
use synapse::format::block::BlockBuilder;
use synapse::format::event::Event;
use synapse::format::segment::StoreId;
use synapse::storage::{FrameParts, Log, LogOptions, RealFiles, Record};
use synapse::types::{EntryId, EntryKind, StreamNumber};
use tempfile::TempDir;

const NOW: Now = Now { wall_ms: 1_000, engine_ms: 1_000 };

fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder")
}

/// Entries of 200 bytes of data, as one commit after the other has them.
struct Commits {
    log: Log,
    payload: Vec<u8>,
    next: u64,
}

impl Commits {
    fn open(folder: &TempDir) -> Self {
        let files = Arc::new(RealFiles::open(folder.path()).expect("a folder"));
        let options = LogOptions::new(StoreId([7; 16]));
        let (log, _) = Log::open(files, options, None, NOW, Box::new(|| 7), &mut |_| Ok(())).expect("opens");
        let payload = Event::new("inference-complete", vec![b'x'; 200]).source("cyrex").encode();
        Self { log, payload, next: 0 }
    }

    fn append(&mut self, count: u64) {
        let end = self.next + count;
        let mut records = Vec::new();
        while self.next < end {
            let mut builder = BlockBuilder::new(StreamNumber(1), self.next, NOW.into());
            while self.next < end && !builder.is_full() {
                self.next += 1;
                builder.push(EntryId::new(1, self.next), EntryKind::Event, false, Some(1), &self.payload);
            }
            records.push(Record::entries(builder.finish()));
        }
        self.log.append(FrameParts { now: NOW, records, clean_stop: false }).expect("appends");
    }
}

fn synced(c: &mut Criterion) {
    let mut group = c.benchmark_group("written and synced");
    for count in [1u64, 64, 256, 4096] {
        group.throughput(Throughput::Elements(count));
        let folder = folder();
        let mut commits = Commits::open(&folder);
        let block = vec![b'x'; commits.payload.len() * count as usize];
        group.bench_function(format!("{count} events, log"), |b| {
            b.iter(|| {
                commits.append(count);
                commits.log.sync().expect("syncs")
            });
        });
        let mut file = File::create(folder.path().join("plain")).expect("a file");
        group.bench_function(format!("{count} events, one plain file"), |b| {
            b.iter(|| {
                file.write_all(&block).expect("writes");
                file.sync_data().expect("syncs");
            });
        });
    }
    group.finish();
}

fn unsynced(c: &mut Criterion) {
    let mut group = c.benchmark_group("written, not synced");
    group.throughput(Throughput::Elements(256));
    let folder = folder();
    let mut commits = Commits::open(&folder);
    group.bench_function("256 events, log", |b| b.iter(|| commits.append(256)));
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(30)
}

criterion_group! { name = benches; config = quick(); targets = synced, unsynced }
criterion_main!(benches);
