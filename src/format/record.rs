//! Control records: every change of state that is not an entry, as the effect that replay applies.
//!
//! An effect says what happened (these ids, this owner, this deadline), never what was asked for, so replay decides
//! nothing. Each kind has a number and a version of its own (`docs/FORMAT.md`); numbers are never reused. Contents are
//! bincode 1.3 with fixed-width little-endian integers; trailing bytes and contents larger than a frame are refused.

use bincode::Options;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{settings as stored, version_1};
use crate::clock::EngineClock;
use crate::error::{Error, Reason, Result};
use crate::limits::FRAME_BYTES_MAX;
use crate::types::{
    ConsumerName, ConsumerNumber, DeliveryNumber, EntryId, Expiry, GroupName, GroupNumber, GroupSettings, IdRange,
    LogPosition, ProducerId, StreamName, StreamNumber, StreamSettings,
};

/// Kind number of a block of entries; every other kind is an [`Effect`].
pub const ENTRIES: u8 = 1;

/// Entries with ids `first`, `first + 1`, … of one millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRun {
    /// The first id.
    pub first: EntryId,
    /// How many.
    pub count: u32,
}

impl IdRun {
    /// The ids in order.
    pub fn ids(self) -> impl Iterator<Item = EntryId> {
        (0..u64::from(self.count)).map(move |n| EntryId::new(self.first.ms, self.first.seq + n))
    }

    /// The last id. A run holds at least one, and may end with the last sequence number there is.
    pub fn last(self) -> EntryId {
        EntryId::new(self.first.ms, self.first.seq + u64::from(self.count).saturating_sub(1))
    }
}

/// Packs ids into runs; the order stays as it is.
pub fn runs(ids: impl IntoIterator<Item = EntryId>) -> Vec<IdRun> {
    let mut out: Vec<IdRun> = Vec::new();
    for id in ids {
        match out.last_mut() {
            Some(run) if run.last().next() == Some(id) && run.first.ms == id.ms && run.count < u32::MAX => {
                run.count += 1;
            }
            _ => out.push(IdRun { first: id, count: 1 }),
        }
    }
    out
}

/// A stream came to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamCreated {
    /// Its number.
    pub stream: StreamNumber,
    /// Its name.
    pub name: StreamName,
    /// Its settings.
    #[serde(with = "stored::stream")]
    pub settings: StreamSettings,
    /// Wall time, in milliseconds since the Unix epoch.
    pub created_ms: u64,
}

/// A stream has another name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRenamed {
    /// Which one.
    pub stream: StreamNumber,
    /// Its name from now on.
    pub name: StreamName,
}

/// The last id of a stream is a greater one without an entry, and it tells other numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastIdSet {
    /// Of which stream.
    pub stream: StreamNumber,
    /// The id after which the next one comes.
    pub last: EntryId,
    /// Entries that it tells to have been added, less those that were ever appended.
    pub added_offset: i64,
    /// What it tells as the greatest id that was ever deleted singly.
    pub deleted_max: EntryId,
}

/// When a stream goes by itself is another time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpirySet {
    /// Which stream.
    pub stream: StreamNumber,
    /// Absent: never.
    pub at: Option<Expiry>,
}

/// A stream has other settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamUpdated {
    /// Which.
    pub stream: StreamNumber,
    /// The new settings, whole.
    #[serde(with = "stored::stream")]
    pub settings: StreamSettings,
}

/// A stream is gone with its entries and groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamDeleted {
    /// Which.
    pub stream: StreamNumber,
}

/// Entries below an id are gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trimmed {
    /// Of which stream.
    pub stream: StreamNumber,
    /// The smallest id that may still exist.
    pub before: EntryId,
    /// Entries ever appended with ids below `before`.
    pub ordinal: u64,
    /// Bytes of the entries that went.
    pub bytes: u64,
}

/// A single entry that was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedEntry {
    /// Its id.
    pub id: EntryId,
    /// Its size in bytes.
    pub bytes: u32,
}

