//! Streams: publish, read, tail, trim, delete, deduplicate, over restarts.

use synapse::clock::{Clock, SystemClock};
use synapse::engine::{
    Expected, ExpireAt, Gap, Gathered, ProducerSequence, Publish, Published, Read, SetExpiry, SetLastId, Tail,
    TailFrom, Trim, TrimTo,
};
use synapse::error::{Error, Reason};
use synapse::format::event::Event;
use synapse::types::{EntryId, IdRange, IdRequest, ProducerId, StreamSettings};

use crate::{Fixture, event, events, stream, wait};

fn read_all(fixture: &Fixture, name: &str) -> Vec<(EntryId, Vec<u8>)> {
    let mut out = Vec::new();
    let mut first = EntryId::ZERO;
    loop {
        let range = IdRange { first, last: EntryId::MAX };
        let page = wait(fixture.engine.read(Read { range, entries_max: 7, ..Read::all(stream(name)) })).expect("reads");
        out.extend(page.entries.iter().map(|e| (e.id, e.bytes.to_vec())));
        match page.next {
            Some(next) => first = next,
            None => return out,
        }
    }
}

#[test]
fn what_is_published_is_read_in_order_also_after_a_restart() {
    let mut fixture = Fixture::new();
    let mut want = Vec::new();
    for round in 0..50 {
        let published = wait(fixture.engine.publish(events("s", round * 100..round * 100 + 100))).expect("publishes");
        assert_eq!(published.count, 100);
        want.extend(published.ids().into_iter().map(|(id, _)| id));
    }
    for restarts in 0..3 {
        let got = read_all(&fixture, "s");
        assert_eq!(got.iter().map(|(id, _)| *id).collect::<Vec<_>>(), want, "after {restarts} restarts");
        assert_eq!(got[1234].1, event(1234).bytes.to_vec());
        fixture = fixture.restart();
    }
    let back = Read { reverse: true, entries_max: 3, ..Read::all(stream("s")) };
    let page = wait(fixture.engine.read(back)).expect("reads");
    assert_eq!(page.entries.iter().map(|e| e.id).collect::<Vec<_>>(), [want[4999], want[4998], want[4997]]);
    assert_eq!(page.next, Some(want[4996]));
    let info = wait(fixture.engine.stream(&stream("s"))).expect("exists");
    assert_eq!((info.length, info.first, info.last), (5000, Some(want[0]), want[4999]));
}

#[test]
fn a_tail_that_waits_ends_when_the_engine_stops() {
    let fixture = Fixture::new();
    wait(fixture.engine.publish(events("s", 0..1))).expect("publishes");
    let mut tail = wait(fixture.engine.tail(&stream("s"), TailFrom::Earliest)).expect("tails");
    assert_eq!(wait(tail.next(9, 1 << 20)).expect("reads").entries.len(), 1);
    let waiting = std::thread::spawn(move || wait(tail.next(9, 1 << 20)).map(|found| found.entries.len()));
    wait(fixture.engine.shutdown()).expect("stops");
    let ended = waiting.join().expect("ends");
    assert_eq!(ended.expect_err("says that it stops").reason(), Reason::Draining);
}

#[test]
fn segments_roll_and_stay_readable() {
    let mut fixture = Fixture::new();
    let large = |n: u64| Event::new("large", vec![n as u8; 30_000]).into_entry().expect("valid");
    for n in 0..200 {
        let name = if n % 2 == 0 { "even" } else { "odd" };
        wait(fixture.engine.publish(Publish::new(stream(name), vec![large(n)]))).expect("publishes");
    }
    for _ in 0..2 {
        for (name, first) in [("even", 0u8), ("odd", 1)] {
            let got = read_all(&fixture, name);
            assert_eq!(got.len(), 100);
            assert!(got.iter().enumerate().all(|(n, (_, bytes))| *bytes.last().expect("data") == first + 2 * n as u8));
        }
        fixture = fixture.restart();
    }
    assert!(fixture.engine.recovery().segments > 3);
}

