//! Streams that go by themselves once a time has come.
//!
//! Invariant **X1** `expiries` holds exactly the streams with such a time, each at its own.

use super::streams::ADMIN_COST;
use super::{Admit, Core};
use crate::clock::Now;
use crate::engine::api::SetExpiry;
use crate::engine::reply::Reply;
use crate::error::Result;
use crate::format::record::ExpirySet;
use crate::stream::Stream;
use crate::types::{StreamName, StreamNumber};

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
        if !holds(to, self.streams[&stream].stream.expires_ms) {
            return Ok(false);
        }
        self.admit(ADMIN_COST, Admit::Shrinking)?;
        if to.at_ms.is_some_and(|at| at <= now.wall_ms) {
            self.apply_stream_deleted(stream);
            return Ok(true);
        }
        self.apply_expiry(stream, to.at_ms);
        self.change_stream(stream, |_| ());
        self.record(ExpirySet { stream, at_ms: to.at_ms }, Some(stream));
        Ok(true)
    }

    /// Sets when a stream goes; in replay, too. Whether there is such a stream.
    pub(crate) fn apply_expiry(&mut self, number: StreamNumber, at_ms: Option<u64>) -> bool {
        let Some(slot) = self.streams.get_mut(&number) else { return false };
        let before = std::mem::replace(&mut slot.stream.expires_ms, at_ms);
        if let Some(at) = before {
            self.expiries.remove(&(at, number));
        }
        self.expiries.extend(at_ms.map(|at| (at, number)));
        true
    }

    pub(super) fn forget_expiry(&mut self, stream: &Stream) {
        if let Some(at) = stream.expires_ms {
            self.expiries.remove(&(at, stream.number));
        }
    }

    /// When the next stream goes, in engine time, as far as the wall clock tells now. Those whose time has come are there
    /// for want of room, or because they are many: waiting for them would not end.
    pub(super) fn next_expiry(&self, now: Now) -> Option<u64> {
        let later = (now.wall_ms.saturating_add(1), StreamNumber(0));
        let (at_ms, _) = self.expiries.range(later..).next()?;
        Some(now.engine_ms.saturating_add(at_ms - now.wall_ms))
    }

    /// Deletes the streams whose time has come; the rest of them in the next round, and without room, later.
    pub(super) fn expire_streams(&mut self, now: Now) {
        for _ in 0..EXPIRED_PER_STEP {
            let due = self.expiries.first().copied().filter(|(at, _)| *at <= now.wall_ms);
            let Some((_, number)) = due else { return };
            self.now = now;
            if self.check_open().is_err() || self.admit(ADMIN_COST, Admit::Shrinking).is_err() {
                return;
            }
            self.apply_stream_deleted(number);
        }
    }
}

fn holds(to: SetExpiry, before: Option<u64>) -> bool {
    let had = to.had.is_none_or(|had| had == before.is_some());
    // Without a time it stays for ever.
    let (old, new) = (before.unwrap_or(u64::MAX), to.at_ms.unwrap_or(u64::MAX));
    had && (!to.later || new > old) && (!to.earlier || new < old)
}
