//! Entries as they travel through the engine: bytes that were checked once and are never encoded again.

use bytes::Bytes;

use super::id::EntryId;

/// What the bytes of an entry are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A `synapse.v1.Event` in its protobuf wire form.
    Event,
    /// An ordered list of name and value pairs, see [`crate::format::fields`].
    Fields,
}

/// An entry to be published. Made by [`crate::format::event`] or [`crate::format::fields`], which check the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEntry {
    /// What the bytes are.
    pub kind: EntryKind,
    /// The stored form.
    pub bytes: Bytes,
    /// What stands for its type in blocks and indexes ([`crate::format::block::type_hash`]); unset where it has none.
    pub type_hash: Option<u32>,
}

/// An entry that was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    /// Its identity in its stream.
    pub id: EntryId,
    /// Wall time at which it was appended, in milliseconds since the Unix epoch.
    pub append_ms: u64,
    /// What the bytes are.
    pub kind: EntryKind,
    /// The stored form: a slice of the block that it was read with.
    pub bytes: Bytes,
}
