//! Checks of data directories that nobody has open: sound ones, damaged ones, and ones that are not to be had.

use std::fs;
use std::path::Path;

use synapse::error::Reason;
use synapse::format::index::DIRECTORY_ENTRY_BYTES;
use synapse::format::segment::{FORMAT_VERSION, SEGMENT_FOOTER_BYTES};
use synapse::storage::{Checked, Finding, Store, Verifier, VerifyReport};

use crate::damage::Segment;
use crate::fixture::{copy_folder, folder_of};
use crate::sweep::{Pristine, check};

/// What a check of this directory tells, and the bytes that it says it has behind it.
fn verified(path: &Path) -> (VerifyReport, Vec<Finding>, Vec<u64>) {
    let (mut told, mut bytes) = (Vec::new(), Vec::new());
    let verifier = Verifier::open(path).expect("nobody has it open");
    bytes.push(verifier.bytes());
    let report = verifier.run(&mut |checked| match checked {
        Checked::Found(finding) => told.push(finding),
        Checked::Bytes(n) => bytes.push(n),
    });
    (report.expect("is checked"), told, bytes)
}

fn files_of(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path).expect("listed") {
        let path = entry.expect("listed").path();
        if path.is_dir() {
            files.extend(files_of(&path));
        } else {
            files.push((path.display().to_string(), fs::read(&path).expect("read")));
        }
    }
    files.sort();
    files
}

#[test]
fn a_sound_store_has_no_flaws() {
    let store = Pristine::new();
    let mut told = Vec::new();
    let report = check(&store.folder, &mut told).expect("is checked");
    assert_eq!((report.flaws, report.notes, told), (0, 0, Vec::new()));
    assert!(report.segments >= 3 && report.blocks > 50 && report.entries > report.blocks, "{report:?}");
}

#[test]
fn each_damage_to_a_sealed_file_is_told_once_and_at_its_place() {
    let store = Pristine::new();
    let (name, bytes) = store.folder.iter().next().expect("there are files");
    let segment = Segment::read(name, bytes).expect("a segment");
    let footer = segment.footer.expect("it is sealed");
    let (index, parts) = (footer.index_offset as usize, footer.streams as usize * DIRECTORY_ENTRY_BYTES);
    let footer_at = bytes.len() - SEGMENT_FOOTER_BYTES;
    let mut cases = vec![
        (70, 0, "header is damaged"),
        (index + 3, index, "index's entry of stream number 1 is damaged"),
        (index + parts + 3, index + parts, "index's blocks of stream number 1 are damaged"),
        (footer_at - 5, footer_at - 5, "zeros between the index and the footer"),
        (footer_at + 9, footer_at, "footer is damaged"),
    ];
    // A frame in the middle: its head, and then each of its records.
    for frame in &segment.frames[segment.frames.len() / 2..][..12] {
        cases.push((frame.offset + 20, frame.offset, "no valid frame"));
        let mut at = frame.offset + frame.sizes.head;
        for record in &frame.head.records {
            let what = if record.block.is_some() { "the stored bytes" } else { "does not match its checksum" };
            cases.push((at + 1, at, what));
            at += record.length as usize;
        }
        if at < frame.offset + frame.sizes.total {
            cases.push((at, at, "zeros after the frame's last record"));
        }
    }
    for (flipped, offset, what) in cases {
        let mut folder = store.folder.clone();
        folder.get_mut(name).expect("it is there")[flipped] ^= 1;
        let mut told = Vec::new();
        check(&folder, &mut told).expect("is checked");
        let place = (told.len(), told[0].file.as_str(), told[0].offset, told[0].is_flaw);
        assert_eq!(place, (1, format!("log/{name}").as_str(), offset as u64, true), "{what}: {told:?}");
        assert!(told[0].message.contains(what), "{what}: {told:?}");
    }
}

#[test]
fn damaged_entries_are_told_by_stream_and_ids() {
    let store = Pristine::new();
    let (name, bytes) = store.folder.iter().next().expect("there are files");
    let segment = Segment::read(name, bytes).expect("a segment");
    let mut blocks = 0;
    for frame in &segment.frames {
        let mut at = frame.offset + frame.sizes.head;
        for record in &frame.head.records {
            if let Some(block) = record.block {
                let mut folder = store.folder.clone();
                folder.get_mut(name).expect("it is there")[at] ^= 1;
                let mut told = Vec::new();
                check(&folder, &mut told).expect("is checked");
                let affected = told[0].affected.clone().expect("a block");
                assert_eq!((affected.stream, affected.entries), (block.stream, block.count));
                assert_eq!((affected.first, affected.last), (block.first, block.last));
                assert!(
                    affected.name.is_some_and(|name| ["orders", "logs", "emptied", "rows"].contains(&name.as_str()))
                );
                blocks += 1;
            }
            at += record.length as usize;
        }
    }
    assert!(blocks > 20, "too few blocks");
}

