//! The catalogue: streams are made, shown, changed and removed; what is known of one with its groups.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::groups::GroupSummary;
use super::problem::Answer;
use super::request::{Json, NoParameters, Query, Scope, bounded};
use super::routes::Route;
use super::settings::{StreamForm, patched};
use super::text::{DurationText, IdText, TimeText};
use crate::access::Permission;
use crate::engine::{Read, StreamInfo};
use crate::error::Result;
use crate::limits::PAGE_BYTES_DEFAULT;
use crate::types::{EntryId, StreamName};

/// Streams of one page at most, and by default.
const PAGE_MAX: usize = 1000;
const PAGE_DEFAULT: usize = 100;
/// Rates are those of this long until now.
const RATE_WINDOW_MS: u64 = 60_000;
/// Entries looked at for rates, at most; busier streams show the rate of their last so many.
const RATE_ENTRIES_MAX: usize = 1000;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/streams", "list_streams", list)
            .summary("List streams by name, those only that the caller may read")
            .query::<ListQuery>()
            .answers::<StreamList>(StatusCode::OK, "A page of streams."),
        Route::post("/streams", "create_stream", create)
            .summary("Make a stream")
            .body::<CreateForm>()
            .answers::<StreamAnswer>(StatusCode::CREATED, "The stream."),
        Route::get("/streams/{stream}", "get_stream", get)
            .summary("Show a stream")
            .answers::<StreamAnswer>(StatusCode::OK, "The stream."),
        Route::patch("/streams/{stream}", "update_stream", update)
            .summary("Change settings of a stream: those named, `null` resets")
            .body::<UpdateForm>()
            .answers::<StreamAnswer>(StatusCode::OK, "The stream as it is now."),
        Route::delete("/streams/{stream}", "delete_stream", delete)
            .summary("Delete a stream with its entries and groups")
            .answers_with(StatusCode::NO_CONTENT, "text/plain", "It is gone."),
        Route::get("/streams/{stream}/info", "get_stream_info", info)
            .summary("Length, ids, bytes, retention, groups with their lag, rates")
            .answers::<StreamDetails>(StatusCode::OK, "The stream in detail."),
    ]
}

/// What is known of a stream.
#[derive(Serialize, ToSchema)]
#[schema(as = StreamInfo)]
struct StreamAnswer {
    /// Its name.
    name: String,
    /// Its number in this store: never used again, even when its name is.
    number: u64,
    /// Its settings.
    settings: StreamForm,
    /// Entries that can be read.
    length: u64,
    /// Bytes of the entries that can be read.
    bytes: u64,
    /// First id that can be read; absent where there is no entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_id: Option<IdText>,
    /// Last id that was given out; `0-0` for a stream that never had an entry.
    last_id: IdText,
    /// Entries ever appended.
    appended: u64,
    /// Greatest id that was deleted singly; `0-0` if none.
    deleted_id_max: IdText,
    /// When it was made.
    create_time: TimeText,
    /// Its groups by name.
    groups: Vec<String>,
}

impl From<StreamInfo> for StreamAnswer {
    fn from(info: StreamInfo) -> Self {
        Self {
            name: info.name.to_string(),
            number: info.number,
            settings: info.settings.into(),
            length: info.length,
            bytes: info.bytes,
            first_id: info.first.map(IdText),
            last_id: info.last.into(),
            appended: info.appended,
            deleted_id_max: info.deleted_max.into(),
            create_time: TimeText(info.created_ms),
            groups: info.groups.iter().map(ToString::to_string).collect(),
        }
    }
}

/// A stream with its groups and rates.
#[derive(Serialize, ToSchema)]
struct StreamDetails {
    /// Its name.
    name: String,
    /// Its number in this store.
    number: u64,
    /// Its settings, retention among them.
    settings: StreamForm,
    /// Entries that can be read.
    length: u64,
    /// Bytes of the entries that can be read.
    bytes: u64,
    /// First id that can be read; absent where there is no entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_id: Option<IdText>,
    /// Last id that was given out.
    last_id: IdText,
    /// Entries ever appended.
    appended: u64,
    /// When it was made.
    create_time: TimeText,
    /// Its groups with their lag.
    groups: Vec<GroupSummary>,
    /// How much came in lately.
    rates: Rates,
}

/// How much came in lately, of what can still be read.
#[derive(Serialize, ToSchema)]
struct Rates {
    /// Over how long until now.
    window: DurationText,
    /// Entries a second.
    events_per_s: f64,
    /// Their bytes a second.
    bytes_per_s: f64,
}

