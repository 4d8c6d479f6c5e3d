//! Publishing: `POST /events/{stream}`. One request is one atomic publish, in whichever form its events come.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::envelope;
use super::problem::{Answer, Failure};
use super::request::{Query, Scope, media_type, read_body};
use super::routes::Route;
use super::settings::DurabilityName;
use super::text::IdText;
use crate::access::{Caller, Permission};
use crate::engine::{Expected, ProducerSequence, Publish, Published};
use crate::error::{Error, Reason, Result};
use crate::types::{EntryId, IdRequest, NewEntry, ProducerId, StreamName};

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const KINDS: [&str; 4] =
    ["application/json", "application/x-ndjson", "application/cloudevents+json", "application/cloudevents-batch+json"];
const KINDS_TEXT: &str = "application/json, application/x-ndjson, application/cloudevents+json, \
    application/cloudevents-batch+json, or any with ce- headers";

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::post("/events/{stream}", "publish", publish)
            .summary("Publish one event, an array, NDJSON or CloudEvents; all or none")
            .describe(
                "A JSON object is stored as sent, byte for byte; its type, id, source, time, subject and key are copied \
                 out of it. An array or NDJSON is several events. With `ce-` headers the body is the data of a \
                 CloudEvent. One request is atomic.",
            )
            .query::<Options>()
            .header("Idempotency-Key", "The same key with the same body is answered with the ids of the first time.")
            .bodies(&KINDS)
            .answers::<PublishedAnswer>(StatusCode::CREATED, "The events are durable; their ids."),
    ]
}

/// How to publish.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// What must hold of the stream: `exists`, `empty`, or its last id.
    expected: Option<String>,
    /// When to answer: `fsync` (survives power loss) or `os`; unset: the stream's or server's default.
    #[param(inline)]
    durability: Option<DurabilityName>,
    /// Whether to make the stream where it is missing; unset: the server's default.
    create_stream: Option<bool>,
    /// Deduplicate by the events' own ids, even where the stream's settings do not.
    dedup_by_event_id: bool,
    /// Who publishes, for deduplication by number.
    producer_id: Option<String>,
    /// The producer's number for this request.
    producer_sequence: Option<u64>,
    /// The id that the one event gets; it must be greater than the stream's last.
    #[param(inline)]
    exact_id: Option<IdText>,
}

/// Events to publish along with an acknowledgement.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PublishForm {
    /// Where to.
    stream: String,
    /// Objects, each kept as sent.
    #[schema(value_type = Vec<Object>)]
    events: Vec<Box<RawValue>>,
    /// What must hold of the stream: `exists`, `empty`, or its last id.
    #[serde(default)]
    expected: Option<String>,
    /// When to answer.
    #[serde(default)]
    durability: Option<DurabilityName>,
    /// Whether to make the stream where it is missing.
    #[serde(default)]
    create_stream: Option<bool>,
    /// Deduplicate by the events' own ids.
    #[serde(default)]
    dedup_by_event_id: bool,
}

impl PublishForm {
    /// The publish, if the caller may.
    pub(super) fn publish(self, caller: &Caller) -> Result<Publish> {
        caller.may(Permission::Publish, &self.stream)?;
        let entries = envelope::objects(self.events, source_of(caller))?;
        let options = Options {
            expected: self.expected,
            durability: self.durability,
            create_stream: self.create_stream,
            dedup_by_event_id: self.dedup_by_event_id,
            ..Options::default()
        };
        options.publish(StreamName::parse(&self.stream)?, entries)
    }
}

/// Answer to a publish.
#[derive(Serialize, ToSchema)]
pub(super) struct PublishedAnswer {
    /// Where the events are.
    stream: String,
    /// The id of each event, in order.
    ids: Vec<IdText>,
    /// Id of the first event.
    first_id: IdText,
    /// Id of the last event.
    last_id: IdText,
    /// Events of the request.
    count: u32,
    /// The whole request was a duplicate: nothing was appended, the ids are the original ones.
    duplicate: bool,
    /// Where some, but not all, events were duplicates by their own id: each event in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    results: Option<Vec<PublishResult>>,
}

/// One event of a request some of whose events were duplicates.
#[derive(Serialize, ToSchema)]
struct PublishResult {
    /// Its id, or that of the event it repeats.
    id: IdText,
    /// Whether it was a duplicate by its own id, so that it was not appended.
    duplicate: bool,
}

impl PublishedAnswer {
    pub(super) fn new(stream: String, published: &Published) -> Self {
        let result = |(id, duplicate): &(EntryId, bool)| PublishResult { id: IdText(*id), duplicate: *duplicate };
        Self {
            stream,
            ids: published.ids().into_iter().map(|(id, _)| IdText(id)).collect(),
            first_id: published.first.into(),
            last_id: published.last.into(),
            count: published.count,
            duplicate: published.duplicate,
            results: published.each.as_ref().map(|each| each.iter().map(result).collect()),
        }
    }
}

