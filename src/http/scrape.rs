//! `GET /metrics`: what was counted, and the engine's figures of this moment.
//!
//! Labels are bounded: so many streams and groups, in the order of their names, have series of their own; the others
//! share the label `other`. So many streams are looked at in all; the number of streams itself is always exact.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use std::collections::BTreeMap;

use super::App;
use super::problem::Answer;
use super::request::{NoParameters, Query};
use super::routes::Route;
use crate::engine::{GroupInfo, Health, Stats, StreamInfo};
use crate::error::{Error, Reason, Result};
use crate::metrics::{Figures, Labels, OPENMETRICS};
use crate::types::StreamName;

/// Streams that a scrape looks at, at most.
const STREAMS_SEEN_MAX: usize = 10_000;
/// Groups with series of their own, at most.
const GROUPS_MAX: usize = 200;
const PAGE: usize = 1000;
const OTHER: &str = "other";

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/metrics", "get_metrics", get)
            .summary("Figures of the server in the OpenMetrics text format")
            .answers_with(StatusCode::OK, OPENMETRICS, "The figures."),
    ]
}

async fn get(State(app): State<App>, _: Query<NoParameters>) -> Answer {
    let mut figures = Figures::default();
    add_stats(&mut figures, &app.engine.stats(), &app.engine.health());
    let usable = u64::from(app.engine.index_trouble().is_none());
    figures.gauge("index_up", "Whether the index of the log can be used", usable);
    match add_streams(&app, &mut figures).await {
        // Whoever watches must see above all an engine that does not serve: then without what it cannot tell any more.
        Err(e) if matches!(e.reason(), Reason::StorageFailed | Reason::Overloaded | Reason::Draining) => {}
        added => added?,
    }
    let text = app.metrics.encode(&figures).map_err(|_| Error::internal("metrics could not be written"))?;
    Ok(([(CONTENT_TYPE, OPENMETRICS)], text).into_response())
}

fn add_stats(figures: &mut Figures, stats: &Stats, health: &Health) {
    let Stats { streams, groups, queued, log_bytes, synced_to, .. } = *stats;
    figures.gauge("streams", "Streams", streams);
    figures.gauge("groups", "Groups", groups);
    figures.gauge("queued_commands", "Commands waiting for the core", queued);
    figures.gauge("log_size_bytes", "Bytes of log files", log_bytes);
    figures.gauge("log_synced_position_bytes", "Log position up to which everything is synced", synced_to);
    figures.gauge("up", "Whether the engine serves everything", u64::from(*health == Health::Serving));
    for (name, help, value) in [
        ("appended_entries", "Entries appended since start", stats.appended_entries),
        ("appended_bytes", "Bytes of entries appended since start", stats.appended_bytes),
        ("commits", "Commits written since start", stats.commits),
        ("syncs", "Syncs of the log since start", stats.syncs),
        ("delivered_entries", "Entries delivered to groups since start", stats.delivered),
        ("redelivered_entries", "Entries delivered again since start", stats.redelivered),
        ("acknowledged_entries", "Entries acknowledged since start", stats.acknowledged),
        ("dead_lettered_entries", "Entries moved to dead letters since start", stats.dead_lettered),
        ("held_back_pulls", "Pulls refused since their group has as many pending entries as it may", stats.held_back),
        ("duplicate_publishes", "Publishes answered as duplicates since start", stats.duplicates),
        ("trims_cut_short", "Trims since start that damage kept from dropping all that they should", stats.trims_short),
        ("cache_hits", "Blocks found in memory since start", stats.cache_hits),
        ("cache_misses", "Blocks read from disk since start", stats.cache_misses),
    ] {
        figures.counter(name, help, value);
    }
}

/// A series name, its help, and what it shows of a thing.
type Series<T> = (&'static str, &'static str, fn(&T, u64) -> f64);

const STREAM_SERIES: [Series<StreamInfo>; 3] = [
    ("stream_entries", "Entries of a stream that can be read", |s, _| s.length as f64),
    ("stream_size_bytes", "Bytes of the entries of a stream that can be read", |s, _| s.bytes as f64),
    ("stream_appended_entries", "Entries ever appended to a stream", |s, _| s.appended as f64),
];

const GROUP_SERIES: [Series<GroupInfo>; 5] = [
    ("group_undelivered_entries", "Entries that a group has not been delivered", |g, _| g.undelivered as f64),
    ("group_pending_entries", "Entries that a group has not acknowledged", |g, _| g.pending as f64),
    ("group_pending_max_entries", "Pending entries that a group may have", |g, _| f64::from(g.settings.pending_max)),
    ("group_dead_lettered_entries", "Entries that a group gave up", |g, _| g.dead_lettered as f64),
    (
        "group_oldest_unacknowledged_seconds",
        "Age of the oldest entry that a group has not acknowledged",
        |g, now_ms| g.oldest_unacknowledged_ms.map_or(0.0, |then| now_ms.saturating_sub(then) as f64 / 1000.0),
    ),
];

async fn add_streams(app: &App, figures: &mut Figures) -> Result<()> {
    let streams = streams(app).await?;
    let own = streams.len().min(app.options.metrics_streams_max);
    let groups = groups(app, &streams[..own]).await?;
    let now_ms = app.wall_ms();
    for (name, help, value) in STREAM_SERIES {
        let labels =
            |n: usize, s: &StreamInfo| vec![("stream", if n < own { s.name.to_string() } else { OTHER.into() })];
        figures.gauges(name, help, summed(streams.iter().enumerate().map(|(n, s)| (labels(n, s), value(s, now_ms)))));
    }
    for (name, help, value) in GROUP_SERIES {
        let labels = |n: usize, g: &GroupInfo| match n < GROUPS_MAX {
            true => vec![("stream", g.stream.to_string()), ("group", g.name.to_string())],
            false => vec![("stream", OTHER.into()), ("group", OTHER.into())],
        };
        figures.gauges(name, help, summed(groups.iter().enumerate().map(|(n, g)| (labels(n, g), value(g, now_ms)))));
    }
    Ok(())
}

/// Adds up what shares its labels.
fn summed(values: impl Iterator<Item = (Labels, f64)>) -> BTreeMap<Labels, f64> {
    values.fold(BTreeMap::new(), |mut sums, (labels, value)| {
        *sums.entry(labels).or_default() += value;
        sums
    })
}

async fn streams(app: &App) -> Result<Vec<StreamInfo>> {
    let mut all: Vec<StreamInfo> = Vec::new();
    while all.len() < STREAMS_SEEN_MAX {
        let after: Option<StreamName> = all.last().map(|last| last.name.clone());
        let page = app.engine.streams("", after.as_ref(), PAGE).await?;
        let ended = page.len() < PAGE;
        all.extend(page);
        if ended {
            break;
        }
    }
    Ok(all)
}

async fn groups(app: &App, streams: &[StreamInfo]) -> Result<Vec<GroupInfo>> {
    let mut all = Vec::new();
    for stream in streams.iter().filter(|stream| !stream.groups.is_empty()) {
        match app.engine.groups(&stream.name).await {
            Ok(groups) => all.extend(groups),
            // Deleted since the list was made.
            Err(e) if e.reason() == Reason::StreamNotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(all)
}
