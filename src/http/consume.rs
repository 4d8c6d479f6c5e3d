//! Consuming by request: pull, acknowledge, give back, extend. A pull hands out a delivery token that fences what it
//! delivered; without a token and without a consumer the admin permission is needed besides.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::App;
use super::events::{PublishForm, PublishedAnswer};
use super::messages::{Object, json, write_entry};
use super::problem::Answer;
use super::request::{Json, NoParameters, Query, Scope, Shape, bounded, no_filter};
use super::routes::Route;
use super::text::{DurationText, IdRangeText, IdText};
use crate::access::Permission;
use crate::engine::{Acknowledge, Delivery, Extend, Holder, Nack, NackAction, Publish, Pull, Settled};
use crate::error::{Error, Result};
use crate::limits::{ACK_WAIT_MAX, IDS_PER_REQUEST_MAX, PAGE_BYTES_DEFAULT, PAGE_ENTRIES_MAX, PULL_WAIT_MAX};
use crate::types::{ConsumerName, DeliveryNumber, IdRange, StreamName};

const ENTRIES_DEFAULT: usize = 100;
/// Publishes that one acknowledgement may carry.
const PUBLISHES_MAX: usize = 100;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::post("/streams/{stream}/groups/{group}/pull", "pull", pull)
            .summary("Ask for entries once, waiting for a while where there are none")
            .header("Accept", "`application/cloudevents+json` for CloudEvents.")
            .body::<PullForm>()
            .answers::<DeliveryAnswer>(StatusCode::OK, "The entries, possibly none."),
        Route::post("/streams/{stream}/groups/{group}/ack", "acknowledge", acknowledge)
            .summary("Acknowledge entries, and publish what came of them in the same commit")
            .describe("With `publish` every id must be held by the caller, or nothing happens.")
            .body::<AckForm>()
            .answers::<SettledAnswer>(StatusCode::OK, "What became of the ids."),
        Route::post("/streams/{stream}/groups/{group}/nack", "nack", nack)
            .summary("Give entries back: retry, dead-letter, skip or hand back")
            .body::<NackForm>()
            .answers::<SettledAnswer>(StatusCode::OK, "What became of the ids."),
        Route::post("/streams/{stream}/groups/{group}/extend", "extend_lease", extend)
            .summary("Extend the leases of entries")
            .body::<ExtendForm>()
            .answers::<SettledAnswer>(StatusCode::OK, "What became of the ids."),
    ]
}

/// Ask for entries.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PullForm {
    /// On behalf of which consumer; it is made where it is missing.
    consumer: String,
    /// Entries at most, up to 10,000; unset: 100.
    entries_max: Option<usize>,
    /// Bytes after which the delivery ends, up to 1 MiB; it holds at least one entry.
    bytes_max: Option<usize>,
    /// How long to wait where there is nothing, up to 300 s; unset: not at all.
    wait: Option<DurationText>,
    /// Take what is delivered as acknowledged at once.
    #[serde(default)]
    no_ack: bool,
    /// Only entries that match this expression. Not served yet: refused when set.
    filter: Option<String>,
}

/// A delivery, possibly empty.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes what is written by hand, so that events stay as they were sent")]
pub(super) struct DeliveryAnswer {
    /// What the acknowledgement must carry; empty where nothing was delivered, or with `no_ack`.
    delivery_token: String,
    /// The entries; redelivered ones first, each part in id order.
    events: Vec<DeliveredEvent>,
    /// How long their lease runs from now; `0s` if they are claimed by hand.
    lease: DurationText,
}

/// An entry that was delivered.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes what is written by hand")]
struct DeliveredEvent {
    /// Its id.
    id: IdText,
    /// Times that it was delivered, this one included.
    deliveries: u32,
    /// Times that a delivery of it failed.
    failures: u32,
    /// The event.
    event: Object,
}

/// Acknowledge entries.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AckForm {
    /// Which entries: ids, or ranges of ids.
    ids: Vec<IdRangeText>,
    /// The delivery that handed them out; what others hold is reported as not owned.
    delivery_token: Option<String>,
    /// Instead of a token: the consumer, by whichever delivery it got them.
    consumer: Option<String>,
    /// Published in the same commit; then every range is one id that must be held, or nothing happens.
    #[serde(default)]
    publish: Vec<PublishForm>,
}

/// Give entries back.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NackForm {
    /// Which entries: ids, or ranges of ids.
    ids: Vec<IdRangeText>,
    /// The delivery that handed them out.
    delivery_token: Option<String>,
    /// Instead of a token: the consumer, by whichever delivery it got them.
    consumer: Option<String>,
    /// What to do with them; unset: `retry` after the group's back-off.
    action: Option<ActionForm>,
}

