//! An encoded `synapse.v1.PublishRequest` read in place, where all it asks for is to append events. Most do, and then
//! nothing of it is copied or allocated. Whatever else it is, or where it is malformed, is left to the generated code.

use bytes::Bytes;

use crate::limits;

/// Field numbers and wire types, as they stand in front of each field.
mod key {
    pub(super) const STREAM: u8 = 0x0a;
    pub(super) const EVENTS: u8 = 0x12;
    pub(super) const DURABILITY: u8 = 0x30;
    pub(super) const CREATE_STREAM: u8 = 0x38;
}

/// What a request says beside its events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PlainRequest<'a> {
    /// The stream's name; not yet known to be UTF-8.
    pub(super) stream: &'a [u8],
    /// The number of a durability.
    pub(super) durability: i32,
    pub(super) create_stream: Option<bool>,
}

impl<'a> PlainRequest<'a> {
    /// Reads a request; `None` where there is more to it, or something wrong with it.
    pub(super) fn read(request: &'a [u8]) -> Option<Self> {
        let (mut read, mut events) = (Self::default(), 0);
        let mut fields = Fields(request);
        while !fields.0.is_empty() {
            match fields.next()? {
                (key::STREAM, Value::Bytes(name)) => read.stream = name,
                (key::EVENTS, Value::Bytes(_)) => events += 1,
                // As the generated code reads an enumeration: the low 32 bits.
                (key::DURABILITY, Value::Number(number)) => read.durability = number as i32,
                (key::CREATE_STREAM, Value::Number(number)) => read.create_stream = Some(number != 0),
                _ => return None,
            }
        }
        (1..=limits::PUBLISH_EVENTS_MAX).contains(&events).then_some(read)
    }
}

/// The events of a request that [`PlainRequest::read`] has read: slices of it.
pub(super) fn events(request: &Bytes) -> impl Iterator<Item = Bytes> {
    let mut fields = Fields(request);
    std::iter::from_fn(move || {
        loop {
            if let (key::EVENTS, Value::Bytes(event)) = fields.next()? {
                return Some(request.slice_ref(event));
            }
        }
    })
}

/// Steps over the fields of a message with one-byte keys.
struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Option<(u8, Value<'a>)> {
        let (key, rest) = self.0.split_first()?;
        self.0 = rest;
        let number = self.varint()?;
        match key & 7 {
            0 => Some((*key, Value::Number(number))),
            2 => {
                let (value, rest) = self.0.split_at_checked(usize::try_from(number).ok()?)?;
                self.0 = rest;
                Some((*key, Value::Bytes(value)))
            }
            _ => None,
        }
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for (n, byte) in self.0.iter().enumerate().take(VARINT_BYTES_MAX) {
            number |= u64::from(byte & 0x7f) << (7 * n);
            if byte & 0x80 == 0 {
                self.0 = &self.0[n + 1..];
                return Some(number);
            }
        }
        None
    }
}

/// Longer numbers are for the generated code to judge.
const VARINT_BYTES_MAX: usize = 9;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::grpc::pb;

    fn plain(stream: &[u8], events: Vec<Vec<u8>>, durability: i32, create_stream: Option<bool>) -> pb::PublishRequest {
        let events = events.into_iter().map(Bytes::from).collect();
        let stream = Bytes::copy_from_slice(stream);
        pb::PublishRequest { stream, events, durability, create_stream, ..Default::default() }
    }

    proptest! {
        #[test]
        fn what_is_plain_is_read_as_the_generated_code_reads_it(
            stream: Vec<u8>, events in prop::collection::vec(any::<Vec<u8>>(), 1..5), durability: i32, create: Option<bool>,
        ) {
            let bytes = Bytes::from(plain(&stream, events.clone(), durability, create).encode_to_vec());
            if durability >= 0 {
                let want = PlainRequest { stream: &stream, durability, create_stream: create };
                prop_assert_eq!(PlainRequest::read(&bytes), Some(want));
                prop_assert_eq!(super::events(&bytes).collect::<Vec<_>>(), events);
            }
        }

        #[test]
        fn any_bytes_are_read_alike_or_left(bytes: Vec<u8>) {
            if let Some(read) = PlainRequest::read(&bytes) {
                let want = pb::PublishRequest::decode(&bytes[..]).expect("what is read is well-formed");
                prop_assert_eq!((read.stream, read.durability), (&want.stream[..], want.durability));
                let bytes = Bytes::from(bytes);
                prop_assert_eq!(super::events(&bytes).collect::<Vec<_>>(), want.events);
            }
        }
    }

    #[test]
    fn what_asks_for_more_is_left() {
        let event = || vec![vec![1]];
        let more = [
            pb::PublishRequest { dedup_by_event_id: true, ..plain(b"s", event(), 0, None) },
            pb::PublishRequest { expected: Some(pb::Expected::default()), ..plain(b"s", event(), 0, None) },
            pb::PublishRequest { producer: Some(pb::ProducerSequence::default()), ..plain(b"s", event(), 0, None) },
            pb::PublishRequest { ids: Some(pb::publish_request::Ids::IdMs(7)), ..plain(b"s", event(), 0, None) },
            plain(b"s", Vec::new(), 0, None),
            plain(b"s", vec![vec![1]; 1001], 0, None),
        ];
        assert!(more.iter().all(|request| PlainRequest::read(&request.encode_to_vec()).is_none()));
        assert_eq!(PlainRequest::read(b"\x0a\x05s"), None, "cut off");
    }
}
