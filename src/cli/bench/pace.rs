//! When requests are due. A rate is kept by a thread of its own: timers of the runtime tick in milliseconds, too
//! coarse for thousands of requests a second.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

/// The due times of one client's requests; the channel ends when the load does.
pub(super) fn due_times(
    started: Instant,
    interval: Duration,
    requests: u64,
    over: Duration,
) -> mpsc::Receiver<Instant> {
    let (sender, receiver) = mpsc::channel(DUE_WAITING);
    std::thread::spawn(move || {
        for n in 0..requests {
            let after = interval.mul_f64(n as f64);
            if after >= over {
                return;
            }
            let due = started + after;
            let now = Instant::now();
            if due > now {
                std::thread::sleep(due - now);
            }
            // Where the receiver lags, this waits; the requests keep their due times.
            if sender.blocking_send(due).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Due times that may wait to be taken.
const DUE_WAITING: usize = 4_096;
