//! What a publisher holds: events being gathered, requests being sent, in order. Pure: it is told the time, and does no
//! I/O, so that batching and repetition can be tested by hand.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Appended;
use crate::client::entry::Event;
use crate::client::error::{Error, ErrorKind, Result};
use crate::client::{Published, Violation};
use crate::error::Reason;
use crate::limits::DEDUP_REQUESTS_PER_PRODUCER;

/// An event with who waits for it.
pub(super) struct Item {
    pub(super) event: Event,
    /// What it takes of the bound on bytes.
    pub(super) bytes: usize,
    pub(super) done: oneshot::Sender<Result<Appended>>,
}

/// A request with its number.
struct Numbered {
    sequence: u64,
    events: Vec<Event>,
    waiting: Vec<oneshot::Sender<Result<Appended>>>,
    bytes: usize,
    /// When it was first sent: from then on the server may have it.
    first_sent: Option<Instant>,
    /// When it was sent over this connection.
    sent: Option<Instant>,
    /// Why the server refused it for the time being.
    refusal: Option<Error>,
}

/// What answers gave back of the bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Freed {
    pub(super) events: usize,
    pub(super) bytes: usize,
}

/// What an answer means for the connection.
#[derive(Debug)]
pub(super) enum Answered {
    /// The request is done with.
    Done(Freed),
    /// The request was refused for the time being: it and all after it are to be sent again, later.
    Again(Error),
}

/// Events and requests of a publisher, oldest first.
pub(super) struct Pipeline {
    batch_events: usize,
    batch_bytes: usize,
    linger: Duration,
    retry_for: Duration,
    /// Events that are in no request yet.
    open: Vec<Item>,
    open_bytes: usize,
    opened: Option<Instant>,
    queue: VecDeque<Numbered>,
    next_sequence: u64,
    /// Flushes with the number up to which they wait.
    flushes: Vec<(u64, oneshot::Sender<Result<()>>)>,
    /// The first failure since the last flush.
    failure: Option<Error>,
}

impl Pipeline {
    pub(super) fn new(batch_events: usize, batch_bytes: usize, linger: Duration, retry_for: Duration) -> Self {
        Self {
            batch_events,
            batch_bytes,
            linger,
            retry_for,
            open: Vec::new(),
            open_bytes: 0,
            opened: None,
            queue: VecDeque::new(),
            next_sequence: 1,
            flushes: Vec::new(),
            failure: None,
        }
    }

