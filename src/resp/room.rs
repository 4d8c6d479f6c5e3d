//! What connections hold together of requests that are not whole, of transactions, of waits and of replies that are not
//! read: bounded, and what would go beyond is refused with `OVERLOADED`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Result};

/// Bytes that are held for all connections together at most, beside what each may hold anyway.
const ALL_HELD_MAX: usize = 256 << 20;
/// Bytes that each of a connection's shares may have without asking.
const FREE_BYTES: usize = 16 << 10;

/// The room that all connections share.
#[derive(Debug, Default)]
pub(super) struct Room {
    held: AtomicUsize,
}

/// What one purpose of one connection holds of it; given back when this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    room: Arc<Room>,
    counted: AtomicUsize,
}

impl Room {
    /// A share that holds nothing yet.
    pub(super) fn share(self: &Arc<Self>) -> Share {
        Share { room: Arc::clone(self), counted: AtomicUsize::new(0) }
    }
}

impl Share {
    /// Holds so many bytes from now on. More than there is room for is `OVERLOADED`, and what was held stays.
    pub(super) fn hold(&self, bytes: usize) -> Result<()> {
        let now = bytes.saturating_sub(FREE_BYTES);
        let before = self.counted.load(Ordering::Relaxed);
        if now <= before {
            self.room.held.fetch_sub(before - now, Ordering::Relaxed);
        } else {
            let all = self.room.held.fetch_add(now - before, Ordering::Relaxed) + (now - before);
            if all > ALL_HELD_MAX {
                self.room.held.fetch_sub(now - before, Ordering::Relaxed);
                return Err(Error::overloaded("the room for what connections have not taken or not sent as a whole"));
            }
        }
        self.counted.store(now, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // Less never fails.
        let _ = self.hold(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_bounded_and_given_back() {
        let room = Arc::new(Room::default());
        let (one, other) = (room.share(), room.share());
        one.hold(ALL_HELD_MAX).expect("there is room");
        other.hold(FREE_BYTES).expect("everybody has so much");
        other.hold(2 * FREE_BYTES + 1).expect_err("there is no more");
        one.hold(ALL_HELD_MAX - FREE_BYTES).expect("less");
        other.hold(2 * FREE_BYTES + 1).expect("there is again");
        drop((one, other));
        assert_eq!(room.held.load(Ordering::Relaxed), 0);
    }
}
