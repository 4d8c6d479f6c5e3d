//! What is known of groups, as messages.

use super::convert::{duration_ms, pb_id, pb_time};
use super::pb;
use super::settings::pb_group;
use crate::engine::{ConsumerInfo, GroupInfo, Seeked};

pub(super) fn info(group: GroupInfo) -> pb::GroupInfo {
    pb::GroupInfo {
        stream: group.stream.to_string(),
        name: group.name.to_string(),
        settings: Some(pb_group(&group.settings)),
        cursor: Some(pb_id(group.cursor)),
        undelivered: group.undelivered,
        pending: group.pending,
        waiting: group.waiting,
        oldest_unacknowledged_time: group.oldest_unacknowledged_ms.map(pb_time),
        skipped_by_trim: group.skipped_by_trim,
        acknowledged: group.acknowledged,
        dead_lettered: group.dead_lettered,
        consumers: group.consumers.into_iter().map(consumer).collect(),
    }
}

/// A group as lists show it.
pub(super) fn summary(mut group: GroupInfo) -> pb::GroupInfo {
    group.consumers.clear();
    info(group)
}

fn consumer(consumer: ConsumerInfo) -> pb::ConsumerInfo {
    pb::ConsumerInfo {
        name: consumer.name.to_string(),
        pending: consumer.pending,
        idle: Some(duration_ms(consumer.idle_ms)),
        inactive: consumer.inactive_ms.map(duration_ms),
        active: consumer.active,
        sessions: consumer.sessions,
    }
}

pub(super) fn seeked(seeked: Seeked) -> pb::SeekGroupResponse {
    pb::SeekGroupResponse {
        from: Some(pb_id(seeked.from)),
        to: Some(pb_id(seeked.to)),
        entries: seeked.entries,
        backwards: seeked.backwards,
    }
}
