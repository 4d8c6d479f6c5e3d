//! Synapse: an embedded stream engine with its own persistence.
//!
//! Streams, consumer groups, acknowledgement, claim and trim over one append-only log, in process or served over gRPC
//! and HTTP by the `synapse` program. Nothing acknowledged is lost: an answer leaves after its commit is on disk.
//!
//! ```
//! use synapse::engine::{Acknowledge, CreateGroup, Engine, EngineOptions, Holder, Publish, Pull, StartAt};
//! use synapse::format::event::{Event, EventView};
//! use synapse::types::{ConsumerName, GroupName, GroupSettings, IdRange, StreamName};
//!
//! # fn main() -> Result<(), synapse::error::Error> {
//! # let folder = tempfile::tempdir().expect("a temporary folder");
//! # let data_dir = folder.path().join("synapse-data");
//! futures::executor::block_on(async {
//!     let engine = Engine::open(EngineOptions::new(data_dir))?;
//!     let stream = StreamName::parse("inference-events")?;
//!     let group = GroupName::parse("analytics-service")?;
//!
//!     let event = Event::new("inference-complete", &br#"{"latency_ms":12}"#[..]).source("cyrex").into_entry()?;
//!     let published = engine.publish(Publish::new(stream.clone(), vec![event])).await?;
//!
//!     engine
//!         .create_group(CreateGroup {
//!             stream: stream.clone(),
//!             group: group.clone(),
//!             start: StartAt::Earliest,
//!             settings: GroupSettings::default(),
//!             create_stream: false,
//!         })
//!         .await?;
//!     let delivery = engine
//!         .pull(Pull {
//!             stream: stream.clone(),
//!             group: group.clone(),
//!             consumer: ConsumerName::parse("worker-1")?,
//!             entries_max: 100,
//!             bytes_max: 1 << 20,
//!             wait: std::time::Duration::from_secs(1),
//!             no_ack: false,
//!         })
//!         .await?;
//!     let entry = &delivery.entries[0].entry;
//!     assert_eq!(entry.id, published.first);
//!     assert_eq!(EventView::parse(&entry.bytes)?.data, br#"{"latency_ms":12}"#);
//!
//!     let settled = engine
//!         .acknowledge(Acknowledge {
//!             stream,
//!             group,
//!             ids: vec![IdRange::one(entry.id)],
//!             holder: Holder::Delivery(delivery.delivery),
//!             publish: Vec::new(),
//!         })
//!         .await?;
//!     assert_eq!(settled.done, 1);
//!     engine.shutdown().await
//! })
//! # }
//! ```
//!
//! `docs/ARCHITECTURE.md` is the map of the code.

#[cfg(feature = "server")]
pub mod access;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub mod clock;
#[cfg(feature = "server")]
pub mod engine;
pub mod error;
#[cfg(feature = "server")]
pub mod faults;
#[cfg(feature = "server")]
pub mod format;
#[cfg(feature = "server")]
pub mod group;
#[cfg(feature = "server")]
pub mod grpc;
#[cfg(feature = "server")]
pub mod http;
pub mod limits;
#[cfg(feature = "server")]
pub mod metrics;
pub mod proto;
#[cfg(feature = "server")]
pub mod resp;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod storage;
#[cfg(feature = "server")]
pub mod stream;
pub mod types;
