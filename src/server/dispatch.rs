//! Which front end a request is for: gRPC by its content type, everything else HTTP.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::future::RouteFuture;
use http::{HeaderValue, Request, header};
use hyper::body::Incoming;
use tower::Service;

use super::body::{Bounded, Cut, Held, Messages};

/// The service of a connection.
#[derive(Clone)]
pub(super) struct Dispatch {
    grpc: Router,
    http: Router,
    held: Held,
    body_wait_max: Duration,
}

impl Dispatch {
    pub(super) fn new(grpc: tonic::service::Routes, http: Router, body_wait_max: Duration) -> Self {
        let (grpc, http) = (grpc.prepare().into_axum_router(), http.with_state(()));
        Self { grpc, http, held: Held::default(), body_wait_max }
    }

    /// The same for another connection.
    pub(super) fn for_connection(&self) -> Self {
        Self { held: self.held.of_another(), ..self.clone() }
    }
}

impl hyper::service::Service<Request<Incoming>> for Dispatch {
    type Response = Response;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        // A router is always ready; cloning it is cloning an `Arc`.
        let (mut router, messages) = match is_grpc(request.headers().get(header::CONTENT_TYPE)) {
            true => (self.grpc.clone(), Messages::Many(Cut::default())),
            false => (self.http.clone(), Messages::One),
        };
        let awaited = !FIRST_MESSAGE_WHENEVER.iter().any(|method| request.uri().path().ends_with(method));
        let bounded = |body| Body::new(Bounded::new(body, messages, awaited, &self.held, self.body_wait_max));
        router.call(request.map(bounded))
    }
}

/// Methods that a client may have open and ask nothing of.
const FIRST_MESSAGE_WHENEVER: [&str; 2] = ["/PublishStream", "/ServerReflectionInfo"];

/// `application/grpc`, alone or with a suffix or parameters.
fn is_grpc(content_type: Option<&HeaderValue>) -> bool {
    let Some(rest) = content_type.and_then(|v| v.as_bytes().strip_prefix(b"application/grpc")) else {
        return false;
    };
    matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types() {
        for (value, grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(Some(&HeaderValue::from_static(value))), grpc, "{value}");
        }
        assert!(!is_grpc(None));
    }
}
