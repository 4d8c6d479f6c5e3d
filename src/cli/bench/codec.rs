//! A codec whose requests are encoded already, so that the load generator measures the server rather than itself.

use std::marker::PhantomData;

use bytes::{BufMut, Bytes};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic_prost::ProstDecoder;

/// A request that writes itself.
pub(super) trait Encoded: Send + Sync + 'static {
    /// Writes the message.
    fn write(&self, out: &mut impl BufMut);
}

/// A `PublishRequest`: the field that names its stream, and all others.
#[derive(Clone)]
pub(super) struct EncodedPublish {
    pub(super) stream: Bytes,
    pub(super) rest: Bytes,
}

impl Encoded for EncodedPublish {
    fn write(&self, out: &mut impl BufMut) {
        out.put_slice(&self.stream);
        out.put_slice(&self.rest);
    }
}

/// A `PublishStreamRequest` around a publish.
pub(super) struct Numbered {
    /// The client's number for it.
    pub(super) seq: u64,
    /// The publish.
    pub(super) publish: EncodedPublish,
}

impl Encoded for Numbered {
    fn write(&self, out: &mut impl BufMut) {
        encode_key(1, WireType::Varint, out);
        encode_varint(self.seq, out);
        encode_key(2, WireType::LengthDelimited, out);
        encode_varint((self.publish.stream.len() + self.publish.rest.len()) as u64, out);
        self.publish.write(out);
    }
}

/// Writes encoded requests, reads typed answers.
pub(super) struct EncodedCodec<E, D>(PhantomData<(E, D)>);

impl<E, D> EncodedCodec<E, D> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<E: Encoded, D: Message + Default + 'static> Codec for EncodedCodec<E, D> {
    type Encode = E;
    type Decode = D;
    type Encoder = EncodedEncoder<E>;
    type Decoder = ProstDecoder<D>;

    fn encoder(&mut self) -> Self::Encoder {
        EncodedEncoder(PhantomData)
    }
    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(BufferSettings::default())
    }
}

/// Copies what is encoded already.
pub(super) struct EncodedEncoder<E>(PhantomData<E>);

impl<E: Encoded> Encoder for EncodedEncoder<E> {
    type Item = E;
    type Error = Status;

    fn encode(&mut self, item: E, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.write(out);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
    }
}

/// Messages are gathered up to this much before they are handed to the connection.
const YIELD_BYTES: usize = 32 << 10;
const BUFFER_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1;

    #[test]
    fn a_numbered_publish_is_a_publish_stream_request() {
        let part = |stream: &str, durability| {
            v1::PublishRequest { stream: stream.into(), durability, ..Default::default() }.encode_to_vec().into()
        };
        let publish = EncodedPublish { stream: part("s", 0), rest: part("", 1) };
        let mut written = Vec::new();
        Numbered { seq: 300, publish }.write(&mut written);
        let publish = v1::PublishRequest { stream: "s".into(), durability: 1, ..Default::default() };
        let want = v1::PublishStreamRequest { seq: 300, publish: Some(publish) };
        assert_eq!(v1::PublishStreamRequest::decode(written.as_slice()).expect("valid"), want);
    }
}
