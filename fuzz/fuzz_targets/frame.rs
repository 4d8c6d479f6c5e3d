//! Segment headers, footers and frame heads: written and read back the same, and refused with any bit changed, in
//! another file or at another place. Bytes made up by the fuzzer pass as heads only if they mean what they say.
#![no_main]

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use synapse::clock::Now;
use synapse::format::block::{AppendTime, BlockMeta};
use synapse::format::frame::{self, FRAME_HEAD_BYTES, FrameHead, KIND_ENTRIES, RecordHead};
use synapse::format::segment::{FORMAT_VERSION, SegmentFooter, SegmentHeader, SegmentKind, StoreId};
use synapse::types::{EntryId, LogPosition, StreamNumber};

fuzz_target!(|data: &[u8]| {
    made_up(data);
    let _ = built(&mut Unstructured::new(data));
});

/// Any bytes, sealed as a head: what is accepted says the same when it is written again.
fn made_up(data: &[u8]) {
    let (salt, position) = (7, LogPosition(64));
    let mut bytes = data.to_vec();
    let sizes = frame::peek(&bytes).filter(|sizes| sizes.head <= bytes.len());
    if let Some(sizes) = sizes {
        bytes[16..24].copy_from_slice(&position.0.to_le_bytes());
        frame::reseal(&mut bytes[..sizes.head], salt, position);
    }
    if let Some((head, sizes)) = FrameHead::decode(&bytes, salt, position) {
        assert_eq!(FrameHead::decode(&head.encode(salt), salt, position), Some((head, sizes)));
    }
}

fn built(from: &mut Unstructured<'_>) -> Result<()> {
    let (salt, bit) = (from.arbitrary()?, from.arbitrary::<usize>()?);
    let header = SegmentHeader {
        version: from.int_in_range(0..=FORMAT_VERSION)?,
        kind: *from.choose(&[SegmentKind::Live, SegmentKind::Rewritten])?,
        shard: from.arbitrary()?,
        store: StoreId(from.arbitrary()?),
        first: LogPosition(from.arbitrary()?),
        synced_to: LogPosition(from.arbitrary()?),
        salt,
        created_ms: from.arbitrary()?,
        length: from.arbitrary()?,
    };
    let bytes = header.encode();
    assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
    assert!(SegmentHeader::decode(&flipped(&bytes, bit)).is_err());

    let footer = SegmentFooter {
        version: from.int_in_range(0..=FORMAT_VERSION)?,
        end: LogPosition(from.arbitrary()?),
        last: now(from)?,
        index_offset: from.arbitrary()?,
        index_length: from.arbitrary()?,
        streams: from.arbitrary()?,
        blocks: from.arbitrary()?,
    };
    let bytes = footer.encode(salt);
    assert_eq!(SegmentFooter::decode(&bytes, salt), Some(footer));
    assert_eq!(SegmentFooter::decode(&bytes, salt ^ 1), None);
    assert_eq!(SegmentFooter::decode(&flipped(&bytes, bit), salt), None);

    let head = FrameHead {
        position: LogPosition(from.arbitrary()?),
        now: now(from)?,
        synced_to: LogPosition(from.arbitrary()?),
        clean_stop: from.arbitrary()?,
        records: (0..from.int_in_range(0..=8)?).map(|_| record(from)).collect::<Result<_>>()?,
    };
    let sizes = frame::sizes(&head.records);
    let bytes = head.encode(salt);
    assert_eq!(FrameHead::decode(&bytes, salt, head.position), Some((head.clone(), sizes)));
    assert_eq!(FrameHead::decode(&bytes, salt ^ 1, head.position), None);
    assert_eq!(FrameHead::decode(&bytes, salt, LogPosition(head.position.0 ^ 8)), None);
    assert_eq!(FrameHead::decode(&flipped(&bytes, bit), salt, head.position), None);
    assert_eq!(FrameHead::decode(&bytes[..FRAME_HEAD_BYTES - 1], salt, head.position), None);
    Ok(())
}

fn record(from: &mut Unstructured<'_>) -> Result<RecordHead> {
    let block = if from.arbitrary()? { Some(block(from)?) } else { None };
    let kind = if block.is_some() { KIND_ENTRIES } else { from.int_in_range(KIND_ENTRIES + 1..=u8::MAX)? };
    // Eight of them stay below the greatest frame.
    let length = from.int_in_range(0..=1 << 19)?;
    Ok(RecordHead { kind, version: from.arbitrary()?, length, crc: from.arbitrary()?, block })
}

fn block(from: &mut Unstructured<'_>) -> Result<BlockMeta> {
    let (a, b) = (EntryId::new(from.arbitrary()?, from.arbitrary()?), EntryId::new(from.arbitrary()?, 1));
    Ok(BlockMeta {
        stream: StreamNumber(from.arbitrary()?),
        first: a.min(b),
        last: a.max(b),
        first_ordinal: from.int_in_range(0..=u64::MAX / 2)?,
        time: time(from)?,
        count: from.int_in_range(1..=u32::MAX)?,
        bytes: from.arbitrary()?,
        types: from.arbitrary()?,
        any_type: from.arbitrary()?,
        several_times: from.arbitrary()?,
    })
}

/// A time that a clock may tell.
fn time(from: &mut Unstructured<'_>) -> Result<AppendTime> {
    let wall_ms = from.int_in_range(0..=(1 << 47) - 1)?;
    let engine_ms = if from.arbitrary()? { Some(from.int_in_range(0..=(1 << 47) - 1)?) } else { None };
    Ok(AppendTime { wall_ms, engine_ms })
}

fn now(from: &mut Unstructured<'_>) -> Result<Now> {
    Ok(Now { wall_ms: from.arbitrary()?, engine_ms: from.arbitrary()? })
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let bit = bit % (bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}
