//! The data directory: who holds it, whose it is, which version wrote it.
//!
//! `LOCK` and the directory itself are held while the store is open; `STORE` names it. A directory that is in use, not
//! ours or from a newer version is refused with `DATA_DIRECTORY`, and nothing in it is changed. A name can be removed
//! while it is held: so whoever has the store open looks now and then whether it still has what it holds.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{Files, RealFiles, failed, make_folder, parent_of, sync_folder};
use super::options::LogOptions;
use super::scan::newer;
use super::sled_index::SledIndex;
use crate::error::{Error, Reason, Result};
use crate::format::crc;
use crate::format::cursor::Cursor;
use crate::format::segment::{FORMAT_VERSION, StoreId};

const LOCK: &str = "LOCK";
const STORE: &str = "STORE";
const STORE_TEMPORARY: &str = "STORE.tmp";
pub(super) const LOG_FOLDER: &str = "log";
const INDEX_FOLDER: &str = "index";
/// What a directory may hold before it is ours: our own beginnings, and what file systems put there.
const HARMLESS: [&str; 4] = [LOCK, STORE_TEMPORARY, "lost+found", ".gitkeep"];

const MAGIC: [u8; 8] = *b"SYNAPSE\x03";
const STORE_BYTES: usize = 48;
const LOG_BEGUN: u16 = 1;

/// An open data directory; it is released when this is dropped.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    record: StoreRecord,
    lock: Lock,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StoreRecord {
    version: u16,
    id: StoreId,
    created_ms: u64,
    log_begun: bool,
}

impl Store {
    /// Opens the data directory at this path, making it where there is none. `random` names a new store.
    pub fn open(path: &Path, now_ms: u64, random: &mut dyn FnMut() -> u64) -> Result<Self> {
        let in_path = |error: io::Error| failed("opening", &path.display().to_string(), &error);
        make_folder(path).map_err(in_path)?;
        let known = match fs::read(path.join(STORE)) {
            Ok(bytes) => Some(StoreRecord::decode(&bytes)?),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                refuse_foreign(path)?;
                None
            }
            Err(error) => return Err(in_path(error)),
        };
        let lock = lock(path)?;
        let record = match known {
            Some(record) => record,
            None => {
                // Whoever made it may have got no further.
                sync_folder(parent_of(path)).map_err(in_path)?;
                let (low, high) = (random(), random());
                let mut id = [0; 16];
                id[..8].copy_from_slice(&low.to_le_bytes());
                id[8..].copy_from_slice(&high.to_le_bytes());
                let version = FORMAT_VERSION;
                let record = StoreRecord { version, id: StoreId(id), created_ms: now_ms, log_begun: false };
                write_record(path, &record).map_err(in_path)?;
                record
            }
        };
        Ok(Self { path: path.to_owned(), record, lock })
    }

    /// Opens the data directory at this path, which must be one already.
    pub fn open_existing(path: &Path) -> Result<Self> {
        match fs::metadata(path.join(STORE)) {
            // It has a name, so none is given and no time is noted.
            Ok(_) => Self::open(path, 0, &mut || 0),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(no_store(path)),
            Err(error) => Err(failed("reading", &path.join(STORE).display().to_string(), &error)),
        }
    }

    /// Its identity.
    pub fn id(&self) -> StoreId {
        self.record.id
    }
    /// Wall time at which it was made, in milliseconds since the Unix epoch.
    pub fn created_ms(&self) -> u64 {
        self.record.created_ms
    }
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tells, as long as the store is open, whether it is still what has this path.
    pub fn watch(&self) -> Result<StoreWatch> {
        let known = |file: &File| file.metadata().map(|found| inode(&found));
        let inodes = known(&self.lock.file).and_then(|lock| Ok((lock, known(&self.lock.folder)?)));
        let (lock, folder) = inodes.map_err(|error| failed("reading", LOCK, &error))?;
        Ok(StoreWatch { path: self.path.clone(), lock, folder })
    }

    /// The folder of the log.
    pub fn log_files(&self) -> Result<Arc<dyn Files>> {
        let folder = self.path.join(LOG_FOLDER);
        let files = RealFiles::open(&folder);
        Ok(Arc::new(files.map_err(|error| failed("opening", &folder.display().to_string(), &error))?))
    }

    /// The index of the log.
    pub fn index(&self) -> SledIndex {
        SledIndex::new(&self.path.join(INDEX_FOLDER))
    }

    /// The log's settings for this store: the defaults, and whether it must have files.
    pub fn log_options(&self) -> LogOptions {
        LogOptions { must_exist: self.record.log_begun, ..LogOptions::new(self.record.id) }
    }

    /// Notes that the log was opened, so that a log without files is known to have lost them, and that what is written
    /// from here on is of this program's version, so that older ones refuse the store.
    pub fn mark_opened(&mut self) -> Result<()> {
        if !self.record.log_begun || self.record.version < FORMAT_VERSION {
            let record = StoreRecord { log_begun: true, version: FORMAT_VERSION, ..self.record };
            write_record(&self.path, &record).map_err(|error| failed("writing", STORE, &error))?;
            self.record = record;
        }
        Ok(())
    }
}

