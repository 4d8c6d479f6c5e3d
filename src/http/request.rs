//! What every handler takes a request apart with: path, query, headers and body, each refused precisely where it is
//! not what it has to be. Bodies are capped in size and time; unknown query parameters and members are errors.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::App;
use super::envelope::check_text;
use super::problem::{Answer, Failure};
use super::text::decode_error;
use crate::access::{Caller, Permission};
use crate::error::{Error, Reason, Result};
use crate::types::{ConsumerName, EntryId, GroupName, StreamName};

/// Who asks, and the names in the path.
pub(super) struct Scope {
    pub(super) caller: Caller,
    names: Vec<(String, String)>,
}

impl FromRequestParts<App> for Scope {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Answer<Self> {
        let params = RawPathParams::from_request_parts(parts, app).await;
        let params = params.map_err(|_| Error::invalid("path", "is not percent-encoded UTF-8"))?;
        let names = params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        // Routes that are open to everyone have no caller; they grant nothing.
        let caller =
            parts.extensions.get::<Caller>().cloned().ok_or_else(|| Error::internal("route without caller"))?;
        Ok(Self { caller, names })
    }
}

impl Scope {
    /// The stream of the path, if the caller may do that there.
    pub(super) fn stream(&self, permission: Permission) -> Result<StreamName> {
        let name = self.part("stream");
        self.caller.may(permission, name)?;
        StreamName::parse(name)
    }

    /// The group of the path.
    pub(super) fn group(&self) -> Result<GroupName> {
        GroupName::parse(self.part("group"))
    }

    /// The consumer of the path.
    pub(super) fn consumer(&self) -> Result<ConsumerName> {
        ConsumerName::parse(self.part("consumer"))
    }

    /// The entry id of the path.
    pub(super) fn id(&self) -> Result<EntryId> {
        EntryId::parse(self.part("id"))
    }

    fn part(&self, name: &str) -> &str {
        self.names.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }
}

/// Query parameters; unknown and repeated ones are refused.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Answer<Self> {
        match axum::extract::Query::<T>::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => {
                let text = rejection.body_text();
                let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
                Err(decode_error("query", text).into())
            }
        }
    }
}

/// No query parameters at all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoParameters {}

/// A request's body as JSON; an empty one counts as `{}`.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &App) -> Answer<Self> {
        let (parts, body) = request.into_parts();
        match media_type(&parts.headers)? {
            None => {}
            Some(kind) if kind == "application/json" || kind == "application/merge-patch+json" => {}
            Some(kind) => return Err(Failure::media_type(&kind, "application/json")),
        }
        let bytes = read_body(app, &parts.headers, body, Reason::BatchTooLarge).await?;
        let bytes = if bytes.trim_ascii().is_empty() { Bytes::from_static(b"{}") } else { bytes };
        let text = std::str::from_utf8(&bytes).map_err(|_| Error::invalid("body", "is not UTF-8"))?;
        check_text(text).map_err(|e| Error::invalid("body", e.message()))?;
        // A member may be kept as it stands, which works on text that outlives the reading only.
        Ok(Self(serde_json::from_str(text).map_err(|e| decode_error("body", &e.to_string()))?))
    }
}

/// Reads a body up to the cap; beyond it the answer is 413 with this reason.
pub(super) async fn read_body(app: &App, headers: &HeaderMap, body: Body, too_large: Reason) -> Answer<Bytes> {
    let max = app.options.body_bytes_max;
    let too_large =
        || Failure::from(Error::new(too_large, format!("the body is larger than {max} bytes")).with("max", max));
    if headers.get(CONTENT_ENCODING).is_some_and(|e| e != "identity") {
        let error = Error::invalid("content-encoding", "bodies are taken as they are only");
        return Err(Failure::with_status(error, StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    let announced = headers.get(CONTENT_LENGTH).and_then(|l| l.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > max) {
        return Err(too_large());
    }
    match tokio::time::timeout(app.options.body_wait_max, Limited::new(body, max).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(e)) if e.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(e)) => Err(match refusal(&*e) {
            // The connection's bound on time may be the first to end.
            Some(error) if error.reason() == Reason::InvalidArgument => body_timeout(app.options.body_wait_max),
            Some(error) => error.into(),
            None => Error::invalid("body", "ended before it was whole").into(),
        }),
        Err(_) => Err(body_timeout(app.options.body_wait_max)),
    }
}

/// Why the server itself ended a body.
fn refusal(error: &(dyn std::error::Error + 'static)) -> Option<Error> {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.find_map(|error| error.downcast_ref::<Error>().cloned())
}

fn body_timeout(after: Duration) -> Failure {
    let error = Error::invalid("body", format!("was not whole after {} ms", after.as_millis()));
    Failure::with_status(error, StatusCode::REQUEST_TIMEOUT)
}

/// The media type of the body, in lower case and without parameters. Only UTF-8 is taken as a charset.
pub(super) fn media_type(headers: &HeaderMap) -> Answer<Option<String>> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(None) };
    let value = value.to_str().map_err(|_| Error::invalid("content-type", "is not ASCII"))?;
    let (essence, parameters) = value.split_once(';').unwrap_or((value, ""));
    for parameter in parameters.split(';') {
        let (name, charset) = parameter.split_once('=').unwrap_or((parameter, ""));
        let charset = charset.trim().trim_matches('"');
        if name.trim().eq_ignore_ascii_case("charset") && !charset.eq_ignore_ascii_case("utf-8") {
            return Err(Failure::media_type(value, "charset utf-8"));
        }
    }
    Ok(Some(essence.trim().to_ascii_lowercase()))
}

/// How a reader wants entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Objects as they were sent.
    Native,
    /// CloudEvents.
    CloudEvents,
}

impl Shape {
    /// What the `Accept` header asks for.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let asked = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
        let mut kinds = asked.map(|kind| kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
        if kinds.any(|kind| kind == "application/cloudevents+json" || kind == "application/cloudevents-batch+json") {
            return Self::CloudEvents;
        }
        Self::Native
    }
}

/// A number of things asked for, within bounds.
pub(super) fn bounded(field: &str, asked: Option<usize>, default: usize, max: usize) -> Result<usize> {
    match asked.unwrap_or(default) {
        n if (1..=max).contains(&n) => Ok(n),
        n => Err(Error::invalid(field, format!("is {n}, must be from 1 to {max}")).with("max", max)),
    }
}

/// Refuses a filter expression as long as there are none.
pub(super) fn no_filter(filter: Option<&str>) -> Result<()> {
    match filter {
        None | Some("") => Ok(()),
        Some(_) => Err(Error::new(Reason::Unsupported, "filter: expressions are not supported yet")
            .violation("filter", "expressions are not supported yet")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: axum::http::HeaderName, value: &'static str) -> HeaderMap {
        [(name, value.parse().expect("a header value"))].into_iter().collect()
    }

    #[test]
    fn media_types_are_compared_without_parameters() {
        let of = |value| media_type(&headers(CONTENT_TYPE, value));
        assert_eq!(of("Application/JSON; charset=UTF-8").expect("good").as_deref(), Some("application/json"));
        assert_eq!(media_type(&HeaderMap::new()).expect("good"), None);
        of("application/json; charset=latin1").expect_err("another charset");
    }

    #[test]
    fn accept_picks_the_shape() {
        assert_eq!(Shape::of(&headers(ACCEPT, "text/html, application/cloudevents+json;q=0.9")), Shape::CloudEvents);
        assert_eq!(Shape::of(&headers(ACCEPT, "application/json")), Shape::Native);
    }
}
