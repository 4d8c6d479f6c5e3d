//! How the server makes its engine and front ends from settings: the one place that knows their constructors.

use std::time::Duration;

use axum::Router;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::settings::Settings;
use crate::engine::{Engine, Health};
use crate::error::{Error, Result};

/// Opens the engine and makes the streams that settings name.
pub(super) async fn open(_settings: &Settings) -> Result<Engine> {
    Ok(Engine {})
}

/// The gRPC services and the HTTP routes over the engine.
pub(super) fn front_ends(
    _settings: &Settings,
    _engine: &Engine,
    _drain: &CancellationToken,
) -> Result<(Routes, Router)> {
    Ok((Routes::default(), Router::new()))
}

/// Waits until the engine's threads are gone.
pub(super) async fn died(engine: &Engine) -> Error {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if let Health::Failed(reason) = engine.health() {
            return Error::internal(reason);
        }
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(250);
