//! Damages a store that was closed in order, opens it, and judges what comes of it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use synapse::engine::stepped::Stepped;
use synapse::error::{Error, Reason, Result};
use synapse::faults::Faults;
use synapse::storage::sim::SimDisk;
use synapse::storage::{Checked, Files, Finding, LogOptions, Verifier, VerifyReport};

use crate::damage::{Damage, Folder, How, Segment};
use crate::seen::{Seen, look, publish_one, read_all};
use crate::store::{self, SESSIONS, STORE};

/// What came of one damage, or what is wrong with that.
pub(crate) type Verdict = std::result::Result<Outcome, String>;

/// What may come of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// The bytes stay as they are.
    Nothing,
    /// The store is refused.
    Refused,
    /// Everything is there.
    Harmless,
    /// Reads of some entries fail.
    Named,
    /// The log ends earlier, as after a torn write.
    Cut,
}

/// A store with what it was after each session, and what is seen in it.
pub(crate) struct Pristine {
    pub(crate) folder: Folder,
    /// After each session but the last.
    pub(crate) sessions: Vec<Folder>,
    pub(crate) seen: Seen,
    /// The last segment, which was being written, and where its frames end in the log.
    pub(crate) live: (String, Segment),
    end: u64,
    /// What is seen where the log ends earlier, by that position.
    cut: BTreeMap<u64, Seen>,
}

impl Pristine {
    pub(crate) fn new() -> Self {
        let disk = SimDisk::new(1, 1 << 24);
        let files: Arc<dyn Files> = Arc::new(disk.clone());
        let mut sessions = Vec::new();
        for session in 0..SESSIONS {
            store::fill(&files, STORE, session, 36);
            sessions.push(disk.files());
        }
        let folder = sessions.pop().expect("there are sessions");
        let seen = seen_in(&folder).expect("a sound store is read");
        assert!(!seen.has_gaps());
        let is_remembered = |what: &str| seen.facts[&format!("remembered {what}")].contains("duplicate: true");
        assert!(is_remembered("request") && is_remembered("event"), "{:?}", seen.facts);
        let mut live = folder.iter().filter_map(|(name, bytes)| Some((name.clone(), Segment::read(name, bytes)?)));
        let live = live.next_back().expect("a store has segments");
        let last = live.1.frames.last().expect("it was stopped in order");
        let end = last.head.position.0 + last.sizes.total as u64;
        Self { folder, sessions, seen, live, end, cut: BTreeMap::new() }
    }

    /// What becomes of the store with this damage.
    pub(crate) fn judge(&mut self, damage: &Damage, faults: Faults) -> Verdict {
        let Some(damaged) = damage.apply(&self.folder, &self.sessions) else { return Ok(Outcome::Nothing) };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            self.judge_running(damage, &damaged, faults)?;
            let outcome = self.judge_folder(damage, &damaged, faults)?;
            self.judge_check(damage, &damaged, outcome)?;
            Ok(outcome)
        }));
        let outcome = outcome.unwrap_or_else(|panic| Err(format!("panics: {}", said(&*panic))));
        outcome.map_err(|e| format!("{damage:?}: {e}"))
    }

    /// Damages the store while it is open: what is read is what was written, or fails.
    fn judge_running(&self, damage: &Damage, damaged: &Folder, faults: Faults) -> Verdict {
        let (name, disk) = (&damage.file, disk_of(&self.folder));
        let Some(bytes) = damaged.get(name).filter(|bytes| bytes.len() == self.folder[name].len()) else {
            return Ok(Outcome::Nothing);
        };
        let mut stepped = open(&disk, faults).map_err(|e| format!("a sound store does not open: {e:?}"))?;
        disk.corrupt(name, 0, |stored| stored.copy_from_slice(bytes));
        match read_all(&mut stepped) {
            Ok(found) => compare(&found, &self.seen, false).map_err(|e| format!("while it is open: {e}")),
            Err(error) if is_placed(&error, damaged) => Ok(Outcome::Refused),
            Err(error) => Err(format!("while it is open: {error:?}")),
        }
    }

    /// A check tells of all damage that a start refuses or names, and of every bit of a sealed file.
    fn judge_check(&self, damage: &Damage, damaged: &Folder, outcome: Outcome) -> std::result::Result<(), String> {
        let is_sealed = |name: &String| Segment::read(name, &self.folder[name]).is_some_and(|s| s.footer.is_some());
        let must_tell = match outcome {
            Outcome::Refused | Outcome::Named => true,
            Outcome::Nothing | Outcome::Harmless | Outcome::Cut => {
                matches!(damage.how, How::Flip(..)) && is_sealed(&damage.file)
            }
        };
        let mut told = Vec::new();
        match check(damaged, &mut told) {
            Ok(report) if must_tell && report.flaws == 0 => Err("a check finds nothing".into()),
            Err(error) if !must_tell || error.reason() != Reason::DataDirectory => Err(format!("a check: {error:?}")),
            _ => Ok(()),
        }
    }

    fn judge_folder(&mut self, damage: &Damage, damaged: &Folder, faults: Faults) -> Verdict {
        let disk = disk_of(damaged);
        let mut stepped = match open(&disk, faults) {
            Ok(stepped) => stepped,
            Err(error) => return refused(&error, damaged, &disk),
        };
        let end = stepped.report().end.0;
        let expected = self.expected(damage, damaged, end)?;
        let found = look(&mut stepped).map_err(|e| format!("an error that names no damaged entries: {e:?}"))?;
        let outcome = compare(&found, &expected, true)?;
        let id = publish_one(&mut stepped, "logs").map_err(|e| format!("publishing fails: {e:?}"))?;
        stepped.stop();
        drop(stepped);
        let mut stepped = open(&disk, faults).map_err(|e| format!("does not open again: {e:?}"))?;
        let again = look(&mut stepped).map_err(|e| format!("after a restart, {e:?}"))?;
        if !again.lists["logs forward"].entries.contains_key(&id) {
            return Err("what was published afterwards is lost".into());
        }
        for (name, then) in found.lists.iter().filter(|(name, _)| name.ends_with("forward")) {
            let now = &again.lists[name].entries;
            if then.entries.iter().any(|(id, entry)| now.get(id) != Some(entry)) {
                return Err(format!("{name}: a restart loses entries"));
            }
        }
        Ok(if end == self.end { outcome } else { Outcome::Cut })
    }

    /// What must be seen in a log that ends at this position. A log may end early only where no legible frame tells
    /// that more was synced, and where the damage is: then it cannot be told from a torn tail.
    fn expected(&mut self, damage: &Damage, damaged: &Folder, end: u64) -> std::result::Result<Seen, String> {
        if end == self.end {
            return Ok(self.seen.clone());
        }
        let (name, segment) = &self.live;
        if damage.is_untold(name) {
            return seen_in(damaged).map_err(|e| e.to_string());
        }
        let synced = segment.synced_to(&damaged[name]);
        let Some(frame) = segment.frames.iter().find(|f| f.head.position.0 == end) else {
            return Err(format!("the log ends at {end}, where no frame of the last segment begins"));
        };
        let place = frame.offset..frame.offset + frame.sizes.total;
        if end < synced || damaged[name][place.clone()] == self.folder[name][place] {
            return Err(format!("the log ends at {end}, though it was synced to {synced}: what follows is lost"));
        }
        if let Some(seen) = self.cut.get(&end) {
            return Ok(seen.clone());
        }
        let mut folder = self.folder.clone();
        folder.get_mut(name).expect("it is there")[frame.offset..].fill(0);
        let seen = seen_in(&folder).map_err(|e| e.to_string())?;
        self.cut.insert(end, seen.clone());
        Ok(seen)
    }
}

