//! Grants that nobody takes: to its group it is as if they had never been made.
//!
//! `SYNAPSE_UNGRANTED_WAITS` says how many waits end in the random program; 10,000 is its long form.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use synapse::engine::stepped::Stepped;
use synapse::engine::{
    Acknowledge, CreateGroup, Delivery, Engine, Holder, ListPending, Nack, NackAction, Pull, StartAt,
};
use synapse::types::{Dispatch, EntryId, GroupSettings, IdRange, StreamName};

use crate::world::{World, publish};
use crate::{Fixture, consumer, events, group, stream};

fn pull(name: &str, who: &str, max: usize) -> Pull {
    Pull {
        stream: stream(name),
        group: group("g"),
        consumer: consumer(who),
        entries_max: max,
        bytes_max: 1 << 20,
        wait: Duration::ZERO,
        no_ack: false,
    }
}

fn create(name: &str, settings: GroupSettings) -> CreateGroup {
    CreateGroup { stream: stream(name), group: group("g"), start: StartAt::Earliest, settings, create_stream: true }
}

/// A group of each kind over a stream of its own with 20 entries, of which one was delivered and given back.
fn prepared(world: &World, settings: GroupSettings) -> Stepped {
    let mut stepped = world.open().expect("opens");
    let engine = stepped.engine().clone();
    stepped.run(engine.create_group(create("s", settings))).expect("makes the group");
    publish(&mut stepped, "s", 0..20);
    let first = stepped.run(engine.pull(pull("s", "a", 1))).expect("pulls");
    let ids = vec![IdRange::one(first.entries[0].entry.id)];
    let (holder, action) = (Holder::Anyone, NackAction::HandBack);
    let nack = Nack { stream: stream("s"), group: group("g"), ids, holder, action };
    stepped.run(engine.nack(nack)).expect("hands back");
    stepped
}

/// What can be seen of the group, but for when it was seen; over a restart also but for the time that passed.
fn seen(stepped: &mut Stepped, over_restart: bool) -> String {
    let engine = stepped.engine().clone();
    let mut info = stepped.run(engine.group(&stream("s"), &group("g"))).expect("exists");
    let list = ListPending {
        stream: stream("s"),
        group: group("g"),
        range: IdRange::ALL,
        entries_max: 100,
        consumer: None,
        idle_min: Duration::ZERO,
    };
    let mut listed = stepped.run(engine.list_pending(list)).expect("lists");
    for consumer in &mut info.consumers {
        consumer.idle_ms = 0;
        consumer.inactive_ms = consumer.inactive_ms.filter(|_| !over_restart);
    }
    for entry in listed.iter_mut().filter(|_| over_restart) {
        (entry.idle_ms, entry.due_ms) = (0, None);
    }
    format!("{info:?} {listed:?}")
}

type Asked = Pin<Box<dyn Future<Output = synapse::error::Result<Delivery>>>>;

/// Asks, and has the core decide, without looking at the answer.
fn asked(stepped: &mut Stepped, request: Pull) -> Asked {
    let engine = stepped.engine().clone();
    let mut asked: Asked = Box::pin(async move { engine.pull(request).await });
    assert!(is_waiting(&mut asked), "the core has not answered yet");
    stepped.settle();
    asked
}

