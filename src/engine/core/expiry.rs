//! Streams that go by themselves once a time has come.
//!
//! Invariant **X1** `expiries` holds exactly the streams with such a time, each at its own, on the clock that names it.

use std::collections::BTreeSet;

use super::streams::ADMIN_COST;
use super::{Admit, Core};
use crate::clock::Now;
use crate::engine::api::{ExpireAt, SetExpiry};
use crate::engine::reply::Reply;
use crate::error::Result;
use crate::format::record::ExpirySet;
use crate::stream::Stream;
use crate::types::{Expiry, StreamName, StreamNumber};

/// Streams that go in one round.
const EXPIRED_PER_STEP: usize = 256;

impl Core {
    pub(super) fn set_expiry(&mut self, name: &StreamName, to: SetExpiry, reply: Reply<bool>, now: Now) {
        let result = self.try_set_expiry(name, to, now);
        self.answer_or_refuse(reply, result);
    }

    fn try_set_expiry(&mut self, name: &StreamName, to: SetExpiry, now: Now) -> Result<bool> {
        self.check_open()?;
        let Some(stream) = self.names.get(name).copied() else { return Ok(false) };
        let at = to.to.map(|to| match to {
            ExpireAt::WallMs(at_ms) => Expiry::Wall(at_ms),
            ExpireAt::AfterMs(ms) => Expiry::after(ms, now),
        });
        if !holds(to, at, self.streams[&stream].stream.expires, now) {
            return Ok(false);
        }
        self.admit(ADMIN_COST, Admit::Shrinking)?;
        if at.is_some_and(|at| at.has_come(now)) {
            self.apply_stream_deleted(stream);
            return Ok(true);
        }
        self.apply_expiry(stream, at);
        self.change_stream(stream, |_| ());
        self.record(ExpirySet { stream, at }, Some(stream));
        Ok(true)
    }

    /// Sets when a stream goes; in replay, too. Whether there is such a stream.
    pub(crate) fn apply_expiry(&mut self, number: StreamNumber, at: Option<Expiry>) -> bool {
        let Some(slot) = self.streams.get_mut(&number) else { return false };
        let before = std::mem::replace(&mut slot.stream.expires, at);
        if let Some(before) = before {
            self.expiries.remove(before, number);
        }
        if let Some(at) = at {
            self.expiries.insert(at, number);
        }
        true
    }

    pub(super) fn forget_expiry(&mut self, stream: &Stream) {
        if let Some(at) = stream.expires {
            self.expiries.remove(at, stream.number);
        }
    }

    /// When the next stream goes, in engine time, as far as the wall clock tells now. Those whose time has come are there
    /// for want of room, or because they are many: waiting for them would not end.
    pub(super) fn next_expiry(&self, now: Now) -> Option<u64> {
        let after = |times: &BTreeSet<(u64, StreamNumber)>, now_ms: u64| {
            let later = (now_ms.saturating_add(1), StreamNumber(0));
            times.range(later..).next().map(|(at_ms, _)| at_ms - now_ms)
        };
        let in_ms = [after(&self.expiries.wall, now.wall_ms), after(&self.expiries.engine, now.engine_ms)];
        in_ms.into_iter().flatten().min().map(|in_ms| now.engine_ms.saturating_add(in_ms))
    }

    /// Deletes the streams whose time has come; the rest of them in the next round, and without room, later.
    pub(super) fn expire_streams(&mut self, now: Now) {
        for _ in 0..EXPIRED_PER_STEP {
            let Some(number) = self.expiries.due(now) else { return };
            self.now = now;
            if self.check_open().is_err() || self.admit(ADMIN_COST, Admit::Shrinking).is_err() {
                return;
            }
            self.apply_stream_deleted(number);
        }
    }
}

/// The streams that go by themselves, in the order in which they do, on each clock.
#[derive(Default)]
pub(super) struct Expiries {
    wall: BTreeSet<(u64, StreamNumber)>,
    engine: BTreeSet<(u64, StreamNumber)>,
}

impl Expiries {
    fn on_clock(&mut self, at: Expiry) -> (&mut BTreeSet<(u64, StreamNumber)>, u64) {
        match at {
            Expiry::Wall(at_ms) => (&mut self.wall, at_ms),
            Expiry::Engine(at_ms) => (&mut self.engine, at_ms),
        }
    }

    fn insert(&mut self, at: Expiry, stream: StreamNumber) {
        let (times, at_ms) = self.on_clock(at);
        times.insert((at_ms, stream));
    }

    fn remove(&mut self, at: Expiry, stream: StreamNumber) {
        let (times, at_ms) = self.on_clock(at);
        times.remove(&(at_ms, stream));
    }

    /// One whose time has come.
    fn due(&self, now: Now) -> Option<StreamNumber> {
        let first = |times: &BTreeSet<(u64, StreamNumber)>, now_ms: u64| {
            times.first().filter(|(at_ms, _)| *at_ms <= now_ms).map(|(_, stream)| *stream)
        };
        first(&self.wall, now.wall_ms).or_else(|| first(&self.engine, now.engine_ms))
    }
}

fn holds(to: SetExpiry, at: Option<Expiry>, before: Option<Expiry>, now: Now) -> bool {
    let had = to.had.is_none_or(|had| had == before.is_some());
    // Without a time it stays for ever.
    let on_wall = |at: Option<Expiry>| at.map_or(u64::MAX, |at| at.wall_ms(now));
    let (old, new) = (on_wall(before), on_wall(at));
    had && (!to.later || new > old) && (!to.earlier || new < old)
}
