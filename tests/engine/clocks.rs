//! Clocks that step, in a run and between two: ids rise, leases go on where they were, and no age is made up.

use std::time::Duration;

use synapse::clock::{Clock, ManualClock};
use synapse::engine::stepped::Stepped;
use synapse::engine::{CreateGroup, ExpireAt, ListPending, Publish, Pull, Read, SetExpiry, StartAt, Trim, TrimTo};
use synapse::types::{EntryId, GroupSettings, IdRange, IdRequest, Retention, StreamSettings};

use crate::world::{World, publish};
use crate::{consumer, event, group, stream};

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
    assert_eq!(ids(&mut stepped), [], "all of it is two days old, whatever the clock said when it came");
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

/// Makes the stream `s`, which keeps what is no older than so much.
fn keep_for(stepped: &mut Stepped, age_max_ms: u64) {
    let engine = stepped.engine().clone();
    let retention = Retention { age_max_ms: Some(age_max_ms), ..Retention::default() };
    let settings = StreamSettings { retention, ..StreamSettings::default() };
    stepped.run(engine.create_stream(stream("s"), settings)).expect("makes the stream");
}

/// The next run on the same machine, which was not booted meanwhile.
fn again(world: &mut World, mut before: Stepped) -> Stepped {
    before.stop();
    world.open().expect("opens")
}

#[test]
fn a_clock_that_was_wrong_and_is_set_right_makes_nothing_old() {
    // An hour behind beside ten minutes, and a machine that comes up more than a year behind beside a week.
    for (behind_ms, age_max_ms) in [(HOUR_MS, 600 * SECOND_MS), (400 * DAY_MS, 7 * DAY_MS)] {
        let mut world = World::new();
        let right_ms = world.clock.now().wall_ms;
        world.clock.set_wall(right_ms - behind_ms);
        let mut stepped = world.open().expect("opens");
        keep_for(&mut stepped, age_max_ms);
        publish(&mut stepped, "s", 0..10);
        world.clock.set_wall(right_ms);
        publish(&mut stepped, "s", 10..20);
        world.clock.advance(Duration::from_secs(5));
        stepped.retain();
        assert_eq!(ids(&mut stepped).len(), 20);
        let mut stepped = again(&mut world, stepped);
        stepped.retain();
        assert_eq!(ids(&mut stepped).len(), 20, "nor does a restart");
        world.clock.advance(Duration::from_millis(age_max_ms));
        stepped.retain();
        assert_eq!(ids(&mut stepped), [], "only time does");
    }
}

#[test]
fn a_step_before_a_kill_and_a_boot_is_not_taken_for_time_that_passed() {
    let mut world = World::new();
    let start_ms = world.clock.now().wall_ms;
    let mut stepped = world.open().expect("opens");
    keep_for(&mut stepped, HOUR_MS);
    publish(&mut stepped, "s", 0..10);
    // The clock is set while nobody asks for anything; then the process is killed and the machine booted.
    world.clock.set_wall(start_ms + DAY_MS);
    stepped.settle();
    drop(stepped);
    world.clock = ManualClock::at(start_ms + DAY_MS + 10 * SECOND_MS);
    let mut stepped = world.open().expect("opens");
    stepped.retain();
    assert_eq!(ids(&mut stepped).len(), 10, "ten seconds old");
    world.clock.advance(Duration::from_millis(HOUR_MS));
    stepped.retain();
    assert_eq!(ids(&mut stepped), []);
}

