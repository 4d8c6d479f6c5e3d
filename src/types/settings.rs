//! Settings of streams and groups: plain values, checked by `validate`.
//!
//! On the disk a setting stands under a name of its own (`src/format/settings.rs`): a new one changes no format.

use serde::{Deserialize, Serialize};

use super::names::StreamName;
use crate::error::{Error, Result};
use crate::limits;

/// When a publish is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// After `fdatasync`: survives power loss.
    #[default]
    Fsync,
    /// After the write: survives the process, and power loss but for a tail of at most 100 ms.
    Os,
}

/// What a stream keeps; what no field names is kept for ever. Lengths are exact bounds, ages are in milliseconds of
/// engine time since the append. Of several limits the one that drops most counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// Keep at most this many entries.
    pub entries_max: Option<u64>,
    /// Keep at most this many bytes of entries.
    pub bytes_max: Option<u64>,
    /// Keep entries no older than this.
    pub age_max_ms: Option<u64>,
    /// Keep what some group has not acknowledged, drop what every group has: as long as there is a group, the other
    /// limits do not count.
    pub until_acknowledged: bool,
}

/// How long and how much a stream remembers for deduplication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DedupSettings {
    /// Deduplicate by event id even where the publisher does not ask.
    pub by_event_id: bool,
    /// How long a request or event id is remembered, in milliseconds of engine time.
    pub window_ms: u64,
    /// Producers remembered at most; one more within the window is refused.
    pub producers_max: u32,
    /// Event ids remembered at most.
    pub event_ids_max: u32,
}

impl Default for DedupSettings {
    fn default() -> Self {
        Self {
            by_event_id: false,
            window_ms: limits::DEDUP_WINDOW_DEFAULT.as_millis() as u64,
            producers_max: limits::DEDUP_PRODUCERS_MAX as u32,
            event_ids_max: limits::DEDUP_EVENT_IDS_MAX as u32,
        }
    }
}

/// Settings of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamSettings {
    /// Text for people.
    pub description: String,
    /// When a publish is answered, unless it says so itself; the server's default where unset.
    pub durability: Option<Durability>,
    /// What is kept.
    pub retention: Retention,
    /// What is remembered for deduplication.
    pub dedup: DedupSettings,
}

impl StreamSettings {
    /// Whether the values make sense together.
    pub fn validate(&self) -> Result<()> {
        if self.description.len() > limits::EVENT_TEXT_BYTES_MAX {
            return Err(Error::invalid("description", format!("at most {} bytes", limits::EVENT_TEXT_BYTES_MAX)));
        }
        for (field, value) in [
            ("retention.entries_max", self.retention.entries_max),
            ("retention.bytes_max", self.retention.bytes_max),
            ("retention.age_max", self.retention.age_max_ms),
        ] {
            if value == Some(0) {
                return Err(Error::invalid(field, "must be greater than zero; leave it out to keep everything"));
            }
        }
        if self.dedup.producers_max as usize > limits::DEDUP_PRODUCERS_MAX {
            return Err(Error::invalid("dedup.producers_max", format!("at most {}", limits::DEDUP_PRODUCERS_MAX)));
        }
        if self.dedup.event_ids_max as usize > limits::DEDUP_EVENT_IDS_MAX {
            return Err(Error::invalid("dedup.event_ids_max", format!("at most {}", limits::DEDUP_EVENT_IDS_MAX)));
        }
        Ok(())
    }
}

/// Who gets an entry of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dispatch {
    /// Any consumer that asks.
    #[default]
    Shared,
    /// Entries of one key go to one consumer at a time, in order.
    KeyOrdered,
    /// One consumer gets everything; the others stand by.
    SingleActive,
}

/// Settings of a group. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSettings {
    /// Text for people.
    pub description: String,
    /// Lease of a delivered entry; zero: entries are claimed by hand (the Redis way) and never come back by themselves.
    pub ack_wait_ms: u64,
    /// Failed deliveries after which an entry goes to the dead letters; zero: never.
    pub max_deliveries: u32,
    /// Delays before the first, second, … redelivery; the last one repeats. Empty: at once.
    pub backoff_ms: Vec<u64>,
    /// Who gets an entry.
    pub dispatch: Dispatch,
    /// Pending entries at most; delivery pauses there.
    pub pending_max: u32,
    /// Where dead letters go; `{stream}.dlq.{group}` where unset.
    pub dead_letter_stream: Option<StreamName>,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            description: String::new(),
            ack_wait_ms: limits::ACK_WAIT_DEFAULT.as_millis() as u64,
            max_deliveries: 0,
            backoff_ms: Vec::new(),
            dispatch: Dispatch::Shared,
            pending_max: limits::PENDING_DEFAULT,
            dead_letter_stream: None,
        }
    }
}

impl GroupSettings {
    /// Settings of a group as the Redis protocol makes it: claimed by hand.
    pub fn by_hand() -> Self {
        Self { ack_wait_ms: 0, ..Self::default() }
    }

    /// Whether the values make sense together.
    pub fn validate(&self) -> Result<()> {
        let wait_max = limits::ACK_WAIT_MAX.as_millis() as u64;
        if self.description.len() > limits::EVENT_TEXT_BYTES_MAX {
            return Err(Error::invalid("description", format!("at most {} bytes", limits::EVENT_TEXT_BYTES_MAX)));
        }
        if self.ack_wait_ms > wait_max {
            return Err(Error::invalid("ack_wait", format!("at most {wait_max} ms")));
        }
        if self.backoff_ms.len() > limits::BACKOFF_STEPS_MAX {
            return Err(Error::invalid("backoff", format!("at most {} steps", limits::BACKOFF_STEPS_MAX)));
        }
        if self.backoff_ms.iter().any(|ms| *ms > wait_max) {
            return Err(Error::invalid("backoff", format!("at most {wait_max} ms a step")));
        }
        if self.pending_max == 0 || self.pending_max > limits::PENDING_MAX {
            return Err(Error::invalid("pending_max", format!("from 1 to {}", limits::PENDING_MAX)));
        }
        Ok(())
    }

    /// Delay before the delivery that follows this many failures.
    pub fn backoff_after(&self, failures: u32) -> u64 {
        let step = (failures.max(1) as usize - 1).min(self.backoff_ms.len().saturating_sub(1));
        self.backoff_ms.get(step).copied().unwrap_or(0)
    }
}
