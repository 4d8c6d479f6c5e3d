//! The server's own set of generated code: the same bytes on the wire as `crate::proto`, but a publish request keeps
//! its stream name and events as slices, and recorded events are [`super::wire::Recorded`]. See `proto/build.rs`.

#![allow(missing_docs, dead_code, unreachable_pub, clippy::all, clippy::pedantic, rustdoc::all)]

include!(concat!(env!("OUT_DIR"), "/server/synapse.v1.rs"));
