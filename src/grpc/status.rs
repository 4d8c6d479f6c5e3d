//! The one place where an error of the engine becomes a gRPC status.
//!
//! Every status carries `ErrorInfo` with the reason and its details; `BadRequest`, `RetryInfo` and `ResourceInfo` where
//! they fit. What goes into a status is bounded, since clients bound the headers that carry it.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::pb;
use crate::error::{Error, Reason};

/// The domain of every `ErrorInfo`.
pub(super) const DOMAIN: &str = "synapse.dev";
/// Violations that one status names at most.
const VIOLATIONS_MAX: usize = 16;
/// Longest text of a message, a description or a detail.
const TEXT_BYTES_MAX: usize = 512;
/// When to try again what was refused for want of room, unless the error says so itself.
const RETRY_DELAY_DEFAULT: Duration = Duration::from_secs(1);

/// The status code of a reason.
pub(super) fn code(reason: Reason) -> Code {
    match reason {
        Reason::StreamNotFound | Reason::GroupNotFound | Reason::ConsumerNotFound | Reason::SessionNotFound => {
            Code::NotFound
        }
        Reason::StreamExists | Reason::GroupExists => Code::AlreadyExists,
        Reason::InvalidName
        | Reason::InvalidId
        | Reason::InvalidArgument
        | Reason::InvalidEvent
        | Reason::EventTooLarge
        | Reason::BatchTooLarge => Code::InvalidArgument,
        Reason::IdConflict
        | Reason::NotHeld
        | Reason::IdNotGreater
        | Reason::IdsExhausted
        | Reason::ProducerSequenceOld
        | Reason::DuplicateMismatch
        | Reason::StorageFailed
        | Reason::DataDirectory => Code::FailedPrecondition,
        Reason::IdTrimmed => Code::OutOfRange,
        Reason::Overloaded | Reason::LimitReached => Code::ResourceExhausted,
        Reason::StorageFull | Reason::Draining => Code::Unavailable,
        Reason::Corrupt => Code::DataLoss,
        Reason::Unsupported => Code::Unimplemented,
        Reason::Unauthenticated => Code::Unauthenticated,
        Reason::PermissionDenied => Code::PermissionDenied,
        Reason::Internal => Code::Internal,
    }
}

/// The status of a request that is not the message it ought to be.
pub(super) fn malformed(error: &prost::DecodeError) -> Status {
    status(Error::new(Reason::InvalidArgument, format!("the request is malformed: {error}")))
}

/// The error as a status.
pub(super) fn status(error: Error) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(error.reason().name(), DOMAIN, metadata(&error).collect::<HashMap<_, _>>());
    for (field, description) in error.violations().iter().take(VIOLATIONS_MAX) {
        details.add_bad_request_violation(bounded(field), bounded(description));
    }
    if let Some(delay) = retry_delay(&error) {
        details.set_retry_info(Some(delay));
    }
    if let Some((kind, name)) = resource(&error) {
        details.set_resource_info(kind, bounded(name), "", "");
    }
    Status::with_error_details(code(error.reason()), bounded(error.message()), details)
}

/// The error as a message within a stream that goes on.
pub(super) fn message(error: &Error) -> pb::Error {
    pb::Error {
        code: code(error.reason()) as i32,
        message: bounded(error.message()),
        reason: error.reason().name().into(),
        metadata: metadata(error).collect(),
        violations: error
            .violations()
            .iter()
            .take(VIOLATIONS_MAX)
            .map(|(field, description)| pb::FieldViolation { field: bounded(field), description: bounded(description) })
            .collect(),
        retry_delay: retry_delay(error).map(super::convert::duration),
    }
}

/// A status as the transport makes it, with a reason where it has one: a message over the limit is a batch too large.
/// Statuses of ours have theirs already.
pub(super) fn with_reason(found: Status, message_bytes_max: usize) -> Status {
    if found.code() != Code::OutOfRange || !found.details().is_empty() {
        return found;
    }
    let message = format!("the message is too large, at most {message_bytes_max} bytes are read");
    status(Error::new(Reason::BatchTooLarge, message).with("max", message_bytes_max))
}

fn metadata(error: &Error) -> impl Iterator<Item = (String, String)> {
    error.details().iter().map(|(name, value)| ((*name).to_owned(), bounded(value)))
}

fn retry_delay(error: &Error) -> Option<Duration> {
    let by_default = matches!(error.reason(), Reason::Overloaded | Reason::StorageFull | Reason::Draining);
    error.retry_delay().or(by_default.then_some(RETRY_DELAY_DEFAULT))
}

/// Kind and name of what was not found or exists already.
fn resource(error: &Error) -> Option<(&'static str, &str)> {
    let kind = match error.reason() {
        Reason::StreamNotFound | Reason::StreamExists => "stream",
        Reason::GroupNotFound | Reason::GroupExists => "group",
        Reason::ConsumerNotFound => "consumer",
        Reason::SessionNotFound => "session",
        _ => return None,
    };
    Some((kind, error.detail(kind).unwrap_or_default()))
}

fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_carries_its_reason() {
        let status = status(Error::group_not_found("s", "g"));
        assert_eq!(status.code(), Code::NotFound);
        let details = status.get_error_details();
        let info = details.error_info().expect("always set");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("GROUP_NOT_FOUND", DOMAIN));
        assert_eq!(info.metadata.get("stream").map(String::as_str), Some("s"));
        let resource = details.resource_info().expect("set where something is missing");
        assert_eq!((resource.resource_type.as_str(), resource.resource_name.as_str()), ("group", "g"));
    }

    #[test]
    fn violations_and_retries_are_details() {
        let bad = status(Error::invalid("trim.keep", "must be one").violation("other", "x"));
        assert_eq!(bad.code(), Code::InvalidArgument);
        let details = bad.get_error_details();
        let violations = &details.bad_request().expect("set").field_violations;
        assert_eq!(violations.iter().map(|v| v.field.as_str()).collect::<Vec<_>>(), ["trim.keep", "other"]);

        let full = status(Error::new(Reason::StorageFull, "no room"));
        assert_eq!(full.code(), Code::Unavailable);
        assert!(full.get_error_details().retry_info().is_some());
    }

    #[test]
    fn long_texts_are_cut() {
        let status = status(Error::new(Reason::InvalidEvent, "ü".repeat(10_000)));
        assert!(status.message().len() <= TEXT_BYTES_MAX);
    }
}
