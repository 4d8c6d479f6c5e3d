//! Groups: made, shown, changed, moved and removed; their consumers.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::App;
use super::problem::Answer;
use super::request::{Json, NoParameters, Query, Scope};
use super::routes::Route;
use super::settings::{GroupForm, patched};
use super::text::{DurationText, IdText, Position, TimeText};
use crate::access::Permission;
use crate::engine::{ConsumerInfo, CreateGroup, GroupInfo, Seeked};
use crate::types::GroupName;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/streams/{stream}/groups", "list_groups", list)
            .summary("List the groups of a stream, without their consumers")
            .answers::<GroupList>(StatusCode::OK, "The groups."),
        Route::post("/streams/{stream}/groups", "create_group", create)
            .summary("Make a group")
            .body::<CreateForm>()
            .answers::<GroupAnswer>(StatusCode::CREATED, "The group."),
        Route::get("/streams/{stream}/groups/{group}", "get_group", get)
            .summary("Show a group with its lag and consumers")
            .answers::<GroupAnswer>(StatusCode::OK, "The group."),
        Route::patch("/streams/{stream}/groups/{group}", "update_group", update)
            .summary("Change settings of a group: those named, `null` resets")
            .body::<UpdateForm>()
            .answers::<GroupAnswer>(StatusCode::OK, "The group as it is now."),
        Route::delete("/streams/{stream}/groups/{group}", "delete_group", delete)
            .summary("Delete a group with its cursor and pending entries")
            .answers_with(StatusCode::NO_CONTENT, "text/plain", "It is gone."),
        Route::post("/streams/{stream}/groups/{group}/seek", "seek_group", seek)
            .summary("Move the cursor of a group; a dry run only says what would happen")
            .body::<SeekForm>()
            .answers::<SeekAnswer>(StatusCode::OK, "What the move did, or would do."),
        Route::get("/streams/{stream}/groups/{group}/consumers", "list_consumers", consumers)
            .summary("List the consumers of a group")
            .answers::<ConsumerList>(StatusCode::OK, "The consumers."),
        Route::delete("/streams/{stream}/groups/{group}/consumers/{consumer}", "remove_consumer", remove_consumer)
            .summary("Remove a consumer; what it held goes to others")
            .answers::<HandedBack>(StatusCode::OK, "How many entries it held."),
    ]
}

/// What is known of a group, without its consumers.
#[derive(Serialize, ToSchema)]
pub(super) struct GroupSummary {
    /// Over which stream.
    stream: String,
    /// Its name.
    name: String,
    /// Its settings, with the dead-letter stream filled in.
    settings: GroupForm,
    /// The last id that was delivered for the first time.
    cursor: IdText,
    /// Entries not delivered yet.
    undelivered: u64,
    /// Entries delivered and not acknowledged.
    pending: u64,
    /// Of those, entries that wait for redelivery.
    waiting: u64,
    /// Entries that are not acknowledged: undelivered and pending ones.
    lag: u64,
    /// When the oldest entry that is not acknowledged was appended.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_unacknowledged_time: Option<TimeText>,
    /// Entries that were trimmed before they were delivered.
    skipped_by_trim: u64,
    /// Entries acknowledged since the group was made.
    acknowledged: u64,
    /// Entries moved to the dead letters since the group was made.
    dead_lettered: u64,
}

impl From<&GroupInfo> for GroupSummary {
    fn from(info: &GroupInfo) -> Self {
        Self {
            stream: info.stream.to_string(),
            name: info.name.to_string(),
            settings: info.settings.clone().into(),
            cursor: info.cursor.into(),
            undelivered: info.undelivered,
            pending: info.pending,
            waiting: info.waiting,
            lag: info.undelivered + info.pending,
            oldest_unacknowledged_time: info.oldest_unacknowledged_ms.map(TimeText),
            skipped_by_trim: info.skipped_by_trim,
            acknowledged: info.acknowledged,
            dead_lettered: info.dead_lettered,
        }
    }
}

/// What is known of a group.
#[derive(Serialize, ToSchema)]
#[schema(as = GroupInfo)]
struct GroupAnswer {
    #[serde(flatten)]
    summary: GroupSummary,
    /// Its consumers by name.
    consumers: Vec<ConsumerAnswer>,
}

impl From<GroupInfo> for GroupAnswer {
    fn from(info: GroupInfo) -> Self {
        Self { summary: (&info).into(), consumers: info.consumers.iter().map(ConsumerAnswer::from).collect() }
    }
}

/// What is known of a consumer.
#[derive(Serialize, ToSchema)]
#[schema(as = ConsumerInfo)]
struct ConsumerAnswer {
    /// Its name. Bytes that are not UTF-8 show as U+FFFD.
    name: String,
    /// Entries that it holds.
    pending: u64,
    /// Since it was last heard of.
    idle: DurationText,
    /// Since it last got or claimed an entry; absent if it never did.
    #[serde(skip_serializing_if = "Option::is_none")]
    inactive: Option<DurationText>,
    /// Whether it is the one that gets entries (single-active groups only).
    active: bool,
    /// Consume sessions that it has open.
    sessions: u32,
}

