//! A log that is written, damaged anywhere and opened again: no frame is handed on but as it was written, in order
//! and without a gap, and no block is read but as it was written. A second opening gives the same.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use synapse::clock::Now;
use synapse::format::block::{BlockBuilder, BlockRef};
use synapse::format::segment::StoreId;
use synapse::storage::sim::SimDisk;
use synapse::storage::{Files, FrameParts, Log, LogOptions, Record, Recovered};
use synapse::types::{EntryId, EntryKind, StreamNumber};

const NOW: Now = Now { wall_ms: 1_700_000_000_000, engine_ms: 0 };
type Written = BTreeMap<u64, Vec<Bytes>>;
type Opened = (Log, Vec<(u64, Vec<Option<Bytes>>)>, Vec<BlockRef>);

fuzz_target!(|data: &[u8]| {
    let _ = run(&mut Unstructured::new(data));
});

fn run(from: &mut Unstructured<'_>) -> Result<()> {
    let disk = SimDisk::new(1, 1 << 24);
    let written = write(&disk, from)?;
    let names = disk.list().expect("a disk lists its files");
    for _ in 0..from.int_in_range(1..=4)? {
        let (offset, length, with) =
            (from.int_in_range(0..=65_535)?, from.int_in_range(1..=64)?, from.arbitrary::<u8>()?);
        let name = from.choose(&names)?;
        disk.corrupt(name, offset, |bytes| bytes.iter_mut().take(length).for_each(|byte| *byte ^= with));
    }
    let Ok((log, frames, blocks)) = open(&disk) else { return Ok(()) };
    let mut expected = written.iter();
    for (position, contents) in &frames {
        let (at, records) = expected.next().expect("no frame is invented");
        assert_eq!(position, at, "frames follow one another");
        assert_eq!(contents.len(), records.len());
        let same = contents.iter().zip(records).all(|(found, record)| found.as_ref().is_none_or(|f| f == record));
        assert!(same, "a record of the frame at {position} changed");
    }
    let all: Vec<&Bytes> = written.values().flatten().collect();
    for block in &blocks {
        if let Ok(content) = log.reader().read_block(block) {
            assert!(all.contains(&&content), "a block is read that was never written");
        }
    }
    drop(log);
    let (_, again, _) = open(&disk).expect("what opened once opens again");
    assert_eq!(again, frames);
    Ok(())
}

/// Frames of blocks and control records over about two segments, synced now and then.
fn write(disk: &SimDisk, from: &mut Unstructured<'_>) -> Result<Written> {
    let (mut log, _, _) = open(disk).expect("an empty disk opens");
    let mut written = Written::new();
    for number in 0..from.int_in_range(1..=24)? {
        let mut records = Vec::new();
        for stream in 0..from.int_in_range(0..=2)? {
            let mut block = BlockBuilder::new(StreamNumber(stream), number, NOW.into());
            let payload = vec![from.arbitrary()?; from.int_in_range(0..=8000)?];
            block.push(EntryId::new(number + 1, 0), EntryKind::Event, false, None, &payload);
            records.push(Record::entries(block.finish()));
        }
        if from.arbitrary()? {
            records.push(Record::control(0x12, 1, Bytes::copy_from_slice(&number.to_le_bytes())));
        }
        let contents = records.iter().map(|record| record.content.clone()).collect();
        let appended = log.append(FrameParts { now: NOW, records, clean_stop: false }).expect("there is room");
        written.insert(appended.position.0, contents);
        if from.arbitrary()? {
            log.sync().expect("a healthy disk syncs");
        }
    }
    if from.arbitrary()? {
        let mark = log.end().0;
        log.stop(NOW).expect("a healthy disk syncs");
        written.insert(mark, Vec::new());
    }
    Ok(written)
}

fn open(disk: &SimDisk) -> synapse::error::Result<Opened> {
    let (mut frames, mut blocks, mut salt) = (Vec::new(), Vec::new(), 1);
    let options = LogOptions { segment_bytes: 64 << 10, ..LogOptions::new(StoreId([1; 16])) };
    let files: Arc<dyn Files> = Arc::new(disk.clone());
    let salts = Box::new(move || {
        salt += 1;
        salt
    });
    let (log, _) = Log::open(files, options, None, NOW, salts, &mut |recovered| {
        if let Recovered::Frame(frame) = recovered {
            let contents = frame.records.iter().map(|r| r.intact.then(|| r.content.clone())).collect();
            frames.push((frame.position.0, contents));
            blocks.extend(frame.records.iter().filter_map(|r| r.block));
        }
        Ok(())
    })?;
    Ok((log, frames, blocks))
}
