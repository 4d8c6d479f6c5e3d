//! The accept loop: one port, a bound on connections, tasks that a shutdown can wait for.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::Connections;

/// Accepts connections until told to stop. One beyond the bound is closed at once, so that those there are unharmed.
pub(super) async fn accept_loop(
    listener: TcpListener,
    connections: Arc<Connections>,
    connections_max: usize,
    drain: CancellationToken,
    tasks: TaskTracker,
) {
    let slots = Arc::new(Semaphore::new(connections_max));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => match Arc::clone(&slots).try_acquire_owned() {
                Ok(slot) => {
                    let connections = Arc::clone(&connections);
                    tasks.spawn(async move {
                        connections.serve(stream).await;
                        drop(slot);
                    });
                }
                Err(_) => tracing::warn!(%peer, connections_max, "connection refused: too many"),
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

fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);
