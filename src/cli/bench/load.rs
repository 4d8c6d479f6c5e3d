//! What is sent: requests encoded once, and the channels that they go over.

use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message;
use tonic::client::Grpc;
use tonic::transport::Channel;

use super::Load;
use super::codec::EncodedPublish;
use crate::cli::client::{Connect, refused};
use crate::proto::v1;

/// Path of `EventService.Publish`.
pub(super) const PUBLISH: PathAndQuery = PathAndQuery::from_static("/synapse.v1.EventService/Publish");
/// Path of `EventService.PublishStream`.
pub(super) const PUBLISH_STREAM: PathAndQuery = PathAndQuery::from_static("/synapse.v1.EventService/PublishStream");

/// Path of `ConsumerService.Consume`.
pub(super) const CONSUME: PathAndQuery = PathAndQuery::from_static("/synapse.v1.ConsumerService/Consume");

/// An event of that many bytes of data.
pub(super) fn event(data: Bytes) -> v1::Event {
    v1::Event { r#type: "inference-complete".into(), source: "cyrex".into(), data, ..Default::default() }
}

/// A publish of these events, as the load asks for it.
pub(super) fn request(load: &Load, events: Vec<v1::Event>) -> v1::PublishRequest {
    v1::PublishRequest {
        stream: load.stream.clone(),
        events,
        durability: load.durability.unwrap_or_default().into(),
        create_stream: Some(true),
        ..Default::default()
    }
}

/// Publishes of one batch each, encoded, to one stream or to many in an order without pattern.
#[derive(Clone)]
pub(super) struct Publishes {
    streams: Arc<[Bytes]>,
    rest: Bytes,
    random: u64,
}

impl Publishes {
    pub(super) fn new(load: &Load, streams: usize) -> Self {
        let named = |stream| v1::PublishRequest { stream, ..Default::default() }.encode_to_vec().into();
        let names =
            (0..streams).map(|n| if streams == 1 { load.stream.clone() } else { format!("{}-{n}", load.stream) });
        let event = event(vec![b'x'; load.size].into());
        let rest = v1::PublishRequest { stream: String::new(), ..request(load, vec![event; load.batch]) };
        Self { streams: names.map(named).collect(), rest: rest.encode_to_vec().into(), random: 1 }
    }

    /// For another client: its order is another one.
    pub(super) fn of_client(&self, number: usize) -> Self {
        Self { random: 2 * number as u64 + 1, ..self.clone() }
    }

    pub(super) fn next(&mut self) -> EncodedPublish {
        // Knuth's generator for 64 bits (MMIX); its high bits are the good ones.
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let stream = self.streams[(self.random >> 33) as usize % self.streams.len()].clone();
        EncodedPublish { stream, rest: self.rest.clone() }
    }
}

/// One client's way to the server.
pub(super) async fn channels(load: &Load) -> anyhow::Result<Vec<Channel>> {
    let mut channels = Vec::new();
    for _ in 0..load.connections {
        channels.push(load.connect.channel().await?);
    }
    Ok(channels)
}

/// A client over one of the channels.
pub(super) fn client(channels: &[Channel], number: usize) -> Grpc<Channel> {
    Grpc::new(channels[number % channels.len()].clone())
}

/// Makes the stream, or a group on it, where it is missing.
pub(super) async fn ensure_group(connect: &Connect, request: v1::CreateGroupRequest) -> anyhow::Result<()> {
    match connect.consumers().await?.create_group(request).await {
        Ok(_) => Ok(()),
        Err(status) if status.code() == tonic::Code::AlreadyExists => Ok(()),
        Err(status) => Err(refused(status)),
    }
}
