//! Groups: deliver, settle, redeliver, dead-letter, order, over restarts.

use std::time::Duration;

use synapse::engine::{
    Acknowledge, Claim, ClaimOptions, CreateGroup, DeadLetterChoice, Delivery, Extend, Holder, ListPending, Nack,
    NackAction, Pull, RedriveTo, StartAt, Trim, TrimTo,
};
use synapse::error::Reason;
use synapse::format::event::EventView;
use synapse::types::{Dispatch, EntryId, GroupSettings, IdRange};

use crate::{Fixture, consumer, events, group, stream, wait};

fn create(fixture: &Fixture, settings: GroupSettings) {
    let request =
        CreateGroup { stream: stream("s"), group: group("g"), start: StartAt::Earliest, settings, create_stream: true };
    wait(fixture.engine.create_group(request)).expect("makes the group");
}

fn pull(fixture: &Fixture, who: &str, max: usize) -> Delivery {
    pull_for(fixture, who, max, Duration::ZERO)
}

fn pull_for(fixture: &Fixture, who: &str, max: usize, wait_for: Duration) -> Delivery {
    wait(fixture.engine.pull(Pull {
        stream: stream("s"),
        group: group("g"),
        consumer: consumer(who),
        entries_max: max,
        bytes_max: 1 << 20,
        wait: wait_for,
        no_ack: false,
    }))
    .expect("pulls")
}

fn ids(delivery: &Delivery) -> Vec<EntryId> {
    delivery.entries.iter().map(|d| d.entry.id).collect()
}

fn ack(fixture: &Fixture, ids: &[EntryId], holder: Holder) -> synapse::engine::Settled {
    let ids = ids.iter().map(|id| IdRange::one(*id)).collect();
    wait(fixture.engine.acknowledge(Acknowledge {
        stream: stream("s"),
        group: group("g"),
        ids,
        holder,
        publish: vec![],
    }))
    .expect("acknowledges")
}

fn nack(fixture: &Fixture, ids: &[EntryId], action: NackAction) {
    let ids = ids.iter().map(|id| IdRange::one(*id)).collect();
    let request = Nack { stream: stream("s"), group: group("g"), ids, holder: Holder::Anyone, action };
    assert!(wait(fixture.engine.nack(request)).expect("is taken").done > 0);
}

fn info(fixture: &Fixture) -> synapse::engine::GroupInfo {
    wait(fixture.engine.group(&stream("s"), &group("g"))).expect("exists")
}

#[test]
fn work_is_shared_and_survives_a_restart() {
    let fixture = Fixture::new();
    create(&fixture, GroupSettings::by_hand());
    wait(fixture.engine.publish(events("s", 0..100))).expect("publishes");
    let (a, b) = (pull(&fixture, "a", 30), pull(&fixture, "b", 30));
    assert_eq!((a.entries.len(), b.entries.len()), (30, 30));
    assert!(ids(&a).iter().all(|id| !ids(&b).contains(id)));
    let settled = ack(&fixture, &ids(&a), Holder::Delivery(a.delivery));
    assert_eq!((settled.done, settled.not_owned.len()), (30, 0));
    let stolen = ack(&fixture, &ids(&b)[..2], Holder::Delivery(a.delivery));
    assert_eq!((stolen.done, stolen.not_owned), (0, ids(&b)[..2].to_vec()));

    let fixture = fixture.restart();
    let state = info(&fixture);
    assert_eq!((state.undelivered, state.pending, state.acknowledged), (40, 30, 30));
    assert!(state.oldest_unacknowledged_ms.is_some());
    assert_eq!(ack(&fixture, &ids(&b), Holder::Delivery(b.delivery)).done, 30, "the token survives, too");
    let rest = pull(&fixture, "a", 100);
    assert_eq!(rest.entries.len(), 40);
    assert!(rest.entries.iter().all(|d| d.deliveries == 1));
    assert_eq!(ack(&fixture, &ids(&a)[..1], Holder::Anyone).not_pending, ids(&a)[..1]);
}

#[test]
fn pulls_wait_for_what_comes() {
    let fixture = Fixture::new();
    create(&fixture, GroupSettings::default());
    let engine = fixture.engine.clone();
    let publisher = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        wait(engine.publish(events("s", 0..1))).expect("publishes");
    });
    assert_eq!(pull_for(&fixture, "a", 10, Duration::from_secs(20)).entries.len(), 1);
    publisher.join().expect("publishes");
    assert!(pull_for(&fixture, "a", 10, Duration::from_millis(20)).entries.is_empty());
}

