//! The one error type: a reason that a caller can act on, a message for a person, and details as data.
//!
//! Each front end maps [`Reason`] in one file of its own; nothing matches on messages.

use std::fmt;
use std::time::Duration;

/// What went wrong, as a stable name that every surface shows alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// No such stream.
    StreamNotFound,
    /// No such group.
    GroupNotFound,
    /// No such consumer.
    ConsumerNotFound,
    /// The session has ended, or was never opened here.
    SessionNotFound,
    /// A stream of that name exists.
    StreamExists,
    /// A group of that name exists.
    GroupExists,
    /// An `expected` condition does not hold.
    IdConflict,
    /// A name is empty, too long, or has characters that it may not have.
    InvalidName,
    /// An id does not parse, or a range runs backwards.
    InvalidId,
    /// An explicit id is not greater than the stream's last id.
    IdNotGreater,
    /// The stream has used its last id.
    IdsExhausted,
    /// Malformed or contradictory request.
    InvalidArgument,
    /// An event is not in its wire form, or one of its fields breaks a rule.
    InvalidEvent,
    /// A single event is larger than allowed.
    EventTooLarge,
    /// A request is larger than allowed, in events or bytes.
    BatchTooLarge,
    /// An entry that an atomic acknowledge-and-publish names is not held by the caller.
    NotHeld,
    /// The producer's sequence is older than what is remembered.
    ProducerSequenceOld,
    /// A deduplication key came again with other content.
    DuplicateMismatch,
    /// A strict read starts below the trim point.
    IdTrimmed,
    /// A queue is full; try again.
    Overloaded,
    /// Too many of something: streams, groups, consumers, waiters, connections.
    LimitReached,
    /// No room on the disk; publishing works again when there is.
    StorageFull,
    /// A write or sync failed; the engine serves reads only, until it is started anew.
    StorageFailed,
    /// Stored bytes do not match their checksum; they are not served.
    Corrupt,
    /// The data directory is in use, from a newer version, or not ours.
    DataDirectory,
    /// The engine is shutting down.
    Draining,
    /// Not supported (yet) by this server.
    Unsupported,
    /// No or wrong credentials.
    Unauthenticated,
    /// The caller may not do that.
    PermissionDenied,
    /// A bug of ours.
    Internal,
}

impl Reason {
    /// Every reason.
    pub const ALL: &[Self] = &[
        Self::StreamNotFound,
        Self::GroupNotFound,
        Self::ConsumerNotFound,
        Self::SessionNotFound,
        Self::StreamExists,
        Self::GroupExists,
        Self::IdConflict,
        Self::InvalidName,
        Self::InvalidId,
        Self::IdNotGreater,
        Self::IdsExhausted,
        Self::InvalidArgument,
        Self::InvalidEvent,
        Self::EventTooLarge,
        Self::BatchTooLarge,
        Self::NotHeld,
        Self::ProducerSequenceOld,
        Self::DuplicateMismatch,
        Self::IdTrimmed,
        Self::Overloaded,
        Self::LimitReached,
        Self::StorageFull,
        Self::StorageFailed,
        Self::Corrupt,
        Self::DataDirectory,
        Self::Draining,
        Self::Unsupported,
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::Internal,
    ];

    /// The reason of that stable name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.name() == name)
    }

    /// The stable name, `UPPER_SNAKE_CASE`, as it stands in gRPC's ErrorInfo and in problem+json.
    pub const fn name(self) -> &'static str {
        match self {
            Self::StreamNotFound => "STREAM_NOT_FOUND",
            Self::GroupNotFound => "GROUP_NOT_FOUND",
            Self::ConsumerNotFound => "CONSUMER_NOT_FOUND",
            Self::SessionNotFound => "SESSION_NOT_FOUND",
            Self::StreamExists => "STREAM_EXISTS",
            Self::GroupExists => "GROUP_EXISTS",
            Self::IdConflict => "ID_CONFLICT",
            Self::InvalidName => "INVALID_NAME",
            Self::InvalidId => "INVALID_ID",
            Self::IdNotGreater => "ID_NOT_GREATER",
            Self::IdsExhausted => "IDS_EXHAUSTED",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::InvalidEvent => "INVALID_EVENT",
            Self::EventTooLarge => "EVENT_TOO_LARGE",
            Self::BatchTooLarge => "BATCH_TOO_LARGE",
            Self::NotHeld => "NOT_HELD",
            Self::ProducerSequenceOld => "PRODUCER_SEQUENCE_OLD",
            Self::DuplicateMismatch => "DUPLICATE_MISMATCH",
            Self::IdTrimmed => "ID_TRIMMED",
            Self::Overloaded => "OVERLOADED",
            Self::LimitReached => "LIMIT_REACHED",
            Self::StorageFull => "STORAGE_FULL",
            Self::StorageFailed => "STORAGE_FAILED",
            Self::Corrupt => "CORRUPT",
            Self::DataDirectory => "DATA_DIRECTORY",
            Self::Draining => "DRAINING",
            Self::Unsupported => "UNSUPPORTED",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::Internal => "INTERNAL",
        }
    }
}