async fn publish(
    State(app): State<App>,
    scope: Scope,
    Query(options): Query<Options>,
    request: Request<Body>,
) -> Answer {
    let stream = scope.stream(Permission::Publish)?;
    let (parts, body) = request.into_parts();
    let entries = decode(&app, &parts.headers, body, source_of(&scope.caller)).await?;
    let mut publish = options.publish(stream, entries)?;
    if let Some(name) = idempotency(&parts.headers, &scope.caller)? {
        if publish.producer.is_some() {
            return Err(Error::invalid(IDEMPOTENCY_KEY, "does not go with producer_id").into());
        }
        publish.name = Some(name);
    }
    let stream = publish.stream.to_string();
    let published = app.engine.publish(publish).await?;
    Ok((StatusCode::CREATED, axum::Json(PublishedAnswer::new(stream, &published))).into_response())
}

impl Options {
    fn publish(self, stream: StreamName, entries: Vec<NewEntry>) -> Result<Publish> {
        let producer = match (self.producer_id, self.producer_sequence) {
            (None, None) => None,
            (Some(id), Some(sequence)) => Some(ProducerSequence { producer: ProducerId::parse(&id)?, sequence }),
            _ => return Err(Error::invalid("producer_id", "goes with producer_sequence, and the other way round")),
        };
        if self.exact_id.is_some() && entries.len() != 1 {
            return Err(Error::invalid("exact_id", "is for one event"));
        }
        Ok(Publish {
            ids: self.exact_id.map_or(IdRequest::Auto, |id| IdRequest::Exact(id.0)),
            expected: self.expected.as_deref().map(expected).transpose()?,
            producer,
            dedup_by_event_id: self.dedup_by_event_id,
            durability: self.durability.map(Into::into),
            create_stream: self.create_stream,
            ..Publish::new(stream, entries)
        })
    }
}

fn expected(text: &str) -> Result<Expected> {
    match text {
        "exists" => Ok(Expected::Exists),
        "empty" => Ok(Expected::Empty),
        id => EntryId::parse(id).map(Expected::LastId),
    }
}

/// The source of events that name none: the holder of the key, or this front end.
fn source_of(caller: &Caller) -> &str {
    caller.name().unwrap_or(envelope::SOURCE_DEFAULT)
}

/// The events of a body, by its content type.
async fn decode(app: &App, headers: &HeaderMap, body: Body, source: &str) -> Answer<Vec<NewEntry>> {
    let kind = media_type(headers)?;
    if headers.contains_key("ce-specversion") || headers.keys().any(|name| name.as_str().starts_with("ce-")) {
        let content_type = headers.get("content-type").and_then(|v| v.to_str().ok());
        let data = read_body(app, headers, body, Reason::EventTooLarge).await?;
        return Ok(vec![envelope::cloud_event_binary(headers, content_type, data)?]);
    }
    let decode: fn(&bytes::Bytes, &str) -> Result<Vec<NewEntry>> = match kind.as_deref() {
        None | Some("application/json") => envelope::single,
        Some("application/x-ndjson" | "application/ndjson" | "application/jsonl") => envelope::lines,
        Some("application/cloudevents+json") => |body, _| envelope::cloud_event(body).map(|event| vec![event]),
        Some("application/cloudevents-batch+json") => |body, _| envelope::cloud_event_batch(body),
        Some(other) => return Err(Failure::media_type(other, KINDS_TEXT)),
    };
    let body = read_body(app, headers, body, Reason::BatchTooLarge).await?;
    Ok(decode(&body, source)?)
}

/// The request's name by its idempotency key: the engine compares the contents of a request of that name with what it
/// remembers, and a key of one caller never meets that of another.
fn idempotency(headers: &HeaderMap, caller: &Caller) -> Result<Option<u128>> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    let key = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
    if values.next().is_some() || key.is_empty() || key.len() > 255 {
        return Err(Error::invalid(IDEMPOTENCY_KEY, "must be 1 to 255 visible ASCII characters, once"));
    }
    let mut digest = Sha256::new();
    digest.update(caller.name().unwrap_or_default().as_bytes());
    digest.update([0]);
    digest.update(key.as_bytes());
    Ok(digest.finalize().first_chunk().map(|half| u128::from_be_bytes(*half)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_key(key: &'static str) -> Result<Option<u128>> {
        let headers = [(IDEMPOTENCY_KEY.parse().expect("a name"), key.parse().expect("a value"))].into_iter().collect();
        idempotency(&headers, &Caller::ANYONE)
    }

    #[test]
    fn keys_become_names() {
        let one = with_key("abc").expect("good");
        assert_eq!(one, with_key("\"abc\"").expect("good"), "quotes are the header's syntax, not the key");
        assert_ne!(one, with_key("abd").expect("good"));
        assert!(one.is_some());
        with_key("").expect_err("empty");
        assert_eq!(idempotency(&HeaderMap::new(), &Caller::ANYONE).expect("none"), None);
    }

    #[test]
    fn contradictions_are_refused() {
        let stream = || StreamName::parse("s").expect("a name");
        let half = Options { producer_id: Some("p".into()), ..Options::default() };
        half.publish(stream(), Vec::new()).expect_err("no sequence");
        let exact = Options { exact_id: Some(IdText(EntryId::new(1, 0))), ..Options::default() };
        exact.publish(stream(), Vec::new()).expect_err("not one event");
        assert_eq!(expected("5-1").expect("an id"), Expected::LastId(EntryId::new(5, 1)));
        expected("never").expect_err("not a condition");
    }
}
