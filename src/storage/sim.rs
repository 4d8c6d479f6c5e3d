//! A simulated disk: files in memory that lose, tear and fail as a seed says. For tests only.
//!
//! The fault model. A write is visible to reads at once and durable only by a sync of its file; until then a crash
//! keeps any subset of its 512-byte sectors. A name (made, renamed, removed) is durable only by a sync of the folder;
//! until then a crash keeps a prefix of the changes, as a journal does. A file is made with its length allocated and
//! its zeros durable. A failed write leaves some of its sectors behind; a failed sync makes some of what it should
//! have synced durable, forgets the rest, and later syncs succeed without it. When the power is off every operation
//! fails. Room is a budget that files take when they are made and give back when they are removed.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use parking_lot::Mutex;

use super::files::{Files, LogFile};

const SECTOR: usize = 512;

/// A disk; clones are handles to the same one.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

struct State {
    random: u64,
    operations: u64,
    /// Operations from this number on fail: the power is off.
    power_off_at: Option<u64>,
    /// The operation of this number fails once.
    fail_at: Option<u64>,
    budget: u64,
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Changes of names that are not durable, in order.
    changes: Vec<Change>,
    /// Operations that were syncs of a file.
    syncs: Vec<u64>,
    retried_syncs: u64,
}

#[derive(Clone)]
enum Change {
    Link(String, usize),
    Rename(String, String),
    Unlink(String),
}

#[derive(Clone, Default)]
struct Inode {
    /// What a crash leaves at least.
    durable: Vec<u8>,
    /// What reads see.
    current: Vec<u8>,
    /// Sectors written and not synced, in order.
    pending: Vec<(usize, Vec<u8>)>,
    sync_failed: bool,
}

impl SimDisk {
    /// An empty disk whose faults follow this seed, with room for so many bytes of files.
    pub fn new(seed: u64, budget: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            operations: 0,
            power_off_at: None,
            fail_at: None,
            budget,
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            changes: Vec::new(),
            syncs: Vec::new(),
            retried_syncs: 0,
        })))
    }

    /// Operations so far: creates, writes, syncs, renames, removes, syncs of the folder.
    pub fn operations(&self) -> u64 {
        self.0.lock().operations
    }
    /// Turns the power off before the operation of this number.
    pub fn power_off_at(&self, operation: u64) {
        self.0.lock().power_off_at = Some(operation);
    }
    /// Lets the operation of this number fail.
    pub fn fail_at(&self, operation: u64) {
        self.0.lock().fail_at = Some(operation);
    }
    /// Sets the room for files that are yet to be made, in bytes.
    pub fn set_budget(&self, bytes: u64) {
        self.0.lock().budget = bytes;
    }
    /// The numbers of the operations that were syncs of a file.
    pub fn syncs(&self) -> Vec<u64> {
        self.0.lock().syncs.clone()
    }
    /// Syncs of a file that were asked for after one of the same file had failed.
    pub fn retried_syncs(&self) -> u64 {
        self.0.lock().retried_syncs
    }

    /// What a crash at this moment leaves, as a disk of its own with the power on.
    pub fn crash(&self) -> Self {
        let mut state = self.0.lock();
        let mut names = state.durable_names.clone();
        let changes = state.changes.len() as u64;
        let kept = state.below(changes + 1) as usize;
        for change in &state.changes[..kept] {
            apply(&mut names, change);
        }
        let mut inodes = state.inodes.clone();
        for inode in &mut inodes {
            for (offset, bytes) in std::mem::take(&mut inode.pending) {
                if state.below(2) == 0 {
                    inode.durable[offset..offset + bytes.len()].copy_from_slice(&bytes);
                }
            }
            inode.current.clone_from(&inode.durable);
        }
        let random = state.next();
        let after = Self::new(random, state.budget);
        let mut fresh = after.0.lock();
        fresh.inodes = inodes;
        fresh.names.clone_from(&names);
        fresh.durable_names = names;
        drop(fresh);
        after
    }

    /// A disk that holds these files, all durable.
    pub fn of_files(seed: u64, budget: u64, files: BTreeMap<String, Vec<u8>>) -> Self {
        let disk = Self::new(seed, budget);
        let mut state = disk.0.lock();
        for (name, bytes) in files {
            let inode = state.inodes.len();
            state.inodes.push(Inode { durable: bytes.clone(), current: bytes, ..Inode::default() });
            state.names.insert(name, inode);
        }
        state.durable_names = state.names.clone();
        drop(state);
        disk
    }

    /// Every file as reads see it, by name.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.0.lock();
        state.names.iter().map(|(name, inode)| (name.clone(), state.inodes[*inode].current.clone())).collect()
    }

    /// Changes stored bytes of a file, as decay or a stray write would. Answers whether the file was long enough.
    pub fn corrupt(&self, name: &str, offset: usize, change: impl FnOnce(&mut [u8])) -> bool {
        let mut state = self.0.lock();
        let Some(inode) = state.names.get(name).copied() else { return false };
        let inode = &mut state.inodes[inode];
        let Some(bytes) = inode.current.get_mut(offset..) else { return false };
        change(&mut bytes[..]);
        inode.durable.clone_from(&inode.current);
        !inode.current[offset..].is_empty()
    }
}