/// Single entries are gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntriesDeleted {
    /// Of which stream.
    pub stream: StreamNumber,
    /// Which, in id order.
    pub entries: Vec<DeletedEntry>,
}

/// A producer's request is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRemembered {
    /// By which stream.
    pub stream: StreamNumber,
    /// Whose request.
    pub producer: ProducerId,
    /// Its number.
    pub sequence: u64,
    /// Hash of its contents (XXH3, 128 bits).
    pub hash: u128,
    /// The ids that it got.
    pub entries: IdRun,
    /// Engine time, in milliseconds.
    pub at_ms: u64,
}

/// A request is remembered by a name alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestNamed {
    /// By which stream.
    pub stream: StreamNumber,
    /// Hash of its name and of who named it.
    pub name: u128,
    /// Hash of its contents (XXH3, 128 bits).
    pub hash: u128,
    /// The ids that it got.
    pub entries: IdRun,
    /// Engine time, in milliseconds.
    pub at_ms: u64,
}

/// Event ids are remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventIdsRemembered {
    /// By which stream.
    pub stream: StreamNumber,
    /// The publisher's id of each event with the entry that it became.
    pub events: Vec<(String, EntryId)>,
    /// Engine time, in milliseconds.
    pub at_ms: u64,
}

/// A group came to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupCreated {
    /// Over which stream.
    pub stream: StreamNumber,
    /// Its number.
    pub group: GroupNumber,
    /// Its name.
    pub name: GroupName,
    /// Its settings.
    #[serde(with = "stored::group")]
    pub settings: GroupSettings,
    /// Entries up to this id count as delivered.
    pub cursor: EntryId,
    /// Entries ever appended up to the cursor.
    pub cursor_ordinal: u64,
}

/// A group has other settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupUpdated {
    /// Over which stream.
    pub stream: StreamNumber,
    /// Which.
    pub group: GroupNumber,
    /// The new settings, whole.
    #[serde(with = "stored::group")]
    pub settings: GroupSettings,
    /// Engine time, in milliseconds.
    pub at_ms: u64,
}

/// A group is gone with what was pending.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupDeleted {
    /// Over which stream.
    pub stream: StreamNumber,
    /// Which.
    pub group: GroupNumber,
}

/// A request that is to be appended once was, and is remembered by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnceRemembered {
    /// To which stream.
    pub stream: StreamNumber,
    /// Who published it.
    pub producer: Vec<u8>,
    /// The producer's name for it.
    pub name: Vec<u8>,
    /// What it became.
    pub entry: EntryId,
}

/// A stream remembers such requests otherwise from now on, and none of those before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnceConfigured {
    /// Which stream.
    pub stream: StreamNumber,
    /// How long, in seconds.
    pub window_s: u32,
    /// How many of one producer.
    pub names_max: u32,
}

/// A group's cursor stands elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorMoved {
    /// Over which stream.
    pub stream: StreamNumber,
    /// Which group.
    pub group: GroupNumber,
    /// Entries up to this id count as delivered.
    pub cursor: EntryId,
    /// Entries ever appended up to the cursor.
    pub cursor_ordinal: u64,
    /// Entries stepped over because they were trimmed before they were delivered.
    pub skipped: u64,
}

/// A consumer is known to its group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerAdded {
    /// Over which stream.
    pub stream: StreamNumber,
    /// Of which group.
    pub group: GroupNumber,
    /// Its number.
    pub consumer: ConsumerNumber,
    /// Its name.
    pub name: ConsumerName,
    /// Engine time, in milliseconds.
    pub at_ms: u64,
}

/// A consumer is forgotten; what it held was returned before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerRemoved {
    /// Over which stream.
    pub stream: StreamNumber,
    /// Of which group.
    pub group: GroupNumber,
    /// Which.
    pub consumer: ConsumerNumber,
}

