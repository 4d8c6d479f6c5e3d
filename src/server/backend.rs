//! How the server makes its engine and front ends from settings: the one place that knows their constructors.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::settings::Settings;
use crate::clock::SystemClock;
use crate::engine::{Engine, EngineOptions, Health};
use crate::error::{Error, Reason, Result};
use crate::metrics::Metrics;
use crate::resp::{Resp, RespOptions};
use crate::types::StreamSettings;
use crate::{grpc, http, limits};

/// Opens the engine and makes the streams that settings name.
pub(super) async fn open(settings: &Settings) -> Result<Engine> {
    let options = EngineOptions {
        segment_bytes: settings.segment_bytes,
        checkpoint_bytes: settings.checkpoint_bytes,
        cache_bytes: settings.cache_bytes,
        durability: settings.durability,
        auto_create_streams: settings.auto_create_streams,
        event_bytes_max: settings.event_bytes_max,
        publish_bytes_max: settings.publish_bytes_max,
        groups_per_stream_max: settings.groups_per_stream_max,
        consumers_per_group_max: settings.consumers_per_group_max,
        consumer_idle_max: Duration::from_secs(settings.consumer_idle_max_s),
        ..EngineOptions::new(settings.data_dir.clone())
    };
    let opened = tokio::task::spawn_blocking(move || Engine::open(options)).await;
    let engine = opened.map_err(|e| Error::internal(format!("opening the engine: {e}")))??;
    for name in settings.stream_names()? {
        match engine.create_stream(name, StreamSettings::default()).await {
            Err(error) if error.reason() != Reason::StreamExists => return Err(error),
            _ => {}
        }
    }
    Ok(engine)
}

/// The gRPC services and the HTTP routes over the engine.
pub(super) fn front_ends(settings: &Settings, engine: &Engine, drain: &CancellationToken) -> Result<(Routes, Router)> {
    let options = grpc::Options {
        message_bytes_max: (settings.publish_bytes_max + (512 << 10)).max(limits::PUBLISH_BYTES_DEFAULT),
        ..grpc::Options::default()
    };
    let routes = grpc::routes(engine.clone(), settings.keyring()?, options, drain.clone())?;
    let options = http::HttpOptions {
        cors_origins: settings.cors_origins.0.clone(),
        // Data may come as base64, which is a third longer.
        body_bytes_max: settings.publish_bytes_max / 3 * 4 + (512 << 10),
        body_wait_max: settings.body_wait_max(),
        ..http::HttpOptions::default()
    };
    let (metrics, clock) = (Metrics::new(), SystemClock::new());
    let router = http::router(engine.clone(), settings.keyring()?, options, drain.clone(), metrics, clock)?;
    Ok((routes, router))
}

/// The Redis protocol over the engine.
pub(super) fn resp(settings: &Settings, engine: &Engine, drain: &CancellationToken) -> Result<Arc<Resp>> {
    let options =
        RespOptions { request_bytes_max: settings.publish_bytes_max + (512 << 10), wait_max: settings.body_wait_max() };
    Ok(Resp::new(engine.clone(), settings.keyring()?, options, drain.clone()))
}

/// Waits until the engine's threads are gone.
pub(super) async fn died(engine: &Engine) -> Error {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if engine.is_dead()
            && let Health::Failed(reason) = engine.health()
        {
            return Error::internal(reason);
        }
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(250);
