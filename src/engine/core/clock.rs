//! What the log is told of the clocks, so that engine time goes on by what really passed.

use super::{Admit, Core};
use crate::clock::{EngineClock, Now};
use crate::format::record::ClockNoted;
use crate::storage::record_cost;

/// A wall clock that moved by more than this against engine time was set.
const STEP_MS: u64 = 1000;
/// What the record of a clock takes: it has no part that grows.
const CLOCK_BYTES: usize = 24;

impl Core {
    /// Remembers how engine time follows from the boot clock, where the log does not know that. Without room for it the log
    /// does not, and a start goes on by the wall clock, as after a boot. `last` is the moment of the last commit.
    pub(crate) fn note_clock(&mut self, clock: EngineClock, last: Now, now: Now) {
        self.wall_ahead_ms = Some(last.wall_ahead_ms());
        if self.engine_clock != Some(clock) {
            self.now = now;
            self.write_clock(clock);
        }
    }

    /// Marks that the wall clock was set since the last commit, so that a start after a boot does not take the step for
    /// time that passed.
    pub(super) fn note_wall_step(&mut self, now: Now) {
        let (Some(before_ms), Some(clock)) = (self.wall_ahead_ms, self.engine_clock) else { return };
        if now.wall_ahead_ms().abs_diff(before_ms) > STEP_MS {
            self.now = now;
            // Told once, also where there was no room.
            self.wall_ahead_ms = Some(now.wall_ahead_ms());
            self.write_clock(clock);
        }
    }

    fn write_clock(&mut self, clock: EngineClock) {
        if self.check_open().is_ok() && self.admit(record_cost(CLOCK_BYTES), Admit::Shrinking).is_ok() {
            self.engine_clock = Some(clock);
            self.record_lazily(ClockNoted { clock }, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::record::Effect;

    #[test]
    fn a_clock_takes_what_is_admitted_for_it() {
        let clock = EngineClock { boot: [1; 16], ahead_ms: -1 };
        assert_eq!(Effect::from(ClockNoted { clock }).encode().len(), CLOCK_BYTES);
    }
}