#[test]
fn a_stream_that_goes_after_a_while_stays_so_long_and_one_that_goes_at_a_time_goes_then() {
    let mut world = World::new();
    let start_ms = world.clock.now().wall_ms;
    let mut stepped = world.open().expect("opens");
    let engine = stepped.engine().clone();
    for (name, at) in [("while", ExpireAt::AfterMs(HOUR_MS)), ("time", ExpireAt::WallMs(start_ms + HOUR_MS))] {
        publish(&mut stepped, name, 0..1);
        let to = SetExpiry { to: Some(at), ..SetExpiry::default() };
        assert!(stepped.run(engine.set_expiry(&stream(name), to)).expect("is set"));
    }
    world.clock.set_wall(start_ms + DAY_MS);
    stepped.settle();
    assert!(engine.has_stream(&stream("while")) && !engine.has_stream(&stream("time")));
    let mut stepped = again(&mut world, stepped);
    let engine = stepped.engine().clone();
    let told = stepped.run(engine.stream(&stream("while"))).expect("is there").expires_ms;
    assert_eq!(told, Some(start_ms + DAY_MS + HOUR_MS), "as the clock is now");
    world.clock.set_wall(start_ms - DAY_MS);
    world.clock.advance(Duration::from_millis(HOUR_MS));
    stepped.settle();
    assert!(!engine.has_stream(&stream("while")));
}

#[test]
fn a_trim_by_time_goes_by_when_entries_were_appended_not_by_their_ids() {
    let mut world = World::new();
    let start_ms = world.clock.now().wall_ms;
    let mut stepped = run_at(&mut world, None, start_ms);
    let engine = stepped.engine().clone();
    let mut append = |id: u64| {
        let entries = vec![event(0)];
        let request = Publish { ids: IdRequest::Exact(EntryId::new(id, 0)), ..Publish::new(stream("s"), entries) };
        stepped.run(engine.publish(request)).expect("is appended");
    };
    // Ids of a year ago and of a year ahead, and an append a minute later.
    append(start_ms - YEAR_MS);
    append(start_ms + YEAR_MS);
    world.clock.advance(Duration::from_secs(60));
    append(start_ms + YEAR_MS + 1);
    let trim = Trim { stream: stream("s"), to: TrimTo::BeforeTime(start_ms + 30 * SECOND_MS), dry_run: false };
    assert_eq!(stepped.run(engine.trim(trim)).expect("trims").entries, 2);
    assert_eq!(ids(&mut stepped), [EntryId::new(start_ms + YEAR_MS + 1, 0)]);
}

/// Publishes, waits, sets the clock and restarts at random, and expects that ages are what really passed.
fn random_steps(seed: u64, steps: usize) {
    let mut state = seed;
    let mut below = |n: u64| {
        // Knuth's linear congruential generator, of which the upper bits are random enough.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    let mut world = World::new();
    let age_max_ms = 10 * 60 * SECOND_MS;
    let mut stepped = world.open().expect("opens");
    keep_for(&mut stepped, age_max_ms);
    let (mut appended, mut passed_ms) = (Vec::<u64>::new(), 0);
    for step in 0..steps {
        match below(8) {
            0..3 => {
                publish(&mut stepped, "s", 0..1);
                appended.push(passed_ms);
            }
            3..5 => {
                let ms = below(5 * 60) * SECOND_MS;
                world.clock.advance(Duration::from_millis(ms));
                passed_ms += ms;
            }
            5 => {
                let by = (below(2 * 365 * 24 * 3600) as i64 - 365 * 24 * 3600) * SECOND_MS as i64;
                world.clock.set_wall(world.clock.now().wall_ms.saturating_add_signed(by));
            }
            6 => stepped = again(&mut world, stepped),
            _ => {
                drop(stepped);
                stepped = world.open().expect("opens after a kill");
            }
        }
        stepped.retain();
        let kept = appended.iter().filter(|at| passed_ms - **at <= age_max_ms).count();
        assert_eq!(ids(&mut stepped).len(), kept, "seed {seed}, step {step}");
    }
}

/// `SYNAPSE_CLOCK_SEEDS` programs, 10 unless that is set.
#[test]
fn whatever_the_clock_does_within_a_boot_ages_are_what_passed() {
    let seeds = std::env::var("SYNAPSE_CLOCK_SEEDS").map_or(10, |n| n.parse().expect("a number"));
    (0..seeds).for_each(|seed| random_steps(seed, 60));
}
