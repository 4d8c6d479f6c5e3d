//! Which front end a request is for: gRPC by its content type, everything else HTTP.

use std::convert::Infallible;

use axum::Router;
use axum::response::Response;
use axum::routing::future::RouteFuture;
use http::{HeaderValue, Request, header};
use hyper::body::Incoming;
use tower::Service;

/// The service of every connection.
#[derive(Clone)]
pub(super) struct Dispatch {
    grpc: Router,
    http: Router,
}

impl Dispatch {
    pub(super) fn new(grpc: tonic::service::Routes, http: Router) -> Self {
        Self { grpc: grpc.prepare().into_axum_router(), http: http.with_state(()) }
    }
}

impl hyper::service::Service<Request<Incoming>> for Dispatch {
    type Response = Response;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        // A router is always ready; cloning it is cloning an `Arc`.
        let mut router =
            if is_grpc(request.headers().get(header::CONTENT_TYPE)) { self.grpc.clone() } else { self.http.clone() };
        router.call(request)
    }
}

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