#[test]
fn leases_run_out_and_can_be_extended() {
    let fixture = Fixture::new();
    create(&fixture, GroupSettings { ack_wait_ms: 150, ..GroupSettings::default() });
    wait(fixture.engine.publish(events("s", 0..2))).expect("publishes");
    let first = pull(&fixture, "a", 10);
    let extend = Extend {
        stream: stream("s"),
        group: group("g"),
        ids: vec![IdRange::one(ids(&first)[0])],
        holder: Holder::Delivery(first.delivery),
        lease: Some(Duration::from_secs(60)),
    };
    assert_eq!(wait(fixture.engine.extend(extend)).expect("extends").done, 1);
    let second = pull_for(&fixture, "b", 10, Duration::from_secs(20));
    assert_eq!(ids(&second), ids(&first)[1..]);
    assert_eq!((second.entries[0].deliveries, second.entries[0].failures), (2, 1));
    assert_eq!(ack(&fixture, &ids(&first)[1..], Holder::Delivery(first.delivery)).not_owned.len(), 1, "fenced");
}

#[test]
fn what_fails_too_often_is_dead_lettered_and_can_come_back() {
    let fixture = Fixture::new();
    create(&fixture, GroupSettings { max_deliveries: 2, ..GroupSettings::default() });
    wait(fixture.engine.publish(events("s", 0..3))).expect("publishes");
    let got = ids(&pull(&fixture, "a", 10));
    nack(&fixture, &got[..1], NackAction::DeadLetter { reason: "broken".into() });
    nack(&fixture, &got[1..2], NackAction::Retry { delay: None });
    let again = pull(&fixture, "a", 10);
    assert_eq!((ids(&again), again.entries[0].failures), (got[1..2].to_vec(), 1));
    nack(&fixture, &got[1..2], NackAction::Retry { delay: None });
    ack(&fixture, &got[2..], Holder::Anyone);

    let letters = || wait(fixture.engine.dead_letters(&stream("s"), &group("g"), None, 100)).expect("lists").letters;
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while letters().len() < 2 && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let found = letters();
    assert_eq!(found.iter().map(|l| l.origin_id).collect::<Vec<_>>(), got[..2]);
    assert_eq!((found[0].reason.as_str(), found[0].deliveries, found[1].failures), ("broken", 1, 2));
    assert_eq!(EventView::parse(&found[0].entry.bytes).expect("an event").data, b"{\"n\":0}");
    assert_eq!((info(&fixture).pending, info(&fixture).dead_lettered), (0, 2));

    let fixture = fixture.restart();
    let redrive = |which, to| wait(fixture.engine.redrive(&stream("s"), &group("g"), which, to)).expect("redrives");
    let cursor = info(&fixture).cursor;
    let back = redrive(DeadLetterChoice::Ids(vec![found[0].id, EntryId::new(1, 1)]), RedriveTo::Group);
    assert_eq!((back.done, back.not_found), (1, vec![EntryId::new(1, 1)]));
    assert_eq!(info(&fixture).cursor, cursor, "a redrive never moves the cursor");
    assert_eq!(ids(&pull(&fixture, "a", 10)), got[..1]);
    assert_eq!(redrive(DeadLetterChoice::All, RedriveTo::Stream).done, 1);
    assert_eq!(EventView::parse(&pull(&fixture, "a", 10).entries[0].entry.bytes).expect("an event").data, b"{\"n\":1}");
    assert!(wait(fixture.engine.dead_letters(&stream("s"), &group("g"), None, 100)).expect("lists").letters.is_empty());
}

#[test]
fn a_redrive_fills_the_room_for_pending_entries_and_leaves_the_rest() {
    let fixture = Fixture::new();
    create(&fixture, GroupSettings { pending_max: 300, ..GroupSettings::default() });
    wait(fixture.engine.publish(events("s", 0..600))).expect("publishes");
    for _ in 0..2 {
        let got = ids(&pull(&fixture, "a", 300));
        nack(&fixture, &got, NackAction::DeadLetter { reason: "broken".into() });
    }
    let redrive = || wait(fixture.engine.redrive(&stream("s"), &group("g"), DeadLetterChoice::All, RedriveTo::Group));
    let first = redrive().expect("redrives");
    assert_eq!((first.done, first.is_cut_short, info(&fixture).pending), (300, true, 300));
    let none = redrive().expect("redrives");
    assert_eq!((none.done, none.is_cut_short, info(&fixture).pending), (0, true, 300));
    ack(&fixture, &ids(&pull(&fixture, "a", 300)), Holder::Anyone);
    let rest = redrive().expect("redrives");
    assert_eq!((rest.done, rest.is_cut_short, info(&fixture).pending), (300, false, 300));
}