/// What a negative acknowledgement asks for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum ActionForm {
    /// Deliver again; counts as a failure.
    Retry {
        /// From now; unset: after the group's back-off.
        delay: Option<DurationText>,
    },
    /// Move to the dead letters.
    DeadLetter {
        /// Why, for people.
        #[serde(default)]
        reason: String,
    },
    /// Drop, as if acknowledged.
    Skip {},
    /// Give back unprocessed: deliver again now, without counting a failure.
    HandBack {},
}

/// Extend leases.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ExtendForm {
    /// Which entries: ids, or ranges of ids.
    ids: Vec<IdRangeText>,
    /// The delivery that handed them out.
    delivery_token: Option<String>,
    /// Instead of a token: the consumer, by whichever delivery it got them.
    consumer: Option<String>,
    /// From now; unset: the group's `ack_wait`.
    lease: Option<DurationText>,
}

/// What became of the ids.
#[derive(Serialize, ToSchema)]
struct SettledAnswer {
    /// Entries that it took effect on.
    done: u64,
    /// Ids named one by one that were not pending.
    not_pending: Vec<IdText>,
    /// Ids that are pending, but held by another.
    not_owned: Vec<IdText>,
    /// Answers to the publishes that rode along, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    published: Vec<PublishedAnswer>,
}

impl SettledAnswer {
    fn new(settled: Settled, streams: &[StreamName]) -> Self {
        let texts = |ids: Vec<_>| ids.into_iter().map(IdText).collect();
        let published = streams.iter().zip(&settled.published);
        Self {
            done: settled.done,
            published: published.map(|(stream, p)| PublishedAnswer::new(stream.to_string(), p)).collect(),
            not_pending: texts(settled.not_pending),
            not_owned: texts(settled.not_owned),
        }
    }
}

async fn pull(
    State(app): State<App>,
    scope: Scope,
    _: Query<NoParameters>,
    headers: HeaderMap,
    Json(form): Json<PullForm>,
) -> Answer {
    let stream = scope.stream(Permission::Consume)?;
    no_filter(form.filter.as_deref())?;
    let request = Pull {
        stream: stream.clone(),
        group: scope.group()?,
        consumer: ConsumerName::parse(&form.consumer)?,
        entries_max: bounded("entries_max", form.entries_max, ENTRIES_DEFAULT, PAGE_ENTRIES_MAX)?,
        bytes_max: bounded("bytes_max", form.bytes_max, PAGE_BYTES_DEFAULT, PAGE_BYTES_DEFAULT)?,
        wait: within("wait", form.wait, PULL_WAIT_MAX)?.unwrap_or_default(),
        no_ack: form.no_ack,
    };
    let delivery = tokio::select! {
        delivery = app.engine.pull(request) => delivery?,
        () = app.shutdown.cancelled() => return Err(Error::draining().into()),
    };
    let members = delivery_members(&stream, &delivery, form.no_ack, Shape::of(&headers));
    Ok(json(format!("{{{members}}}")))
}

/// The members of a delivery: token, events, lease.
pub(super) fn delivery_members(stream: &StreamName, delivery: &Delivery, no_ack: bool, shape: Shape) -> String {
    let bytes: usize = delivery.entries.iter().map(|d| d.entry.bytes.len() + 192).sum();
    let mut out = String::with_capacity(bytes + 96);
    let lease = serde_json::to_string(&DurationText::from_ms(delivery.lease_ms)).expect("plain JSON");
    let none = no_ack || delivery.entries.is_empty();
    let token = if none { String::new() } else { delivery.delivery.0.to_string() };
    out.push_str(&format!("\"delivery_token\":\"{token}\",\"lease\":{lease},\"events\":["));
    for (n, delivered) in delivery.entries.iter().enumerate() {
        let comma = if n == 0 { "" } else { "," };
        out.push_str(&format!(
            "{comma}{{\"id\":\"{}\",\"deliveries\":{},\"failures\":{},\"event\":",
            delivered.entry.id, delivered.deliveries, delivered.failures
        ));
        write_entry(&mut out, stream, &delivered.entry, shape);
        out.push('}');
    }
    out.push(']');
    out
}

async fn acknowledge(
    State(app): State<App>,
    scope: Scope,
    _: Query<NoParameters>,
    Json(form): Json<AckForm>,
) -> Answer {
    let (stream, group) = (scope.stream(Permission::Consume)?, scope.group()?);
    let holder = holder(&scope, &stream, form.delivery_token, form.consumer)?;
    if form.publish.len() > PUBLISHES_MAX {
        return Err(Error::invalid("publish", format!("at most {PUBLISHES_MAX} publishes")).into());
    }
    let publish = form.publish.into_iter().map(|p| p.publish(&scope.caller)).collect::<Result<Vec<Publish>>>()?;
    let streams: Vec<StreamName> = publish.iter().map(|p| p.stream.clone()).collect();
    let request = Acknowledge { stream, group, ids: ranges(form.ids)?, holder, publish };
    let settled = app.engine.acknowledge(request).await?;
    Ok(axum::Json(SettledAnswer::new(settled, &streams)).into_response())
}

