//! Settings of an engine: plain values, checked by [`EngineOptions::validate`].

use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::faults::Faults;
use crate::limits;
use crate::types::Durability;

/// Settings of an engine. Sizes are in bytes.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// The data directory; made where it is missing.
    pub data_dir: PathBuf,
    /// Length of a log segment.
    pub segment_bytes: u64,
    /// Blocks kept in memory for readers.
    pub cache_bytes: usize,
    /// When a publish is answered, unless its stream or the request says otherwise.
    pub durability: Durability,
    /// Whether a publish makes its stream where it is missing, unless the request says otherwise.
    pub auto_create_streams: bool,
    /// Largest single event.
    pub event_bytes_max: usize,
    /// Largest atomic publish request.
    pub publish_bytes_max: usize,
    /// Threads that read what the cache does not hold.
    pub reader_threads: usize,
    /// The index takes a checkpoint after so much was written to the log: a start replays about that much at most.
    pub checkpoint_bytes: u64,
    /// Groups that one stream holds at most.
    pub groups_per_stream_max: usize,
    /// Consumers that one group remembers at most.
    pub consumers_per_group_max: usize,
    /// Where a group remembers more than a thousand consumers, those that hold nothing and were not heard of for so long
    /// are forgotten; zero: never.
    pub consumer_idle_max: Duration,
    /// What goes wrong on purpose; nothing outside tests.
    pub faults: Faults,
}

impl EngineOptions {
    /// The defaults, with this data directory.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            segment_bytes: limits::SEGMENT_BYTES_DEFAULT,
            cache_bytes: limits::CACHE_BYTES_DEFAULT,
            durability: Durability::Fsync,
            auto_create_streams: true,
            event_bytes_max: limits::EVENT_BYTES_DEFAULT,
            publish_bytes_max: limits::PUBLISH_BYTES_DEFAULT,
            reader_threads: 2,
            checkpoint_bytes: limits::CHECKPOINT_BYTES_DEFAULT,
            groups_per_stream_max: limits::GROUPS_PER_STREAM_DEFAULT,
            consumers_per_group_max: limits::CONSUMERS_PER_GROUP_DEFAULT,
            consumer_idle_max: limits::CONSUMER_IDLE_DEFAULT,
            faults: Faults::default(),
        }
    }

    /// Whether the values make sense together.
    pub fn validate(&self) -> Result<()> {
        let within = |field: &str, value: u64, min: u64, max: u64| {
            if (min..=max).contains(&value) {
                Ok(())
            } else {
                Err(Error::invalid(field, format!("from {min} to {max}")))
            }
        };
        within("segment_bytes", self.segment_bytes, limits::SEGMENT_BYTES_MIN, limits::SEGMENT_BYTES_MAX)?;
        within("event_bytes_max", self.event_bytes_max as u64, 1, limits::EVENT_BYTES_MAX as u64)?;
        within("publish_bytes_max", self.publish_bytes_max as u64, 1, limits::PUBLISH_BYTES_MAX as u64)?;
        within("checkpoint_bytes", self.checkpoint_bytes, 1, limits::CHECKPOINT_BYTES_MAX)?;
        within("groups_per_stream_max", self.groups_per_stream_max as u64, 1, limits::MEMBERS_MAX as u64)?;
        within("consumers_per_group_max", self.consumers_per_group_max as u64, 1, limits::MEMBERS_MAX as u64)?;
        within("reader_threads", self.reader_threads as u64, 1, 64)?;
        if self.event_bytes_max > self.publish_bytes_max {
            return Err(Error::invalid("event_bytes_max", "is greater than publish_bytes_max"));
        }
        Ok(())
    }
}