    /// Whether there is nothing to do.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty() && self.queue.is_empty()
    }

    /// Whether it takes more: one request waits besides those that are under way, at most.
    pub(super) fn has_room(&self) -> bool {
        self.queue.len() <= DEDUP_REQUESTS_PER_PRODUCER
    }

    pub(super) fn add(&mut self, item: Item, now: Instant) {
        if !self.open.is_empty() && self.open_bytes + item.bytes > self.batch_bytes {
            self.seal();
        }
        self.opened.get_or_insert(now);
        self.open_bytes += item.bytes;
        self.open.push(item);
        if self.open.len() >= self.batch_events || self.open_bytes >= self.batch_bytes {
            self.seal();
        }
    }

    pub(super) fn flush(&mut self, done: oneshot::Sender<Result<()>>) {
        self.seal();
        self.flushes.push((self.next_sequence, done));
        self.answer_flushes();
    }

    /// Makes a request of what was gathered.
    pub(super) fn seal(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let (events, waiting) = self.open.drain(..).map(|item| (item.event, item.done)).unzip();
        self.queue.push_back(Numbered {
            sequence: self.next_sequence,
            events,
            waiting,
            bytes: std::mem::take(&mut self.open_bytes),
            first_sent: None,
            sent: None,
            refusal: None,
        });
        self.next_sequence += 1;
        self.opened = None;
    }

    /// When what was gathered is sent although it is not full; unset while that would only wait behind others.
    pub(super) fn linger_ends(&self) -> Option<Instant> {
        self.opened.filter(|_| self.queue.len() < DEDUP_REQUESTS_PER_PRODUCER).map(|opened| opened + self.linger)
    }

    /// The next request to send over this connection: its number and events.
    pub(super) fn next_to_send(&mut self, now: Instant) -> Option<(u64, Vec<Event>)> {
        if self.linger_ends().is_some_and(|ends| ends <= now) {
            self.seal();
        }
        let mut may_be_sent = self.queue.iter_mut().take(DEDUP_REQUESTS_PER_PRODUCER);
        let next = may_be_sent.find(|request| request.sent.is_none())?;
        next.sent = Some(now);
        next.first_sent.get_or_insert(now);
        Some((next.sequence, next.events.clone()))
    }

    /// When the oldest request that is under way was sent.
    pub(super) fn oldest_sent(&self) -> Option<Instant> {
        self.queue.front().and_then(|request| request.sent)
    }

    /// Takes over the answer to the oldest request.
    pub(super) fn answer(&mut self, sequence: u64, result: Result<Published>) -> Result<Answered> {
        let Some(front) = self.queue.front_mut().filter(|f| f.sequence == sequence && f.sent.is_some()) else {
            return Err(Error::new(ErrorKind::Lost, format!("the server answered out of order: {sequence}")));
        };
        match result {
            Err(error) if error.is_retryable() => {
                front.refusal = Some(error.clone());
                return Ok(Answered::Again(error));
            }
            Ok(published) if published.ids.len() != front.events.len() => {
                return Err(Error::protocol("the server answered for another number of events"));
            }
            _ => {}
        }
        let Some(front) = self.queue.pop_front() else { return Ok(Answered::Done(Freed::default())) };
        let result = match (result, &front.refusal) {
            // Later requests were appended meanwhile: the refusal has become final.
            (Err(error), Some(refusal)) if error.reason() == Some(Reason::ProducerSequenceOld) => Err(refusal.clone()),
            (result, _) => result,
        };
        Ok(Answered::Done(self.finish(front, result)))
    }

    /// A connection was lost: everything that is not answered is to be sent again, but for what is too old for that.
    pub(super) fn rewind(&mut self, now: Instant, why: &Error) -> Freed {
        let mut freed = Freed::default();
        for request in &mut self.queue {
            request.sent = None;
        }
        let retry_for = self.retry_for;
        let too_old = |r: &Numbered| r.first_sent.is_some_and(|sent| now.duration_since(sent) >= retry_for);
        while self.queue.front().is_some_and(too_old) {
            freed += self.fail_front(why);
        }
        freed
    }

    /// Gives everything up.
    pub(super) fn fail_all(&mut self, why: &Error) -> Freed {
        self.seal();
        let mut freed = Freed::default();
        while !self.queue.is_empty() {
            freed += self.fail_front(why);
        }
        freed
    }

    fn fail_front(&mut self, why: &Error) -> Freed {
        let Some(front) = self.queue.pop_front() else { return Freed::default() };
        let error = match (&front.refusal, front.first_sent) {
            (Some(refusal), _) => refusal.clone(),
            (None, None) => why.clone(),
            (None, Some(_)) => why.clone().of_kind(ErrorKind::Lost).context("not known whether it was published"),
        };
        self.finish(front, Err(error))
    }

    /// Tells everybody who waits for the request. Those who do not listen any more do not want to know.
    fn finish(&mut self, request: Numbered, result: Result<Published>) -> Freed {
        let freed = Freed { events: request.events.len(), bytes: request.bytes };
        match result {
            Ok(published) => {
                let duplicate = published.duplicate;
                for (done, id) in request.waiting.into_iter().zip(published.ids) {
                    let _ = done.send(Ok(Appended { id, duplicate }));
                }
            }
            Err(error) => {
                self.failure.get_or_insert_with(|| error.clone());
                let at_fault = at_fault(error.violations());
                for (n, done) in request.waiting.into_iter().enumerate() {
                    let innocent = !at_fault.is_empty() && !at_fault.contains(&n);
                    let _ = done.send(Err(if innocent { error.clone().of_another() } else { error.clone() }));
                }
            }
        }
        self.answer_flushes();
        freed
    }

    fn answer_flushes(&mut self) {
        let oldest = self.queue.front().map_or(self.next_sequence, |request| request.sequence);
        for (_, done) in self.flushes.extract_if(.., |(up_to, _)| *up_to <= oldest) {
            let _ = done.send(self.failure.take().map_or(Ok(()), Err));
        }
    }
}