#[test]
fn a_burst_beyond_the_allocated_room_waits_and_is_not_refused() {
    let fixture = Fixture::new();
    // Segments are 1 MiB: each burst is more than is ever allocated ahead, in requests small and large.
    for bytes in [5_000, 60_000, 700_000] {
        let large = Event::new("large", vec![7; bytes]).into_entry().expect("valid");
        let burst = vec![Publish::new(stream("s"), vec![large]); 4_000_000 / bytes];
        for answer in wait(fixture.engine.publish_each(burst)) {
            answer.expect("the disk is not full");
        }
    }
    let beyond = Event::new("large", vec![7; 900_000]).into_entry().expect("valid");
    let refused = wait(fixture.engine.publish(Publish::new(stream("s"), vec![beyond]))).expect_err("fits no commit");
    assert_eq!(refused.reason(), Reason::BatchTooLarge);
}

#[test]
fn requests_are_appended_in_the_order_in_which_they_are_handed_over() {
    let fixture = Fixture::new();
    let large = Event::new("large", vec![7; 20_000]).into_entry().expect("valid");
    // Each batch is more than goes into one command of the core.
    let mut submitted = Vec::new();
    for _ in 0..3 {
        let mut batch = Gathered::default();
        for _ in 0..20 {
            let publish = Publish::new(stream("s"), vec![large.clone(); 2]);
            fixture.engine.gather(&mut batch, publish).expect("it is a good request");
        }
        submitted.push(fixture.engine.submit(&mut batch));
        assert_eq!((batch.requests(), batch.bytes()), (0, 0), "there is room for all of it");
    }
    let results: Vec<_> = submitted.into_iter().flat_map(|each| wait(each.results())).collect();
    let ids: Vec<EntryId> = results.into_iter().map(|result| result.expect("publishes").first).collect();
    assert!(ids.len() == 60 && ids.is_sorted(), "{ids:?}");
}

/// What comes of these requests, handed over together.
fn together(fixture: &Fixture, requests: Vec<Publish>) -> Vec<Result<Published, Reason>> {
    let results = wait(fixture.engine.publish_each(requests));
    results.into_iter().map(|result| result.map_err(|error| error.reason())).collect()
}

#[test]
fn requests_handed_over_together_stay_requests_of_their_own() {
    let fixture = Fixture::new();
    let conditional = Publish { expected: Some(Expected::Empty), ..events("a", 3..4) };
    let requests = vec![events("a", 0..2), events("a", 2..3), conditional, events("b", 0..1), events("b", 1..4)];
    let answers = together(&fixture, requests);
    assert_eq!(answers[2], Err(Reason::IdConflict));
    let got: Vec<_> = answers.iter().flatten().map(|p| (p.count, p.last.seq - p.first.seq, p.duplicate)).collect();
    assert_eq!(got, [(2, 1, false), (1, 0, false), (1, 0, false), (3, 2, false)]);
    for (name, ranges) in [("a", &answers[..2]), ("b", &answers[3..])] {
        let told: Vec<EntryId> = ranges.iter().flatten().flat_map(Published::ids).map(|(id, _)| id).collect();
        let stored: Vec<EntryId> = read_all(&fixture, name).into_iter().map(|(id, _)| id).collect();
        assert_eq!(told, stored);
    }
    let missing = Publish { create_stream: Some(false), ..events("none", 0..1) };
    let mut empty = events("a", 0..1);
    empty.entries.clear();
    let answers = together(&fixture, vec![missing.clone(), empty, missing]);
    assert_eq!(answers, [Err(Reason::StreamNotFound), Err(Reason::InvalidArgument), Err(Reason::StreamNotFound)]);
}

#[test]
fn an_event_repeats_one_of_a_request_handed_over_with_its_own() {
    let fixture = Fixture::new();
    let mut settings = StreamSettings::default();
    settings.dedup.by_event_id = true;
    wait(fixture.engine.create_stream(stream("s"), settings)).expect("makes the stream");
    let with_id = |id: &str| Event::new("t", "").id(id).into_entry().expect("valid");
    let request = |id: &str| Publish::new(stream("s"), vec![with_id(id)]);
    let answers = together(&fixture, vec![request("x"), request("x"), request("y")]);
    let duplicates: Vec<bool> = answers.iter().flatten().map(|p| p.duplicate).collect();
    assert_eq!(duplicates, [false, true, false]);
    assert_eq!(read_all(&fixture, "s").len(), 2);
}

