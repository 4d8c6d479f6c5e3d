//! Snapshots: the whole state at a position of the log, in a file of its own beside the segments.
//!
//! A snapshot is what lets segments be given up: a start that has no index goes on from it. It has the rows that a
//! checkpoint of the index has, is complete and durable before it gets its name, and takes the place of those before it.
//! `docs/FORMAT.md` has its bytes.

use std::io;
use std::sync::Arc;

use super::files::{Files, LogFile, create_anew, failed};
use super::index::{Checkpoint, ResumeAt};
use crate::error::{Error, Reason, Result};
use crate::format::crc;
use crate::format::cursor::Cursor;
use crate::format::segment::{FORMAT_VERSION, StoreId};
use crate::format::state::{ROW_HEAD_BYTES, put_row, take_rows};
use crate::types::LogPosition;

const MAGIC: [u8; 8] = *b"SYNAPSE\x04";
const HEADER_BYTES: usize = 80;
/// Bytes written at a time.
const WRITE_BYTES: usize = 1 << 20;
/// What a snapshot is called until it is complete.
pub(super) const SNAPSHOT_TEMPORARY: &str = "snapshot.tmp";

/// The snapshots of a log.
pub struct Snapshots {
    files: Arc<dyn Files>,
    store: StoreId,
}

/// What was found of snapshots.
#[derive(Debug, Default)]
pub struct FoundSnapshot {
    /// The newest that is whole.
    pub checkpoint: Option<Checkpoint>,
    /// Names of newer ones that are damaged.
    pub damaged: Vec<String>,
}

impl Snapshots {
    /// Those in this folder, of this store.
    pub fn new(files: Arc<dyn Files>, store: StoreId) -> Self {
        Self { files, store }
    }

    /// The newest that is whole; one of another store or of a newer version is refused.
    pub fn read(&self) -> Result<FoundSnapshot> {
        let mut found = FoundSnapshot::default();
        for name in names(&*self.files)?.into_iter().rev() {
            match read(&*self.files, &name)? {
                Some(checkpoint) if checkpoint.store != self.store => {
                    let why = format!("{name} belongs to another data directory");
                    return Err(Error::new(Reason::DataDirectory, why));
                }
                Some(checkpoint) if snapshot_name(checkpoint.at.position) == name => {
                    found.checkpoint = Some(checkpoint);
                    return Ok(found);
                }
                _ => found.damaged.push(name),
            }
        }
        Ok(found)
    }

    /// Writes one, durably, and removes those before it; answers its length in bytes.
    pub fn write(&self, checkpoint: &Checkpoint) -> Result<u64> {
        write_snapshot(&*self.files, checkpoint)
    }
}

/// The name of the snapshot at a position.
fn snapshot_name(position: LogPosition) -> String {
    format!("snapshot-{:020}", position.0)
}