impl std::ops::AddAssign for Freed {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.bytes += other.bytes;
    }
}

/// The events that the server finds fault with, by their place in the request.
fn at_fault(violations: &[Violation]) -> Vec<usize> {
    let place =
        |v: &Violation| v.field.strip_prefix("publish.").unwrap_or(&v.field).strip_prefix("events[").map(digits);
    violations.iter().filter_map(place).flatten().collect()
}

fn digits(text: &str) -> Option<usize> {
    text.split(']').next().and_then(|n| n.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1;
    use crate::types::EntryId;

    const SECOND: Duration = Duration::from_secs(1);

    /// A pipeline of batches of three events or 100 bytes, at a moment.
    fn pipeline() -> (Pipeline, Instant) {
        (Pipeline::new(3, 100, SECOND, 60 * SECOND), Instant::now())
    }

    type Told = oneshot::Receiver<Result<Appended>>;

    fn add(pipeline: &mut Pipeline, name: &str, bytes: usize, now: Instant) -> Told {
        let (done, told) = oneshot::channel();
        pipeline.add(Item { event: Event::new(name, ""), bytes, done }, now);
        told
    }

    fn send_all(pipeline: &mut Pipeline, now: Instant) -> Vec<(u64, String)> {
        let all = std::iter::from_fn(|| pipeline.next_to_send(now));
        all.map(|(n, events)| (n, events.iter().map(|e| e.r#type.as_str()).collect())).collect()
    }

    fn published(ms: u64, count: u64) -> Result<Published> {
        Ok(Published { ids: (0..count).map(|n| EntryId::new(ms, n)).collect(), duplicate: false })
    }

    fn refused(reason: &str, retry: bool, field: &str) -> Error {
        let violations = vec![v1::FieldViolation { field: field.into(), description: "bad".into() }];
        let retry_delay = retry.then_some(prost_types::Duration { seconds: 1, nanos: 0 });
        let code = if retry { 14 } else { 3 };
        Error::from(v1::Error { code, reason: reason.into(), violations, retry_delay, ..Default::default() })
    }

    fn kind(told: &mut Told) -> ErrorKind {
        told.try_recv().expect("told").expect_err("failed").kind()
    }

    #[test]
    fn batches_are_full_or_have_lingered() {
        let (mut p, now) = pipeline();
        let _told: Vec<Told> =
            [("a", 1), ("b", 1), ("c", 1), ("d", 60), ("e", 60)].map(|(n, b)| add(&mut p, n, b, now)).into();
        assert_eq!(send_all(&mut p, now), [(1, "abc".into()), (2, "d".into())]);
        assert_eq!(p.linger_ends(), Some(now + SECOND));
        assert_eq!(send_all(&mut p, now + SECOND), [(3, "e".into())]);
        assert_eq!(p.linger_ends(), None);
    }

    #[test]
    fn five_requests_are_under_way_at_most() {
        let (mut p, now) = pipeline();
        let mut told: Vec<Told> = (0..6).map(|n| add(&mut p, &n.to_string(), 100, now)).collect();
        assert!(!p.has_room());
        assert_eq!(send_all(&mut p, now).len(), 5);
        let more = add(&mut p, "later", 1, now);
        assert_eq!(p.linger_ends(), None, "it would only wait behind the others");
        assert!(matches!(p.answer(1, published(7, 1)), Ok(Answered::Done(Freed { events: 1, bytes: 100 }))));
        assert_eq!(told[0].try_recv().expect("told").expect("appended").id, EntryId::new(7, 0));
        assert_eq!(send_all(&mut p, now), [(6, "5".into())]);
        p.answer(5, published(7, 1)).expect_err("out of order");
        drop(more);
    }

    #[test]
    fn what_was_not_answered_is_sent_again_as_it_was() {
        let (mut p, now) = pipeline();
        let mut told: Vec<Told> = (0..5).map(|n| add(&mut p, &n.to_string(), 40, now)).collect();
        let first = send_all(&mut p, now + SECOND);
        assert_eq!(first, [(1, "01".into()), (2, "23".into()), (3, "4".into())]);
        assert!(matches!(p.answer(1, published(1, 2)), Ok(Answered::Done(_))));
        let lost = Error::new(ErrorKind::Lost, "gone");
        assert_eq!(p.rewind(now + 2 * SECOND, &lost), Freed::default());
        assert_eq!(send_all(&mut p, now + 2 * SECOND), first[1..]);
        assert_eq!(p.rewind(now + 61 * SECOND, &lost), Freed { events: 3, bytes: 120 }, "too old to be safe");
        assert_eq!(kind(&mut told[4]), ErrorKind::Lost);
        assert!(p.is_idle());
    }

    #[test]
    fn a_refusal_for_the_time_being_is_tried_again_until_its_turn_has_passed() {
        let (mut p, now) = pipeline();
        let mut told = [add(&mut p, "a", 100, now), add(&mut p, "b", 100, now)];
        send_all(&mut p, now);
        let full = refused("STORAGE_FULL", true, "");
        assert!(matches!(p.answer(1, Err(full.clone())), Ok(Answered::Again(_))));
        p.rewind(now, &full);
        assert_eq!(send_all(&mut p, now).len(), 2);
        let old = refused("PRODUCER_SEQUENCE_OLD", false, "");
        assert!(matches!(p.answer(1, Err(old)), Ok(Answered::Done(_))));
        let error = told[0].try_recv().expect("told").expect_err("refused");
        assert_eq!(error.reason(), Some(Reason::StorageFull));
    }

    #[test]
    fn an_event_at_fault_is_told_from_its_neighbours() {
        let (mut p, now) = pipeline();
        let mut told = ["a", "b", "c"].map(|n| add(&mut p, n, 1, now));
        send_all(&mut p, now);
        let bad = refused("INVALID_EVENT", false, "events[1].type");
        assert!(matches!(p.answer(1, Err(bad)), Ok(Answered::Done(_))));
        let retryable = told.each_mut().map(|t| t.try_recv().expect("told").expect_err("refused").is_retryable());
        assert_eq!(retryable, [true, false, true]);
    }

    #[test]
    fn a_flush_waits_for_what_came_before_and_tells_the_first_failure() {
        let (mut p, now) = pipeline();
        let _a = add(&mut p, "a", 1, now);
        let (done, mut flushed) = oneshot::channel();
        p.flush(done);
        let _b = add(&mut p, "b", 100, now);
        assert_eq!(send_all(&mut p, now).len(), 2);
        flushed.try_recv().expect_err("not yet");
        assert!(matches!(p.answer(1, Err(refused("INVALID_EVENT", false, ""))), Ok(Answered::Done(_))));
        flushed.try_recv().expect("told").expect_err("it failed");
        let (done, mut flushed) = oneshot::channel();
        p.flush(done);
        assert!(matches!(p.answer(2, published(1, 1)), Ok(Answered::Done(_))));
        flushed.try_recv().expect("told").expect("no failure since");
    }

    #[test]
    fn giving_up_says_what_was_never_sent() {
        let (mut p, now) = pipeline();
        let mut told: Vec<Told> = (0..6).map(|n| add(&mut p, &n.to_string(), 100, now)).collect();
        send_all(&mut p, now);
        p.fail_all(&Error::new(ErrorKind::Unreachable, "nobody there"));
        assert_eq!((kind(&mut told[0]), kind(&mut told[5])), (ErrorKind::Lost, ErrorKind::Unreachable));
    }
}
