//! A few named threads for what may touch the disk: reads that the cache cannot answer, and preparations for the core.
//!
//! The queue is bounded; a full one is `OVERLOADED`.

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};

use super::reply::{self, Answer};
use crate::error::{Error, Result};

type Job = Box<dyn FnOnce() + Send>;

/// Jobs waiting for a reader at most.
const JOBS_MAX: usize = 4096;

/// The way to the reader threads.
#[derive(Clone)]
pub(crate) struct Pool(Sender<Job>);

/// The readers' end.
pub(crate) struct PoolJobs(Receiver<Job>);

pub(crate) fn pool() -> (Pool, PoolJobs) {
    let (sender, receiver) = bounded(JOBS_MAX);
    (Pool(sender), PoolJobs(receiver))
}

impl Pool {
    /// Runs the work on a reader thread.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<Answer<T>> {
        let (reply, answer) = reply::channel();
        self.submit(Box::new(move || reply.send(work())))?;
        Ok(answer)
    }

    /// Hands a job over without waiting for what comes of it.
    pub(crate) fn submit(&self, job: Job) -> Result<()> {
        self.0.try_send(job).map_err(|e| match e {
            TrySendError::Full(_) => Error::overloaded("the readers' queue"),
            TrySendError::Disconnected(_) => Error::draining(),
        })
    }
}

impl PoolJobs {
    /// Runs jobs until every [`Pool`] handle is gone.
    pub(crate) fn work(&self) {
        while let Ok(job) = self.0.recv() {
            job();
        }
    }
    #[cfg(any(test, feature = "testing"))]
    /// Runs what waits now; says whether there was anything.
    pub(crate) fn work_once(&self) -> bool {
        let mut any = false;
        while let Ok(job) = self.0.try_recv() {
            job();
            any = true;
        }
        any
    }
    pub(crate) fn another(&self) -> Self {
        Self(self.0.clone())
    }
}
