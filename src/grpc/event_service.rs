//! `synapse.v1.EventService`: publishing and reading.

use futures::stream::{self, BoxStream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::convert::{id, page, pb_id, tail_from, time_ms, unsupported};
use super::pb::event_service_server::EventService;
use super::publish::{self, Publisher};
use super::publish_stream::PublishStream;
use super::status::status;
use super::wire::Recorded;
use super::{Shared, pb};
use crate::access::Permission;
use crate::engine::{Gap, Page, Read, Tail, TailBatch, TailFrom};
use crate::error::{Error, Reason, Result};
use crate::types::{EntryId, IdRange, StoredEntry, StreamName};

/// Entries of a page or tail message, unless asked otherwise.
const PAGE_ENTRIES_DEFAULT: usize = 1000;

/// The service.
pub(super) struct Events(pub(super) Shared);

#[tonic::async_trait]
impl EventService for Events {
    async fn publish(&self, request: Request<pb::PublishRequest>) -> Result<Response<pb::PublishResponse>, Status> {
        let caller = self.0.caller(&request).map_err(status)?;
        let publish = Publisher::new(caller).request(request.into_inner()).map_err(status)?;
        let published = self.0.engine.publish(publish).await.map_err(status)?;
        Ok(Response::new(publish::response(published)))
    }

    type PublishStreamStream = PublishStream;

    async fn publish_stream(
        &self,
        request: Request<Streaming<pb::PublishStreamRequest>>,
    ) -> Result<Response<PublishStream>, Status> {
        let caller = self.0.caller(&request).map_err(status)?;
        let stream = PublishStream::new(&self.0, Publisher::new(caller), request.into_inner());
        Ok(Response::new(stream))
    }

    async fn read_events(
        &self,
        request: Request<pb::ReadEventsRequest>,
    ) -> Result<Response<pb::ReadEventsResponse>, Status> {
        self.0.allowed(&request, &[Permission::Read], &request.get_ref().stream).map_err(status)?;
        let read = read(request.into_inner()).map_err(status)?;
        let stream = read.stream.clone();
        let Page { entries, next, trimmed_before, .. } = self.0.engine.read(read).await.map_err(status)?;
        Ok(Response::new(pb::ReadEventsResponse {
            events: recorded(&stream, entries),
            next_id: next.map(pb_id),
            trimmed_before: trimmed_before.map(pb_id),
        }))
    }

    type TailEventsStream = BoxStream<'static, Result<pb::TailEventsResponse, Status>>;

    async fn tail_events(
        &self,
        request: Request<pb::TailEventsRequest>,
    ) -> Result<Response<Self::TailEventsStream>, Status> {
        self.0.allowed(&request, &[Permission::Read], &request.get_ref().stream).map_err(status)?;
        let wanted = Wanted::parse(request.into_inner()).map_err(status)?;
        let tail = self.0.engine.tail(&wanted.stream, wanted.from).await.map_err(status)?;
        let shared = self.0.clone();
        let messages = stream::unfold(Some((shared, wanted, tail)), |state| async move {
            let (shared, wanted, mut tail) = state?;
            match next(&shared, &wanted, &mut tail).await {
                Ok(message) => Some((Ok(message), Some((shared, wanted, tail)))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(Response::new(messages.boxed()))
    }
}

/// What a tail asked for.
struct Wanted {
    stream: StreamName,
    from: TailFrom,
    entries_max: usize,
    bytes_max: usize,
}

impl Wanted {
    fn parse(request: pb::TailEventsRequest) -> Result<Self> {
        let stream = StreamName::parse(&request.stream)?;
        unsupported("filter", !request.filter.is_empty())?;
        let (entries_max, bytes_max) = page(request.entries_max, request.bytes_max, PAGE_ENTRIES_DEFAULT)?;
        Ok(Self { stream, from: tail_from(request.from)?, entries_max, bytes_max })
    }
}

/// The next message of a tail.
async fn next(shared: &Shared, wanted: &Wanted, tail: &mut Tail) -> Result<pb::TailEventsResponse, Status> {
    let TailBatch { entries, gap } = tokio::select! {
        biased;
        () = shared.drain.cancelled() => return Err(Shared::draining()),
        batch = tail.next(wanted.entries_max, wanted.bytes_max) => batch.map_err(status)?,
    };
    let gap = gap.map(|Gap { after, before, missed }| pb::Gap {
        after: Some(pb_id(after)),
        before: Some(pb_id(before)),
        missed,
    });
    Ok(pb::TailEventsResponse {
        events: recorded(&wanted.stream, entries),
        position: Some(pb_id(tail.position())),
        gap,
    })
}

fn recorded(stream: &StreamName, entries: Vec<StoredEntry>) -> Vec<Recorded> {
    entries.into_iter().map(|entry| Recorded::new(stream, entry)).collect()
}

fn read(request: pb::ReadEventsRequest) -> Result<Read> {
    use pb::read_events_request::{End, Start};
    let stream = StreamName::parse(&request.stream)?;
    unsupported("filter", !request.filter.is_empty())?;
    let (entries_max, bytes_max) = page(request.entries_max, request.bytes_max, PAGE_ENTRIES_DEFAULT)?;
    let first = match request.start {
        None => EntryId::ZERO,
        Some(Start::FirstId(first)) => id(first),
        Some(Start::FirstTime(time)) => EntryId::new(time_ms("first_time", &time)?, 0),
    };
    let last = match request.end {
        None => EntryId::MAX,
        Some(End::LastId(last)) => id(last),
        Some(End::LastTime(time)) => EntryId::new(time_ms("last_time", &time)?, u64::MAX),
    };
    let range = IdRange::new(first, last).map_err(|_| {
        Error::new(Reason::InvalidId, "the range runs backwards; for entries from the greatest id down set reverse")
            .violation("start", "lies after the end")
    })?;
    Ok(Read { stream, range, reverse: request.reverse, entries_max, bytes_max, strict: request.strict })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> pb::ReadEventsRequest {
        pb::ReadEventsRequest { stream: "s".into(), ..Default::default() }
    }

    #[test]
    fn reads_are_bounded() {
        let plain = read(request()).expect("valid");
        assert_eq!((plain.range, plain.entries_max, plain.bytes_max), (IdRange::ALL, 1000, 1 << 20));
        let refused = |request| read(request).expect_err("must be refused").reason();
        assert_eq!(refused(pb::ReadEventsRequest { entries_max: 10_001, ..request() }), Reason::InvalidArgument);
        assert_eq!(refused(pb::ReadEventsRequest { bytes_max: u32::MAX, ..request() }), Reason::InvalidArgument);
        assert_eq!(refused(pb::ReadEventsRequest { filter: "x".into(), ..request() }), Reason::Unsupported);
        assert_eq!(refused(pb::ReadEventsRequest { stream: String::new(), ..request() }), Reason::InvalidName);
        let backwards = pb::ReadEventsRequest {
            start: Some(pb::read_events_request::Start::FirstId(pb::EntryId { ms: 2, seq: 0 })),
            end: Some(pb::read_events_request::End::LastId(pb::EntryId { ms: 1, seq: 0 })),
            ..request()
        };
        assert_eq!(refused(backwards), Reason::InvalidId);
    }

    #[test]
    fn times_are_ranges_of_ids() {
        let time = |seconds| prost_types::Timestamp { seconds, nanos: 0 };
        let by_time = pb::ReadEventsRequest {
            start: Some(pb::read_events_request::Start::FirstTime(time(1))),
            end: Some(pb::read_events_request::End::LastTime(time(2))),
            ..request()
        };
        let range = read(by_time).expect("valid").range;
        assert_eq!((range.first, range.last), (EntryId::new(1000, 0), EntryId::new(2000, u64::MAX)));
    }
}
