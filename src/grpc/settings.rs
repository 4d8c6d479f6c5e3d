//! Settings of streams and groups between messages and the engine's types, and what an update mask picks of them.

use prost_types::FieldMask;

use super::convert::{duration_ms, named, span_ms, unsupported, within};
use super::pb;
use super::publish::durability;
use crate::error::{Error, Result};
use crate::limits;
use crate::types::{DedupSettings, Dispatch, Durability, GroupSettings, Retention, StreamName, StreamSettings};

pub(super) fn stream(settings: Option<pb::StreamSettings>) -> Result<StreamSettings> {
    let settings = settings.unwrap_or_default();
    let out = StreamSettings {
        description: settings.description,
        durability: durability("settings.durability", settings.durability)?,
        retention: settings.retention.map_or(Ok(Retention::default()), retention)?,
        dedup: settings.dedup.map_or(Ok(DedupSettings::default()), dedup)?,
    };
    out.validate().map_err(|e| within("settings", e))?;
    Ok(out)
}

fn retention(retention: pb::Retention) -> Result<Retention> {
    let age = |age| span_ms("settings.retention.age_max", &age, DURATION_MAX);
    Ok(Retention {
        entries_max: retention.entries_max,
        bytes_max: retention.bytes_max,
        age_max_ms: retention.age_max.map(age).transpose()?,
        until_acknowledged: retention.until_acknowledged,
    })
}

fn dedup(dedup: pb::DedupSettings) -> Result<DedupSettings> {
    let default = DedupSettings::default();
    let window = |window| span_ms("settings.dedup.window", &window, DURATION_MAX);
    Ok(DedupSettings {
        by_event_id: dedup.by_event_id,
        window_ms: dedup.window.map_or(Ok(default.window_ms), window)?,
        producers_max: dedup.producers_max.unwrap_or(default.producers_max),
        event_ids_max: dedup.event_ids_max.unwrap_or(default.event_ids_max),
    })
}

pub(super) fn pb_stream(settings: &StreamSettings) -> pb::StreamSettings {
    let durability = match settings.durability {
        None => pb::Durability::Unspecified,
        Some(Durability::Fsync) => pb::Durability::Fsync,
        Some(Durability::Os) => pb::Durability::Os,
    };
    pb::StreamSettings {
        description: settings.description.clone(),
        durability: durability as i32,
        retention: Some(pb::Retention {
            entries_max: settings.retention.entries_max,
            bytes_max: settings.retention.bytes_max,
            age_max: settings.retention.age_max_ms.map(duration_ms),
            until_acknowledged: settings.retention.until_acknowledged,
        }),
        dedup: Some(pb::DedupSettings {
            by_event_id: settings.dedup.by_event_id,
            window: Some(duration_ms(settings.dedup.window_ms)),
            producers_max: Some(settings.dedup.producers_max),
            event_ids_max: Some(settings.dedup.event_ids_max),
        }),
    }
}

/// The settings of a stream with what the mask names replaced.
pub(super) fn update_stream(
    now: &StreamSettings,
    new: Option<pb::StreamSettings>,
    mask: Option<FieldMask>,
) -> Result<StreamSettings> {
    let new = new.unwrap_or_default();
    let Some(paths) = paths(mask) else { return stream(Some(new)) };
    let mut out = pb_stream(now);
    for path in paths {
        match path.as_str() {
            "description" => out.description = new.description.clone(),
            "durability" => out.durability = new.durability,
            "retention" => out.retention = new.retention,
            "dedup" => out.dedup = new.dedup,
            other => return Err(unknown_path(other)),
        }
    }
    stream(Some(out))
}

pub(super) fn group(settings: Option<pb::GroupSettings>) -> Result<GroupSettings> {
    let default = GroupSettings::default();
    let settings = settings.unwrap_or_default();
    unsupported("settings.filter", !settings.filter.is_empty())?;
    let wait = |wait| span_ms("settings.ack_wait", &wait, limits::ACK_WAIT_MAX);
    let step = |(n, step): (usize, &prost_types::Duration)| {
        span_ms(&format!("settings.backoff[{n}]"), step, limits::ACK_WAIT_MAX)
    };
    let dead_letters = settings.dead_letter_stream;
    let out = GroupSettings {
        description: settings.description,
        ack_wait_ms: settings.ack_wait.map_or(Ok(default.ack_wait_ms), wait)?,
        max_deliveries: settings.max_deliveries,
        backoff_ms: settings.backoff.iter().enumerate().map(step).collect::<Result<_>>()?,
        dispatch: dispatch(settings.dispatch)?,
        pending_max: if settings.pending_max == 0 { default.pending_max } else { settings.pending_max },
        dead_letter_stream: (!dead_letters.is_empty()).then(|| place(&dead_letters)).transpose()?,
    };
    out.validate().map_err(|e| within("settings", e))?;
    Ok(out)
}

fn place(name: &str) -> Result<StreamName> {
    StreamName::parse(name).map_err(|e| named("settings.dead_letter_stream", e))
}

