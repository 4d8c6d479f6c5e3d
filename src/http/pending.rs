//! Entries that were delivered and not acknowledged: listed, and taken over.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::consume::{DeliveryAnswer, delivery_members};
use super::messages::json;
use super::problem::Answer;
use super::request::{Json, NoParameters, Query, Scope, Shape, bounded};
use super::routes::Route;
use super::text::{Bound, DurationText, IdText};
use crate::access::Permission;
use crate::engine::{Claim, ClaimOptions, ListPending, PendingInfo};
use crate::error::Error;
use crate::limits::{IDS_PER_REQUEST_MAX, PAGE_ENTRIES_MAX};
use crate::types::{ConsumerName, EntryId};

const COUNT_DEFAULT: usize = 1000;
const CLAIM_DEFAULT: usize = 100;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/streams/{stream}/groups/{group}/pending", "list_pending", list)
            .summary("List entries that were delivered and not acknowledged")
            .query::<PendingQuery>()
            .answers::<PendingList>(StatusCode::OK, "A page, in id order."),
        Route::post("/streams/{stream}/groups/{group}/claim", "claim_pending", claim)
            .summary("Take over pending entries from other consumers")
            .header("Accept", "`application/cloudevents+json` for CloudEvents.")
            .body::<ClaimForm>()
            .answers::<ClaimAnswer>(StatusCode::OK, "What was taken over."),
    ]
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct PendingQuery {
    /// Entries at most, up to 10,000; unset: 1000.
    count: Option<usize>,
    /// Where the range starts, inclusive; unset: at the first.
    #[param(value_type = Option<String>)]
    from: Option<Bound>,
    /// Where the range ends, inclusive; unset: at the last.
    #[param(value_type = Option<String>)]
    to: Option<Bound>,
    /// Only this consumer's.
    consumer: Option<String>,
    /// Only those delivered at least so long ago.
    #[param(value_type = Option<String>)]
    idle_min: Option<DurationText>,
}

/// A page of pending entries.
#[derive(Serialize, ToSchema)]
struct PendingList {
    /// In id order.
    entries: Vec<PendingEntry>,
    /// Where there may be more: the id to go on from, as `from`.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_id: Option<IdText>,
}

/// A pending entry.
#[derive(Serialize, ToSchema)]
struct PendingEntry {
    /// Its id.
    id: IdText,
    /// Who holds it; absent while it waits for redelivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    consumer: Option<String>,
    /// Since it was delivered last.
    idle: DurationText,
    /// Until the lease ends, or until it may be delivered again; absent if it is claimed by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    due: Option<DurationText>,
    /// Times delivered.
    deliveries: u32,
    /// Times failed.
    failures: u32,
}

impl From<PendingInfo> for PendingEntry {
    fn from(info: PendingInfo) -> Self {
        Self {
            id: info.id.into(),
            consumer: info.consumer.map(|name| name.to_string()),
            idle: DurationText::from_ms(info.idle_ms),
            due: info.due_ms.map(DurationText::from_ms),
            deliveries: info.deliveries,
            failures: info.failures,
        }
    }
}

/// Take over pending entries.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ClaimForm {
    /// Who takes them.
    consumer: String,
    /// Only those delivered at least so long ago.
    idle_min: Option<DurationText>,
    /// Which; unset or empty: any from `first_id` on.
    #[serde(default)]
    ids: Vec<IdText>,
    /// Where to start when no ids are named; unset: at the first.
    first_id: Option<IdText>,
    /// Entries at most when no ids are named, up to 10,000; unset: 100.
    entries_max: Option<usize>,
}

/// What was taken over: a delivery, with what is gone and where to go on.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes what is written by hand, so that events stay as they were sent")]
struct ClaimAnswer {
    #[schema(inline)]
    #[serde(flatten)]
    delivery: DeliveryAnswer,
    /// Entries that no longer exist; they are no longer pending.
    gone: Vec<IdText>,
    /// Where there is more than one answer holds (10,000 entries, 1 MiB): the first id that was left as it was.
    next_id: Option<IdText>,
}

async fn list(State(app): State<App>, scope: Scope, Query(query): Query<PendingQuery>) -> Answer {
    let entries_max = bounded("count", query.count, COUNT_DEFAULT, PAGE_ENTRIES_MAX)?;
    let request = ListPending {
        stream: scope.stream(Permission::Read)?,
        group: scope.group()?,
        range: Bound::range(query.from, query.to)?,
        entries_max,
        consumer: query.consumer.as_deref().map(ConsumerName::parse).transpose()?,
        idle_min: query.idle_min.map(|d| d.0).unwrap_or_default(),
    };
    let found = app.engine.list_pending(request).await?;
    let next_id = found.last().filter(|_| found.len() == entries_max).and_then(|last| last.id.next()).map(IdText);
    let entries = found.into_iter().map(PendingEntry::from).collect();
    Ok(axum::Json(PendingList { entries, next_id }).into_response())
}

async fn claim(
    State(app): State<App>,
    scope: Scope,
    _: Query<NoParameters>,
    headers: HeaderMap,
    Json(form): Json<ClaimForm>,
) -> Answer {
    let stream = scope.stream(Permission::Consume)?;
    if form.ids.len() > IDS_PER_REQUEST_MAX {
        return Err(Error::invalid("ids", format!("at most {IDS_PER_REQUEST_MAX} ids")).into());
    }
    if !form.ids.is_empty() && (form.first_id.is_some() || form.entries_max.is_some()) {
        return Err(Error::invalid("ids", "do not go with first_id or entries_max").into());
    }
    let request = Claim {
        stream: stream.clone(),
        group: scope.group()?,
        consumer: ConsumerName::parse(&form.consumer)?,
        idle_min: form.idle_min.map(|d| d.0).unwrap_or_default(),
        ids: form.ids.into_iter().map(|id| id.0).collect(),
        from: form.first_id.map_or(EntryId::ZERO, |id| id.0),
        entries_max: bounded("entries_max", form.entries_max, CLAIM_DEFAULT, PAGE_ENTRIES_MAX)?,
        options: ClaimOptions::default(),
    };
    let claimed = app.engine.claim(request).await?;
    let mut out = format!("{{{}", delivery_members(&stream, &claimed.delivery, false, Shape::of(&headers)));
    let gone: Vec<IdText> = claimed.gone.into_iter().map(IdText).collect();
    out.push_str(&format!(",\"gone\":{}", serde_json::to_string(&gone).expect("plain JSON")));
    if let Some(next) = claimed.next {
        out.push_str(&format!(",\"next_id\":\"{next}\""));
    }
    out.push('}');
    Ok(json(out))
}
