//! Settings of streams and groups as JSON, and what is known of them. A missing member is the default.
//!
//! A change is a merge patch (RFC 7396) over the settings as they are: a member replaces, `null` resets, the rest stays.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::request::no_filter;
use super::text::{DurationText, decode_error};
use crate::error::Result;
use crate::limits;
use crate::types::{DedupSettings, Dispatch, Durability, GroupSettings, Retention, StreamName, StreamSettings};

/// When a publish is answered: `fsync` survives power loss, `os` survives the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = Durability)]
pub(super) enum DurabilityName {
    Fsync,
    Os,
}

impl From<DurabilityName> for Durability {
    fn from(name: DurabilityName) -> Self {
        match name {
            DurabilityName::Fsync => Self::Fsync,
            DurabilityName::Os => Self::Os,
        }
    }
}

/// What a stream keeps; what no member names is kept for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = Retention)]
pub(super) struct RetentionForm {
    /// Keep at most this many entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    entries_max: Option<u64>,
    /// Keep at most this many bytes of entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_max: Option<u64>,
    /// Keep entries no older than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    age_max: Option<DurationText>,
    /// Keep what some group has not acknowledged, drop what every group has. Done with is what was acknowledged, skipped,
    /// dead-lettered, delivered without acknowledgement, dropped with a consumer, or passed by a cursor that was moved.
    until_acknowledged: bool,
}

/// How long and how much a stream remembers for deduplication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = DedupSettings)]
pub(super) struct DedupForm {
    /// Deduplicate by event id even where the publisher does not ask.
    by_event_id: bool,
    /// How long a request or event id is remembered.
    window: DurationText,
    /// Producers remembered at most; one more within the window is refused.
    producers_max: u32,
    /// Event ids remembered at most.
    event_ids_max: u32,
}

impl Default for DedupForm {
    fn default() -> Self {
        DedupSettings::default().into()
    }
}

impl From<DedupSettings> for DedupForm {
    fn from(dedup: DedupSettings) -> Self {
        Self {
            by_event_id: dedup.by_event_id,
            window: DurationText::from_ms(dedup.window_ms),
            producers_max: dedup.producers_max,
            event_ids_max: dedup.event_ids_max,
        }
    }
}

/// Settings of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = StreamSettings)]
pub(super) struct StreamForm {
    /// Text for people.
    description: String,
    /// When a publish is answered, unless it says so itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    durability: Option<DurabilityName>,
    /// What is kept.
    retention: RetentionForm,
    /// What is remembered for deduplication.
    dedup: DedupForm,
}

impl From<StreamSettings> for StreamForm {
    fn from(settings: StreamSettings) -> Self {
        let Retention { entries_max, bytes_max, age_max_ms, until_acknowledged } = settings.retention;
        Self {
            description: settings.description,
            durability: settings.durability.map(|d| match d {
                Durability::Fsync => DurabilityName::Fsync,
                Durability::Os => DurabilityName::Os,
            }),
            retention: RetentionForm {
                entries_max,
                bytes_max,
                age_max: age_max_ms.map(DurationText::from_ms),
                until_acknowledged,
            },
            dedup: settings.dedup.into(),
        }
    }
}

impl StreamForm {
    pub(super) fn settings(self) -> Result<StreamSettings> {
        let settings = StreamSettings {
            description: self.description,
            durability: self.durability.map(Into::into),
            retention: Retention {
                entries_max: self.retention.entries_max,
                bytes_max: self.retention.bytes_max,
                age_max_ms: self.retention.age_max.map(DurationText::ms),
                until_acknowledged: self.retention.until_acknowledged,
            },
            dedup: DedupSettings {
                by_event_id: self.dedup.by_event_id,
                window_ms: self.dedup.window.ms(),
                producers_max: self.dedup.producers_max,
                event_ids_max: self.dedup.event_ids_max,
            },
        };
        settings.validate()?;
        Ok(settings)
    }
}

/// Who gets an entry of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Dispatch)]
pub(super) enum DispatchName {
    /// Any consumer that asks.
    Shared,
    /// Entries of one key go to one consumer at a time, in order.
    KeyOrdered,
    /// One consumer gets everything; the others stand by.
    SingleActive,
}

/// Settings of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = GroupSettings)]
pub(super) struct GroupForm {
    /// Text for people.
    description: String,
    /// Lease of a delivered entry; `0s`: entries never come back by themselves, only by claims.
    ack_wait: DurationText,
    /// Failed deliveries after which an entry goes to the dead letters; 0: never.
    max_deliveries: u32,
    /// Delays before the first, second, … redelivery; the last one repeats. Empty: at once.
    backoff: Vec<DurationText>,
    /// Who gets an entry.
    dispatch: DispatchName,
    /// Pending entries at most; delivery pauses there.
    pending_max: u32,
    /// Where dead letters go; unset: `{stream}.dlq.{group}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letter_stream: Option<String>,
    /// Only entries that match this expression. Not served yet: refused when set.
    #[serde(skip_serializing)]
    filter: Option<String>,
}