fn refuse_foreign(path: &Path) -> Result<()> {
    let entries = fs::read_dir(path).map_err(|error| failed("opening", &path.display().to_string(), &error))?;
    for entry in entries {
        let name = entry.map_err(|error| failed("listing", &path.display().to_string(), &error))?.file_name();
        if !HARMLESS.iter().any(|harmless| name == *harmless) {
            let (path, name) = (path.display(), name.display());
            let why = format!("{path} has {name} in it but no STORE: it is not a data directory of Synapse");
            return Err(Error::new(Reason::DataDirectory, why));
        }
    }
    Ok(())
}

/// A data directory that is held without changing anything in it.
pub(super) struct Held {
    /// Its identity; `None` where `STORE` is damaged.
    pub(super) id: Option<StoreId>,
    /// Whether it must have a log.
    pub(super) log_begun: bool,
    /// The folder of the log, to be read only, where there is one.
    pub(super) files: Option<Arc<dyn Files>>,
    /// The directory, and its `LOCK`: nobody can hold one that is not there.
    pub(super) lock: (File, Option<File>),
}

/// A data directory of a known store, held without changing anything in it.
pub(crate) struct HeldStore {
    held: Held,
    id: StoreId,
}

impl HeldStore {
    /// Holds the data directory at this path; `DATA_DIRECTORY` where it is in use, none, or its `STORE` is damaged.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let held = hold(path)?;
        let damaged = || Error::new(Reason::DataDirectory, "STORE is damaged or not a file of Synapse");
        let id = held.id.ok_or_else(damaged)?;
        Ok(Self { held, id })
    }
    /// The folder of the log, to be read only, where there is one.
    pub(crate) fn files(&self) -> Option<Arc<dyn Files>> {
        self.held.files.clone()
    }
    /// Its identity.
    pub(crate) fn store(&self) -> StoreId {
        self.id
    }
    /// The log's settings: the defaults, and whether it must have files.
    pub(crate) fn log_options(&self) -> LogOptions {
        LogOptions { must_exist: self.held.log_begun, ..LogOptions::new(self.id) }
    }
}

/// Holds the data directory at this path, which must be there, without changing anything in it.
pub(super) fn hold(path: &Path) -> Result<Held> {
    let bytes = match fs::read(path.join(STORE)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(no_store(path));
        }
        Err(error) => return Err(failed("reading", STORE, &error)),
    };
    let folder = lock_folder(path)?;
    let file = match File::open(path.join(LOCK)) {
        Ok(file) => Some(take_lock(file, path)?),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(failed("opening", LOCK, &error)),
    };
    let record = match StoreRecord::parse(&bytes) {
        Some((version, _)) if version > FORMAT_VERSION => return Err(newer(STORE, version)),
        parsed => parsed.and_then(|(_, record)| record),
    };
    let files: Option<Arc<dyn Files>> = match RealFiles::read_only(&path.join(LOG_FOLDER)) {
        Ok(files) => Some(Arc::new(files)),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(failed("opening", LOG_FOLDER, &error)),
    };
    let log_begun = record.is_some_and(|record| record.log_begun);
    Ok(Held { id: record.map(|record| record.id), log_begun, files, lock: (folder, file) })
}

fn no_store(path: &Path) -> Error {
    let why = format!("{} has no STORE: it is not a data directory of Synapse", path.display());
    Error::new(Reason::DataDirectory, why)
}

/// Makes the directory at this path a store of this id, whose log is there already or not; this comes last.
pub(super) fn write_store(path: &Path, id: StoreId, created_ms: u64, log_begun: bool) -> io::Result<()> {
    write_record(path, &StoreRecord { version: FORMAT_VERSION, id, created_ms, log_begun })
}