impl State {
    fn next(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// Counts an operation; fails it where that is its turn.
    fn operate(&mut self) -> io::Result<()> {
        let number = self.operations;
        self.operations += 1;
        if self.power_off_at.is_some_and(|at| number >= at) {
            return Err(io::Error::other("the power is off"));
        }
        if self.fail_at == Some(number) {
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(())
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.names, &change);
        self.changes.push(change);
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::Error::from(ErrorKind::NotFound))
    }
}

fn apply(names: &mut BTreeMap<String, usize>, change: &Change) {
    match change {
        Change::Link(name, inode) => {
            names.insert(name.clone(), *inode);
        }
        Change::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
        Change::Unlink(name) => {
            names.remove(name);
        }
    }
}

impl Files for SimDisk {
    fn create(&self, name: &str, length: u64) -> io::Result<Arc<dyn LogFile>> {
        let mut state = self.0.lock();
        state.operate()?;
        if length > state.budget {
            return Err(io::Error::from(ErrorKind::StorageFull));
        }
        if state.names.contains_key(name) {
            return Err(io::Error::from(ErrorKind::AlreadyExists));
        }
        state.budget -= length;
        let zeros = vec![0; length as usize];
        state.inodes.push(Inode { durable: zeros.clone(), current: zeros, ..Inode::default() });
        let inode = state.inodes.len() - 1;
        state.change(Change::Link(name.to_owned(), inode));
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let inode = self.0.lock().find(name)?;
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().names.keys().cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        state.operate()?;
        state.find(from)?;
        state.change(Change::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        state.operate()?;
        let inode = state.find(name)?;
        state.budget += state.inodes[inode].current.len() as u64;
        state.change(Change::Unlink(name.to_owned()));
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        state.operate()?;
        state.changes.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }
}

struct SimFile {
    disk: SimDisk,
    inode: usize,
}

impl LogFile for SimFile {
    fn write_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        let outcome = state.operate();
        let bytes = parts.concat();
        let offset = offset as usize;
        if state.inodes[self.inode].current.len() < offset + bytes.len() {
            // The log writes inside what is allocated only; anything else is a bug of ours, found here.
            return Err(io::Error::from(ErrorKind::StorageFull));
        }
        let mut at = 0;
        while at < bytes.len() {
            let length = (SECTOR - (offset + at) % SECTOR).min(bytes.len() - at);
            if outcome.is_ok() || state.below(2) == 0 {
                let sector = bytes[at..at + length].to_vec();
                let inode = &mut state.inodes[self.inode];
                inode.current[offset + at..offset + at + length].copy_from_slice(&sector);
                inode.pending.push((offset + at, sector));
            }
            at += length;
        }
        outcome
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.0.lock();
        let current = &state.inodes[self.inode].current;
        let from = (offset as usize).min(current.len());
        let length = buffer.len().min(current.len() - from);
        buffer[..length].copy_from_slice(&current[from..from + length]);
        Ok(length)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        let number = state.operations;
        state.syncs.push(number);
        let outcome = state.operate();
        state.retried_syncs += u64::from(state.inodes[self.inode].sync_failed);
        state.inodes[self.inode].sync_failed |= outcome.is_err();
        let pending = std::mem::take(&mut state.inodes[self.inode].pending);
        for (offset, bytes) in pending {
            if outcome.is_ok() || state.below(2) == 0 {
                state.inodes[self.inode].durable[offset..offset + bytes.len()].copy_from_slice(&bytes);
            }
        }
        outcome
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.0.lock().inodes[self.inode].current.len() as u64)
    }
    /// Durable at once: what is shortened has no name that matters yet.
    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.operate()?;
        let inode = &mut state.inodes[self.inode];
        let given_back = inode.current.len() - length as usize;
        inode.current.truncate(length as usize);
        inode.durable.truncate(length as usize);
        inode.pending.retain(|(offset, bytes)| offset + bytes.len() <= length as usize);
        state.budget += given_back as u64;
        Ok(())
    }
    fn uncache(&self, _: u64, _: u64) {}
}
