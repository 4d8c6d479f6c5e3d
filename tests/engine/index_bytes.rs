//! The files of the index under damage, byte by byte: what is loaded is what was saved once, or nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use synapse::storage::{Checkpoint, SledIndex, StateIndex};

use crate::world::{World, publish};

/// An index of a few checkpoints, one after the other, opened anew between them.
struct Saved {
    folder: tempfile::TempDir,
    /// Every file of it with its bytes.
    files: Vec<(PathBuf, Vec<u8>)>,
    checkpoints: Vec<Checkpoint>,
}

impl Saved {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("index");
        let world = World::new();
        let mut stepped = world.open().expect("opens");
        let mut checkpoints: Vec<Checkpoint> = Vec::new();
        for round in 0.. {
            publish(&mut stepped, &format!("stream-{}", round % 10), round * 10..round * 10 + 10);
            let Some(checkpoint) = world.index.checkpoint() else { continue };
            if checkpoints.last() == Some(&checkpoint) {
                continue;
            }
            let mut index = SledIndex::new(&path);
            assert_eq!(index.load().expect("loads").as_ref(), checkpoints.last());
            index.save(&checkpoint).expect("saves");
            checkpoints.push(checkpoint);
            if checkpoints.len() == 4 {
                break;
            }
        }
        let mut files = Vec::new();
        files_under(&path, &mut files);
        let files = files.into_iter().map(|file| (file.clone(), fs::read(file).expect("read"))).collect();
        Self { folder, files, checkpoints }
    }
}

#[test]
fn an_index_that_was_closed_just_now_is_opened() {
    let saved = Saved::new();
    let path = saved.path();
    for _ in 0..20 {
        let mut index = SledIndex::new(&path);
        assert_eq!(index.load().expect("loads").as_ref(), saved.checkpoints.last());
    }
}

/// Flips in a large file: at so many random places, or in every byte.
enum Flips {
    Some(usize),
    All,
}

impl Flips {
    fn of_environment() -> Self {
        match std::env::var("SYNAPSE_INDEX_FLIPS").as_deref() {
            Ok("all") => Self::All,
            Ok(number) => Self::Some(number.parse().expect("`all` or a number")),
            Err(_) => Self::Some(2_000),
        }
    }

    fn places(&self, bytes: &[u8]) -> Vec<usize> {
        // Beyond the last byte in use there are zeros only; sled allocates by the half megabyte.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        match self {
            Self::Some(number) if bytes.len() > *number => {
                let random = |below: usize| (getrandom::u64().expect("random numbers") % below as u64) as usize;
                let among_used = (0..number - number / 10).map(|_| random(used));
                among_used.chain((0..number / 10).map(|_| random(bytes.len()))).collect()
            }
            _ => (0..bytes.len()).collect(),
        }
    }
}

impl Saved {
    /// Puts the files back as they were saved, but for one byte.
    fn flip(&self, file: &Path, at: usize) {
        let path = self.path();
        fs::remove_dir_all(&path).expect("removed");
        for (other, bytes) in &self.files {
            fs::create_dir_all(other.parent().expect("it is in a folder")).expect("made");
            let mut bytes = bytes.clone();
            if other == file {
                bytes[at] ^= 1 << (at % 8);
            }
            fs::write(other, bytes).expect("written");
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("index")
    }

    /// Loads what is there: nothing, or a checkpoint that was saved once, whose number this answers.
    fn load(&self, index: &mut SledIndex, what: &str) -> Option<usize> {
        let found = index.load().unwrap_or_else(|error| panic!("{what}: {error}"))?;
        let known = self.checkpoints.iter().position(|saved| *saved == found);
        Some(known.unwrap_or_else(|| panic!("{what}: a checkpoint that nobody saved")))
    }
}

#[test]
fn a_flipped_byte_anywhere_gives_what_was_saved_once_or_nothing() {
    let saved = Saved::new();
    let flips = Flips::of_environment();
    let last = saved.checkpoints.last().expect("there are some");
    let mut outcomes = BTreeMap::new();
    for (file, bytes) in &saved.files {
        for at in flips.places(bytes) {
            let what = format!("byte {at} of {}", file.display());
            saved.flip(file, at);
            let mut index = SledIndex::new(&saved.path());
            let before = saved.load(&mut index, &what);
            // What an engine does next, and the start after it.
            let kept = index.save(last).is_ok();
            drop(index);
            let after = saved.load(&mut SledIndex::new(&saved.path()), &what);
            *outcomes.entry((before, kept, after)).or_insert(0) += 1;
        }
    }
    println!("checkpoint loaded, next one saved, loaded then: {outcomes:?}");
    assert!(outcomes.values().sum::<u32>() > 1_000);
}

fn files_under(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files_under(&path, out) } else { out.push(path) }
    }
}
