//! Tails: catch up, then wait for what comes.

use std::sync::Arc;

use event_listener::Event;

use super::api::TailFrom;
use super::handle::{Engine, check_count};
use super::view::StreamView;
use crate::error::{Error, Result};
use crate::limits;
use crate::types::{EntryId, IdRange, StoredEntry, StreamName};

/// A tail of one stream: catches up, then waits for what comes.
pub struct Tail {
    engine: Engine,
    view: Arc<StreamView>,
    position: EntryId,
}

impl Engine {
    /// Begins a tail.
    pub async fn tail(&self, stream: &StreamName, from: TailFrom) -> Result<Tail> {
        let view = self.view(stream)?;
        let position = match from {
            TailFrom::Earliest => EntryId::ZERO,
            TailFrom::Latest => view.extent().last,
            TailFrom::After(id) => id,
            TailFrom::Time(ms) => EntryId::new(ms, 0).prev().unwrap_or_default(),
        };
        Ok(Tail { engine: self.clone(), view, position })
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
    /// The next entries, at least one; waits where there is none yet. Fails with `STREAM_NOT_FOUND` when the stream
    /// is deleted and with `DRAINING` when the engine stops. A later call goes on after the last entry returned.
    /// Dropping the future loses nothing.
    pub async fn next(&mut self, entries_max: usize, bytes_max: usize) -> Result<Vec<StoredEntry>> {
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
                self.position = page.entries.last().map_or(extent.last, |e| e.id);
                if !page.entries.is_empty() {
                    return Ok(page.entries);
                }
                continue;
            }
            if self.engine.0.shared.is_draining() {
                return Err(Error::draining());
            }
            listener.await;
        }
    }

    /// The id after which the next call goes on.
    pub fn position(&self) -> EntryId {
        self.position
    }
}
