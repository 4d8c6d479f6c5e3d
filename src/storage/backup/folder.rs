//! The folder that a backup is taken into: what is there already, what comes, and the manifest at the end.
//!
//! A file that came whole is noted in a journal, so that a backup that was interrupted goes on after it; so are those of
//! the backup that was there before. What is there is read and compared with its checksum before it counts. Nothing that
//! a manifest names is overwritten: files that differ have different names, and the same ones only grow.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::super::files::{failed, make_folder};
use super::super::snapshot::is_snapshot_name;
use super::super::store::{Lock, lock};
use super::Covered;
use super::manifest::{MANIFEST, MANIFEST_TEMPORARY, Manifest, Member, is_plain};
use super::members::{FILES_FOLDER, Members, read_through};
use super::plan::{BackupFile, BackupPlan};
use super::survey::Survey;
use crate::error::{Error, Reason, Result};
use crate::format::block::FileId;
use crate::format::crc;
use crate::format::segment::{SEGMENT_HEADER_BYTES, StoreId};

/// Files that came whole, one JSON object a line, while there is no manifest that names them.
const JOURNAL: &str = "RECEIVED";
const LOCK: &str = "LOCK";
/// What the folder of a backup may have in it.
const OURS: [&str; 6] = [MANIFEST, MANIFEST_TEMPORARY, JOURNAL, LOCK, FILES_FOLDER, "lost+found"];

/// The folder of a backup that is being taken.
pub struct BackupFolder {
    path: PathBuf,
    manifest: Option<Manifest>,
    /// What was noted as whole.
    noted: Vec<Member>,
    /// What of that was read and is so, by its name in the folder.
    sound: HashMap<String, Member>,
    /// What belongs to the backup that is being taken.
    taken: Vec<Member>,
    journal: File,
    /// Held, never read.
    _lock: Lock,
}

/// What a backup came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The moments that it covers.
    pub covered: Covered,
    /// Files that it has.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A file that is coming.
pub struct Receiving {
    member: Member,
    file: File,
    path: PathBuf,
    whole: u64,
}

impl BackupFolder {
    /// Takes the folder at this path, making it where there is none; `DATA_DIRECTORY` where something else is in it.
    pub fn open(path: &Path) -> Result<Self> {
        let in_path = |error: io::Error| failed("opening", &path.display().to_string(), &error);
        make_folder(path).map_err(in_path)?;
        for entry in fs::read_dir(path).map_err(in_path)? {
            let name = entry.map_err(in_path)?.file_name();
            if !OURS.iter().any(|ours| name == *ours) {
                let (path, name) = (path.display(), name.display());
                let why = format!("{path} has {name} in it: it is not the folder of a backup");
                return Err(Error::new(Reason::DataDirectory, why));
            }
        }
        let lock = lock(path)?;
        let manifest = Manifest::read(path)?;
        let files = path.join(FILES_FOLDER);
        if !files.exists() {
            fs::create_dir(&files).map_err(in_path)?;
        }
        File::open(path).and_then(|folder| folder.sync_all()).map_err(in_path)?;
        let mut noted = journaled(path)?;
        noted.extend(manifest.iter().flat_map(|manifest| manifest.files.iter().cloned()));
        let journal = OpenOptions::new().append(true).create(true).open(path.join(JOURNAL)).map_err(in_path)?;
        let (path, sound, taken) = (path.to_owned(), HashMap::new(), Vec::new());
        Ok(Self { path, manifest, noted, sound, taken, journal, _lock: lock })
    }

    /// Bytes that are there and were noted as whole.
    pub fn noted_bytes(&self) -> u64 {
        self.noted.iter().map(|member| member.length).sum()
    }

    /// Reads what was noted; what is not as it was noted is fetched again, and everything is before this was called. Tells
    /// how many bytes are behind it.
    pub fn check(&mut self, on: &mut dyn FnMut(u64)) -> Result<()> {
        let mut done = 0;
        // A file that grew is noted more than once: the longest that is sound counts.
        self.noted.sort_by_key(|member| std::cmp::Reverse(member.length));
        for member in std::mem::take(&mut self.noted) {
            let path = self.path.join(FILES_FOLDER).join(&member.file);
            if !self.sound.contains_key(&member.file) {
                let sum = read_through(&path, member.length, &mut |_| Ok(()))?;
                if sum == Some(member.crc32c) {
                    self.sound.insert(member.file.clone(), member.clone());
                }
            }
            done += member.length;
            on(done);
        }
        Ok(())
    }

    /// Begins a backup by this plan; `DATA_DIRECTORY` where the folder holds one of another store or of a later time.
    pub fn begin(&mut self, plan: &BackupPlan) -> Result<()> {
        plan.validate()?;
        let refuse = |why: String| Err(Error::new(Reason::DataDirectory, format!("{}: {why}", self.path.display())));
        if let Some(manifest) = &self.manifest {
            if manifest.store != hex(plan.store) {
                return refuse(format!("holds a backup of the store {}, not of {}", manifest.store, hex(plan.store)));
            }
            let reached = manifest.covered().end.position;
            if reached > plan.end {
                return refuse(format!("holds a backup up to position {reached}, the store ends at {}", plan.end));
            }
        }
        self.taken.clear();
        Ok(())
    }