#[test]
fn expectations_hold_or_nothing_happens() {
    let fixture = Fixture::new();
    let publish = |expected| wait(fixture.engine.publish(Publish { expected, ..events("s", 0..1) }));
    assert_eq!(publish(Some(Expected::Exists)).expect_err("no stream").reason(), Reason::StreamNotFound);
    let first = publish(Some(Expected::Empty)).expect("there is none").first;
    let conflict = publish(Some(Expected::Empty)).expect_err("it has one");
    assert_eq!((conflict.reason(), conflict.detail("actual")), (Reason::IdConflict, Some(&*first.to_string())));
    publish(Some(Expected::LastId(first))).expect("it is the last one");
    assert_eq!(publish(Some(Expected::LastId(first))).expect_err("no longer").reason(), Reason::IdConflict);
    assert_eq!(read_all(&fixture, "s").len(), 2);
}

#[test]
fn duplicates_are_answered_with_the_first_ids_also_after_a_restart() {
    let mut fixture = Fixture::new();
    let request = || Publish {
        producer: Some(ProducerSequence { producer: ProducerId::parse("p").expect("valid"), sequence: 7 }),
        ..events("s", 0..3)
    };
    let first = wait(fixture.engine.publish(request())).expect("publishes");
    fixture = fixture.restart();
    let again = wait(fixture.engine.publish(request())).expect("recognised");
    assert!(again.duplicate && !first.duplicate);
    assert_eq!((again.first, again.last, again.count), (first.first, first.last, 3));
    let other = Publish { entries: vec![event(99)], ..request() };
    assert_eq!(wait(fixture.engine.publish(other)).expect_err("other events").reason(), Reason::DuplicateMismatch);

    let with_id = |id: &str| Event::new("t", "").id(id).into_entry().expect("valid");
    let by_id = |ids: &[&str]| Publish {
        dedup_by_event_id: true,
        ..Publish::new(stream("s"), ids.iter().map(|id| with_id(id)).collect())
    };
    let one = wait(fixture.engine.publish(by_id(&["a", "b"]))).expect("publishes");
    fixture = fixture.restart();
    let mixed = wait(fixture.engine.publish(by_id(&["c", "b"]))).expect("publishes");
    assert_eq!(mixed.ids()[1], (one.last, true));
    assert!(!mixed.ids()[0].1);
    assert!(wait(fixture.engine.publish(by_id(&["a", "c"]))).expect("recognised").duplicate);
    assert_eq!(read_all(&fixture, "s").len(), 6);
}

#[test]
fn requests_that_are_only_named_make_no_stream_forget_a_producer_or_each_other() {
    let mut fixture = Fixture::new();
    let numbered = || Publish {
        producer: Some(ProducerSequence { producer: ProducerId::parse("p").expect("valid"), sequence: 7 }),
        ..events("s", 0..3)
    };
    let named = |name: u128| Publish { name: Some(name), ..events("s", 0..1) };
    let first = wait(fixture.engine.publish(numbered())).expect("publishes");
    let mut of_keys = Vec::new();
    for batch in 0..13 {
        let requests = (0..800).map(|n| named(batch * 800 + n)).collect();
        let answers = wait(fixture.engine.publish_each(requests));
        of_keys.extend(answers.into_iter().map(|answer| answer.expect("publishes").first));
    }
    for _ in 0..2 {
        let again = wait(fixture.engine.publish(numbered())).expect("is known");
        assert_eq!((again.duplicate, again.first), (true, first.first));
        for name in [0, 1, 5_000, 10_399] {
            let again = wait(fixture.engine.publish(named(name))).expect("is known");
            assert_eq!((again.duplicate, again.first), (true, of_keys[name as usize]));
        }
        let other = Publish { entries: vec![event(99)], ..named(3) };
        assert_eq!(wait(fixture.engine.publish(other)).expect_err("other events").reason(), Reason::DuplicateMismatch);
        fixture = fixture.restart();
    }
    assert_eq!(wait(fixture.engine.stream(&stream("s"))).expect("is there").length, 3 + 10_400);
}

