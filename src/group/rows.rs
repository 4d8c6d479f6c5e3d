//! A group's state as rows of a checkpoint, and back.

use std::collections::BTreeMap;

use super::pending::FrozenPending;
use super::{Consumer, Group, PendingSet};
use crate::format::state::{ConsumerRow, GroupRow, PendingRow, Row, Rows, list_rows};
use crate::types::ConsumerNumber;

/// A group's state as it was at one moment; cheap to take, whatever is pending.
pub struct FrozenGroup {
    row: GroupRow,
    reads_offset: Option<i64>,
    consumers: Vec<ConsumerRow>,
    pending: FrozenPending,
}

impl FrozenGroup {
    /// Hands on the rows of this group.
    pub fn rows(self, rows: Rows<'_>) {
        let owner = self.row.number.0;
        rows(owner, Row::Group(self.row));
        list_rows(owner, self.consumers.into_iter(), rows, Row::Consumers);
        list_rows(owner, self.pending.rows(), rows, Row::Pending);
        if let Some(offset) = self.reads_offset {
            rows(owner, Row::Reads(offset));
        }
    }
}

impl Group {
    /// The state as it is now.
    pub fn freeze(&self) -> FrozenGroup {
        let row = GroupRow {
            number: self.number,
            stream: self.stream,
            name: self.name.clone(),
            settings: self.settings.clone(),
            cursor: self.cursor,
            cursor_ordinal: self.cursor_ordinal,
            skipped: self.skipped,
            acknowledged: self.acknowledged,
            dead_lettered: self.dead_lettered,
            delivery_max: self.delivery_max,
            consumer_max: self.consumer_max,
        };
        let consumers = self.consumers.iter().map(|(number, consumer)| ConsumerRow {
            number: *number,
            name: consumer.name.clone(),
            seen_ms: consumer.logged_ms,
            active_ms: consumer.active_ms,
        });
        let reads_offset = self.reads_offset;
        FrozenGroup { row, reads_offset, consumers: consumers.collect(), pending: self.pending.freeze() }
    }

    /// The group of this row, without its lists.
    pub fn restore(row: GroupRow) -> Self {
        Self {
            number: row.number,
            stream: row.stream,
            name: row.name,
            settings: row.settings,
            cursor: row.cursor,
            cursor_ordinal: row.cursor_ordinal,
            pending: PendingSet::default(),
            skipped: row.skipped,
            acknowledged: row.acknowledged,
            dead_lettered: row.dead_lettered,
            delivery_max: row.delivery_max,
            reads_offset: None,
            consumers: BTreeMap::new(),
            names: BTreeMap::new(),
            consumer_max: row.consumer_max,
        }
    }

    /// Takes a row of one of its lists, consumers before pending entries; `false` for a row that is none.
    pub fn restore_list(&mut self, row: Row) -> bool {
        match row {
            Row::Consumers(consumers) => consumers.into_iter().for_each(|row| self.restore_consumer(row)),
            Row::Pending(entries) => self.restore_pending(entries),
            Row::Reads(offset) => self.reads_offset = Some(offset),
            _ => return false,
        }
        true
    }

    fn restore_consumer(&mut self, row: ConsumerRow) {
        self.names.insert(row.name.clone(), row.number);
        self.consumers.insert(row.number, Consumer::new(row.name, row.seen_ms, row.active_ms));
    }

    fn restore_pending(&mut self, entries: Vec<PendingRow>) {
        for row in &entries {
            if row.consumer != ConsumerNumber::NOBODY {
                self.count_pending(row.consumer, 1);
            }
        }
        self.pending.restore(entries);
    }
}
