//! Transactions: what they see, what others see of them, and how they end.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use synapse::engine::{
    Acknowledge, CreateGroup, DeadLetterChoice, Engine, Holder, Nack, NackAction, Publish, Pull, Read, StartAt,
    TransactionRoom, Trim, TrimTo,
};
use synapse::error::{Error, Reason, Result};
use synapse::format::event::EventView;
use synapse::types::{Durability, EntryId, GroupSettings, IdRange};

use crate::world::{World, publish};
use crate::{Fixture, consumer, events, group, stream, wait};

const ROOM: TransactionRoom = TransactionRoom { bytes: 16 << 10, grows: true };

/// A source of numbers that a seed decides.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

async fn ids(engine: &Engine, name: &str, reverse: bool, entries_max: usize) -> Result<Vec<EntryId>> {
    let (mut found, mut range) = (Vec::new(), IdRange::ALL);
    loop {
        let page = engine.read(Read { range, reverse, entries_max, ..Read::all(stream(name)) }).await?;
        found.extend(page.entries.iter().map(|entry| entry.id));
        match page.next {
            Some(next) if reverse => range.last = next,
            Some(next) => range.first = next,
            None => return Ok(found),
        }
    }
}

/// One stream as it should be.
type Expected = Vec<EntryId>;

/// Does something to a stream, and looks at it from all sides.
async fn change(engine: &Engine, name: &str, expected: &mut Expected, random: &mut Random) -> Result<()> {
    match random.below(8) {
        0..4 => {
            let published = engine.publish(events(name, 0..1 + random.below(40))).await?;
            expected.extend(published.ids().into_iter().map(|(id, _)| id));
        }
        4 if !expected.is_empty() => {
            let gone: Vec<EntryId> = (0..3).map(|_| expected[random.below(expected.len() as u64) as usize]).collect();
            engine.delete_entries(&stream(name), gone.clone()).await?;
            expected.retain(|id| !gone.contains(id));
        }
        5 if engine.has_stream(&stream(name)) => {
            let keep = random.below(60);
            let trim = Trim { stream: stream(name), to: TrimTo::KeepEntries(keep), dry_run: false };
            let trimmed = engine.trim(trim).await?;
            let gone = expected.len().saturating_sub(keep as usize);
            assert_eq!(trimmed.entries, gone as u64);
            expected.drain(..gone);
        }
        6 if engine.has_stream(&stream(name)) && random.below(3) == 0 => {
            engine.delete_stream(&stream(name)).await?;
            expected.clear();
        }
        _ => {}
    }
    look(engine, name, expected, 1 + random.below(30) as usize).await
}

async fn look(engine: &Engine, name: &str, expected: &Expected, page: usize) -> Result<()> {
    if !engine.has_stream(&stream(name)) {
        assert!(expected.is_empty() && !engine.stream_names("").contains(&stream(name)));
        return Ok(());
    }
    assert_eq!(&ids(engine, name, false, page).await?, expected);
    let reversed: Vec<EntryId> = expected.iter().rev().copied().collect();
    assert_eq!(ids(engine, name, true, page).await?, reversed);
    let info = engine.stream(&stream(name)).await?;
    assert_eq!((info.length, info.first), (expected.len() as u64, expected.first().copied()));
    Ok(())
}

#[test]
fn each_request_sees_those_before_it() {
    let fixture = Fixture::new();
    let mut random = Random(7);
    let mut expected: [Expected; 2] = Default::default();
    for round in 0..300 {
        // What goes ahead of it is not durable when it begins.
        let engine = fixture.engine.clone();
        let ahead = (0..2).map(|n| engine.publish(events(["a", "b"][n], 0..20)));
        let (mut own, seed) = (expected.clone(), round);
        let count = random.below(8);
        let work = move |engine: Engine| async move {
            let mut random = Random(seed);
            for (n, expected) in own.iter_mut().enumerate() {
                *expected = ids(&engine, ["a", "b"][n], false, 1000).await?;
            }
            for _ in 0..count {
                let n = random.below(2) as usize;
                change(&engine, ["a", "b"][n], &mut own[n], &mut random).await?;
            }
            Ok::<_, Error>(own)
        };
        let both = wait(async { futures::join!(join_all(ahead), engine.transaction(ROOM, work)) });
        let published: Vec<EntryId> = both.0.into_iter().map(|p| p.expect("is published").last).collect();
        let own = both.1.and_then(|own| own).unwrap_or_else(|error| panic!("round {round}: {error}"));
        if count == 0 {
            assert_eq!((own[0].last(), own[1].last()), (published.first(), published.get(1)), "it came after them");
        }
        expected = own;
        for n in 0..2 {
            wait(look(&fixture.engine, ["a", "b"][n], &expected[n], 1000)).expect("can be read");
        }
    }
    let fixture = fixture.restart();
    for n in 0..2 {
        wait(look(&fixture.engine, ["a", "b"][n], &expected[n], 1000)).expect("can be read");
    }
}

