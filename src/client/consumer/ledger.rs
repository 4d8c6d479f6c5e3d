//! What a session holds, what is to be settled, and what was asked and not answered. Pure: it is told the time, and does
//! no I/O.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::not_held;
use super::state::How;
use crate::client::entry::{ids, ranges};
use crate::client::error::{Error, ErrorKind, Result};
use crate::client::groups::Nack;
use crate::proto::v1;
use crate::proto::v1::consume_request::Request;
use crate::types::EntryId;

/// Settlements under way at most; what comes meanwhile rides in the next one.
const SETTLEMENTS_MAX: usize = 4;
/// Ids of one request at most, so that its message stays small.
const IDS_MAX: usize = 10_000;
/// Leases are looked after in steps of this part of them.
const LEASE_STEPS: u32 = 4;

type Done = Option<oneshot::Sender<Result<()>>>;

/// An entry that is held.
struct Hold {
    delivery: u64,
    since: Instant,
    /// When the lease runs out.
    until: Instant,
}

/// A request that was not answered.
struct Asked {
    seq: u64,
    what: What,
}

enum What {
    Settle(Vec<(EntryId, Done)>),
    Extend { ids: Vec<EntryId>, until: Instant },
}

/// The books of one session.
pub(super) struct Ledger {
    extend_for: Duration,
    held: BTreeMap<EntryId, Hold>,
    lease: Duration,
    /// What is to be settled, by what is to be done.
    settle: Vec<(How, VecDeque<(EntryId, Done)>)>,
    asked: VecDeque<Asked>,
    next_seq: u64,
    next_look: Option<Instant>,
}

impl Ledger {
    pub(super) fn new(extend_for: Duration) -> Self {
        Self {
            extend_for,
            held: BTreeMap::new(),
            lease: Duration::ZERO,
            settle: Vec::new(),
            asked: VecDeque::new(),
            next_seq: 1,
            next_look: None,
        }
    }

    /// Whether nothing is held, to be settled, or under way.
    pub(super) fn is_clear(&self) -> bool {
        self.held.is_empty() && self.is_settled()
    }

    /// Whether nothing is to be settled or under way.
    pub(super) fn is_settled(&self) -> bool {
        self.settle.is_empty() && self.asked.is_empty()
    }

    /// Takes note of an entry that was delivered under this lease.
    pub(super) fn hold(&mut self, id: EntryId, delivery: u64, lease: Duration, now: Instant) {
        self.lease = lease;
        if !lease.is_zero() {
            self.next_look.get_or_insert(now + lease / LEASE_STEPS);
        }
        self.held.insert(id, Hold { delivery, since: now, until: now + lease });
    }

    pub(super) fn is_held(&self, id: EntryId, delivery: u64) -> bool {
        self.held.get(&id).is_some_and(|hold| hold.delivery == delivery)
    }

    /// Takes note that this delivery is looked after no more.
    pub(super) fn let_go(&mut self, id: EntryId, delivery: u64) {
        if self.is_held(id, delivery) {
            self.held.remove(&id);
        }
    }

    /// Puts a settlement on the list.
    pub(super) fn settle(&mut self, id: EntryId, how: How, done: Done) {
        self.held.remove(&id);
        match self.settle.iter_mut().find(|(other, _)| *other == how) {
            Some((_, ids)) => ids.push_back((id, done)),
            None => self.settle.push((how, VecDeque::from([(id, done)]))),
        }
    }

    /// The next settlement to ask for, unless enough are under way.
    pub(super) fn next_settlement(&mut self) -> Option<Request> {
        let under_way = self.asked.iter().filter(|asked| matches!(asked.what, What::Settle(_))).count();
        if under_way >= SETTLEMENTS_MAX {
            return None;
        }
        let (how, waiting) = self.settle.first_mut()?;
        let some: Vec<(EntryId, Done)> = waiting.drain(..waiting.len().min(IDS_MAX)).collect();
        let how = how.clone();
        if waiting.is_empty() {
            self.settle.remove(0);
        }
        let entries: Vec<EntryId> = some.iter().map(|(id, _)| *id).collect();
        let (seq, ids) = (self.ask(What::Settle(some)), ranges(&entries));
        Some(match how {
            How::Ack => Request::Ack(v1::ConsumeAck { seq, ids, publish: Vec::new() }),
            How::Nack(action) => Request::Nack(v1::ConsumeNack { seq, ids, action: Some(action.into()) }),
        })
    }

