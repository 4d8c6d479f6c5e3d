//! Blocks of entries and the index over them: written and read back the same; a changed block is refused or is a whole
//! block by its own description; a changed index is refused.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use synapse::format::block::{AppendTime, BlockBuilder, BlockMeta, BlockRef, BlockView, FileId};
use synapse::format::crc;
use synapse::format::index::{DIRECTORY_ENTRY_BYTES, DirectoryEntry, IndexBuilder};
use synapse::format::segment::FORMAT_VERSION;
use synapse::types::{EntryId, EntryKind, StreamNumber};

const FILE: FileId = FileId(80);

fuzz_target!(|data: &[u8]| {
    let _ = run(&mut Unstructured::new(data));
});

fn run(from: &mut Unstructured<'_>) -> Result<()> {
    let mut index = IndexBuilder::new(FORMAT_VERSION);
    let mut blocks: Vec<BlockRef> = Vec::new();
    let mut last = EntryId::ZERO;
    let mut ordinal = 0;
    for _ in 0..from.int_in_range(1..=4)? {
        let stream = StreamNumber(from.int_in_range(0..=2)?);
        let (meta, content) = block(from, stream, &mut last, ordinal)?;
        ordinal += u64::from(meta.count);
        let block = place(&meta, &content, from.int_in_range(0..=1 << 20)?);
        let view = BlockView::new(content.clone(), &block).expect("what was built is whole");
        index.add(block, &view.types().0);
        blocks.push(block);
        changed(from, &meta, content)?;
    }
    check_index(from, &index, &blocks)
}

/// A time that a clock may tell.
fn time(from: &mut Unstructured<'_>) -> Result<AppendTime> {
    let wall_ms = from.int_in_range(0..=(1 << 47) - 1)?;
    let engine_ms = if from.arbitrary()? { Some(from.int_in_range(0..=(1 << 47) - 1)?) } else { None };
    Ok(AppendTime { wall_ms, engine_ms })
}

/// A block of a few entries whose ids rise above `last`, read back as it was put together.
fn block(
    from: &mut Unstructured<'_>,
    stream: StreamNumber,
    last: &mut EntryId,
    ordinal: u64,
) -> Result<(BlockMeta, Bytes)> {
    let mut builder = BlockBuilder::new(stream, ordinal, time(from)?);
    let mut pushed: Vec<(EntryId, EntryKind, bool, Vec<u8>)> = Vec::new();
    for _ in 0..from.int_in_range(1..=8)? {
        *last = match from.int_in_range(0..=3)? {
            0 => EntryId::new(last.ms + from.int_in_range(1..=1 << 40)?, from.arbitrary()?),
            1 => EntryId::new(last.ms, last.seq.saturating_add(from.int_in_range(2..=9)?)),
            _ => last.next().expect("far below the greatest"),
        };
        if pushed.last().is_some_and(|(id, ..)| *id >= *last) {
            *last = EntryId::new(last.ms + 1, 0);
        }
        let kind = *from.choose(&[EntryKind::Event, EntryKind::Fields])?;
        let (node_start, hash) = (from.arbitrary()?, from.arbitrary()?);
        let length = from.int_in_range(0..=64)?;
        let payload = from.bytes(length)?.to_vec();
        builder.push(*last, kind, node_start, hash, &payload);
        pushed.push((*last, kind, node_start, payload));
    }
    let (meta, content) = builder.finish();
    let view = BlockView::new(content.clone(), &place(&meta, &content, 0)).expect("what was built is whole");
    let read: Vec<_> = view.entries().map(|e| (e.id, e.kind, e.node_start, e.bytes.to_vec())).collect();
    assert_eq!(read, pushed);
    assert!(view.entries().map(|e| e.ordinal).eq((ordinal..).take(pushed.len())));
    let found = |id: &EntryId| view.entry(*id).map(|e| e.bytes.to_vec());
    assert!(pushed.iter().all(|(id, _, _, payload)| found(id).as_ref() == Some(payload)));
    Ok((meta, content))
}

/// A changed content may pass where no checksum is looked at; what it gives is what its description says.
fn changed(from: &mut Unstructured<'_>, meta: &BlockMeta, content: Bytes) -> Result<()> {
    let mut bytes = content.to_vec();
    for _ in 0..from.int_in_range(1..=3)? {
        if from.arbitrary()? {
            bytes.truncate(from.int_in_range(0..=bytes.len())?);
        } else if !bytes.is_empty() {
            *from_place(from, &mut bytes)? = from.arbitrary()?;
        }
    }
    let content = Bytes::from(bytes);
    let Ok(view) = BlockView::new(content.clone(), &place(meta, &content, 0)) else { return Ok(()) };
    let entries: Vec<_> = view.entries().collect();
    // A changed block may say that entries are gone from it.
    assert!(entries.len() <= meta.count as usize);
    assert!(entries.is_sorted_by(|a, b| a.id < b.id && a.ordinal < b.ordinal));
    assert!(entries.iter().all(|e| e.id >= meta.first && e.id <= meta.last));
    assert!(entries.iter().map(|e| e.bytes.len()).sum::<usize>() <= meta.bytes as usize);
    assert!(entries.iter().all(|e| view.entry(e.id).as_ref() == Some(e)));
    Ok(())
}

fn check_index(from: &mut Unstructured<'_>, index: &IndexBuilder, blocks: &[BlockRef]) -> Result<()> {
    let (salt, offset) = (from.arbitrary()?, from.int_in_range(0..=1 << 20)?);
    let bytes = index.encode(salt, offset);
    assert_eq!(bytes.len(), index.encoded_bytes());
    let read = decode(&bytes, salt, offset, index.streams());
    let mut by_stream = blocks.to_vec();
    by_stream.sort_by_key(|block| block.stream);
    assert_eq!(read, Some(by_stream));
    assert_eq!(decode(&bytes, salt ^ 1, offset, index.streams()), None);
    let mut bytes = bytes;
    *from_place(from, &mut bytes)? ^= 1 << from.int_in_range(0..=7)?;
    assert_eq!(decode(&bytes, salt, offset, index.streams()), None);
    Ok(())
}

/// All blocks of an index, stream by stream; `None` where a part of it is refused.
fn decode(bytes: &[u8], salt: u64, offset: u32, streams: usize) -> Option<Vec<BlockRef>> {
    let mut blocks = Vec::new();
    for number in 0..streams {
        let at = number * DIRECTORY_ENTRY_BYTES;
        let entry = DirectoryEntry::decode(bytes.get(at..)?, salt, u64::from(offset) + at as u64, FILE)?;
        let start = entry.offset.checked_sub(offset)? as usize;
        let part = bytes.get(start..start.checked_add(entry.length as usize)?)?;
        blocks.extend(entry.decode_part(part, salt)?.0);
    }
    Some(blocks)
}

fn place(meta: &BlockMeta, content: &[u8], offset: u32) -> BlockRef {
    meta.at(FILE, offset, content.len() as u32, crc::content(content))
}

fn from_place<'b>(from: &mut Unstructured<'_>, bytes: &'b mut [u8]) -> Result<&'b mut u8> {
    let at = from.int_in_range(0..=bytes.len() - 1)?;
    Ok(&mut bytes[at])
}
