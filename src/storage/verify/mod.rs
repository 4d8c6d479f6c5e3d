//! Checking a data directory that nobody has open: every byte of the log against its checksums and against the rest.
//!
//! Nothing is changed. Unlike a start, which stops at the first damage that it cannot live with, the walk goes on to
//! the end and tells of everything that it finds: flaws, and as notes what is no damage but worth knowing, as a torn
//! tail that the next start will cut off.

mod files;
mod index;
mod segment;
mod streams;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::erased::is_erased_name;
use super::files::{Files, LogFile, failed};
use super::options::LogOptions;
use super::room::parse_spare_name;
use super::snapshot::is_snapshot_name;
use super::store;
use crate::clock::Now;
use crate::error::Result;
use crate::format::block::{BlockRef, FileId};
use crate::format::crc;
use crate::format::segment::StoreId;
use crate::types::{EntryId, LogPosition, StreamName, StreamNumber};
use files::KnownFiles;
use streams::Streams;

/// What a flaw costs: entries that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affected {
    /// Their stream.
    pub stream: StreamNumber,
    /// Its name, where the log tells it.
    pub name: Option<StreamName>,
    /// Id of the first one.
    pub first: EntryId,
    /// Id of the last one.
    pub last: EntryId,
    /// How many.
    pub entries: u32,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, as a path from the data directory.
    pub file: String,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// Whether it is damage; otherwise it is only worth knowing.
    pub is_flaw: bool,
    /// The entries that it costs, where it is a block of entries.
    pub affected: Option<Affected>,
    /// What is wrong.
    pub message: String,
}

/// What a check tells while it runs.
#[derive(Clone, Debug)]
pub enum Checked {
    /// Something was found.
    Found(Finding),
    /// So many bytes of [`Verifier::bytes`] are behind it.
    Bytes(u64),
}

/// What was checked, in sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Files.
    pub files: u64,
    /// Files of the log among them.
    pub segments: u64,
    /// Commits that are legible.
    pub frames: u64,
    /// Blocks of entries, damaged ones included.
    pub blocks: u64,
    /// Entries in them.
    pub entries: u64,
    /// Flaws.
    pub flaws: u64,
    /// Things that are no damage but worth knowing.
    pub notes: u64,
}

/// A data directory that is held to be checked.
pub struct Verifier {
    files: Option<Arc<dyn Files>>,
    store: Option<StoreId>,
    must_exist: bool,
    names: Vec<String>,
    bytes: u64,
    /// Held, never read.
    _lock: Option<(File, Option<File>)>,
}

impl Verifier {
    /// Takes the data directory at this path; `DATA_DIRECTORY` where it is in use, is none, or is from a newer version.
    pub fn open(path: &Path) -> Result<Self> {
        let held = store::hold(path)?;
        Self::new(held.files, held.id, held.log_begun, Some(held.lock))
    }

    /// Takes a log folder by itself, which these settings say whose it is and whether it must have files.
    pub fn over(files: Arc<dyn Files>, options: &LogOptions) -> Result<Self> {
        Self::new(Some(files), Some(options.store), options.must_exist, None)
    }

    fn new(
        files: Option<Arc<dyn Files>>,
        store: Option<StoreId>,
        must_exist: bool,
        lock: Option<(File, Option<File>)>,
    ) -> Result<Self> {
        let (mut names, mut bytes) = (Vec::new(), 0);
        if let Some(files) = &files {
            names = files.list().map_err(|error| failed("listing", "the log folder", &error))?;
            for name in names.iter().filter(|name| FileId::parse(name).is_some()) {
                // A file that cannot be opened is told of when its turn comes.
                bytes += files.open(name).and_then(|file| file.length()).unwrap_or_default();
            }
        }
        Ok(Self { files, store, must_exist, names, bytes, _lock: lock })
    }

    /// Bytes that there are to check.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Checks everything. Fails only where nothing can be said, as of files of a newer version.
    pub fn run(self, on: &mut dyn FnMut(Checked)) -> Result<VerifyReport> {
        let mut walk = Walk {
            store: self.store,
            streams: Streams::default(),
            known: KnownFiles::default(),
            is_rewritten: false,
            report: VerifyReport { files: self.names.len() as u64 + 1, ..VerifyReport::default() },
            end: LogPosition(0),
            synced: LogPosition(0),
            last: Now::default(),
            done: 0,
            on,
        };
        if self.store.is_none() {
            walk.found("STORE", 0, true, None, "the file is damaged".into());
        }
        if let Some(files) = &self.files {
            walk.folder(&**files, &self.names)?;
        }
        if walk.report.segments == 0 && self.must_exist {
            walk.found("log", 0, true, None, "there are no files of the log; there were some".into());
        }
        Ok(walk.report)
    }
}

