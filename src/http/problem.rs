//! How an [`Error`] looks over HTTP: RFC 9457 `application/problem+json` with the same `reason` as everywhere.
//!
//! The one place that knows which status a reason has. Nothing here looks at messages.

use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

use crate::error::{Error, Reason};

/// Media type of an error.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The status of a reason.
pub const fn status(reason: Reason) -> StatusCode {
    match reason {
        Reason::StreamNotFound | Reason::GroupNotFound | Reason::ConsumerNotFound | Reason::SessionNotFound => {
            StatusCode::NOT_FOUND
        }
        Reason::StreamExists
        | Reason::GroupExists
        | Reason::IdNotGreater
        | Reason::IdsExhausted
        | Reason::NotHeld
        | Reason::ProducerSequenceOld => StatusCode::CONFLICT,
        Reason::IdConflict => StatusCode::PRECONDITION_FAILED,
        Reason::InvalidName | Reason::InvalidId | Reason::InvalidArgument | Reason::InvalidEvent => {
            StatusCode::BAD_REQUEST
        }
        Reason::EventTooLarge | Reason::BatchTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Reason::DuplicateMismatch => StatusCode::UNPROCESSABLE_ENTITY,
        Reason::IdTrimmed => StatusCode::GONE,
        Reason::Overloaded | Reason::LimitReached => StatusCode::TOO_MANY_REQUESTS,
        Reason::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        Reason::StorageFailed | Reason::Draining => StatusCode::SERVICE_UNAVAILABLE,
        Reason::Unsupported => StatusCode::NOT_IMPLEMENTED,
        Reason::Unauthenticated => StatusCode::UNAUTHORIZED,
        Reason::PermissionDenied => StatusCode::FORBIDDEN,
        Reason::Corrupt | Reason::DataDirectory | Reason::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// An error on its way out, with its status.
#[derive(Debug)]
pub struct Failure {
    error: Error,
    status: StatusCode,
    allow: Option<HeaderValue>,
}

/// Shorthand of the handlers.
pub type Answer<T = Response> = Result<T, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { status: status(error.reason()), error, allow: None }
    }
}

impl Failure {
    /// The same error under a status that says more than its reason does (408, 415 …).
    pub fn with_status(error: Error, status: StatusCode) -> Self {
        Self { error, status, allow: None }
    }

    /// There is nothing at that path.
    pub fn no_such_path(path: &str) -> Self {
        let path: String = path.chars().take(200).collect();
        Self::with_status(Error::new(Reason::Unsupported, format!("nothing is at {path}")), StatusCode::NOT_FOUND)
    }

    /// The path is there, the method is not.
    pub fn no_such_method(method: &str, allow: Option<HeaderValue>) -> Self {
        let error = Error::new(Reason::Unsupported, format!("this path does not take {method}"));
        Self { allow, ..Self::with_status(error, StatusCode::METHOD_NOT_ALLOWED) }
    }

    /// The request's body is of a kind that is not taken here.
    pub fn media_type(found: &str, taken: &str) -> Self {
        let found: String = found.chars().take(200).collect();
        let error = Error::invalid("content-type", format!("{found:?} is not taken here, but {taken}"));
        Self::with_status(error, StatusCode::UNSUPPORTED_MEDIA_TYPE)
    }

    /// The body of the answer.
    pub fn problem(&self) -> Problem {
        let error = &self.error;
        let reason = error.reason().name();
        Problem {
            r#type: format!("urn:synapse:reason:{reason}"),
            title: reason.to_lowercase().replace('_', " "),
            status: self.status.as_u16(),
            detail: error.message().to_owned(),
            reason: reason.to_owned(),
            details: error.details().iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            violations: error
                .violations()
                .iter()
                .map(|(field, description)| Violation { field: field.clone(), description: description.clone() })
                .collect(),
            retry_after_ms: error.retry_delay().map(|d| d.as_millis() as u64),
        }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(delay) = self.error.retry_delay() {
            // The header knows whole seconds only; the body has the milliseconds.
            headers.insert(RETRY_AFTER, HeaderValue::from(delay.as_millis().div_ceil(1000).max(1) as u64));
        } else if self.status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(RETRY_AFTER, HeaderValue::from(1u64));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"synapse\""));
        }
        if let Some(allow) = &self.allow {
            headers.insert(ALLOW, allow.clone());
        }
        headers
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let problem = self.problem();
        if self.status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(reason = problem.reason, detail = problem.detail, "request failed");
        }
        let body = serde_json::to_vec(&problem).expect("a problem is plain JSON");
        (self.status, self.headers(), body).into_response()
    }
}

/// An error as JSON (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// `urn:synapse:reason:` and the reason.
    pub r#type: String,
    /// The reason in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong this time, for a person.
    pub detail: String,
    /// Stable name of what went wrong, `UPPER_SNAKE_CASE`, for a program.
    pub reason: String,
    /// Details as data: which stream, what was expected, what the limit is.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
    /// What in the request is at fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub violations: Vec<Violation>,
    /// When trying again makes sense, in milliseconds from now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// One field of a request that is at fault.
#[derive(Debug, Serialize, ToSchema)]
pub struct Violation {
    /// The field.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn reasons_have_their_statuses() {
        for (reason, want) in [
            (Reason::StreamNotFound, 404),
            (Reason::GroupExists, 409),
            (Reason::IdConflict, 412),
            (Reason::InvalidEvent, 400),
            (Reason::EventTooLarge, 413),
            (Reason::BatchTooLarge, 413),
            (Reason::DuplicateMismatch, 422),
            (Reason::Overloaded, 429),
            (Reason::StorageFull, 507),
            (Reason::StorageFailed, 503),
            (Reason::Draining, 503),
            (Reason::Unsupported, 501),
            (Reason::Unauthenticated, 401),
            (Reason::PermissionDenied, 403),
            (Reason::IdTrimmed, 410),
        ] {
            assert_eq!(status(reason).as_u16(), want, "{}", reason.name());
        }
    }

    #[test]
    fn a_problem_tells_everything() {
        let error = Error::invalid("count", "from 1 to 10").with("max", 10).retry_after(Duration::from_millis(50));
        let response = Failure::from(error).into_response();
        assert_eq!(response.headers()[CONTENT_TYPE], PROBLEM_JSON);
        assert_eq!(response.headers()[RETRY_AFTER], "1", "rounded up to whole seconds");

        let error = Error::invalid("count", "from 1 to 10").with("max", 10).retry_after(Duration::from_millis(50));
        let json = serde_json::to_value(Failure::from(error).problem()).expect("plain JSON");
        assert_eq!(
            json,
            serde_json::json!({
                "type": "urn:synapse:reason:INVALID_ARGUMENT",
                "title": "invalid argument",
                "status": 400,
                "detail": "count: from 1 to 10",
                "reason": "INVALID_ARGUMENT",
                "details": {"max": "10"},
                "violations": [{"field": "count", "description": "from 1 to 10"}],
                "retry_after_ms": 50,
            })
        );
    }
}