fn is_waiting(asked: &mut Asked) -> bool {
    asked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

fn kinds() -> [GroupSettings; 3] {
    let keyed = GroupSettings { dispatch: Dispatch::KeyOrdered, ..GroupSettings::default() };
    [GroupSettings::by_hand(), GroupSettings::default(), keyed]
}

#[test]
fn a_grant_that_nobody_took_leaves_no_trace() {
    for (settings, no_ack) in kinds().into_iter().flat_map(|kind| [(kind.clone(), false), (kind, true)]) {
        let world = World::new();
        let mut stepped = prepared(&world, settings.clone());
        // The windows are filled, and the consumer is known.
        let engine = stepped.engine().clone();
        stepped.run(engine.add_consumer(&stream("s"), &group("g"), consumer("b"))).expect("is made");
        let (before, known) = (seen(&mut stepped, false), seen(&mut stepped, true));
        for entries_max in [1, 2, 5, 100] {
            drop(asked(&mut stepped, Pull { no_ack, ..pull("s", "b", entries_max) }));
            stepped.settle();
            let after = seen(&mut stepped, false);
            assert_eq!(after, before, "{settings:?}, no_ack {no_ack}, {entries_max} entries");
        }
        drop(stepped);
        let mut again = world.open().expect("opens");
        assert_eq!(seen(&mut again, true), known, "after a crash: {settings:?}, no_ack {no_ack}");
    }
}

#[test]
fn what_was_granted_behind_it_goes_back_with_it() {
    let world = World::new();
    let mut stepped = prepared(&world, GroupSettings::by_hand());
    let engine = stepped.engine().clone();
    let all = stepped.run(engine.pull(pull("s", "z", 1))).expect("pulls").entries[0].entry.id;
    assert!(all.ms > 0, "the one that was handed back");
    let first = asked(&mut stepped, pull("s", "a", 2));
    let mut second = asked(&mut stepped, pull("s", "b", 2));
    let mut third = asked(&mut stepped, pull("s", "c", 2));
    assert!(is_waiting(&mut second) && is_waiting(&mut third), "they come after the first");
    drop(first);
    let second = stepped.run(second).expect("pulls");
    let third = stepped.run(third).expect("pulls");
    let numbers = |delivery: &Delivery| -> Vec<(u64, u32)> {
        let of = |d: &synapse::engine::Delivered| (d.entry.id.seq + (d.entry.id.ms - all.ms) * 1000, d.deliveries);
        delivery.entries.iter().map(of).collect()
    };
    assert_eq!([numbers(&second), numbers(&third)].concat(), [(1, 1), (2, 1), (3, 1), (4, 1)]);
}

#[test]
fn a_grant_that_is_not_looked_at_is_taken_back_for_those_behind_it() {
    let world = World::new();
    let mut stepped = prepared(&world, GroupSettings::by_hand());
    let engine = stepped.engine().clone();
    stepped.run(engine.pull(pull("s", "z", 1))).expect("the one that was handed back");
    let first = asked(&mut stepped, pull("s", "a", 2));
    let mut second = asked(&mut stepped, pull("s", "b", 2));
    assert!(is_waiting(&mut second));
    world.clock.advance(Duration::from_secs(2));
    stepped.settle();
    let second = stepped.run(second).expect("pulls");
    let first = stepped.run(first).expect("pulls");
    let ids = |delivery: &Delivery| delivery.entries.iter().map(|d| (d.entry.id, d.deliveries)).collect::<Vec<_>>();
    let (second, first) = (ids(&second), ids(&first));
    assert!(second.last() < first.first() && second.iter().chain(&first).all(|(_, n)| *n == 1), "{second:?} {first:?}");
}

/// What consumers got, and how many waits ended.
#[derive(Default)]
struct Seen {
    got: Mutex<BTreeMap<StreamName, BTreeMap<EntryId, usize>>>,
    ended: AtomicUsize,
    is_over: AtomicBool,
}

const STREAMS: [&str; 3] = ["a", "b", "c"];

fn waits() -> usize {
    std::env::var("SYNAPSE_UNGRANTED_WAITS").ok().and_then(|text| text.parse().ok()).unwrap_or(400)
}

/// Reads one stream or all of them, over and over, with waits that end before or while something comes.
async fn read(engine: Engine, number: usize, seen: Arc<Seen>) {
    let who = format!("c{number}");
    let mut last: BTreeMap<StreamName, EntryId> = BTreeMap::new();
    let mut round = number;
    while !seen.is_over.load(Ordering::Relaxed) {
        round += 1;
        let one = stream(STREAMS[round % STREAMS.len()]);
        let request = Pull { wait: Duration::from_millis(40), ..pull(one.as_str(), &who, 1 + round % 3) };
        let streams: Vec<StreamName> = if round.is_multiple_of(2) { STREAMS.map(stream).to_vec() } else { vec![one] };
        let places = streams.iter().map(|name| (name.clone(), None)).collect();
        let wait = Duration::from_micros(300 * (round as u64 % 9));
        // Where the time is over the future is dropped, whatever it was granted.
        match tokio::time::timeout(wait, engine.pull_several(request, places)).await {
            Err(_) => drop(seen.ended.fetch_add(1, Ordering::Relaxed)),
            Ok(pulled) => {
                for (place, delivery) in pulled.expect("pulls") {
                    for delivered in delivery.entries {
                        assert_eq!(delivered.deliveries, 1, "it was never seen before");
                        let before = last.insert(streams[place].clone(), delivered.entry.id);
                        assert!(before < Some(delivered.entry.id), "{before:?} before {}", delivered.entry.id);
                        let mut got = seen.got.lock();
                        *got.entry(streams[place].clone()).or_default().entry(delivered.entry.id).or_default() += 1;
                    }
                }
            }
        }
    }
}

#[test]
fn first_deliveries_keep_their_order_whatever_waits_end() {
    let fixture = Fixture::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (engine, seen, waits) = (fixture.engine.clone(), Arc::new(Seen::default()), waits());
    runtime.block_on(async {
        for name in STREAMS {
            engine.create_group(create(name, GroupSettings::by_hand())).await.expect("makes the group");
        }
        let readers: Vec<_> = (0..6).map(|n| tokio::spawn(read(engine.clone(), n, Arc::clone(&seen)))).collect();
        let mut published = 0;
        while seen.ended.load(Ordering::Relaxed) < waits {
            for name in STREAMS {
                engine.publish(events(name, published..published + 2)).await.expect("publishes");
            }
            published += 2;
            tokio::time::sleep(Duration::from_micros(700)).await;
        }
        let total = published as usize;
        let is_all = |got: &BTreeMap<StreamName, BTreeMap<EntryId, usize>>| {
            STREAMS.iter().all(|name| got.get(&stream(name)).is_some_and(|ids| ids.len() == total))
        };
        let until = std::time::Instant::now() + Duration::from_secs(60);
        while !is_all(&seen.got.lock()) {
            assert!(std::time::Instant::now() < until, "what was granted and not taken did not come again");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        seen.is_over.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.await.expect("reads in order");
        }
        for name in STREAMS {
            assert!(seen.got.lock()[&stream(name)].values().all(|times| *times == 1), "each came once");
            let info = engine.group(&stream(name), &group("g")).await.expect("exists");
            assert_eq!((info.pending, info.undelivered, info.waiting), (total as u64, 0, 0));
            let ids = vec![IdRange::ALL];
            let ack =
                Acknowledge { stream: stream(name), group: group("g"), ids, holder: Holder::Anyone, publish: vec![] };
            assert_eq!(engine.acknowledge(ack).await.expect("acknowledges").done, total as u64);
        }
    });
}

fn listed(stepped: &mut Stepped) -> Vec<(Option<String>, u32, u32)> {
    let engine = stepped.engine().clone();
    let list = ListPending {
        stream: stream("s"),
        group: group("g"),
        range: IdRange::ALL,
        entries_max: 100,
        consumer: None,
        idle_min: Duration::ZERO,
    };
    let listed = stepped.run(engine.list_pending(list)).expect("lists");
    listed.into_iter().map(|e| (e.consumer.map(|name| name.to_string()), e.deliveries, e.failures)).collect()
}

#[test]
fn leases_from_before_a_restart_end_without_a_failure() {
    let world = World::new();
    let mut stepped = world.open().expect("opens");
    let engine = stepped.engine().clone();
    stepped.run(engine.create_group(create("s", GroupSettings::default()))).expect("makes the group");
    publish(&mut stepped, "s", 0..1);
    stepped.run(engine.pull(pull("s", "a", 1))).expect("pulls");
    // The lease may end while nobody is there, or after that.
    for (away_s, rest_s) in [(0, 31), (31, 0)] {
        let before = listed(&mut stepped);
        drop(stepped);
        world.clock.advance(Duration::from_secs(away_s));
        stepped = world.open().expect("opens");
        world.clock.advance(Duration::from_secs(rest_s));
        stepped.settle();
        assert_eq!(listed(&mut stepped), [(None, before[0].1, before[0].2)], "{away_s} s away");
        let engine = stepped.engine().clone();
        stepped.run(engine.pull(pull("s", "a", 1))).expect("pulls");
        world.clock.advance(Duration::from_secs(31));
        stepped.settle();
        assert_eq!(listed(&mut stepped), [(None, before[0].1 + 1, before[0].2 + 1)], "that one is a failure");
        let engine = stepped.engine().clone();
        stepped.run(engine.pull(pull("s", "a", 1))).expect("pulls");
    }
}

#[test]
fn sessions_that_are_dropped_while_the_queue_is_full_end() {
    let world = World::new();
    let mut stepped = prepared(&world, GroupSettings::default());
    let engine = stepped.engine().clone();
    let mut session = stepped.run(engine.open_session(&stream("s"), &group("g"), consumer("c"))).expect("opens");
    assert_eq!(stepped.run(session.next(1, 1 << 20)).expect("delivers").entries.len(), 1);
    let granted = asked(&mut stepped, pull("s", "d", 2));
    let mut waiting = Vec::new();
    loop {
        let engine = engine.clone();
        let mut one: Asked = Box::pin(async move { engine.pull(pull("s", "e", 1)).await });
        if !is_waiting(&mut one) {
            break;
        }
        waiting.push(one);
    }
    // Neither waits for room in the queue, which nobody takes anything from now.
    drop((session, granted, waiting));
    stepped.settle();
    let info = stepped.run(engine.group(&stream("s"), &group("g"))).expect("exists");
    assert!(info.consumers.iter().all(|consumer| (consumer.sessions, consumer.pending) == (0, 0)), "{info:?}");
    assert_eq!(listed(&mut stepped), [(None, 2, 1)], "what the session held failed, and the grant left no trace");
}
