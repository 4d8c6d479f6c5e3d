//! The one file that reads the clock.
//!
//! [`Now`] pairs wall time, which the world sets, with engine time, which never goes back and does not jump:
//! monotonic while the process runs; across a restart it goes on by the wall time that passed, never negatively.
//! Ids carry wall time; leases, delays and ages are judged by engine time. Everything below layer 4 is handed a
//! `Now` and never asks for one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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

/// Where `Now` comes from.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Now;
    /// Continues engine time from the last moment that the log knows of.
    fn resume(&self, last: Now);
}

/// Engine time at which a store begins: there is time before it, for what is said to have happened long ago.
const ENGINE_START_MS: u64 = 1 << 40;

/// The system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
    base_engine_ms: AtomicU64,
}

impl SystemClock {
    /// A clock whose engine time starts anew, until [`Clock::resume`] sets it on.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { started: Instant::now(), base_engine_ms: AtomicU64::new(ENGINE_START_MS) })
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
        let running_ms = self.started.elapsed().as_millis() as u64;
        Now { wall_ms: Self::wall_ms(), engine_ms: self.base_engine_ms.load(Ordering::Relaxed) + running_ms }
    }

    fn resume(&self, last: Now) {
        let down_ms = Self::wall_ms().saturating_sub(last.wall_ms);
        let running_ms = self.started.elapsed().as_millis() as u64;
        self.base_engine_ms.store((last.engine_ms + down_ms).saturating_sub(running_ms), Ordering::Relaxed);
    }
}

/// A clock that moves only when told to; for tests and simulation.
#[derive(Debug, Default)]
pub struct ManualClock {
    wall_ms: AtomicU64,
    engine_ms: AtomicU64,
}

impl ManualClock {
    /// A clock that stands at this wall time, engine time zero.
    pub fn at(wall_ms: u64) -> Arc<Self> {
        Arc::new(Self { wall_ms: AtomicU64::new(wall_ms), engine_ms: AtomicU64::new(0) })
    }
    /// Lets time pass, on both clocks.
    pub fn advance(&self, by: Duration) {
        self.wall_ms.fetch_add(by.as_millis() as u64, Ordering::Relaxed);
        self.engine_ms.fetch_add(by.as_millis() as u64, Ordering::Relaxed);
    }
    /// Sets the wall clock, either way; engine time stands.
    pub fn set_wall(&self, wall_ms: u64) {
        self.wall_ms.store(wall_ms, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        Now { wall_ms: self.wall_ms.load(Ordering::Relaxed), engine_ms: self.engine_ms.load(Ordering::Relaxed) }
    }
    fn resume(&self, last: Now) {
        let down_ms = self.wall_ms.load(Ordering::Relaxed).saturating_sub(last.wall_ms);
        self.engine_ms.fetch_max(last.engine_ms + down_ms, Ordering::Relaxed);
    }
}
