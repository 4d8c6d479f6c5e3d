//! Retention: streams are trimmed to exactly what they are to keep, by themselves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use synapse::engine::{Acknowledge, CreateGroup, Holder, Pull, StartAt, Trim, TrimTo};
use synapse::error::Reason;
use synapse::types::{EntryId, GroupSettings, IdRange, Retention, StreamSettings};

use crate::world::World;
use crate::{Fixture, consumer, events, group, stream, wait};

fn keep(fixture: &Fixture, name: &str, retention: Retention) {
    let settings = StreamSettings { retention, ..StreamSettings::default() };
    wait(fixture.engine.create_stream(stream(name), settings)).expect("makes the stream");
}

fn fill(fixture: &Fixture, name: &str, count: u64) {
    for first in (0..count).step_by(50) {
        wait(fixture.engine.publish(events(name, first..(first + 50).min(count)))).expect("publishes");
    }
}

/// Waits until the stream has so many entries, and stays with them.
fn settles_at(fixture: &Fixture, name: &str, length: u64) {
    let until = Instant::now() + Duration::from_secs(20);
    let now = || wait(fixture.engine.stream(&stream(name))).expect("is there").length;
    while now() != length {
        assert!(Instant::now() < until, "{name} has {} entries, not {length}", now());
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(now(), length, "{name}");
}

#[test]
fn streams_keep_exactly_as_much_as_they_are_told() {
    let fixture = Fixture::new();
    keep(&fixture, "by-entries", Retention { entries_max: Some(120), ..Retention::default() });
    fill(&fixture, "by-entries", 1000);
    settles_at(&fixture, "by-entries", 120);

    keep(&fixture, "by-bytes", Retention { bytes_max: Some(5_000), ..Retention::default() });
    fill(&fixture, "by-bytes", 1000);
    let size = events("s", 990..991).bytes() as u64;
    settles_at(&fixture, "by-bytes", 5_000 / size);

    keep(&fixture, "everything", Retention { entries_max: Some(1_000_000), ..Retention::default() });
    fill(&fixture, "everything", 300);
    settles_at(&fixture, "everything", 300);

    // A restart keeps the settings, and what was deleted singly does not count.
    let fixture = fixture.restart();
    let last = wait(fixture.engine.stream(&stream("by-entries"))).expect("is there").last;
    assert_eq!(wait(fixture.engine.delete_entries(&stream("by-entries"), vec![last])).expect("deletes"), 1);
    fill(&fixture, "by-entries", 5);
    settles_at(&fixture, "by-entries", 120);
}

#[test]
fn a_full_disk_takes_a_shorter_retention_and_new_groups() {
    let world = World::new();
    world.disk.set_budget(4 << 20);
    let mut stepped = world.open().expect("opens");
    let engine = stepped.engine().clone();
    let full = loop {
        match stepped.run(engine.publish(events("s", 0..50))) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(full.reason(), Reason::StorageFull, "{full}");
    let start = StartAt::Earliest;
    let settings = GroupSettings::default();
    let request = CreateGroup { stream: stream("s"), group: group("g"), start, settings, create_stream: false };
    stepped.run(engine.create_group(request)).expect("a group can be made");
    let settings = GroupSettings { max_deliveries: 3, ..GroupSettings::default() };
    stepped.run(engine.update_group(&stream("s"), &group("g"), settings)).expect("and changed");
    let retention = Retention { entries_max: Some(100), ..Retention::default() };
    let settings = StreamSettings { retention, ..StreamSettings::default() };
    stepped.run(engine.update_stream(&stream("s"), settings)).expect("a stream can be told to keep less");
    stepped.retain();
    assert_eq!(stepped.run(engine.stream(&stream("s"))).expect("is there").length, 100);
}

#[test]
fn streams_drop_what_is_too_old() {
    let fixture = Fixture::new();
    keep(&fixture, "s", Retention { age_max_ms: Some(2_000), ..Retention::default() });
    fill(&fixture, "s", 100);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(wait(fixture.engine.stream(&stream("s"))).expect("is there").length, 100, "young yet");
    settles_at(&fixture, "s", 0);
}

#[test]
fn streams_drop_what_every_group_has_acknowledged_and_nothing_else() {
    let fixture = Fixture::new();
    let retention = Retention { until_acknowledged: true, entries_max: Some(10), ..Retention::default() };
    keep(&fixture, "s", retention);
    for name in ["fast", "slow"] {
        let (start, settings) = (StartAt::Earliest, GroupSettings::by_hand());
        let request = CreateGroup { stream: stream("s"), group: group(name), start, settings, create_stream: false };
        wait(fixture.engine.create_group(request)).expect("makes the group");
    }
    fill(&fixture, "s", 200);
    for (name, count) in [("fast", 150), ("slow", 60)] {
        let pull = Pull {
            stream: stream("s"),
            group: group(name),
            consumer: consumer("c"),
            entries_max: count,
            bytes_max: 1 << 20,
            wait: Duration::ZERO,
            no_ack: false,
        };
        let got = wait(fixture.engine.pull(pull)).expect("pulls").entries;
        // All but the last ten: what is pending is not acknowledged.
        let ids: Vec<EntryId> = got[..got.len() - 10].iter().map(|d| d.entry.id).collect();
        let ids = ids.into_iter().map(IdRange::one).collect();
        let (s, g, holder) = (stream("s"), group(name), Holder::Anyone);
        let ack = Acknowledge { stream: s, group: g, ids, holder, publish: vec![] };
        assert_eq!(wait(fixture.engine.acknowledge(ack)).expect("acknowledges").done, count as u64 - 10);
    }
    settles_at(&fixture, "s", 150);
}

#[test]
fn trims_and_retention_come_to_an_end_under_load() {
    let fixture = Fixture::new();
    keep(&fixture, "kept", Retention { entries_max: Some(100), ..Retention::default() });
    keep(&fixture, "trimmed", Retention::default());
    let over = AtomicBool::new(false);
    let first = |name: &str| wait(fixture.engine.stream(&stream(name))).expect("is there").first;
    std::thread::scope(|scope| {
        let _ends = SetAtEnd(&over);
        for name in ["kept", "trimmed", "trimmed"] {
            let (fixture, over) = (&fixture, &over);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    wait(fixture.engine.publish(events(name, 0..20))).expect("publishes");
                }
            });
        }
        let until = Instant::now() + Duration::from_secs(20);
        let trims = [TrimTo::KeepEntries(50), TrimTo::KeepBytes(2_000), TrimTo::KeepEntries(0)];
        let trimming: Vec<_> = (0..4)
            .map(|thread| {
                let fixture = &fixture;
                scope.spawn(move || {
                    for n in 0..60 {
                        let to = trims[(thread + n) % trims.len()];
                        wait(fixture.engine.trim(Trim { stream: stream("trimmed"), to, dry_run: false }))
                            .expect("trims");
                        let last = wait(fixture.engine.stream_counts(&stream("trimmed"))).expect("is there").last;
                        wait(fixture.engine.delete_entries(&stream("trimmed"), vec![last])).expect("deletes");
                        let to = TrimTo::BeforeId(last);
                        wait(fixture.engine.trim(Trim { stream: stream("trimmed"), to, dry_run: false }))
                            .expect("trims");
                    }
                })
            })
            .collect();
        trimming.into_iter().for_each(|thread| thread.join().expect("all of them end"));
        // Retention goes on twice while others publish.
        for _ in 0..2 {
            let before = first("kept");
            while first("kept") == before {
                assert!(Instant::now() < until, "nothing goes");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    });
    settles_at(&fixture, "kept", 100);
}

/// Says that it is over, also where the test fails.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