/// An error of the engine or of a front end.
///
/// Boxed inside, so that a `Result` of a small value stays small on the hot path.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    reason: Reason,
    message: String,
    details: Vec<(&'static str, String)>,
    /// Requests fields that are at fault, with what is wrong with each.
    violations: Vec<(String, String)>,
    retry_after: Option<Duration>,
}

/// Shorthand of the crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of this reason; the message is lower-case, without a full stop.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            reason,
            message: message.into(),
            details: Vec::new(),
            violations: Vec::new(),
            retry_after: None,
        }))
    }

    /// Adds a detail that a program can read.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.0.details.push((name, value.to_string()));
        self
    }

    /// Names a field of the request that is at fault.
    #[must_use]
    pub fn violation(mut self, field: impl Into<String>, description: impl Into<String>) -> Self {
        self.0.violations.push((field.into(), description.into()));
        self
    }

    /// Says when trying again makes sense.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }

    /// What went wrong.
    pub fn reason(&self) -> Reason {
        self.0.reason
    }
    /// The text for a person.
    pub fn message(&self) -> &str {
        &self.0.message
    }
    /// Details as name and value.
    pub fn details(&self) -> &[(&'static str, String)] {
        &self.0.details
    }
    /// Fields at fault with what is wrong with each.
    pub fn violations(&self) -> &[(String, String)] {
        &self.0.violations
    }
    /// When to try again, where that makes sense.
    pub fn retry_delay(&self) -> Option<Duration> {
        self.0.retry_after
    }
    /// The detail of that name.
    pub fn detail(&self, name: &str) -> Option<&str> {
        self.0.details.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str())
    }

    /// Malformed or contradictory request, naming the field.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        let (field, description) = (field.into(), description.into());
        Self::new(Reason::InvalidArgument, format!("{field}: {description}")).violation(field, description)
    }
    /// No such stream.
    pub fn stream_not_found(stream: impl fmt::Display) -> Self {
        Self::new(Reason::StreamNotFound, format!("no such stream: {stream}")).with("stream", stream)
    }
    /// No such group.
    pub fn group_not_found(stream: impl fmt::Display, group: impl fmt::Display) -> Self {
        Self::new(Reason::GroupNotFound, format!("stream {stream} has no group {group}"))
            .with("stream", stream)
            .with("group", group)
    }
    /// The engine is shutting down.
    pub fn draining() -> Self {
        Self::new(Reason::Draining, "the engine is shutting down").retry_after(Duration::from_secs(1))
    }
    /// A queue is full.
    pub fn overloaded(what: &str) -> Self {
        Self::new(Reason::Overloaded, format!("{what} is full")).retry_after(Duration::from_millis(50))
    }
    /// A bug of ours, said without hiding it.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Reason::Internal, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.reason.name(), self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} {:?}", self.0.details)
    }
}

impl std::error::Error for Error {}

/// A message of another library with what caused it, each once, for people.
pub(crate) fn chain(message: &str, mut source: Option<&(dyn std::error::Error + 'static)>) -> String {
    let mut text = message.to_owned();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_found_by_its_name() {
        // The last variant: what comes after it in the enum must be in the list, too.
        assert_eq!(Reason::ALL.len(), Reason::Internal as usize + 1);
        for reason in Reason::ALL {
            assert_eq!(Reason::from_name(reason.name()), Some(*reason));
        }
        assert_eq!(Reason::from_name("INTERNA"), None);
    }
}
