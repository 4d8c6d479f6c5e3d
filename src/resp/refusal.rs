//! Why a command was refused, in Redis' own words where Redis has some; else the engine's reason and message.

use crate::error::{Error, Reason};

/// The text of an error reply: a code, a blank, a message, all on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) String);

impl Refusal {
    /// A text of Redis, code included.
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into().replace(['\r', '\n'], " "))
    }
    pub(super) fn syntax() -> Self {
        Self::new("ERR syntax error")
    }
    pub(super) fn not_an_integer() -> Self {
        Self::new("ERR value is not an integer or out of range")
    }
    pub(super) fn arity(command: &str) -> Self {
        Self::new(format!("ERR wrong number of arguments for '{command}' command"))
    }
    pub(super) fn invalid_id() -> Self {
        Self::new("ERR Invalid stream ID specified as stream command argument")
    }
    /// No group of that name on a key that there is.
    pub(super) fn no_such_group(key: &[u8], group: &[u8]) -> Self {
        let (key, group) = (String::from_utf8_lossy(key), String::from_utf8_lossy(group));
        Self::new(format!("NOGROUP No such consumer group '{group}' for key name '{key}'"))
    }
    /// No key, or no group of that name on it.
    pub(super) fn no_group(key: &[u8], group: &[u8], context: &str) -> Self {
        let (key, group) = (String::from_utf8_lossy(key), String::from_utf8_lossy(group));
        Self::new(format!("NOGROUP No such key '{key}' or consumer group '{group}'{context}"))
    }
}

/// Why a command failed, where what is said of an error of the engine depends on the command.
pub(super) enum Failed {
    Refused(Refusal),
    Engine(Error),
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::new(match error.reason() {
            Reason::StreamNotFound => "ERR no such key".into(),
            Reason::GroupExists => "BUSYGROUP Consumer Group name already exists".into(),
            Reason::IdNotGreater => {
                "ERR The ID specified in XADD is equal or smaller than the target stream top item".into()
            }
            Reason::IdsExhausted => {
                "ERR The stream has exhausted the last possible ID, unable to add more items".into()
            }
            Reason::Unauthenticated => "WRONGPASS invalid username-password pair or user is disabled.".into(),
            Reason::PermissionDenied => format!("NOPERM {}", error.message()),
            // What clients know of Redis for what passes by itself, so that they try again.
            Reason::Overloaded | Reason::Draining => format!("LOADING {}: {}", error.reason().name(), error.message()),
            Reason::StorageFull => format!("OOM {}: {}", error.reason().name(), error.message()),
            Reason::StorageFailed => format!("MISCONF {}: {}", error.reason().name(), error.message()),
            other => format!("ERR {}: {}", other.name(), error.message()),
        })
    }
}
