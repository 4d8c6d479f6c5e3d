//! Entries of a stream: read in pages, deleted singly.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::envelope::{write_cloud_event, write_native};
use super::problem::Answer;
use super::request::{Json, NoParameters, Query, Scope, Shape, bounded, no_filter};
use super::routes::Route;
use super::text::{Bound, IdText};
use crate::access::Permission;
use crate::engine::{Page, Read};
use crate::error::{Error, Result};
use crate::limits::{IDS_PER_REQUEST_MAX, PAGE_BYTES_DEFAULT, PAGE_ENTRIES_MAX};
use crate::types::{EntryId, StoredEntry, StreamName};

/// Entries of a page, unless the reader says how many.
const COUNT_DEFAULT: usize = 100;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/streams/{stream}/messages", "read_events", read)
            .summary("Read a page of a stream, forward or back, by id or time")
            .describe(
                "Each event as it was sent, with `_id`, `_stream` and `_time`; with \
                 `Accept: application/cloudevents+json` each as a CloudEvent.",
            )
            .query::<ReadQuery>()
            .header("Accept", "`application/cloudevents+json` for CloudEvents.")
            .answers::<EventPage>(StatusCode::OK, "A page."),
        Route::delete("/streams/{stream}/messages/{id}", "delete_event", delete_one)
            .summary("Delete a single entry")
            .answers::<Deleted>(StatusCode::OK, "Whether it existed."),
        Route::post("/streams/{stream}/messages/delete", "delete_events", delete_many)
            .summary("Delete single entries")
            .body::<DeleteForm>()
            .answers::<Deleted>(StatusCode::OK, "How many existed."),
    ]
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ReadQuery {
    /// Entries at most, up to 10,000; unset: 100. A page ends earlier at 1 MiB.
    count: Option<usize>,
    /// Where the range starts, inclusive: an id, or an RFC 3339 time. Unset: the first entry.
    #[param(value_type = Option<String>)]
    from: Option<Bound>,
    /// Where the range ends, inclusive: an id, or an RFC 3339 time. Unset: the last entry.
    #[param(value_type = Option<String>)]
    to: Option<Bound>,
    /// `asc` (from the smallest id up, unless said otherwise) or `desc`.
    #[serde(default)]
    #[param(inline)]
    order: Order,
    /// Refuse with `ID_TRIMMED` where the range starts below the trim point, instead of starting there.
    #[serde(default)]
    strict: bool,
    /// Only entries that match this expression. Not served yet: refused when set.
    filter: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Order {
    #[default]
    Asc,
    Desc,
}

/// A page of events. Where there is more, `next_id` is where to go on: as `from`, or as `to` when descending.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes what is written by hand, so that events stay as they were sent")]
struct EventPage {
    /// The events, in the order asked for.
    events: Vec<Object>,
    /// Where to go on; absent at the end.
    next_id: Option<IdText>,
    /// Set where the range was to start below what is trimmed (when descending also where all of it lies there): no entry
    /// below this id is left, and some that were asked for may be gone.
    trimmed_before: Option<IdText>,
}

/// An event as it was sent, with `_id`, `_stream` and `_time`.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes what is written by hand")]
pub(super) struct Object {
    /// Its entry id.
    _id: IdText,
    /// Its stream.
    _stream: String,
    /// When it was appended.
    _time: super::text::TimeText,
}

/// Delete entries.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DeleteForm {
    /// Which: 1 to 100,000. Ids that do not exist are passed over.
    ids: Vec<IdText>,
}

/// The entries are gone.
#[derive(Serialize, ToSchema)]
struct Deleted {
    /// How many existed.
    deleted: u64,
}

async fn read(State(app): State<App>, scope: Scope, Query(query): Query<ReadQuery>, headers: HeaderMap) -> Answer {
    let stream = scope.stream(Permission::Read)?;
    no_filter(query.filter.as_deref())?;
    let request = Read {
        stream: stream.clone(),
        range: Bound::range(query.from, query.to)?,
        reverse: query.order == Order::Desc,
        entries_max: bounded("count", query.count, COUNT_DEFAULT, PAGE_ENTRIES_MAX)?,
        bytes_max: PAGE_BYTES_DEFAULT,
        strict: query.strict,
    };
    let page = app.engine.read(request).await?;
    Ok(json(page_json(&stream, &page, Shape::of(&headers))))
}

fn page_json(stream: &StreamName, page: &Page, shape: Shape) -> String {
    let bytes: usize = page.entries.iter().map(|entry| entry.bytes.len() + 128).sum();
    let mut out = String::with_capacity(bytes + 64);
    out.push_str("{\"events\":[");
    for (n, entry) in page.entries.iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        write_entry(&mut out, stream, entry, shape);
    }
    out.push(']');
    if let Some(next) = page.next {
        out.push_str(&format!(",\"next_id\":\"{next}\""));
    }
    if let Some(bound) = page.trimmed_before {
        out.push_str(&format!(",\"trimmed_before\":\"{bound}\""));
    }
    out.push('}');
    out
}

/// Appends an entry as the reader wants it.
pub(super) fn write_entry(out: &mut String, stream: &StreamName, entry: &StoredEntry, shape: Shape) {
    match shape {
        Shape::Native => write_native(out, stream, entry),
        Shape::CloudEvents => write_cloud_event(out, stream, entry),
    }
}

/// An answer of JSON that is written already.
pub(super) fn json(body: String) -> Response {
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

async fn delete_one(State(app): State<App>, scope: Scope, _: Query<NoParameters>) -> Answer {
    let stream = scope.stream(Permission::Admin)?;
    let deleted = app.engine.delete_entries(&stream, vec![scope.id()?]).await?;
    Ok(axum::Json(Deleted { deleted }).into_response())
}

async fn delete_many(
    State(app): State<App>,
    scope: Scope,
    _: Query<NoParameters>,
    Json(form): Json<DeleteForm>,
) -> Answer {
    let stream = scope.stream(Permission::Admin)?;
    let deleted = app.engine.delete_entries(&stream, some_ids(form.ids)?).await?;
    Ok(axum::Json(Deleted { deleted }).into_response())
}

/// A list of ids with at least one and not too many.
pub(super) fn some_ids(ids: Vec<IdText>) -> Result<Vec<EntryId>> {
    if ids.is_empty() || ids.len() > IDS_PER_REQUEST_MAX {
        return Err(Error::invalid("ids", format!("from 1 to {IDS_PER_REQUEST_MAX} ids are needed")));
    }
    Ok(ids.into_iter().map(|id| id.0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::event::Event;

    #[test]
    fn pages_hold_events_and_where_to_go_on() {
        let stream = StreamName::parse("s").expect("a name");
        let entry = Event::new("t", &b"{\"type\":\"t\"}"[..]).into_entry().expect("an event");
        let entry = StoredEntry { id: EntryId::new(1, 0), append_ms: 1, kind: entry.kind, bytes: entry.bytes };
        let page = Page { entries: vec![entry.clone(), entry], next: Some(EntryId::new(2, 0)), ..Page::default() };
        let json: serde_json::Value =
            serde_json::from_str(&page_json(&stream, &page, Shape::Native)).expect("plain JSON");
        assert_eq!(json["events"].as_array().map(Vec::len), Some(2));
        assert_eq!((&json["events"][0]["_id"], &json["next_id"]), (&"1-0".into(), &"2-0".into()));
        assert_eq!(page_json(&stream, &Page::default(), Shape::CloudEvents), "{\"events\":[]}");
    }
}
