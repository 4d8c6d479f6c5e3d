//! The state beside the entries, as rows: what streams and groups are at one position of the log, in bounded pieces.
//!
//! A checkpoint is a set of rows (`docs/FORMAT.md`). A row has a key of 13 bytes, whose order is the order in which
//! rows are restored, and a content in bincode 1.3 as control records have it.

use bincode::Options;
use serde::{Deserialize, Serialize};

use super::cursor::Cursor;
use super::record::{IdRun, RewrittenFile, codec};
use super::{settings as stored, version_1};
use crate::clock::EngineClock;
use crate::error::{Error, Reason, Result};
use crate::types::{
    ConsumerName, ConsumerNumber, DeliveryNumber, EntryId, Expiry, GroupName, GroupNumber, GroupSettings, LogPosition,
    ProducerId, StreamName, StreamNumber, StreamSettings,
};

/// Bytes of a row's key: kind, owner, part.
pub const ROW_KEY_BYTES: usize = 13;
/// Bytes that a row has beside its content where rows lie one after the other: its key and the content's length.
pub const ROW_HEAD_BYTES: usize = ROW_KEY_BYTES + 4;
/// Elements of a list in one row at most.
pub const ROW_ELEMENTS_MAX: usize = 128;

/// The numbers that are given out next; none is ever given out twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumbersRow {
    /// Of streams.
    pub stream: u64,
    /// Of groups.
    pub group: u64,
    /// Of deliveries and sessions.
    pub delivery: u64,
    /// Of rewritten files.
    pub file: u64,
}

/// A stream without its lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRow {
    /// Its number.
    pub number: StreamNumber,
    /// Its name.
    pub name: StreamName,
    /// Its settings.
    #[serde(with = "stored::stream")]
    pub settings: StreamSettings,
    /// Wall time of its creation, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// The last id that was given out.
    pub last: EntryId,
    /// Entries ever appended.
    pub appended: u64,
    /// Bytes of the entries that exist.
    pub bytes: u64,
    /// The smallest id that may exist.
    pub trimmed_before: EntryId,
    /// Entries ever appended below that id.
    pub trimmed_ordinal: u64,
    /// The greatest id that was ever deleted singly.
    pub deleted_max: EntryId,
    /// Trims and deletes so far.
    pub removals: u64,
    /// Entries of the logical node that is being filled.
    pub node_entries: u32,
    /// Their bytes.
    pub node_bytes: u64,
}

/// What a stream remembers of a producer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerRow {
    /// Which.
    pub producer: ProducerId,
    /// Its last requests, oldest first: sequence, hash, ids, engine time in milliseconds.
    pub requests: Vec<(u64, u128, IdRun, u64)>,
}

/// A group without its lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRow {
    /// Its number.
    pub number: GroupNumber,
    /// Over which stream.
    pub stream: StreamNumber,
    /// Its name.
    pub name: GroupName,
    /// Its settings.
    #[serde(with = "stored::group")]
    pub settings: GroupSettings,
    /// Entries up to this id were delivered or stepped over.
    pub cursor: EntryId,
    /// Entries ever appended up to the cursor.
    pub cursor_ordinal: u64,
    /// Entries trimmed before they were delivered.
    pub skipped: u64,
    /// Entries acknowledged so far.
    pub acknowledged: u64,
    /// Entries dead-lettered so far.
    pub dead_lettered: u64,
    /// The greatest delivery number.
    pub delivery_max: DeliveryNumber,
    /// The greatest consumer number ever given out.
    pub consumer_max: ConsumerNumber,
}

/// A consumer. Times are engine time in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerRow {
    /// Its number.
    pub number: ConsumerNumber,
    /// Its name.
    pub name: ConsumerName,
    /// When the log last heard of it.
    pub seen_ms: u64,
    /// When it last got an entry.
    pub active_ms: Option<u64>,
}

