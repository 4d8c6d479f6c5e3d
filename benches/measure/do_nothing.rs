//! A tonic service with Synapse's publish methods that answers at once: what the transport allows. `synapse bench` can
//! be pointed at it. Its windows are those of Synapse's server.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt};
use synapse::proto::v1::{
    EntryId, PublishRequest, PublishResponse, PublishStreamRequest, PublishStreamResponse, publish_stream_response,
};
use tonic::body::Body;
use tonic::codec::Streaming;
use tonic::server::{Grpc, NamedService};
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Serves until the process ends.
pub(crate) fn serve(listen: SocketAddr) -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .add_service(DoNothing)
        .serve(listen);
    Ok(tokio::runtime::Runtime::new()?.block_on(server)?)
}

#[derive(Clone)]
struct DoNothing;

impl NamedService for DoNothing {
    const NAME: &'static str = "synapse.v1.EventService";
}

impl Service<http::Request<Body>> for DoNothing {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match request.uri().path() {
            "/synapse.v1.EventService/Publish" => async move {
                let method = service_fn(|r: Request<PublishRequest>| async move { publish(&r.into_inner()) });
                Ok(Grpc::new(ProstCodec::default()).unary(method, request).await)
            }
            .boxed(),
            "/synapse.v1.EventService/PublishStream" => async move {
                let method = service_fn(|r: Request<Streaming<PublishStreamRequest>>| async move {
                    Ok::<_, Status>(Response::new(publish_stream(r.into_inner())))
                });
                Ok(Grpc::new(ProstCodec::default()).streaming(method, request).await)
            }
            .boxed(),
            _ => async { Ok(Status::unimplemented("it does nothing").into_http()) }.boxed(),
        }
    }
}

fn publish(request: &PublishRequest) -> Result<Response<PublishResponse>, Status> {
    Ok(Response::new(answer(request)))
}

fn publish_stream(
    requests: Streaming<PublishStreamRequest>,
) -> impl Stream<Item = Result<PublishStreamResponse, Status>> {
    requests.map(|request| {
        let request = request?;
        let published = answer(&request.publish.unwrap_or_default());
        let result = Some(publish_stream_response::Result::Published(published));
        Ok(PublishStreamResponse { seq: request.seq, result })
    })
}

/// An answer of the usual size.
fn answer(request: &PublishRequest) -> PublishResponse {
    let count = request.events.len() as u32;
    let first = EntryId { ms: 1_700_000_000_000, seq: 1 };
    let last = EntryId { ms: first.ms, seq: u64::from(count) };
    PublishResponse { first_id: Some(first), last_id: Some(last), count, ..Default::default() }
}
