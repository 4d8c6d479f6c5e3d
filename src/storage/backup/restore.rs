//! A whole backup: which moments it covers, and a new data directory of it as of one of them.
//!
//! Everything is read and checked before anything is written. The log's files come first, complete and synced; `STORE`,
//! without which no directory is a store, last. The new store has an id of its own, so that no file of the one is ever
//! taken for a file of the other.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::files::{Files, LogFile, RealFiles, failed, make_folder};
use super::super::scan::read_header;
use super::super::snapshot::Snapshots;
use super::super::store::{LOG_FOLDER, write_store};
use super::folder::hex;
use super::manifest::{MANIFEST, Manifest, Member};
use super::members::{Members, check};
use super::survey::Survey;
use super::{Covered, Moment};
use crate::error::{Error, Reason, Result};
use crate::format::block::FileId;
use crate::format::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, StoreId};
use crate::types::LogPosition;

/// Marks a directory that is being made; gone before it is a store.
const UNFINISHED: &str = "RESTORE.unfinished";
/// Bytes copied at a time.
const COPY_BYTES: usize = 1 << 20;

/// A whole backup.
#[derive(Debug)]
pub struct Backup {
    path: PathBuf,
    manifest: Manifest,
    store: StoreId,
}

/// Up to which moment a backup is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// To its end.
    End,
    /// What the commits before this position made; one in which it lies is left out.
    Position(LogPosition),
    /// What was committed up to this wall time, in milliseconds since the Unix epoch.
    Time(u64),
}

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The moment.
    pub moment: Moment,
    /// Id of the new store.
    pub store: StoreId,
}

impl Backup {
    /// Reads the manifest of a backup; `DATA_DIRECTORY` where there is none, so that it is none or not whole.
    pub fn open(path: &Path) -> Result<Self> {
        let refuse = |why: String| Error::new(Reason::DataDirectory, format!("{} {why}", path.display()));
        let manifest = Manifest::read(path)?;
        let manifest =
            manifest.ok_or_else(|| refuse(format!("has no {MANIFEST}: it is no backup, or not a whole one")))?;
        let store = unhex(&manifest.store).ok_or_else(|| refuse("names no store".into()))?;
        Ok(Self { path: path.to_owned(), manifest, store })
    }

    /// The moments that it covers.
    pub fn covered(&self) -> Covered {
        self.manifest.covered()
    }

    /// The store that it is a copy of, as 32 hexadecimal digits.
    pub fn store(&self) -> &str {
        &self.manifest.store
    }

    /// How many files it has.
    pub fn files(&self) -> u64 {
        self.manifest.files.len() as u64
    }

    /// Their bytes.
    pub fn bytes(&self) -> u64 {
        self.manifest.files.iter().map(|member| member.length).sum()
    }