#[test]
fn nothing_is_seen_before_it_is_durable() {
    let world = World::new();
    let mut stepped = world.open().expect("opens");
    publish(&mut stepped, "a", 0..3);
    let engine = stepped.engine().clone();
    let work = |engine: Engine| async move {
        engine.publish(events("a", 3..5)).await?;
        engine.publish(events("b", 0..2)).await?;
        ids(&engine, "a", false, 100).await
    };
    let mut transaction = Box::pin(engine.transaction(ROOM, work));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(transaction.as_mut().poll(&mut context).is_pending());
    assert!(stepped.step_core());
    assert!(transaction.as_mut().poll(&mut context).is_pending(), "no answer without a commit");
    assert_eq!(wait(ids(&engine, "a", false, 100)).expect("reads").len(), 3);
    assert!(!engine.has_stream(&stream("b")));
    let before = engine.stats().commits;
    assert!(stepped.step_log());
    assert_eq!(engine.stats().commits, before + 1);
    assert_eq!(wait(ids(&engine, "a", false, 100)).expect("reads").len(), 5);
    assert_eq!(wait(transaction).and_then(|inner| inner).expect("is answered").len(), 5);
}

#[test]
fn nobody_comes_in_between() {
    let fixture = Fixture::new();
    let ended = Arc::new(AtomicBool::new(false));
    let (others, until) = (fixture.engine.clone(), Arc::clone(&ended));
    let other = std::thread::spawn(move || {
        while !until.load(Ordering::Relaxed) {
            others.publish_blocking(events("s", 0..1)).expect("publishes");
        }
    });
    for _ in 0..200 {
        let work = |engine: Engine| async move {
            let length = async |engine: &Engine| engine.stream_counts(&stream("s")).await.map_or(0, |info| info.length);
            let (before, mut added) = (length(&engine).await, Vec::new());
            for _ in 0..10 {
                added.push(engine.publish(events("s", 0..1)).await?.first);
            }
            let mut last = ids(&engine, "s", true, 10).await?;
            last.truncate(10);
            last.reverse();
            Ok::<_, Error>((length(&engine).await - before, added == last))
        };
        let done = wait(fixture.engine.transaction(ROOM, work)).and_then(|inner| inner).expect("runs");
        assert_eq!(done, (10, true));
    }
    ended.store(true, Ordering::Relaxed);
    other.join().expect("publishes to its end");
}

fn make_group(engine: &Engine, settings: GroupSettings) -> impl Future<Output = Result<()>> {
    let (engine, request) = (
        engine.clone(),
        CreateGroup { stream: stream("s"), group: group("g"), start: StartAt::Earliest, settings, create_stream: true },
    );
    async move { engine.create_group(request).await.map(|_| ()) }
}

fn pull(who: &str, entries_max: usize, wait: Duration) -> Pull {
    let (stream, group, consumer) = (stream("s"), group("g"), consumer(who));
    Pull { stream, group, consumer, entries_max, bytes_max: 1 << 20, wait, no_ack: false }
}

