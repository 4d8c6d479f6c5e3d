//! Records and rows as format version 1 wrote them, where version 2 has another form: read only, never written.

use serde::{Deserialize, Serialize};

use super::{record, state};
use crate::types::{
    ConsumerNumber, DedupSettings, DeliveryNumber, Dispatch, Durability, EntryId, Expiry, GroupName, GroupNumber,
    Retention, StreamName, StreamNumber,
};

/// A stream's settings, every one in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StreamSettings {
    description: String,
    durability: Option<Durability>,
    entries_max: Option<u64>,
    bytes_max: Option<u64>,
    age_max_ms: Option<u64>,
    until_acknowledged: bool,
    by_event_id: bool,
    window_ms: u64,
    producers_max: u32,
    event_ids_max: u32,
}

impl From<StreamSettings> for crate::types::StreamSettings {
    fn from(old: StreamSettings) -> Self {
        let StreamSettings { description, durability, .. } = old;
        let StreamSettings { entries_max, bytes_max, age_max_ms, until_acknowledged, .. } = old;
        let StreamSettings { by_event_id, window_ms, producers_max, event_ids_max, .. } = old;
        Self {
            description,
            durability,
            retention: Retention { entries_max, bytes_max, age_max_ms, until_acknowledged },
            dedup: DedupSettings { by_event_id, window_ms, producers_max, event_ids_max },
        }
    }
}

/// A group's settings, every one in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GroupSettings {
    description: String,
    ack_wait_ms: u64,
    max_deliveries: u32,
    backoff_ms: Vec<u64>,
    dispatch: Dispatch,
    pending_max: u32,
    dead_letter_stream: Option<StreamName>,
}

impl From<GroupSettings> for crate::types::GroupSettings {
    fn from(old: GroupSettings) -> Self {
        let GroupSettings { description, ack_wait_ms, max_deliveries, backoff_ms, .. } = old;
        let GroupSettings { dispatch, pending_max, dead_letter_stream, .. } = old;
        Self { description, ack_wait_ms, max_deliveries, backoff_ms, dispatch, pending_max, dead_letter_stream }
    }
}

/// Of [`record::StreamCreated`].
#[derive(Serialize, Deserialize)]
pub(super) struct StreamCreated {
    stream: StreamNumber,
    name: StreamName,
    settings: StreamSettings,
    created_ms: u64,
}

impl From<StreamCreated> for record::StreamCreated {
    fn from(StreamCreated { stream, name, settings, created_ms }: StreamCreated) -> Self {
        Self { stream, name, settings: settings.into(), created_ms }
    }
}

/// Of [`record::StreamUpdated`].
#[derive(Serialize, Deserialize)]
pub(super) struct StreamUpdated {
    stream: StreamNumber,
    settings: StreamSettings,
}

impl From<StreamUpdated> for record::StreamUpdated {
    fn from(StreamUpdated { stream, settings }: StreamUpdated) -> Self {
        Self { stream, settings: settings.into() }
    }
}

/// Of [`record::ExpirySet`]: by wall time.
#[derive(Serialize, Deserialize)]
pub(super) struct ExpirySet {
    stream: StreamNumber,
    at_ms: Option<u64>,
}

impl From<ExpirySet> for record::ExpirySet {
    fn from(ExpirySet { stream, at_ms }: ExpirySet) -> Self {
        Self { stream, at: at_ms.map(Expiry::Wall) }
    }
}

/// Of [`record::GroupCreated`].
#[derive(Serialize, Deserialize)]
pub(super) struct GroupCreated {
    stream: StreamNumber,
    group: GroupNumber,
    name: GroupName,
    settings: GroupSettings,
    cursor: EntryId,
    cursor_ordinal: u64,
}

impl From<GroupCreated> for record::GroupCreated {
    fn from(GroupCreated { stream, group, name, settings, cursor, cursor_ordinal }: GroupCreated) -> Self {
        Self { stream, group, name, settings: settings.into(), cursor, cursor_ordinal }
    }
}

/// Of [`record::GroupUpdated`].
#[derive(Serialize, Deserialize)]
pub(super) struct GroupUpdated {
    stream: StreamNumber,
    group: GroupNumber,
    settings: GroupSettings,
    at_ms: u64,
}

impl From<GroupUpdated> for record::GroupUpdated {
    fn from(GroupUpdated { stream, group, settings, at_ms }: GroupUpdated) -> Self {
        Self { stream, group, settings: settings.into(), at_ms }
    }
}

/// Of [`state::StreamRow`].
#[derive(Serialize, Deserialize)]
pub(super) struct StreamRow {
    number: StreamNumber,
    name: StreamName,
    settings: StreamSettings,
    created_ms: u64,
    last: EntryId,
    appended: u64,
    bytes: u64,
    trimmed_before: EntryId,
    trimmed_ordinal: u64,
    deleted_max: EntryId,
    removals: u64,
    node_entries: u32,
    node_bytes: u64,
}

