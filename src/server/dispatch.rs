//! Which front end a request is for: gRPC by its content type, everything else HTTP.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, header};
use hyper::body::Incoming;
use tower::Service;

use super::body::{Bounded, Cut, Held, Messages};
use super::work::Work;

/// The service of a connection.
#[derive(Clone)]
pub(super) struct Dispatch {
    grpc: Router,
    http: Router,
    held: Held,
    work: Work,
    body_wait_max: Duration,
}

impl Dispatch {
    pub(super) fn new(grpc: tonic::service::Routes, http: Router, body_wait_max: Duration) -> Self {
        let (grpc, http) = (grpc.prepare().into_axum_router(), http.with_state(()));
        Self { grpc, http, held: Held::default(), work: Work::default(), body_wait_max }
    }

    /// The same for another connection, whose work is this.
    pub(super) fn for_connection(&self, work: Work) -> Self {
        Self { held: self.held.of_another(), work, ..self.clone() }
    }
}

impl hyper::service::Service<Request<Incoming>> for Dispatch {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        // A router is always ready; cloning it is cloning an `Arc`.
        let (mut router, messages) = match is_grpc(request.headers().get(header::CONTENT_TYPE)) {
            true => (self.grpc.clone(), Messages::Many(Cut::default())),
            false => (self.http.clone(), Messages::One),
        };
        let is_one_of = |methods: &[&str]| methods.iter().any(|method| request.uri().path().ends_with(method));
        let (awaited, is_stream) = (!is_one_of(&FIRST_MESSAGE_WHENEVER), is_one_of(&STREAMS));
        let under_way = self.work.begin();
        let (parts, body) = request.into_parts();
        let body = Bounded::new(body, messages, awaited, &self.held, self.body_wait_max);
        let end = body.end();
        let mut request = Request::from_parts(parts, Body::new(body));
        request.extensions_mut().insert(end);
        let answering = router.call(request);
        answering.map(move |answer| answer.map(|answer| under_way.until_answered(answer, is_stream))).boxed()
    }
}

/// Methods that a client may have open and ask nothing of.
const FIRST_MESSAGE_WHENEVER: [&str; 2] = ["/PublishStream", "/ServerReflectionInfo"];

/// Methods whose answers have no end of their own, or one that is far away: they end when the server drains.
const STREAMS: [&str; 6] =
    ["/PublishStream", "/TailEvents", "/Consume", "/TakeBackup", "/Watch", "/ServerReflectionInfo"];

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
