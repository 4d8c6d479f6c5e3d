//! What went wrong, as a caller can act on it: of which kind, for which reason, and whether trying again makes sense.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::error::{Reason, chain};
use crate::proto::v1;

/// Shorthand of the client.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// On which side, and at which point, something failed. It says what is known of the effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The server refused the request. It changed nothing.
    Refused,
    /// No connection could be made. The request was not sent.
    Unreachable,
    /// The connection ended before the answer came. Whether the request took effect is not known.
    Lost,
    /// No answer came in time. Whether the request took effect is not known.
    TimedOut,
    /// The client was used or set up wrongly. Nothing was sent.
    Usage,
    /// The publisher or consumer is closed. Nothing was sent.
    Closed,
    /// The consumer's session no longer holds the entry: its lease ran out, or the session was lost. The
    /// settlement had no effect; the entry is, or was, delivered again.
    NotHeld,
    /// The server's answer makes no sense to this client.
    Protocol,
}

/// A field of the request that is at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, as `events[3].type`.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

/// An error of the client, or a refusal of the server.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    code: Code,
    message: String,
    reason: String,
    details: BTreeMap<String, String>,
    violations: Vec<Violation>,
    retry_delay: Option<Duration>,
}

impl Error {
    pub(super) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let code = match kind {
            ErrorKind::Unreachable | ErrorKind::Lost => Code::Unavailable,
            ErrorKind::TimedOut => Code::DeadlineExceeded,
            ErrorKind::Usage => Code::InvalidArgument,
            ErrorKind::Closed => Code::Cancelled,
            ErrorKind::NotHeld => Code::FailedPrecondition,
            ErrorKind::Refused | ErrorKind::Protocol => Code::Internal,
        };
        Self(Box::new(Inner {
            kind,
            code,
            message: message.into(),
            reason: String::new(),
            details: BTreeMap::new(),
            violations: Vec::new(),
            retry_delay: None,
        }))
    }

    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    pub(super) fn protocol(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Protocol, message)
    }

    /// The same error with another kind: what became of the request is known otherwise.
    pub(super) fn of_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Says more before the message.
    pub(super) fn context(mut self, what: impl fmt::Display) -> Self {
        self.0.message = format!("{what}: {}", self.0.message);
        self
    }

    /// The error of what was refused only because it rode with something else: it can be tried again at once.
    pub(super) fn of_another(mut self) -> Self {
        self.0.retry_delay.get_or_insert(Duration::ZERO);
        self.context("not published, since another event of its request was refused")
    }

    /// On which side, and at which point, it failed.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The server's reason. Unset for errors of the client's side, and for reasons that this client does not know:
    /// see [`Error::reason_name`].
    pub fn reason(&self) -> Option<Reason> {
        Reason::from_name(&self.0.reason)
    }

    /// The server's reason by its stable name, as `STREAM_NOT_FOUND`; empty for errors of the client's side.
    pub fn reason_name(&self) -> &str {
        &self.0.reason
    }

    /// The status code, as gRPC has it.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The text for a person.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Details as name and value, as `expected` and `actual` of an `ID_CONFLICT`.
    pub fn details(&self) -> &BTreeMap<String, String> {
        &self.0.details
    }

    /// Fields of the request at fault.
    pub fn violations(&self) -> &[Violation] {
        &self.0.violations
    }

    /// When the server says that trying again makes sense.
    pub fn retry_delay(&self) -> Option<Duration> {
        self.0.retry_delay
    }

    /// Whether the same request can succeed later. It says nothing of the effect: of [`ErrorKind::Lost`] and
    /// [`ErrorKind::TimedOut`] a request that is not idempotent may take effect twice when sent again.
    pub fn is_retryable(&self) -> bool {
        match self.0.kind {
            ErrorKind::Unreachable | ErrorKind::Lost | ErrorKind::TimedOut => true,
            ErrorKind::Refused => {
                self.0.retry_delay.is_some() || matches!(self.0.code, Code::Unavailable | Code::ResourceExhausted)
            }
            ErrorKind::Usage | ErrorKind::Closed | ErrorKind::NotHeld | ErrorKind::Protocol => false,
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let Some(info) = details.error_info() else { return of_transport(&status) };
        let violation =
            |v: &tonic_types::FieldViolation| Violation { field: v.field.clone(), description: v.description.clone() };
        Self(Box::new(Inner {
            kind: ErrorKind::Refused,
            code: status.code(),
            message: status.message().into(),
            reason: info.reason.clone(),
            details: info.metadata.clone().into_iter().collect(),
            violations: details.bad_request().map_or(&[][..], |b| &b.field_violations).iter().map(violation).collect(),
            retry_delay: details.retry_info().and_then(|info| info.retry_delay),
        }))
    }
}

impl From<v1::Error> for Error {
    fn from(error: v1::Error) -> Self {
        let violation = |v: v1::FieldViolation| Violation { field: v.field, description: v.description };
        Self(Box::new(Inner {
            kind: ErrorKind::Refused,
            code: Code::from_i32(error.code),
            message: error.message,
            reason: error.reason,
            details: error.metadata,
            violations: error.violations.into_iter().map(violation).collect(),
            retry_delay: error.retry_delay.and_then(|delay| delay.try_into().ok()),
        }))
    }
}

/// A status that no server of ours made: the transport's own, or that of something in between.
fn of_transport(status: &Status) -> Error {
    let kind = match status.code() {
        _ if is_connect(status) => ErrorKind::Unreachable,
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::Aborted => ErrorKind::Lost,
        Code::DeadlineExceeded => ErrorKind::TimedOut,
        _ => ErrorKind::Refused,
    };
    let mut error = Error::new(kind, chain(status.message(), std::error::Error::source(status)));
    error.0.code = status.code();
    error
}

fn is_connect(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.reason.is_empty() {
            write!(f, "{}: ", self.0.reason)?;
        }
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {:?}: {self} {:?} {:?}", self.0.kind, self.0.code, self.0.details, self.0.violations)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn a_refusal_is_read_back() {
        let mut details = ErrorDetails::new();
        details.set_error_info("STORAGE_FULL", "synapse.dev", [("room".to_owned(), "0".to_owned())]);
        details.set_retry_info(Some(Duration::from_secs(1)));
        details.add_bad_request_violation("events[0]", "too large");
        let error = Error::from(Status::with_error_details(Code::Unavailable, "no room", details));
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Refused, Some(Reason::StorageFull)));
        assert_eq!(error.to_string(), "STORAGE_FULL: no room");
        assert_eq!(error.details()["room"], "0");
        assert_eq!(error.violations()[0].field, "events[0]");
        assert_eq!(error.retry_delay(), Some(Duration::from_secs(1)));
        assert!(error.is_retryable());
    }

    #[test]
    fn what_no_server_of_ours_said_is_the_transport() {
        assert_eq!(Error::from(Status::unavailable("gone")).kind(), ErrorKind::Lost);
        assert_eq!(Error::from(Status::deadline_exceeded("late")).kind(), ErrorKind::TimedOut);
        let other = Error::from(Status::unimplemented("no such method"));
        assert_eq!((other.kind(), other.reason(), other.is_retryable()), (ErrorKind::Refused, None, false));
    }

    #[test]
    fn unknown_reasons_keep_their_name() {
        let error = Error::from(v1::Error { code: 9, reason: "OF_LATER".into(), ..Default::default() });
        assert_eq!((error.reason(), error.reason_name(), error.code()), (None, "OF_LATER", Code::FailedPrecondition));
    }
}
