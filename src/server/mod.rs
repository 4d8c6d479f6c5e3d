//! Assembly of the server: settings, engine, front ends, listener, shutdown.
//!
//! [`Server::start`] runs in any tokio runtime, so tests and programs can have a server of their own; the `synapse`
//! program adds telemetry and signals. A server that is shut down has ended its streams, finished what was in flight
//! (up to a timeout), and left its engine synced and cleanly closed.

mod backend;
mod body;
mod connection;
mod dispatch;
mod listener;
mod recovery;
pub mod settings;
pub mod telemetry;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use settings::Settings;

use crate::engine::Engine;
use crate::error::{Error, Result};
use connection::Connections;
use dispatch::Dispatch;

/// Starts servers.
#[derive(Debug)]
pub struct Server;

/// A server that runs until [`RunningServer::shutdown`]. Dropping it stops it without waiting for anything.
pub struct RunningServer {
    address: SocketAddr,
    tls: bool,
    engine: Engine,
    drain_timeout: Duration,
    drain: CancellationToken,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Opens the engine, makes the streams that settings name, and serves; returns once the port is open.
    ///
    /// Fails where settings do not make sense, the data directory cannot be used, or the port cannot be bound.
    pub async fn start(settings: Settings) -> Result<RunningServer> {
        settings.validate()?;
        let tls = tls::acceptor(&settings)?;
        let listener = TcpListener::bind(settings.listen)
            .await
            .map_err(|e| Error::invalid("listen", format!("cannot bind {}: {e}", settings.listen)))?;
        let address = listener.local_addr().map_err(|e| settings::world("the port has no address", e))?;
        let engine = backend::open(&settings).await?;
        recovery::tell(&engine);
        let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
        let running = RunningServer {
            address,
            tls: tls.is_some(),
            engine: engine.clone(),
            drain_timeout: Duration::from_millis(settings.drain_timeout_ms),
            drain: drain.clone(),
            stop: stop.clone(),
            tasks: TaskTracker::new(),
        };
        let (grpc, http) = backend::front_ends(&settings, &engine, &drain)?;
        let connections =
            Connections::new(&settings, tls, Dispatch::new(grpc, http, settings.body_wait_max()), drain.clone(), stop);
        let tasks = running.tasks.clone();
        let connections_max = listener::connections_max(settings.connections_max);
        let accepting = listener::accept_loop(listener, Arc::new(connections), connections_max, drain, tasks.clone());
        tasks.spawn(accepting);
        Ok(running)
    }
}

impl RunningServer {
    /// Where it listens; with port 0 in settings, the port that was picked.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Its address as a client takes it.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.address)
    }

    /// Its engine, for a program that holds server and engine in one process.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Resolves once the engine cannot go on because one of its threads ended, with the reason.
    pub async fn engine_died(&self) -> Error {
        backend::died(&self.engine).await
    }

    /// Takes no new connections, ends streams, waits for requests in flight up to `drain_timeout_ms`, then closes
    /// the engine. Fails where the engine cannot leave its files synced.
    pub async fn shutdown(self) -> Result<()> {
        self.drain.cancel();
        self.tasks.close();
        if tokio::time::timeout(self.drain_timeout, self.tasks.wait()).await.is_err() {
            tracing::warn!(connections = self.tasks.len(), "drain timeout is over: cutting what is left");
        }
        self.stop.cancel();
        self.tasks.wait().await;
        self.engine.shutdown().await
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.drain.cancel();
        self.stop.cancel();
    }
}
