//! A progress bar on a terminal, for work that takes long; nothing where standard error is none.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::AbortHandle;

/// Progress of some work; gone from the terminal when it is dropped.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    ticking: Option<AbortHandle>,
}

impl Progress {
    /// Work on so many bytes.
    pub(super) fn bytes(what: &'static str, total: u64) -> Self {
        Self::new(what, total, "{msg} {wide_bar} {bytes} of {total_bytes}, {eta} left")
    }

    /// Work that goes on for so long, from now on. Within a runtime only.
    pub(super) fn lasting(what: &'static str, total: Duration) -> Self {
        let mut progress = Self::new(what, total.as_millis() as u64, "{msg} {wide_bar} {eta} left");
        if let Some(bar) = progress.bar.clone() {
            let started = Instant::now();
            let ticks = async move {
                loop {
                    bar.set_position(started.elapsed().as_millis() as u64);
                    tokio::time::sleep(TICK).await;
                }
            };
            progress.ticking = Some(tokio::spawn(ticks).abort_handle());
        }
        progress
    }

    fn new(what: &'static str, total: u64, template: &str) -> Self {
        if !io::stderr().is_terminal() {
            return Self { bar: None, ticking: None };
        }
        let style = ProgressStyle::with_template(template).expect("the templates of this file are valid");
        let target = ProgressDrawTarget::stderr_with_hz(TICKS_PER_SECOND);
        let bar = ProgressBar::with_draw_target(Some(total), target).with_style(style).with_message(what);
        Self { bar: Some(bar), ticking: None }
    }

    /// Says how much of the work is done.
    pub(super) fn set(&self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }

    /// Writes something while the bar is out of the way.
    pub(super) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(ticking) = &self.ticking {
            ticking.abort();
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

const TICK: Duration = Duration::from_millis(200);
const TICKS_PER_SECOND: u8 = 5;
