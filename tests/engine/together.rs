//! Commits that are written with one sync: each is whole or not there, none is answered before the sync, and their order
//! is kept.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use synapse::engine::stepped::Stepped;
use synapse::engine::{Engine, Publish, Published, Read};
use synapse::error::Result;
use synapse::storage::MemoryIndex;
use synapse::storage::sim::SimDisk;
use synapse::types::{Durability, EntryId, IdRange};

use crate::world::World;
use crate::{events, stream};

const PUBLISHES: u64 = 40;
/// Large enough that segments end between commits of one sync.
const EVENTS: u64 = 150;
const TOGETHER: usize = 5;

type Publishing = Pin<Box<dyn Future<Output = Result<Published>>>>;

/// What is asked of the engine at once, on two streams; now and then something that need not be synced.
fn publishes(engine: &Engine) -> Vec<Publishing> {
    let publish = |n: u64| {
        let (engine, name) = (engine.clone(), ["a", "b"][n as usize % 2]);
        let durability = n.is_multiple_of(7).then_some(Durability::Os);
        let request = Publish { durability, ..events(name, n * EVENTS..(n + 1) * EVENTS) };
        Box::pin(async move { engine.publish(request).await }) as Publishing
    };
    (0..PUBLISHES).map(publish).collect()
}

/// Publishes all of it, until the power is lost where it is; the answers.
fn run(world: &World, together: usize) -> Vec<Option<EntryId>> {
    let Ok(mut stepped) = world.open() else { return Vec::new() };
    stepped.write_together(together);
    let mut waiting = publishes(stepped.engine());
    let mut answers = vec![None; waiting.len()];
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..3 {
        for (waiting, answer) in waiting.iter_mut().zip(&mut answers).filter(|(_, answer)| answer.is_none()) {
            if let Poll::Ready(done) = waiting.as_mut().poll(&mut context) {
                *answer = Some(done.ok());
            }
        }
        stepped.settle();
    }
    let answers = answers.into_iter().map(|answer| answer.expect("all are answered"));
    answers.map(|answer| answer.map(|published| published.last)).collect()
}

/// The ids of a stream; none where it was not made.
fn ids(stepped: &mut Stepped, name: &str) -> Vec<EntryId> {
    let engine = stepped.engine().clone();
    let mut found = Vec::new();
    let mut next = engine.has_stream(&stream(name)).then_some(EntryId::ZERO);
    while let Some(first) = next {
        let range = IdRange { first, last: EntryId::MAX };
        let page = stepped.run(engine.read(Read { range, ..Read::all(stream(name)) })).expect("reads");
        found.extend(page.entries.iter().map(|entry| entry.id));
        next = page.next;
    }
    found
}

#[test]
fn what_is_synced_together_is_answered_after_the_sync_and_survives_every_crash() {
    let (pairs, together) = (World::new(), World::new());
    assert_eq!(run(&pairs, 2).iter().flatten().count() as u64, PUBLISHES);
    assert_eq!(run(&together, TOGETHER).iter().flatten().count() as u64, PUBLISHES);
    let count = together.disk.operations();
    assert!(count + 5 < pairs.disk.operations(), "syncs are shared: {count} operations");
    for at in 0..=count {
        let world = World::new();
        world.disk.power_off_at(at);
        let answers = run(&world, TOGETHER);
        let survived = World { disk: world.disk.crash(), index: MemoryIndex::default(), clock: world.clock.clone() };
        let mut again = survived.open().expect("recovers");
        let found = ["a", "b"].map(|name| ids(&mut again, name));
        for (n, last) in answers.iter().enumerate().filter_map(|(n, last)| last.map(|last| (n, last))) {
            let is_synced = !(n as u64).is_multiple_of(7);
            assert!(
                !is_synced || found[n % 2].contains(&last),
                "publish {n} was answered, crash before {at} of {count}"
            );
        }
        for found in found {
            assert!(found.is_sorted_by(|a, b| a < b) && (found.len() as u64).is_multiple_of(EVENTS), "whole commits");
        }
    }
}

#[test]
fn nothing_is_answered_where_their_sync_fails() {
    let world = World::new();
    let count = run(&world, TOGETHER).len();
    let syncs = world.disk.syncs();
    let answered_without = |failing: u64| {
        let world = World { disk: SimDisk::new(1, 64 << 20), ..World::new() };
        world.disk.fail_at(failing);
        let answers = run(&world, TOGETHER);
        let answered = answers.iter().take_while(|answer| answer.is_some()).count();
        assert!(answers[answered..].iter().all(Option::is_none), "nothing after the sync {failing} is answered");
        assert!(answers.is_empty() || answers.len() == count);
        answered
    };
    let mut answered: Vec<_> = (0..world.disk.operations()).map(answered_without).collect();
    assert!(answered.is_sorted(), "the later the failure, the more is answered: {answered:?}");
    // Every publish hangs on a sync that at most its own group hangs on, and one of durability `os` before the group.
    answered = syncs.into_iter().map(answered_without).chain([count]).collect();
    answered.dedup();
    let steps: Vec<_> = answered.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(answered[0] == 0 && steps.iter().all(|step| *step <= TOGETHER + 1), "answered by sync: {answered:?}");
}
