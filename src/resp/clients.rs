//! The connections of the port as each other see them: listed, woken where they wait, closed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::refusal::Refusal;
use super::reply::{Protocol, Reply};

/// Where a connection comes from and where it came to.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The address of the client.
    pub peer: SocketAddr,
    /// The address of the port.
    pub local: SocketAddr,
}

/// All connections that there are.
pub(super) struct Clients {
    by_id: Mutex<BTreeMap<u64, Arc<Client>>>,
    next: AtomicU64,
}

/// One connection.
pub(super) struct Client {
    pub(super) id: u64,
    pub(super) ends: Option<Ends>,
    /// When it was made, in engine time.
    pub(super) since_ms: u64,
    pub(super) shown: Mutex<Shown>,
    /// When its last command came, in engine time.
    pub(super) active_ms: AtomicU64,
    waiting: Mutex<Waiting>,
    woken: Notify,
    /// Cancelled when the connection is to end, by whoever wants it.
    pub(super) over: CancellationToken,
}

/// What a connection tells of itself.
#[derive(Clone, Default)]
pub(super) struct Shown {
    pub(super) name: Bytes,
    pub(super) library: Bytes,
    pub(super) library_version: Bytes,
    /// Its last command, with the subcommand where there is one.
    pub(super) command: String,
    pub(super) user: Option<String>,
    pub(super) protocol: Protocol,
    /// Commands that it has queued, within a transaction.
    pub(super) queued: Option<usize>,
}

/// Whether a connection waits for what others add.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    No,
    Yes,
    /// It was told to go on.
    Unblocked(Unblocked),
}

/// How a connection that waited goes on before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unblocked {
    /// As if its time were over.
    TimedOut,
    /// With an error.
    Refused,
}

impl Unblocked {
    pub(super) fn reply(self) -> Reply {
        match self {
            Self::TimedOut => Reply::NullArray,
            Self::Refused => Refusal::new("UNBLOCKED client unblocked via CLIENT UNBLOCK").into(),
        }
    }
}

impl Clients {
    pub(super) fn new() -> Self {
        Self { by_id: Mutex::new(BTreeMap::new()), next: AtomicU64::new(1) }
    }

    /// Takes in a connection, which ends with this token at the latest.
    pub(super) fn add(&self, ends: Option<Ends>, now_ms: u64, drain: &CancellationToken) -> Arc<Client> {
        let client = Arc::new(Client {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            ends,
            since_ms: now_ms,
            shown: Mutex::default(),
            active_ms: AtomicU64::new(now_ms),
            waiting: Mutex::new(Waiting::No),
            woken: Notify::new(),
            over: drain.child_token(),
        });
        self.by_id.lock().insert(client.id, Arc::clone(&client));
        client
    }

    pub(super) fn remove(&self, id: u64) {
        self.by_id.lock().remove(&id);
    }

    pub(super) fn get(&self, id: u64) -> Option<Arc<Client>> {
        self.by_id.lock().get(&id).cloned()
    }

    /// All of them, in the order in which they came.
    pub(super) fn all(&self) -> Vec<Arc<Client>> {
        self.by_id.lock().values().cloned().collect()
    }

    /// Ends a connection, which is out of sight at once.
    pub(super) fn close(&self, client: &Client) {
        self.remove(client.id);
        client.over.cancel();
    }
}

impl Client {
    /// Marks it as waiting, until this is dropped.
    pub(super) fn wait(&self) -> Wait<'_> {
        *self.waiting.lock() = Waiting::Yes;
        Wait(self)
    }

    pub(super) fn is_waiting(&self) -> bool {
        *self.waiting.lock() != Waiting::No
    }

    /// Tells it to go on; whether it waited.
    pub(super) fn unblock(&self, how: Unblocked) -> bool {
        let mut waiting = self.waiting.lock();
        if *waiting != Waiting::Yes {
            return false;
        }
        *waiting = Waiting::Unblocked(how);
        self.woken.notify_one();
        true
    }

    /// Resolves when it was told to go on.
    pub(super) async fn unblocked(&self) -> Unblocked {
        loop {
            self.woken.notified().await;
            if let Waiting::Unblocked(how) = *self.waiting.lock() {
                return how;
            }
        }
    }
}

/// That a connection waits.
pub(super) struct Wait<'a>(&'a Client);

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        *self.0.waiting.lock() = Waiting::No;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_who_waits_is_unblocked_and_once() {
        let clients = Clients::new();
        let client = clients.add(None, 0, &CancellationToken::new());
        assert!(!client.unblock(Unblocked::TimedOut));
        let wait = client.wait();
        assert!(client.unblock(Unblocked::Refused) && !client.unblock(Unblocked::TimedOut));
        assert_eq!(client.unblocked().await, Unblocked::Refused);
        drop(wait);
        assert!(!client.is_waiting() && !client.unblock(Unblocked::TimedOut));
    }
}
