//! Synapse: an embedded stream engine with its own persistence.

pub mod access;
pub mod cli;
pub mod clock;
pub mod engine;
pub mod error;
pub mod format;
pub mod group;
pub mod grpc;
pub mod http;
pub mod limits;
pub mod metrics;
pub mod proto;
pub mod server;
pub mod storage;
pub mod stream;
pub mod types;
