//! The one file that reads the clock.
//!
//! [`Now`] pairs wall time, which people set, with engine time, which never goes back and does not jump. Engine time is
//! the machine's boot clock, which nobody sets and which counts while the machine sleeps, and an offset that the log
//! remembers ([`EngineClock`]). So it goes on over restarts by what really passed, whatever the wall clock does, as long as
//! the machine is not booted; over a boot it goes on by the wall time that passed, never negatively. Ids carry wall time;
//! leases, delays, ages and expiry are judged by engine time. Everything below layer 4 is handed a `Now` and never asks
//! for one.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Wall and engine time of one moment, both in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    /// Milliseconds since the Unix epoch by the system clock; may jump.
    pub wall_ms: u64,
    /// Milliseconds of engine time; never goes back.
    pub engine_ms: u64,
}

impl Now {
    /// By how many milliseconds wall time is ahead of engine time: it changes only where the wall clock is set.
    pub fn wall_ahead_ms(self) -> i64 {
        self.wall_ms.wrapping_sub(self.engine_ms) as i64
    }
}

/// How engine time follows from the clock of one boot of one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineClock {
    /// Which boot.
    pub boot: [u8; 16],
    /// Milliseconds by which engine time is ahead of the boot clock.
    pub ahead_ms: i64,
}

impl EngineClock {
    /// Goes on from the last moment that the log tells of: by the boot clock where `known` is of this boot, else by the
    /// wall time that passed. `at` is the present moment, with the boot clock's time in the place of engine time.
    fn resume(boot: [u8; 16], at: Now, last: Now, known: Option<Self>) -> Self {
        let engine_ms = match known.filter(|known| known.boot == boot) {
            Some(known) => at.engine_ms.saturating_add_signed(known.ahead_ms).max(last.engine_ms),
            None => last.engine_ms.saturating_add(at.wall_ms.saturating_sub(last.wall_ms)),
        };
        Self { boot, ahead_ms: engine_ms.wrapping_sub(at.engine_ms) as i64 }
    }
}

/// Where `Now` comes from.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Now;
    /// Continues engine time from the last moment that the log knows of, with what it knows of engine time; answers what it
    /// is to know from now on.
    fn resume(&self, last: Now, known: Option<EngineClock>) -> EngineClock;
}

/// Engine time at which a store begins: there is time before it, for what is said to have happened long ago.
const ENGINE_START_MS: u64 = 1 << 40;

/// The system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
    boot: [u8; 16],
    /// Milliseconds by which engine time is ahead of the boot clock.
    ahead_ms: AtomicI64,
}

impl SystemClock {
    /// A clock whose engine time starts anew, until [`Clock::resume`] sets it on.
    pub fn new() -> Arc<Self> {
        let ahead_ms = ENGINE_START_MS.wrapping_sub(boot_clock_ms()) as i64;
        Arc::new(Self { started: Instant::now(), boot: boot_id(), ahead_ms: AtomicI64::new(ahead_ms) })
    }

