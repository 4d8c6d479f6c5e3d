//! The index in sled: one tree of pages of rows, and a value that says what they are of. The only file that names sled.
//!
//! sled 0.34 does not sync what it writes by itself, may panic over damaged files, and gives no room back; so a
//! checkpoint is written as one batch, flushed, and synced here; its pages carry checksums and a digest over all; and
//! whatever cannot be read is renamed out of the way. It takes microseconds and a kilobyte a key, too: so small rows
//! share a page with their neighbours.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::files::is_full;
use super::index::{Checkpoint, ResumeAt, StateIndex};
use crate::error::{Error, Reason, Result};
use crate::format::crc;
use crate::format::cursor::Cursor;
use crate::format::segment::{FORMAT_VERSION, StoreId};
use crate::format::state::{ROW_HEAD_BYTES, ROW_KEY_BYTES, RowKey, put_row, take_rows};
use crate::types::LogPosition;

const TREE: &str = "state-1";
/// Neighbouring owners of so many numbers have their rows of a kind in one page,
const PAGE_OWNERS: u64 = 128;
/// but a row whose content is longer than this has a page to itself.
const SMALL_ROW_BYTES: usize = 1024;
/// The key of the value about the pages; shorter than theirs, so none of them has it.
const ABOUT: &[u8] = b"about";
const ABOUT_BYTES: usize = 58;
/// Its length in version 1 of the format, without the version.
const ABOUT_BYTES_1: usize = 56;
/// sled's own cache: checkpoints are written and read once.
const SLED_CACHE_BYTES: u64 = 8 << 20;
/// The file that sled locks.
const SLED_FILE: &str = "db";
/// How long an earlier database is waited for: so often, so long.
const LET_GO_TRIES: u32 = 1000;
const LET_GO_WAIT: Duration = Duration::from_millis(5);
/// What a folder that could not be read is renamed to; an older one of that name goes.
const ASIDE: &str = "aside";

/// The index in a folder of the data directory.
pub struct SledIndex {
    path: PathBuf,
    open: Option<Open>,
}

struct Open {
    database: sled::Db,
    tree: sled::Tree,
    /// Hashes of the stored pages by key: only what changed is written.
    known: BTreeMap<RowKey, u64>,
}

impl SledIndex {
    /// The index in this folder, which is made where it is missing.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), open: None }
    }

    fn open(&mut self) -> Result<&mut Open> {
        if self.open.is_none() {
            wait_until_let_go(&self.path)?;
            let config = sled::Config::new().path(&self.path).cache_capacity(SLED_CACHE_BYTES).flush_every_ms(None);
            let database = config.open().map_err(|error| refused("opening", &error))?;
            let tree = database.open_tree(TREE).map_err(|error| refused("opening", &error))?;
            self.open = Some(Open { database, tree, known: BTreeMap::new() });
        }
        self.open.as_mut().ok_or_else(|| Error::internal("the index was just opened"))
    }

    /// The database, with what it holds known. What cannot be read, after an earlier failure, is put aside.
    fn ready(&mut self) -> Result<&mut Open> {
        if self.open.is_none() && self.read().is_err() {
            self.put_aside()?;
        }
        self.open()
    }

    fn read(&mut self) -> Result<Option<Checkpoint>> {
        if !self.path.exists() {
            return Ok(None);
        }
        let open = self.open()?;
        let about = open.tree.get(ABOUT).map_err(|error| failed("reading", &error))?;
        let Some(about) = about else { return Ok(None) };
        let about = About::decode(&about).ok_or_else(|| damaged("the value about the pages"))?;
        let mut rows = Vec::with_capacity(about.rows as usize);
        let mut digest = 0;
        for found in open.tree.iter() {
            let (key, value) = found.map_err(|error| failed("reading", &error))?;
            if &*key == ABOUT {
                continue;
            }
            let (key, hash) = read_page(&key, &value, &mut rows).ok_or_else(|| damaged("a page"))?;
            digest ^= hash;
            open.known.insert(key, hash);
        }
        if (rows.len() as u64, digest) != (about.rows, about.digest) {
            return Err(damaged("the set of pages"));
        }
        Ok(Some(Checkpoint { store: about.store, at: about.at, version: about.version, rows }))
    }
}

impl StateIndex for SledIndex {
    fn load(&mut self) -> Result<Option<Checkpoint>> {
        let read = catch_unwind(AssertUnwindSafe(|| self.read()));
        match read.unwrap_or_else(|_| Err(damaged("its files"))) {
            Ok(found) => Ok(found),
            // It may be whole, and only lack room to be opened.
            Err(error) if error.reason() == Reason::StorageFull => {
                self.open = None;
                Err(error)
            }
            Err(error) => {
                tracing::warn!(%error, "the index cannot be used; it is put aside and made anew from the log");
                self.put_aside()?;
                Ok(None)
            }
        }
    }

    fn save(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let saved = catch_unwind(AssertUnwindSafe(|| self.ready()?.write(checkpoint)));
        if let Err(error) = saved.unwrap_or_else(|_| Err(damaged("its files"))) {
            // sled takes no more writes after one that failed, as on a full disk: the next try opens it anew.
            self.open = None;
            return Err(error);
        }
        sync_files(&self.path).map_err(|error| {
            // What is on the disk is not known any more, whatever can still be read: the next try begins from nothing.
            let _ = self.put_aside();
            failed("syncing", &error)
        })
    }

    fn put_aside(&mut self) -> Result<()> {
        self.open = None;
        let aside = self.path.with_extension(ASIDE);
        let moved = remove(&aside).and_then(|()| match fs::rename(&self.path, &aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            // A folder that is a file system of its own has no other name.
            Err(error) if matches!(error.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::CrossesDevices) => {
                empty(&self.path)
            }
            other => other,
        });
        moved.map_err(|error| failed("putting aside", &error))
    }
}

