//! Space as who pays for the disk sees it: allocated blocks, of files in a folder and of removed ones that a process
//! still has open.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What the system adds to the name of an open file that was removed.
const REMOVED: &str = " (deleted)";
/// Bytes of one of the blocks that files are counted in.
const BLOCK_BYTES: u64 = 512;

/// Bytes allocated to the files under a folder, and to those that were removed from it and that this process has open.
pub(crate) fn space_held(folder: &Path, pid: u32) -> u64 {
    let mut files = HashMap::new();
    // First: what is removed in between is counted once then, and not twice.
    for (_, found) in removed_open(pid).filter(|(path, _)| path.starts_with(folder)) {
        note(&mut files, &found);
    }
    walk(folder, &mut files);
    files.values().sum()
}

/// Removed files under a folder that a process has open.
pub(crate) fn removed_held(folder: &Path, pid: u32) -> Vec<PathBuf> {
    let mut held: Vec<PathBuf> = removed_open(pid).map(|(path, _)| path).collect();
    held.retain(|path| path.starts_with(folder));
    held
}

/// Removed files that a process has open.
fn removed_open(pid: u32) -> impl Iterator<Item = (PathBuf, Metadata)> {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs");
    descriptors.flatten().filter_map(|descriptor| {
        // One that was closed meanwhile is not held.
        let (target, found) = (std::fs::read_link(descriptor.path()).ok()?, std::fs::metadata(descriptor.path()).ok()?);
        Some((target.to_str()?.strip_suffix(REMOVED)?.into(), found))
    })
}

fn walk(folder: &Path, files: &mut HashMap<(u64, u64), u64>) {
    // What is removed meanwhile is not there.
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        match entry.metadata() {
            Ok(found) if found.is_dir() => walk(&entry.path(), files),
            Ok(found) => note(files, &found),
            Err(_) => {}
        }
    }
}

/// Counts a file, once.
fn note(files: &mut HashMap<(u64, u64), u64>, found: &Metadata) {
    files.insert((found.dev(), found.ino()), found.blocks() * BLOCK_BYTES);
}