    /// Takes a file of the plan: `None` where it is there already, otherwise what takes the rest of it in.
    pub fn receive(&mut self, planned: &BackupFile) -> Result<Option<Receiving>> {
        let file = format!("{}-{:08x}", planned.name, crc::content(&planned.head));
        let path = self.path.join(FILES_FOLDER).join(&file);
        let sound = self.sound.get(&file).filter(|sound| sound.length <= planned.length);
        let (length, crc32c) = sound.map_or((0, 0), |sound| (sound.length, sound.crc32c));
        let member = Member { name: planned.name.clone(), file, length, crc32c };
        if length == planned.length {
            self.taken.push(member);
            return Ok(None);
        }
        let writing = |error: io::Error| failed("writing", &path.display().to_string(), &error);
        let made = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(writing)?;
        // A rest that nothing vouches for is written again.
        made.set_len(length).map_err(writing)?;
        Ok(Some(Receiving { member, file: made, path, whole: planned.length }))
    }

    /// Keeps a file that came whole.
    pub fn keep(&mut self, received: Receiving) -> Result<()> {
        let Receiving { member, file, path, whole } = received;
        let writing = |error: io::Error| failed("writing", &path.display().to_string(), &error);
        if member.length != whole {
            return Err(Error::internal(format!("{} is not whole yet", member.name)));
        }
        file.sync_all().map_err(writing)?;
        let line = serde_json::to_string(&member).map_err(|error| writing(error.into()))?;
        let noted = writeln!(self.journal, "{line}").and_then(|()| self.journal.sync_data());
        noted.map_err(|error| failed("writing", JOURNAL, &error))?;
        self.taken.push(member);
        Ok(())
    }

    /// Completes the backup: reads what it covers, writes the manifest, and removes what no longer belongs to it.
    pub fn finish(self, plan: &BackupPlan) -> Result<Taken> {
        if self.taken.len() != plan.files.len() {
            return Err(Error::internal("a file of the backup did not come"));
        }
        let files = self.path.join(FILES_FOLDER);
        let syncing = |error: io::Error| failed("syncing", &files.display().to_string(), &error);
        File::open(&files).and_then(|folder| folder.sync_all()).map_err(syncing)?;
        let members = Members::new(&self.path, &self.taken);
        let covered = Survey::run(&members, plan.store, plan.end, &mut |_| ())?.covered(plan.taken_ms);
        let (count, bytes) = (self.taken.len() as u64, self.taken.iter().map(|member| member.length).sum());
        let manifest = Manifest::new(hex(plan.store), covered, self.taken);
        manifest.write(&self.path).map_err(|error| failed("writing", MANIFEST, &error))?;
        clear(&self.path, &manifest).map_err(|error| failed("clearing", &self.path.display().to_string(), &error))?;
        Ok(Taken { covered, files: count, bytes })
    }
}

impl Receiving {
    /// Where the next piece belongs.
    pub fn next_offset(&self) -> u64 {
        self.member.length
    }

    /// Whether all of it is there.
    pub fn is_whole(&self) -> bool {
        self.member.length == self.whole
    }

    /// Takes the next piece; `CORRUPT` where it does not match its checksum or is not the next one.
    pub fn take(&mut self, offset: u64, data: &[u8], crc32c: u32) -> Result<()> {
        let (name, next) = (&self.member.name, self.member.length);
        if offset != next || data.is_empty() || data.len() as u64 > self.whole - next {
            let why = format!("{name}: a piece of {} bytes at {offset} came in the place of {next}", data.len());
            return Err(Error::new(Reason::Corrupt, why));
        }
        if crc::content(data) != crc32c {
            return Err(Error::new(Reason::Corrupt, format!("{name}: the piece at {offset} was damaged on its way")));
        }
        let written = self.file.write_all_at(data, offset);
        written.map_err(|error| failed("writing", &self.path.display().to_string(), &error))?;
        self.member.length += data.len() as u64;
        self.member.crc32c = crc::content_continued(self.member.crc32c, data);
        Ok(())
    }
}

impl BackupPlan {
    /// Whether it is one: files of a log, each once, with their heads.
    fn validate(&self) -> Result<()> {
        let mut names: Vec<&str> = self.files.iter().map(|file| file.name.as_str()).collect();
        names.sort_unstable();
        let twice = names.windows(2).any(|pair| pair[0] == pair[1]);
        let is_file = |file: &BackupFile| {
            let known = is_snapshot_name(&file.name) || FileId::parse(&file.name).is_some();
            known && is_plain(&file.name) && file.length >= file.head.len() as u64
        };
        let bad = self.files.iter().find(|file| !is_file(file) || file.head.len() != SEGMENT_HEADER_BYTES);
        match bad {
            Some(file) => Err(Error::invalid("files", format!("{:?} is no file of a log", file.name))),
            None if twice => Err(Error::invalid("files", "a file is named twice")),
            None => Ok(()),
        }
    }
}

/// What the journal notes; a line that was not written to its end is passed over.
fn journaled(path: &Path) -> Result<Vec<Member>> {
    match fs::read_to_string(path.join(JOURNAL)) {
        Ok(text) => {
            let noted = text.lines().filter_map(|line| serde_json::from_str(line).ok());
            Ok(noted.filter(|member: &Member| is_plain(&member.file)).collect())
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => Ok(Vec::new()),
        Err(error) => Err(failed("reading", JOURNAL, &error)),
    }
}

/// Removes the journal, and the files that the manifest does not name.
fn clear(path: &Path, manifest: &Manifest) -> io::Result<()> {
    fs::remove_file(path.join(JOURNAL))?;
    for entry in fs::read_dir(path.join(FILES_FOLDER))? {
        let entry = entry?;
        let name = entry.file_name();
        if !manifest.files.iter().any(|member| name == *member.file.as_str()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The id of a store as the manifest has it.
pub(super) fn hex(store: StoreId) -> String {
    store.0.iter().map(|byte| format!("{byte:02x}")).collect()
}
