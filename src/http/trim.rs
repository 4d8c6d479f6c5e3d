//! Trimming a stream from its old end.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::App;
use super::problem::Answer;
use super::request::{Json, NoParameters, Query, Scope};
use super::routes::Route;
use super::text::{IdText, TimeText};
use crate::access::Permission;
use crate::engine::{Trim, TrimTo};
use crate::error::{Error, Result};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::post("/streams/{stream}/trim", "trim_stream", trim)
            .summary("Drop the oldest entries; a dry run only says what would go")
            .describe("Exactly one of `before_id`, `before_time`, `keep_entries` and `keep_bytes` is needed.")
            .body::<TrimForm>()
            .answers::<TrimAnswer>(StatusCode::OK, "What went, or would go."),
    ]
}

/// Drop the oldest entries. Exactly one of the first four.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TrimForm {
    /// Drop entries below this id.
    before_id: Option<IdText>,
    /// Drop entries appended before this time.
    before_time: Option<TimeText>,
    /// Keep the last so many entries.
    keep_entries: Option<u64>,
    /// Keep the last so many bytes of entries: the longest tail that fits.
    keep_bytes: Option<u64>,
    /// Only say what would go.
    #[serde(default)]
    dry_run: bool,
}

impl TrimForm {
    fn to(&self) -> Result<TrimTo> {
        let choices = [
            self.before_id.map(|id| TrimTo::BeforeId(id.0)),
            self.before_time.map(|time| TrimTo::BeforeTime(time.0)),
            self.keep_entries.map(TrimTo::KeepEntries),
            self.keep_bytes.map(TrimTo::KeepBytes),
        ];
        let mut chosen = choices.into_iter().flatten();
        match (chosen.next(), chosen.next()) {
            (Some(to), None) => Ok(to),
            _ => Err(Error::invalid(
                "body",
                "exactly one of before_id, before_time, keep_entries and keep_bytes is needed",
            )),
        }
    }
}

/// What went, or would go.
#[derive(Serialize, ToSchema)]
struct TrimAnswer {
    /// Entries.
    entries: u64,
    /// Their bytes.
    bytes: u64,
    /// First id that is left; absent where none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_id: Option<IdText>,
    /// Whether nothing was changed.
    dry_run: bool,
}

async fn trim(State(app): State<App>, scope: Scope, _: Query<NoParameters>, Json(form): Json<TrimForm>) -> Answer {
    let stream = scope.stream(Permission::Admin)?;
    let trimmed = app.engine.trim(Trim { stream, to: form.to()?, dry_run: form.dry_run }).await?;
    let answer = TrimAnswer {
        entries: trimmed.entries,
        bytes: trimmed.bytes,
        first_id: trimmed.first.map(IdText),
        dry_run: form.dry_run,
    };
    Ok(axum::Json(answer).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bound_exactly() {
        let to = |json: &str| serde_json::from_str::<TrimForm>(json).expect("a form").to();
        assert_eq!(to(r#"{"keep_entries": 0}"#).expect("one"), TrimTo::KeepEntries(0));
        to("{}").expect_err("none");
        to(r#"{"keep_entries": 5, "before_id": "5-0"}"#).expect_err("two");
    }
}
