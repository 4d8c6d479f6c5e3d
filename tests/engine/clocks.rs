//! Clocks that step, in a run and between two: ids rise, leases go on where they were, and no age is made up.

use std::time::Duration;

use synapse::clock::{Clock, ManualClock};
use synapse::engine::stepped::Stepped;
use synapse::engine::{CreateGroup, ListPending, Pull, Read, StartAt, Trim, TrimTo};
use synapse::types::{EntryId, GroupSettings, IdRange, Retention, StreamSettings};

use crate::world::{World, publish};
use crate::{consumer, group, stream};

const SECOND_MS: u64 = 1_000;
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
const YEAR_MS: u64 = 365 * DAY_MS;
const LEASE_MS: u64 = 30 * SECOND_MS;

/// A run after the one before stopped in order, with the wall clock at this time.
fn run_at(world: &mut World, before: Option<Stepped>, wall_ms: u64) -> Stepped {
    before.into_iter().for_each(|mut before| before.stop());
    world.clock = ManualClock::at(wall_ms);
    world.open().expect("opens")
}

/// Makes the stream `s`, which keeps what is younger than two days, and its group `g`.
fn prepare(stepped: &mut Stepped) {
    let engine = stepped.engine().clone();
    let retention = Retention { age_max_ms: Some(2 * DAY_MS), ..Retention::default() };
    let settings = StreamSettings { retention, ..StreamSettings::default() };
    stepped.run(engine.create_stream(stream("s"), settings)).expect("makes the stream");
    let settings = GroupSettings { ack_wait_ms: LEASE_MS, ..GroupSettings::default() };
    let start = StartAt::Earliest;
    let request = CreateGroup { stream: stream("s"), group: group("g"), start, settings, create_stream: false };
    stepped.run(engine.create_group(request)).expect("makes the group");
}

fn pull(stepped: &mut Stepped, max: usize) -> Vec<(EntryId, u32)> {
    let engine = stepped.engine().clone();
    let request = Pull {
        stream: stream("s"),
        group: group("g"),
        consumer: consumer("c"),
        entries_max: max,
        bytes_max: 1 << 20,
        wait: Duration::ZERO,
        no_ack: false,
    };
    let delivery = stepped.run(engine.pull(request)).expect("pulls");
    delivery.entries.iter().map(|d| (d.entry.id, d.deliveries)).collect()
}

/// In how many milliseconds each pending entry is due, from this one on.
fn due(stepped: &mut Stepped, first: EntryId) -> Vec<u64> {
    let engine = stepped.engine().clone();
    let all = ListPending {
        stream: stream("s"),
        group: group("g"),
        range: IdRange { first, last: EntryId::MAX },
        entries_max: 1000,
        consumer: None,
        idle_min: Duration::ZERO,
    };
    let pending = stepped.run(engine.list_pending(all)).expect("lists");
    pending.iter().map(|p| p.due_ms.expect("there are leases")).collect()
}

/// The ids of the stream, which must rise.
fn ids(stepped: &mut Stepped) -> Vec<EntryId> {
    let engine = stepped.engine().clone();
    let page = stepped.run(engine.read(Read::all(stream("s")))).expect("reads");
    let ids: Vec<EntryId> = page.entries.iter().map(|entry| entry.id).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    ids
}

#[test]
fn clocks_that_step_between_runs_shift_no_lease_and_make_nothing_old() {
    let mut world = World::new();
    let start_ms = world.clock.now().wall_ms;
    let mut first = run_at(&mut world, None, start_ms);
    prepare(&mut first);
    publish(&mut first, "s", 0..10);
    let held = pull(&mut first, 5);
    world.clock.advance(Duration::from_secs(10));

    let mut back = run_at(&mut world, Some(first), start_ms - DAY_MS);
    assert_eq!(due(&mut back, EntryId::ZERO), [20 * SECOND_MS; 5], "the leases go on where they were");
    publish(&mut back, "s", 10..20);
    back.retain();
    assert_eq!(ids(&mut back).len(), 20);
    world.clock.advance(Duration::from_secs(19));
    assert_eq!(pull(&mut back, 5).iter().filter(|(_, n)| *n > 1).count(), 0, "nothing lapsed yet");
    world.clock.advance(Duration::from_secs(2));
    assert_eq!(pull(&mut back, 5), held.iter().map(|(id, n)| (*id, n + 1)).collect::<Vec<_>>());

    let mut ahead = run_at(&mut world, Some(back), start_ms + YEAR_MS);
    assert_eq!(due(&mut ahead, EntryId::ZERO), [0; 10], "a year is longer than any lease");
    publish(&mut ahead, "s", 20..30);
    let all = ids(&mut ahead);
    ahead.retain();
    assert_eq!(ids(&mut ahead), all[20..], "what is older than two days went, and nothing else");
    assert_eq!(pull(&mut ahead, 4).len(), 4);
    world.clock.advance(Duration::from_secs(12));

    let mut right = run_at(&mut world, Some(ahead), start_ms + HOUR_MS);
    assert_eq!(due(&mut right, all[20]), [18 * SECOND_MS; 4]);
    publish(&mut right, "s", 30..40);
    right.retain();
    assert_eq!(ids(&mut right).len(), 20);
    assert_eq!(ids(&mut right)[..10], all[20..]);
}

