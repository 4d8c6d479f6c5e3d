//! Tails: catch up, then wait for what comes. A tail knows how many entries the stream had up to where it is, so what is
//! trimmed before it gets there is told as a gap, with the number.

use std::sync::Arc;

use event_listener::Event;

use super::api::{Gap, Page, TailBatch, TailFrom};
use super::handle::{Engine, check_count};
use super::view::{Extent, StreamView};
use crate::error::{Error, Result};
use crate::limits;
use crate::types::{EntryId, IdRange, StreamName};

/// A tail of one stream: catches up, then waits for what comes.
pub struct Tail {
    engine: Engine,
    view: Arc<StreamView>,
    position: EntryId,
    /// Entries ever appended up to and with the position; unset where what stood there is gone or does not exist yet.
    passed: Option<u64>,
}

impl Engine {
    /// Begins a tail.
    pub async fn tail(&self, stream: &StreamName, from: TailFrom) -> Result<Tail> {
        let view = self.view(stream)?;
        let extent = view.extent();
        let position = match from {
            TailFrom::Earliest => EntryId::ZERO,
            TailFrom::Latest => extent.last,
            TailFrom::After(id) => id,
            TailFrom::Time(ms) => EntryId::new(ms, 0).prev().unwrap_or_default(),
        };
        let passed = self.appended_up_to(&view, position, &extent).await;
        Ok(Tail { engine: self.clone(), view, position, passed })
    }

    /// Entries ever appended up to and with an id that a tail starts after; from the beginning, those that are trimmed.
    async fn appended_up_to(&self, view: &Arc<StreamView>, id: EntryId, extent: &Extent) -> Option<u64> {
        if id == extent.last {
            return Some(extent.appended);
        }
        let is_start = id == EntryId::ZERO;
        let last = if is_start { extent.trimmed_before.prev().unwrap_or_default() } else { id };
        if last == EntryId::ZERO {
            return Some(0);
        }
        if last > extent.last {
            return None;
        }
        let read = Arc::clone(view);
        let found = self.on_reader_thread(move |reader| reader.ordinal_after(&read, last)).await;
        // Damage there fails the tail only once it gets to it.
        let is_there = is_start || last.next().is_some_and(|next| next >= view.extent().trimmed_before);
        found.ok().filter(|_| is_there)
    }
}

/// That somebody waits for a stream of a name.
struct Awaits<'a> {
    engine: &'a Engine,
    stream: &'a StreamName,
    event: Arc<Event>,
}

impl Engine {
    /// Waits until there is a stream of that name. Fails with `DRAINING` when the engine stops.
    pub async fn appears(&self, stream: &StreamName) -> Result<()> {
        let event = self.0.shared.catalogue.await_name(stream);
        let awaits = Awaits { engine: self, stream, event };
        loop {
            let listener = awaits.event.listen();
            if self.has_stream(stream) {
                return Ok(());
            }
            if self.0.shared.is_draining() {
                return Err(Error::draining());
            }
            listener.await;
        }
    }
}

impl Drop for Awaits<'_> {
    fn drop(&mut self) {
        self.engine.0.shared.catalogue.forgo(self.stream);
    }
}

impl Tail {
    /// The next entries, at least one, or what was trimmed instead; waits where there is nothing yet. Fails with
    /// `STREAM_NOT_FOUND` when the stream is deleted and with `DRAINING` when the engine stops. A later call goes on after
    /// the last entry returned. Dropping the future loses nothing.
    pub async fn next(&mut self, entries_max: usize, bytes_max: usize) -> Result<TailBatch> {
        check_count("entries_max", entries_max, limits::PAGE_ENTRIES_MAX)?;
        loop {
            let listener = self.view.listen();
            let extent = self.view.extent();
            if extent.gone {
                return Err(Error::stream_not_found(self.view.name()));
            }
            if let Some(first) = self.position.next().filter(|first| *first <= extent.last) {
                let (view, range) = (Arc::clone(&self.view), IdRange { first, last: extent.last });
                let read = move |reader: &super::reader::Reader, disk| {
                    reader.page(&view, range, false, entries_max, bytes_max, disk)
                };
                let page = self.engine.read_with(read).await?;
                let batch = self.pass(page, first, &extent);
                if batch.gap.is_some() || !batch.entries.is_empty() {
                    return Ok(batch);
                }
                continue;
            }
            if self.engine.0.shared.is_draining() {
                return Err(Error::draining());
            }
            listener.await;
        }
    }

    /// Goes on behind a page that was read from this id up to what the extent has, and tells what is missing of it.
    fn pass(&mut self, page: Page, next: EntryId, extent: &Extent) -> TailBatch {
        let first = page.entries.first().map(|entry| entry.id);
        let (before, passed) =
            page.ordinals.map_or((extent.appended, extent.appended), |(first, last)| (first, last + 1));
        let hole = first.map_or(Some(extent.last), |first| first.prev());
        let gap = hole.and_then(|last| self.missed(IdRange { first: next, last }, before)).map(|(bound, missed)| Gap {
            after: self.position,
            before: first.unwrap_or(bound),
            missed,
        });
        self.position = page.entries.last().map_or(extent.last, |entry| entry.id);
        self.passed = Some(passed);
        TailBatch { gap, entries: page.entries }
    }

    /// How many entries were trimmed of a hole, a range after the position of which nothing is left and behind which so many
    /// entries had ever been appended; and below which id the stream is trimmed. Nothing where none are missing.
    fn missed(&self, hole: IdRange, before: u64) -> Option<(EntryId, Option<u64>)> {
        let bound = self.view.extent().trimmed_before;
        if bound <= hole.first || hole.last < hole.first {
            return None;
        }
        // What was deleted singly is not missing; below the bound the stream does not know of it.
        let deleted = if bound <= hole.last { self.view.deleted_in(IdRange { first: bound, ..hole }).0 } else { 0 };
        let missed = self.passed.map(|passed| before.saturating_sub(passed + deleted));
        (missed != Some(0)).then_some((bound, missed))
    }

    /// The id after which the next call goes on.
    pub fn position(&self) -> EntryId {
        self.position
    }
}