#[test]
fn groups_hand_out_what_is_new_to_the_transaction_first() {
    let fixture = Fixture::new();
    wait(make_group(&fixture.engine, GroupSettings::by_hand())).expect("is made");
    let waiting = fixture.engine.clone();
    let waiter = std::thread::spawn(move || wait(waiting.pull(pull("waits", 10, Duration::from_secs(20)))));
    while wait(fixture.engine.group(&stream("s"), &group("g"))).expect("is there").consumers.is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let work = |engine: Engine| async move {
        let added = engine.publish(events("s", 0..9)).await?;
        let mut got = Vec::new();
        for max in [2, 3] {
            // It has a long wait, and does not wait.
            let delivery = engine.pull(pull("me", max, Duration::from_secs(20))).await?;
            got.extend(delivery.entries.iter().map(|delivered| delivered.entry.id));
        }
        let ids = got[..4].iter().map(|id| IdRange::one(*id)).collect();
        let (stream, group) = (stream("s"), group("g"));
        let request = Acknowledge { stream, group, ids, holder: Holder::Anyone, publish: Vec::new() };
        assert_eq!(engine.acknowledge(request).await?.done, 4);
        Ok::<_, Error>((added, got))
    };
    let (added, got) = wait(fixture.engine.transaction(ROOM, work)).and_then(|inner| inner).expect("runs");
    let added: Vec<EntryId> = added.ids().into_iter().map(|(id, _)| id).collect();
    assert_eq!(got, added[..5]);
    let rest = waiter.join().expect("ends").expect("pulls");
    let rest: Vec<EntryId> = rest.entries.iter().map(|delivered| delivered.entry.id).collect();
    assert_eq!(rest, added[5..], "the rest goes to who waited, once");
    let fixture = fixture.restart();
    let info = wait(fixture.engine.group(&stream("s"), &group("g"))).expect("is there");
    assert_eq!((info.pending, info.undelivered, info.acknowledged), (5, 0, 4));
    let empty = wait(fixture.engine.transaction(ROOM, |engine| async move {
        engine.pull(pull("me", 10, Duration::from_secs(20))).await.map(|delivery| delivery.entries.len())
    }));
    assert_eq!(empty.and_then(|inner| inner).expect("runs"), 0);
}