/// Whether a file of this name is a snapshot.
pub(super) fn is_snapshot_name(name: &str) -> bool {
    let digits = name.strip_prefix("snapshot-");
    digits.is_some_and(|digits| digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// Bytes of the file that holds these rows.
fn snapshot_bytes(checkpoint: &Checkpoint) -> u64 {
    let rows: usize = checkpoint.rows.iter().map(|(_, content)| ROW_HEAD_BYTES + content.len()).sum();
    (HEADER_BYTES + rows + 4) as u64
}

fn write_snapshot(files: &dyn Files, checkpoint: &Checkpoint) -> Result<u64> {
    let length = snapshot_bytes(checkpoint);
    let name = snapshot_name(checkpoint.at.position);
    let older: Vec<String> = names(files)?.into_iter().filter(|other| *other != name).collect();
    let written = create_anew(files, SNAPSHOT_TEMPORARY, length).and_then(|file| {
        let placed = fill(&*file, checkpoint, length).and_then(|()| {
            files.rename(SNAPSHOT_TEMPORARY, &name)?;
            files.sync_dir()
        });
        if placed.is_err() {
            // The error that matters is the first; what stays is taken away by the next one, or at the next start.
            let _ = files.remove(SNAPSHOT_TEMPORARY);
        }
        placed
    });
    written.map_err(|error| failed("writing", &name, &error))?;
    for old in older {
        files.remove(&old).map_err(|error| failed("removing", &old, &error))?;
    }
    Ok(length)
}

fn fill(file: &dyn LogFile, checkpoint: &Checkpoint, length: u64) -> io::Result<()> {
    let mut pending = header(checkpoint, length);
    let (mut written, mut sum) = (0, 0);
    let mut from = HEADER_BYTES;
    for (key, content) in &checkpoint.rows {
        put_row(&mut pending, *key, content);
        if pending.len() >= WRITE_BYTES {
            sum = crc::content_continued(sum, &pending[from..]);
            file.write_at(&[&pending], written)?;
            written += pending.len() as u64;
            (from, pending) = (0, Vec::with_capacity(WRITE_BYTES));
        }
    }
    sum = crc::content_continued(sum, &pending[from..]);
    pending.extend_from_slice(&sum.to_le_bytes());
    file.write_at(&[&pending], written)?;
    file.sync()
}

fn header(checkpoint: &Checkpoint, length: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(WRITE_BYTES);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&checkpoint.version.to_le_bytes());
    out.extend_from_slice(&[0; 6]);
    out.extend_from_slice(&checkpoint.store.0);
    let ResumeAt { position, end, digest } = checkpoint.at;
    for number in [position.0, end.0, checkpoint.rows.len() as u64, length] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&digest.to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    let sum = crc::content(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    debug_assert_eq!(out.len(), HEADER_BYTES);
    out
}

/// The names of the snapshots, oldest first.
fn names(files: &dyn Files) -> Result<Vec<String>> {
    let names = files.list().map_err(|error| failed("listing", "the log folder", &error))?;
    Ok(names.into_iter().filter(|name| is_snapshot_name(name)).collect())
}

/// Reads one; `None` where it is damaged.
pub(super) fn read(files: &dyn Files, name: &str) -> Result<Option<Checkpoint>> {
    let file = files.open(name).map_err(|error| failed("opening", name, &error))?;
    let length = file.length().map_err(|error| failed("reading", name, &error))?;
    let mut bytes = vec![0; length as usize];
    let read = file.read_at(&mut bytes, 0).map_err(|error| failed("reading", name, &error))?;
    bytes.truncate(read);
    match decode(&bytes) {
        Some(Err(version)) => Err(super::scan::newer(name, version)),
        Some(Ok(checkpoint)) => Ok(Some(checkpoint)),
        None => Ok(None),
    }
}

/// The snapshot of these bytes: `None` where they are damaged, a version where it is newer than this program.
fn decode(bytes: &[u8]) -> Option<Result<Checkpoint, u16>> {
    let (head, rest) = bytes.split_at_checked(HEADER_BYTES)?;
    let mut cursor = Cursor(head);
    if cursor.array()? != MAGIC || crc::content(&head[..HEADER_BYTES - 4]).to_le_bytes() != head[HEADER_BYTES - 4..] {
        return None;
    }
    let version = cursor.u16()?;
    if version > FORMAT_VERSION {
        return Some(Err(version));
    }
    cursor.take(6)?;
    let store = StoreId(cursor.array()?);
    let (position, end) = (LogPosition(cursor.u64()?), LogPosition(cursor.u64()?));
    let (count, length, digest) = (cursor.u64()?, cursor.u64()?, cursor.u32()?);
    let (rows, sum) = rest.split_at_checked(rest.len().checked_sub(4)?)?;
    if length != bytes.len() as u64 || crc::content(rows).to_le_bytes() != sum {
        return None;
    }
    let mut found = Vec::new();
    take_rows(rows, &mut found)?;
    let at = ResumeAt { position, end, digest };
    (found.len() as u64 == count).then_some(Ok(Checkpoint { store, at, version, rows: found }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::state::RowKey;
    use crate::storage::sim::SimDisk;

    fn checkpoint(position: u64, rows: u32) -> Checkpoint {
        let at = ResumeAt { position: LogPosition(position), end: LogPosition(position + 64), digest: 7 };
        let rows = (0..rows).map(|part| (RowKey { kind: 1, owner: 2, part }, vec![part as u8; 1000])).collect();
        Checkpoint { store: StoreId([3; 16]), at, version: FORMAT_VERSION, rows }
    }

    fn snapshots(disk: &SimDisk) -> Snapshots {
        Snapshots::new(Arc::new(disk.clone()), StoreId([3; 16]))
    }

    #[test]
    fn the_last_one_is_given_back() {
        let disk = SimDisk::new(1, 1 << 30);
        let snapshots = snapshots(&disk);
        assert!(snapshots.read().unwrap().checkpoint.is_none());
        for (position, rows) in [(100, 0), (200, 5000)] {
            let length = snapshots.write(&checkpoint(position, rows)).unwrap();
            let files = disk.files();
            assert_eq!(files.len(), 1, "the one before is gone");
            assert_eq!(files.values().next().unwrap().len() as u64, length);
            assert_eq!(snapshots.read().unwrap().checkpoint, Some(checkpoint(position, rows)));
        }
        let other = Snapshots::new(Arc::new(disk), StoreId([4; 16]));
        assert_eq!(other.read().unwrap_err().reason(), Reason::DataDirectory);
    }

    #[test]
    fn any_flipped_byte_is_noticed() {
        let disk = SimDisk::new(1, 1 << 30);
        let snapshots = snapshots(&disk);
        snapshots.write(&checkpoint(100, 3)).unwrap();
        let (name, bytes) = disk.files().pop_first().unwrap();
        for offset in 0..bytes.len() {
            disk.corrupt(&name, offset, |bytes| bytes[0] ^= 0x40);
            let found = snapshots.read();
            let noticed = found.is_err() || found.is_ok_and(|f| f.checkpoint.is_none() && f.damaged == [name.clone()]);
            assert!(noticed, "{offset}");
            disk.corrupt(&name, offset, |bytes| bytes[0] ^= 0x40);
        }
    }
}