/// A pending entry. Times are engine time in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingRow {
    /// Which.
    pub id: EntryId,
    /// Who holds it; nobody while it waits.
    pub consumer: ConsumerNumber,
    /// Times delivered.
    pub deliveries: u32,
    /// Times that a delivery failed.
    pub failures: u32,
    /// Its size in bytes.
    pub size: u32,
    /// The pull or session that holds it.
    pub delivery: DeliveryNumber,
    /// When it was last delivered.
    pub delivered_ms: u64,
    /// Held: end of the lease, zero if by hand. Waiting: when it may be delivered again.
    pub due_ms: u64,
    /// Hash of its key; zero for none.
    pub key: u64,
    /// Whether it waits for the dead letters, with the reason where a consumer gave one.
    pub exhausted: Option<Option<String>>,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// The numbers given out next.
    Numbers(NumbersRow),
    /// A stream.
    Stream(StreamRow),
    /// Ids of a stream that were deleted singly, with their bytes.
    Deleted(Vec<(EntryId, u32)>),
    /// What a stream remembers of producers, in the order of their last requests.
    Producers(Vec<ProducerRow>),
    /// Event ids that a stream remembers, oldest first, with entry and engine time in milliseconds.
    EventIds(Vec<(String, EntryId, u64)>),
    /// What is added to the entries ever appended to a stream to tell how many were added; no row where that is nothing.
    Added(i64),
    /// When a stream goes by itself; no row where it stays.
    Expiry(Expiry),
    /// How a stream remembers requests that are to be appended once: seconds, and how many of one producer; no row where
    /// that is as it was at first.
    OnceSettings((u32, u32)),
    /// Such requests that a stream remembers, oldest first: producer, its name for it, entry.
    OnceNames(Vec<(Vec<u8>, Vec<u8>, EntryId)>),
    /// Requests that a stream remembers by a name alone, oldest first: hash of the name, hash of the contents, ids, engine
    /// time in milliseconds.
    NamedRequests(Vec<(u128, u128, IdRun, u64)>),
    /// A group.
    Group(GroupRow),
    /// Consumers of a group.
    Consumers(Vec<ConsumerRow>),
    /// Pending entries of a group, in id order.
    Pending(Vec<PendingRow>),
    /// What is added to the entries ever appended up to a group's cursor to tell how many it has read, as Redis counts
    /// them; no row where that is not known.
    Reads(i64),
    /// Stretches of the log whose segments were given up.
    Gone(Vec<(LogPosition, LogPosition)>),
    /// The rewritten files.
    Rewritten(Vec<RewrittenFile>),
    /// How engine time follows from the boot clock; no row where that was not noted.
    Clock(EngineClock),
}

/// Where a row belongs. Keys order as their bytes do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// The kind of row, and with it what `owner` is the number of.
    pub kind: u8,
    /// The number of the stream or group.
    pub owner: u64,
    /// Which piece of a list.
    pub part: u32,
}

impl RowKey {
    /// Big-endian, so that bytes order as keys do.
    pub fn encode(self) -> [u8; ROW_KEY_BYTES] {
        let mut out = [0; ROW_KEY_BYTES];
        out[0] = self.kind;
        out[1..9].copy_from_slice(&self.owner.to_be_bytes());
        out[9..].copy_from_slice(&self.part.to_be_bytes());
        out
    }

    /// Reads what [`RowKey::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; ROW_KEY_BYTES] = bytes.try_into().ok()?;
        let (owner, part) = (bytes[1..9].try_into().ok()?, bytes[9..].try_into().ok()?);
        Some(Self { kind: bytes[0], owner: u64::from_be_bytes(owner), part: u32::from_be_bytes(part) })
    }
}

macro_rules! rows {
    ($($kind:literal => $name:ident $(, in version 1: $old:ty)?;)*) => {
        impl Row {
            /// The number of this kind; never reused.
            pub fn kind(&self) -> u8 {
                match self { $(Self::$name(_) => $kind),* }
            }

            /// The row's content.
            pub fn encode(&self) -> Vec<u8> {
                let encoded = match self { $(Self::$name(body) => codec().serialize(body)),* };
                encoded.expect("plain values of bounded number always encode")
            }

            /// Reads a row's content, of this version of the format; `CORRUPT` for what this program does not know.
            pub fn decode(kind: u8, version: u16, content: &[u8]) -> Result<Self> {
                let unknown = |why: String| Error::new(Reason::Corrupt, format!("a row of kind {kind} {why}"));
                let read = match kind {
                    $($($kind if version < 2 => {
                        codec().deserialize::<$old>(content).map(|old| Self::$name(old.into()))
                    })?
                    $kind => codec().deserialize(content).map(Self::$name),)*
                    _ => return Err(unknown("is not known".into())),
                };
                read.map_err(|error| unknown(format!("cannot be read: {error}")))
            }
        }
    };
}

