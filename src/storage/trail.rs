//! What the log leaves in the system's page cache: the last stretch that it wrote, and no more.
//!
//! Readers of the tail have the block cache. Without a bound, every byte ever written would push something else out of
//! memory, and each page of it would have to be found fresh, which on virtual machines that give free memory back costs
//! more than everything else about the write.

use std::collections::VecDeque;
use std::sync::Arc;

use super::files::LogFile;

/// Bytes behind the end of the log that stay in the page cache.
const KEPT_BYTES: u64 = 64 << 20;
/// Files that are kept open for that: where they are small, descriptors are what is short.
const FILES_MAX: usize = 4;
/// Bytes let go at a time: pages that were just written are still on lists that the system would have to empty first.
const STEP_BYTES: u64 = 1 << 20;

struct Stretch {
    file: Arc<dyn LogFile>,
    from: u64,
    to: u64,
}

/// The synced stretches of the log that may be in the page cache, oldest first.
#[derive(Default)]
pub(super) struct Trail {
    stretches: VecDeque<Stretch>,
    bytes: u64,
    files: usize,
}

impl Trail {
    /// Notes that a file is synced up to an offset, and lets go of what lies too far back.
    pub(super) fn synced(&mut self, file: &Arc<dyn LogFile>, to: u64) {
        let from = match self.stretches.back_mut() {
            Some(last) if Arc::ptr_eq(&last.file, file) && last.to - last.from < STEP_BYTES => {
                self.bytes += to - last.to;
                last.to = to;
                return;
            }
            Some(last) if Arc::ptr_eq(&last.file, file) => last.to,
            _ => 0,
        };
        self.bytes += to - from;
        self.files += usize::from(from == 0);
        self.stretches.push_back(Stretch { file: Arc::clone(file), from, to });
        while self.bytes > KEPT_BYTES || self.files > FILES_MAX {
            self.let_go();
        }
    }

    /// Lets go of the oldest stretch.
    fn let_go(&mut self) {
        let Some(Stretch { file, from, to }) = self.stretches.pop_front() else { return };
        file.uncache(from, to - from);
        self.bytes -= to - from;
        let is_last = self.stretches.front().is_none_or(|next| !Arc::ptr_eq(&next.file, &file));
        self.files -= usize::from(is_last);
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use parking_lot::Mutex;

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
        let mut trail = Trail::default();
        let files: Vec<Arc<Noted>> = (0..20).map(|_| Arc::default()).collect();
        for noted in &files {
            let file: Arc<dyn LogFile> = Arc::clone(noted) as _;
            (1..=3).for_each(|step| trail.synced(&file, step * STEP_BYTES));
        }
        let held = files.iter().filter(|noted| Arc::strong_count(noted) > 1).count();
        assert_eq!((held, trail.files), (FILES_MAX, FILES_MAX));
        assert_eq!(*files[15].0.lock(), [(0, STEP_BYTES), (STEP_BYTES, STEP_BYTES), (2 * STEP_BYTES, STEP_BYTES)]);
    }

    #[test]
    fn what_lies_too_far_back_is_let_go_once_and_without_gaps() {
        let mut trail = Trail::default();
        let files: Vec<Arc<Noted>> = (0..3).map(|_| Arc::default()).collect();
        for noted in &files {
            let file: Arc<dyn LogFile> = Arc::clone(noted) as _;
            for step in 1..=1000 {
                trail.synced(&file, step * 50_000);
                assert!(trail.bytes <= KEPT_BYTES + STEP_BYTES);
            }
        }
        let gone: Vec<Vec<(u64, u64)>> = files.iter().map(|noted| noted.0.lock().clone()).collect();
        for of_file in &gone {
            assert!(of_file.windows(2).all(|pair| pair[0].0 + pair[0].1 == pair[1].0), "{of_file:?}");
            assert!(of_file.first().is_none_or(|(offset, _)| *offset == 0));
        }
        let bytes: Vec<u64> = gone.iter().map(|of_file| of_file.iter().map(|(_, length)| length).sum()).collect();
        assert_eq!((bytes[0], bytes[2]), (50_000_000, 0));
        assert_eq!(bytes.iter().sum::<u64>() + trail.bytes, 150_000_000);
    }
}