#[test]
fn where_no_more_producers_can_be_remembered_new_ones_are_refused_and_known_ones_are_not() {
    let fixture = Fixture::new();
    let mut settings = StreamSettings::default();
    settings.dedup.producers_max = 2;
    wait(fixture.engine.create_stream(stream("s"), settings)).expect("is made");
    let of = |producer: &str, sequence: u64| Publish {
        producer: Some(ProducerSequence { producer: ProducerId::parse(producer).expect("valid"), sequence }),
        ..events("s", 0..1)
    };
    let first = wait(fixture.engine.publish(of("a", 1))).expect("publishes");
    wait(fixture.engine.publish(of("b", 1))).expect("publishes");
    let refused = wait(fixture.engine.publish(of("c", 1))).expect_err("there are two");
    assert_eq!(refused.reason(), Reason::LimitReached, "{refused}");
    assert!(refused.retry_delay().is_some(), "it says when there is room again");
    let again = wait(fixture.engine.publish(of("a", 1))).expect("is known");
    assert_eq!((again.duplicate, again.first), (true, first.first));
    wait(fixture.engine.publish(of("b", 2))).expect("publishes on");
}

#[test]
fn tails_catch_up_and_go_on() {
    let fixture = Fixture::new();
    wait(fixture.engine.publish(events("s", 0..10))).expect("publishes");
    let mut tail = wait(fixture.engine.tail(&stream("s"), TailFrom::Earliest)).expect("exists");
    assert_eq!(wait(tail.next(6, 1 << 20)).expect("reads").entries.len(), 6);
    assert_eq!(wait(tail.next(6, 1 << 20)).expect("reads").entries.len(), 4);
    let engine = fixture.engine.clone();
    let publisher = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        wait(engine.publish(events("s", 10..12))).expect("publishes")
    });
    let got = wait(tail.next(6, 1 << 20)).expect("wakes up").entries;
    let published = publisher.join().expect("publishes");
    assert_eq!(got.iter().map(|e| e.id).collect::<Vec<_>>(), [published.first, published.last]);
    wait(fixture.engine.delete_stream(&stream("s"))).expect("deletes");
    assert_eq!(wait(tail.next(6, 1 << 20)).expect_err("gone").reason(), Reason::StreamNotFound);
}

/// What a tail misses, wherever it was and however far the trim goes.
#[test]
fn tails_tell_what_was_trimmed_before_they_got_there() {
    let mut fixture = Fixture::new();
    for restarted in [false, true] {
        let name = if restarted { "t" } else { "s" };
        let first = wait(fixture.engine.publish(events(name, 0..10))).expect("publishes");
        let ids: Vec<EntryId> = first.ids().iter().map(|(id, _)| *id).collect();
        if restarted {
            fixture = fixture.restart();
        }
        let tail = |from| wait(fixture.engine.tail(&stream(name), from)).expect("exists");
        let (mut earliest, mut after) = (tail(TailFrom::Earliest), tail(TailFrom::After(ids[1])));
        let mut caught_up = tail(TailFrom::After(ids[8]));
        assert_eq!(wait(caught_up.next(9, 1 << 20)).expect("reads").entries.len(), 1);
        let mut latest = tail(TailFrom::Latest);
        let trim = |before| Trim { stream: stream(name), to: TrimTo::BeforeId(before), dry_run: false };
        wait(fixture.engine.delete_entries(&stream(name), vec![ids[6]])).expect("deletes");
        wait(fixture.engine.trim(trim(ids[5]))).expect("trims");
        let gap = |after, before, missed| Some(Gap { after, before, missed });
        let from_five = |tail: &mut Tail| wait(tail.next(2, 1 << 20)).expect("reads");
        let batch = from_five(&mut earliest);
        assert_eq!((batch.gap, batch.entries[0].id), (gap(EntryId::ZERO, ids[5], Some(5)), ids[5]));
        let batch = from_five(&mut after);
        assert_eq!((batch.gap, batch.entries[1].id), (gap(ids[1], ids[5], Some(3)), ids[7]));
        let batch = from_five(&mut tail(TailFrom::After(ids[1])));
        assert_eq!(batch.gap, gap(ids[1], ids[5], None), "what it had is gone");
        assert_eq!(from_five(&mut tail(TailFrom::Earliest)).gap, None, "the earliest that is kept");
        assert_eq!(from_five(&mut tail(TailFrom::After(ids[5]))).gap, None, "what was deleted is not missing");

        let more = wait(fixture.engine.publish(events(name, 10..12))).expect("publishes");
        let bound = more.last.next().expect("not the last id");
        wait(fixture.engine.trim(trim(bound))).expect("trims everything");
        let batch = from_five(&mut after);
        assert_eq!((batch.gap, batch.entries.len()), (gap(ids[7], bound, Some(4)), 0), "told though nothing is left");
        let last = wait(fixture.engine.publish(events(name, 12..13))).expect("publishes").last;
        for tail in [&mut caught_up, &mut latest] {
            let batch = from_five(tail);
            assert_eq!((batch.gap, batch.entries[0].id), (gap(ids[9], last, Some(2)), last));
        }
        let batch = from_five(&mut after);
        assert_eq!((batch.gap, batch.entries[0].id), (None, last), "a gap is told once");
    }
}

