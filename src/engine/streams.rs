//! Streams through the handle: catalogue, pages, trims, deletes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::api::{Page, Read, References, SetExpiry, SetLastId, StreamInfo, Trim, TrimTo, Trimmed};
use super::command::{Command, SingleTrim, TrimAsked, TrimDone};
use super::core::keep;
use super::handle::{Engine, check_count, check_ids};
use super::reader::Reader;
use super::view::StreamView;
use crate::error::{Error, Reason, Result};
use crate::format::record::DeletedEntry;
use crate::limits;
use crate::stream::{NodeLimits, OnceInfo, OnceSettings, TrimRule};
use crate::types::{EntryId, IdRange, StoredEntry, StreamName, StreamSettings};

/// Entries that a trim looks at in one go where it looks at each.
const CANDIDATES_PER_STEP: usize = 2048;

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
        self.view(name).is_ok()
    }

    /// The names of all streams that start with the prefix, in order.
    pub fn stream_names(&self, prefix: &str) -> Vec<StreamName> {
        self.names(prefix, None, usize::MAX)
    }

    /// Streams in name order, after the given name, with names that start with the prefix.
    pub async fn streams(&self, prefix: &str, after: Option<&StreamName>, max: usize) -> Result<Vec<StreamInfo>> {
        check_count("max", max, limits::PAGE_ENTRIES_MAX)?;
        let mut found = Vec::new();
        for name in self.names(prefix, after, max) {
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

    /// Gives a stream another name, with its entries, ids and groups; a stream that has that name is deleted in the same
    /// commit where it may be replaced. Answers whether it was done: not where the name is taken and may not be replaced.
    /// Who waits in one of its groups is told that the group is gone.
    pub async fn rename_stream(&self, name: &StreamName, to: StreamName, replace: bool) -> Result<bool> {
        self.ask(|reply| Command::RenameStream { name: name.clone(), to, replace, reply }).await
    }

    /// Moves the last id of a stream up without an entry, and sets the numbers that it tells. `ID_NOT_GREATER` where its
    /// last id is above that one: ids are not given out again.
    pub async fn set_last_id(&self, name: &StreamName, to: SetLastId) -> Result<()> {
        self.ask(|reply| Command::SetLastId { name: name.clone(), to, reply }).await
    }

    /// Says how long, in seconds, and how many of one producer a stream remembers of requests that are to be appended once
    /// (see [`super::OnceName`]); unset: as before. Where that changes anything, it forgets those before.
    pub async fn configure_once(&self, name: &StreamName, window_s: Option<u32>, names_max: Option<u32>) -> Result<()> {
        let to = (window_s, names_max);
        self.ask(|reply| Command::ConfigureOnce { name: name.clone(), to, reply }).await
    }

    /// What a stream remembers of such requests; `None` where it never had one, as far as is known, nor other settings
    /// than streams have at first.
    pub async fn once_info(&self, name: &StreamName) -> Result<Option<OnceInfo>> {
        self.ask(|reply| Command::OnceInfo { name: name.clone(), reply }).await
    }

    /// How streams remember such requests that are made from now on.
    pub fn once_settings(&self) -> OnceSettings {
        self.0.shared.once_settings()
    }

    /// Sets how streams remember such requests that are made from now on, until the engine stops.
    pub fn set_once_settings(&self, settings: OnceSettings) {
        *self.0.shared.once_settings.lock() = settings;
    }

    /// Sets when a stream goes by itself, with its entries and groups: then or soon after, and also where
    /// the engine stopped meanwhile. It goes at once where that time has come. Answers whether it was set: not where there
    /// is no such stream or the condition does not hold.
    pub async fn set_expiry(&self, name: &StreamName, to: SetExpiry) -> Result<bool> {
        self.ask(|reply| Command::SetExpiry { name: name.clone(), to, reply }).await
    }

    /// Deletes a stream with its entries and groups.
    pub async fn delete_stream(&self, name: &StreamName) -> Result<()> {
        self.ask(|reply| Command::DeleteStream { name: name.clone(), reply }).await
    }

    /// Deletes those of some streams that there are, in one commit, with their entries and groups; answers how many.
    pub async fn delete_streams(&self, names: Vec<StreamName>) -> Result<u64> {
        self.ask(|reply| Command::DeleteStreams { names, reply }).await
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
        let read = Arc::clone(&view);
        let read = move |reader: &Reader, disk| reader.page(&read, range, reverse, entries_max, bytes_max, disk);
        let mut page = self.read_with(read).await?;
        page.trimmed_before = trimmed_of(&page, range, reverse, view.extent().trimmed_before);
        Ok(page)
    }

    /// The first entry of the range that can be read: what is known of a stream does not depend on damage to its head.
    pub(super) async fn first_readable(&self, view: Arc<StreamView>, range: IdRange) -> Result<Option<StoredEntry>> {
        self.read_with(move |reader, disk| reader.first(&view, range, disk)).await
    }

    /// Drops the oldest entries of a stream.
    pub async fn trim(&self, request: Trim) -> Result<Trimmed> {
        self.trim_whole(request, None).await
    }

    /// Trims by whole logical nodes only, which costs less: what is asked for is the least that is kept. Drops so many
    /// entries at most.
    pub async fn trim_nodes(&self, request: Trim, dropped_max: u64) -> Result<Trimmed> {
        self.trim_whole(request, Some(dropped_max)).await
    }

    async fn trim_whole(&self, request: Trim, nodes: Option<u64>) -> Result<Trimmed> {
        let view = self.view(&request.stream)?;
        let to = match request.to {
            TrimTo::BeforeTime(ms) => TrimTo::BeforeId(self.first_since(&view, ms).await?),
            to => to,
        };
        let rule = TrimRule { keep: keep(to), nodes };
        self.find_head(&request.stream, rule, (0, 0)).await?;
        let asked = TrimAsked { stream: view.number, rule, unacknowledged: false, dry_run: request.dry_run };
        let TrimDone { before, entries, bytes } = self.ask(|reply| Command::Trim { asked, reply }).await?;
        let kept = IdRange { first: before, last: EntryId::MAX };
        let first = self.first_readable(view, kept).await?.map(|e| e.id);
        Ok(Trimmed { entries, bytes, first })
    }

    /// The first id that was appended at this wall time or later, or none yet.
    async fn first_since(&self, view: &Arc<StreamView>, ms: u64) -> Result<EntryId> {
        let view = Arc::clone(view);
        self.on_reader_thread(move |reader| {
            // What is appended from now on is not meant.
            let beyond = view.extent().last.next().unwrap_or(EntryId::MAX);
            let bound = reader.bound_younger(&view, &|time| time.wall_ms < ms)?;
            Ok(bound.unwrap_or_default().min(beyond))
        })
        .await
    }

    /// In a transaction, where the core cannot wait for it: finds what it has to know of the head of a stream before it
    /// decides such a trim, to be asked for after so many entries of so many bytes.
    pub(super) async fn find_head(&self, stream: &StreamName, rule: TrimRule, coming: (u64, u64)) -> Result<()> {
        if !self.is_in_transaction() {
            return Ok(());
        }
        let stream = stream.clone();
        loop {
            let wanted = |reply| Command::HeadWanted { stream: stream.clone(), rule, coming, reply };
            let Some(wanted) = self.ask(wanted).await? else { return Ok(()) };
            let found = self.0.reader.head(&*self.view(&stream)?, &wanted);
            self.send(Command::HeadFound { stream: wanted.stream, found })?;
        }
    }

    /// Trims entry by entry, with a look at what groups have of each, and drops so many at most: an entry that stays does
    /// not keep those behind it, and where a number of entries or bytes is to be kept, they go in its place. Answers how
    /// many went. Much is dropped in several commits, of which a crash may leave the first ones only.
    pub async fn trim_by_references(
        &self,
        stream: &StreamName,
        to: TrimTo,
        references: References,
        dropped_max: u64,
    ) -> Result<u64> {
        let view = self.view(stream)?;
        let (mut after, mut dropped) = (view.extent().trimmed_before.prev().unwrap_or_default(), 0);
        // Mostly little is to go, as after each of many appends.
        let mut step = CANDIDATES_PER_STEP / 32;
        loop {
            let seen = Arc::clone(&view);
            let read = move |reader: &Reader, disk| reader.candidates(&seen, after, step, false, disk);
            let (candidates, _) = self.read_with(read).await?;
            let dropped_max = dropped_max - dropped;
            let trim = SingleTrim { stream: view.number, to, references, dropped_max, after, candidates };
            let trimmed = self.ask(|reply| Command::TrimSingly { trim, reply }).await?;
            dropped += trimmed.dropped;
            match trimmed.next {
                Some(next) => (after, step) = (next, CANDIDATES_PER_STEP),
                None => return Ok(dropped),
            }
        }
    }

    /// Where logical nodes end, in which [`Engine::trim_nodes`] counts.
    pub fn node_limits(&self) -> NodeLimits {
        self.0.shared.node_limits()
    }

    /// Sets where logical nodes end that are begun from now on, in all streams, until the engine stops.
    pub fn set_node_limits(&self, limits: NodeLimits) {
        let (entries, bytes) = &self.0.shared.node_limits;
        entries.store(limits.entries, Ordering::Relaxed);
        bytes.store(limits.bytes, Ordering::Relaxed);
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

/// Below which id a stream is trimmed, where a page was to start in what is gone. A page that starts where it was to
/// misses nothing, whatever was trimmed after it was read.
fn trimmed_of(page: &Page, range: IdRange, reverse: bool, bound: EntryId) -> Option<EntryId> {
    let asked = if reverse && range.last >= bound { page.next.is_none() } else { true };
    let starts_below = range.first > EntryId::ZERO && range.first < bound || reverse && range.last < bound;
    let first = page.entries.first().filter(|_| !reverse).map_or(bound, |entry| entry.id);
    (asked && starts_below && first > range.first).then_some(bound.min(first))
}
