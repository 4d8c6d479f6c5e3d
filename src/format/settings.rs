//! Settings as records and rows hold them: a list of names and values, in bincode 1.3 with fixed-width integers.
//!
//! What has the value that it has in a new stream or group is left out; what is left out has that value when it is read,
//! so what a missing setting stands for never changes. A name that this program does not know was written by a newer one
//! and is refused by that name: nothing runs on under settings that it would not keep. So a new setting changes no format.

use bincode::Options;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::record::codec;

/// A setting's name and its value, encoded.
type Stored = Vec<(String, Vec<u8>)>;

/// Puts a setting on the list, where its value is not the one that a missing one stands for.
fn put<T: Serialize + PartialEq, E: serde::ser::Error>(
    list: &mut Stored,
    name: &str,
    value: &T,
    missing: &T,
) -> Result<(), E> {
    if value != missing {
        list.push((name.to_owned(), codec().serialize(value).map_err(E::custom)?));
    }
    Ok(())
}

/// Reads a setting's value.
fn take<T: DeserializeOwned, E: serde::de::Error>(name: &str, value: &[u8]) -> Result<T, E> {
    codec().deserialize(value).map_err(|error| E::custom(format!("the setting {name:?} cannot be read: {error}")))
}

/// The stored form of a structure of settings: the name of each on the disk, and its field. Names are never reused.
macro_rules! stored_settings {
    ($(#[$doc:meta])* $module:ident: $settings:ty { $($name:literal => $($field:ident).+),* $(,)? }) => {
        $(#[$doc])*
        pub(super) mod $module {
            use super::*;

            pub(in crate::format) fn serialize<S: Serializer>(settings: &$settings, to: S) -> Result<S::Ok, S::Error> {
                let (missing, mut list) = (<$settings>::default(), Stored::new());
                $(put::<_, S::Error>(&mut list, $name, &settings.$($field).+, &missing.$($field).+)?;)*
                list.serialize(to)
            }

            pub(in crate::format) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<$settings, D::Error> {
                let mut settings = <$settings>::default();
                for (name, value) in Stored::deserialize(from)? {
                    match name.as_str() {
                        $($name => settings.$($field).+ = take::<_, D::Error>(&name, &value)?,)*
                        _ => {
                            let why = format!("the setting {name:?} is not known: a newer version of this program wrote it");
                            return Err(D::Error::custom(why));
                        }
                    }
                }
                Ok(settings)
            }
        }
    };
}

stored_settings! {
    /// Of a stream.
    stream: crate::types::StreamSettings {
        "description" => description,
        "durability" => durability,
        "retention.entries_max" => retention.entries_max,
        "retention.bytes_max" => retention.bytes_max,
        "retention.age_max_ms" => retention.age_max_ms,
        "retention.until_acknowledged" => retention.until_acknowledged,
        "dedup.by_event_id" => dedup.by_event_id,
        "dedup.window_ms" => dedup.window_ms,
        "dedup.producers_max" => dedup.producers_max,
        "dedup.event_ids_max" => dedup.event_ids_max,
    }
}

stored_settings! {
    /// Of a group.
    group: crate::types::GroupSettings {
        "description" => description,
        "ack_wait_ms" => ack_wait_ms,
        "max_deliveries" => max_deliveries,
        "backoff_ms" => backoff_ms,
        "dispatch" => dispatch,
        "pending_max" => pending_max,
        "dead_letter_stream" => dead_letter_stream,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Dispatch, GroupSettings, StreamSettings};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct OfStream(#[serde(with = "stream")] StreamSettings);

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct OfGroup(#[serde(with = "group")] GroupSettings);

    #[test]
    fn settings_come_back_as_they_were() {
        let mut of_stream = StreamSettings { description: "orders".into(), ..StreamSettings::default() };
        of_stream.retention.entries_max = Some(7);
        of_stream.dedup.by_event_id = true;
        let of_group =
            GroupSettings { backoff_ms: vec![1, 2], dispatch: Dispatch::KeyOrdered, ..GroupSettings::by_hand() };
        let (of_stream, of_group) = (OfStream(of_stream), OfGroup(of_group));
        let bytes = codec().serialize(&of_stream).unwrap();
        assert_eq!(codec().deserialize::<OfStream>(&bytes).unwrap(), of_stream);
        let bytes = codec().serialize(&of_group).unwrap();
        assert_eq!(codec().deserialize::<OfGroup>(&bytes).unwrap(), of_group);
    }

    #[test]
    fn what_is_as_at_first_takes_no_room() {
        let bytes = codec().serialize(&OfStream(StreamSettings::default())).unwrap();
        assert_eq!(bytes, 0u64.to_le_bytes());
    }

    #[test]
    fn a_setting_of_a_newer_version_is_refused_by_its_name() {
        let newer: Stored = vec![("retention.colour".into(), vec![1])];
        let refused = codec().deserialize::<OfStream>(&codec().serialize(&newer).unwrap()).unwrap_err();
        assert!(refused.to_string().contains("\"retention.colour\" is not known"), "{refused}");
        let damaged: Stored = vec![("retention.entries_max".into(), vec![9])];
        let refused = codec().deserialize::<OfStream>(&codec().serialize(&damaged).unwrap()).unwrap_err();
        assert!(refused.to_string().contains("\"retention.entries_max\" cannot be read"), "{refused}");
    }
}
