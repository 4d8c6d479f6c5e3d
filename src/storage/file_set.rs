//! Which files make up the log: the segments that were not given up, and the rewritten files that stand for others.
//!
//! It is part of the state: a [`FilesReplaced`] effect changes it, checkpoints and snapshots carry it. Every byte of the
//! log lies in exactly one segment; a segment is in use unless its stretch is among those given up.

use std::collections::BTreeMap;

use super::FileId;
use crate::format::record::{FilesReplaced, RewrittenFile};
use crate::format::state::{Row, Rows, list_rows};
use crate::types::LogPosition;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSet {
    /// Stretches given up: from, to; they neither touch nor overlap.
    gone: BTreeMap<LogPosition, LogPosition>,
    /// The rewritten files by number.
    rewritten: BTreeMap<u64, RewrittenFile>,
}

impl FileSet {
    /// Takes a change.
    pub fn apply(&mut self, change: &FilesReplaced) {
        for (from, to) in &change.gone {
            self.give_up(*from, *to);
        }
        for number in &change.removed {
            self.rewritten.remove(number);
        }
        self.rewritten.extend(change.added.iter().map(|file| (file.number, *file)));
    }

    fn give_up(&mut self, mut from: LogPosition, mut to: LogPosition) {
        if let Some((start, end)) = self.gone.range(..=from).next_back().map(|(s, e)| (*s, *e))
            && end >= from
        {
            (from, to) = (start, to.max(end));
        }
        while let Some((start, end)) = self.gone.range(from..=to).next().map(|(s, e)| (*s, *e)) {
            self.gone.remove(&start);
            to = to.max(end);
        }
        self.gone.insert(from, to);
    }

    /// The end of the stretch given up in which this position lies.
    pub fn gone_until(&self, position: LogPosition) -> Option<LogPosition> {
        let (_, to) = self.gone.range(..=position).next_back()?;
        (*to > position).then_some(*to)
    }

    /// Whether a file is one of them.
    pub fn contains(&self, file: FileId) -> bool {
        match file.number() {
            Some(number) => self.rewritten.contains_key(&number),
            None => self.gone_until(LogPosition(file.0)).is_none(),
        }
    }

    /// The stretch of the log that a rewritten file of the set stands for.
    pub fn stretch(&self, file: FileId) -> Option<(LogPosition, LogPosition)> {
        let file = self.rewritten.get(&file.number()?)?;
        Some((file.from, file.to))
    }

    /// The rewritten files, in the order of their numbers.
    pub fn rewritten(&self) -> impl Iterator<Item = &RewrittenFile> {
        self.rewritten.values()
    }

    /// Hands on its rows.
    pub fn rows(&self, rows: Rows<'_>) {
        list_rows(0, self.gone.iter().map(|(from, to)| (*from, *to)), rows, Row::Gone);
        list_rows(0, self.rewritten.values().copied(), rows, Row::Rewritten);
    }

    /// Takes one of its rows; `false` for a row that is none.
    pub fn restore(&mut self, row: Row) -> bool {
        match row {
            Row::Gone(stretches) => stretches.into_iter().for_each(|(from, to)| self.give_up(from, to)),
            Row::Rewritten(files) => self.rewritten.extend(files.into_iter().map(|file| (file.number, file))),
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(set: &FileSet) -> Vec<(u64, u64)> {
        set.gone.iter().map(|(from, to)| (from.0, to.0)).collect()
    }

    #[test]
    fn neighbouring_stretches_become_one() {
        let mut set = FileSet::default();
        for (from, to) in [(30, 40), (10, 20), (50, 60), (20, 30), (0, 5)] {
            set.give_up(LogPosition(from), LogPosition(to));
        }
        assert_eq!(gone(&set), [(0, 5), (10, 40), (50, 60)]);
        set.give_up(LogPosition(5), LogPosition(50));
        assert_eq!(gone(&set), [(0, 60)]);
        assert_eq!(set.gone_until(LogPosition(59)), Some(LogPosition(60)));
        assert_eq!(set.gone_until(LogPosition(60)), None);
        assert!(set.contains(FileId(60)) && !set.contains(FileId(30)));
    }

    #[test]
    fn rows_give_the_set_back() {
        let added: Vec<RewrittenFile> = (0..300)
            .map(|n| RewrittenFile { number: n, from: LogPosition(n * 10), to: LogPosition(n * 10 + 5) })
            .collect();
        let spans = added.iter().map(|file| (file.from, file.to)).collect();
        let mut set = FileSet::default();
        set.apply(&FilesReplaced { gone: spans, removed: Vec::new(), added });
        set.apply(&FilesReplaced { removed: vec![3], ..FilesReplaced::default() });
        let mut back = FileSet::default();
        set.rows(&mut |_, row| assert!(back.restore(row)));
        assert_eq!(back, set);
        assert!(!back.contains(FileId::rewritten(3)) && back.contains(FileId::rewritten(4)));
    }
}