#[test]
fn what_is_given_up_before_it_is_durable_becomes_a_dead_letter() {
    let fixture = Fixture::new();
    wait(make_group(&fixture.engine, GroupSettings::default())).expect("is made");
    let work = |engine: Engine| async move {
        engine.publish(events("s", 0..2)).await?;
        let delivery = engine.pull(pull("me", 1, Duration::ZERO)).await?;
        let ids = delivery.entries.iter().map(|delivered| IdRange::one(delivered.entry.id)).collect();
        let action = NackAction::DeadLetter { reason: "on purpose".into() };
        engine.nack(Nack { stream: stream("s"), group: group("g"), ids, holder: Holder::Anyone, action }).await
    };
    wait(fixture.engine.transaction(ROOM, work)).and_then(|inner| inner).expect("runs");
    for _ in 0..400 {
        let page = wait(fixture.engine.dead_letters(&stream("s"), &group("g"), None, 10)).expect("are listed");
        if page.letters.len() == 1 {
            let all = wait(fixture.engine.purge_dead_letters(&stream("s"), &group("g"), DeadLetterChoice::All));
            return assert_eq!(all.expect("are purged").done, 1);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("no dead letter comes");
}

#[test]
fn what_cannot_run_as_one_is_refused() {
    let fixture = Fixture::new();
    let engine = &fixture.engine;
    let refused =
        |room| wait(engine.transaction(room, |engine| async move { engine.publish(events("s", 0..1)).await }));
    let error = refused(TransactionRoom { bytes: 2 << 20, grows: true }).expect_err("is too large");
    assert_eq!(error.reason(), Reason::BatchTooLarge);
    assert!(!engine.has_stream(&stream("s")), "it did not begin");

    let inner = |work: fn(Engine) -> futures::future::BoxFuture<'static, Result<()>>| {
        wait(engine.transaction(ROOM, work)).and_then(|inner| inner).expect_err("is refused").reason()
    };
    let nested = inner(|engine| Box::pin(async move { engine.transaction(ROOM, |_| async {}).await }));
    assert_eq!(nested, Reason::InvalidArgument);
    let waits = inner(|engine| {
        Box::pin(async move {
            engine.publish(events("s", 0..1)).await?;
            std::future::pending().await
        })
    });
    assert_eq!(waits, Reason::InvalidArgument);
    let panics = inner(|engine| {
        Box::pin(async move {
            engine.publish(events("s", 0..1)).await?;
            panic!("on purpose")
        })
    });
    assert_eq!(panics, Reason::Internal);
    let kept = wait(engine.transaction(ROOM, |engine| async move { engine })).expect("runs");
    assert_eq!(wait(kept.publish(events("s", 0..1))).expect_err("is over").reason(), Reason::InvalidArgument);
    assert_eq!(wait(ids(engine, "s", false, 10)).expect("reads").len(), 2, "what was done before that stays");
    wait(engine.publish(events("s", 0..1))).expect("the engine goes on");
}

#[test]
fn what_was_not_asked_for_and_does_not_fit_fails_alone() {
    let fixture = Fixture::new();
    let work = |engine: Engine| async move {
        let mut outcomes = Vec::new();
        for _ in 0..200 {
            outcomes.push(engine.publish(events("s", 0..1000)).await.map_err(|error| error.reason()));
        }
        outcomes
    };
    let before = fixture.engine.stats().commits;
    let outcomes = wait(fixture.engine.transaction(ROOM, work)).expect("runs");
    let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert!(done > 5 && done < 200, "{done}");
    assert!(outcomes[done..].iter().all(|outcome| *outcome == Err(Reason::BatchTooLarge)));
    assert_eq!(fixture.engine.stats().commits, before + 1);
    assert_eq!(wait(ids(&fixture.engine, "s", false, 1000)).expect("reads").len(), done * 1000);
}

#[test]
fn a_transaction_goes_on_without_its_asker_and_an_engine_stops_after_it() {
    let fixture = Fixture::new();
    for _ in 0..20 {
        let mut asked = Box::pin(fixture.engine.transaction(ROOM, |engine| async move {
            engine.publish(events("a", 0..1)).await?;
            engine.publish(events("b", 0..1)).await
        }));
        let _ = asked.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    }
    let fixture = fixture.restart();
    let length = |name| wait(fixture.engine.stream(&stream(name))).expect("is there").length;
    assert_eq!((length("a"), length("b")), (20, 20));
}

#[test]
fn others_see_everything_at_once() {
    let fixture = Fixture::new();
    let names: Vec<String> = (0..40).map(|n| format!("s{n}")).collect();
    let ended = Arc::new(AtomicBool::new(false));
    let (engine, until) = (fixture.engine.clone(), Arc::clone(&ended));
    let reader = std::thread::spawn(move || {
        let newest = |name: &str| {
            let read = Read { reverse: true, entries_max: 1, ..Read::all(stream(name)) };
            wait(engine.read(read)).ok().and_then(|page| page.entries.first().map(|entry| number(&entry.bytes)))
        };
        let mut looks = 0;
        while !until.load(Ordering::Relaxed) {
            let (first, gone) = (newest("s0"), newest("gone"));
            let last = newest("s39");
            assert!(first <= last, "{first:?} is seen, and {last:?} after it");
            assert_eq!(gone, None, "what the same transaction takes away is not seen");
            looks += 1;
        }
        looks
    });
    for n in 0..600 {
        let names = names.clone();
        let work = move |engine: Engine| async move {
            for name in names.iter().map(String::as_str).chain(["gone"]) {
                let publish = Publish { durability: Some(Durability::Os), ..events(name, n..n + 1) };
                engine.publish(publish).await?;
            }
            engine.delete_stream(&stream("gone")).await
        };
        wait(fixture.engine.transaction(ROOM, work)).and_then(|inner| inner).expect("runs");
    }
    ended.store(true, Ordering::Relaxed);
    assert!(reader.join().expect("sees no part") > 100);
}

/// The number of an event of [`crate::event`].
fn number(bytes: &[u8]) -> u64 {
    let event = EventView::parse(bytes).expect("an event");
    let text = std::str::from_utf8(event.data).expect("text");
    text[5..text.len() - 1].parse().expect("a number")
}

#[test]
fn a_group_hands_out_nothing_to_others_before_it_is_durable() {
    let world = World::new();
    let mut stepped = world.open().expect("opens");
    let engine = stepped.engine().clone();
    stepped.run(make_group(&engine, GroupSettings::by_hand())).expect("is made");
    publish(&mut stepped, "s", 0..5);
    let one = stepped.run(engine.pull(pull("other", 1, Duration::ZERO))).expect("pulls");
    let work = |engine: Engine| async move {
        engine.publish(events("s", 5..12)).await?;
        engine.pull(pull("me", 6, Duration::ZERO)).await
    };
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut transaction = Box::pin(engine.transaction(ROOM, work));
    let mut hasty = Box::pin(engine.pull(pull("other", 10, Duration::ZERO)));
    assert!(transaction.as_mut().poll(&mut context).is_pending());
    let mut early = None;
    for _ in 0..10 {
        if let std::task::Poll::Ready(delivery) = hasty.as_mut().poll(&mut context) {
            early = Some(delivery.expect("pulls").entries.len());
            break;
        }
        stepped.step_core();
    }
    assert_eq!(early, Some(0));
    let own = stepped.run(transaction).and_then(|inner| inner).expect("runs");
    let rest = stepped.run(engine.pull(pull("other", 10, Duration::ZERO))).expect("pulls");
    assert_eq!((one.entries.len(), own.entries.len(), rest.entries.len()), (1, 6, 5));
    let info = stepped.run(engine.group(&stream("s"), &group("g"))).expect("is there");
    assert_eq!((info.pending, info.undelivered), (12, 0));
}
