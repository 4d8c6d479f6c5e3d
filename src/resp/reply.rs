//! Replies, and how both versions of the protocol write them.

use bytes::Bytes;

use super::refusal::Refusal;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Protocol {
    /// What a connection begins with.
    #[default]
    Resp2,
    /// After `HELLO 3`.
    Resp3,
}

impl Protocol {
    /// Begins a map of so many pairs.
    pub(super) fn map(self, out: &mut Vec<u8>, pairs: usize) {
        match self {
            Self::Resp2 => line(out, '*', pairs * 2),
            Self::Resp3 => line(out, '%', pairs),
        }
    }
}

/// What a command answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// A short text of ours.
    Simple(&'static str),
    /// Why it was refused.
    Refused(Refusal),
    /// A number.
    Int(i64),
    /// Any bytes.
    Bulk(Bytes),
    /// A text for people, of several lines.
    Verbatim(String),
    /// No bytes.
    Null,
    /// No array, which is something else in version 2.
    NullArray,
    /// A list.
    Array(Vec<Reply>),
    /// A list of so many replies that are written already, in pieces, the same in both versions.
    Written(usize, Vec<Vec<u8>>),
    /// Pairs; a flat list in version 2.
    Map(Vec<(Reply, Reply)>),
}

impl Reply {
    pub(super) const OK: Self = Self::Simple("OK");

    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Bulk(text.into().into())
    }

    pub(super) fn count(count: impl TryInto<i64>) -> Self {
        Self::Int(count.try_into().unwrap_or(i64::MAX))
    }

    /// Bytes that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let own = size_of::<Self>();
        own + match self {
            Self::Bulk(bytes) => bytes.len(),
            Self::Verbatim(text) => text.len(),
            Self::Array(replies) => replies.iter().map(Self::bytes).sum(),
            Self::Written(_, pieces) => pieces.iter().map(Vec::len).sum(),
            Self::Map(pairs) => pairs.iter().map(|(key, value)| key.bytes() + value.bytes()).sum(),
            _ => 0,
        }
    }

    /// Writes it behind others.
    pub(super) fn write(&self, protocol: Protocol, out: &mut Vec<u8>) {
        match self {
            Self::Simple(text) => line(out, '+', text),
            Self::Refused(refusal) => line(out, '-', &refusal.0),
            Self::Int(number) => line(out, ':', number),
            Self::Bulk(bytes) => {
                line(out, '$', bytes.len());
                out.extend_from_slice(bytes);
                out.extend_from_slice(b"\r\n");
            }
            Self::Verbatim(text) => {
                match protocol {
                    Protocol::Resp2 => line(out, '$', text.len()),
                    Protocol::Resp3 => {
                        line(out, '=', text.len() + "txt:".len());
                        out.extend_from_slice(b"txt:");
                    }
                }
                out.extend_from_slice(text.as_bytes());
                out.extend_from_slice(b"\r\n");
            }
            Self::Null => out.extend_from_slice(if protocol == Protocol::Resp3 { b"_\r\n" } else { b"$-1\r\n" }),
            Self::NullArray => out.extend_from_slice(if protocol == Protocol::Resp3 { b"_\r\n" } else { b"*-1\r\n" }),
            Self::Array(replies) => {
                line(out, '*', replies.len());
                replies.iter().for_each(|reply| reply.write(protocol, out));
            }
            Self::Written(count, pieces) => {
                line(out, '*', count);
                pieces.iter().for_each(|piece| out.extend_from_slice(piece));
            }
            Self::Map(pairs) => {
                protocol.map(out, pairs.len());
                for (key, value) in pairs {
                    key.write(protocol, out);
                    value.write(protocol, out);
                }
            }
        }
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

pub(super) fn line(out: &mut Vec<u8>, kind: char, value: impl std::fmt::Display) {
    use std::io::Write;
    // Writing to memory does not fail.
    let _ = write!(out, "{kind}{value}\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_written() {
        let reply = Reply::Array(vec![
            Reply::OK,
            Reply::Int(-3),
            Reply::text("a\r\n"),
            Reply::Null,
            Reply::NullArray,
            Reply::Map(vec![(Reply::text("k"), Refusal::new("ERR no\r\nway").into())]),
        ]);
        let written = |protocol| {
            let mut out = Vec::new();
            reply.write(protocol, &mut out);
            String::from_utf8(out).unwrap()
        };
        let common = "*6\r\n+OK\r\n:-3\r\n$3\r\na\r\n\r\n";
        assert_eq!(written(Protocol::Resp2), format!("{common}$-1\r\n*-1\r\n*2\r\n$1\r\nk\r\n-ERR no  way\r\n"));
        assert_eq!(written(Protocol::Resp3), format!("{common}_\r\n_\r\n%1\r\n$1\r\nk\r\n-ERR no  way\r\n"));
    }
}