impl Damage {
    /// Whether it cannot be told at all: the last file is gone as a whole, or is what it once was.
    fn is_untold(&self, live: &str) -> bool {
        self.file == live && matches!(self.how, How::Missing | How::OlderFile(_))
    }
}

pub(crate) fn disk_of(folder: &Folder) -> SimDisk {
    SimDisk::of_files(1, 1 << 24, folder.clone())
}

fn open(disk: &SimDisk, faults: Faults) -> Result<Stepped> {
    store::open(Arc::new(disk.clone()), STORE, faults)
}

/// What is seen in a copy of these files.
pub(crate) fn seen_in(folder: &Folder) -> Result<Seen> {
    look(&mut open(&disk_of(folder), Faults::default())?)
}

/// Whether a refusal is precise and leaves everything as it is.
fn refused(error: &Error, damaged: &Folder, disk: &SimDisk) -> Verdict {
    if !matches!(error.reason(), Reason::Corrupt | Reason::DataDirectory) {
        return Err(format!("refused for another reason: {error:?}"));
    }
    if !is_placed(error, damaged) {
        return Err(format!("refused without naming the place: {error:?}"));
    }
    if disk.files() != *damaged {
        return Err(format!("refused and changed: {error:?}"));
    }
    Ok(Outcome::Refused)
}

/// Whether the error says where the damage is.
fn is_placed(error: &Error, damaged: &Folder) -> bool {
    error.details().iter().any(|(name, _)| ["file", "position"].contains(name))
        || damaged.keys().any(|name| error.message().contains(name.as_str()))
}

/// Whether what was found is what is expected, but for what errors named.
/// Where not everything was asked, what was not is not missed.
fn compare(found: &Seen, expected: &Seen, is_all: bool) -> Verdict {
    let differing = expected.facts.iter().find(|(name, fact)| match found.facts.get(*name) {
        Some(now) => now != *fact,
        None => is_all,
    });
    if differing.is_some() || found.facts.len() > expected.facts.len() {
        let now = differing.map(|(name, _)| found.facts.get(name));
        return Err(format!("expected {differing:?}, found {now:?}"));
    }
    for (name, fact) in &found.read {
        if expected.read.get(name) != Some(fact) && !found.has_gaps() {
            return Err(format!("{name}: expected {:?}, found {fact}", expected.read.get(name)));
        }
    }
    for (name, list) in &expected.lists {
        let Some(now) = found.lists.get(name) else {
            if is_all {
                return Err(format!("{name} is not there"));
            }
            continue;
        };
        for (id, entry) in &now.entries {
            if list.entries.get(id) != Some(entry) {
                return Err(format!("{name}: {id} is {entry:?}, expected {:?}", list.entries.get(id)));
            }
        }
        let is_named = |id| now.gaps.iter().any(|gap| gap.contains(id));
        if let Some(id) = list.entries.keys().find(|id| !now.entries.contains_key(id) && !is_named(**id)) {
            return Err(format!("{name}: {id} is missing without an error, which named {:?}", now.gaps));
        }
    }
    if found.lists.len() > expected.lists.len() {
        return Err("there are streams that never were".into());
    }
    Ok(if found.has_gaps() { Outcome::Named } else { Outcome::Harmless })
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
}

/// Checks a folder, and gathers what is told.
pub(crate) fn check(folder: &Folder, told: &mut Vec<Finding>) -> Result<VerifyReport> {
    let options = LogOptions { must_exist: true, ..LogOptions::new(STORE) };
    Verifier::over(Arc::new(disk_of(folder)), &options)?.run(&mut |checked| {
        if let Checked::Found(finding) = checked {
            told.push(finding);
        }
    })
}
