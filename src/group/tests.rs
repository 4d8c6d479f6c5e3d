//! Rules of delivery, order by key, settling, failures and parking.

use super::*;
use crate::format::state::GroupRow;
use crate::types::{Dispatch, IdRange};

fn group(settings: GroupSettings) -> Group {
    let mut group = Group::create(&GroupCreated {
        stream: StreamNumber(1),
        group: GroupNumber(1),
        name: GroupName::parse("g").expect("valid"),
        settings,
        cursor: EntryId::ZERO,
        cursor_ordinal: 0,
    });
    for number in 1..=2 {
        group.apply_consumer_added(&ConsumerAdded {
            stream: StreamNumber(1),
            group: GroupNumber(1),
            consumer: ConsumerNumber(number),
            name: ConsumerName::parse(&format!("c{number}")).expect("valid"),
            at_ms: 0,
        });
    }
    group
}

fn id(n: u64) -> EntryId {
    EntryId::new(n, 0)
}

/// A window of entries 1, 2, … with these keys.
fn window(keys: &[u64]) -> Window {
    let mut window = Window::at(EntryId::ZERO);
    for (n, key) in keys.iter().enumerate() {
        window.push(Candidate { id: id(n as u64 + 1), ordinal: n as u64, size: 10, key: *key });
    }
    window
}

struct Delivery<'a> {
    group: &'a mut Group,
    window: &'a mut Window,
    now_ms: u64,
    next: u64,
}

impl Delivery<'_> {
    /// Delivers up to `max` entries to a consumer and answers their numbers.
    fn to(&mut self, consumer: u32, max: usize) -> Vec<u64> {
        let request = DeliveryRequest {
            entries_max: max,
            bytes_max: 1 << 20,
            no_ack: false,
            parked_max: usize::MAX,
            claim_idle_ms: None,
        };
        let plan = self.group.plan_delivery(self.window, &request, self.now_ms, &|_| true);
        self.window.take(plan.taken);
        self.next += 1;
        let (cursor, cursor_ordinal) = plan.cursor.unwrap_or((self.group.cursor, self.group.cursor_ordinal));
        for (consumer, what) in [(consumer, &plan.entries), (0, &plan.parked)] {
            self.group.apply_delivered(&Delivered {
                stream: StreamNumber(1),
                group: GroupNumber(1),
                consumer: ConsumerNumber(consumer),
                delivery: DeliveryNumber(self.next),
                at_ms: self.now_ms,
                deadline_ms: self.now_ms + self.group.settings.ack_wait_ms,
                cursor,
                cursor_ordinal,
                entries: crate::format::record::runs(what.iter().map(|d| d.id)),
                sizes: what.iter().map(|d| d.size).collect(),
                keys: what.iter().map(|d| d.key).collect(),
                no_ack: false,
            });
        }
        self.group.pending.check();
        plan.entries.iter().map(|d| d.id.ms).collect()
    }
}

fn settle(group: &mut Group, numbers: &[u64], how: SettledAs) {
    let ranges = numbers.iter().map(|n| IdRange::one(id(*n))).collect();
    group.apply_settled(&Settled { stream: StreamNumber(1), group: GroupNumber(1), ranges, how });
    group.pending.check();
}

fn fail(group: &mut Group, numbers: &[u64], due_ms: u64) {
    let entries = numbers.iter().map(|n| (id(*n), due_ms)).collect();
    group.apply_returned(&Returned {
        stream: StreamNumber(1),
        group: GroupNumber(1),
        entries,
        how: ReturnedAs::Failed,
    });
    group.pending.check();
}

