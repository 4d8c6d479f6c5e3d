//! The HTTP/JSON front end: decode, call the engine, encode.

mod envelope;
pub mod problem;