#[test]
fn several_letters_of_one_entry_take_room_once() {
    let fixture = Fixture::new();
    create(&fixture, GroupSettings { pending_max: 2, ..GroupSettings::default() });
    wait(fixture.engine.publish(events("s", 0..3))).expect("publishes");
    let bury =
        |max| nack(&fixture, &ids(&pull(&fixture, "a", max)), NackAction::DeadLetter { reason: "broken".into() });
    bury(1);
    wait(fixture.engine.seek_group(&stream("s"), &group("g"), StartAt::Earliest, false)).expect("seeks");
    bury(2);
    let back = wait(fixture.engine.redrive(&stream("s"), &group("g"), DeadLetterChoice::All, RedriveTo::Group));
    let back = back.expect("redrives");
    assert_eq!((back.done, back.is_cut_short, info(&fixture).pending), (3, false, 2));
}

#[test]
fn consume_and_publish_is_one_commit() {
    let fixture = Fixture::new();
    create(&fixture, GroupSettings::default());
    wait(fixture.engine.publish(events("s", 0..2))).expect("publishes");
    let got = pull(&fixture, "a", 10);
    let request = |n: usize| Acknowledge {
        stream: stream("s"),
        group: group("g"),
        ids: vec![IdRange::one(ids(&got)[n])],
        holder: Holder::Delivery(got.delivery),
        publish: vec![events("out", 0..5), events("other", 0..1)],
    };
    let done = wait(fixture.engine.acknowledge(request(0))).expect("both");
    assert_eq!((done.done, done.published[0].count, done.published[1].count), (1, 5, 1));
    assert_eq!(wait(fixture.engine.acknowledge(request(0))).expect_err("not held").reason(), Reason::NotHeld);
    assert_eq!(wait(fixture.engine.stream(&stream("out"))).expect("exists").length, 5);
}

#[test]
fn keys_stay_in_order_under_several_consumers() {
    let fixture = Fixture::new();
    create(&fixture, GroupSettings { dispatch: Dispatch::KeyOrdered, ..GroupSettings::default() });
    wait(fixture.engine.publish(events("s", 0..300))).expect("publishes");
    let mut last = [None; 3];
    let mut seen = 0;
    while seen < 300 {
        for who in ["a", "b", "c"] {
            let got = pull(&fixture, who, 7);
            for delivered in &got.entries {
                let data = EventView::parse(&delivered.entry.bytes).expect("an event").data.to_vec();
                let n: u64 =
                    String::from_utf8(data).expect("text")[5..].trim_end_matches('}').parse().expect("a number");
                assert!(last[(n % 3) as usize] < Some(n), "keys in order");
                last[(n % 3) as usize] = Some(n);
                seen += 1;
            }
            if !got.entries.is_empty() {
                assert_eq!(ack(&fixture, &ids(&got), Holder::Delivery(got.delivery)).done, got.entries.len() as u64);
            }
        }
    }
}

#[test]
fn one_consumer_is_active_until_it_goes() {
    let fixture = Fixture::new();
    create(&fixture, GroupSettings { dispatch: Dispatch::SingleActive, ..GroupSettings::default() });
    wait(fixture.engine.publish(events("s", 0..10))).expect("publishes");
    let open = |who: &str| wait(fixture.engine.open_session(&stream("s"), &group("g"), consumer(who))).expect("opens");
    let (mut a, mut b) = (open("a"), open("b"));
    assert_eq!(wait(a.next(2, 1 << 20)).expect("is active").entries.len(), 2);
    let waiting = std::thread::spawn(move || wait(b.next(100, 1 << 20)).expect("takes over").entries.len());
    std::thread::sleep(Duration::from_millis(50));
    assert!(!waiting.is_finished());
    assert_eq!(wait(a.drain()).expect("drains"), 2);
    assert_eq!(waiting.join().expect("takes over"), 10);
}

