//! What a consuming load looks at of the messages of a consume session: ids, data, and what became of its
//! acknowledgements. The rest is stepped over, so that the load generator measures the server rather than itself.

use bytes::Bytes;

use crate::proto::v1::{ConsumeAckResult, EntryId};

/// A `ConsumeResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Response {
    #[prost(message, optional, tag = "2")]
    pub(super) batch: Option<Batch>,
    #[prost(message, optional, tag = "3")]
    pub(super) ack_result: Option<ConsumeAckResult>,
}

/// A `ConsumeBatch`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Batch {
    #[prost(message, repeated, tag = "1")]
    pub(super) events: Vec<Delivered>,
}

/// A `DeliveredEvent`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Delivered {
    #[prost(message, optional, tag = "1")]
    event: Option<Recorded>,
}

/// A `RecordedEvent`.
#[derive(Clone, PartialEq, prost::Message)]
struct Recorded {
    #[prost(message, optional, tag = "2")]
    id: Option<EntryId>,
    #[prost(message, optional, tag = "4")]
    event: Option<Event>,
}

/// An `Event`.
#[derive(Clone, PartialEq, prost::Message)]
struct Event {
    #[prost(bytes = "bytes", tag = "8")]
    data: Bytes,
}

impl Delivered {
    pub(super) fn id(&self) -> Option<EntryId> {
        self.event.as_ref()?.id
    }

    pub(super) fn data(&self) -> Option<&[u8]> {
        Some(&self.event.as_ref()?.event.as_ref()?.data)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::proto::v1;

    #[test]
    fn it_is_part_of_the_public_message() {
        let event = v1::Event { r#type: "t".into(), data: Bytes::from_static(b"d"), ..Default::default() };
        let id = EntryId { ms: 5, seq: 6 };
        let recorded = v1::RecordedEvent { stream: "s".into(), id: Some(id), event: Some(event), ..Default::default() };
        let delivered = v1::DeliveredEvent { event: Some(recorded), deliveries: 1, failures: 0 };
        let batch = v1::ConsumeBatch { events: vec![delivered], lease: Some(prost_types::Duration::default()) };
        let response = v1::ConsumeResponse { response: Some(v1::consume_response::Response::Batch(batch)) };
        let read = Response::decode(&response.encode_to_vec()[..]).expect("the same message");
        let events = read.batch.expect("a batch").events;
        assert_eq!((events[0].id(), events[0].data()), (Some(id), Some(&b"d"[..])));

        let result = ConsumeAckResult { seq: 1, done: 2, ..Default::default() };
        let response = v1::consume_response::Response::AckResult(result.clone());
        let response = v1::ConsumeResponse { response: Some(response) };
        let read = Response::decode(&response.encode_to_vec()[..]).expect("the same message");
        assert_eq!(read, Response { batch: None, ack_result: Some(result) });
    }
}
