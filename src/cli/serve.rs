//! `synapse serve`: the server, from settings to exit code.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use tokio::signal::unix::{SignalKind, signal};

use super::Usage;
use crate::server::settings::{Layer, Settings};
use crate::server::{RunningServer, Server, telemetry};

/// Settings as flags; those of the environment and of a file go under them.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// TOML file with settings.
    #[arg(long, env = "SYNAPSE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    layer: Layer,
}

impl Args {
    /// The settings that hold; wrong ones are wrong usage.
    pub(super) fn settings(self) -> anyhow::Result<Settings> {
        Settings::load(self.config.as_deref(), self.layer).map_err(|e| Usage(e.message().into()).into())
    }
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let settings = args.settings()?;
    telemetry::init(&settings)?;
    raise_file_limit();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if settings.worker_threads > 0 {
        runtime.worker_threads(settings.worker_threads);
    }
    runtime.thread_name("synapse-serve").enable_all().build()?.block_on(serve(settings))
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    // A file that may not grow is an error of the write, to be answered as a full disk, not the end of the process.
    let _limit_of_file_size = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
    // Before the port opens, so that no signal finds the default action in place.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let server = Server::start(settings).await?;
    announce(&server).context("cannot write to standard output")?;
    tokio::select! {
        error = server.engine_died() => {
            tracing::error!(%error, "the engine died");
            return Err(anyhow!("the engine died: {}", error.message()));
        }
        _ = terminate.recv() => tracing::info!("draining: terminated"),
        _ = interrupt.recv() => tracing::info!("draining: interrupted"),
    }
    server.shutdown().await?;
    tracing::info!("stopped");
    Ok(())
}

/// A line of standard output for each port, which tells whoever started the server that it is ready, and where.
fn announce(server: &RunningServer) -> std::io::Result<()> {
    tracing::info!(address = %server.addr(), version = env!("CARGO_PKG_VERSION"), "serving");
    let mut out = std::io::stdout().lock();
    writeln!(out, "listening on {}", server.url())?;
    if let Some(url) = server.resp_url() {
        writeln!(out, "listening on {url}")?;
    }
    out.flush()
}

/// Raises the soft limit of open files to the hard one: every connection and log file takes one.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, current = limit.current, "cannot raise the limit of open files");
    }
}