fn dispatch(value: i32) -> Result<Dispatch> {
    match pb::Dispatch::try_from(value) {
        Ok(pb::Dispatch::Unspecified | pb::Dispatch::Shared) => Ok(Dispatch::Shared),
        Ok(pb::Dispatch::KeyOrdered) => Ok(Dispatch::KeyOrdered),
        Ok(pb::Dispatch::SingleActive) => Ok(Dispatch::SingleActive),
        Err(_) => Err(Error::invalid("settings.dispatch", format!("{value} is not a dispatch"))),
    }
}

pub(super) fn pb_group(settings: &GroupSettings) -> pb::GroupSettings {
    let dispatch = match settings.dispatch {
        Dispatch::Shared => pb::Dispatch::Shared,
        Dispatch::KeyOrdered => pb::Dispatch::KeyOrdered,
        Dispatch::SingleActive => pb::Dispatch::SingleActive,
    };
    pb::GroupSettings {
        description: settings.description.clone(),
        ack_wait: Some(duration_ms(settings.ack_wait_ms)),
        max_deliveries: settings.max_deliveries,
        backoff: settings.backoff_ms.iter().copied().map(duration_ms).collect(),
        dispatch: dispatch as i32,
        pending_max: settings.pending_max,
        dead_letter_stream: settings.dead_letter_stream.as_ref().map(ToString::to_string).unwrap_or_default(),
        filter: String::new(),
    }
}

/// The settings of a group with what the mask names replaced.
pub(super) fn update_group(
    now: &GroupSettings,
    new: Option<pb::GroupSettings>,
    mask: Option<FieldMask>,
) -> Result<GroupSettings> {
    let new = new.unwrap_or_default();
    let Some(paths) = paths(mask) else { return group(Some(new)) };
    let mut out = pb_group(now);
    for path in paths {
        match path.as_str() {
            "description" => out.description = new.description.clone(),
            "ack_wait" => out.ack_wait = new.ack_wait,
            "max_deliveries" => out.max_deliveries = new.max_deliveries,
            "backoff" => out.backoff = new.backoff.clone(),
            "dispatch" => out.dispatch = new.dispatch,
            "pending_max" => out.pending_max = new.pending_max,
            "dead_letter_stream" => out.dead_letter_stream = new.dead_letter_stream.clone(),
            "filter" => out.filter = new.filter.clone(),
            other => return Err(unknown_path(other)),
        }
    }
    group(Some(out))
}

/// The paths of a mask that names any.
fn paths(mask: Option<FieldMask>) -> Option<Vec<String>> {
    mask.map(|mask| mask.paths).filter(|paths| !paths.is_empty())
}

fn unknown_path(path: &str) -> Error {
    let path: String = path.chars().take(64).collect();
    Error::invalid("update_mask", format!("names no setting: {path:?}"))
}

/// Longest age or window: a hundred years or so.
const DURATION_MAX: std::time::Duration = std::time::Duration::from_secs(100 * 365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_the_way_there_and_back() {
        let settings = GroupSettings {
            description: "d".into(),
            ack_wait_ms: 1_500,
            max_deliveries: 3,
            backoff_ms: vec![0, 1_000],
            dispatch: Dispatch::KeyOrdered,
            pending_max: 5,
            dead_letter_stream: Some(StreamName::parse("dead").expect("valid")),
        };
        assert_eq!(group(Some(pb_group(&settings))).expect("valid"), settings);
        assert_eq!(group(None).expect("defaults"), GroupSettings::default());

        let settings = StreamSettings {
            description: "d".into(),
            durability: Some(Durability::Os),
            retention: Retention { entries_max: Some(5), age_max_ms: Some(7), ..Retention::default() },
            dedup: DedupSettings { by_event_id: true, ..DedupSettings::default() },
        };
        assert_eq!(stream(Some(pb_stream(&settings))).expect("valid"), settings);
        assert_eq!(stream(None).expect("defaults"), StreamSettings::default());
    }

    #[test]
    fn masks_pick_fields() {
        let mask = |path: &str| Some(FieldMask { paths: vec![path.into()] });
        let now = GroupSettings { max_deliveries: 3, ..GroupSettings::default() };
        let new = pb::GroupSettings { pending_max: 9, ..Default::default() };
        let picked = update_group(&now, Some(new.clone()), mask("pending_max")).expect("valid");
        assert_eq!((picked.max_deliveries, picked.pending_max), (3, 9));
        let all = update_group(&now, Some(new.clone()), None).expect("valid");
        assert_eq!((all.max_deliveries, all.pending_max), (0, 9));
        update_group(&now, Some(new), mask("nothing")).expect_err("unknown");
    }

    #[test]
    fn contradictions_are_refused() {
        let zero = pb::Retention { entries_max: Some(0), ..Default::default() };
        stream(Some(pb::StreamSettings { retention: Some(zero), ..Default::default() })).expect_err("keeps nothing");
        group(Some(pb::GroupSettings { filter: "x".into(), ..Default::default() })).expect_err("unsupported");
        group(Some(pb::GroupSettings { dispatch: 77, ..Default::default() })).expect_err("unknown");
    }
}