impl From<&ConsumerInfo> for ConsumerAnswer {
    fn from(info: &ConsumerInfo) -> Self {
        Self {
            name: info.name.to_string(),
            pending: info.pending,
            idle: DurationText::from_ms(info.idle_ms),
            inactive: info.inactive_ms.map(DurationText::from_ms),
            active: info.active,
            sessions: info.sessions,
        }
    }
}

/// The groups of a stream.
#[derive(Serialize, ToSchema)]
struct GroupList {
    /// By name.
    groups: Vec<GroupSummary>,
}

/// The consumers of a group.
#[derive(Serialize, ToSchema)]
struct ConsumerList {
    /// By name.
    consumers: Vec<ConsumerAnswer>,
}

/// Make a group.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateForm {
    /// Its name: 1 to 255 bytes without control characters. `name` is taken as well.
    #[serde(alias = "name")]
    group: String,
    /// Where it starts; unset: `earliest`.
    start: Option<Position>,
    /// Its settings.
    #[serde(default)]
    settings: GroupForm,
    /// Make the stream, too, where it is missing.
    #[serde(default)]
    create_stream: bool,
}

/// Change settings.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateForm {
    /// What to change; what is not named stays.
    #[schema(value_type = GroupForm)]
    settings: Value,
}

/// Move the cursor.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SeekForm {
    /// Where to.
    to: Position,
    /// Only say what would happen.
    #[serde(default)]
    dry_run: bool,
}

/// What the move did, or would do.
#[derive(Serialize, ToSchema)]
struct SeekAnswer {
    /// The cursor before.
    from: IdText,
    /// The cursor after.
    to: IdText,
    /// Entries between the two: to be delivered again when moved back, to be skipped when moved forward.
    entries: u64,
    /// Whether the move is back.
    backwards: bool,
    /// Whether nothing was changed.
    dry_run: bool,
}

/// The consumer is gone.
#[derive(Serialize, ToSchema)]
struct HandedBack {
    /// Entries that it held, and that go to others now.
    handed_back: u64,
}

async fn list(State(app): State<App>, scope: Scope, _: Query<NoParameters>) -> Answer {
    let groups = app.engine.groups(&scope.stream(Permission::Read)?).await?;
    Ok(axum::Json(GroupList { groups: groups.iter().map(GroupSummary::from).collect() }).into_response())
}

async fn create(State(app): State<App>, scope: Scope, _: Query<NoParameters>, Json(form): Json<CreateForm>) -> Answer {
    let request = CreateGroup {
        stream: scope.stream(Permission::Admin)?,
        group: GroupName::parse(&form.group)?,
        start: form.start.unwrap_or(Position::Earliest).into(),
        settings: form.settings.settings()?,
        create_stream: form.create_stream,
    };
    let info = app.engine.create_group(request).await?;
    Ok((StatusCode::CREATED, axum::Json(GroupAnswer::from(info))).into_response())
}

async fn get(State(app): State<App>, scope: Scope, _: Query<NoParameters>) -> Answer {
    let info = app.engine.group(&scope.stream(Permission::Read)?, &scope.group()?).await?;
    Ok(axum::Json(GroupAnswer::from(info)).into_response())
}

async fn update(State(app): State<App>, scope: Scope, _: Query<NoParameters>, Json(form): Json<UpdateForm>) -> Answer {
    let (stream, group) = (scope.stream(Permission::Admin)?, scope.group()?);
    let current = GroupForm::from(app.engine.group(&stream, &group).await?.settings);
    let settings = patched(current, form.settings)?.settings()?;
    let info = app.engine.update_group(&stream, &group, settings).await?;
    Ok(axum::Json(GroupAnswer::from(info)).into_response())
}

async fn delete(State(app): State<App>, scope: Scope, _: Query<NoParameters>) -> Answer {
    app.engine.delete_group(&scope.stream(Permission::Admin)?, &scope.group()?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn seek(State(app): State<App>, scope: Scope, _: Query<NoParameters>, Json(form): Json<SeekForm>) -> Answer {
    let (stream, group) = (scope.stream(Permission::Admin)?, scope.group()?);
    let Seeked { from, to, entries, backwards } =
        app.engine.seek_group(&stream, &group, form.to.into(), form.dry_run).await?;
    let answer = SeekAnswer { from: from.into(), to: to.into(), entries, backwards, dry_run: form.dry_run };
    Ok(axum::Json(answer).into_response())
}

async fn consumers(State(app): State<App>, scope: Scope, _: Query<NoParameters>) -> Answer {
    let info = app.engine.group(&scope.stream(Permission::Read)?, &scope.group()?).await?;
    let consumers = info.consumers.iter().map(ConsumerAnswer::from).collect();
    Ok(axum::Json(ConsumerList { consumers }).into_response())
}

async fn remove_consumer(State(app): State<App>, scope: Scope, _: Query<NoParameters>) -> Answer {
    let (stream, group) = (scope.stream(Permission::Admin)?, scope.group()?);
    let handed_back = app.engine.remove_consumer(&stream, &group, &scope.consumer()?).await?;
    Ok(axum::Json(HandedBack { handed_back }).into_response())
}