impl Default for GroupForm {
    fn default() -> Self {
        GroupSettings::default().into()
    }
}

impl From<GroupSettings> for GroupForm {
    fn from(settings: GroupSettings) -> Self {
        Self {
            description: settings.description,
            ack_wait: DurationText::from_ms(settings.ack_wait_ms),
            max_deliveries: settings.max_deliveries,
            backoff: settings.backoff_ms.into_iter().map(DurationText::from_ms).collect(),
            dispatch: match settings.dispatch {
                Dispatch::Shared => DispatchName::Shared,
                Dispatch::KeyOrdered => DispatchName::KeyOrdered,
                Dispatch::SingleActive => DispatchName::SingleActive,
            },
            pending_max: settings.pending_max,
            dead_letter_stream: settings.dead_letter_stream.map(|name| name.to_string()),
            filter: None,
        }
    }
}

impl GroupForm {
    pub(super) fn settings(self) -> Result<GroupSettings> {
        no_filter(self.filter.as_deref())?;
        let settings = GroupSettings {
            description: self.description,
            ack_wait_ms: self.ack_wait.ms(),
            max_deliveries: self.max_deliveries,
            backoff_ms: self.backoff.into_iter().map(DurationText::ms).collect(),
            dispatch: match self.dispatch {
                DispatchName::Shared => Dispatch::Shared,
                DispatchName::KeyOrdered => Dispatch::KeyOrdered,
                DispatchName::SingleActive => Dispatch::SingleActive,
            },
            pending_max: if self.pending_max == 0 { limits::PENDING_DEFAULT } else { self.pending_max },
            dead_letter_stream: self.dead_letter_stream.as_deref().map(StreamName::parse).transpose()?,
        };
        settings.validate()?;
        Ok(settings)
    }
}

/// The settings with a merge patch applied.
pub(super) fn patched<F: Serialize + DeserializeOwned>(current: F, patch: Value) -> Result<F> {
    let mut whole = serde_json::to_value(current).expect("settings are plain JSON");
    merge(&mut whole, patch);
    serde_json::from_value(whole).map_err(|e| decode_error("settings", &e.to_string()))
}

fn merge(target: &mut Value, patch: Value) {
    match patch {
        Value::Object(members) if target.is_object() => {
            for (name, value) in members {
                if value.is_null() {
                    target.as_object_mut().and_then(|o| o.remove(&name));
                } else {
                    merge(&mut target[name], value);
                }
            }
        }
        other => *target = other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Reason;
    use serde_json::json;

    #[test]
    fn settings_survive_json() {
        let form: StreamForm = serde_json::from_value(json!({
            "description": "d", "durability": "os",
            "retention": {"entries_max": 10, "age_max": "1h"}, "dedup": {"window": "1.500s"},
        }))
        .expect("good");
        let settings = form.clone().settings().expect("valid");
        assert_eq!((settings.retention.age_max_ms, settings.dedup.window_ms), (Some(3_600_000), 1500));
        assert_eq!(StreamForm::from(settings), form);
        let group: GroupForm =
            serde_json::from_value(json!({"backoff": ["1s"], "dispatch": "key_ordered"})).expect("good");
        assert_eq!(group.clone().settings().expect("valid").backoff_ms, [1000]);
        let empty: GroupForm = serde_json::from_value(json!({})).expect("good");
        assert_eq!(empty.settings().expect("valid"), GroupSettings::default());
    }

    #[test]
    fn a_patch_changes_what_it_names() {
        let form = || StreamForm { description: "old".into(), ..StreamForm::default() };
        let with = patched(form(), json!({"retention": {"entries_max": 5}})).expect("good");
        assert_eq!((with.description.as_str(), with.retention.entries_max), ("old", Some(5)));
        let without = patched(with, json!({"description": null, "retention": {"entries_max": null}})).expect("good");
        assert_eq!(without, StreamForm::default());
        patched(form(), json!({"nonsense": 1})).expect_err("unknown");
        patched(form(), json!({"retention": 7})).expect_err("wrong type");
    }

    #[test]
    fn filters_are_refused() {
        let form: GroupForm = serde_json::from_value(json!({"filter": "type = x"})).expect("known");
        assert_eq!(form.settings().expect_err("not yet").reason(), Reason::Unsupported);
    }
}
