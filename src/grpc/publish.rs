//! Publish requests and their answers between messages and the engine. Events stay slices of the request's buffer.

use bytes::Bytes;

use super::convert::{id, pb_id, within};
use super::pb;
use crate::access::{Caller, Permission};
use crate::engine::{Expected, ProducerSequence, Publish, Published};
use crate::error::{Error, Reason, Result};
use crate::format::event;
use crate::limits;
use crate::types::{Durability, IdRequest, NewEntry, ProducerId, StreamName};

/// Turns the publish requests of one caller into the engine's, remembering the last stream: a connection mostly
/// publishes to one, whose name and permission need no second look.
pub(super) struct Publisher {
    caller: Caller,
    last: Option<(Bytes, StreamName)>,
}

impl Publisher {
    pub(super) fn new(caller: Caller) -> Self {
        Self { caller, last: None }
    }

    /// The request, checked as far as that needs no state.
    pub(super) fn request(&mut self, request: pb::PublishRequest) -> Result<Publish> {
        let stream = self.stream(&request.stream)?;
        Ok(Publish {
            stream,
            entries: entries(request.events)?,
            ids: match request.ids {
                None => IdRequest::Auto,
                Some(pb::publish_request::Ids::ExactId(exact)) => IdRequest::Exact(id(exact)),
                Some(pb::publish_request::Ids::IdMs(ms)) => IdRequest::AutoSeq(ms),
            },
            expected: request.expected.map(expected).transpose()?,
            producer: request.producer.map(producer).transpose()?,
            name: None,
            once: None,
            dedup_by_event_id: request.dedup_by_event_id,
            durability: durability("durability", request.durability)?,
            create_stream: request.create_stream,
            trim: None,
        })
    }

    /// The requests that ride on an acknowledgement.
    pub(super) fn requests(&mut self, requests: Vec<pb::PublishRequest>) -> Result<Vec<Publish>> {
        requests
            .into_iter()
            .enumerate()
            .map(|(n, r)| self.request(r).map_err(|e| within(&format!("publish[{n}]"), e)))
            .collect()
    }

    /// The stream of that name, where the caller may publish to it.
    pub(super) fn stream(&mut self, name: &[u8]) -> Result<StreamName> {
        if let Some((last, stream)) = &self.last
            && *last == name
        {
            return Ok(stream.clone());
        }
        let text = std::str::from_utf8(name).map_err(|_| {
            Error::new(Reason::InvalidName, "stream name is not UTF-8").violation("stream", "is not UTF-8")
        })?;
        let stream = StreamName::parse(text)?;
        self.caller.may(Permission::Publish, stream.as_str())?;
        // A copy of its own, so that the name does not keep the request's buffer alive.
        self.last = Some((Bytes::copy_from_slice(name), stream.clone()));
        Ok(stream)
    }
}

fn entries(events: Vec<Bytes>) -> Result<Vec<NewEntry>> {
    if events.is_empty() {
        return Err(Error::invalid("events", "at least one is needed"));
    }
    if events.len() > limits::PUBLISH_EVENTS_MAX {
        let (count, max) = (events.len(), limits::PUBLISH_EVENTS_MAX);
        return Err(Error::new(Reason::BatchTooLarge, format!("{count} events, at most {max} are allowed"))
            .with("count", count)
            .with("max", max)
            .violation("events", format!("at most {max}")));
    }
    let mut entries = Vec::with_capacity(events.len());
    check_into(&mut entries, events.into_iter())?;
    Ok(entries)
}

/// Appends the entries that these events are to an empty list.
pub(super) fn check_into(entries: &mut Vec<NewEntry>, events: impl Iterator<Item = Bytes>) -> Result<()> {
    for bytes in events {
        match event::check(bytes) {
            Ok(entry) => entries.push(entry),
            Err(error) => return Err(within(&format!("events[{}]", entries.len()), error)),
        }
    }
    Ok(())
}

