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
    fn write(&self, out: &mut EncodeBuf<'_>);
}

impl Encoded for Bytes {
    fn write(&self, out: &mut EncodeBuf<'_>) {
        out.put_slice(self);
    }
}

/// A `PublishStreamRequest` around an encoded `PublishRequest`.
pub(super) struct Numbered {
    /// The client's number for it.
    pub(super) seq: u64,
    /// The publish.
    pub(super) publish: Bytes,
}

impl Encoded for Numbered {
    fn write(&self, out: &mut EncodeBuf<'_>) {
        encode_key(1, WireType::Varint, out);
        encode_varint(self.seq, out);
        encode_key(2, WireType::LengthDelimited, out);
        encode_varint(self.publish.len() as u64, out);
        out.put_slice(&self.publish);
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
        let publish = v1::PublishRequest { stream: "s".into(), ..Default::default() };
        let want = v1::PublishStreamRequest { seq: 300, publish: Some(publish.clone()) };
        let mut header = Vec::new();
        encode_key(1, WireType::Varint, &mut header);
        encode_varint(300, &mut header);
        encode_key(2, WireType::LengthDelimited, &mut header);
        let body = publish.encode_to_vec();
        encode_varint(body.len() as u64, &mut header);
        header.extend(body);
        assert_eq!(v1::PublishStreamRequest::decode(header.as_slice()).expect("valid"), want);
    }
}
