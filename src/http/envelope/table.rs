//! The table by which attributes are copied out of an object: for each attribute the members that may carry it,
//! the first one found winning.

use std::borrow::Cow;

use super::time::parse_any;
use crate::error::{Error, Reason, Result};
use crate::format::event::Timestamp;
use crate::limits::EVENT_TEXT_BYTES_MAX;

/// The members that the table knows, by attribute, in order of preference.
const NAMES: [&str; 11] =
    ["id", "event_id", "type", "event_type", "event", "source", "service", "timestamp", "time", "subject", "key"];

/// What an object has of the members that the table knows: the last value of each, where it is text or a number.
#[derive(Debug, Default)]
pub(super) struct Found<'a>([Option<Cow<'a, str>>; NAMES.len()]);

/// Attributes as the table takes them out of an object.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Copies<'a> {
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) r#type: Option<Cow<'a, str>>,
    pub(super) source: Option<Cow<'a, str>>,
    pub(super) time: Option<Timestamp>,
    pub(super) subject: Option<Cow<'a, str>>,
    pub(super) key: Option<Cow<'a, str>>,
}

impl<'a> Found<'a> {
    /// Whether the table cares for members of that name.
    pub(super) fn knows(name: &str) -> bool {
        NAMES.contains(&name)
    }

    /// Takes a member of the object; of two of one name the later one counts, as in most JSON readers.
    pub(super) fn put(&mut self, name: &str, value: Option<Cow<'a, str>>) {
        if let Some(place) = NAMES.iter().position(|known| *known == name) {
            self.0[place] = value.filter(|v| !v.is_empty());
        }
    }

    /// The copies. What an event is identified, typed and ordered by must be usable where it is there; a source or
    /// subject that breaks the rules of attributes, and a time that does not parse, are not copied.
    pub(super) fn copies(self) -> Result<Copies<'a>> {
        let [id, event_id, kind, event_type, event, source, service, timestamp, time, subject, key] = self.0;
        Ok(Copies {
            id: strict("id", id.or(event_id))?,
            r#type: strict("type", kind.or(event_type).or(event))?,
            source: source.filter(|s| usable(s)).or(service).filter(|s| usable(s)),
            time: timestamp.or(time).and_then(|t| parse_any(&t)),
            subject: subject.filter(|s| usable(s)),
            key: strict("key", key)?,
        })
    }
}

fn strict<'a>(attribute: &str, value: Option<Cow<'a, str>>) -> Result<Option<Cow<'a, str>>> {
    if let Some(text) = value.as_deref().filter(|t| !usable(t)) {
        let why = if text.len() > EVENT_TEXT_BYTES_MAX {
            format!("{} bytes, at most {EVENT_TEXT_BYTES_MAX} are allowed", text.len())
        } else {
            "may not contain control characters".to_owned()
        };
        return Err(Error::new(Reason::InvalidEvent, format!("{attribute}: {why}")).violation(attribute, why));
    }
    Ok(value)
}

/// Whether text may stand as an attribute of an event.
fn usable(text: &str) -> bool {
    text.len() <= EVENT_TEXT_BYTES_MAX && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copies(members: &[(&str, &'static str)]) -> Result<Copies<'static>> {
        let mut found = Found::default();
        for (name, value) in members {
            found.put(name, Some(Cow::Borrowed(*value)));
        }
        found.copies()
    }

    #[test]
    fn the_first_name_found_wins() {
        let all = copies(&[("event", "e"), ("event_type", "t"), ("service", "s"), ("event_id", "i")]).expect("good");
        assert_eq!(all.r#type.as_deref(), Some("t"));
        assert_eq!(all.source.as_deref(), Some("s"));
        assert_eq!(all.id.as_deref(), Some("i"));
        let all =
            copies(&[("service", "s"), ("source", "o"), ("id", "1"), ("event_id", "2"), ("type", "")]).expect("good");
        assert_eq!((all.source.as_deref(), all.id.as_deref(), all.r#type.as_deref()), (Some("o"), Some("1"), None));
    }

    #[test]
    fn what_cannot_be_copied_is_left_out_or_refused() {
        let all =
            copies(&[("timestamp", "soon"), ("time", "5"), ("source", "a\nb"), ("subject", "\u{7}")]).expect("good");
        assert_eq!(all, Copies::default());
        for name in ["id", "type", "key"] {
            assert_eq!(copies(&[(name, "a\nb")]).expect_err(name).reason(), Reason::InvalidEvent);
        }
    }
}
