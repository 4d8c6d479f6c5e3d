//! Pauses between attempts: exponential with full jitter, so that clients do not come back all at once, and bounded in
//! all, so that nobody waits for ever.

use std::time::Duration;

use tokio::time::Instant;

/// The first pause is at most this long; each further one may be twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// No pause is longer, unless the server asks for it.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Attempts since the last success.
#[derive(Debug)]
pub(super) struct Backoff {
    limit: Duration,
    failures: u32,
    /// When the first failure came.
    since: Option<Instant>,
}

impl Backoff {
    /// Gives up this long after the first failure.
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, failures: 0, since: None }
    }

    /// Something succeeded.
    pub(super) fn reset(&mut self) {
        (self.failures, self.since) = (0, None);
    }

    /// How long to pause after one more failure; `None` when it is time to give up. What the server asked for is kept.
    pub(super) fn pause(&mut self, asked: Option<Duration>) -> Option<Duration> {
        self.pause_at(Instant::now(), asked)
    }

    fn pause_at(&mut self, now: Instant, asked: Option<Duration>) -> Option<Duration> {
        let elapsed = now.duration_since(*self.since.get_or_insert(now));
        let left = self.limit.checked_sub(elapsed).filter(|left| !left.is_zero())?;
        let most = PAUSE_FIRST.saturating_mul(1 << self.failures.min(16)).min(PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        let pause = most.mul_f64(fraction()) + asked.unwrap_or_default();
        Some(pause.min(left))
    }
}

/// A number from 0 to 1 by chance; without a source of chance there is no jitter.
fn fraction() -> f64 {
    let random = getrandom::u32().unwrap_or(u32::MAX);
    f64::from(random) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let mut backoff = Backoff::new(Duration::from_secs(60));
        let mut greatest = [Duration::ZERO; 12];
        for _ in 0..200 {
            backoff.reset();
            for slot in &mut greatest {
                *slot = (*slot).max(backoff.pause(None).expect("time is left"));
            }
        }
        assert!(greatest[0] <= PAUSE_FIRST && greatest[1] <= 2 * PAUSE_FIRST, "{greatest:?}");
        assert!(greatest[1] > PAUSE_FIRST && greatest[11] > PAUSE_MAX / 2, "they grow: {greatest:?}");
        assert!(greatest.iter().all(|pause| *pause <= PAUSE_MAX), "{greatest:?}");
    }

    #[test]
    fn it_gives_up_in_the_end_and_starts_anew_after_a_success() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut backoff = Backoff::new(10 * second);
        assert!(backoff.pause_at(start, Some(2 * second)).expect("time is left") >= 2 * second);
        assert!(backoff.pause_at(start + 9 * second, Some(5 * second)).expect("time is left") <= second);
        assert_eq!(backoff.pause_at(start + 10 * second, None), None);
        backoff.reset();
        assert!(backoff.pause_at(start + 11 * second, None).is_some());
    }
}