#[test]
fn trims_and_deletes_are_exact_and_last() {
    let mut fixture = Fixture::new();
    let ids: Vec<EntryId> = (0..10)
        .flat_map(|n| wait(fixture.engine.publish(events("s", n * 10..n * 10 + 10))).expect("publishes").ids())
        .map(|(id, _)| id)
        .collect();
    let trim = |fixture: &Fixture, to, dry_run| {
        wait(fixture.engine.trim(Trim { stream: stream("s"), to, dry_run })).expect("trims")
    };
    let deleted = wait(fixture.engine.delete_entries(&stream("s"), vec![ids[97], ids[3], ids[97]])).expect("deletes");
    assert_eq!(deleted, 2);
    let dry = trim(&fixture, TrimTo::KeepEntries(20), true);
    assert_eq!((dry.entries, dry.first), (78, Some(ids[79])));
    assert_eq!(read_all(&fixture, "s").len(), 98, "a dry run changes nothing");
    assert_eq!(trim(&fixture, TrimTo::BeforeId(ids[50]), false).entries, 49);
    assert_eq!(trim(&fixture, TrimTo::BeforeId(ids[40]), false).entries, 0);
    for _ in 0..2 {
        let info = wait(fixture.engine.stream(&stream("s"))).expect("exists");
        assert_eq!((info.length, info.first, info.last), (49, Some(ids[50]), ids[99]));
        assert_eq!(info.bytes, 49 * event(50).bytes.len() as u64);
        fixture = fixture.restart();
    }
    let strict = Read { strict: true, ..Read::all(stream("s")) };
    assert_eq!(wait(fixture.engine.read(strict)).expect_err("trimmed").reason(), Reason::IdTrimmed);
    let size = event(99).bytes.len() as u64;
    assert_eq!(trim(&fixture, TrimTo::KeepBytes(3 * size + 1), false).first, Some(ids[96]));
    assert_eq!(trim(&fixture, TrimTo::KeepEntries(0), false).entries, 3);
    assert!(read_all(&fixture, "s").is_empty());
    let next = wait(fixture.engine.publish(events("s", 0..1))).expect("publishes").first;
    assert!(next > ids[99], "a trim never lowers an id");
}

#[test]
fn bad_requests_change_nothing() {
    let fixture = Fixture::new();
    let reason = |request: Publish| wait(fixture.engine.publish(request)).expect_err("bad").reason();
    assert_eq!(reason(events("s", 0..0)), Reason::InvalidArgument);
    assert_eq!(reason(events("s", 0..1001)), Reason::BatchTooLarge);
    let large = Event::new("t", vec![0; 2 << 20]).into_entry().expect("valid");
    assert_eq!(reason(Publish::new(stream("s"), vec![large])), Reason::EventTooLarge);
    assert_eq!(reason(Publish { ids: IdRequest::Exact(EntryId::ZERO), ..events("s", 0..1) }), Reason::IdNotGreater);
    assert_eq!(reason(Publish { create_stream: Some(false), ..events("s", 0..1) }), Reason::StreamNotFound);
    assert!(wait(fixture.engine.streams("", None, 10)).expect("lists").is_empty());
    wait(fixture.engine.create_stream(stream("s"), StreamSettings::default())).expect("makes it");
    let again = wait(fixture.engine.create_stream(stream("s"), StreamSettings::default()));
    assert_eq!(again.expect_err("exists").reason(), Reason::StreamExists);
    assert_eq!(wait(fixture.engine.delete_stream(&stream("t"))).expect_err("unknown").reason(), Reason::StreamNotFound);
}

