//! The gRPC front end: decode, call the engine, encode.
//!
//! [`routes`] has the services of `proto/` that exist, health and reflection. Streams that a client holds open end with
//! `UNAVAILABLE`, `DRAINING` once the server drains. Bad input gives a status with details and changes nothing.

mod answer;
mod backup_service;
mod consume_session;
mod consumer_service;
mod convert;
mod dead_letters;
mod delivery;
mod envelope;
mod event_service;
mod groups;
mod health;
mod held;
mod pb;
mod plain;
mod publish;
mod publish_stream;
mod request_end;
mod settings;
mod status;
mod stream_service;
mod wire;

use std::time::Duration;

use axum::middleware::map_response;
use axum::response::Response;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Code, Request, Status};

use crate::access::{Caller, Keyring, Permission};
use crate::engine::Engine;
use crate::error::{Error, Result};
use pb::backup_service_server::BackupServiceServer;
use pb::consumer_service_server::ConsumerServiceServer;
use pb::event_service_server::EventServiceServer;
use pb::stream_service_server::StreamServiceServer;

pub(crate) use request_end::RequestEnd;

/// Bounds of the front end.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Largest message that is read, in bytes. The default leaves room around the largest publish.
    pub message_bytes_max: usize,
    /// A consume session hears something at least so often.
    pub heartbeat: Duration,
    /// A backup ends where its client takes nothing and asks for nothing for so long.
    pub backup_idle_max: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            message_bytes_max: 4 << 20,
            heartbeat: Duration::from_secs(10),
            backup_idle_max: Duration::from_secs(300),
        }
    }
}

/// What every service works with.
#[derive(Clone)]
struct Shared {
    engine: Engine,
    keyring: Keyring,
    options: Options,
    drain: CancellationToken,
}

impl Shared {
    /// Who calls: the bearer of the key in the `authorization` metadata.
    fn caller<T>(&self, request: &Request<T>) -> Result<Caller> {
        if self.keyring.is_empty() {
            return Ok(Caller::ANYONE);
        }
        let presented = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        self.keyring.authenticate(presented.and_then(bearer))
    }

    /// Who calls, where the caller may do one of these on that stream.
    fn allowed<T>(&self, request: &Request<T>, any_of: &[Permission], stream: &str) -> Result<Caller> {
        let caller = self.caller(request)?;
        match any_of {
            [one] => caller.may(*one, stream)?,
            several if several.iter().any(|p| caller.allows(*p, stream)) => {}
            several => several.iter().try_for_each(|p| caller.may(*p, stream))?,
        }
        Ok(caller)
    }

    /// How a stream that the client holds open ends when the server drains.
    fn draining() -> Status {
        status::status(Error::draining())
    }
}

/// The key in `Bearer KEY`; the scheme's case does not matter.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// The services over this engine, for callers with these keys. Streams end when `drain` is cancelled.
pub fn routes(engine: Engine, keyring: Keyring, options: Options, drain: CancellationToken) -> Result<Routes> {
    let limit = options.message_bytes_max;
    let shared = Shared { engine, keyring, options, drain };
    let mut routes = Routes::builder();
    routes
        .add_service(
            EventServiceServer::new(event_service::Events(shared.clone()))
                .max_decoding_message_size(limit)
                .max_encoding_message_size(usize::MAX),
        )
        .add_service(
            ConsumerServiceServer::new(consumer_service::Consumers(shared.clone())).max_decoding_message_size(limit),
        )
        .add_service(StreamServiceServer::new(stream_service::Streams(shared.clone())).max_decoding_message_size(limit))
        .add_service(BackupServiceServer::new(backup_service::Backups(shared.clone())).max_decoding_message_size(limit))
        .add_service(health::service(shared));
    let bad = |e: tonic_reflection::server::Error| Error::internal(format!("own descriptors are bad: {e}"));
    routes.add_service(reflection().build_v1().map_err(bad)?).add_service(reflection().build_v1alpha().map_err(bad)?);
    let refused = move |response: Response| async move {
        match Status::from_header_map(response.headers()) {
            Some(found) if found.code() == Code::OutOfRange => status::with_reason(found, limit).into_http(),
            _ => response,
        }
    };
    Ok(Routes::from(routes.routes().into_axum_router().layer(map_response(refused))))
}

/// How a call is refused outside of its service.
pub(crate) fn refusal(error: Error) -> Status {
    status::status(error)
}

/// Reflection lists the services that are served; the descriptors of the others can be looked up.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    let builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(crate::proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name("grpc.health.v1.Health")
        .with_service_name("grpc.reflection.v1.ServerReflection");
    health::SERVED.into_iter().fold(builder, |builder, name| builder.with_service_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_as_bearer_tokens() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer abc"), Some("abc"));
        assert_eq!(bearer("Basic abc"), None);
        assert_eq!(bearer("abc"), None);
    }
}
