//! Requests that a stream remembers by a name alone: an idempotency key, which comes in no order and with no number.
//!
//! They have a memory of their own, so that however many of them come, no producer that numbers its requests is forgotten
//! for them. Within the window none is forgotten at all: where the memory is full, new names are refused.

use std::collections::{HashMap, VecDeque};

use super::dedup::full;
use crate::error::{Error, Reason, Result};
use crate::format::record::{IdRun, RequestNamed};
use crate::limits::DEDUP_NAMES_MAX;

/// A request as it is remembered.
#[derive(Clone, Copy, Debug)]
struct Request {
    hash: u128,
    entries: IdRun,
    at_ms: u64,
}

/// The named requests of one stream.
#[derive(Clone, Debug, Default)]
pub struct Named {
    requests: HashMap<u128, Request>,
    /// Names by the time of their requests, oldest first.
    order: VecDeque<(u64, u128)>,
}

impl Named {
    /// The entries that the request of this name became within the window. The same name with other contents is
    /// `DUPLICATE_MISMATCH`; a new one is `LIMIT_REACHED` where there is no room for it.
    pub fn find(&self, name: u128, hash: u128, window_ms: u64, now_ms: u64) -> Result<Option<IdRun>> {
        let is_alive = |at_ms: u64| now_ms.saturating_sub(at_ms) <= window_ms;
        match self.requests.get(&name).filter(|request| is_alive(request.at_ms)) {
            Some(request) if request.hash == hash => Ok(Some(request.entries)),
            Some(_) => Err(Error::new(Reason::DuplicateMismatch, "the idempotency key was used for other events")),
            None => match self.order.front().filter(|(at_ms, _)| is_alive(*at_ms)) {
                Some((oldest_ms, _)) if self.requests.len() >= DEDUP_NAMES_MAX => {
                    let what = format!("{DEDUP_NAMES_MAX} idempotency keys");
                    Err(full(&what, (oldest_ms + window_ms).saturating_sub(now_ms)))
                }
                _ => Ok(None),
            },
        }
    }

    /// Remembers a request, and forgets those that are older than the window.
    pub(super) fn remember(&mut self, record: &RequestNamed, window_ms: u64) {
        let RequestNamed { name, hash, entries, at_ms, .. } = *record;
        self.restore((name, hash, entries, at_ms));
        while let Some((oldest_ms, name)) = self.order.front().copied() {
            if at_ms.saturating_sub(oldest_ms) <= window_ms {
                break;
            }
            self.order.pop_front();
            // Not where the name was used again after its time.
            if self.requests.get(&name).is_some_and(|request| request.at_ms == oldest_ms) {
                self.requests.remove(&name);
            }
        }
    }

    /// What is remembered, in the order in which it is forgotten: name, hash, entries, engine time.
    pub(super) fn rows(&self) -> impl Iterator<Item = (u128, u128, IdRun, u64)> {
        self.order.iter().filter_map(|(at_ms, name)| {
            let request = self.requests.get(name).filter(|request| request.at_ms == *at_ms)?;
            Some((*name, request.hash, request.entries, *at_ms))
        })
    }

    pub(super) fn restore(&mut self, (name, hash, entries, at_ms): (u128, u128, IdRun, u64)) {
        self.requests.insert(name, Request { hash, entries, at_ms });
        self.order.push_back((at_ms, name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{EntryId, StreamNumber};

    const WINDOW_MS: u64 = 100;

    fn named(name: u128, at_ms: u64) -> RequestNamed {
        let entries = IdRun { first: EntryId::new(name as u64, 0), count: 1 };
        RequestNamed { stream: StreamNumber(1), name, hash: name + 1, entries, at_ms }
    }

    #[test]
    fn a_name_stands_for_its_first_request_as_long_as_the_window() {
        let mut memory = Named::default();
        memory.remember(&named(5, 10), WINDOW_MS);
        assert_eq!(memory.find(5, 6, WINDOW_MS, 110).unwrap(), Some(named(5, 10).entries));
        assert_eq!(memory.find(5, 7, WINDOW_MS, 110).unwrap_err().reason(), Reason::DuplicateMismatch);
        assert_eq!(memory.find(5, 6, WINDOW_MS, 111).unwrap(), None);
        memory.remember(&named(5, 111), WINDOW_MS);
        memory.remember(&named(6, 200), WINDOW_MS);
        assert_eq!(memory.rows().map(|row| (row.0, row.3)).collect::<Vec<_>>(), [(5, 111), (6, 200)]);
        let mut back = Named::default();
        memory.rows().for_each(|row| back.restore(row));
        assert_eq!(back.find(5, 6, WINDOW_MS, 211).unwrap(), Some(named(5, 111).entries));
    }

    #[test]
    fn a_full_memory_refuses_new_names_until_the_oldest_is_old() {
        let mut memory = Named::default();
        (0..DEDUP_NAMES_MAX as u128).for_each(|name| memory.remember(&named(name, 10), WINDOW_MS));
        let refused = memory.find(u128::MAX, 0, WINDOW_MS, 110).unwrap_err();
        assert_eq!(refused.reason(), Reason::LimitReached);
        assert_eq!(refused.retry_delay().map(|after| after.as_millis()), Some(1), "{refused}");
        assert!(memory.find(0, 1, WINDOW_MS, 110).unwrap().is_some(), "what is known is answered");
        assert_eq!(memory.find(u128::MAX, 0, WINDOW_MS, 111).unwrap(), None);
        memory.remember(&named(u128::MAX - 1, 111), WINDOW_MS);
        assert_eq!(memory.rows().count(), 1, "what is old goes");
    }
}
