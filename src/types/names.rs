//! Names of streams, groups, consumers and producers: parsed once, valid from then on, cheap to clone.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Reason, Result};
use crate::limits::NAME_BYTES_MAX;

/// Name of a stream: 1 to 255 bytes of UTF-8 without control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName(Arc<str>);

impl StreamName {
    /// Checks and takes the name.
    pub fn parse(text: &str) -> Result<Self> {
        check_length("stream", text.as_bytes(), 1)?;
        if let Some(c) = text.chars().find(|c| c.is_control()) {
            return Err(invalid("stream", format!("may not contain the control character U+{:04X}", c as u32)));
        }
        Ok(Self(text.into()))
    }
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}
impl Serialize for StreamName {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}
impl<'de> Deserialize<'de> for StreamName {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

macro_rules! byte_name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $min:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<[u8]>);

        impl $name {
            /// Checks and takes a name of any bytes (the Redis protocol's rule).
            pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
                check_length($what, bytes, $min)?;
                Ok(Self(bytes.into()))
            }
            /// Checks and takes a name of text: 1 to 255 bytes without control characters (gRPC's and HTTP's rule).
            pub fn parse(text: &str) -> Result<Self> {
                check_length($what, text.as_bytes(), 1)?;
                if let Some(c) = text.chars().find(|c| c.is_control()) {
                    return Err(invalid($what, format!("may not contain the control character U+{:04X}", c as u32)));
                }
                Ok(Self(text.as_bytes().into()))
            }
            /// The name as bytes.
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&String::from_utf8_lossy(&self.0))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), f)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
                s.serialize_bytes(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
                let bytes = bytes::Bytes::deserialize(d)?;
                Self::from_bytes(&bytes).map_err(serde::de::Error::custom)
            }
        }
    };
}

byte_name!(
    /// Name of a consumer group within its stream.
    GroupName,
    "group",
    0
);
byte_name!(
    /// Name of a consumer within its group.
    ConsumerName,
    "consumer",
    0
);
byte_name!(
    /// Name of a producer whose requests are deduplicated.
    ProducerId,
    "producer_id",
    1
);

fn check_length(what: &str, bytes: &[u8], min: usize) -> Result<()> {
    if bytes.len() < min {
        return Err(invalid(what, "may not be empty".into()));
    }
    if bytes.len() > NAME_BYTES_MAX {
        return Err(invalid(what, format!("is {} bytes long, at most {NAME_BYTES_MAX} are allowed", bytes.len())));
    }
    Ok(())
}

fn invalid(what: &str, why: String) -> Error {
    Error::new(Reason::InvalidName, format!("{what} name {why}")).violation(what, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_rules() {
        for good in ["a", "model-events", "ü", &"x".repeat(255)] {
            StreamName::parse(good).expect(good);
            GroupName::parse(good).expect(good);
        }
        for bad in ["", "a\nb", "\u{7f}", "\u{85}", &"x".repeat(256)] {
            assert_eq!(StreamName::parse(bad).expect_err(bad).reason(), Reason::InvalidName);
            assert_eq!(ConsumerName::parse(bad).expect_err(bad).reason(), Reason::InvalidName);
        }
        GroupName::from_bytes(b"\x00\xff").expect("any bytes over the Redis protocol");
    }
}
