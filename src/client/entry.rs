//! What clients publish and read: events made by hand, entries as they come back, places in a stream.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::error::{Error, Result};
use crate::proto::v1;
use crate::types::EntryId;

pub use crate::proto::v1::Event;

impl Event {
    /// An event of that type with that payload. Further fields are public, and have methods to set them in passing.
    pub fn new(kind: impl Into<String>, data: impl Into<Bytes>) -> Self {
        Self { r#type: kind.into(), data: data.into(), ..Self::default() }
    }

    /// Sets the payload's media type to `application/json`.
    #[must_use]
    pub fn json(self) -> Self {
        Self { data_content_type: "application/json".into(), ..self }
    }

    /// Sets who it is from.
    #[must_use]
    pub fn with_source(self, source: impl Into<String>) -> Self {
        Self { source: source.into(), ..self }
    }

    /// Sets what it is about.
    #[must_use]
    pub fn with_subject(self, subject: impl Into<String>) -> Self {
        Self { subject: subject.into(), ..self }
    }

    /// Sets the key: events of one key stay in order in key-ordered groups.
    #[must_use]
    pub fn with_key(self, key: impl Into<String>) -> Self {
        Self { key: key.into(), ..self }
    }

    /// Sets the publisher's own id, which serves deduplication.
    #[must_use]
    pub fn with_id(self, id: impl Into<String>) -> Self {
        Self { id: id.into(), ..self }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with_attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.insert(name.into(), value.into());
        self
    }
}

/// An entry that was read back.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its identity in its stream.
    pub id: EntryId,
    /// When it was appended, by the server's clock, in whole milliseconds.
    pub append_time: SystemTime,
    /// The event as it was published.
    pub event: Event,
    /// All fields of an entry that was appended as fields; empty for events.
    pub fields: Vec<v1::Field>,
}

impl TryFrom<v1::RecordedEvent> for Entry {
    type Error = Error;

    fn try_from(recorded: v1::RecordedEvent) -> Result<Self> {
        Ok(Self {
            id: needed_id(recorded.id)?,
            append_time: recorded.append_time.and_then(|t| t.try_into().ok()).unwrap_or(SystemTime::UNIX_EPOCH),
            event: recorded.event.unwrap_or_default(),
            fields: recorded.fields,
        })
    }
}

/// A place in a stream: what comes next is the first entry after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// Before the first entry that is kept.
    Earliest,
    /// After the last entry there is.
    Latest,
    /// After this id.
    After(EntryId),
    /// Before the first entry appended at this time or later.
    Time(SystemTime),
}

impl From<StartAt> for v1::Position {
    fn from(start: StartAt) -> Self {
        use v1::position::Position;
        let position = match start {
            StartAt::Earliest => Position::Earliest(()),
            StartAt::Latest => Position::Latest(()),
            StartAt::After(id) => Position::After(id.into()),
            StartAt::Time(time) => Position::Time(time.into()),
        };
        Self { position: Some(position) }
    }
}

impl From<EntryId> for v1::EntryId {
    fn from(id: EntryId) -> Self {
        Self { ms: id.ms, seq: id.seq }
    }
}

impl From<v1::EntryId> for EntryId {
    fn from(id: v1::EntryId) -> Self {
        Self::new(id.ms, id.seq)
    }
}

/// Single ids as ranges.
pub(super) fn ranges(ids: &[EntryId]) -> Vec<v1::IdRange> {
    ids.iter().map(|id| v1::IdRange { first: Some((*id).into()), last: None }).collect()
}

pub(super) fn ids(ids: Vec<v1::EntryId>) -> Vec<EntryId> {
    ids.into_iter().map(EntryId::from).collect()
}

/// An id that no answer lacks.
pub(super) fn needed_id(id: Option<v1::EntryId>) -> Result<EntryId> {
    id.map(EntryId::from).ok_or_else(|| Error::protocol("the server's answer lacks an id"))
}

/// A message that no answer lacks.
pub(super) fn needed<T>(part: Option<T>) -> Result<T> {
    part.ok_or_else(|| Error::protocol("the server's answer lacks what was asked for"))
}

/// A duration as messages have it; what is beyond their reach is the longest.
pub(super) fn duration(value: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(value).unwrap_or(prost_types::Duration { seconds: i64::MAX, nanos: 0 })
}
