//! An answer of a publish stream, as the bytes of a `synapse.v1.PublishStreamResponse` from the moment it is made: there
//! is one for each request, and most are alike, so they are neither built as messages nor measured before they are sent.

use std::fmt;

use bytes::{Buf, BufMut};
use prost::encoding::{DecodeContext, WireType, encode_key, encode_varint, skip_field};
use prost::{DecodeError, Message};

use super::wire::{pair_len, put_pair};
use super::{publish, status};
use crate::engine::Published;
use crate::error::Result;

/// Field numbers of the message, and of the `PublishResponse` in it.
mod tag {
    pub(super) const SEQ: u32 = 1;
    pub(super) const PUBLISHED: u32 = 2;
    pub(super) const ERROR: u32 = 3;
}
mod key {
    pub(super) const FIRST_ID: u8 = 0x0a;
    pub(super) const LAST_ID: u8 = 0x12;
    pub(super) const COUNT: u8 = 0x18;
}

/// The answer to one request; it can only be written.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Answer(Form);

#[derive(Clone, PartialEq)]
enum Form {
    /// The first so many of these bytes.
    Short(u8, [u8; SHORT_BYTES]),
    Long(Vec<u8>),
}

impl Default for Form {
    fn default() -> Self {
        Self::Short(0, [0; SHORT_BYTES])
    }
}

impl Answer {
    /// The answer to the request that the client gave this number.
    pub(super) fn new(seq: u64, result: Result<Published>) -> Self {
        match result {
            Ok(published) if published.each.is_none() && !published.duplicate => Self::short(seq, &published),
            Ok(published) => Self::long(seq, tag::PUBLISHED, &publish::response(published)),
            Err(error) => Self::long(seq, tag::ERROR, &status::message(&error)),
        }
    }

    fn short(seq: u64, published: &Published) -> Self {
        let mut bytes = [0; SHORT_BYTES];
        let mut rest = &mut bytes[..];
        put_seq(seq, &mut rest);
        encode_key(tag::PUBLISHED, WireType::LengthDelimited, &mut rest);
        let (first, last) = (published.first, published.last);
        let (first_bytes, last_bytes) = (pair_len(first.ms, first.seq), pair_len(last.ms, last.seq));
        let count_bytes = 1 + prost::encoding::encoded_len_varint(u64::from(published.count));
        // Each pair is less than 128 bytes, so that its length is one.
        rest.put_u8((2 + first_bytes + 2 + last_bytes + count_bytes) as u8);
        put_pair(&mut rest, key::FIRST_ID, first.ms, first.seq);
        put_pair(&mut rest, key::LAST_ID, last.ms, last.seq);
        rest.put_u8(key::COUNT);
        encode_varint(u64::from(published.count), &mut rest);
        let left = rest.len();
        Self(Form::Short((SHORT_BYTES - left) as u8, bytes))
    }

    fn long(seq: u64, tag: u32, message: &impl Message) -> Self {
        let mut bytes = Vec::new();
        put_seq(seq, &mut bytes);
        prost::encoding::message::encode(tag, message, &mut bytes);
        Self(Form::Long(bytes))
    }

    fn bytes(&self) -> &[u8] {
        match &self.0 {
            Form::Short(length, bytes) => &bytes[..usize::from(*length)],
            Form::Long(bytes) => bytes,
        }
    }
}

fn put_seq(seq: u64, out: &mut impl BufMut) {
    if seq != 0 {
        prost::encoding::uint64::encode(tag::SEQ, &seq, out);
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({} bytes)", self.bytes().len())
    }
}

impl Message for Answer {
    fn encode_raw(&self, out: &mut impl BufMut) {
        out.put_slice(self.bytes());
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        skip_field(wire_type, tag, buf, context)
    }

    fn encoded_len(&self) -> usize {
        self.bytes().len()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The longest answer that only says where entries are: a number, two ids and a count of the greatest length.
const SHORT_BYTES: usize = 11 + 2 + 24 + 24 + 6;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::{Error, Reason};
    use crate::proto::v1::{PublishStreamResponse, publish_stream_response::Result as Outcome};
    use crate::types::EntryId;

    fn read_back(seq: u64, result: Result<Published>) -> Outcome {
        let answer = Answer::new(seq, result);
        let bytes = answer.encode_to_vec();
        assert_eq!(bytes.len(), answer.encoded_len());
        let read = PublishStreamResponse::decode(&bytes[..]).expect("the public type reads it");
        assert_eq!(read.seq, seq);
        read.result.expect("always set")
    }

    fn id(pair: (u64, u64)) -> EntryId {
        EntryId::new(pair.0, pair.1)
    }

    proptest! {
        #[test]
        fn answers_are_the_public_message(
            seq: u64, first: (u64, u64), last: (u64, u64), count: u32, duplicate: bool, each: Option<Vec<(u64, u64)>>,
        ) {
            let each = each.map(|ids| ids.into_iter().map(|pair| (id(pair), duplicate)).collect());
            let published = Published { first: id(first), last: id(last), count, duplicate, each };
            let Outcome::Published(read) = read_back(seq, Ok(published.clone())) else { panic!("it is no error") };
            let pair = |id: Option<crate::proto::v1::EntryId>| id.map(|id| (id.ms, id.seq));
            prop_assert_eq!((pair(read.first_id), pair(read.last_id)), (Some(first), Some(last)));
            prop_assert_eq!((read.count, read.duplicate), (count, duplicate));
            prop_assert_eq!(read.results.len(), published.each.map_or(0, |each| each.len()));
        }
    }

    #[test]
    fn errors_keep_their_reason() {
        let Outcome::Error(error) = read_back(7, Err(Error::new(Reason::IdConflict, "no"))) else { panic!("an error") };
        assert_eq!((error.reason.as_str(), error.message.as_str()), ("ID_CONFLICT", "no"));
    }
}