#[test]
fn each_entry_goes_to_one_consumer_and_comes_back_when_its_lease_ends() {
    let (mut g, mut w) = (group(GroupSettings::default()), window(&[0; 5]));
    let mut d = Delivery { group: &mut g, window: &mut w, now_ms: 0, next: 0 };
    assert_eq!((d.to(1, 2), d.to(2, 9), d.to(1, 9)), (vec![1, 2], vec![3, 4, 5], vec![]));
    settle(&mut g, &[1, 4], SettledAs::Acknowledged);
    assert_eq!(g.pending.take_expired(29_999, 100), []);
    assert_eq!(g.pending.take_expired(30_000, 100), [2, 3, 5].map(id));
    fail(&mut g, &[2, 3, 5], 30_000);
    let mut d = Delivery { group: &mut g, window: &mut w, now_ms: 30_000, next: 9 };
    assert_eq!(d.to(2, 9), [2, 3, 5]);
    let entry = g.pending.get(id(2)).expect("pending");
    assert_eq!((entry.deliveries, entry.failures, entry.consumer), (2, 1, ConsumerNumber(2)));
    assert_eq!(g.consumer(ConsumerNumber(2)).expect("known").pending, 3);
    assert_eq!(g.consumer(ConsumerNumber(1)).expect("known").pending, 0);
    assert_eq!((g.cursor, g.cursor_ordinal, g.acknowledged), (id(5), 5, 2));
}

#[test]
fn entries_of_a_key_stay_in_order() {
    let settings = GroupSettings { dispatch: Dispatch::KeyOrdered, ..GroupSettings::default() };
    let (mut g, mut w) = (group(settings), window(&[7, 8, 7, 7, 8, 0]));
    let mut d = Delivery { group: &mut g, window: &mut w, now_ms: 0, next: 0 };
    assert_eq!(d.to(1, 1), [1]);
    assert_eq!(d.to(2, 9), [2, 5, 6], "3 and 4 wait behind 1");
    assert_eq!(d.to(2, 9), [0; 0]);
    fail(&mut g, &[1], 100);
    let mut d = Delivery { group: &mut g, window: &mut w, now_ms: 50, next: 9 };
    assert_eq!(d.to(2, 9), [0; 0], "1 is not due, 3 and 4 stay behind it");
    d.now_ms = 100;
    assert_eq!(d.to(2, 2), [1, 3]);
    settle(&mut g, &[1], SettledAs::Acknowledged);
    let mut d = Delivery { group: &mut g, window: &mut w, now_ms: 100, next: 19 };
    assert_eq!(d.to(1, 9), [0; 0], "3 is still held");
    settle(&mut g, &[3], SettledAs::Acknowledged);
    let mut d = Delivery { group: &mut g, window: &mut w, now_ms: 100, next: 29 };
    assert_eq!(d.to(1, 9), [4]);
}

#[test]
fn exhausted_entries_wait_for_the_dead_letters() {
    let (mut g, mut w) = (group(GroupSettings { max_deliveries: 2, ..GroupSettings::default() }), window(&[0]));
    for round in 1..=2 {
        let mut d = Delivery { group: &mut g, window: &mut w, now_ms: round, next: round };
        assert_eq!(d.to(1, 9), [1]);
        fail(&mut g, &[1], round);
    }
    let mut d = Delivery { group: &mut g, window: &mut w, now_ms: 9, next: 9 };
    assert_eq!(d.to(1, 9), [0; 0]);
    assert_eq!(g.pending.exhausted().count(), 1);
    g.apply_settings(GroupSettings::default(), 9);
    g.pending.check();
    let mut d = Delivery { group: &mut g, window: &mut w, now_ms: 9, next: 10 };
    assert_eq!(d.to(1, 9), [1], "a higher bound brings it back");
    settle(&mut g, &[1], SettledAs::DeadLettered);
    assert_eq!((g.dead_lettered, g.pending.len()), (1, 0));
}

#[test]
fn settling_is_fenced_and_merges_ranges() {
    let (mut g, mut w) = (group(GroupSettings::default()), window(&[0; 6]));
    let mut d = Delivery { group: &mut g, window: &mut w, now_ms: 0, next: 0 };
    assert_eq!((d.to(1, 3), d.to(2, 3)), (vec![1, 2, 3], vec![4, 5, 6]));
    let all = [IdRange { first: id(1), last: id(6) }, IdRange::one(id(2)), IdRange::one(id(77))];
    let plan = g.plan_settle(&all, Owner::Delivery(DeliveryNumber(1)));
    assert_eq!(plan.ranges, [IdRange { first: id(1), last: id(3) }]);
    assert_eq!((plan.not_owned, plan.not_pending), ([4, 5, 6].map(id).into(), vec![id(77)]));
    let singles: Vec<_> = (1..=6).map(|n| IdRange::one(id(n))).collect();
    assert_eq!(g.plan_settle(&singles, Owner::Anyone).ranges, [IdRange { first: id(1), last: id(6) }]);
    assert_eq!(g.plan_settle(&singles, Owner::Consumer(ConsumerNumber(2))).ids, [4, 5, 6].map(id));
}

