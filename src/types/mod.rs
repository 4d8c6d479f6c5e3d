//! The vocabulary of the engine: names, ids, entries, settings. Constructors only parse; what exists is valid.

mod entry;
#[cfg(feature = "server")]
mod expiry;
mod id;
mod names;
mod settings;

pub use entry::{EntryKind, NewEntry, StoredEntry};
#[cfg(feature = "server")]
pub use expiry::Expiry;
pub use id::{ConsumerNumber, DeliveryNumber, EntryId, GroupNumber, IdRange, IdRequest, LogPosition, StreamNumber};
pub use names::{ConsumerName, GroupName, ProducerId, StreamName};
pub use settings::{DedupSettings, Dispatch, Durability, GroupSettings, Retention, StreamSettings};