impl Open {
    fn write(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let mut batch = sled::Batch::default();
        let (mut known, mut digest) = (BTreeMap::new(), 0);
        for rows in checkpoint.rows.chunk_by(|(a, x), (b, y)| {
            let page = |key: &RowKey| (key.kind, key.owner / PAGE_OWNERS);
            page(a) == page(b) && x.len().max(y.len()) <= SMALL_ROW_BYTES
        }) {
            let key = rows[0].0;
            let value = encode_page(rows);
            let hash = page_hash(&key.encode(), &value);
            digest ^= hash;
            if self.known.get(&key) != Some(&hash) {
                batch.insert(&key.encode(), value);
            }
            known.insert(key, hash);
        }
        for gone in self.known.keys().filter(|key| !known.contains_key(key)) {
            batch.remove(&gone.encode());
        }
        let rows = checkpoint.rows.len() as u64;
        batch.insert(
            ABOUT,
            About { version: checkpoint.version, store: checkpoint.store, at: checkpoint.at, rows, digest }.encode(),
        );
        self.tree.apply_batch(batch).map_err(|error| refused("writing", &error))?;
        self.database.flush().map_err(|error| refused("flushing", &error))?;
        // Only now: what was not written must be written the next time.
        self.known = known;
        Ok(())
    }
}

/// What the rows are of: the value about the pages.
struct About {
    version: u16,
    store: StoreId,
    at: ResumeAt,
    rows: u64,
    /// The hashes of all pages, joined by exclusive or.
    digest: u64,
}

impl About {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(ABOUT_BYTES);
        out.extend_from_slice(&self.store.0);
        for number in [self.at.position.0, self.at.end.0, self.rows, self.digest] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.at.digest.to_le_bytes());
        out.extend_from_slice(&self.version.to_le_bytes());
        let sum = crc::content(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(bytes);
        let store = StoreId(cursor.array()?);
        let (position, end) = (LogPosition(cursor.u64()?), LogPosition(cursor.u64()?));
        let (rows, digest) = (cursor.u64()?, cursor.u64()?);
        let at = ResumeAt { position, end, digest: cursor.u32()? };
        let version = match bytes.len() {
            ABOUT_BYTES_1 => 1,
            ABOUT_BYTES => cursor.u16()?,
            _ => return None,
        };
        let sound = cursor.u32()? == crc::content(&bytes[..bytes.len() - 4]) && version <= FORMAT_VERSION;
        sound.then_some(Self { version, store, at, rows, digest })
    }
}

/// A page: a checksum of all that follows, and the rows.
fn encode_page(rows: &[(RowKey, Vec<u8>)]) -> Vec<u8> {
    let bytes: usize = rows.iter().map(|(_, content)| ROW_HEAD_BYTES + content.len()).sum();
    let mut out = Vec::with_capacity(4 + bytes);
    out.extend_from_slice(&[0; 4]);
    rows.iter().for_each(|(key, content)| put_row(&mut out, *key, content));
    let sum = crc::content(&out[4..]);
    out[..4].copy_from_slice(&sum.to_le_bytes());
    out
}

/// Reads the rows of a page, which is stored under the key of its first; answers that key and the page's hash.
fn read_page(key: &[u8], value: &[u8], rows: &mut Vec<(RowKey, Vec<u8>)>) -> Option<(RowKey, u64)> {
    let (sum, content) = value.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*sum) != crc::content(content) {
        return None;
    }
    let first = rows.len();
    take_rows(content, rows)?;
    let (stored, key_of_first) = (RowKey::decode(key)?, rows.get(first)?.0);
    (stored == key_of_first).then(|| (stored, page_hash(key, value)))
}

fn page_hash(key: &[u8], value: &[u8]) -> u64 {
    let mut whole = Vec::with_capacity(ROW_KEY_BYTES + value.len());
    whole.extend_from_slice(key);
    whole.extend_from_slice(value);
    xxh3_64(&whole)
}

/// Waits until a database that this process closed lets go of its files: its threads do so only a while later.
fn wait_until_let_go(path: &Path) -> Result<()> {
    for _ in 0..LET_GO_TRIES {
        match File::open(path.join(SLED_FILE)).map(|file| file.try_lock()) {
            Ok(Err(TryLockError::WouldBlock)) => std::thread::sleep(LET_GO_WAIT),
            // Free, not there yet, or not to be opened, which sled tells by itself.
            Ok(Ok(()) | Err(TryLockError::Error(_))) | Err(_) => return Ok(()),
        }
    }
    Err(failed("opening", &"another database has its files open"))
}

/// Syncs what sled wrote, large values in a folder of their own; its own flush leaves that to the system.
fn sync_files(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_files(&entry.path())?;
            continue;
        }
        match File::open(entry.path()) {
            // sled removes files of its own accord.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => opened?.sync_all()?,
        }
    }
    File::open(path)?.sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes what is in a folder.
fn empty(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) }?;
    }
    Ok(())
}

fn failed(doing: &str, error: &dyn std::fmt::Display) -> Error {
    Error::new(Reason::StorageFailed, format!("{doing} the index: {error}"))
}

/// The error of sled: `STORAGE_FULL` where room is what is missing.
fn refused(doing: &str, error: &sled::Error) -> Error {
    match error {
        sled::Error::Io(io) if is_full(io) => Error::new(Reason::StorageFull, format!("{doing} the index: {error}")),
        _ => failed(doing, error),
    }
}

fn damaged(what: &str) -> Error {
    Error::new(Reason::Corrupt, format!("{what} of the index is damaged"))
}
