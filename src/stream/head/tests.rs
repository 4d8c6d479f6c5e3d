//! Trims planned from a window, beside the same worked out over all entries; whatever the window is made of.

use super::super::tests::stream;
use super::*;
use crate::format::record::{DeletedEntry, EntriesDeleted, Trimmed};
use crate::stream::NodeLimits;
use proptest::prelude::*;

const NODES: NodeLimits = NodeLimits { entries: 4, bytes: 0 };

/// A stream with everything that was ever appended to it.
struct Known {
    stream: Stream,
    entries: Vec<Piece>,
}

impl Known {
    fn new() -> Self {
        Self { stream: stream(), entries: Vec::new() }
    }

    fn append(&mut self, bytes: u32) -> Piece {
        let (id, ordinal) = (EntryId::new(self.stream.last.ms + 2, 0), self.stream.appended);
        let node_start = self.stream.apply_entry(id, bytes, NODES);
        let piece = Piece::entry(id, ordinal, bytes, node_start);
        self.entries.push(piece);
        piece
    }

    fn delete(&mut self, pick: usize) {
        let Some(entry) = self.entries.get(pick % self.entries.len().max(1)) else { return };
        let entries = vec![DeletedEntry { id: entry.first, bytes: entry.bytes }];
        self.stream.apply_deleted(&EntriesDeleted { stream: self.stream.number, entries });
    }

    fn existing(&self) -> impl Iterator<Item = &Piece> {
        self.entries.iter().filter(|entry| self.stream.exists(entry.first))
    }

    /// What is to stay first, what goes, by the rule's own words.
    fn naive(&self, rule: &TrimRule) -> (EntryId, u64, u64) {
        let (mut length, mut bytes) = (self.stream.length(), self.stream.bytes);
        let beyond = self.stream.last.next().unwrap();
        let (mut gone, mut first) = ((0, 0), beyond);
        for entry in self.existing() {
            if length <= rule.keep.entries && bytes <= rule.keep.bytes && entry.first >= rule.keep.from {
                first = entry.first;
                break;
            }
            (length, bytes) = (length - 1, bytes - u64::from(entry.bytes));
            gone = (gone.0 + 1, gone.1 + u64::from(entry.bytes));
        }
        let Some(max) = rule.nodes else { return (first, gone.0, gone.1) };
        // A node goes only with its last entry, also where that was deleted.
        let is_by_id = rule.keep.from > EntryId::ZERO;
        let from = self.entries.iter().map(|entry| entry.first).find(|id| is_by_id && *id >= rule.keep.from);
        let first = from.map_or(first, |from| from.max(self.stream.trimmed_before).min(first));
        let (mut best, mut passed) = ((EntryId::ZERO, 0, 0), (0, 0));
        let ends = self.entries.iter().filter(|e| e.node_start).map(|e| e.first).chain([beyond]);
        for end in ends.filter(|end| *end > self.stream.trimmed_before && *end <= first) {
            let below = self.existing().filter(|entry| entry.first < end);
            passed = below.fold((0, 0), |sum, entry| (sum.0 + 1, sum.1 + u64::from(entry.bytes)));
            if passed.0 <= max {
                best = (end, passed.0, passed.1);
            }
        }
        let _ = passed;
        best
    }

    /// What a reader finds from an id on, in pieces of so many entries up to another id; it ends after so many pieces.
    fn find(&self, from: EntryId, fine: EntryId, size: usize, pieces: usize) -> Found {
        let from_trim = from.max(self.stream.trimmed_before);
        let mut rest: Vec<Piece> = self.entries.iter().filter(|e| e.first >= from_trim).copied().collect();
        let mut found = Found { from, ..Found::default() };
        while !rest.is_empty() && found.pieces.len() < pieces {
            let size = if rest[0].first < fine { size.min(rest.len()) } else { 1 };
            let taken: Vec<Piece> = rest.drain(..size).collect();
            let (first, last) = (taken[0], taken[size - 1]);
            if size == 1 {
                found.pieces.push(first);
                continue;
            }
            let bytes = taken.iter().map(|piece| piece.bytes).sum();
            let (last, count, node_start) = (last.first, size as u32, false);
            found.pieces.push(Piece { last, count, bytes, node_start, detail: Detail::Blocks, ..first });
        }
        found.to = rest.first().map_or(self.stream.last.next().unwrap(), |next| next.first);
        found
    }

    /// Plans with a window, which is extended as often as it must be.
    fn plan(&self, head: &mut Head, rule: &TrimRule, size: usize, pieces: usize) -> Option<Cut> {
        for _ in 0..10_000 {
            match head.plan(&self.stream, rule, (0, 0)) {
                Planned::Done { cut, short } => {
                    assert!(!short, "nothing is damaged");
                    return cut;
                }
                Planned::More(from, detail) => {
                    head.leave_from(from);
                    let fine = if detail == Detail::Entry { from } else { EntryId::MAX };
                    let found = self.find(from, fine, size, pieces);
                    let beyond = self.stream.last.next().unwrap();
                    let tail = (found.to == beyond).then_some((beyond, &[][..]));
                    assert!(head.extend(&self.stream, &found, tail), "each time it knows more");
                }
            }
        }
        panic!("it comes to no end");
    }

