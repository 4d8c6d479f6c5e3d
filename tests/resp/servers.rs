//! The two sides: Synapse in this process, and Debian's redis-server.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use synapse::access::Keyring;
use synapse::engine::{Engine, EngineOptions};
use synapse::resp::{Ends, Resp, RespOptions};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// An engine with its Redis port.
pub(crate) struct Synapse {
    engine: Engine,
    port: u16,
    drain: CancellationToken,
    _runtime: Runtime,
    folder: tempfile::TempDir,
}

impl Synapse {
    pub(crate) fn start() -> Self {
        Self::with_keys(Keyring::default())
    }

    pub(crate) fn with_keys(keyring: Keyring) -> Self {
        Self::over(tempfile::tempdir().expect("a folder"), keyring)
    }

    /// Stops, and starts over what is on the disk: from the last checkpoint, or from the log alone.
    pub(crate) fn restart(mut self, from_log: bool) -> Self {
        futures::executor::block_on(self.engine.shutdown()).expect("stops");
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a folder"));
        drop(self);
        if from_log {
            std::fs::remove_dir_all(folder.path().join("data/index")).expect("the index goes");
        }
        Self::over(folder, Keyring::default())
    }

    fn over(folder: tempfile::TempDir, keyring: Keyring) -> Self {
        let engine = Engine::open(EngineOptions::new(folder.path().join("data"))).expect("opens");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let drain = CancellationToken::new();
        let options = RespOptions { request_bytes_max: 32 << 20, wait_max: Duration::from_secs(30) };
        let resp = Resp::new(engine.clone(), keyring, options, drain.clone());
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        runtime.spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let ends = stream.local_addr().map(|local| Ends { peer, local }).ok();
                let resp = std::sync::Arc::clone(&resp);
                tokio::spawn(async move { resp.serve_between(stream, ends).await });
            }
        });
        Self { engine, port, drain, _runtime: runtime, folder }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Deletes every stream.
    pub(crate) fn clear(&self) {
        for name in self.engine.stream_names("") {
            futures::executor::block_on(self.engine.delete_stream(&name)).expect("deletes");
        }
    }
}

impl Drop for Synapse {
    fn drop(&mut self) {
        self.drain.cancel();
    }
}

/// Redis, without anything on the disk.
pub(crate) struct Redis {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Redis {
    /// `None` where it is not installed.
    pub(crate) fn start() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a free port").port();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.current_dir(folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = match command.spawn() {
            Ok(process) => process,
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "redis-server is needed in CI: {error}");
                eprintln!("skipped: redis-server is not installed (Debian: redis-server)");
                return None;
            }
        };
        let redis = Self { process, port, _folder: folder };
        let until = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "redis-server does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(redis)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
