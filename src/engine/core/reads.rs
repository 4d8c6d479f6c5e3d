//! How many entries a group has read as Redis counts them (`entries-read`): known as long as nothing was deleted around
//! the cursor, and again once it stands where the count is certain.
//!
//! Kept as the difference to the cursor's ordinal, so that deliveries seldom change it.

use super::Core;
use crate::format::record::ReadsCounted;
use crate::stream::Stream;
use crate::types::{EntryId, GroupNumber};

impl Core {
    /// So many entries count as read; `None`: that is not known. Room was admitted.
    pub(super) fn set_reads(&mut self, number: GroupNumber, reads: Option<u64>) {
        let ordinal = self.slot(number).group.cursor_ordinal;
        let offset = reads.map(|reads| reads.min(i64::MAX as u64) as i64 - ordinal as i64);
        self.set_reads_offset(number, offset);
    }

    fn set_reads_offset(&mut self, number: GroupNumber, offset: Option<i64>) {
        let group = &mut self.slot_mut(number).group;
        if group.reads_offset == offset {
            return;
        }
        group.reads_offset = offset;
        let record = ReadsCounted { stream: group.stream, group: number, offset };
        self.record_lazily(record, None);
    }

    /// Counts new entries, each with the number of entries ever appended up to it, that the group is about to be
    /// handed. Room was admitted.
    pub(super) fn count_reads(&mut self, number: GroupNumber, new: &[(EntryId, u64)]) {
        let group = &self.slot(number).group;
        let stream = &self.streams[&group.stream].stream;
        let offset = reads_offset(stream, group.reads_offset, (group.cursor, group.cursor_ordinal), new);
        self.set_reads_offset(number, offset);
    }
}

/// The difference after these entries were delivered: rules 50 and 51 of Redis Streams.
fn reads_offset(
    stream: &Stream,
    mut offset: Option<i64>,
    mut cursor: (EntryId, u64),
    new: &[(EntryId, u64)],
) -> Option<i64> {
    for (id, ordinal) in new {
        let begun = stream.entries_after(cursor.0, cursor.1) < stream.length();
        let whole = begun && (stream.deleted_max == EntryId::ZERO || cursor.0 > stream.deleted_max);
        if whole && offset.is_some() {
            return offset;
        }
        let is_last = *id == stream.last;
        let is_first = stream.entries_after(*id, *ordinal) + 1 == stream.length();
        offset = (*id >= stream.deleted_max && (is_last || is_first)).then_some(stream.added_offset);
        cursor = (*id, *ordinal);
    }
    offset
}
