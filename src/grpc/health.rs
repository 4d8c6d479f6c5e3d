//! `grpc.health.v1`, straight from the engine's own state; open to everyone.

use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::Shared;
use crate::engine::Health as EngineHealth;

/// How often a watch looks.
const WATCH_EVERY: Duration = Duration::from_millis(500);
/// The services that have a status of their own; the empty name stands for the server.
pub(super) const SERVED: [&str; 4] =
    ["synapse.v1.EventService", "synapse.v1.ConsumerService", "synapse.v1.StreamService", "synapse.v1.BackupService"];

/// A name for the index of the log: without it a start takes longer, and nothing else is different.
const INDEX: &str = "synapse.index";

/// The health service.
pub(super) fn service(shared: Shared) -> HealthServer<HealthService> {
    HealthServer::new(HealthService(shared))
}

/// Answers from the engine's state.
pub(super) struct HealthService(Shared);

/// The status of a service; `None` where there is no such service. A full disk stops publishing only.
fn status_of(service: &str, health: &EngineHealth) -> Option<ServingStatus> {
    if !service.is_empty() && !SERVED.contains(&service) {
        return None;
    }
    Some(match health {
        EngineHealth::Serving => ServingStatus::Serving,
        EngineHealth::StorageFull if service != SERVED[0] => ServingStatus::Serving,
        EngineHealth::StorageFull | EngineHealth::Draining | EngineHealth::Failed(_) => ServingStatus::NotServing,
    })
}

impl HealthService {
    fn look(shared: &Shared, service: &str) -> Option<ServingStatus> {
        if service == INDEX {
            let usable = shared.engine.index_trouble().is_none();
            return Some(if usable { ServingStatus::Serving } else { ServingStatus::NotServing });
        }
        let health = if shared.drain.is_cancelled() { EngineHealth::Draining } else { shared.engine.health() };
        status_of(service, &health)
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status as i32 }
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        match Self::look(&self.0, &request.get_ref().service) {
            Some(status) => Ok(Response::new(response(status))),
            None => Err(Status::not_found("no such service")),
        }
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let watched = (self.0.clone(), request.into_inner().service, None);
        let changes = stream::unfold(watched, |(shared, service, last)| async move {
            loop {
                let now = Self::look(&shared, &service).unwrap_or(ServingStatus::ServiceUnknown);
                if last != Some(now) {
                    return Some((Ok(response(now)), (shared, service, Some(now))));
                }
                // The last change has been told.
                if shared.drain.is_cancelled() {
                    return None;
                }
                tokio::select! {
                    () = shared.drain.cancelled() => {}
                    () = tokio::time::sleep(WATCH_EVERY) => {}
                }
            }
        });
        Ok(Response::new(changes.boxed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_stops_publishing_only() {
        let full = EngineHealth::StorageFull;
        assert_eq!(status_of("", &full), Some(ServingStatus::Serving));
        assert_eq!(status_of("synapse.v1.EventService", &full), Some(ServingStatus::NotServing));
        assert_eq!(status_of("synapse.v1.ConsumerService", &full), Some(ServingStatus::Serving));
        assert_eq!(status_of("synapse.v1.RouteService", &EngineHealth::Serving), None);
        assert_eq!(status_of("", &EngineHealth::Draining), Some(ServingStatus::NotServing));
    }
}