    /// When leases are to be looked after next.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.next_look
    }

    /// Leases to extend: those of which a third or more has passed. What was held too long, or is lost, is let go.
    pub(super) fn extend(&mut self, now: Instant) -> Vec<Request> {
        let (lease, extend_for) = (self.lease, self.extend_for);
        if lease.is_zero() {
            self.next_look = None;
            return Vec::new();
        }
        self.held.retain(|_, hold| hold.until > now);
        self.next_look = (!self.held.is_empty()).then(|| now + lease / LEASE_STEPS);
        if self.asked.iter().any(|asked| matches!(asked.what, What::Extend { .. })) {
            return Vec::new();
        }
        let due = |hold: &Hold| hold.until - now <= lease * 2 / 3 && now - hold.since < extend_for;
        let due: Vec<EntryId> = self.held.iter().filter(|(_, hold)| due(hold)).map(|(id, _)| *id).collect();
        let request = |ids: &[EntryId]| {
            let what = What::Extend { ids: ids.to_vec(), until: now + lease };
            Request::Extend(v1::ConsumeExtend { seq: self.ask(what), ids: ranges(ids), lease: None })
        };
        due.chunks(IDS_MAX).map(request).collect()
    }

    fn ask(&mut self, what: What) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.asked.push_back(Asked { seq, what });
        seq
    }

    /// Takes over an answer. They come in the order in which was asked.
    pub(super) fn answer(&mut self, result: v1::ConsumeAckResult) -> Result<()> {
        let front = self.asked.pop_front_if(|asked| asked.seq == result.seq);
        let Some(asked) = front else {
            return Err(Error::new(ErrorKind::Lost, format!("the server answered out of order: {}", result.seq)));
        };
        let mut lost: HashMap<EntryId, &str> = HashMap::new();
        lost.extend(ids(result.not_pending).into_iter().map(|id| (id, "it is not pending")));
        lost.extend(ids(result.not_owned).into_iter().map(|id| (id, "another holds it")));
        match asked.what {
            What::Settle(entries) => {
                let refusal = result.error.map(Error::from);
                for (id, done) in entries {
                    let told = match (&refusal, lost.get(&id)) {
                        (Some(error), _) => Err(error.clone()),
                        (None, Some(why)) => Err(not_held(why)),
                        (None, None) => Ok(()),
                    };
                    tell(done, told);
                }
            }
            What::Extend { ids, until } => {
                for id in ids {
                    match self.held.get_mut(&id) {
                        Some(_) if lost.contains_key(&id) => drop(self.held.remove(&id)),
                        // Refused as a whole: the leases stand as they were, and are tried again.
                        Some(hold) if result.error.is_none() => hold.until = until,
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// The session is lost, and everything with it.
    pub(super) fn lose(&mut self, why: &str) {
        self.held.clear();
        self.next_look = None;
        let to_settle = std::mem::take(&mut self.settle).into_iter().flat_map(|(_, ids)| ids);
        let under_way = std::mem::take(&mut self.asked).into_iter().flat_map(|asked| match asked.what {
            What::Settle(entries) => entries,
            What::Extend { .. } => Vec::new(),
        });
        for (_, done) in to_settle.chain(under_way) {
            tell(done, Err(not_held(why)));
        }
    }

    /// Hands an entry back that nobody took.
    pub(super) fn hand_back(&mut self, id: EntryId) {
        self.settle(id, How::Nack(Nack::HandBack), None);
    }
}

fn tell(done: Done, told: Result<()>) {
    if let Some(done) = done {
        // Who does not listen does not want to know.
        let _ = done.send(told);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn id(ms: u64) -> EntryId {
        EntryId::new(ms, 0)
    }

    fn ledger(count: u64, lease: Duration, now: Instant) -> Ledger {
        let mut ledger = Ledger::new(100 * SECOND);
        (0..count).for_each(|n| ledger.hold(id(n), n, lease, now));
        ledger
    }

    fn settle(ledger: &mut Ledger, ms: u64, how: How) -> oneshot::Receiver<Result<()>> {
        let (done, told) = oneshot::channel();
        ledger.settle(id(ms), how, Some(done));
        told
    }

    /// What a request asks, and for how many ids.
    fn shape(request: Request) -> (&'static str, usize) {
        match request {
            Request::Ack(ack) => ("ack", ack.ids.len()),
            Request::Nack(nack) => ("nack", nack.ids.len()),
            Request::Extend(extend) => ("extend", extend.ids.len()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn settlements_ride_together_while_others_are_under_way() {
        let mut l = ledger(20, SECOND, Instant::now());
        let mut told: Vec<_> = (0..20).map(|n| settle(&mut l, n, How::Ack)).take(4).collect();
        assert_eq!(l.next_settlement().map(shape), Some(("ack", 4)));
        told.push(settle(&mut l, 4, How::Nack(Nack::Skip)));
        told.push(settle(&mut l, 5, How::Ack));
        told.push(settle(&mut l, 6, How::Nack(Nack::Skip)));
        assert_eq!(l.next_settlement().map(shape), Some(("nack", 2)));
        assert_eq!(l.next_settlement().map(shape), Some(("ack", 1)));
        assert_eq!(l.next_settlement().map(shape), None);
        for n in 7..15 {
            told.push(settle(&mut l, n, How::Ack));
        }
        assert_eq!(l.next_settlement().map(shape), Some(("ack", 8)));
        told.push(settle(&mut l, 15, How::Ack));
        assert_eq!(l.next_settlement().map(shape), None, "enough are under way");
        let not_owned = vec![id(2).into()];
        l.answer(v1::ConsumeAckResult { seq: 1, done: 3, not_owned, ..Default::default() }).expect("in order");
        let outcomes: Vec<bool> = told[..4].iter_mut().map(|t| t.try_recv().expect("told").is_ok()).collect();
        assert_eq!(outcomes, [true, true, false, true]);
        assert_eq!(l.next_settlement().map(shape), Some(("ack", 1)));
        l.answer(v1::ConsumeAckResult { seq: 4, ..Default::default() }).expect_err("out of order");
        l.lose("gone");
        let error = told.last_mut().expect("some").try_recv().expect("told").expect_err("lost");
        assert_eq!(error.kind(), ErrorKind::NotHeld);
        assert!(l.is_clear());
    }

    #[test]
    fn leases_are_extended_in_time_up_to_a_bound() {
        let start = Instant::now();
        let mut l = ledger(3, 10 * SECOND, start);
        assert_eq!(l.next_look(), Some(start + 10 * SECOND / 4));
        l.let_go(id(0), 7);
        assert!(l.is_held(id(0), 0), "another delivery was dropped");
        l.let_go(id(0), 0);
        assert!(l.extend(start + 2 * SECOND).is_empty(), "too early");
        let asked: Vec<_> = l.extend(start + 5 * SECOND).into_iter().map(shape).collect();
        assert_eq!(asked, [("extend", 2)]);
        assert!(l.extend(start + 6 * SECOND).is_empty(), "one is under way");
        let not_pending = vec![id(1).into()];
        l.answer(v1::ConsumeAckResult { seq: 1, not_pending, ..Default::default() }).expect("in order");
        assert!(!l.is_held(id(1), 1) && l.is_held(id(2), 2));
        // Extended to the fifteenth second, and so on, until it was held too long.
        for n in 2..20 {
            assert_eq!(l.extend(start + 5 * n * SECOND).len(), 1, "{n}");
            let seq = u64::from(n);
            l.answer(v1::ConsumeAckResult { seq, ..Default::default() }).expect("in order");
        }
        assert!(l.extend(start + 101 * SECOND).is_empty());
        assert!(l.is_held(id(2), 2));
        l.extend(start + 106 * SECOND);
        assert!(!l.is_held(id(2), 2), "the lease has run out");
        assert_eq!(l.next_look(), None);
    }

    #[test]
    fn entries_claimed_by_hand_have_no_lease() {
        let now = Instant::now();
        let mut l = ledger(1, Duration::ZERO, now);
        assert_eq!(l.next_look(), None);
        assert!(l.extend(now + SECOND).is_empty() && l.is_held(id(0), 0));
    }
}
