//! One stream's state machine: ids, counts, what is trimmed and deleted, deduplication.
//!
//! Pure: a plan reads `&self` and the time it is handed, an effect is applied without failing, live and in replay
//! alike. It knows no entry, only what is counted of them.
//!
//! Invariants. **S1** `last` never goes down. **S2** ordinals count every entry ever appended: an entry's ordinal is
//! the number of entries before it, so lengths and lags are differences. **S3** `deleted` holds only ids at or above
//! `trimmed_before`.

mod dedup;
mod deleted;
mod head;
mod named;
mod once;
mod rows;

use crate::clock::Now;
use crate::error::{Error, Reason, Result};
use crate::format::record::{
    EntriesDeleted, EventIdsRemembered, IdRun, LastIdSet, RequestNamed, RequestRemembered, StreamCreated, Trimmed,
};
use crate::types::{EntryId, Expiry, IdRange, IdRequest, StreamName, StreamNumber, StreamSettings};

pub use dedup::{Dedup, RememberedRequest};
pub use deleted::DeletedIds;
pub use head::{Cut, Detail, Found, Head, Keep, Piece, Planned, TrimRule, Wanted};
pub use named::Named;
pub use once::{Once, OnceInfo, OnceSettings};

/// Where logical nodes end, in which approximate trims count: after so many entries, or so many bytes; zero for no such
/// bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeLimits {
    /// Entries of a node at most.
    pub entries: u64,
    /// Bytes after which a node ends.
    pub bytes: u64,
}

impl NodeLimits {
    fn are_reached(self, entries: u32, bytes: u64) -> bool {
        let reached = |limit: u64, value: u64| limit > 0 && value >= limit;
        reached(self.entries, u64::from(entries)) || reached(self.bytes, bytes)
    }
}

/// The state of one stream.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Its number, never reused.
    pub number: StreamNumber,
    /// Its name.
    pub name: StreamName,
    /// Its settings.
    pub settings: StreamSettings,
    /// Wall time of its creation, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// When it goes by itself.
    pub expires: Option<Expiry>,
    /// The last id that was given out.
    pub last: EntryId,
    /// Entries ever appended.
    pub appended: u64,
    /// What is added to that to tell how many entries were added, where it was told.
    pub added_offset: i64,
    /// Bytes of the entries that exist.
    pub bytes: u64,
    /// The smallest id that may exist.
    pub trimmed_before: EntryId,
    /// Entries ever appended below that id.
    pub trimmed_ordinal: u64,
    /// Single entries deleted at or above that id.
    pub deleted: DeletedIds,
    /// The greatest id that was ever deleted singly, or what was told to be it.
    pub deleted_max: EntryId,
    /// Rises with every trim and delete, so that a prepared command can tell that nothing went since.
    pub removals: u64,
    /// What is remembered against duplicates.
    pub dedup: Dedup,
    /// What is remembered of requests that have a name alone.
    pub named: Named,
    /// What is remembered of requests that are to be appended once.
    pub once: Once,
    node_entries: u32,
    node_bytes: u64,
    /// Where the logical node begins that is open; unknown after a start in the middle of it.
    node_first: Option<EntryId>,
}

impl Stream {
    /// The stream of this record.
    pub fn create(record: &StreamCreated) -> Self {
        Self {
            number: record.stream,
            name: record.name.clone(),
            settings: record.settings.clone(),
            created_ms: record.created_ms,
            expires: None,
            last: EntryId::ZERO,
            appended: 0,
            added_offset: 0,
            bytes: 0,
            trimmed_before: EntryId::ZERO,
            trimmed_ordinal: 0,
            deleted: DeletedIds::default(),
            deleted_max: EntryId::ZERO,
            removals: 0,
            dedup: Dedup::default(),
            named: Named::default(),
            once: Once::default(),
            node_entries: 0,
            node_bytes: 0,
            node_first: None,
        }
    }

    /// Entries that exist.
    pub fn length(&self) -> u64 {
        self.appended - self.trimmed_ordinal - self.deleted.len() as u64
    }

    /// Entries that it tells to have been added: those ever appended, or as many as it was told and what came then.
    pub fn added(&self) -> u64 {
        self.appended.saturating_add_signed(self.added_offset).min(i64::MAX as u64)
    }

    /// The ids that so many new entries get, by rules 1 to 6 of Redis Streams: one run of one millisecond.
    pub fn plan_ids(&self, request: IdRequest, count: u32, now: Now) -> Result<IdRun> {
        let too_small = |id: EntryId| {
            Error::new(Reason::IdNotGreater, format!("id {id} is not greater than the stream's last id {}", self.last))
                .with("id", id)
                .with("last", self.last)
        };
        let first = match request {
            IdRequest::Auto => return self.auto_run(count, now),
            IdRequest::AutoSeq(ms) if ms < self.last.ms => return Err(too_small(EntryId::new(ms, 0))),
            IdRequest::AutoSeq(ms) if ms == self.last.ms => {
                let seq = self.last.seq.checked_add(1).ok_or_else(|| too_small(EntryId::new(ms, u64::MAX)))?;
                EntryId::new(ms, seq)
            }
            IdRequest::AutoSeq(ms) => EntryId::new(ms, 0),
            IdRequest::Exact(_) if count != 1 => {
                return Err(Error::invalid("ids", "an exact id goes with one entry only"));
            }
            IdRequest::Exact(id) if id <= self.last => return Err(too_small(id)),
            IdRequest::Exact(id) => id,
        };
        match first.seq.checked_add(u64::from(count) - 1) {
            Some(_) => Ok(IdRun { first, count }),
            None => Err(exhausted()),
        }
    }

