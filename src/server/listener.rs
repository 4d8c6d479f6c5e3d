//! The accept loop of a port: a bound on connections, which ports share, and tasks that a shutdown can wait for.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Slots for so many connections, or fewer: the log needs descriptors, too.
pub(super) fn slots(asked: usize) -> Arc<Semaphore> {
    let descriptors = getrlimit(Resource::Nofile).current.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
    let fit = descriptors - (descriptors / 2).min(DESCRIPTORS_KEPT);
    if fit < asked {
        tracing::warn!(connections_max = fit, asked, descriptors, "the limit of open files allows fewer connections");
    }
    Arc::new(Semaphore::new(asked.min(fit).min(Semaphore::MAX_PERMITS)))
}

/// Accepts connections until told to stop. One beyond the bound is closed at once, so that those there are unharmed.
pub(super) async fn accept_loop<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    serve: impl Fn(TcpStream) -> F,
    slots: Arc<Semaphore>,
    drain: CancellationToken,
    tasks: TaskTracker,
) {
    let mut refusals = Refusals::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => match Arc::clone(&slots).try_acquire_owned() {
                Ok(slot) => {
                    let served = serve(stream);
                    tasks.spawn(async move {
                        served.await;
                        drop(slot);
                    });
                }
                Err(_) => {
                    if let Some(refused) = refusals.count() {
                        tracing::warn!(%peer, refused, "connections refused: too many");
                    }
                }
            },
            Err(error) if is_of_the_peer(&error) => tracing::debug!(%error, "a connection ended before it began"),
            Err(error) => {
                // Out of file descriptors or memory: giving connections time to end beats spinning.
                tracing::error!(%error, "cannot accept connections");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

/// Counts what is refused, to be told once a second: a flood of connections must not become one of lines.
#[derive(Default)]
struct Refusals {
    untold: u64,
    told: Option<Instant>,
}

impl Refusals {
    /// Counts one; answers how many there were since the last that were told, where it is time to tell.
    fn count(&mut self) -> Option<u64> {
        self.untold += 1;
        if self.told.is_some_and(|at| at.elapsed() < TELL_EVERY) {
            return None;
        }
        self.told = Some(Instant::now());
        Some(std::mem::take(&mut self.untold))
    }
}

fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Descriptors that are left to everything but connections, or half of all where these are few: the files that readers
/// keep open, those being written, the index, listeners and wakers.
const DESCRIPTORS_KEPT: usize = 384;
