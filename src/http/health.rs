//! Whether the server can be used, for people and for probes.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::problem::Answer;
use super::request::{NoParameters, Query};
use super::routes::Route;
use crate::engine::{Health, Stats};
use crate::error::Reason;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/health", "get_health", get)
            .summary("State, version and storage")
            .describe("503 while draining or failed; a full disk is 200, since reading and acknowledging go on.")
            .open()
            .answers::<HealthAnswer>(StatusCode::OK, "It can be used.")
            .answers::<HealthAnswer>(StatusCode::SERVICE_UNAVAILABLE, "It cannot be used, and why."),
    ]
}

/// The state of the server.
#[derive(Serialize, ToSchema)]
struct HealthAnswer {
    /// `serving`, `storage_full`, `draining` or `failed`.
    state: &'static str,
    /// The server's version.
    version: &'static str,
    /// Why it does not serve everything, as a stable name.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// The same for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// What it stores.
    storage: StorageAnswer,
    /// The index of the log.
    index: IndexAnswer,
}

/// The index of the log: without it a start takes longer, and nothing else is different.
#[derive(Serialize, ToSchema)]
struct IndexAnswer {
    /// Whether it can be used.
    usable: bool,
    /// Why not, for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// What a server stores.
#[derive(Serialize, ToSchema)]
struct StorageAnswer {
    /// Whether events can be written.
    writable: bool,
    /// Streams.
    streams: u64,
    /// Groups.
    groups: u64,
    /// Bytes of log files.
    log_bytes: u64,
    /// Log position up to which everything is synced.
    synced_to: u64,
}

async fn get(State(app): State<App>, _: Query<NoParameters>) -> Answer {
    let health = if app.shutdown.is_cancelled() { Health::Draining } else { app.engine.health() };
    let answer = answer(health, &app.engine.stats(), app.engine.index_trouble());
    let usable = matches!(answer.state, "serving" | "storage_full");
    let status = if usable { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, axum::Json(answer)).into_response())
}

fn answer(health: Health, stats: &Stats, index_trouble: Option<String>) -> HealthAnswer {
    let (state, reason, detail) = match health {
        Health::Serving => ("serving", None, None),
        Health::StorageFull => ("storage_full", Some(Reason::StorageFull), None),
        Health::Draining => ("draining", Some(Reason::Draining), None),
        Health::Failed(why) => ("failed", Some(Reason::StorageFailed), Some(why)),
    };
    HealthAnswer {
        state,
        version: env!("CARGO_PKG_VERSION"),
        reason: reason.map(Reason::name),
        detail,
        storage: StorageAnswer {
            writable: state == "serving",
            streams: stats.streams,
            groups: stats.groups,
            log_bytes: stats.log_bytes,
            synced_to: stats.synced_to,
        },
        index: IndexAnswer { usable: index_trouble.is_none(), detail: index_trouble },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_names_and_reasons() {
        let shown = |health| serde_json::to_value(answer(health, &Stats::default(), None)).expect("plain JSON");
        assert_eq!(shown(Health::Serving)["state"], "serving");
        let failed = shown(Health::Failed("fdatasync: EIO".into()));
        assert_eq!((&failed["state"], &failed["reason"]), (&"failed".into(), &"STORAGE_FAILED".into()));
        assert_eq!(failed["detail"], "fdatasync: EIO");
        assert_eq!(shown(Health::StorageFull)["storage"]["writable"], false);
        let sick = serde_json::to_value(answer(Health::Serving, &Stats::default(), Some("no room".into())));
        let sick = sick.expect("plain JSON");
        assert_eq!((&sick["state"], &sick["index"]["usable"]), (&"serving".into(), &false.into()));
        assert_eq!(sick["index"]["detail"], "no room");
    }
}