fn expected(expected: pb::Expected) -> Result<Expected> {
    use pb::expected::Condition;
    match expected.condition {
        Some(Condition::Exists(())) => Ok(Expected::Exists),
        Some(Condition::Empty(())) => Ok(Expected::Empty),
        Some(Condition::LastId(last)) => Ok(Expected::LastId(id(last))),
        None => Err(Error::invalid("expected", "names no condition")),
    }
}

fn producer(producer: pb::ProducerSequence) -> Result<ProducerSequence> {
    let id = ProducerId::parse(&producer.producer_id).map_err(|e| within("producer", e))?;
    Ok(ProducerSequence { producer: id, sequence: producer.sequence })
}

/// The durability of that number; unspecified is none.
pub(super) fn durability(field: &str, value: i32) -> Result<Option<Durability>> {
    match pb::Durability::try_from(value) {
        Ok(pb::Durability::Unspecified) => Ok(None),
        Ok(pb::Durability::Fsync) => Ok(Some(Durability::Fsync)),
        Ok(pb::Durability::Os) => Ok(Some(Durability::Os)),
        Err(_) => Err(Error::invalid(field, format!("{value} is not a durability"))),
    }
}

/// The answer to a publish.
pub(super) fn response(published: Published) -> pb::PublishResponse {
    let result = |(id, duplicate)| pb::PublishResult { id: Some(pb_id(id)), duplicate };
    pb::PublishResponse {
        first_id: Some(pb_id(published.first)),
        last_id: Some(pb_id(published.last)),
        count: published.count,
        duplicate: published.duplicate,
        results: published.each.unwrap_or_default().into_iter().map(result).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::event::Event;

    fn request(stream: &'static [u8], events: Vec<Bytes>) -> pb::PublishRequest {
        pb::PublishRequest { stream: Bytes::from_static(stream), events, ..Default::default() }
    }

    fn refused(request: pb::PublishRequest) -> (Reason, String) {
        let error = Publisher::new(Caller::ANYONE).request(request).expect_err("must be refused");
        (error.reason(), error.violations().first().map(|v| v.0.clone()).unwrap_or_default())
    }

    fn good() -> Bytes {
        Bytes::from(Event::new("t", "d").encode())
    }

    #[test]
    fn events_stay_slices() {
        let event = good();
        let mut publisher = Publisher::new(Caller::ANYONE);
        let first = publisher.request(request(b"s", vec![event.clone()])).expect("valid");
        assert_eq!(first.entries[0].bytes.as_ptr(), event.as_ptr());
        let second = publisher.request(request(b"s", vec![event])).expect("valid");
        assert_eq!(first.stream.as_str().as_ptr(), second.stream.as_str().as_ptr(), "the name is shared");
    }

    #[test]
    fn bad_requests_name_the_field() {
        assert_eq!(refused(request(b"", vec![good()])), (Reason::InvalidName, "stream".into()));
        assert_eq!(refused(request(b"a\nb", vec![good()])), (Reason::InvalidName, "stream".into()));
        assert_eq!(refused(request(b"\xff", vec![good()])), (Reason::InvalidName, "stream".into()));
        assert_eq!(refused(request(b"s", vec![])), (Reason::InvalidArgument, "events".into()));
        assert_eq!(refused(request(b"s", vec![good(); 1001])), (Reason::BatchTooLarge, "events".into()));
        let reserved = Bytes::from(Event::new("t", "").attribute("id", "x").encode());
        assert_eq!(
            refused(request(b"s", vec![good(), reserved])),
            (Reason::InvalidEvent, "events[1].attributes[\"id\"]".into())
        );
        let mut bad = request(b"s", vec![good()]);
        bad.durability = 9;
        assert_eq!(refused(bad.clone()), (Reason::InvalidArgument, "durability".into()));
        bad.durability = 0;
        bad.expected = Some(pb::Expected::default());
        assert_eq!(refused(bad.clone()), (Reason::InvalidArgument, "expected".into()));
        bad.expected = None;
        bad.producer = Some(pb::ProducerSequence::default());
        assert_eq!(refused(bad), (Reason::InvalidName, "producer.producer_id".into()));
    }
}
