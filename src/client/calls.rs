//! Publishing and reading, one request at a time.

use super::entry::{Entry, Event, StartAt, needed_id};
use super::error::Result;
use super::tail::Tail;
use super::{Client, StreamHandle};
use crate::proto::v1;
use crate::proto::v1::read_events_request::{End, Start};
use crate::types::EntryId;

/// Answer to a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Id of each event, in their order; of a duplicate the id that the original got.
    pub ids: Vec<EntryId>,
    /// The whole request was a duplicate: nothing was appended.
    pub duplicate: bool,
}

impl Published {
    /// Id of the first event.
    pub fn first(&self) -> EntryId {
        self.ids.first().copied().unwrap_or(EntryId::ZERO)
    }
}

impl TryFrom<v1::PublishResponse> for Published {
    type Error = super::Error;

    fn try_from(answer: v1::PublishResponse) -> Result<Self> {
        let ids = if answer.results.is_empty() {
            let first = needed_id(answer.first_id)?;
            let all = std::iter::successors(Some(first), |id| id.next());
            all.take(answer.count as usize).collect()
        } else {
            answer.results.into_iter().map(|r| needed_id(r.id)).collect::<Result<_>>()?
        };
        Ok(Self { ids, duplicate: answer.duplicate })
    }
}

/// A range of a stream, both ends in it, and how to read it. The default is all of it, from the front.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadRange {
    /// Where it starts; unset: at the first entry.
    pub first: Option<EntryId>,
    /// Where it ends; unset: at the last entry.
    pub last: Option<EntryId>,
    /// From the greatest id down.
    pub reverse: bool,
    /// Entries of a page at most, up to 10,000; 0: 1000.
    pub entries_max: u32,
    /// Refuse a range that starts below the trim point, instead of starting there.
    pub strict: bool,
}

/// A page of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The entries, in the order asked for.
    pub entries: Vec<Entry>,
    /// The range that is left; unset at its end.
    pub next: Option<ReadRange>,
    /// Set where the range was to start at an id below what is trimmed (when reversed also where all of it lies there): no
    /// entry below this id is left, and some that were asked for may be gone.
    pub trimmed_before: Option<EntryId>,
}

impl Client {
    /// Publishes 1 to 1000 events atomically. It is tried once: see [`ErrorKind`](super::ErrorKind) for what is known
    /// of a failure, and [`Client::publisher`] for publishing that is safe to repeat.
    pub async fn publish(&self, stream: impl Into<String>, events: Vec<Event>) -> Result<Published> {
        self.publish_request(v1::PublishRequest { stream: stream.into(), events, ..Default::default() }).await
    }

    /// Publishes with everything that a request can say: a condition, a durability, deduplication.
    pub async fn publish_request(&self, request: v1::PublishRequest) -> Result<Published> {
        self.call(self.raw_events().publish(request)).await?.try_into()
    }
}

impl StreamHandle {
    /// Publishes 1 to 1000 events atomically; see [`Client::publish`].
    pub async fn publish(&self, events: Vec<Event>) -> Result<Published> {
        self.client.publish(&self.stream, events).await
    }

    /// Reads one page of a range.
    pub async fn read(&self, range: ReadRange) -> Result<Page> {
        let request = v1::ReadEventsRequest {
            stream: self.stream.clone(),
            start: range.first.map(|id| Start::FirstId(id.into())),
            end: range.last.map(|id| End::LastId(id.into())),
            reverse: range.reverse,
            entries_max: range.entries_max,
            strict: range.strict,
            ..Default::default()
        };
        let answer = self.client.call(self.client.raw_events().read_events(request)).await?;
        let next = answer.next_id.map(EntryId::from).map(|id| match range.reverse {
            false => ReadRange { first: Some(id), ..range },
            true => ReadRange { last: Some(id), ..range },
        });
        let entries = answer.events.into_iter().map(Entry::try_from).collect::<Result<_>>()?;
        Ok(Page { entries, next, trimmed_before: answer.trimmed_before.map(EntryId::from) })
    }

    /// Follows the stream from a place on: what there is, then what comes. See [`Tail`].
    pub async fn tail(&self, from: StartAt) -> Result<Tail> {
        Tail::open(self.clone(), from).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_gets_its_id() {
        let answer = v1::PublishResponse {
            first_id: Some(v1::EntryId { ms: 7, seq: u64::MAX }),
            count: 2,
            ..Default::default()
        };
        let published = Published::try_from(answer).expect("valid");
        assert_eq!(published.ids, [EntryId::new(7, u64::MAX), EntryId::new(8, 0)]);
        let result = |ms, duplicate| v1::PublishResult { id: Some(v1::EntryId { ms, seq: 0 }), duplicate };
        let answer = v1::PublishResponse {
            first_id: Some(v1::EntryId { ms: 9, seq: 0 }),
            count: 2,
            results: vec![result(3, true), result(9, false)],
            ..Default::default()
        };
        assert_eq!(Published::try_from(answer).expect("valid").ids, [EntryId::new(3, 0), EntryId::new(9, 0)]);
        Published::try_from(v1::PublishResponse::default()).expect_err("no id");
    }
}