#[test]
fn pending_is_bounded_and_delivery_pauses_there() {
    let (mut g, mut w) = (group(GroupSettings { pending_max: 2, ..GroupSettings::default() }), window(&[0; 4]));
    let mut d = Delivery { group: &mut g, window: &mut w, now_ms: 0, next: 0 };
    assert_eq!((d.to(1, 9), d.to(1, 9)), (vec![1, 2], vec![]));
    settle(&mut g, &[1], SettledAs::Acknowledged);
    let mut d = Delivery { group: &mut g, window: &mut w, now_ms: 0, next: 5 };
    assert_eq!(d.to(1, 9), [3]);
}

fn claim_request(ids: &[EntryId]) -> ClaimRequest<'_> {
    ClaimRequest {
        ids,
        from: EntryId::ZERO,
        entries_max: 9,
        examined_max: 9,
        idle_min_ms: 0,
        deliveries: None,
        keep_count: false,
        forced: &[],
    }
}

#[test]
fn claims_take_idle_entries() {
    let (mut g, mut w) = (group(GroupSettings::by_hand()), window(&[0; 3]));
    let mut d = Delivery { group: &mut g, window: &mut w, now_ms: 0, next: 0 };
    assert_eq!(d.to(1, 9), [1, 2, 3]);
    let idle = ClaimRequest { idle_min_ms: 100, ..claim_request(&[]) };
    assert!(g.plan_claim(&idle, 99, &|_| true).entries.is_empty());
    let plan = g.plan_claim(&ClaimRequest { entries_max: 2, ..idle }, 100, &|_| true);
    assert_eq!((plan.entries.len(), plan.next), (2, Some(id(3))));
    let plan = g.plan_claim(&ClaimRequest { examined_max: 1, ..idle }, 99, &|_| true);
    assert_eq!((plan.entries.len(), plan.next), (0, Some(id(2))));
    let plan = g.plan_claim(&idle, 100, &|what| what != id(1));
    assert_eq!((plan.entries.len(), plan.gone.into_iter().collect::<Vec<_>>()), (2, vec![id(1)]));
}

#[test]
fn named_entries_are_claimed_in_their_order_and_counted_as_asked() {
    let (mut g, mut w) = (group(GroupSettings::by_hand()), window(&[0; 3]));
    let mut d = Delivery { group: &mut g, window: &mut w, now_ms: 0, next: 0 };
    assert_eq!(d.to(1, 9), [1, 2, 3]);
    let claimed = |request: ClaimRequest<'_>| {
        let plan = g.plan_claim(&request, 0, &|_| true);
        plan.entries.iter().map(|e| (e.id.ms, e.deliveries)).collect::<Vec<_>>()
    };
    let ids = [id(3), id(9), id(1), id(3)];
    assert_eq!(claimed(claim_request(&ids)), [(3, 2), (1, 2), (3, 3)]);
    assert_eq!(claimed(ClaimRequest { keep_count: true, ..claim_request(&ids[..1]) }), [(3, 1)]);
    assert_eq!(claimed(ClaimRequest { deliveries: Some(7), ..claim_request(&ids[..1]) }), [(3, 7)]);
    let forced = [Deliverable { id: id(9), size: 5, key: 0 }];
    assert_eq!(claimed(ClaimRequest { forced: &forced, ..claim_request(&ids[..2]) }), [(3, 2), (9, 2)]);
}

#[test]
fn dead_letter_streams_have_valid_names() {
    let stream = StreamName::parse(&"s".repeat(250)).expect("valid");
    let name = dead_letter_stream(&stream, &GroupName::from_bytes(&[0xff]).expect("valid"), &GroupSettings::default());
    assert_eq!(name.as_str().len(), 255);
    let stream = StreamName::parse("s").expect("valid");
    let name = dead_letter_stream(&stream, &GroupName::parse("g").expect("valid"), &GroupSettings::default());
    assert_eq!(name.as_str(), "s.dlq.g");
}