#[test]
fn a_directory_has_one_engine() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let open = || synapse::engine::Engine::open(synapse::engine::EngineOptions::new(folder.path()));
    let engine = open().expect("opens");
    assert_eq!(open().err().expect("in use").reason(), Reason::DataDirectory);
    drop(engine);
    open().expect("free again");
    let foreign = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(foreign.path().join("thesis.txt"), "mine").expect("writes");
    let refused = synapse::engine::Engine::open(synapse::engine::EngineOptions::new(foreign.path()));
    assert_eq!(refused.err().expect("not ours").reason(), Reason::DataDirectory);
}

#[test]
fn a_renamed_stream_keeps_what_it_has() {
    let world = crate::world::World::new();
    let mut stepped = world.open().expect("opens");
    crate::world::publish(&mut stepped, "old", 0..3);
    crate::world::publish(&mut stepped, "taken", 0..1);
    let engine = stepped.engine().clone();
    let missing = stepped.run(engine.rename_stream(&stream("missing"), stream("new"), true));
    assert_eq!(missing.expect_err("is missing").reason(), Reason::StreamNotFound);
    assert_eq!(stepped.run(engine.rename_stream(&stream("old"), stream("taken"), false)).ok(), Some(false));
    assert_eq!(stepped.run(engine.rename_stream(&stream("old"), stream("taken"), true)).ok(), Some(true));
    crate::world::publish(&mut stepped, "old", 0..1);
    for start in 0..3 {
        let engine = stepped.engine().clone();
        let length = |stepped: &mut synapse::engine::stepped::Stepped, name| {
            let page = stepped.run(engine.read(Read::all(stream(name)))).expect("reads");
            let info = stepped.run(engine.stream(&stream(name))).expect("is there");
            assert_eq!((info.length, info.name), (page.entries.len() as u64, stream(name)));
            info.length
        };
        assert_eq!((length(&mut stepped, "taken"), engine.stream_names("").len()), (3 + start, 2), "start {start}");
        crate::world::publish(&mut stepped, "taken", 0..1);
        // Without the index all of it is replayed.
        if start == 1 {
            stepped.stop();
        }
        drop((stepped, engine));
        stepped = world.open().expect("opens again");
    }
}

#[test]
fn several_streams_are_deleted_in_one_commit() {
    let fixture = Fixture::new();
    for name in ["a", "b", "c"] {
        wait(fixture.engine.publish(events(name, 0..2))).expect("publishes");
    }
    let before = fixture.engine.stats().commits;
    let names = ["a", "missing", "c", "a"].map(stream).to_vec();
    assert_eq!(wait(fixture.engine.delete_streams(names)).ok(), Some(2));
    assert_eq!(fixture.engine.stats().commits, before + 1);
    let fixture = fixture.restart();
    assert_eq!(fixture.engine.stream_names(""), [stream("b")]);
}