/// Entries were handed to a consumer: for the first time or again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// Over which stream.
    pub stream: StreamNumber,
    /// For which group.
    pub group: GroupNumber,
    /// To whom; nobody: the entries are parked behind an entry of the same key.
    pub consumer: ConsumerNumber,
    /// The pull or session.
    pub delivery: DeliveryNumber,
    /// Engine time, in milliseconds.
    pub at_ms: u64,
    /// End of the lease in engine time; zero if by hand.
    pub deadline_ms: u64,
    /// The cursor afterwards.
    pub cursor: EntryId,
    /// Entries ever appended up to the cursor.
    pub cursor_ordinal: u64,
    /// Which entries, in order of delivery.
    pub entries: Vec<IdRun>,
    /// Their sizes in bytes, in the same order.
    pub sizes: Vec<u32>,
    /// Hashes of their keys in the same order, zero for none; empty unless the group is key-ordered.
    pub keys: Vec<u64>,
    /// The entries are not pending: they count as acknowledged at once.
    pub no_ack: bool,
}

/// Why entries are no longer pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SettledAs {
    /// Acknowledged, or skipped on request.
    Acknowledged,
    /// Moved to the dead letters by the same commit.
    DeadLettered,
    /// They no longer exist in the stream.
    Gone,
    /// Dropped with the consumer that held them.
    Dropped,
}

/// Entries are no longer pending: every pending one in these ranges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Over which stream.
    pub stream: StreamNumber,
    /// For which group.
    pub group: GroupNumber,
    /// Every pending entry in these closed ranges.
    pub ranges: Vec<IdRange>,
    /// Why.
    pub how: SettledAs,
}

/// Why entries went back to their group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReturnedAs {
    /// Handed back unprocessed: no failure.
    HandedBack,
    /// Negatively acknowledged, lease run out, or session lost.
    Failed,
    /// Given up by the consumer, with its reason: it waits to be moved to the dead letters.
    GivenUp(String),
}

/// Entries went back to their group and wait for redelivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Returned {
    /// Over which stream.
    pub stream: StreamNumber,
    /// For which group.
    pub group: GroupNumber,
    /// Which, each with the engine time from which it may be delivered again.
    pub entries: Vec<(EntryId, u64)>,
    /// Why.
    pub how: ReturnedAs,
}

/// Leases end later (or earlier).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extended {
    /// Over which stream.
    pub stream: StreamNumber,
    /// For which group.
    pub group: GroupNumber,
    /// Which entries.
    pub entries: Vec<IdRun>,
    /// Engine time, in milliseconds.
    pub deadline_ms: u64,
}

/// Dead letters went back to their group alone: pending again, held by nobody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revived {
    /// Over which stream.
    pub stream: StreamNumber,
    /// For which group.
    pub group: GroupNumber,
    /// Which, each with its size in bytes and the hash of its key (zero for none).
    pub entries: Vec<(EntryId, u32, u64)>,
    /// Engine time, in milliseconds.
    pub at_ms: u64,
}

/// A pending entry as a claim or a release leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimedEntry {
    /// Its id.
    pub id: EntryId,
    /// Its size in bytes.
    pub size: u32,
    /// Hash of its key; zero for none, or where keys do not matter.
    pub key: u64,
    /// Times delivered.
    pub deliveries: u32,
}

/// A consumer took entries over, or took entries that were not pending.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    /// Over which stream.
    pub stream: StreamNumber,
    /// For which group.
    pub group: GroupNumber,
    /// Who took them.
    pub consumer: ConsumerNumber,
    /// The claim, as a delivery.
    pub delivery: DeliveryNumber,
    /// Engine time, in milliseconds.
    pub at_ms: u64,
    /// The engine time at which they count as delivered.
    pub delivered_ms: u64,
    /// End of the lease in engine time; zero if by hand.
    pub deadline_ms: u64,
    /// Which entries, in the order of the claim.
    pub entries: Vec<ClaimedEntry>,
}

