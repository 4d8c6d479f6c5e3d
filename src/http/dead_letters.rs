//! Dead letters of a group: listed, sent back, deleted.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::messages::{Object, json, some_ids, write_entry};
use super::problem::Answer;
use super::request::{Json, NoParameters, Query, Scope, Shape, bounded};
use super::routes::Route;
use super::text::{IdText, TimeText};
use crate::access::Permission;
use crate::engine::{DeadLetter, DeadLetterChoice, DeadLetterPage, RedriveTo, Redriven};
use crate::error::{Error, Result};
use crate::types::StreamName;

const COUNT_DEFAULT: usize = 100;
const COUNT_MAX: usize = 1000;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/streams/{stream}/groups/{group}/dead-letters", "list_dead_letters", list)
            .summary("List the dead letters of a group with where they came from and why")
            .query::<ListQuery>()
            .header("Accept", "`application/cloudevents+json` for CloudEvents.")
            .answers::<DeadLetterList>(StatusCode::OK, "A page, in the order of the dead-letter stream."),
        Route::post("/streams/{stream}/groups/{group}/dead-letters/purge", "purge_dead_letters", purge)
            .summary("Delete dead letters")
            .body::<PurgeForm>()
            .answers::<RedrivenAnswer>(StatusCode::OK, "What was deleted."),
        Route::post("/streams/{stream}/groups/{group}/redrive", "redrive_dead_letters", redrive)
            .summary("Send dead letters back to the group or the stream")
            .body::<RedriveForm>()
            .answers::<RedrivenAnswer>(StatusCode::OK, "What went back."),
    ]
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Dead letters at most, up to 1000; unset: 100.
    count: Option<usize>,
    /// Only those after this id of the dead-letter stream.
    #[param(value_type = Option<String>)]
    after: Option<IdText>,
}

/// A page of dead letters.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes what is written by hand, so that events stay as they were sent")]
struct DeadLetterList {
    /// In the order of the dead-letter stream.
    dead_letters: Vec<DeadLetterAnswer>,
    /// Where there may be more: `after` of the next page.
    next_after: Option<IdText>,
}

/// A dead letter: the original entry with what is known of its end.
#[derive(ToSchema)]
#[schema(as = DeadLetter)]
#[allow(dead_code, reason = "describes what is written by hand")]
struct DeadLetterAnswer {
    #[serde(flatten)]
    end: End,
    /// The event as it was sent, with its place in the dead-letter stream.
    event: Object,
}

/// What is known of the end of an entry.
#[derive(Serialize, ToSchema)]
struct End {
    /// Its place in the dead-letter stream.
    id: IdText,
    /// The stream that it came from.
    origin_stream: String,
    /// Its id there.
    origin_id: IdText,
    /// The group that gave it up.
    group: String,
    /// Deliveries before that.
    deliveries: u32,
    /// Failed ones among them.
    failures: u32,
    /// Why.
    reason: String,
    /// When it was given up.
    failed_time: TimeText,
}

impl From<&DeadLetter> for End {
    fn from(letter: &DeadLetter) -> Self {
        Self {
            id: letter.id.into(),
            origin_stream: letter.origin_stream.clone(),
            origin_id: letter.origin_id.into(),
            group: letter.group.clone(),
            deliveries: letter.deliveries,
            failures: letter.failures,
            reason: letter.reason.clone(),
            failed_time: TimeText(letter.failed_ms),
        }
    }
}

/// Delete dead letters: either `ids` or `all`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PurgeForm {
    /// Ids of the dead-letter stream.
    ids: Option<Vec<IdText>>,
    /// All that are there when the command starts.
    #[serde(default)]
    all: bool,
}

/// Send dead letters back: either `ids` or `all`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RedriveForm {
    /// Ids of the dead-letter stream.
    ids: Option<Vec<IdText>>,
    /// All that are there when the command starts.
    #[serde(default)]
    all: bool,
    /// Where to.
    target: TargetName,
}

/// Where redriven dead letters go.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = RedriveTarget)]
enum TargetName {
    /// Back to the group alone: pending again. The original entry must still exist.
    Group,
    /// To the stream, as a new entry for every group.
    Stream,
}