    /// Makes a data directory at `target`, which must be missing or empty, of what the store was at this moment. `store`
    /// is its id, `now_ms` the wall time at which it is made. Tells how many of twice [`Backup::bytes`] are behind it.
    ///
    /// A backup that is damaged is `CORRUPT`, with the name of the file; a moment that is not covered is
    /// `INVALID_ARGUMENT`. Nothing is made then.
    pub fn restore(
        &self,
        target: &Path,
        until: Until,
        store: StoreId,
        now_ms: u64,
        on: &mut dyn FnMut(u64),
    ) -> Result<Restored> {
        refuse_occupied(target)?;
        self.check_covered(until)?;
        let mut done = 0;
        for member in &self.manifest.files {
            check(&self.path, member, &mut |bytes| {
                done += bytes.len() as u64;
                on(done);
                Ok(())
            })?;
        }
        let members = Members::new(&self.path, &self.manifest.files);
        let (survey, moment) = self.resolve(&members, until)?;
        let writing = |error: io::Error| failed("making", &target.display().to_string(), &error);
        make_folder(target).map_err(writing)?;
        let mark = target.join(UNFINISHED);
        File::create(&mark).and_then(|file| file.sync_all()).map_err(writing)?;
        let files: Arc<dyn Files> = Arc::new(RealFiles::open(&target.join(LOG_FOLDER)).map_err(writing)?);
        let last = survey.place(moment.position);
        for member in &self.manifest.files {
            copy(&members, &*files, member, last, store, moment.position)?;
            done += member.length;
            on(done);
        }
        if let Some(snapshot) = survey.snapshot {
            let snapshot = super::super::index::Checkpoint { store, ..snapshot };
            Snapshots::new(Arc::clone(&files), store).write(&snapshot)?;
        }
        files.sync_dir().map_err(writing)?;
        fs::remove_file(&mark).map_err(writing)?;
        write_store(target, store, now_ms, last.is_some()).map_err(writing)?;
        if let Some(parent) = target.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(writing)?;
        }
        Ok(Restored { moment, store })
    }

    /// Refuses moments that are out of the range, before anything is read.
    fn check_covered(&self, until: Until) -> Result<()> {
        let Covered { oldest, end } = self.covered();
        let inside = match until {
            Until::End => true,
            Until::Position(position) => (oldest.position..=end.position).contains(&position),
            Until::Time(wall_ms) => (oldest.wall_ms..=end.wall_ms).contains(&wall_ms),
        };
        if inside {
            return Ok(());
        }
        let range = format!(
            "positions {} to {}, times {} to {} (milliseconds since the Unix epoch)",
            oldest.position, end.position, oldest.wall_ms, end.wall_ms
        );
        let error = Error::invalid("until", format!("is out of the range that the backup covers: {range}"));
        Err(error.with("oldest_position", oldest.position).with("end_position", end.position))
    }

    /// The survey of the files, and the last moment between two commits that is not beyond the one asked for.
    fn resolve<'a>(&self, members: &'a Members, until: Until) -> Result<(Survey<'a>, Moment)> {
        let Covered { oldest, end } = self.covered();
        let mut found = oldest;
        let mut passed = false;
        let survey = Survey::run(members, self.store, end.position, &mut |commit| {
            passed |= commit.end > oldest.position
                && match until {
                    Until::End => false,
                    Until::Position(position) => commit.end > position,
                    Until::Time(wall_ms) => commit.wall_ms > wall_ms,
                };
            if !passed && commit.end > oldest.position {
                found = Moment { position: commit.end, wall_ms: commit.wall_ms };
            }
        })?;
        if survey.covered(end.wall_ms) != self.covered() {
            let why = format!("{} covers other moments than its files do", self.path.join(MANIFEST).display());
            return Err(Error::new(Reason::Corrupt, why));
        }
        Ok((survey, found))
    }
}

/// Copies a file of the log that there was at this position, as one of another store. The last segment, as it was then,
/// ends there.
fn copy(
    members: &Members,
    to: &dyn Files,
    member: &Member,
    last: Option<(FileId, u64)>,
    store: StoreId,
    end: LogPosition,
) -> Result<()> {
    // Snapshots are written anew.
    let Some(id) = FileId::parse(&member.name) else { return Ok(()) };
    let is_last = last.is_some_and(|(last, _)| last == id);
    if !id.is_rewritten() && !is_last && id.0 >= end.0 {
        return Ok(());
    }
    let reading = |error: io::Error| failed("reading", &member.file, &error);
    let writing = |error: io::Error| failed("writing", &id.name(), &error);
    let from = members.open(&member.name).map_err(reading)?;
    let mut header = SegmentHeader { store, ..read_header(&*from, id)? };
    let mut length = header.length;
    if let Some((_, part)) = last.filter(|_| is_last) {
        (header.synced_to, length) = (end, part);
    }
    let file = to.create(&id.name(), header.length).map_err(writing)?;
    file.write_at(&[&header.encode()], 0).map_err(writing)?;
    copy_bytes(&*from, &*file, SEGMENT_HEADER_BYTES as u64, length).map_err(writing)?;
    file.sync().map_err(writing)
}

fn copy_bytes(from: &dyn LogFile, to: &dyn LogFile, mut at: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    while at < end {
        let step = buffer.len().min((end - at) as usize);
        let read = from.read_at(&mut buffer[..step], at)?;
        if read == 0 {
            return Err(io::Error::from(ErrorKind::UnexpectedEof));
        }
        to.write_at(&[&buffer[..read]], at)?;
        at += read as u64;
    }
    Ok(())
}

fn refuse_occupied(target: &Path) -> Result<()> {
    let occupied = |why: String| Err(Error::new(Reason::DataDirectory, format!("{} {why}", target.display())));
    let entries = match fs::read_dir(target) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("opening", &target.display().to_string(), &error)),
    };
    if target.join(UNFINISHED).exists() {
        return occupied("holds a restore that did not end: remove it first".into());
    }
    for entry in entries {
        let name = entry.map_err(|error| failed("listing", &target.display().to_string(), &error))?.file_name();
        if name != "lost+found" {
            return occupied(format!("is not empty: it has {} in it", name.display()));
        }
    }
    Ok(())
}

fn unhex(text: &str) -> Option<StoreId> {
    let bytes: Vec<u8> =
        (0..text.len()).step_by(2).filter_map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect();
    let store = StoreId(bytes.try_into().ok()?);
    (hex(store) == text).then_some(store)
}
