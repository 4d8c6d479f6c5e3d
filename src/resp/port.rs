//! What all connections of the port share.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::RespOptions;
use super::clients::{Client, Clients, Ends};
use super::room::Room;
use super::session::COMMANDS;
use super::stats::Stats;
use crate::access::Keyring;
use crate::clock::{Clock, SystemClock};
use crate::engine::Engine;

/// The engine, and the connections.
pub(super) struct Port {
    pub(super) engine: Engine,
    pub(super) keyring: Keyring,
    pub(super) options: RespOptions,
    pub(super) room: Arc<Room>,
    pub(super) clock: Arc<SystemClock>,
    pub(super) clients: Clients,
    pub(super) stats: Stats,
    drain: CancellationToken,
}

impl Port {
    pub(super) fn new(engine: Engine, keyring: Keyring, options: RespOptions, drain: CancellationToken) -> Self {
        Self {
            engine,
            keyring,
            options,
            room: Arc::default(),
            clock: SystemClock::new(),
            clients: Clients::new(),
            stats: Stats::of(COMMANDS.iter().map(|(name, _)| *name)),
            drain,
        }
    }

    /// A new connection, among all others until this is dropped.
    pub(super) fn admit(self: &Arc<Self>, ends: Option<Ends>) -> Admitted {
        let client = self.clients.add(ends, self.clock.now().engine_ms, &self.drain);
        Admitted { port: Arc::clone(self), client }
    }
}

/// A connection of the port, from its beginning to its end.
pub(super) struct Admitted {
    pub(super) port: Arc<Port>,
    pub(super) client: Arc<Client>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.port.clients.remove(self.client.id);
    }
}