/// A pending entry as it was before it was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingBefore {
    /// Its id.
    pub id: EntryId,
    /// Who held it; nobody while it waited.
    pub consumer: ConsumerNumber,
    /// Times delivered.
    pub deliveries: u32,
    /// Times that a delivery failed.
    pub failures: u32,
    /// Its size in bytes.
    pub size: u32,
    /// The pull or session that held it, or its place in the order of what was released.
    pub delivery: DeliveryNumber,
    /// When it was last delivered, in engine time.
    pub delivered_ms: u64,
    /// Held: end of the lease, zero if by hand. Waiting: when it may be delivered again. In engine time.
    pub due_ms: u64,
    /// Hash of its key; zero for none, or where keys do not matter.
    pub key: u64,
}

/// A grant that nobody took: the group is as it was before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ungranted {
    /// Over which stream.
    pub stream: StreamNumber,
    /// For which group.
    pub group: GroupNumber,
    /// To whom it was granted.
    pub consumer: ConsumerNumber,
    /// When that consumer had last got an entry before.
    pub active_ms: Option<u64>,
    /// Where the cursor stands again.
    pub cursor: EntryId,
    /// Entries ever appended up to the cursor.
    pub cursor_ordinal: u64,
    /// What is added to that to tell how many entries were read.
    pub reads_offset: Option<i64>,
    /// Entries that had counted as acknowledged at once.
    pub acknowledged: u64,
    /// Entries that are no longer pending.
    pub forgotten: Vec<IdRun>,
    /// Entries that are pending as before.
    pub restored: Vec<PendingBefore>,
}

/// What a group tells of the entries that it has read, as Redis counts them, is another number than its cursor's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadsCounted {
    /// Over which stream.
    pub stream: StreamNumber,
    /// Which group.
    pub group: GroupNumber,
    /// That number less the entries ever appended up to the cursor; absent where it is not known.
    pub offset: Option<i64>,
}

/// Entries were taken from whoever held them, or made pending, for others to take over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// Over which stream.
    pub stream: StreamNumber,
    /// For which group.
    pub group: GroupNumber,
    /// The place of the first of them in the order of releases, counted as deliveries; each has one more than the one
    /// before.
    pub delivery: DeliveryNumber,
    /// Engine time in milliseconds from which on they are delivered again by themselves; the greatest number for never.
    pub due_ms: u64,
    /// Which entries, in the order in which they were released; one may come twice.
    pub entries: Vec<ClaimedEntry>,
}

/// A file that reclaim wrote: what is left of all files of a stretch of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RewrittenFile {
    /// Its number.
    pub number: u64,
    /// Where the stretch begins.
    pub from: LogPosition,
    /// Where it ends.
    pub to: LogPosition,
}

/// Files of the log were given up, for rewritten ones where anything in them was still live.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesReplaced {
    /// Stretches of the log whose segments were given up.
    pub gone: Vec<(LogPosition, LogPosition)>,
    /// Numbers of rewritten files that were given up.
    pub removed: Vec<u64>,
    /// What stands for them.
    pub added: Vec<RewrittenFile>,
}

/// How engine time follows from the boot clock, told at a start or after the wall clock was set: the frame that it stands
/// in tells both times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockNoted {
    /// As it is from here on.
    pub clock: EngineClock,
}

