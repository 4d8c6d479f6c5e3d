//! The live view: server-sent events. It catches up from where the reader was, then goes on with what comes.
//!
//! It reads from the log at the pace of its reader, so it drops nothing: a slow reader is simply behind. A comment
//! every few seconds keeps proxies from closing it. Where it ends by an error, the last event, `error`, says why.
//! What is trimmed before a reader that is behind gets to it cannot be shown; an event `gap` then says from where to
//! where, and how many entries it was.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use bytes::Bytes;
use futures::Stream;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use utoipa::IntoParams;

use super::App;
use super::messages::write_entry;
use super::problem::{Answer, Failure};
use super::request::{Query, Scope, Shape, no_filter};
use super::routes::Route;
use super::text::Position;
use crate::access::Permission;
use crate::engine::{Gap, Tail, TailBatch, TailFrom};
use crate::error::{Error, Reason, Result};
use crate::types::{EntryId, StreamName};

/// Entries and bytes handed over at once, at most (but always one entry): so much is held of a view that nobody reads.
const ENTRIES_MAX: usize = 100;
const BYTES_MAX: usize = 64 << 10;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/streams/{stream}/live", "tail_events", live)
            .summary("Follow a stream as server-sent events")
            .describe(
                "Every event has its entry id as `id`, so that a browser that reconnects goes on where it was. \
                 Nothing is dropped: a slow reader is behind. An event named `gap` says that entries were trimmed \
                 before the reader got to them (`after_id`, `before_id`, and `missed`, how many, where that is \
                 known); one named `error` carries a problem and ends the view.",
            )
            .query::<LiveQuery>()
            .header("Last-Event-ID", "Goes on after this entry; goes before `from`.")
            .header("Accept", "`application/cloudevents+json` for CloudEvents.")
            .answers_with(StatusCode::OK, "text/event-stream", "The events, as they come."),
    ]
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct LiveQuery {
    /// Where to start: `latest` (unless said otherwise), `earliest`, after an id, or at an RFC 3339 time.
    #[param(value_type = Option<String>)]
    from: Option<Position>,
    /// Only entries that match this expression. Not served yet: refused when set.
    filter: Option<String>,
}

async fn live(State(app): State<App>, scope: Scope, Query(query): Query<LiveQuery>, headers: HeaderMap) -> Answer {
    let stream = scope.stream(Permission::Read)?;
    no_filter(query.filter.as_deref())?;
    let from = match last_event_id(&headers)? {
        Some(id) => TailFrom::After(id),
        None => query.from.unwrap_or(Position::Latest).into(),
    };
    let place = place(&app.live)?;
    let tail = app.engine.tail(&stream, from).await?;
    let view = View { app, stream, shape: Shape::of(&headers), tail, ended: false, _place: place };
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-cache")];
    Ok((headers, Body::from_stream(view.into_stream())).into_response())
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<EntryId>> {
    match headers.get("last-event-id").map(|value| value.to_str().unwrap_or_default().trim()) {
        None | Some("") => Ok(None),
        Some(text) => EntryId::parse(text).map(Some),
    }
}

fn place(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    Arc::clone(places).try_acquire_owned().map_err(|_| {
        Error::new(Reason::LimitReached, "too many live views are open").retry_after(Duration::from_secs(5))
    })
}

/// One open live view.
struct View {
    app: App,
    stream: StreamName,
    shape: Shape,
    tail: Tail,
    ended: bool,
    _place: OwnedSemaphorePermit,
}

impl View {
    fn into_stream(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        // The first bytes go out at once, so that the reader knows that the view is open.
        let opened = futures::stream::once(async { Ok(Bytes::from_static(b": open\n\n")) });
        let rest = futures::stream::unfold(self, |mut view| async {
            let chunk = view.next().await?;
            Some((Ok(chunk), view))
        });
        futures::StreamExt::chain(opened, rest)
    }

    /// What to send next; `None` once the view has ended.
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let batch = tokio::select! {
            batch = self.tail.next(ENTRIES_MAX, BYTES_MAX) => batch,
            () = self.app.shutdown.cancelled() => Err(Error::draining()),
            () = tokio::time::sleep(self.app.options.heartbeat) => return Some(Bytes::from_static(b": heartbeat\n\n")),
        };
        Some(match batch {
            Ok(batch) => self.batch(&batch).await,
            Err(error) => self.end(error),
        })
    }

    async fn batch(&self, batch: &TailBatch) -> Bytes {
        let (mut out, mut entry_json) = (String::new(), String::new());
        if let Some(gap) = &batch.gap {
            write_frame(&mut out, &[("event", "gap")], &gap_json(gap));
        }
        // Hundreds of views that are behind would keep every core writing; whoever else has a request goes in between.
        let _turn = self.app.writing.acquire().await;
        for entry in &batch.entries {
            entry_json.clear();
            write_entry(&mut entry_json, &self.stream, entry, self.shape);
            write_frame(&mut out, &[("id", &entry.id.to_string())], &entry_json);
        }
        Bytes::from(out)
    }

    fn end(&mut self, error: Error) -> Bytes {
        self.ended = true;
        let problem = serde_json::to_string(&Failure::from(error).problem()).expect("plain JSON");
        let mut out = String::new();
        write_frame(&mut out, &[("event", "error")], &problem);
        Bytes::from(out)
    }
}

/// What a gap says: so many entries after the one and before the other were trimmed unseen, or perhaps some, where the
/// number is not known.
fn gap_json(gap: &Gap) -> String {
    let Gap { after, before, missed } = gap;
    let missed = missed.map_or(String::new(), |missed| format!("\"missed\":{missed},"));
    let reason = Reason::IdTrimmed.name();
    format!("{{\"after_id\":\"{after}\",\"before_id\":\"{before}\",{missed}\"reason\":\"{reason}\"}}")
}

/// Appends one server-sent event. Line ends within the data, which in JSON stand between tokens only, become lines of
/// their own, as the format wants it.
fn write_frame(out: &mut String, fields: &[(&str, &str)], data: &str) {
    for (name, value) in fields {
        out.push_str(name);
        out.push_str(": ");
        out.push_str(value);
        out.push('\n');
    }
    for line in data.split(['\r', '\n']).filter(|line| !line.is_empty()) {
        out.push_str("data: ");
        out.push_str(line);
        out.push('\n');
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_no_stray_line_ends() {
        let mut out = String::new();
        write_frame(&mut out, &[("id", "1-0")], "{\"a\":1,\r\n\"b\":\r2}");
        assert_eq!(out, "id: 1-0\ndata: {\"a\":1,\ndata: \"b\":\ndata: 2}\n\n");
    }

    #[test]
    fn the_last_event_is_an_id() {
        let headers = |value: &'static str| {
            [("last-event-id".parse().expect("a name"), value.parse().expect("a value"))].into_iter().collect()
        };
        assert_eq!(last_event_id(&headers("5-1")).expect("good"), Some(EntryId::new(5, 1)));
        assert_eq!(last_event_id(&headers("")).expect("none"), None);
        last_event_id(&headers("x")).expect_err("not an id");
    }
}
