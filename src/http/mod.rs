//! The HTTP/JSON front end: decode, call the engine, encode. One file per resource; `docs/HTTP.md` is its manual.
//!
//! [`router`] is mounted beside gRPC on one port. Every route comes from the table in `routes`, from which the OpenAPI
//! document is made as well. Bodies, waits and live views are bounded; unknown parameters and members are refused.

mod access;
mod consume;
mod dead_letters;
mod envelope;
mod events;
mod groups;
mod health;
mod home;
mod live;
mod messages;
mod observe;
mod openapi;
mod pending;
pub mod problem;
mod request;
mod routes;
mod scrape;
mod settings;
mod streams;
#[cfg(feature = "testing")]
pub mod testing;
mod text;
mod trim;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method};
use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::access::Keyring;
use crate::clock::Clock;
use crate::engine::Engine;
use crate::error::{Error, Reason, Result};
use crate::limits;
use crate::metrics::Metrics;
use crate::types::NewEntry;

/// The event that a native JSON object is, by the rules of the envelope: the same over HTTP and on the command line.
pub(crate) fn native_event(object: &Bytes, source: &str) -> Result<NewEntry> {
    let text = std::str::from_utf8(object).map_err(|_| Error::new(Reason::InvalidEvent, "is not UTF-8"))?;
    envelope::check_text(text)?;
    let entries: [NewEntry; 1] = envelope::single(object, source)?
        .try_into()
        .map_err(|_| Error::new(Reason::InvalidEvent, "is not one JSON object"))?;
    let [entry] = entries;
    Ok(entry)
}

/// Settings of the front end.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Origins of web pages that may use the server: `https://app.example`, or `*` for any.
    pub cors_origins: Vec<String>,
    /// Largest body of a request, in bytes.
    pub body_bytes_max: usize,
    /// Longest time that a body may take to arrive.
    pub body_wait_max: Duration,
    /// Live views that may be open at a time.
    pub live_views_max: usize,
    /// A live view sends a comment after so long without an event.
    pub heartbeat: Duration,
    /// Streams with metrics of their own; others share the label `other`.
    pub metrics_streams_max: usize,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            cors_origins: Vec::new(),
            body_bytes_max: BODY_BYTES_DEFAULT,
            body_wait_max: Duration::from_secs(30),
            live_views_max: 1000,
            heartbeat: Duration::from_secs(15),
            metrics_streams_max: 100,
        }
    }
}

impl HttpOptions {
    /// Whether the values make sense; refuses origins that no browser would send.
    pub fn validate(&self) -> Result<()> {
        for origin in &self.cors_origins {
            let whole = origin.split_once("://").is_some_and(|(_, host)| !host.is_empty() && !host.contains('/'));
            if origin != "*" && (!whole || HeaderValue::from_str(origin).is_err()) {
                return Err(Error::invalid(
                    "cors_origins",
                    format!("{origin:?} is not an origin like https://app.example"),
                ));
            }
        }
        if self.body_bytes_max == 0 || self.live_views_max == 0 || self.heartbeat.is_zero() {
            return Err(Error::invalid("http", "limits and intervals must be greater than zero"));
        }
        Ok(())
    }
}

/// What handlers share. Cheap to clone.
#[derive(Clone)]
struct App(Arc<Shared>);

struct Shared {
    engine: Engine,
    keyring: Keyring,
    options: HttpOptions,
    shutdown: CancellationToken,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    live: Arc<Semaphore>,
    /// Who may write out a batch of a live view.
    writing: Semaphore,
    openapi: Bytes,
    home: Bytes,
}

impl Deref for App {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl App {
    /// Wall time in milliseconds since the Unix epoch.
    fn wall_ms(&self) -> u64 {
        self.clock.now().wall_ms
    }
}

/// The front end over an engine. Ends its waits and live views when `shutdown` is cancelled.
///
/// Fails where the options do not make sense.
pub fn router(
    engine: Engine,
    keyring: Keyring,
    options: HttpOptions,
    shutdown: CancellationToken,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
) -> Result<Router> {
    options.validate()?;
    let routes = routes::all();
    let cors = cors(&options.cors_origins);
    let app = App(Arc::new(Shared {
        live: Arc::new(Semaphore::new(options.live_views_max.min(Semaphore::MAX_PERMITS))),
        writing: Semaphore::new(std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))),
        openapi: openapi::document(&routes),
        home: home::page(&routes),
        engine,
        keyring,
        options,
        shutdown,
        metrics,
        clock,
    }));
    let router = routes::router(routes, &app)
        .fallback(routes::no_such_path)
        .layer(axum::middleware::from_fn(routes::explain_method))
        .layer(cors);
    Ok(router.with_state(app))
}

/// Lets the pages of these origins read answers. Without origins browsers keep answers to the server's own pages.
fn cors(origins: &[String]) -> CorsLayer {
    let origins = match origins.iter().any(|origin| origin == "*") {
        true => AllowOrigin::any(),
        false => AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok())),
    };
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([HeaderName::from_static("retry-after")])
        .max_age(Duration::from_secs(600))
}

/// Room for the largest publish as base64 within CloudEvents.
const BODY_BYTES_DEFAULT: usize = limits::PUBLISH_BYTES_DEFAULT / 3 * 4 + (64 << 10);

#[cfg(test)]
mod tests;