    /// The clock's millisecond or, where it stands still or went back, the next ids after the last one.
    fn auto_run(&self, count: u32, now: Now) -> Result<IdRun> {
        if now.wall_ms > self.last.ms {
            return Ok(IdRun { first: EntryId::new(now.wall_ms, 0), count });
        }
        let first = self.last.next().ok_or_else(exhausted)?;
        if first.seq.checked_add(u64::from(count) - 1).is_some() {
            return Ok(IdRun { first, count });
        }
        // Ids of one request are of one millisecond: go on to the next one rather than tear the run.
        let ms = first.ms.checked_add(1).ok_or_else(exhausted)?;
        Ok(IdRun { first: EntryId::new(ms, 0), count })
    }

    /// Counts one appended entry; says whether a logical node starts with it.
    pub fn apply_entry(&mut self, id: EntryId, bytes: u32, nodes: NodeLimits) -> bool {
        debug_assert!(id > self.last, "S1: ids rise");
        let starts = self.node_entries == 0 || nodes.are_reached(self.node_entries, self.node_bytes);
        self.count_in_node(id, bytes, starts);
        self.apply_block(id, 1, u64::from(bytes));
        starts
    }

    /// Counts an entry towards its logical node: also in replay, where a block says whether a node begins with it.
    pub fn count_in_node(&mut self, id: EntryId, bytes: u32, starts: bool) {
        if starts {
            (self.node_entries, self.node_bytes, self.node_first) = (0, 0, Some(id));
        }
        self.node_entries += 1;
        self.node_bytes += u64::from(bytes);
    }

    /// Counts a block of appended entries, in replay.
    pub fn apply_block(&mut self, last: EntryId, count: u32, bytes: u64) {
        self.last = self.last.max(last);
        self.appended += u64::from(count);
        self.bytes += bytes;
    }

    /// Moves the last id up, and takes the numbers that the stream tells.
    pub fn apply_last_id(&mut self, record: &LastIdSet) {
        debug_assert!(record.last >= self.last, "S1: the last id never goes down");
        self.last = self.last.max(record.last);
        (self.added_offset, self.deleted_max) = (record.added_offset, record.deleted_max);
    }

    /// Moves the lower bound up.
    pub fn apply_trim(&mut self, trimmed: &Trimmed) {
        if trimmed.before > self.trimmed_before {
            self.removals += 1;
            self.go_on_trimming(trimmed);
        }
    }

    /// Moves the lower bound up by a trim that is stored as one with the one before it.
    pub fn go_on_trimming(&mut self, trimmed: &Trimmed) {
        if trimmed.before <= self.trimmed_before {
            return;
        }
        self.trimmed_before = trimmed.before;
        self.trimmed_ordinal = trimmed.ordinal;
        self.bytes -= trimmed.bytes.min(self.bytes);
        self.deleted.forget_below(trimmed.before);
        self.end_empty_node();
    }

    /// Takes single entries out.
    pub fn apply_deleted(&mut self, deleted: &EntriesDeleted) {
        for entry in &deleted.entries {
            if self.exists(entry.id) && self.deleted.insert(entry.id, entry.bytes) {
                self.bytes -= u64::from(entry.bytes).min(self.bytes);
                self.deleted_max = self.deleted_max.max(entry.id);
            }
        }
        self.removals += 1;
        self.end_empty_node();
    }

    /// Where nothing is left of the open node, the next entry begins another.
    fn end_empty_node(&mut self) {
        if self.length() == 0 || self.is_node_empty() {
            (self.node_entries, self.node_bytes, self.node_first) = (0, 0, None);
        }
    }

    /// Whether every entry of the open node was deleted.
    fn is_node_empty(&self) -> bool {
        let Some(first) = self.node_first.filter(|_| !self.deleted.is_empty()) else { return false };
        let begin = self.appended.saturating_sub(u64::from(self.node_entries)).max(self.trimmed_ordinal);
        let range = IdRange { first: first.max(self.trimmed_before), last: EntryId::MAX };
        self.deleted.contains(self.last) && self.deleted.measure(range).0 >= self.appended - begin
    }

    /// Remembers a producer's request.
    pub fn apply_request(&mut self, record: &RequestRemembered) {
        self.dedup.remember_request(record, &self.settings.dedup);
    }

    /// Remembers a request by its name.
    pub fn apply_named(&mut self, record: &RequestNamed) {
        self.named.remember(record, self.settings.dedup.window_ms);
    }

    /// Remembers event ids.
    pub fn apply_event_ids(&mut self, record: &EventIdsRemembered) {
        self.dedup.remember_events(record, &self.settings.dedup);
    }

    /// Whether an id that was appended has neither been trimmed nor deleted.
    pub fn exists(&self, id: EntryId) -> bool {
        id >= self.trimmed_before && id <= self.last && !self.deleted.contains(id)
    }

    /// Existing entries above a cursor, exactly: the lag of a group whose cursor stands there.
    pub fn entries_after(&self, cursor: EntryId, cursor_ordinal: u64) -> u64 {
        if cursor >= self.last {
            return 0;
        }
        if cursor_ordinal <= self.trimmed_ordinal {
            return self.length();
        }
        self.appended.saturating_sub(cursor_ordinal) - self.deleted.count_above(cursor)
    }
}

fn exhausted() -> Error {
    Error::new(Reason::IdsExhausted, "the stream has used its last id")
}

#[cfg(test)]
mod tests;