/// A check under way.
struct Walk<'a> {
    /// Whose files they have to be; unknown until one says so where `STORE` is damaged.
    store: Option<StoreId>,
    streams: Streams,
    known: KnownFiles,
    /// Whether it has come to the rewritten files, whose frames are of no position in the log.
    is_rewritten: bool,
    report: VerifyReport,
    /// Where the files so far end in the log.
    end: LogPosition,
    /// The greatest synced-to of the frames so far.
    synced: LogPosition,
    /// Time of the last frame.
    last: Now,
    /// Bytes of the files before this one.
    done: u64,
    on: &'a mut dyn FnMut(Checked),
}

impl Walk<'_> {
    fn found(&mut self, file: &str, offset: u64, is_flaw: bool, affected: Option<Affected>, message: String) {
        *(if is_flaw { &mut self.report.flaws } else { &mut self.report.notes }) += 1;
        (self.on)(Checked::Found(Finding { file: file.into(), offset, is_flaw, affected, message }));
    }

    fn flaw(&mut self, id: FileId, offset: u64, message: impl Into<String>) {
        self.found(&path(&id.name()), offset, true, None, message.into());
    }

    fn note(&mut self, id: FileId, offset: u64, message: String) {
        self.found(&path(&id.name()), offset, false, None, message);
    }

    fn block_flaw(&mut self, block: &BlockRef, message: impl Into<String>) {
        let (stream, name) = (block.stream, self.streams.name(block.stream));
        let affected = Affected { stream, name, first: block.first, last: block.last, entries: block.count };
        self.found(&path(&block.file.name()), u64::from(block.offset), true, Some(affected), message.into());
    }

    fn folder(&mut self, files: &dyn Files, names: &[String]) -> Result<()> {
        let mut segments: Vec<FileId> = names.iter().filter_map(|name| FileId::parse(name)).collect();
        segments.sort();
        self.report.segments = segments.len() as u64;
        let rewritten = segments.split_off(segments.partition_point(|id| !id.is_rewritten()));
        self.snapshots(files, names)?;
        for (i, id) in segments.iter().enumerate() {
            self.segment(files, *id, segments.get(i + 1).map(|next| LogPosition(next.0)))?;
        }
        self.rewritten(files, &rewritten)?;
        let ours = |name: &str| {
            let log = FileId::parse(name).is_some() || parse_spare_name(name).is_some();
            log || is_snapshot_name(name) || is_erased_name(name)
        };
        for name in names.iter().filter(|name| !ours(name)) {
            self.other(files, name);
        }
        Ok(())
    }

    /// A file that is not of the log.
    fn other(&mut self, files: &dyn Files, name: &str) {
        let Some(sum) = parse_cut_name(name) else {
            let what = if name.ends_with(".tmp") { "an unfinished beginning" } else { "not a file of the store" };
            return self.found(&path(name), 0, false, None, what.into());
        };
        let found = files.open(name).and_then(|file| Ok((file.length()?, sum_of(&*file)?)));
        match found {
            Ok((length, found)) if found == sum => {
                let what = format!("{length} bytes that an earlier start cut off and kept aside");
                self.found(&path(name), 0, false, None, what);
            }
            Ok(_) => self.found(&path(name), 0, true, None, "what was kept aside does not match its checksum".into()),
            Err(error) => self.found(&path(name), 0, true, None, format!("cannot be read: {error}")),
        }
    }
}

/// Checksum of a whole file.
fn sum_of(file: &dyn LogFile) -> io::Result<u32> {
    let mut window = vec![0; 1 << 20];
    let (mut sum, mut offset) = (crc::content(&[]), 0);
    loop {
        match file.read_at(&mut window, offset)? {
            0 => return Ok(sum),
            read => {
                sum = crc::content_continued(sum, &window[..read]);
                offset += read as u64;
            }
        }
    }
}

/// A file of the log folder, from the data directory.
fn path(name: &str) -> String {
    format!("{}/{name}", store::LOG_FOLDER)
}

/// The checksum that the name of a cut tail carries.
fn parse_cut_name(name: &str) -> Option<u32> {
    let (_, sum) = name.strip_prefix("cut-")?.rsplit_once('-')?;
    u32::from_str_radix(sum, 16).ok()
}
