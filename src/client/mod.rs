//! The client: publish, read and consume over gRPC, from any tokio program.
//!
//! [`Client`] is a connection; it is cheap to clone, and connects again by itself. Single calls are its methods and
//! those of [`StreamHandle`] and [`GroupHandle`]; they are tried once, and say precisely what is known of a failure
//! ([`ErrorKind`]). A [`Publisher`] sends many events, each once and in order, over lost connections; a [`Consumer`] is a
//! stream of messages to be acknowledged; a [`Tail`] follows a stream without a group. What else the server can do is in
//! the generated clients, which [`Client::raw_events`] and its siblings give.
//!
//! A service that wants only this depends on the crate with `default-features = false, features = ["client"]`.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let settings = synapse::server::settings::Settings {
//! #     data_dir: folder.path().join("data"), listen: ([127, 0, 0, 1], 0).into(), ..Default::default()
//! # };
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
//! # let server = synapse::server::Server::start(settings).await?;
//! # let url = server.url();
//! use futures::StreamExt;
//! use synapse::client::{Client, Event, StartAt};
//! use synapse::proto::v1::GroupSettings;
//! use std::time::Duration;
//!
//! let client = Client::builder(url).request_timeout(Duration::from_secs(10)).connect().await?;
//! let group = client.group("inference-events", "analytics-service");
//! group.create(StartAt::Earliest, GroupSettings::default()).await?;
//!
//! let publisher = client.publisher("inference-events").start()?;
//! let event = Event::new("inference-complete", r#"{"latency_ms":12}"#).json().with_source("cyrex");
//! let receipt = publisher.publish(event).await?;
//! let id = receipt.await?.id;
//! publisher.close().await?;
//!
//! let mut consumer = group.consumer().name("worker-1").window(100, 1 << 20).start()?;
//! let message = consumer.next().await.expect("a stream that has not ended")?;
//! assert_eq!(message.id(), id);
//! message.ack().await?;
//! consumer.drain(Duration::from_secs(5)).await?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })
//! # }
//! ```

mod backoff;
mod builder;
mod calls;
mod consumer;
mod entry;
mod error;
mod groups;
mod publisher;
mod streams;
mod tail;

use std::sync::Arc;
use std::time::Duration;

use tonic::{Response, Status};

pub use builder::{ClientBuilder, PresentKey, Service};
pub use calls::{Page, Published, ReadRange};
pub use consumer::{Consumer, ConsumerBuilder, Drained, Message, Settling};
pub use entry::{Entry, Event, StartAt};
pub use error::{Error, ErrorKind, Result, Violation};
pub use groups::{Batch, DeadLetterPage, Delivered, GroupHandle, Letters, Nack, Settled};
pub use publisher::{Appended, Publisher, PublisherBuilder, Receipt};
pub use streams::StreamHandle;
pub use tail::{Gap, Tail};

use crate::proto::v1::consumer_service_client::ConsumerServiceClient;
use crate::proto::v1::event_service_client::EventServiceClient;
use crate::proto::v1::stream_service_client::StreamServiceClient;

/// A connection to a server. Clones share it.
#[derive(Clone)]
pub struct Client {
    service: Service,
    shared: Arc<Shared>,
}

struct Shared {
    url: String,
    request_timeout: Duration,
}

/// A message of the server holds at least one event of whatever size it allows.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

impl Client {
    /// Settings of a connection to that address, as `http://127.0.0.1:8002`.
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(url.into())
    }

    /// Connects to that address with the settings as they are.
    pub async fn connect(url: impl Into<String>) -> Result<Self> {
        Self::builder(url).connect().await
    }

    /// The address.
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// Calls that concern one stream.
    pub fn stream(&self, stream: impl Into<String>) -> StreamHandle {
        StreamHandle::new(self.clone(), stream.into())
    }

    /// Calls that concern one group of a stream.
    pub fn group(&self, stream: impl Into<String>, group: impl Into<String>) -> GroupHandle {
        GroupHandle::new(self.clone(), stream.into(), group.into())
    }

    /// The generated client of `EventService`, over this connection and with this key.
    pub fn raw_events(&self) -> EventServiceClient<Service> {
        EventServiceClient::new(self.service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// The generated client of `ConsumerService`, over this connection and with this key.
    pub fn raw_consumers(&self) -> ConsumerServiceClient<Service> {
        ConsumerServiceClient::new(self.service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// The generated client of `StreamService`, over this connection and with this key.
    pub fn raw_streams(&self) -> StreamServiceClient<Service> {
        StreamServiceClient::new(self.service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Waits for the answer of a call, as long as answers may take.
    async fn call<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T> {
        self.call_with(Duration::ZERO, call).await
    }

    /// Waits for the answer of a call that itself waits for so long.
    async fn call_with<T>(&self, wait: Duration, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T> {
        let limit = self.shared.request_timeout.saturating_add(wait);
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => Ok(answer.map_err(Error::from)?.into_inner()),
            Err(_) => Err(Error::new(ErrorKind::TimedOut, format!("no answer from {} within {limit:?}", self.url()))),
        }
    }
}