/// A run with ten entries of which five were delivered, and the wall time of its start.
fn begun() -> (World, u64, Stepped) {
    let mut world = World::new();
    let start_ms = world.clock.now().wall_ms;
    let mut stepped = run_at(&mut world, None, start_ms);
    prepare(&mut stepped);
    publish(&mut stepped, "s", 0..10);
    pull(&mut stepped, 5);
    (world, start_ms, stepped)
}

#[test]
fn a_clock_that_jumps_forward_in_a_run_makes_nothing_old() {
    let (world, start_ms, mut stepped) = begun();
    world.clock.set_wall(start_ms + YEAR_MS);
    stepped.retain();
    publish(&mut stepped, "s", 10..20);
    stepped.retain();
    assert_eq!(ids(&mut stepped).len(), 20);
    assert_eq!(due(&mut stepped, EntryId::ZERO), [LEASE_MS; 5]);

    // Nor does it keep anything from growing old.
    world.clock.advance(Duration::from_millis(2 * DAY_MS - 1));
    stepped.retain();
    assert_eq!(ids(&mut stepped).len(), 20);
    world.clock.advance(Duration::from_millis(2));
    stepped.retain();
    assert_eq!(ids(&mut stepped).len(), 10);
}

#[test]
fn a_clock_that_goes_back_in_a_run_makes_nothing_old_and_lowers_no_id() {
    let (world, start_ms, mut stepped) = begun();
    world.clock.set_wall(start_ms - YEAR_MS);
    publish(&mut stepped, "s", 10..20);
    stepped.retain();
    assert_eq!(ids(&mut stepped).len(), 20);
    assert_eq!(due(&mut stepped, EntryId::ZERO), [LEASE_MS; 5]);
    world.clock.advance(Duration::from_millis(LEASE_MS));
    assert_eq!(pull(&mut stepped, 5).iter().filter(|(_, n)| *n == 2).count(), 5, "the leases ended all the same");
}

#[test]
fn what_was_appended_before_the_clock_went_back_hides_nothing_old_behind_it() {
    let mut world = World::new();
    let start_ms = world.clock.now().wall_ms;
    let mut first = run_at(&mut world, None, start_ms);
    let engine = first.engine().clone();
    let retention = Retention { age_max_ms: Some(SECOND_MS), ..Retention::default() };
    let settings = StreamSettings { retention, ..StreamSettings::default() };
    first.run(engine.create_stream(stream("s"), settings)).expect("makes the stream");
    publish(&mut first, "s", 0..2);

    let mut back = run_at(&mut world, Some(first), start_ms - HOUR_MS);
    publish(&mut back, "s", 2..10);
    let engine = back.engine().clone();
    // What was appended at both times is one block once something beside it was given back.
    publish(&mut back, "other", 0..3);
    let gone = back.run(engine.read(Read::all(stream("other")))).expect("reads").entries[1].id;
    assert_eq!(back.run(engine.delete_entries(&stream("other"), vec![gone])).expect("deletes"), 1);
    back.reclaim_all().expect("nothing hinders it");
    back.reclaim();
    let trim = Trim { stream: stream("s"), to: TrimTo::KeepEntries(8), dry_run: false };
    assert_eq!(back.run(engine.trim(trim)).expect("trims").entries, 2, "both of before");
    world.clock.advance(Duration::from_secs(10));
    back.retain();
    assert_eq!(ids(&mut back), [], "ten seconds old, where one is allowed");
}
