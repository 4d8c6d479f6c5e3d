//! The deep check of a data directory that nobody has open: every state that a start could go on from must come to the
//! same state, and what groups and dead letters name must be readable. Nothing is changed.
//!
//! A start is tried over files that keep in memory what is written to them; the index, which its own library reads, is
//! copied first. What the check of bytes ([`crate::storage::Verifier`]) sees is not looked at again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cache::BlockCache;
use super::core::Core;
use super::dead_letter;
use super::options::EngineOptions;
use super::reader::{Disk, Reader};
use super::shared::Shared;
use super::start::{Started, start};
use super::view::StreamView;
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Reason, Result};
use crate::format::segment::{FORMAT_VERSION, StoreId};
use crate::format::state::{Row, RowKey, StreamRow};
use crate::group::dead_letter_stream;
use crate::limits;
use crate::storage::{
    Checkpoint, Files, HeldStore, Log, LogExtent, LogOptions, Overlay, SledIndex, Snapshots, StateIndex,
};
use crate::types::{EntryId, GroupNumber, IdRange, StreamName, StreamNumber};

/// What a deep check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeepReport {
    /// The states that were replayed to the end of the log and compared, by where they stand.
    pub compared: Vec<String>,
    /// Rows of the state.
    pub rows: u64,
    /// Entries that pending entries and dead letters name, and that were read, or are gone as the state says.
    pub entries: u64,
    /// What is wrong, each in a sentence.
    pub flaws: Vec<String>,
}

type Rows = Vec<(RowKey, Vec<u8>)>;

/// Checks the data directory at this path. Fails where no start is possible, as [`crate::engine::Engine::open`] does.
pub fn verify_deep(data_dir: &Path) -> Result<DeepReport> {
    let held = HeldStore::open(data_dir)?;
    let mut report = DeepReport::default();
    let Some(files) = held.files() else { return Ok(report) };
    let mut check = Deep { files, store: held.store(), options: held.log_options(), report: &mut report };
    let snapshot = Snapshots::new(Arc::clone(&check.files), check.store).read()?.checkpoint;
    let index = check.index(data_dir)?;
    let mut last: Option<(Rows, Started)> = None;
    let origins = match snapshot {
        Some(snapshot) => vec![("the snapshot", Some(snapshot))],
        None => vec![("the log's beginning", None)],
    };
    for (name, state) in origins.into_iter().chain(index.map(|index| ("the index", Some(index)))) {
        let (rows, started) = check.start(name, state)?;
        if let Some((other, _)) = &last {
            check.compare(other, &rows);
        }
        check.report.compared.push(name.into());
        last = last.or(Some((rows, started)));
    }
    if let Some((rows, started)) = last {
        check.report.rows = rows.len() as u64;
        check.entries(&rows, &started);
    }
    Ok(report)
}

struct Deep<'a> {
    files: Arc<dyn Files>,
    store: StoreId,
    options: LogOptions,
    report: &'a mut DeepReport,
}

