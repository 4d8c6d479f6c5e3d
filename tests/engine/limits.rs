//! Bounds of groups: what they hold back is told, and names that are never used again make room.

use std::time::Duration;

use synapse::engine::stepped::Stepped;
use synapse::engine::{Acknowledge, CreateGroup, Delivery, Holder, Pull, StartAt};
use synapse::error::{Reason, Result};
use synapse::types::{GroupSettings, IdRange};

use crate::world::{World, publish};
use crate::{consumer, group, stream};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn make(stepped: &mut Stepped, name: &str, settings: GroupSettings) {
    let engine = stepped.engine().clone();
    let (start, create_stream) = (StartAt::Earliest, true);
    let create = CreateGroup { stream: stream("s"), group: group(name), start, settings, create_stream };
    stepped.run(engine.create_group(create)).expect("makes the group");
}

fn request(who: &str, no_ack: bool, wait: Duration) -> Pull {
    let (stream, group, consumer) = (stream("s"), group("g"), consumer(who));
    Pull { stream, group, consumer, entries_max: 5, bytes_max: 1 << 20, wait, no_ack }
}

fn pull(stepped: &mut Stepped, who: &str, no_ack: bool) -> Result<Delivery> {
    let engine = stepped.engine().clone();
    stepped.run(engine.pull(request(who, no_ack, Duration::ZERO)))
}

fn names(stepped: &mut Stepped) -> Vec<String> {
    let engine = stepped.engine().clone();
    let info = stepped.run(engine.group(&stream("s"), &group("g"))).expect("exists");
    info.consumers.iter().map(|consumer| consumer.name.to_string()).collect()
}

#[test]
fn a_group_at_its_bound_says_so_where_it_would_answer_nothing() {
    let world = World::new();
    let mut stepped = world.open().expect("opens");
    make(&mut stepped, "g", GroupSettings { pending_max: 3, ..GroupSettings::by_hand() });
    publish(&mut stepped, "s", 0..3);
    assert_eq!(pull(&mut stepped, "a", false).expect("pulls").entries.len(), 3);
    assert!(pull(&mut stepped, "a", false).expect("there is nothing").entries.is_empty());
    publish(&mut stepped, "s", 3..12);
    let told = pull(&mut stepped, "a", false).expect_err("it is at its bound");
    assert_eq!(
        (told.reason(), told.detail("setting"), told.detail("max")),
        (Reason::LimitReached, Some("pending_max"), Some("3"))
    );
    // Nothing of what is acknowledged at once becomes pending.
    assert_eq!(pull(&mut stepped, "a", true).expect("pulls").entries.len(), 5);
    // A wait comes first, and is over where there is room again.
    let engine = stepped.engine().clone();
    let mut waiting = std::pin::pin!(engine.pull(request("b", false, Duration::from_secs(5))));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    stepped.settle();
    assert!(waiting.as_mut().poll(&mut context).is_pending(), "it waits");
    let (ids, holder) = (vec![IdRange::ALL], Holder::Anyone);
    let ack = Acknowledge { stream: stream("s"), group: group("g"), ids, holder, publish: vec![] };
    let acknowledging = stepped.engine().clone();
    stepped.run(acknowledging.acknowledge(ack)).expect("acknowledges");
    assert_eq!(stepped.run(waiting).expect("pulls").entries.len(), 3);
    let mut waiting = std::pin::pin!(engine.pull(request("b", false, Duration::from_secs(5))));
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    stepped.settle();
    world.clock.advance(Duration::from_secs(6));
    assert_eq!(stepped.run(waiting).expect_err("it is at its bound").reason(), Reason::LimitReached);
    assert_eq!(stepped.engine().stats().held_back, 2);
}

#[test]
fn a_stream_has_more_than_a_thousand_groups() {
    let mut stepped = World::new().open().expect("opens");
    (0..1_050).for_each(|n| make(&mut stepped, &format!("g{n}"), GroupSettings::by_hand()));
}

#[test]
fn names_that_are_never_used_again_are_forgotten() {
    let world = World::new();
    let mut stepped = world.open().expect("opens");
    make(&mut stepped, "g", GroupSettings::by_hand());
    publish(&mut stepped, "s", 0..1);
    assert_eq!(pull(&mut stepped, "holds", false).expect("pulls").entries.len(), 1);
    for n in 0..900 {
        pull(&mut stepped, &format!("early{n}"), false).expect("nothing");
    }
    world.clock.advance(8 * DAY);
    for n in 0..90 {
        pull(&mut stepped, &format!("few{n}"), false).expect("nothing");
    }
    assert_eq!(names(&mut stepped).len(), 991, "among so few nobody is forgotten");
    for n in 0..200 {
        pull(&mut stepped, &format!("late{n}"), false).expect("nothing");
    }
    let left = names(&mut stepped);
    assert!(left.len() <= 1_010, "{} are left", left.len());
    let all = |prefix: &str| left.iter().filter(|name| name.starts_with(prefix)).count();
    assert_eq!((all("holds"), all("few"), all("late")), (1, 90, 200), "who was heard of, or holds something, stays");

    // After a start everybody has the whole time again.
    world.clock.advance(6 * DAY);
    drop(stepped);
    let mut stepped = world.open().expect("opens");
    let before = names(&mut stepped);
    world.clock.advance(6 * DAY);
    for n in 0..100 {
        pull(&mut stepped, &format!("next{n}"), false).expect("nothing");
    }
    let after = names(&mut stepped);
    assert!(before.iter().all(|name| after.contains(name)), "nobody was forgotten yet");
    world.clock.advance(2 * DAY);
    for n in 0..100 {
        pull(&mut stepped, &format!("last{n}"), false).expect("nothing");
    }
    let left = names(&mut stepped);
    assert!(left.len() < after.len() && left.contains(&"holds".into()), "{} of {}", left.len(), after.len());
}
