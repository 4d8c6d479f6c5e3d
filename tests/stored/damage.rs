//! What may happen to stored bytes: every place of every file, and the ways in which it goes bad.

use std::collections::BTreeMap;
use std::ops::Range;

use synapse::format::block::FileId;
use synapse::format::frame::{FRAME_ALIGN, FrameHead, FrameSizes};
use synapse::format::index::DIRECTORY_ENTRY_BYTES;
use synapse::format::segment::{SEGMENT_FOOTER_BYTES, SEGMENT_HEADER_BYTES, SegmentFooter, SegmentHeader};

/// The files of a log folder.
pub(crate) type Folder = BTreeMap<String, Vec<u8>>;

const BLOCK: usize = 512;

/// Something that happens to one file.
#[derive(Clone, Debug)]
pub(crate) struct Damage {
    pub(crate) file: String,
    pub(crate) how: How,
}

#[derive(Clone, Debug)]
pub(crate) enum How {
    /// One bit of the place changes: the one of this number, counted around.
    Flip(Range<usize>, u64),
    Zero(Range<usize>),
    /// Bytes that follow from this number.
    Garbage(Range<usize>, u64),
    /// The same place of another file.
    From(Range<usize>, String),
    /// The place as it was after this session.
    Older(Range<usize>, usize),
    /// The file ends where the place begins.
    Truncated(usize),
    Missing,
    /// Two files have each other's names.
    Swapped(String),
    /// The whole file as it was after this session.
    OlderFile(usize),
}

impl Damage {
    /// The folder with the damage; `None` where that changes nothing.
    pub(crate) fn apply(&self, folder: &Folder, sessions: &[Folder]) -> Option<Folder> {
        let mut damaged = folder.clone();
        let other = |name: &String| folder.get(name).map(Vec::as_slice);
        let older = |session: usize| sessions[session].get(&self.file).map(Vec::as_slice);
        let bytes = damaged.get_mut(&self.file).expect("damage is to a file that is there");
        match &self.how {
            How::Flip(range, bit) => {
                let bit = *bit as usize % (range.len() * 8);
                bytes[range.start + bit / 8] ^= 1 << (bit % 8);
            }
            How::Zero(range) => bytes[range.clone()].fill(0),
            How::Garbage(range, seed) => {
                let mut random = *seed;
                bytes[range.clone()].fill_with(|| next(&mut random) as u8);
            }
            How::From(range, name) => bytes[range.clone()].copy_from_slice(other(name)?.get(range.clone())?),
            How::Older(range, session) => bytes[range.clone()].copy_from_slice(older(*session)?.get(range.clone())?),
            How::Truncated(length) => bytes.truncate(*length),
            How::OlderFile(session) => *bytes = older(*session)?.to_vec(),
            How::Missing => drop(damaged.remove(&self.file)),
            How::Swapped(name) => {
                let theirs = other(name)?.to_vec();
                let ours = std::mem::replace(bytes, theirs);
                damaged.insert(name.clone(), ours);
            }
        }
        (damaged != *folder).then_some(damaged)
    }

    /// All damage there is to this folder, the places picked from `random` apart always in the same order.
    pub(crate) fn all(folder: &Folder, sessions: &[Folder], random: &mut u64) -> Vec<Self> {
        let mut all = Vec::new();
        let names: Vec<&String> = folder.keys().collect();
        for (n, name) in names.iter().enumerate() {
            let other = names[(n + 1) % names.len()].clone();
            let mut add = |how| all.push(Self { file: (*name).clone(), how });
            add(How::Missing);
            names[n + 1..].iter().for_each(|other| add(How::Swapped((*other).clone())));
            (0..sessions.len()).for_each(|session| add(How::OlderFile(session)));
            for range in places(name, &folder[*name]) {
                add(How::Flip(range.clone(), next(random)));
                add(How::Zero(range.clone()));
                add(How::Garbage(range.clone(), next(random)));
                add(How::From(range.clone(), other.clone()));
                (0..sessions.len()).for_each(|session| add(How::Older(range.clone(), session)));
                add(How::Truncated(range.start));
            }
        }
        all
    }
}

/// Every block of the file, and every structure in it.
fn places(name: &str, bytes: &[u8]) -> Vec<Range<usize>> {
    let mut places: Vec<_> = (0..bytes.len()).step_by(BLOCK).map(|at| at..(at + BLOCK).min(bytes.len())).collect();
    let Some(map) = Segment::read(name, bytes) else { return places };
    places.push(0..SEGMENT_HEADER_BYTES);
    for frame in &map.frames {
        places.push(frame.offset..frame.offset + frame.sizes.head);
        let mut at = frame.offset + frame.sizes.head;
        for record in &frame.head.records {
            places.push(at..at + record.length as usize);
            at += record.length as usize;
        }
    }
    if let Some(footer) = map.footer {
        let (start, length) = (footer.index_offset as usize, footer.index_length as usize);
        let parts = start + footer.streams as usize * DIRECTORY_ENTRY_BYTES;
        places.extend((start..parts).step_by(DIRECTORY_ENTRY_BYTES).map(|at| at..at + DIRECTORY_ENTRY_BYTES));
        places.push(parts..start + length);
        places.push(bytes.len() - SEGMENT_FOOTER_BYTES..bytes.len());
    }
    places.retain(|range| !range.is_empty());
    places
}

/// What stands where in a segment.
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    pub(crate) frames: Vec<Frame>,
    pub(crate) footer: Option<SegmentFooter>,
}

pub(crate) struct Frame {
    pub(crate) offset: usize,
    pub(crate) head: FrameHead,
    pub(crate) sizes: FrameSizes,
}

impl Segment {
    /// Maps a sound segment; `None` for any other file.
    pub(crate) fn read(name: &str, bytes: &[u8]) -> Option<Self> {
        FileId::parse(name)?;
        let header = SegmentHeader::decode(bytes).ok()?;
        let mut frames = Vec::new();
        let mut offset = SEGMENT_HEADER_BYTES;
        while let Some((head, sizes)) = head_at(&header, bytes, offset) {
            frames.push(Frame { offset, head, sizes });
            offset += sizes.total;
        }
        let footer = SegmentFooter::decode(&bytes[bytes.len() - SEGMENT_FOOTER_BYTES..], header.salt);
        Some(Self { header, frames, footer })
    }

    /// How far the log is known to have been synced by what is legible of these bytes, wherever it stands.
    pub(crate) fn synced_to(&self, bytes: &[u8]) -> u64 {
        let heads = (SEGMENT_HEADER_BYTES..bytes.len()).step_by(FRAME_ALIGN);
        let told = heads.filter_map(|offset| Some(head_at(&self.header, bytes, offset)?.0.synced_to));
        told.max().unwrap_or_default().max(self.header.synced_to).0
    }
}

fn head_at(header: &SegmentHeader, bytes: &[u8], offset: usize) -> Option<(FrameHead, FrameSizes)> {
    let found = FrameHead::decode(bytes.get(offset..)?, header.salt, header.position_at(offset as u64))?;
    (offset + found.1.total <= bytes.len()).then_some(found)
}

/// Numbers that a seed decides.
pub(crate) fn next(random: &mut u64) -> u64 {
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *random;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