/// What went.
#[derive(Serialize, ToSchema)]
struct RedrivenAnswer {
    /// Dead letters that went.
    done: u64,
    /// Ids that are not, or no longer, dead letters of that group.
    not_found: Vec<IdText>,
    /// Ids whose original entry is gone, so that the group alone cannot get it: the way out is the target `stream`.
    original_gone: Vec<IdText>,
    /// The group's bound on pending entries left no room for the others: they are dead letters still.
    is_cut_short: bool,
}

impl From<Redriven> for RedrivenAnswer {
    fn from(redriven: Redriven) -> Self {
        let texts = |ids: Vec<_>| ids.into_iter().map(IdText).collect();
        Self {
            done: redriven.done,
            not_found: texts(redriven.not_found),
            original_gone: texts(redriven.original_gone),
            is_cut_short: redriven.is_cut_short,
        }
    }
}

async fn list(State(app): State<App>, scope: Scope, Query(query): Query<ListQuery>, headers: HeaderMap) -> Answer {
    let (stream, group) = (scope.stream(Permission::Read)?, scope.group()?);
    let max = bounded("count", query.count, COUNT_DEFAULT, COUNT_MAX)?;
    let found = app.engine.dead_letters(&stream, &group, query.after.map(|id| id.0), max).await?;
    let settings = app.engine.group(&stream, &group).await?.settings;
    let place = settings.dead_letter_stream.unwrap_or(stream);
    Ok(json(list_json(&place, &found, Shape::of(&headers))))
}

/// The list as JSON; `place` is the dead-letter stream, where the entries are.
fn list_json(place: &StreamName, found: &DeadLetterPage, shape: Shape) -> String {
    let mut out = String::from("{\"dead_letters\":[");
    for (n, letter) in found.letters.iter().enumerate() {
        let end = serde_json::to_string(&End::from(letter)).expect("plain JSON");
        out.push_str(if n == 0 { "" } else { "," });
        out.push_str(end.strip_suffix('}').expect("an object ends so"));
        out.push_str(",\"event\":");
        write_entry(&mut out, place, &letter.entry, shape);
        out.push('}');
    }
    out.push(']');
    if let Some(after) = found.next_after {
        out.push_str(&format!(",\"next_after\":\"{after}\""));
    }
    out.push('}');
    out
}

async fn purge(State(app): State<App>, scope: Scope, _: Query<NoParameters>, Json(form): Json<PurgeForm>) -> Answer {
    let (stream, group) = (scope.stream(Permission::Admin)?, scope.group()?);
    let purged = app.engine.purge_dead_letters(&stream, &group, choice(form.ids, form.all)?).await?;
    Ok(axum::Json(RedrivenAnswer::from(purged)).into_response())
}

async fn redrive(
    State(app): State<App>,
    scope: Scope,
    _: Query<NoParameters>,
    Json(form): Json<RedriveForm>,
) -> Answer {
    let (stream, group) = (scope.stream(Permission::Admin)?, scope.group()?);
    let to = match form.target {
        TargetName::Group => RedriveTo::Group,
        TargetName::Stream => RedriveTo::Stream,
    };
    let redriven = app.engine.redrive(&stream, &group, choice(form.ids, form.all)?, to).await?;
    Ok(axum::Json(RedrivenAnswer::from(redriven)).into_response())
}

fn choice(ids: Option<Vec<IdText>>, all: bool) -> Result<DeadLetterChoice> {
    match (ids, all) {
        (Some(ids), false) => some_ids(ids).map(DeadLetterChoice::Ids),
        (None, true) => Ok(DeadLetterChoice::All),
        _ => Err(Error::invalid("ids", "either ids or all has to be said")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_has_to_be_said() {
        assert_eq!(choice(None, true).expect("all"), DeadLetterChoice::All);
        choice(None, false).expect_err("neither");
        choice(Some(vec![IdText(crate::types::EntryId::ZERO)]), true).expect_err("both");
        choice(Some(Vec::new()), false).expect_err("no id");
    }
}
