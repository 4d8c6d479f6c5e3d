//! Rules of ids, trims, deletes and deduplication.

use super::*;
use crate::format::record::DeletedEntry;
use crate::types::ProducerId;

pub(super) fn stream() -> Stream {
    Stream::create(&StreamCreated {
        stream: StreamNumber(1),
        name: StreamName::parse("s").expect("valid"),
        settings: StreamSettings::default(),
        created_ms: 0,
    })
}

fn at(wall_ms: u64) -> Now {
    Now { wall_ms, engine_ms: wall_ms }
}

fn append(stream: &mut Stream, request: IdRequest, wall_ms: u64) -> Result<EntryId> {
    let run = stream.plan_ids(request, 1, at(wall_ms))?;
    stream.apply_entry(run.first, 10, NodeLimits { entries: 100, bytes: 4096 });
    Ok(run.first)
}

#[test]
fn ids_rise_whatever_the_clock_does() {
    let mut s = stream();
    let got: Vec<_> = [5, 5, 3, 6].map(|ms| append(&mut s, IdRequest::Auto, ms).expect("auto")).into();
    assert_eq!(got, [(5, 0), (5, 1), (5, 2), (6, 0)].map(|(ms, seq)| EntryId::new(ms, seq)));
}

#[test]
fn asked_for_ids_follow_the_rules() {
    let mut s = stream();
    assert_eq!(append(&mut s, IdRequest::Exact(EntryId::ZERO), 1).expect_err("0-0").reason(), Reason::IdNotGreater);
    assert_eq!(append(&mut s, IdRequest::AutoSeq(0), 1).expect("0-1"), EntryId::new(0, 1));
    append(&mut s, IdRequest::Exact(EntryId::new(7, 7)), 1).expect("greater");
    assert_eq!(append(&mut s, IdRequest::AutoSeq(7), 1).expect("7-8"), EntryId::new(7, 8));
    assert_eq!(append(&mut s, IdRequest::AutoSeq(6), 1).expect_err("smaller").reason(), Reason::IdNotGreater);
    append(&mut s, IdRequest::Exact(EntryId::new(8, u64::MAX)), 1).expect("greater");
    assert_eq!(append(&mut s, IdRequest::AutoSeq(8), 1).expect_err("never carries").reason(), Reason::IdNotGreater);
    assert_eq!(append(&mut s, IdRequest::Auto, 1).expect("carries"), EntryId::new(9, 0));
    append(&mut s, IdRequest::Exact(EntryId::MAX), 1).expect("greater");
    assert_eq!(append(&mut s, IdRequest::Auto, 1).expect_err("used up").reason(), Reason::IdsExhausted);
}

#[test]
fn one_request_has_ids_of_one_millisecond() {
    let mut s = stream();
    append(&mut s, IdRequest::Exact(EntryId::new(5, u64::MAX - 1)), 1).expect("greater");
    let run = s.plan_ids(IdRequest::Auto, 3, at(1)).expect("next millisecond");
    assert_eq!(run.first, EntryId::new(6, 0));
}

#[test]
fn lengths_and_lags_are_exact() {
    let mut s = stream();
    for ms in 1..=10 {
        append(&mut s, IdRequest::Auto, ms).expect("auto");
    }
    let id = |ms| EntryId::new(ms, 0);
    s.apply_deleted(&EntriesDeleted {
        stream: s.number,
        entries: [2, 7, 9].map(|ms| DeletedEntry { id: id(ms), bytes: 10 }).into(),
    });
    assert_eq!((s.length(), s.bytes), (7, 70));
    assert_eq!(s.entries_after(id(5), 5), 3);
    s.apply_trim(&Trimmed { stream: s.number, before: id(4), ordinal: 3, bytes: 20 });
    assert_eq!((s.length(), s.bytes, s.deleted.len()), (5, 50, 2));
    assert_eq!(s.entries_after(id(1), 1), 5, "what was trimmed is no lag");
    assert_eq!(s.entries_after(id(10), 10), 0);
    s.apply_trim(&Trimmed { stream: s.number, before: id(2), ordinal: 1, bytes: 99 });
    assert_eq!(s.length(), 5, "a trim never goes back");
}

#[test]
fn producers_are_remembered_within_bounds() {
    let mut s = stream();
    let producer = ProducerId::parse("p").expect("valid");
    let record = |sequence: u64, at_ms: u64| RequestRemembered {
        stream: StreamNumber(1),
        producer: ProducerId::parse("p").expect("valid"),
        sequence,
        hash: u128::from(sequence),
        entries: IdRun { first: EntryId::new(sequence, 0), count: 1 },
        at_ms,
    };
    for sequence in 1..=7 {
        s.apply_request(&record(sequence, sequence));
    }
    let settings = s.settings.dedup.clone();
    let find = |s: &Stream, sequence, hash, now| s.dedup.find_request(&producer, sequence, hash, &settings, now);
    assert_eq!(find(&s, 7, 7, 8).expect("ok").expect("remembered").entries.first, EntryId::new(7, 0));
    assert!(find(&s, 8, 8, 8).expect("ok").is_none());
    assert_eq!(find(&s, 7, 99, 8).expect_err("other contents").reason(), Reason::DuplicateMismatch);
    assert_eq!(find(&s, 1, 1, 8).expect_err("older than five").reason(), Reason::ProducerSequenceOld);
    assert!(find(&s, 7, 7, 8 + settings.window_ms).expect("ok").is_none(), "the window is over");
}