impl Deep<'_> {
    fn flaw(&mut self, what: String) {
        // Beyond these there is nothing new to learn.
        const FLAWS_MAX: usize = 1000;
        if self.report.flaws.len() < FLAWS_MAX {
            self.report.flaws.push(what);
        }
    }

    /// The index's checkpoint, where a start would use it.
    fn index(&mut self, data_dir: &Path) -> Result<Option<Checkpoint>> {
        let from = data_dir.join("index");
        if !from.exists() {
            return Ok(None);
        }
        let copy = Copy::of(&from)?;
        let Some(found) = SledIndex::new(&copy.0).load()? else { return Ok(None) };
        let fits = found.store == self.store && Log::has(&*self.files, self.store, &found.at)?;
        if !fits {
            self.flaw("the index belongs to another log: a start makes it anew".into());
        }
        Ok(fits.then_some(found))
    }

    /// Starts from a state, over the files as they are, and gives what it comes to.
    fn start(&self, name: &str, state: Option<Checkpoint>) -> Result<(Rows, Started)> {
        let clock = SystemClock::new();
        let files = Overlay::new(Arc::clone(&self.files));
        let files = files.map_err(|error| Error::new(Reason::StorageFailed, format!("reading the log: {error}")))?;
        let mut options = self.options.clone();
        let lengths = limits::SEGMENT_BYTES_MIN..=limits::SEGMENT_BYTES_MAX;
        if let Some(extent) = LogExtent::of(&files)?.filter(|extent| lengths.contains(&extent.segment_bytes)) {
            options.segment_bytes = extent.segment_bytes;
        }
        let at = state.as_ref().map(|state| state.at.position);
        let fresh = || {
            let (sender, _) = crossbeam::channel::bounded(1);
            let clock: Arc<dyn Clock> = SystemClock::new();
            let shared = Arc::new(Shared::new(EngineOptions::new("."), clock, sender));
            (Core::new(Arc::clone(&shared)), shared)
        };
        let states: Vec<Checkpoint> = state.into_iter().collect();
        let mut salt = 0;
        let salts = Box::new(move || {
            salt += 1;
            salt
        });
        let started = start(&states, fresh, Arc::new(files), options, &*clock, salts, &mut |_| ())?;
        if started.resumed != at {
            return Err(Error::new(Reason::Corrupt, format!("the state of {name} cannot be restored")));
        }
        Ok((started.core.freeze().into_rows().0, started))
    }

    /// Compares the state that the first replay came to with that of another.
    fn compare(&mut self, first: &Rows, other: &Rows) {
        let one: BTreeMap<_, _> = first.iter().map(|(key, content)| (*key, shown(*key, content))).collect();
        let two: BTreeMap<_, _> = other.iter().map(|(key, content)| (*key, shown(*key, content))).collect();
        let keys: std::collections::BTreeSet<_> = one.keys().chain(two.keys()).collect();
        for key in keys.into_iter().filter(|key| one.get(key) != two.get(key)) {
            let show = |rows: &BTreeMap<_, String>| rows.get(key).cloned().unwrap_or_else(|| "nothing".into());
            let (by_log, by_index) = difference(&show(&one), &show(&two));
            let RowKey { kind, owner, part } = key;
            let row = format!("row {part} of kind {kind} of number {owner}");
            self.flaw(format!("{row} is `{by_log}` by the log and `{by_index}` by the index"));
        }
    }

    /// Reads what groups have pending and what their dead letters came from.
    fn entries(&mut self, rows: &Rows, started: &Started) {
        let files = Arc::clone(started.shared.catalogue.files());
        let reader = Reader::new(started.log.reader(), Arc::new(BlockCache::new(limits::CACHE_BYTES_DEFAULT)), files);
        let core = &started.core;
        let views: BTreeMap<StreamNumber, Arc<StreamView>> =
            core.streams.iter().map(|(number, slot)| (*number, Arc::clone(&slot.view))).collect();
        for (key, content) in rows {
            let Ok(Row::Pending(pending)) = Row::decode(key.kind, FORMAT_VERSION, content) else { continue };
            let Some(slot) = core.groups.get(&GroupNumber(key.owner)) else { continue };
            let Some(view) = views.get(&slot.group.stream) else { continue };
            let ids = pending.iter().map(|pending| pending.id).collect();
            self.check(&reader, view, ids, &format!("pending in group {}", slot.group.name));
        }
        let mut letters: BTreeMap<StreamName, Arc<StreamView>> = BTreeMap::new();
        for slot in core.groups.values() {
            let Some(view) = views.get(&slot.group.stream) else { continue };
            let name = dead_letter_stream(&view.name(), &slot.group.name, &slot.group.settings);
            if let Some(view) = core.names.get(&name).and_then(|number| views.get(number)) {
                letters.insert(name, Arc::clone(view));
            }
        }
        for (name, view) in letters {
            let origin = |of: &str| {
                let number = StreamName::parse(of).ok().and_then(|name| core.names.get(&name).copied());
                number.and_then(|number| views.get(&number).cloned())
            };
            if let Err(error) = self.letters(&reader, &view, &origin) {
                self.flaw(format!("the dead letters in stream {name} cannot be read: {error}"));
            }
        }
    }

    fn letters(
        &mut self,
        reader: &Reader,
        view: &StreamView,
        origin: &dyn Fn(&str) -> Option<Arc<StreamView>>,
    ) -> Result<()> {
        let mut range = IdRange::ALL;
        loop {
            let page = reader.page(view, range, false, 256, limits::PAGE_BYTES_DEFAULT, Disk::Allowed)?;
            let page = page.unwrap_or_default();
            for letter in page.entries.iter().filter_map(|entry| dead_letter::read(entry).ok().flatten()) {
                self.report.entries += 1;
                if let Some(view) = origin(&letter.origin_stream) {
                    let what = format!("the origin of dead letter {} of group {}", letter.id, letter.group);
                    self.check(reader, &view, vec![letter.origin_id], &what);
                }
            }
            match page.next {
                Some(next) => range.first = next,
                None => return Ok(()),
            }
        }
    }

    /// Checks that these entries can be read, or are gone by the state.
    fn check(&mut self, reader: &Reader, view: &StreamView, mut ids: Vec<EntryId>, what: &str) {
        ids.sort_unstable();
        let (Some(first), Some(last)) = (ids.first().copied(), ids.last().copied()) else { return };
        let removed = view.removed_in(IdRange { first, last });
        ids.retain(|id| {
            let deleted = removed.deleted.binary_search_by_key(id, |(id, _)| *id).is_ok();
            !removed.gone && *id >= removed.trimmed_before && !deleted
        });
        self.report.entries += ids.len() as u64;
        match reader.entries(view, &ids, Disk::Allowed) {
            Ok(found) => {
                let found: Vec<EntryId> = found.unwrap_or_default().iter().map(|entry| entry.id).collect();
                for id in ids.iter().filter(|id| !found.contains(id)) {
                    self.flaw(format!("entry {id} of stream {}, {what}, is not there", view.name()));
                }
            }
            Err(error) => self.flaw(format!("entries of stream {}, {what}, cannot be read: {error}", view.name())),
        }
    }
}

/// A row as text, without what only steers how entries are grouped into nodes and begins anew with each start.
fn shown(key: RowKey, content: &[u8]) -> String {
    match Row::decode(key.kind, FORMAT_VERSION, content) {
        Ok(Row::Stream(row)) => format!("{:?}", Row::Stream(StreamRow { node_entries: 0, node_bytes: 0, ..row })),
        Ok(row) => format!("{row:?}"),
        Err(error) => error.to_string(),
    }
}

/// Where two texts differ, with a little of what is around.
fn difference(one: &str, two: &str) -> (String, String) {
    let same = one.chars().zip(two.chars()).take_while(|(a, b)| a == b).count();
    let part = |text: &str| text.chars().skip(same.saturating_sub(40)).take(120).collect();
    (part(one), part(two))
}

/// A copy of a folder, gone with this.
struct Copy(PathBuf);

impl Copy {
    fn of(from: &Path) -> Result<Self> {
        let failed = |error| Error::new(Reason::StorageFailed, format!("copying the index: {error}"));
        let random = getrandom::u64().unwrap_or_default();
        let copy = Self(std::env::temp_dir().join(format!("synapse-verify-{}-{random:016x}", std::process::id())));
        copy_folder(from, &copy.0).map_err(failed)?;
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // A temporary folder that stays is for the system to take away.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