/// What keeps others out of a directory; released when dropped.
#[derive(Debug)]
pub(super) struct Lock {
    /// Its file `LOCK`, which an earlier version looks at alone.
    file: File,
    /// The directory itself: nobody can take the name of its lock away from it.
    folder: File,
}

/// Tells whether a store is still what has its path.
#[derive(Debug)]
pub struct StoreWatch {
    path: PathBuf,
    lock: Inode,
    folder: Inode,
}

/// Device and number of a file.
type Inode = (u64, u64);

fn inode(found: &fs::Metadata) -> Inode {
    (found.dev(), found.ino())
}

impl StoreWatch {
    /// `DATA_DIRECTORY` where the directory or its `LOCK` was removed or replaced: others may have it.
    pub fn check(&self) -> Result<()> {
        for (path, known) in [(self.path.clone(), self.folder), (self.path.join(LOCK), self.lock)] {
            let what = match fs::metadata(&path) {
                Ok(found) if inode(&found) != known => "replaced",
                Err(error) if error.kind() == ErrorKind::NotFound => "removed",
                // What cannot be looked at is no proof of anything.
                _ => continue,
            };
            let why = format!("{} was {what} while it was in use: another process may have taken it", path.display());
            return Err(Error::new(Reason::DataDirectory, why));
        }
        Ok(())
    }
}

/// Takes a directory for this process alone.
pub(super) fn lock(path: &Path) -> Result<Lock> {
    let folder = lock_folder(path)?;
    let file = File::options().write(true).create(true).truncate(false).open(path.join(LOCK));
    let file = file.map_err(|error| failed("opening", &path.join(LOCK).display().to_string(), &error))?;
    Ok(Lock { file: take_lock(file, path)?, folder })
}

/// Locks the directory itself, where its file system can do that.
fn lock_folder(path: &Path) -> Result<File> {
    let folder = File::open(path).map_err(|error| failed("opening", &path.display().to_string(), &error))?;
    match folder.try_lock() {
        Ok(()) => Ok(folder),
        Err(TryLockError::WouldBlock) => Err(in_use(path)),
        Err(TryLockError::Error(error)) => {
            tracing::warn!(%error, "the directory itself cannot be locked: its file LOCK alone keeps others out");
            Ok(folder)
        }
    }
}

fn in_use(path: &Path) -> Error {
    let why = format!("{} is in use by another process, or by this one", path.display());
    Error::new(Reason::DataDirectory, why)
}

/// Takes the lock on a directory by its file.
fn take_lock(file: File, path: &Path) -> Result<File> {
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(in_use(path)),
        Err(TryLockError::Error(error)) => Err(failed("locking", LOCK, &error)),
    }
}

fn write_record(path: &Path, record: &StoreRecord) -> io::Result<()> {
    let mut file = File::create(path.join(STORE_TEMPORARY))?;
    file.write_all(&record.encode())?;
    file.sync_all()?;
    fs::rename(path.join(STORE_TEMPORARY), path.join(STORE))?;
    File::open(path)?.sync_all()
}

impl StoreRecord {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(STORE_BYTES);
        out.extend_from_slice(&MAGIC);
        let shards = 1u16;
        for number in [self.version, if self.log_begun { LOG_BEGUN } else { 0 }, shards, 0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(&self.created_ms.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        let sum = crc::content(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let damaged = || Error::new(Reason::DataDirectory, "STORE is damaged or not a file of Synapse");
        let (version, record) = Self::parse(bytes).ok_or_else(damaged)?;
        if version > FORMAT_VERSION {
            return Err(newer(STORE, version));
        }
        record.ok_or_else(damaged)
    }

    /// The version, and the record where the checksum is right.
    fn parse(bytes: &[u8]) -> Option<(u16, Option<Self>)> {
        let mut cursor = Cursor(bytes);
        if cursor.array()? != MAGIC {
            return None;
        }
        let (version, flags) = (cursor.u16()?, cursor.u16()?);
        cursor.u32()?;
        let (id, created_ms, log_begun) = (StoreId(cursor.array()?), cursor.u64()?, flags & LOG_BEGUN != 0);
        let record = Self { version, id, created_ms, log_begun };
        cursor.u32()?;
        let sound = bytes.len() == STORE_BYTES && cursor.u32()? == crc::content(&bytes[..STORE_BYTES - 4]);
        Some((version, sound.then_some(record)))
    }
}