async fn nack(State(app): State<App>, scope: Scope, _: Query<NoParameters>, Json(form): Json<NackForm>) -> Answer {
    let (stream, group) = (scope.stream(Permission::Consume)?, scope.group()?);
    let holder = holder(&scope, &stream, form.delivery_token, form.consumer)?;
    let action = action(form.action.unwrap_or(ActionForm::Retry { delay: None }))?;
    let settled = app.engine.nack(Nack { stream, group, ids: ranges(form.ids)?, holder, action }).await?;
    Ok(axum::Json(SettledAnswer::new(settled, &[])).into_response())
}

async fn extend(State(app): State<App>, scope: Scope, _: Query<NoParameters>, Json(form): Json<ExtendForm>) -> Answer {
    let (stream, group) = (scope.stream(Permission::Consume)?, scope.group()?);
    let holder = holder(&scope, &stream, form.delivery_token, form.consumer)?;
    let lease = within("lease", form.lease, ACK_WAIT_MAX)?;
    let settled = app.engine.extend(Extend { stream, group, ids: ranges(form.ids)?, holder, lease }).await?;
    Ok(axum::Json(SettledAnswer::new(settled, &[])).into_response())
}

fn action(form: ActionForm) -> Result<NackAction> {
    Ok(match form {
        ActionForm::Retry { delay } => NackAction::Retry { delay: within("action.retry.delay", delay, ACK_WAIT_MAX)? },
        ActionForm::DeadLetter { reason } => NackAction::DeadLetter { reason },
        ActionForm::Skip {} => NackAction::Skip,
        ActionForm::HandBack {} => NackAction::HandBack,
    })
}

/// On whose behalf a caller settles. Speaking for whoever holds the entries is for administrators.
fn holder(scope: &Scope, stream: &StreamName, token: Option<String>, consumer: Option<String>) -> Result<Holder> {
    match (token, consumer) {
        (Some(_), Some(_)) => Err(Error::invalid("consumer", "does not go with delivery_token")),
        (Some(token), None) => match token.parse() {
            Ok(number) => Ok(Holder::Delivery(DeliveryNumber(number))),
            Err(_) => Err(Error::invalid("delivery_token", "is not one that this server gave")),
        },
        (None, Some(consumer)) => Ok(Holder::Consumer(ConsumerName::parse(&consumer)?)),
        (None, None) => {
            scope.caller.may(Permission::Admin, stream.as_str())?;
            Ok(Holder::Anyone)
        }
    }
}

fn ranges(ids: Vec<IdRangeText>) -> Result<Vec<IdRange>> {
    if ids.is_empty() || ids.len() > IDS_PER_REQUEST_MAX {
        return Err(Error::invalid("ids", format!("from 1 to {IDS_PER_REQUEST_MAX} ids or ranges are needed")));
    }
    Ok(ids.into_iter().map(|range| range.0).collect())
}

fn within(field: &str, asked: Option<DurationText>, max: Duration) -> Result<Option<Duration>> {
    match asked {
        Some(asked) if asked.0 > max => Err(Error::invalid(field, format!("at most {} s", max.as_secs()))),
        asked => Ok(asked.map(|a| a.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_told_apart() {
        let of = |json: &str| action(serde_json::from_str(json).expect("a form")).expect("good");
        assert_eq!(of(r#"{"retry":{"delay":"5s"}}"#), NackAction::Retry { delay: Some(Duration::from_secs(5)) });
        assert_eq!(of(r#"{"retry":{}}"#), NackAction::Retry { delay: None });
        assert_eq!(of(r#"{"dead_letter":{"reason":"x"}}"#), NackAction::DeadLetter { reason: "x".into() });
        assert_eq!(of(r#"{"skip":{}}"#), NackAction::Skip);
        assert_eq!(of(r#"{"hand_back":{}}"#), NackAction::HandBack);
        for bad in [r#"{"retry":{"after":"5s"}}"#, r#"{"skip":{},"hand_back":{}}"#, r#"{"drop":{}}"#, r#"{}"#] {
            serde_json::from_str::<ActionForm>(bad).expect_err(bad);
        }
        action(ActionForm::Retry { delay: Some(DurationText(ACK_WAIT_MAX * 2)) }).expect_err("too long");
    }
}
