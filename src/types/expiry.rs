//! When a stream goes by itself.

use serde::{Deserialize, Serialize};

use crate::clock::Now;

/// A moment, on the clock by which it was named. Where a step of the wall clock falls between naming and coming, only what
/// was named on that clock comes sooner or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expiry {
    /// When wall time is this, in milliseconds since the Unix epoch.
    Wall(u64),
    /// When engine time is this, in milliseconds: so long after it was said.
    Engine(u64),
}

impl Expiry {
    /// So many milliseconds from now.
    pub fn after(ms: u64, now: Now) -> Self {
        Self::Engine(now.engine_ms.saturating_add(ms))
    }

    /// Whether it has come.
    pub fn has_come(self, now: Now) -> bool {
        match self {
            Self::Wall(at_ms) => at_ms <= now.wall_ms,
            Self::Engine(at_ms) => at_ms <= now.engine_ms,
        }
    }

    /// The wall time at which it comes, as far as can be told now, in milliseconds since the Unix epoch.
    pub fn wall_ms(self, now: Now) -> u64 {
        match self {
            Self::Wall(at_ms) => at_ms,
            Self::Engine(at_ms) if at_ms < now.engine_ms => now.wall_ms.saturating_sub(now.engine_ms - at_ms),
            Self::Engine(at_ms) => now.wall_ms.saturating_add(at_ms - now.engine_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_the_wall_clock_moves_only_what_was_named_on_it() {
        let now = Now { wall_ms: 1_000_000, engine_ms: 50 };
        let (span, moment) = (Expiry::after(3_600_000, now), Expiry::Wall(4_600_000));
        assert_eq!([span.wall_ms(now), moment.wall_ms(now)], [4_600_000; 2]);
        let a_day_on = Now { wall_ms: now.wall_ms + 86_400_000, engine_ms: 60 };
        assert!(!span.has_come(a_day_on) && moment.has_come(a_day_on));
        assert_eq!(span.wall_ms(a_day_on), a_day_on.wall_ms + 3_600_000 - 10);
        let late = Now { wall_ms: 2_000_000, engine_ms: 3_600_050 };
        assert!(span.has_come(late) && !moment.has_come(late));
    }
}