#[test]
fn a_last_id_that_was_set_stays_set() {
    let world = crate::world::World::new();
    let mut stepped = world.open().expect("opens");
    crate::world::publish(&mut stepped, "s", 0..3);
    let engine = stepped.engine().clone();
    let s = stream("s");
    let first = stepped.run(engine.stream_counts(&s)).expect("is there").last;
    let last = EntryId::new(first.ms + 1_000_000, 5);
    let to = SetLastId { last, added: Some(10), deleted_max: Some(EntryId::new(1, 0)) };
    let lower = SetLastId { last: first.prev().expect("above zero"), ..to };
    let reason = |outcome: Result<(), Error>| outcome.expect_err("is refused").reason();
    assert_eq!(reason(stepped.run(engine.set_last_id(&s, lower))), Reason::IdNotGreater);
    let fewer = SetLastId { added: Some(2), ..to };
    assert_eq!(reason(stepped.run(engine.set_last_id(&s, fewer))), Reason::InvalidArgument);
    let above = SetLastId { deleted_max: last.next(), ..to };
    assert_eq!(reason(stepped.run(engine.set_last_id(&s, above))), Reason::InvalidArgument);
    stepped.run(engine.set_last_id(&s, to)).expect("sets");
    drop(engine);
    for start in 0..4 {
        let engine = stepped.engine().clone();
        let info = stepped.run(engine.stream(&s)).expect("is there");
        let told = (info.length, info.appended, info.added, info.deleted_max);
        assert_eq!(told, (3 + start, 3 + start, 10 + start, EntryId::new(1, 0)), "start {start}");
        assert_eq!((info.last.ms, info.last.seq), (last.ms, last.seq + start));
        crate::world::publish(&mut stepped, "s", 0..1);
        // From the log alone, and from a checkpoint.
        if start % 2 == 1 {
            stepped.stop();
        }
        drop((stepped, engine));
        stepped = world.open().expect("opens again");
    }
}

#[test]
fn a_stream_goes_when_its_time_has_come() {
    let world = crate::world::World::new();
    let mut stepped = world.open().expect("opens");
    let names = ["soon", "later", "kept", "stays"];
    for (n, name) in names.into_iter().enumerate() {
        crate::world::publish(&mut stepped, name, 0..1);
        let at_ms = (name != "stays").then_some(1_700_000_000_000 + 60_000 * (n as u64 + 1));
        let engine = stepped.engine().clone();
        let set = stepped.run(
            engine.set_expiry(&stream(name), SetExpiry { to: at_ms.map(ExpireAt::WallMs), ..SetExpiry::default() }),
        );
        assert_eq!(set.ok(), Some(true));
    }
    let kept = SetExpiry { had: Some(true), ..SetExpiry::default() };
    let engine = stepped.engine().clone();
    assert_eq!(stepped.run(engine.set_expiry(&stream("kept"), kept)).ok(), Some(true));
    assert_eq!(stepped.run(engine.set_expiry(&stream("missing"), kept)).ok(), Some(false));
    drop(engine);
    let there = |stepped: &mut synapse::engine::stepped::Stepped| {
        let engine = stepped.engine().clone();
        stepped.run(engine.stream_counts(&stream("stays"))).expect("is there");
        engine.stream_names("").iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>()
    };
    world.clock.advance(std::time::Duration::from_millis(59_999));
    assert_eq!(there(&mut stepped), ["kept", "later", "soon", "stays"]);
    world.clock.advance(std::time::Duration::from_millis(1));
    assert_eq!(there(&mut stepped), ["kept", "later", "stays"]);
    // From the log alone, from a checkpoint, and where the time came while nothing ran.
    for stops in [false, true] {
        if stops {
            stepped.stop();
        }
        drop(stepped);
        stepped = world.open().expect("opens again");
        assert_eq!(there(&mut stepped), ["kept", "later", "stays"]);
    }
    drop(stepped);
    world.clock.advance(std::time::Duration::from_secs(3600));
    stepped = world.open().expect("opens again");
    assert_eq!(there(&mut stepped), ["kept", "stays"]);
}

/// Also where nothing else happens; the quickest of several, since any thread may be late now and then.
#[test]
fn a_stream_goes_as_soon_as_its_time_has_come() {
    const AFTER_MS: u64 = 40;
    let (fixture, clock) = (Fixture::new(), SystemClock::new());
    let late_ms = (0..5).map(|n| {
        let name = format!("s{n}");
        wait(fixture.engine.publish(events(&name, 0..1))).expect("publishes");
        let at_ms = clock.now().wall_ms + AFTER_MS;
        let to = SetExpiry { to: Some(ExpireAt::WallMs(at_ms)), ..SetExpiry::default() };
        assert_eq!(wait(fixture.engine.set_expiry(&stream(&name), to)).ok(), Some(true));
        while fixture.engine.has_stream(&stream(&name)) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        clock.now().wall_ms.saturating_sub(at_ms)
    });
    let late_ms = late_ms.min();
    assert!(late_ms < Some(150), "{late_ms:?} ms late");
}