impl From<StreamRow> for state::StreamRow {
    fn from(old: StreamRow) -> Self {
        Self {
            number: old.number,
            name: old.name,
            settings: old.settings.into(),
            created_ms: old.created_ms,
            last: old.last,
            appended: old.appended,
            bytes: old.bytes,
            trimmed_before: old.trimmed_before,
            trimmed_ordinal: old.trimmed_ordinal,
            deleted_max: old.deleted_max,
            removals: old.removals,
            node_entries: old.node_entries,
            node_bytes: old.node_bytes,
        }
    }
}

/// Of [`state::GroupRow`].
#[derive(Serialize, Deserialize)]
pub(super) struct GroupRow {
    number: GroupNumber,
    stream: StreamNumber,
    name: GroupName,
    settings: GroupSettings,
    cursor: EntryId,
    cursor_ordinal: u64,
    skipped: u64,
    acknowledged: u64,
    dead_lettered: u64,
    delivery_max: DeliveryNumber,
    consumer_max: ConsumerNumber,
}

impl From<GroupRow> for state::GroupRow {
    fn from(old: GroupRow) -> Self {
        Self {
            number: old.number,
            stream: old.stream,
            name: old.name,
            settings: old.settings.into(),
            cursor: old.cursor,
            cursor_ordinal: old.cursor_ordinal,
            skipped: old.skipped,
            acknowledged: old.acknowledged,
            dead_lettered: old.dead_lettered,
            delivery_max: old.delivery_max,
            consumer_max: old.consumer_max,
        }
    }
}

/// Of [`state::Row::Expiry`]: wall time in milliseconds.
#[derive(Serialize, Deserialize)]
pub(super) struct ExpiryRow(u64);

impl From<ExpiryRow> for Expiry {
    fn from(ExpiryRow(at_ms): ExpiryRow) -> Self {
        Self::Wall(at_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::record::Effect;
    use crate::format::state::Row;

    /// A setting of version 1 a line, as it lies in the record.
    fn settings() -> Vec<u8> {
        let mut bytes = 4u64.to_le_bytes().to_vec();
        bytes.extend_from_slice(b"logs");
        bytes.push(0);
        bytes.push(1);
        bytes.extend_from_slice(&1000u64.to_le_bytes());
        bytes.extend_from_slice(&[0, 0, 0]);
        bytes.push(1);
        bytes.extend_from_slice(&60_000u64.to_le_bytes());
        bytes.extend_from_slice(&100u32.to_le_bytes());
        bytes.extend_from_slice(&200u32.to_le_bytes());
        bytes
    }

    fn expected() -> crate::types::StreamSettings {
        let retention = Retention { entries_max: Some(1000), ..Retention::default() };
        let (by_event_id, window_ms, producers_max, event_ids_max) = (true, 60_000, 100, 200);
        let dedup = DedupSettings { by_event_id, window_ms, producers_max, event_ids_max };
        crate::types::StreamSettings { description: "logs".into(), durability: None, retention, dedup }
    }

    #[test]
    fn a_record_of_version_1_is_read_and_written_as_version_2() {
        let mut bytes = 7u64.to_le_bytes().to_vec();
        bytes.extend(settings());
        let effect = Effect::decode(0x11, 1, &bytes).unwrap();
        assert_eq!(effect, record::StreamUpdated { stream: StreamNumber(7), settings: expected() }.into());
        assert_eq!(effect.version(), 2);
        assert_eq!(Effect::decode(0x11, 2, &effect.encode()).unwrap(), effect);
        assert!(Effect::decode(0x11, 2, &bytes).is_err() && Effect::decode(0x11, 3, &bytes).is_err());
    }

    #[test]
    fn a_row_of_version_1_is_read() {
        let row = Row::decode(6, 1, &9u64.to_le_bytes()).unwrap();
        assert_eq!(row, Row::Expiry(Expiry::Wall(9)));
        let number = StreamNumber(7);
        let old = StreamRow {
            number,
            name: StreamName::parse("s").unwrap(),
            settings: bincode::deserialize(&settings()).unwrap(),
            created_ms: 1,
            last: EntryId::ZERO,
            appended: 2,
            bytes: 3,
            trimmed_before: EntryId::ZERO,
            trimmed_ordinal: 4,
            deleted_max: EntryId::ZERO,
            removals: 5,
            node_entries: 6,
            node_bytes: 8,
        };
        let Row::Stream(row) = Row::decode(1, 1, &bincode::serialize(&old).unwrap()).unwrap() else {
            panic!("another row")
        };
        assert_eq!((row.number, row.settings, row.node_bytes), (number, expected(), 8));
    }
}