/// A page of streams.
#[derive(Serialize, ToSchema)]
struct StreamList {
    /// By name.
    streams: Vec<StreamAnswer>,
    /// Where to go on; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Only names that begin so.
    #[serde(default)]
    prefix: String,
    /// Streams at most, up to 1000; unset: 100. A page may hold fewer.
    page_size: Option<usize>,
    /// Where to go on: `next_page_token` of the page before.
    page_token: Option<String>,
}

/// Make a stream.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateForm {
    /// Its name: 1 to 255 bytes without control characters. `name` is taken as well.
    #[serde(alias = "name")]
    stream: String,
    /// Its settings.
    #[serde(default)]
    settings: StreamForm,
}

/// Change settings.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateForm {
    /// What to change; what is not named stays.
    #[schema(value_type = StreamForm)]
    settings: Value,
}

async fn list(State(app): State<App>, scope: Scope, Query(query): Query<ListQuery>) -> Answer {
    let max = bounded("page_size", query.page_size, PAGE_DEFAULT, PAGE_MAX)?;
    let after = query.page_token.as_deref().filter(|t| !t.is_empty()).map(StreamName::parse).transpose()?;
    let found = app.engine.streams(&query.prefix, after.as_ref(), max).await?;
    let next_page_token = found.last().filter(|_| found.len() == max).map(|last| last.name.to_string());
    let seen = found.into_iter().filter(|info| scope.caller.allows(Permission::Read, info.name.as_str()));
    let streams = seen.map(StreamAnswer::from).collect();
    Ok(axum::Json(StreamList { streams, next_page_token }).into_response())
}

async fn create(State(app): State<App>, scope: Scope, _: Query<NoParameters>, Json(form): Json<CreateForm>) -> Answer {
    scope.caller.may(Permission::Admin, &form.stream)?;
    let info = app.engine.create_stream(StreamName::parse(&form.stream)?, form.settings.settings()?).await?;
    Ok((StatusCode::CREATED, axum::Json(StreamAnswer::from(info))).into_response())
}

async fn get(State(app): State<App>, scope: Scope, _: Query<NoParameters>) -> Answer {
    let info = app.engine.stream(&scope.stream(Permission::Read)?).await?;
    Ok(axum::Json(StreamAnswer::from(info)).into_response())
}

async fn update(State(app): State<App>, scope: Scope, _: Query<NoParameters>, Json(form): Json<UpdateForm>) -> Answer {
    let stream = scope.stream(Permission::Admin)?;
    let current = StreamForm::from(app.engine.stream(&stream).await?.settings);
    let settings = patched(current, form.settings)?.settings()?;
    let info = app.engine.update_stream(&stream, settings).await?;
    Ok(axum::Json(StreamAnswer::from(info)).into_response())
}

async fn delete(State(app): State<App>, scope: Scope, _: Query<NoParameters>) -> Answer {
    app.engine.delete_stream(&scope.stream(Permission::Admin)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn info(State(app): State<App>, scope: Scope, _: Query<NoParameters>) -> Answer {
    let stream = scope.stream(Permission::Read)?;
    let info = app.engine.stream(&stream).await?;
    let groups = app.engine.groups(&stream).await?.iter().map(GroupSummary::from).collect();
    let rates = rates(&app, &stream).await?;
    let details = StreamDetails {
        name: info.name.to_string(),
        number: info.number,
        settings: info.settings.into(),
        length: info.length,
        bytes: info.bytes,
        first_id: info.first.map(IdText),
        last_id: info.last.into(),
        appended: info.appended,
        create_time: TimeText(info.created_ms),
        groups,
        rates,
    };
    Ok(axum::Json(details).into_response())
}

/// The rates, from the last entries there are; what was appended and trimmed at once is not seen.
async fn rates(app: &App, stream: &StreamName) -> Result<Rates> {
    let now_ms = app.wall_ms();
    let since_ms = now_ms.saturating_sub(RATE_WINDOW_MS);
    let mut read = Read::all(stream.clone());
    read.range.first = EntryId::new(since_ms, 0);
    (read.reverse, read.entries_max, read.bytes_max) = (true, RATE_ENTRIES_MAX, PAGE_BYTES_DEFAULT);
    let page = app.engine.read(read).await?;
    let oldest_ms = page.entries.last().map_or(since_ms, |entry| entry.append_ms);
    // A page that could not hold the whole window tells of the time since its oldest entry.
    let from_ms = if page.next.is_some() { oldest_ms } else { since_ms };
    let window_ms = now_ms.saturating_sub(from_ms).max(1);
    let per_s = |amount: usize| (amount as f64 * 1e6 / window_ms as f64).round() / 1e3;
    Ok(Rates {
        window: DurationText::from_ms(window_ms),
        events_per_s: per_s(page.entries.len()),
        bytes_per_s: per_s(page.entries.iter().map(|entry| entry.bytes.len()).sum()),
    })
}
