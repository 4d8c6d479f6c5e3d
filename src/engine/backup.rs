//! A backup of a running engine: which files make up the log at one synced position, held until they were copied.
//!
//! **B1** While a [`BackupSource`] lives, no file of the log and no snapshot that it names goes away: reclaim removes
//! nothing while anything is pinned, and a snapshot is kept open. **B2** What it names is one state: the set of files is
//! the core's as of the commit with whose sync the position is read, on the thread that writes commits.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::command::Command;
use super::handle::Engine;
use super::shared::Shared;
use crate::error::{Error, Reason, Result};
use crate::format::segment::StoreId;
use crate::limits;
use crate::storage::{BackupFile, BackupPlan, FileSet, Files, LogFile, newest_snapshot, open_planned, plan_files};
use crate::types::LogPosition;

/// Keeps files from being removed as long as it lives.
struct Pin(Arc<Shared>);

impl Pin {
    fn take(shared: &Arc<Shared>) -> Result<Self> {
        let mut pins = shared.pins.lock();
        if *pins >= limits::BACKUPS_MAX {
            let why = format!("{pins} backups are being taken, no more than {} at a time are", limits::BACKUPS_MAX);
            return Err(Error::new(Reason::LimitReached, why).with("max", limits::BACKUPS_MAX));
        }
        *pins += 1;
        Ok(Self(Arc::clone(shared)))
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        *self.0.pins.lock() -= 1;
    }
}

/// The set of files at a position up to which the log is synced.
#[derive(Clone, Debug)]
pub(crate) struct BackupPoint {
    pub(crate) set: FileSet,
    pub(crate) end: LogPosition,
}

/// The log's files, and whose they are.
#[derive(Clone)]
pub(crate) struct LogFolder {
    pub(crate) files: Arc<dyn Files>,
    pub(crate) store: StoreId,
}

/// An open file with its name.
type Opened = (String, Arc<dyn LogFile>);

/// What a backup copies from; its files stay as long as this does.
pub struct BackupSource {
    engine: Engine,
    plan: BackupPlan,
    /// The file read last. A snapshot is opened before anything else, since the next one takes its place.
    open: Arc<Mutex<Vec<Opened>>>,
    _pin: Pin,
}

impl Engine {
    /// Begins a backup: everything that was acknowledged before is in it. Few go on at a time; `LIMIT_REACHED` beyond that.
    pub async fn begin_backup(&self) -> Result<BackupSource> {
        let pin = Pin::take(&self.0.shared)?;
        let folder = self.0.folder.clone();
        let snapshot = self.on_reader_thread(move |_| open_snapshot(&*folder.files)).await?;
        let BackupPoint { set, end } = self.ask(|reply| Command::BackupPoint { reply }).await?;
        let folder = self.0.folder.clone();
        let from = snapshot.as_ref().map_or(LogPosition(0), |snapshot| snapshot.from);
        let mut files = self.on_reader_thread(move |_| plan_files(&*folder.files, &set, from, end)).await?;
        let mut open = Vec::new();
        if let Some(OpenSnapshot { planned, file, .. }) = snapshot {
            open.push((planned.name.clone(), file));
            files.push(planned);
        }
        let (store, taken_ms) = (self.0.folder.store, self.0.shared.clock.now().wall_ms);
        let plan = BackupPlan { store, end, taken_ms, files };
        Ok(BackupSource { engine: self.clone(), plan, open: Arc::new(Mutex::new(open)), _pin: pin })
    }
}

struct OpenSnapshot {
    planned: BackupFile,
    file: Arc<dyn LogFile>,
    from: LogPosition,
}

/// Opens the newest snapshot. One may take the place of another just then: it is looked for again.
fn open_snapshot(files: &dyn Files) -> Result<Option<OpenSnapshot>> {
    const ATTEMPTS: u32 = 8;
    let mut missed = String::new();
    for _ in 0..ATTEMPTS {
        let Some((name, from)) = newest_snapshot(files)? else { return Ok(None) };
        match files.open(&name) {
            Ok(file) => {
                let planned = open_planned(&*file, &name, |length| length)?;
                return Ok(Some(OpenSnapshot { planned, file, from }));
            }
            Err(error) => missed = format!("opening {name}: {error}"),
        }
    }
    Err(Error::new(Reason::StorageFailed, missed))
}

impl BackupSource {
    /// What there is to copy.
    pub fn plan(&self) -> &BackupPlan {
        &self.plan
    }

    /// The next bytes of a file of the plan from an offset on, so many at most, never none. `INVALID_ARGUMENT` where the
    /// plan has no such file or no such bytes.
    pub async fn read(&self, name: &str, offset: u64, bytes_max: usize) -> Result<Bytes> {
        let planned = self.plan.files.iter().find(|file| file.name == name);
        let planned = planned.ok_or_else(|| Error::invalid("file", format!("{name:?} is no file of the backup")))?;
        if offset >= planned.length {
            let why = format!("{name} has {} bytes, none at {offset}", planned.length);
            return Err(Error::invalid("offset", why));
        }
        let length = (planned.length - offset).min(bytes_max as u64) as usize;
        let (open, files, name) = (Arc::clone(&self.open), Arc::clone(&self.engine.0.folder.files), name.to_owned());
        self.engine
            .on_reader_thread(move |_| {
                let failed = |error| Error::new(Reason::StorageFailed, format!("reading {name}: {error}"));
                let file = open_file(&mut open.lock(), &*files, &name).map_err(failed)?;
                let mut buffer = vec![0; length];
                let read = file.read_at(&mut buffer, offset).map_err(failed)?;
                if read < length {
                    let why = format!("{name} ends at {}, its beginning is to be copied further", offset + read as u64);
                    return Err(Error::new(Reason::Corrupt, why).with("file", &name));
                }
                Ok(Bytes::from(buffer))
            })
            .await
    }
}

/// The file of that name among those that are open, where one is kept besides snapshots.
fn open_file(open: &mut Vec<Opened>, files: &dyn Files, name: &str) -> std::io::Result<Arc<dyn LogFile>> {
    if let Some((_, file)) = open.iter().find(|(known, _)| known == name) {
        return Ok(Arc::clone(file));
    }
    let file = files.open(name)?;
    open.retain(|(known, _)| crate::storage::FileId::parse(known).is_none());
    open.push((name.to_owned(), Arc::clone(&file)));
    Ok(file)
}
