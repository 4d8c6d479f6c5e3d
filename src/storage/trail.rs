//! What the log leaves in the system's page cache: the last stretch that it wrote, and no more.
//!
//! Readers of the tail have the block cache. Without a bound, every byte ever written would push something else out of
//! memory, and each page of it would have to be found fresh, which on virtual machines that give free memory back costs
//! more than everything else about the write.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::files::LogFile;
use crate::format::block::FileId;

/// Bytes behind the end of the log that stay in the page cache.
const KEPT_BYTES: u64 = 64 << 20;
/// Files that are kept open for that: where they are small, descriptors are what is short.
const FILES_MAX: usize = 4;
/// Bytes let go at a time: pages that were just written are still on lists that the system would have to empty first.
const STEP_BYTES: u64 = 1 << 20;

struct Stretch {
    id: FileId,
    file: Arc<dyn LogFile>,
    from: u64,
    to: u64,
}

/// The synced stretches of the log that may be in the page cache. It holds their files open until one is removed.
#[derive(Default)]
pub(super) struct Trail(Mutex<Stretches>);

/// Oldest first.
#[derive(Default)]
struct Stretches {
    stretches: VecDeque<Stretch>,
    bytes: u64,
    files: usize,
}

impl Trail {
    /// Notes that a file is synced up to an offset, and lets go of what lies too far back.
    pub(super) fn synced(&self, id: FileId, file: &Arc<dyn LogFile>, to: u64) {
        self.0.lock().synced(id, file, to);
    }

    /// Closes a file that was removed: what it has in the page cache goes with it.
    pub(super) fn forget(&self, id: FileId) {
        self.0.lock().forget(id);
    }
}

impl Stretches {
    fn synced(&mut self, id: FileId, file: &Arc<dyn LogFile>, to: u64) {
        let from = match self.stretches.back_mut() {
            Some(last) if last.id == id && last.to - last.from < STEP_BYTES => {
                self.bytes += to - last.to;
                last.to = to;
                return;
            }
            Some(last) if last.id == id => last.to,
            _ => 0,
        };
        self.bytes += to - from;
        self.files += usize::from(from == 0);
        self.stretches.push_back(Stretch { id, file: Arc::clone(file), from, to });
        while self.bytes > KEPT_BYTES || self.files > FILES_MAX {
            self.let_go();
        }
    }

    /// Lets go of the oldest stretch.
    fn let_go(&mut self) {
        let Some(Stretch { id, file, from, to }) = self.stretches.pop_front() else { return };
        file.uncache(from, to - from);
        self.bytes -= to - from;
        let is_last = self.stretches.front().is_none_or(|next| next.id != id);
        self.files -= usize::from(is_last);
    }

    fn forget(&mut self, id: FileId) {
        let before = self.stretches.len();
        self.stretches.retain(|stretch| stretch.id != id);
        self.bytes = self.stretches.iter().map(|stretch| stretch.to - stretch.from).sum();
        self.files -= usize::from(self.stretches.len() < before);
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Default)]
    struct Noted(Mutex<Vec<(u64, u64)>>);

    impl LogFile for Noted {
        fn write_at(&self, _: &[&[u8]], _: u64) -> io::Result<()> {
            Ok(())
        }
        fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
            Ok(0)
        }
        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
        fn length(&self) -> io::Result<u64> {
            Ok(0)
        }
        fn truncate(&self, _: u64) -> io::Result<()> {
            Ok(())
        }
        fn uncache(&self, offset: u64, length: u64) {
            self.0.lock().push((offset, length));
        }
    }

    #[test]
    fn no_more_files_are_held_than_may_be() {
        let trail = Trail::default();
        let files: Vec<Arc<Noted>> = (0..20).map(|_| Arc::default()).collect();
        for (noted, id) in files.iter().zip(0..) {
            let file: Arc<dyn LogFile> = Arc::clone(noted) as _;
            (1..=3).for_each(|step| trail.synced(FileId(id), &file, step * STEP_BYTES));
        }
        let held = || files.iter().filter(|noted| Arc::strong_count(noted) > 1).count();
        assert_eq!((held(), trail.0.lock().files), (FILES_MAX, FILES_MAX));
        assert_eq!(*files[15].0.lock(), [(0, STEP_BYTES), (STEP_BYTES, STEP_BYTES), (2 * STEP_BYTES, STEP_BYTES)]);
        // Removed ones are held no longer, wherever they stand.
        for (gone, left) in [(17, 3), (17, 3), (19, 2), (16, 1)] {
            trail.forget(FileId(gone));
            let (files, bytes) = {
                let kept = trail.0.lock();
                (kept.files, kept.bytes)
            };
            assert_eq!((held(), files, bytes), (left, left, left as u64 * 3 * STEP_BYTES));
        }
    }

    #[test]
    fn what_lies_too_far_back_is_let_go_once_and_without_gaps() {
        let trail = Trail::default();
        let files: Vec<Arc<Noted>> = (0..3).map(|_| Arc::default()).collect();
        for (noted, id) in files.iter().zip(0..) {
            let file: Arc<dyn LogFile> = Arc::clone(noted) as _;
            for step in 1..=1000 {
                trail.synced(FileId(id), &file, step * 50_000);
                assert!(trail.0.lock().bytes <= KEPT_BYTES + STEP_BYTES);
            }
        }
        let gone: Vec<Vec<(u64, u64)>> = files.iter().map(|noted| noted.0.lock().clone()).collect();
        for of_file in &gone {
            assert!(of_file.windows(2).all(|pair| pair[0].0 + pair[0].1 == pair[1].0), "{of_file:?}");
            assert!(of_file.first().is_none_or(|(offset, _)| *offset == 0));
        }
        let bytes: Vec<u64> = gone.iter().map(|of_file| of_file.iter().map(|(_, length)| length).sum()).collect();
        assert_eq!((bytes[0], bytes[2]), (50_000_000, 0));
        assert_eq!(bytes.iter().sum::<u64>() + trail.0.lock().bytes, 150_000_000);
    }
}