#[test]
fn what_is_released_is_taken_over_first_and_then_what_is_held_for_long() {
    let (mut g, mut w) = (group(GroupSettings::by_hand()), window(&[0; 9]));
    g.pending.order_by_age();
    let mut d = Delivery { group: &mut g, window: &mut w, now_ms: 10, next: 0 };
    assert_eq!(d.to(1, 3), [1, 2, 3]);
    d.now_ms = 20;
    assert_eq!(d.to(2, 2), [4, 5]);
    let release = |g: &mut Group, numbers: &[u64], delivery: u64, how: ReleaseAs| {
        let ids: Vec<EntryId> = numbers.iter().copied().map(id).collect();
        let forced = [Deliverable { id: id(9), size: 5, key: 0 }];
        let entries = g.plan_release(&ids, how, &forced);
        let counts: Vec<u32> = entries.iter().map(|e| e.deliveries).collect();
        let (stream, group) = (StreamNumber(1), GroupNumber(1));
        let delivery = DeliveryNumber(delivery);
        g.apply_released(&Released { stream, group, delivery, due_ms: u64::MAX, entries });
        g.pending.check();
        counts
    };
    assert_eq!(release(&mut g, &[5, 3, 8], 10, ReleaseAs::Delivered), [1, 1], "8 is not pending");
    assert_eq!(release(&mut g, &[1, 9], 20, ReleaseAs::Hopeless), [u32::MAX; 2], "9 is forced");
    assert_eq!(release(&mut g, &[5, 5], 30, ReleaseAs::NotDelivered), [0, 0], "twice, to the end");
    assert_eq!((g.pending.released(), g.pending.waiting()), (4, 4));
    assert_eq!(g.consumer(ConsumerNumber(1)).expect("known").pending, 1);
    let plan = |g: &Group, w: &Window, max: usize, idle: u64| {
        let request = DeliveryRequest {
            entries_max: max,
            bytes_max: 1 << 20,
            no_ack: false,
            parked_max: usize::MAX,
            claim_idle_ms: Some(idle),
        };
        let plan = g.plan_delivery(w, &request, 100, &|what| what != id(2));
        (plan.entries.iter().map(|e| e.id.ms).collect::<Vec<_>>(), plan.known)
    };
    assert_eq!(plan(&g, &w, 9, 81), (vec![3, 1, 9, 5, 6, 7, 8], 4), "4 is not idle for so long, 2 is gone");
    assert_eq!(plan(&g, &w, 5, 80), (vec![3, 1, 9, 5, 4], 5));
    let mut pruned = g.pending.clone();
    pruned.forget_age_of_gone(&|what| what.ms > 3);
    assert_eq!(pruned.oldest().map(|(id, _)| id.ms).collect::<Vec<_>>(), [9, 5, 2, 4], "from the oldest on");
    pruned.check();
    let mut copy = Group::restore(GroupRow {
        number: g.number,
        stream: g.stream,
        name: g.name.clone(),
        settings: g.settings.clone(),
        cursor: g.cursor,
        cursor_ordinal: g.cursor_ordinal,
        skipped: 0,
        acknowledged: 0,
        dead_lettered: 0,
        delivery_max: g.delivery_max,
        consumer_max: ConsumerNumber(2),
    });
    g.freeze().rows(&mut |_, row| {
        copy.restore_list(row);
    });
    copy.pending.order_by_age();
    copy.pending.check();
    assert_eq!(copy.pending.oldest().collect::<Vec<_>>(), g.pending.oldest().collect::<Vec<_>>());
    let mut d = Delivery { group: &mut g, window: &mut w, now_ms: 100, next: 40 };
    assert_eq!(d.to(1, 9), [6, 7, 8, 9], "nothing of it comes by itself, but what is new all the same");
    settle(&mut g, &[1, 3], SettledAs::Acknowledged);
    assert_eq!((g.pending.released(), g.pending.len()), (1, 7));
}
