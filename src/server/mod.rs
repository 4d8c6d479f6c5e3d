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
mod work;

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
    resp_address: Option<SocketAddr>,
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
        let resp_tls = tls.clone();
        let (listener, address) = bind("listen", settings.listen).await?;
        let (resp_listener, resp_address) = match settings.resp_listen.0 {
            Some(wanted) => bind("resp_listen", wanted).await.map(|(port, address)| (Some(port), Some(address)))?,
            None => (None, None),
        };
        let engine = backend::open(&settings).await?;
        recovery::tell(&engine);
        let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
        let running = RunningServer {
            address,
            resp_address,
            tls: tls.is_some(),
            engine: engine.clone(),
            drain_timeout: Duration::from_millis(settings.drain_timeout_ms),
            drain: drain.clone(),
            stop: stop.clone(),
            tasks: TaskTracker::new(),
        };
        let (grpc, http) = backend::front_ends(&settings, &engine, &drain)?;
        let connections = Connections::new(
            &settings,
            tls,
            Dispatch::new(grpc, http, settings.body_wait_max()),
            drain.clone(),
            stop.clone(),
        );
        let tasks = running.tasks.clone();
        let slots = listener::slots(settings.connections_max);
        if let Some(listener) = resp_listener {
            let resp = backend::resp(&settings, &engine, &drain)?;
            let serve = move |stream| connection::serve_resp(stream, resp_tls.clone(), Arc::clone(&resp), stop.clone());
            tasks.spawn(listener::accept_loop(listener, serve, Arc::clone(&slots), drain.clone(), tasks.clone()));
        }
        let connections = Arc::new(connections);
        let serve = move |stream| {
            let connections = Arc::clone(&connections);
            async move { connections.serve(stream).await }
        };
        tasks.spawn(listener::accept_loop(listener, serve, slots, drain, tasks.clone()));
        Ok(running)
    }
}

/// Opens a port that a setting asks for; answers where it is.
async fn bind(setting: &'static str, wanted: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    let bound = TcpListener::bind(wanted).await;
    let listener = bound.map_err(|e| Error::invalid(setting, format!("cannot bind {wanted}: {e}")))?;
    let address = listener.local_addr().map_err(|e| settings::world("the port has no address", e))?;
    Ok((listener, address))
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

    /// The address of its Redis port as a client takes it, where it has one.
    pub fn resp_url(&self) -> Option<String> {
        self.resp_address.map(|address| format!("{}://{address}", if self.tls { "rediss" } else { "redis" }))
    }

    /// Its engine, for a program that holds server and engine in one process.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Resolves once the engine cannot go on because one of its threads ended, with the reason.
    pub async fn engine_died(&self) -> Error {
        backend::died(&self.engine).await
    }

    /// Takes no new connections, ends streams, waits for requests in flight up to `drain_timeout_ms` (and for nobody who
    /// does not read), then closes the engine. Fails where the engine cannot leave its files synced.
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
