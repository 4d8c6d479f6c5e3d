//! What the bytes on disk are: pure encoders and decoders, documented byte by byte in `docs/FORMAT.md`.
//!
//! No decoder panics on, or allocates more than, what it is given.

pub mod block;
pub mod crc;
pub(crate) mod cursor;
pub mod event;
pub mod fields;
pub mod frame;
pub mod index;
pub mod record;
pub mod segment;
mod settings;
pub mod state;
mod version_1;
