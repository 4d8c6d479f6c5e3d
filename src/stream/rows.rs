//! A stream's state as rows of a checkpoint, and back.

use super::{Dedup, DeletedIds, Named, Once, OnceSettings, Stream};
use crate::format::state::{Row, Rows, StreamRow, list_rows};

impl Stream {
    /// Hands on the rows of this stream.
    pub fn rows(&self, rows: Rows<'_>) {
        let owner = self.number.0;
        rows(
            owner,
            Row::Stream(StreamRow {
                number: self.number,
                name: self.name.clone(),
                settings: self.settings.clone(),
                created_ms: self.created_ms,
                last: self.last,
                appended: self.appended,
                bytes: self.bytes,
                trimmed_before: self.trimmed_before,
                trimmed_ordinal: self.trimmed_ordinal,
                deleted_max: self.deleted_max,
                removals: self.removals,
                node_entries: self.node_entries,
                node_bytes: self.node_bytes,
            }),
        );
        list_rows(owner, self.deleted.iter(), rows, Row::Deleted);
        list_rows(owner, self.dedup.producer_rows(), rows, Row::Producers);
        list_rows(owner, self.dedup.event_rows(), rows, Row::EventIds);
        list_rows(owner, self.named.rows(), rows, Row::NamedRequests);
        if self.added_offset != 0 {
            rows(owner, Row::Added(self.added_offset));
        }
        if let Some(at) = self.expires {
            rows(owner, Row::Expiry(at));
        }
        if self.once.settings() != OnceSettings::default() {
            let OnceSettings { window_s, names_max } = self.once.settings();
            rows(owner, Row::OnceSettings((window_s, names_max)));
        }
        list_rows(owner, self.once.rows(), rows, Row::OnceNames);
    }

    /// The stream of this row, without its lists.
    pub fn restore(row: StreamRow) -> Self {
        Self {
            number: row.number,
            name: row.name,
            settings: row.settings,
            created_ms: row.created_ms,
            expires: None,
            last: row.last,
            appended: row.appended,
            added_offset: 0,
            bytes: row.bytes,
            trimmed_before: row.trimmed_before,
            trimmed_ordinal: row.trimmed_ordinal,
            deleted: DeletedIds::default(),
            deleted_max: row.deleted_max,
            removals: row.removals,
            dedup: Dedup::default(),
            named: Named::default(),
            once: Once::default(),
            node_entries: row.node_entries,
            node_bytes: row.node_bytes,
            node_first: None,
        }
    }

    /// Takes a row of one of its lists; `false` for a row that is none.
    pub fn restore_list(&mut self, row: Row) -> bool {
        match row {
            Row::Deleted(entries) => self.deleted.extend(entries),
            Row::Producers(producers) => producers.into_iter().for_each(|row| self.dedup.restore_producer(row)),
            Row::Added(offset) => self.added_offset = offset,
            Row::EventIds(events) => events.into_iter().for_each(|row| self.dedup.restore_event(row)),
            Row::OnceSettings(settings) => self.once.restore_settings(settings),
            Row::NamedRequests(requests) => requests.into_iter().for_each(|row| self.named.restore(row)),
            Row::OnceNames(names) => names.into_iter().for_each(|row| self.once.restore(row)),
            _ => return false,
        }
        true
    }
}
