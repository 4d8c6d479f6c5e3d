//! Histories made by hand: one that keeps every promise, and for each promise one that breaks it.

use super::*;

fn publish(started: u64, ended: u64, events: &[u64], first: u64) -> Publish {
    let ids = (0..events.len() as u64).map(|n| (first, n)).collect();
    Publish { started, events: events.to_vec(), answer: Some((ended, ids)) }
}

fn good() -> History {
    let entries = vec![((1, 0), 10), ((1, 1), 11), ((2, 0), 20), ((3, 0), 30)];
    History {
        publishes: vec![
            publish(1, 2, &[10, 11], 1),
            publish(3, 5, &[20], 2),
            Publish { started: 4, events: vec![30], answer: None },
            Publish { started: 4, events: vec![40, 41], answer: None },
        ],
        pulls: vec![
            Pull {
                started: 6,
                ended: 7,
                entries: entries[..2].to_vec(),
                counts: vec![1, 1],
                run: 1,
                from_ms: 50,
                to_ms: 60,
            },
            Pull {
                started: 9,
                ended: 10,
                entries: entries[1..].to_vec(),
                counts: vec![2, 1, 1],
                run: 1,
                from_ms: 140,
                to_ms: 160,
            },
        ],
        acknowledged: vec![Acknowledged { ended: 8, ids: vec![(1, 0)] }],
        readings: vec![Reading { started: 7, entries: entries.clone() }, Reading { started: 10, entries }],
        drained: true,
        lease_ms: 100,
    }
}

/// What a change of the good history breaks.
fn broken(change: impl FnOnce(&mut History)) -> Vec<Violation> {
    let mut history = good();
    change(&mut history);
    check(&history)
}

#[test]
fn a_good_history_breaks_nothing() {
    assert_eq!(check(&good()), []);
    assert_eq!(check(&History::default()), []);
}

#[test]
fn every_broken_promise_is_told() {
    use Violation::*;
    type Change = fn(&mut History);
    let cases: [(Change, Violation); 14] = [
        (|h| h.readings[1].entries.retain(|e| e.1 != 20), Lost((2, 0))),
        (|h| h.readings[1].entries.truncate(3), Lost((3, 0))),
        (|h| h.readings[1].entries.push(((4, 0), 99)), Invented((4, 0))),
        (|h| h.pulls[1].entries[0].1 = 99, Invented((1, 1))),
        (|h| h.readings[1].entries.push(((4, 0), 30)), Doubled(30)),
        (|h| h.readings[1].entries[2].1 = 40, Changed((2, 0))),
        (|h| h.pulls[1].entries[1].1 = 10, Changed((2, 0))),
        (|h| h.readings[1].entries.swap(2, 3), Disordered((2, 0))),
        (|h| h.publishes[1] = publish(3, 5, &[20], 0), Overtaken((0, 0))),
        (|h| h.readings[1].entries.push(((4, 0), 40)), Torn(40)),
        (|h| h.pulls[1].entries.insert(0, ((1, 0), 10)), DeliveredAgain((1, 0))),
        (|h| h.pulls[1].entries.truncate(2), NeverDelivered((3, 0))),
        (|h| h.pulls[1].to_ms = 149, HeldTwice((1, 1))),
        (|h| h.pulls[1].counts[0] = 1, Miscounted((1, 1))),
    ];
    for (n, (change, violation)) in cases.into_iter().enumerate() {
        let found = broken(change);
        assert!(found.contains(&violation), "case {n}: {violation:?} is not in {found:?}");
    }
}

#[test]
fn what_overlaps_or_was_not_answered_proves_nothing() {
    assert_eq!(broken(|h| h.publishes[0].started = 0), []);
    assert_eq!(broken(|h| h.pulls[0].entries.truncate(1)), []);
    let late = |h: &mut History| h.pulls.push(Pull { started: 7, entries: vec![((1, 0), 10)], ..Pull::default() });
    assert_eq!(broken(late), [], "the acknowledgement was not answered before the pull started");
    let other_run = |h: &mut History| (h.pulls[1].run, h.pulls[1].to_ms, h.pulls[1].counts[0]) = (2, 149, 1);
    assert_eq!(broken(other_run), [], "the server may have forgotten a delivery");
    assert_eq!(broken(|h| (h.pulls[1].started, h.pulls[1].counts[0]) = (6, 1)), [], "the pulls overlap");
}