#[test]
fn lost_sessions_give_back_what_they_held() {
    let fixture = Fixture::new();
    create(&fixture, GroupSettings::default());
    wait(fixture.engine.publish(events("s", 0..3))).expect("publishes");
    let mut session = wait(fixture.engine.open_session(&stream("s"), &group("g"), consumer("a"))).expect("opens");
    assert_eq!(wait(session.next(10, 1 << 20)).expect("gets them").entries.len(), 3);
    drop(session);
    let again = pull_for(&fixture, "b", 10, Duration::from_secs(5));
    assert_eq!((again.entries.len(), again.entries[0].failures), (3, 1));
    let back = wait(fixture.engine.remove_consumer(&stream("s"), &group("g"), &consumer("b"))).expect("removes");
    assert_eq!(back, 3);
    assert_eq!(pull(&fixture, "c", 10).entries[0].failures, 1, "handing back is no failure");
}

#[test]
fn seek_claim_and_list() {
    let fixture = Fixture::new();
    create(&fixture, GroupSettings::by_hand());
    let published = wait(fixture.engine.publish(events("s", 0..10))).expect("publishes");
    let all: Vec<EntryId> = published.ids().into_iter().map(|(id, _)| id).collect();
    assert_eq!(pull(&fixture, "a", 4).entries.len(), 4);
    let seek = |to, dry| wait(fixture.engine.seek_group(&stream("s"), &group("g"), to, dry)).expect("seeks");
    let dry = seek(StartAt::After(all[7]), true);
    assert_eq!((dry.entries, dry.backwards, info(&fixture).cursor), (4, false, all[3]));
    seek(StartAt::After(all[7]), false);
    assert_eq!(ids(&pull(&fixture, "a", 10)), all[8..]);
    let pending = wait(fixture.engine.list_pending(ListPending {
        stream: stream("s"),
        group: group("g"),
        range: IdRange::ALL,
        entries_max: 100,
        consumer: None,
        idle_min: Duration::ZERO,
    }))
    .expect("lists");
    assert_eq!(pending.len(), 6);
    assert_eq!(pending[0].due_ms, None, "by hand there is no lease");
    let claimed = wait(fixture.engine.claim(Claim {
        stream: stream("s"),
        group: group("g"),
        consumer: consumer("b"),
        idle_min: Duration::ZERO,
        ids: vec![],
        from: EntryId::ZERO,
        entries_max: 5,
        options: ClaimOptions::default(),
    }))
    .expect("claims");
    assert_eq!((claimed.delivery.entries.len(), claimed.next), (5, Some(all[9])));
    assert_eq!(claimed.delivery.entries[0].deliveries, 2);
    assert_eq!(seek(StartAt::Earliest, false).entries, 10);
    let anew = pull(&fixture, "a", 10);
    assert_eq!(ids(&anew), all, "by hand, what is held is delivered anew");
    assert!(anew.entries.iter().all(|delivered| delivered.deliveries == 1));
    assert_eq!(info(&fixture).consumers.iter().map(|c| c.pending).collect::<Vec<_>>(), [10, 0]);
    wait(fixture.engine.update_group(&stream("s"), &group("g"), GroupSettings::default())).expect("updates");
    seek(StartAt::Earliest, false);
    assert_eq!(ids(&pull(&fixture, "a", 10)), [], "with a lease, what is held comes back when that ends");
}

#[test]
fn a_trim_under_the_cursor_is_stepped_over_and_counted() {
    let fixture = Fixture::new();
    create(&fixture, GroupSettings::default());
    let all: Vec<EntryId> = wait(fixture.engine.publish(events("s", 0..10)))
        .expect("publishes")
        .ids()
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    pull(&fixture, "a", 2);
    wait(fixture.engine.trim(Trim { stream: stream("s"), to: TrimTo::BeforeId(all[6]), dry_run: false }))
        .expect("trims");
    assert_eq!(info(&fixture).undelivered, 4);
    assert_eq!(ids(&pull(&fixture, "a", 10)), all[6..]);
    let fixture = fixture.restart();
    assert_eq!((info(&fixture).skipped_by_trim, info(&fixture).undelivered), (4, 0));
}

#[test]
fn what_was_answered_is_there_for_the_next_command() {
    let fixture = Fixture::new();
    create(&fixture, GroupSettings::default());
    for n in 0..300 {
        let published = wait(fixture.engine.publish(events("s", n..n + 1))).expect("publishes");
        let got = pull(&fixture, "a", 10);
        assert_eq!(ids(&got), [published.first], "round {n}");
        ack(&fixture, &ids(&got), Holder::Delivery(got.delivery));
        assert_eq!(info(&fixture).pending, 0);
    }
}
