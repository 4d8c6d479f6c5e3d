//! The public gRPC interface as Rust: messages and clients generated from `proto/`, for clients and tests.
//!
//! The server has a set of its own with the same bytes on the wire; see `proto/build.rs`.

/// Package `synapse.v1`: messages, and one client module per service.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, rustdoc::all)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/client/synapse.v1.rs"));
}

/// Descriptors of all `.proto` files with their imports, as reflection serves them: an encoded
/// `google.protobuf.FileDescriptorSet`.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
