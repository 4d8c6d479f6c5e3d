//! Streams through the handle: catalogue, pages, trims, deletes.

use std::sync::Arc;

use super::api::{Page, Read, StreamInfo, Trim, TrimTo, Trimmed};
use super::command::{Command, PreparedTrim};
use super::handle::{Engine, check_count, check_ids};
use super::reader::Reader;
use super::view::{Extent, StreamView};
use crate::error::{Error, Reason, Result};
use crate::format::record::DeletedEntry;
use crate::limits;
use crate::types::{EntryId, IdRange, StoredEntry, StreamName, StreamSettings};

/// How often a trim is measured again because something else was trimmed or deleted meanwhile.
const TRIM_TRIES: usize = 16;

impl Engine {
    /// Makes a stream.
    pub async fn create_stream(&self, name: StreamName, settings: StreamSettings) -> Result<StreamInfo> {
        self.ask(|reply| Command::CreateStream { name, settings, reply }).await
    }

    /// What is known of a stream without a look at its entries: all but its first id.
    pub async fn stream_counts(&self, name: &StreamName) -> Result<StreamInfo> {
        self.ask(|reply| Command::StreamInfo { name: name.clone(), reply }).await
    }

    /// What is known of a stream.
    pub async fn stream(&self, name: &StreamName) -> Result<StreamInfo> {
        let mut info = self.stream_counts(name).await?;
        if info.length > 0 {
            let view = self.view(name)?;
            info.first = self.first_readable(view, IdRange::ALL).await?.map(|e| e.id);
        }
        Ok(info)
    }

    /// Whether there is a stream of that name.
    pub fn has_stream(&self, name: &StreamName) -> bool {
        self.0.shared.catalogue.get(name).is_some()
    }

    /// The names of all streams that start with the prefix, in order.
    pub fn stream_names(&self, prefix: &str) -> Vec<StreamName> {
        self.0.shared.catalogue.names(prefix, None, usize::MAX)
    }

    /// Streams in name order, after the given name, with names that start with the prefix.
    pub async fn streams(&self, prefix: &str, after: Option<&StreamName>, max: usize) -> Result<Vec<StreamInfo>> {
        check_count("max", max, limits::PAGE_ENTRIES_MAX)?;
        let mut found = Vec::new();
        for name in self.0.shared.catalogue.names(prefix, after, max) {
            match self.stream(&name).await {
                Ok(info) => found.push(info),
                Err(gone) if gone.reason() == Reason::StreamNotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Gives a stream other settings.
    pub async fn update_stream(&self, name: &StreamName, settings: StreamSettings) -> Result<StreamInfo> {
        let info = self.ask(|reply| Command::UpdateStream { name: name.clone(), settings, reply }).await?;
        // With what only the stored entries tell, unless the stream is gone again.
        Ok(self.stream(name).await.unwrap_or(info))
    }

    /// Deletes a stream with its entries and groups.
    pub async fn delete_stream(&self, name: &StreamName) -> Result<()> {
        self.ask(|reply| Command::DeleteStream { name: name.clone(), reply }).await
    }

    /// A page of a stream.
    pub async fn read(&self, request: Read) -> Result<Page> {
        check_count("entries_max", request.entries_max, limits::PAGE_ENTRIES_MAX)?;
        let view = self.view(&request.stream)?;
        let trimmed = view.extent().trimmed_before;
        if request.strict && request.range.first < trimmed {
            return Err(
                Error::new(Reason::IdTrimmed, format!("entries below {trimmed} were trimmed")).with("first", trimmed)
            );
        }
        let Read { range, reverse, entries_max, bytes_max, .. } = request;
        self.read_with(move |reader, disk| reader.page(&view, range, reverse, entries_max, bytes_max, disk)).await
    }

    /// The first entry of the range that can be read: what is known of a stream does not depend on damage to its head.
    pub(super) async fn first_readable(&self, view: Arc<StreamView>, range: IdRange) -> Result<Option<StoredEntry>> {
        self.read_with(move |reader, disk| reader.first(&view, range, disk)).await
    }

    /// Drops the oldest entries of a stream.
    pub async fn trim(&self, request: Trim) -> Result<Trimmed> {
        let view = self.view(&request.stream)?;
        for _ in 0..TRIM_TRIES {
            let (measured, to) = (Arc::clone(&view), request.to);
            let found = self.on_reader_thread(move |reader| prepare_trim(reader, &measured, to)).await?;
            let Some((trim, trimmed)) = found else {
                let first = self.first_readable(view, IdRange::ALL).await?.map(|e| e.id);
                return Ok(Trimmed { first, ..Trimmed::default() });
            };
            let kept = IdRange { first: trim.before, last: EntryId::MAX };
            if request.dry_run || self.ask(|reply| Command::Trim { trim, reply }).await? {
                let first = self.first_readable(view, kept).await?.map(|e| e.id);
                return Ok(Trimmed { first, ..trimmed });
            }
        }
        Err(Error::overloaded("the stream's list of trims and deletes"))
    }

    /// Deletes single entries; answers how many existed.
    pub async fn delete_entries(&self, stream: &StreamName, mut ids: Vec<EntryId>) -> Result<u64> {
        check_ids(ids.len())?;
        ids.sort_unstable();
        ids.dedup();
        let view = self.view(stream)?;
        let number = view.number;
        let found = self.read_with(move |reader, disk| reader.entries(&view, &ids, disk)).await?;
        let entries: Vec<DeletedEntry> =
            found.iter().map(|e| DeletedEntry { id: e.id, bytes: e.bytes.len() as u32 }).collect();
        if entries.is_empty() {
            return Ok(0);
        }
        self.ask(|reply| Command::DeleteEntries { stream: number, entries, reply }).await
    }
}

/// Where a trim comes to, and what goes by it; `None` where nothing does.
fn prepare_trim(reader: &Reader, view: &StreamView, to: TrimTo) -> Result<Option<(PreparedTrim, Trimmed)>> {
    let extent = view.extent();
    let bound = match to {
        TrimTo::BeforeId(id) => Some(id),
        TrimTo::BeforeTime(ms) => Some(EntryId::new(ms, 0)),
        TrimTo::KeepEntries(count) => reader.bound_keeping(view, count, u64::MAX)?,
        TrimTo::KeepBytes(bytes) => reader.bound_keeping(view, u64::MAX, bytes)?,
    };
    bound.map_or(Ok(None), |bound| prepare_trim_before(reader, view, &extent, bound))
}

/// What a trim before an id drops, of a stream as it was seen, without what is first afterwards; `None` where it drops
/// nothing.
pub(super) fn prepare_trim_before(
    reader: &Reader,
    view: &StreamView,
    extent: &Extent,
    bound: EntryId,
) -> Result<Option<(PreparedTrim, Trimmed)>> {
    let before = clamp(bound, extent);
    if before <= extent.trimmed_before {
        return Ok(None);
    }
    let measure = reader.measure_below(view, before)?;
    if measure.entries == 0 {
        return Ok(None);
    }
    let trim = PreparedTrim {
        stream: view.number,
        removals: extent.removals,
        before,
        ordinal: measure.ordinal,
        bytes: measure.bytes,
    };
    Ok(Some((trim, Trimmed { entries: measure.entries, bytes: measure.bytes, first: None })))
}

/// A trim never reaches beyond the last entry: what comes later is not meant.
fn clamp(bound: EntryId, extent: &Extent) -> EntryId {
    bound.min(extent.last.next().unwrap_or(EntryId::MAX))
}