macro_rules! effects {
    ($($(#[$doc:meta])* $kind:literal => $name:ident $($version:literal, before: $old:ty)?),* $(,)?) => {
        /// A change of state, as it stands in the log.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Effect { $($(#[$doc])* $name($name)),* }

        impl Effect {
            /// The number of this kind.
            pub fn kind(&self) -> u8 {
                match self { $(Self::$name(_) => $kind),* }
            }

            /// The version of its layout.
            pub fn version(&self) -> u8 {
                match self { $(Self::$name(_) => [$($version,)? VERSION_1][0]),* }
            }

            /// The content of the record.
            pub fn encode(&self) -> Bytes {
                let encoded = match self { $(Self::$name(body) => codec().serialize(body)),* };
                Bytes::from(encoded.expect("plain values below the frame limit always encode"))
            }

            /// Reads a record's content; `CORRUPT` for a kind, version or content that this program does not know.
            pub fn decode(kind: u8, version: u8, content: &[u8]) -> Result<Self> {
                let read = match kind {
                    $($kind if version == [$($version,)? VERSION_1][0] => codec().deserialize(content).map(Self::$name),
                    $($kind if version == $version - 1 => {
                        codec().deserialize::<$old>(content).map(|old| Self::$name(old.into()))
                    })?
                    $kind => {
                        let why = format!("record kind {kind} has version {version}, which is not known");
                        return Err(Error::new(Reason::Corrupt, why));
                    })*
                    _ => return Err(Error::new(Reason::Corrupt, format!("record kind {kind} is not known"))),
                };
                read.map_err(|e| Error::new(Reason::Corrupt, format!("record kind {kind} cannot be read: {e}")))
            }
        }

        $(impl From<$name> for Effect {
            fn from(body: $name) -> Self { Self::$name(body) }
        })*
    };
}

/// Version of a control record whose layout is the first one that it had.
const VERSION_1: u8 = 1;

effects! {
    0x10 => StreamCreated 2, before: version_1::StreamCreated,
    0x11 => StreamUpdated 2, before: version_1::StreamUpdated,
    0x12 => StreamDeleted,
    0x13 => Trimmed,
    0x14 => EntriesDeleted,
    0x15 => RequestRemembered,
    0x16 => EventIdsRemembered,
    0x17 => StreamRenamed,
    0x18 => LastIdSet,
    0x19 => ExpirySet 2, before: version_1::ExpirySet,
    0x1a => OnceRemembered,
    0x1b => OnceConfigured,
    0x1c => RequestNamed,
    0x20 => GroupCreated 2, before: version_1::GroupCreated,
    0x21 => GroupUpdated 2, before: version_1::GroupUpdated,
    0x22 => GroupDeleted,
    0x23 => CursorMoved,
    0x24 => ConsumerAdded,
    0x25 => ConsumerRemoved,
    0x26 => Delivered,
    0x27 => Settled,
    0x28 => Returned,
    0x29 => Extended,
    0x2a => Revived,
    0x2b => Claimed,
    0x2c => ReadsCounted,
    0x2d => Released,
    0x2e => Ungranted,
    0x30 => FilesReplaced,
    0x32 => ClockNoted,
}

/// How contents of control records and rows are written.
pub(super) fn codec() -> impl Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_little_endian()
        .with_limit(FRAME_BYTES_MAX as u64)
        .reject_trailing_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn runs_pack_neighbours_only() {
        let ids = [(5, 0), (5, 1), (5, 2), (6, 0), (5, 3)].map(|(ms, seq)| EntryId::new(ms, seq));
        let packed = runs(ids);
        assert_eq!(packed.iter().map(|r| r.count).collect::<Vec<_>>(), [3, 1, 1]);
        assert_eq!(packed.into_iter().flat_map(IdRun::ids).collect::<Vec<_>>(), ids);
    }

    #[test]
    fn the_written_form_is_pinned() {
        let effect = Effect::from(Settled {
            stream: StreamNumber(1),
            group: GroupNumber(2),
            ranges: vec![IdRange::one(EntryId::new(3, 4))],
            how: SettledAs::DeadLettered,
        });
        let mut want = Vec::new();
        for number in [1u64, 2, 1, 3, 4, 3, 4] {
            want.extend_from_slice(&number.to_le_bytes());
        }
        want.extend_from_slice(&1u32.to_le_bytes());
        assert_eq!((effect.kind(), effect.encode().to_vec()), (0x27, want));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(kind: u8, version in 0u8..4, bytes: Vec<u8>) {
            if let Ok(effect) = Effect::decode(kind, version, &bytes) {
                let again = effect.encode();
                prop_assert_eq!(Effect::decode(kind, effect.version(), &again).unwrap(), effect);
            }
        }
    }
}