#[test]
fn a_missing_file_is_told_and_the_others_are_checked() {
    let store = Pristine::new();
    let mut folder = store.folder.clone();
    let (gone, _) = folder.pop_first().expect("there are files");
    let mut told = Vec::new();
    let report = check(&folder, &mut told).expect("is checked");
    assert_eq!((report.flaws, told.len()), (1, 1), "{gone}: {told:?}");
    assert!(told[0].message.contains("the log lacks positions 0 to"), "{told:?}");
    assert!(report.entries > 0);
}

#[test]
fn stores_of_every_format_version_are_checked_and_left_as_they_are() {
    for version in 1..=FORMAT_VERSION {
        let copy = tempfile::tempdir().expect("a temporary folder");
        copy_folder(&folder_of(version).join("data"), copy.path());
        let before = files_of(copy.path());
        let (report, told, bytes) = verified(copy.path());
        assert_eq!((report.flaws, told), (0, Vec::new()));
        assert!(report.entries > 0 && bytes[1..].is_sorted() && bytes.last() == bytes.first(), "{report:?} {bytes:?}");
        assert_eq!(files_of(copy.path()), before);
    }
}

#[test]
fn damage_to_what_names_the_store_is_told_and_the_rest_is_checked() {
    let copy = tempfile::tempdir().expect("a temporary folder");
    copy_folder(&folder_of(1).join("data"), copy.path());
    let path = copy.path().join("STORE");
    let mut bytes = fs::read(&path).expect("read");
    bytes[20] ^= 1;
    fs::write(&path, bytes).expect("written");
    let (report, told, _) = verified(copy.path());
    assert_eq!((report.flaws, told[0].file.as_str()), (1, "STORE"));
    assert!(report.entries > 0);
    fs::remove_dir_all(copy.path().join("log")).expect("removed");
    assert_eq!(verified(copy.path()).0.flaws, 1, "whether there was a log cannot be told");
}

#[test]
fn a_lost_log_is_told() {
    let copy = tempfile::tempdir().expect("a temporary folder");
    copy_folder(&folder_of(1).join("data"), copy.path());
    fs::remove_dir_all(copy.path().join("log")).expect("removed");
    let (report, told, _) = verified(copy.path());
    assert_eq!((report.flaws, told[0].message.as_str()), (1, "there are no files of the log; there were some"));
}

#[test]
fn kept_and_foreign_files_are_told() {
    let copy = tempfile::tempdir().expect("a temporary folder");
    copy_folder(&folder_of(1).join("data"), copy.path());
    let log = copy.path().join("log");
    let sum = crc32c::crc32c(b"torn");
    let sound = format!("cut-{:020}-{sum:08x}", 5);
    fs::write(log.join(&sound), b"torn").expect("written");
    fs::write(log.join("notes.txt"), b"x").expect("written");
    let (report, told, _) = verified(copy.path());
    assert_eq!((report.flaws, report.notes), (0, 2));
    assert!(told[0].message.starts_with("4 bytes that an earlier start cut off"), "{told:?}");
    fs::write(log.join(&sound), b"tarn").expect("written");
    assert_eq!(verified(copy.path()).0.flaws, 1);
}

#[test]
fn what_is_in_use_or_no_store_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let refused = |path: &Path| Verifier::open(path).err().map(|error| error.reason());
    assert_eq!(refused(folder.path()), Some(Reason::DataDirectory));
    assert_eq!(files_of(folder.path()), [], "nothing is made");
    assert_eq!(refused(&folder.path().join("nowhere")), Some(Reason::DataDirectory));
    let store = Store::open(folder.path(), 5, &mut || 7).expect("an empty folder opens");
    assert_eq!(refused(folder.path()), Some(Reason::DataDirectory));
    drop(store);
    let held = Verifier::open(folder.path()).expect("nobody has it open");
    assert!(Store::open(folder.path(), 5, &mut || 7).is_err(), "a check holds the directory");
    assert_eq!(held.run(&mut |_| ()).expect("is checked").flaws, 0, "a store that never began its log");
}