rows! {
    0 => Numbers;
    1 => Stream, in version 1: version_1::StreamRow;
    2 => Deleted;
    3 => Producers;
    4 => EventIds;
    5 => Added;
    6 => Expiry, in version 1: version_1::ExpiryRow;
    7 => OnceSettings;
    8 => OnceNames;
    9 => NamedRequests;
    16 => Group, in version 1: version_1::GroupRow;
    17 => Consumers;
    18 => Pending;
    19 => Reads;
    32 => Gone;
    33 => Rewritten;
    35 => Clock;
}

/// Takes rows as they are made: the owner's number, and the row.
pub type Rows<'a> = &'a mut dyn FnMut(u64, Row);

/// Hands a list on in rows of bounded length.
pub fn list_rows<T>(owner: u64, items: impl Iterator<Item = T>, rows: Rows<'_>, row: fn(Vec<T>) -> Row) {
    let mut items = items.peekable();
    while items.peek().is_some() {
        rows(owner, row(items.by_ref().take(ROW_ELEMENTS_MAX).collect()));
    }
}

/// The rows of a whole state, encoded, with their keys; parts are numbered as they come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateRows(pub Vec<(RowKey, Vec<u8>)>);

impl StateRows {
    /// Adds a row after those of its kind and owner.
    pub fn push(&mut self, owner: u64, row: &Row) {
        let kind = row.kind();
        let part = match self.0.last() {
            Some((last, _)) if (last.kind, last.owner) == (kind, owner) => last.part + 1,
            _ => 0,
        };
        self.0.push((RowKey { kind, owner, part }, row.encode()));
    }
    /// Puts the rows into the order in which they are restored.
    pub fn sort(&mut self) {
        self.0.sort_unstable_by_key(|(key, _)| *key);
    }
}

/// Writes a row behind others.
pub(crate) fn put_row(out: &mut Vec<u8>, key: RowKey, content: &[u8]) {
    out.extend_from_slice(&key.encode());
    out.extend_from_slice(&(content.len() as u32).to_le_bytes());
    out.extend_from_slice(content);
}

/// Reads rows that lie one after the other up to the end and adds them; `None` where they are not whole.
pub(crate) fn take_rows(bytes: &[u8], rows: &mut Vec<(RowKey, Vec<u8>)>) -> Option<()> {
    let mut cursor = Cursor(bytes);
    while !cursor.0.is_empty() {
        let key = RowKey::decode(cursor.take(ROW_KEY_BYTES)?)?;
        let length = cursor.u32()? as usize;
        rows.push((key, cursor.take(length)?.to_vec()));
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::segment::FORMAT_VERSION;

    #[test]
    fn keys_order_as_their_bytes() {
        let keys = [(0, 0, 0), (1, 1, 0), (1, 1, 1), (1, 256, 0), (2, 1, 300), (18, u64::MAX, u32::MAX)];
        let keys = keys.map(|(kind, owner, part)| RowKey { kind, owner, part });
        assert!(keys.is_sorted() && keys.map(RowKey::encode).is_sorted());
        assert!(keys.iter().all(|key| RowKey::decode(&key.encode()) == Some(*key)));
    }

    #[test]
    fn the_written_form_is_pinned() {
        let row = Row::Deleted(vec![(EntryId::new(3, 4), 5)]);
        let mut want = Vec::new();
        for number in [1u64, 3, 4] {
            want.extend_from_slice(&number.to_le_bytes());
        }
        want.extend_from_slice(&5u32.to_le_bytes());
        assert_eq!((row.kind(), row.encode()), (2, want));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(kind: u8, version in 1u16..3, bytes: Vec<u8>) {
            if let Ok(row) = Row::decode(kind, version, &bytes) {
                prop_assert_eq!(Row::decode(kind, FORMAT_VERSION, &row.encode()).unwrap(), row);
            }
        }
    }
}
