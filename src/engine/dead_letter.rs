//! Dead letters: an entry with what is known of its end, as an ordinary entry of an ordinary stream.
//!
//! An event gets reserved attributes appended, a field entry gets reserved fields; the original stands before them
//! byte for byte, and a redrive takes them off again.

use bytes::Bytes;

use super::api::DeadLetter;
use crate::error::{Error, Reason, Result};
use crate::format::event::{EventView, put_attribute, retain_attributes, stored_as};
use crate::format::fields::{pairs, put_pair};
use crate::types::{EntryId, EntryKind, NewEntry, StoredEntry};

const STREAM: &str = "synapsedlstream";
const ID: &str = "synapsedlid";
const GROUP: &str = "synapsedlgroup";
const DELIVERIES: &str = "synapsedldeliveries";
const FAILURES: &str = "synapsedlfailures";
const REASON: &str = "synapsedlreason";
const TIME: &str = "synapsedltime";
const ALL: [&str; 7] = [STREAM, ID, GROUP, DELIVERIES, FAILURES, REASON, TIME];

/// Longest reason that is kept.
const REASON_BYTES_MAX: usize = 1024;

/// Where a dead letter came from and why it is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) stream: String,
    pub(crate) id: EntryId,
    pub(crate) group: String,
    pub(crate) deliveries: u32,
    pub(crate) failures: u32,
    pub(crate) reason: String,
    pub(crate) failed_ms: u64,
}

impl Origin {
    fn parts(&self) -> [(&'static str, String); 7] {
        let mut reason = self.reason.clone();
        while reason.len() > REASON_BYTES_MAX {
            reason.pop();
        }
        [
            (STREAM, self.stream.clone()),
            (ID, self.id.to_string()),
            (GROUP, self.group.clone()),
            (DELIVERIES, self.deliveries.to_string()),
            (FAILURES, self.failures.to_string()),
            (REASON, reason),
            (TIME, self.failed_ms.to_string()),
        ]
    }
}

/// The dead letter of an entry.
pub(crate) fn bury(entry: &StoredEntry, origin: &Origin) -> Result<NewEntry> {
    // A letter of a dead-letter stream that fails again says where it failed last.
    let plain = unbury(entry)?;
    let mut bytes = plain.bytes.to_vec();
    for (name, value) in origin.parts() {
        match entry.kind {
            EntryKind::Event => put_attribute(&mut bytes, name, &value),
            EntryKind::Fields => put_pair(&mut bytes, name.as_bytes(), value.as_bytes()),
        }
    }
    Ok(stored_as(entry.kind, Bytes::from(bytes)))
}

/// The entry as it was before it became a dead letter.
pub(crate) fn unbury(entry: &StoredEntry) -> Result<NewEntry> {
    let bytes = match entry.kind {
        EntryKind::Event if !EventView::parse(&entry.bytes)?.attributes().any(|(name, _)| ALL.contains(&name)) => {
            entry.bytes.clone()
        }
        EntryKind::Event => Bytes::from(retain_attributes(&entry.bytes, |name| !ALL.contains(&name))?),
        EntryKind::Fields => {
            let mut out = Vec::with_capacity(entry.bytes.len());
            let own = |name: &[u8]| ALL.iter().any(|a| a.as_bytes() == name);
            for (name, value) in pairs(&entry.bytes).filter(|(name, _)| !own(name)) {
                put_pair(&mut out, name, value);
            }
            Bytes::from(out)
        }
    };
    Ok(stored_as(entry.kind, bytes))
}

/// Reads a dead letter; `None` for an entry that is none.
pub(crate) fn read(entry: &StoredEntry) -> Result<Option<DeadLetter>> {
    let Some(origin_id) = text(entry, ID).and_then(|id| EntryId::parse(&id).ok()) else { return Ok(None) };
    let number = |name: &str| text(entry, name).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    let original = unbury(entry)?;
    Ok(Some(DeadLetter {
        id: entry.id,
        entry: StoredEntry { bytes: original.bytes, ..entry.clone() },
        origin_stream: text(entry, STREAM).unwrap_or_default(),
        origin_id,
        group: text(entry, GROUP).unwrap_or_default(),
        deliveries: number(DELIVERIES) as u32,
        failures: number(FAILURES) as u32,
        reason: text(entry, REASON).unwrap_or_default(),
        failed_ms: number(TIME),
    }))
}

/// Refuses what would have become a dead letter's own field: a publisher may not set them.
pub(crate) fn check_field_names(entry: &NewEntry) -> Result<()> {
    if entry.kind == EntryKind::Fields
        && pairs(&entry.bytes).any(|(name, _)| ALL.iter().any(|own| own.as_bytes() == name))
    {
        return Err(Error::new(Reason::InvalidEvent, "a field has a name that is reserved for dead letters"));
    }
    Ok(())
}

fn text(entry: &StoredEntry, name: &str) -> Option<String> {
    match entry.kind {
        EntryKind::Event => EventView::parse(&entry.bytes).ok()?.attribute(name).map(str::to_owned),
        EntryKind::Fields => {
            let found = pairs(&entry.bytes).filter(|(n, _)| *n == name.as_bytes()).last()?;
            Some(String::from_utf8_lossy(found.1).into_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::event::Event;
    use crate::format::fields;

    fn origin() -> Origin {
        Origin {
            stream: "s".into(),
            id: EntryId::new(7, 8),
            group: "g".into(),
            deliveries: 3,
            failures: 2,
            reason: "r".repeat(2000),
            failed_ms: 9,
        }
    }

    #[test]
    fn letters_say_where_they_came_from_and_give_back_the_original() {
        let event = Event::new("t", "data").attribute("a", "1").into_entry().expect("valid");
        let pairs = fields::encode([(&b"f"[..], &b"v"[..])]).expect("valid");
        for original in [event, pairs] {
            let stored = |e: &NewEntry| StoredEntry {
                id: EntryId::new(1, 1),
                append_ms: 0,
                kind: e.kind,
                bytes: e.bytes.clone(),
            };
            let letter = bury(&stored(&original), &origin()).expect("an entry");
            let twice = bury(&stored(&letter), &origin()).expect("a letter can fail again");
            assert_eq!(twice, letter);
            let read = read(&stored(&letter)).expect("readable").expect("a letter");
            assert_eq!(
                (read.origin_id, read.group.as_str(), read.deliveries, read.failures),
                (EntryId::new(7, 8), "g", 3, 2)
            );
            assert_eq!(read.reason.len(), REASON_BYTES_MAX);
            assert_eq!(read.entry.bytes, original.bytes);
            assert!(super::read(&stored(&original)).expect("readable").is_none());
        }
    }
}