    fn apply(&mut self, head: &mut Head, cut: &Cut) {
        let Cut { before, ordinal, bytes, .. } = *cut;
        self.stream.apply_trim(&Trimmed { stream: self.stream.number, before, ordinal, bytes });
        head.forget_below(&self.stream);
    }
}

fn exact(entries: u64) -> TrimRule {
    TrimRule { keep: Keep { entries, ..Keep::ALL }, nodes: None }
}

#[derive(Clone, Debug)]
enum Step {
    Append(u32),
    Delete(usize),
    Trim { rule: u8, amount: u64, nodes: Option<u64> },
    Shorten(usize),
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..30u32).prop_map(Step::Append),
        3 => any::<usize>().prop_map(Step::Delete),
        5 => (0..3u8, 0..60u64, prop::option::of(0..30u64))
            .prop_map(|(rule, amount, nodes)| Step::Trim { rule, amount, nodes }),
        1 => (0..10usize).prop_map(Step::Shorten),
        1 => Just(Step::Forget),
    ]
}

proptest! {
    #[test]
    fn a_window_tells_what_all_entries_tell(
        steps in prop::collection::vec(step(), 1..120), size in 1..9usize, pieces in 1..12usize,
    ) {
        let mut known = Known::new();
        let mut head = Head::of(&known.stream);
        for step in steps {
            match step {
                Step::Append(bytes) => {
                    let piece = known.append(bytes);
                    head.push(piece);
                }
                Step::Delete(pick) => known.delete(pick),
                Step::Shorten(pieces) => head.shorten(pieces),
                Step::Forget => head = Head::of(&known.stream),
                Step::Trim { rule, amount, nodes } => {
                    let keep = match rule {
                        0 => Keep { entries: amount, ..Keep::ALL },
                        1 => Keep { bytes: amount * 10, ..Keep::ALL },
                        _ => Keep { from: EntryId::new(amount * 3, 0), ..Keep::ALL },
                    };
                    let rule = TrimRule { keep, nodes };
                    let (first, entries, bytes) = known.naive(&rule);
                    let cut = known.plan(&mut head, &rule, size, pieces);
                    prop_assert_eq!(cut.map_or((0, 0), |cut| (cut.entries, cut.bytes)), (entries, bytes));
                    if let Some(cut) = cut {
                        let below = known.entries.iter().filter(|e| e.first < cut.before).count() as u64;
                        prop_assert_eq!(cut.ordinal, below);
                        let kept = known.existing().find(|entry| entry.first >= cut.before);
                        let wanted = known.existing().find(|entry| entry.first >= first);
                        prop_assert_eq!(kept, wanted);
                        known.apply(&mut head, &cut);
                    }
                }
            }
        }
        let (length, bytes) = (known.existing().count() as u64, known.existing().map(|e| u64::from(e.bytes)).sum::<u64>());
        prop_assert_eq!((known.stream.length(), known.stream.bytes), (length, bytes));
    }
}

#[test]
fn a_window_that_reaches_the_end_needs_no_reader() {
    let mut known = Known::new();
    let mut head = Head::of(&known.stream);
    for n in 0..100 {
        let piece = known.append(n);
        head.push(piece);
        match head.plan(&known.stream, &exact(10), (0, 0)) {
            Planned::Done { cut: Some(cut), short: false } => known.apply(&mut head, &cut),
            planned => assert_eq!(planned, Planned::Done { cut: None, short: false }),
        }
        assert!(known.stream.length() <= 10 && head.len() <= 10);
    }
}

#[test]
fn damage_at_the_head_keeps_more_and_goes_as_a_whole() {
    let mut known = Known::new();
    for _ in 0..20 {
        known.append(5);
    }
    let mut found = known.find(EntryId::ZERO, EntryId::new(9, 0), 8, 100);
    assert_eq!(found.pieces[0].count, 8);
    found.pieces[0].damaged = true;
    let mut head = Head::of(&known.stream);
    assert!(head.extend(&known.stream, &found, Some((found.to, &[][..]))));
    let short = Planned::Done { cut: None, short: true };
    assert_eq!(head.plan(&known.stream, &exact(13), (0, 0)), short);
    let Planned::Done { cut: Some(cut), short: false } = head.plan(&known.stream, &exact(12), (0, 0)) else {
        panic!("the damaged entries go together")
    };
    assert_eq!((cut.entries, cut.bytes, cut.ordinal), (8, 40, 8));
}

#[test]
fn what_was_found_late_is_taken_as_far_as_it_follows() {
    let mut known = Known::new();
    for _ in 0..40 {
        known.append(1);
    }
    let late = known.find(EntryId::ZERO, EntryId::ZERO, 1, 20);
    let mut head = Head::of(&known.stream);
    assert!(head.extend(&known.stream, &late, None));
    let Planned::Done { cut: Some(cut), .. } = head.plan(&known.stream, &exact(30), (0, 0)) else {
        panic!("it reaches")
    };
    known.apply(&mut head, &cut);
    assert_eq!(head.len(), 10);
    assert!(!head.extend(&known.stream, &late, None), "nothing of it is new");
    let gap = known.find(EntryId::new(70, 0), EntryId::ZERO, 1, 20);
    assert!(!head.extend(&known.stream, &gap, None), "what is between is not known");
    assert_eq!(head.len(), 10);
}
