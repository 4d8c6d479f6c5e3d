//! How messages become bytes and back, where the generated code would copy.
//!
//! [`Recorded`] writes a `synapse.v1.RecordedEvent` straight from an entry's stored bytes, which are the content of its
//! `event` field as they stand. [`WireCodec`] makes room once per message and refuses malformed ones as the client's
//! fault, with the same details as any other error.

use std::fmt;
use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType, encode_varint, encoded_len_varint, skip_field};
use prost::{DecodeError, Message};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::{envelope, status};
use crate::types::{EntryId, EntryKind, StoredEntry, StreamName};

/// Field keys (number and wire type) of `RecordedEvent` and of the messages within it.
mod key {
    pub(super) const STREAM: u8 = 0x0a;
    pub(super) const ID: u8 = 0x12;
    pub(super) const APPEND_TIME: u8 = 0x1a;
    pub(super) const EVENT: u8 = 0x22;
    /// First and second integer of `EntryId` and `Timestamp`.
    pub(super) const FIRST: u8 = 0x08;
    pub(super) const SECOND: u8 = 0x10;
}

/// An entry as `synapse.v1.RecordedEvent`; it can only be written.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Recorded {
    stream: Option<StreamName>,
    id: EntryId,
    append_ms: u64,
    /// Content of the `event` field.
    event: Bytes,
    /// The `fields` of a field entry, already in their wire form.
    fields: Bytes,
    /// Length in the wire form; asked for several times per message.
    length: usize,
}

impl Recorded {
    /// The entry as it is read from that stream.
    pub(super) fn new(stream: &StreamName, entry: StoredEntry) -> Self {
        let (event, fields) = match entry.kind {
            EntryKind::Event => (entry.bytes, Bytes::new()),
            EntryKind::Fields => (envelope::event_of(&entry.bytes), envelope::fields_of(&entry.bytes)),
        };
        let (seconds, nanos) = time_parts(entry.append_ms);
        let length = 1
            + sized(stream.as_str().len())
            + 1
            + sized(pair_len(entry.id.ms, entry.id.seq))
            + 1
            + sized(pair_len(seconds, nanos))
            + 1
            + sized(event.len())
            + fields.len();
        Self { stream: Some(stream.clone()), id: entry.id, append_ms: entry.append_ms, event, fields, length }
    }
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recorded({})", self.id)
    }
}

impl Message for Recorded {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        let Some(stream) = &self.stream else { return };
        put_sized(buf, key::STREAM, stream.as_str().as_bytes());
        // What is small goes together: each write to the buffer looks anew whether there is room.
        let mut head = [0; HEAD_BYTES_MAX];
        let mut rest = &mut head[..];
        put_pair(&mut rest, key::ID, self.id.ms, self.id.seq);
        let (seconds, nanos) = time_parts(self.append_ms);
        put_pair(&mut rest, key::APPEND_TIME, seconds, nanos);
        rest.put_u8(key::EVENT);
        encode_varint(self.event.len() as u64, &mut rest);
        let left = rest.len();
        buf.put_slice(&head[..HEAD_BYTES_MAX - left]);
        buf.put_slice(&self.event);
        buf.put_slice(&self.fields);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        skip_field(wire_type, tag, buf, ctx)
    }

    fn encoded_len(&self) -> usize {
        self.length
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

fn time_parts(ms: u64) -> (u64, u64) {
    (ms / 1000, ms % 1000 * 1_000_000)
}

/// Two messages of two integers and the length of a third at most.
const HEAD_BYTES_MAX: usize = 24 + 24 + 11;

/// Length of that many bytes with their length before them.
fn sized(length: usize) -> usize {
    encoded_len_varint(length as u64) + length
}

fn put_sized(buf: &mut impl BufMut, key: u8, value: &[u8]) {
    buf.put_u8(key);
    encode_varint(value.len() as u64, buf);
    buf.put_slice(value);
}

/// Length of a message of two integers, 1 and 2; zeros are left out.
pub(super) fn pair_len(first: u64, second: u64) -> usize {
    [first, second].into_iter().filter(|n| *n != 0).map(|n| 1 + encoded_len_varint(n)).sum()
}

pub(super) fn put_pair(buf: &mut impl BufMut, key: u8, first: u64, second: u64) {
    buf.put_u8(key);
    encode_varint(pair_len(first, second) as u64, buf);
    for (key, number) in [(key::FIRST, first), (key::SECOND, second)] {
        if number != 0 {
            buf.put_u8(key);
            encode_varint(number, buf);
        }
    }
}

/// The codec of every served method.
pub(super) struct WireCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for WireCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for WireCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = WireEncoder<T>;
    type Decoder = WireDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        WireEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        WireDecoder(PhantomData)
    }
}

/// Writes messages.
pub(super) struct WireEncoder<T>(PhantomData<T>);

impl<T: Message> Encoder for WireEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.reserve(item.encoded_len());
        item.encode_raw(buf);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

/// Reads messages.
pub(super) struct WireDecoder<U>(PhantomData<U>);

impl<U: Message + Default> Decoder for WireDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        U::decode(buf).map(Some).map_err(|error| status::malformed(&error))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{event::Event, fields};
    use crate::proto::v1;
    use proptest::prelude::*;

    fn stored(id: EntryId, append_ms: u64, kind: EntryKind, bytes: Bytes) -> StoredEntry {
        StoredEntry { id, append_ms, kind, bytes }
    }

    fn read_back(entry: StoredEntry) -> v1::RecordedEvent {
        let stream = StreamName::parse("model-events").expect("valid");
        let recorded = Recorded::new(&stream, entry);
        let bytes = recorded.encode_to_vec();
        assert_eq!(bytes.len(), recorded.encoded_len());
        v1::RecordedEvent::decode(&bytes[..]).expect("the public type reads it")
    }

    #[test]
    fn field_entries_show_their_fields_and_the_event_in_them() {
        let pairs: [(&[u8], &[u8]); 4] =
            [(b"event", b"training-progress"), (b"step", b"3"), (b"timestamp", b"1700000000"), (b"bad", b"\xff")];
        let entry = fields::encode(pairs).expect("valid");
        let recorded = read_back(stored(EntryId::new(5, 1), 1_500, entry.kind, entry.bytes));
        let shown: Vec<_> = recorded.fields.iter().map(|f| (&f.name[..], &f.value[..])).collect();
        assert_eq!(shown, pairs);
        let event = recorded.event.expect("picked out");
        assert_eq!(event.r#type, "training-progress");
        assert_eq!(event.time.expect("parsed").seconds, 1_700_000_000);
    }

    proptest! {
        #[test]
        fn recorded_is_the_public_message(ms: u64, seq: u64, append_ms in 0u64..1 << 50, data: Vec<u8>) {
            let event = Event::new("t", data.clone()).key("k").attribute("a", "b");
            let entry = stored(EntryId::new(ms, seq), append_ms, EntryKind::Event, Bytes::from(event.encode()));
            let recorded = read_back(entry);
            prop_assert_eq!(&recorded.stream, "model-events");
            let id = recorded.id.expect("always set");
            prop_assert_eq!((id.ms, id.seq), (ms, seq));
            let time = recorded.append_time.expect("always set");
            prop_assert_eq!(time.seconds as u64 * 1000 + time.nanos as u64 / 1_000_000, append_ms);
            let event = recorded.event.expect("always set");
            prop_assert_eq!(event.data, data);
            prop_assert_eq!(event.attributes.get("a").map(String::as_str), Some("b"));
        }
    }
}