    /// Microseconds since this clock was made; never goes back.
    pub fn micros(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    fn wall_ms() -> u64 {
        #[expect(clippy::disallowed_methods, reason = "this is the one place")]
        let now = SystemTime::now();
        now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let ahead_ms = self.ahead_ms.load(Ordering::Relaxed);
        Now { wall_ms: Self::wall_ms(), engine_ms: boot_clock_ms().wrapping_add_signed(ahead_ms) }
    }

    fn resume(&self, last: Now, known: Option<EngineClock>) -> EngineClock {
        let at = Now { wall_ms: Self::wall_ms(), engine_ms: boot_clock_ms() };
        let resumed = EngineClock::resume(self.boot, at, last, known);
        self.ahead_ms.store(resumed.ahead_ms, Ordering::Relaxed);
        resumed
    }
}

/// Milliseconds since the machine was booted, while it slept, too.
fn boot_clock_ms() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// Which boot of which machine this is; where the system does not tell, one that no other is.
fn boot_id() -> [u8; 16] {
    let told = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = told.chars().filter(char::is_ascii_hexdigit).collect();
    match u128::from_str_radix(&digits, 16) {
        Ok(id) if digits.len() == 32 => id.to_be_bytes(),
        _ => random_id(),
    }
}

fn random_id() -> [u8; 16] {
    let mut id = [0; 16];
    // Without randomness restarts count as one boot: engine time still never goes back.
    let _ = getrandom::fill(&mut id);
    id
}

/// A clock that moves only when told to; for tests and simulation. Each one is a boot of its own.
#[derive(Debug)]
pub struct ManualClock {
    wall_ms: AtomicU64,
    boot_ms: AtomicU64,
    boot: [u8; 16],
    ahead_ms: AtomicI64,
}

impl ManualClock {
    /// A clock that stands at this wall time, engine time zero.
    pub fn at(wall_ms: u64) -> Arc<Self> {
        let boot = random_id();
        let (wall_ms, boot_ms, ahead_ms) = (AtomicU64::new(wall_ms), AtomicU64::new(0), AtomicI64::new(0));
        Arc::new(Self { wall_ms, boot_ms, boot, ahead_ms })
    }
    /// Another one of the same boot that stands where this one does.
    pub fn fork(&self) -> Arc<Self> {
        let copy = |value: &AtomicU64| AtomicU64::new(value.load(Ordering::Relaxed));
        let ahead_ms = AtomicI64::new(self.ahead_ms.load(Ordering::Relaxed));
        Arc::new(Self { wall_ms: copy(&self.wall_ms), boot_ms: copy(&self.boot_ms), boot: self.boot, ahead_ms })
    }
    /// Lets time pass, on both clocks.
    pub fn advance(&self, by: Duration) {
        self.wall_ms.fetch_add(by.as_millis() as u64, Ordering::Relaxed);
        self.boot_ms.fetch_add(by.as_millis() as u64, Ordering::Relaxed);
    }
    /// Sets the wall clock, either way; engine time stands.
    pub fn set_wall(&self, wall_ms: u64) {
        self.wall_ms.store(wall_ms, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        let (boot_ms, ahead_ms) = (self.boot_ms.load(Ordering::Relaxed), self.ahead_ms.load(Ordering::Relaxed));
        Now { wall_ms: self.wall_ms.load(Ordering::Relaxed), engine_ms: boot_ms.wrapping_add_signed(ahead_ms) }
    }
    fn resume(&self, last: Now, known: Option<EngineClock>) -> EngineClock {
        let boot_ms = self.boot_ms.load(Ordering::Relaxed);
        let at = Now { wall_ms: self.wall_ms.load(Ordering::Relaxed), engine_ms: boot_ms };
        let resumed = EngineClock::resume(self.boot, at, last, known);
        self.ahead_ms.store(resumed.ahead_ms, Ordering::Relaxed);
        resumed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    #[test]
    fn within_a_boot_engine_time_is_what_passed_however_the_wall_clock_was_set() {
        for wall_ms in [0, 500 * 24 * HOUR_MS, 1_000 * 24 * HOUR_MS] {
            let clock = ManualClock::at(500 * 24 * HOUR_MS);
            let known = clock.resume(Now::default(), None);
            let last = clock.now();
            clock.advance(Duration::from_secs(3600));
            clock.set_wall(wall_ms);
            assert_eq!(clock.resume(last, Some(known)), known, "nothing new to be remembered");
            assert_eq!(clock.now().engine_ms, last.engine_ms + HOUR_MS);
        }
    }

    #[test]
    fn over_a_boot_engine_time_goes_on_by_the_wall_clock_and_never_back() {
        let before = ManualClock::at(HOUR_MS);
        let known = before.resume(Now::default(), None);
        let last = before.now();
        for (wall_ms, passed_ms) in [(3 * HOUR_MS, 2 * HOUR_MS), (0, 0)] {
            let clock = ManualClock::at(wall_ms);
            assert_ne!(clock.resume(last, Some(known)).boot, known.boot);
            assert_eq!(clock.now().engine_ms, last.engine_ms + passed_ms);
        }
    }

    #[test]
    fn the_system_tells_its_boot_and_goes_on_in_it() {
        let (first, second) = (SystemClock::new(), SystemClock::new());
        assert_eq!(first.boot, second.boot);
        let last = Now { wall_ms: 0, engine_ms: 5 << 40 };
        let known = first.resume(last, None);
        let at = first.now().engine_ms;
        assert_eq!(second.resume(first.now(), Some(known)), known);
        assert!(second.now().engine_ms - at < 60_000);
    }
}
