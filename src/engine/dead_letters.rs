//! Dead letters through the handle: list, redrive, purge, in pages.

use std::sync::Arc;

use super::api::{DeadLetter, DeadLetterChoice, DeadLetterPage, Read, RedriveTo, Redriven};
use super::command::{Command, RedriveOne};
use super::dead_letter;
use super::handle::{Engine, check_count, check_ids, group_key};
use super::reader::candidate_key;
use super::view::StreamView;
use crate::error::{Reason, Result};
use crate::format::event::stored_as;
use crate::format::record::DeletedEntry;
use crate::limits;
use crate::types::{EntryId, GroupName, IdRange, StoredEntry, StreamName};

/// Letters handled at once.
const LETTERS_PER_STEP: usize = 256;

/// The dead letters of one group.
struct Letters {
    engine: Engine,
    stream: StreamName,
    group: GroupName,
    /// The stream that holds them; `None` while there is none.
    view: Option<Arc<StreamView>>,
}

/// A letter with the entry that it is stored as.
struct Letter {
    read: DeadLetter,
    stored_bytes: u32,
}

impl Engine {
    /// Dead letters of a group in the order in which they came, after an id of their stream: at least one, up to a
    /// page's bytes.
    pub async fn dead_letters(
        &self,
        stream: &StreamName,
        group: &GroupName,
        after: Option<EntryId>,
        max: usize,
    ) -> Result<DeadLetterPage> {
        check_count("max", max, limits::PAGE_ENTRIES_MAX)?;
        let letters = self.letters(stream, group).await?;
        let (mut out, mut bytes) = (Vec::<DeadLetter>::new(), 0);
        let mut from = after.map_or(Some(EntryId::ZERO), EntryId::next);
        while let Some(first) = from.filter(|_| out.len() < max) {
            let (page, next) = letters.page(IdRange { first, last: EntryId::MAX }, max - out.len()).await?;
            from = next;
            for Letter { read, .. } in page {
                bytes += read.entry.bytes.len();
                if let Some(last) = out.last().filter(|_| bytes > limits::PAGE_BYTES_DEFAULT) {
                    return Ok(DeadLetterPage { next_after: Some(last.id), letters: out });
                }
                out.push(read);
            }
        }
        let next_after = out.last().map(|last| last.id).filter(|_| from.is_some());
        Ok(DeadLetterPage { letters: out, next_after })
    }

    /// Sends dead letters back.
    pub async fn redrive(
        &self,
        stream: &StreamName,
        group: &GroupName,
        which: DeadLetterChoice,
        to: RedriveTo,
    ) -> Result<Redriven> {
        let letters = self.letters(stream, group).await?;
        letters.each_page(which, |page| letters.redrive(page, to)).await
    }

    /// Deletes dead letters.
    pub async fn purge_dead_letters(
        &self,
        stream: &StreamName,
        group: &GroupName,
        which: DeadLetterChoice,
    ) -> Result<Redriven> {
        let letters = self.letters(stream, group).await?;
        letters.each_page(which, |page| letters.purge(page)).await
    }

    async fn letters(&self, stream: &StreamName, group: &GroupName) -> Result<Letters> {
        let key = group_key(stream, group);
        let (info, _) = self.ask(|reply| Command::GroupInfo { key, reply }).await?;
        let view = info.settings.dead_letter_stream.and_then(|name| self.view(&name).ok());
        Ok(Letters { engine: self.clone(), stream: stream.clone(), group: group.clone(), view })
    }
}

impl Letters {
    /// A page of letters, and where to go on.
    async fn page(&self, range: IdRange, max: usize) -> Result<(Vec<Letter>, Option<EntryId>)> {
        let Some(view) = &self.view else { return Ok((Vec::new(), None)) };
        let read = Read { range, entries_max: max.min(LETTERS_PER_STEP), ..Read::all(view.name()) };
        match self.engine.read(read).await {
            Ok(page) => Ok((page.entries.iter().filter_map(|e| self.letter(e)).collect(), page.next)),
            Err(gone) if gone.reason() == Reason::StreamNotFound => Ok((Vec::new(), None)),
            Err(error) => Err(error),
        }
    }

    /// The entry as a letter of this group; others may share the stream.
    fn letter(&self, entry: &StoredEntry) -> Option<Letter> {
        let read = dead_letter::read(entry).ok().flatten()?;
        let ours = read.group == self.group.to_string() && read.origin_stream == self.stream.as_str();
        ours.then_some(Letter { read, stored_bytes: entry.bytes.len() as u32 })
    }

    /// Does something with the chosen letters, a page at a time, and adds up what came of it.
    async fn each_page<F, Fut>(&self, which: DeadLetterChoice, work: F) -> Result<Redriven>
    where
        F: Fn(Vec<Letter>) -> Fut,
        Fut: Future<Output = Result<Redriven>>,
    {
        let mut total = Redriven::default();
        match which {
            DeadLetterChoice::Ids(mut ids) => {
                check_ids(ids.len())?;
                ids.sort_unstable();
                ids.dedup();
                for chunk in ids.chunks(LETTERS_PER_STEP) {
                    let found = self.find(chunk).await?;
                    let missing = chunk.iter().filter(|id| !found.iter().any(|l| l.read.id == **id));
                    total.not_found.extend(missing);
                    add(&mut total, work(found).await?);
                }
            }
            DeadLetterChoice::All => {
                let last = self.view.as_ref().map_or(EntryId::ZERO, |v| v.extent().last);
                let mut from = Some(EntryId::ZERO);
                while let Some(first) = from.filter(|first| *first <= last) {
                    let (page, next) = self.page(IdRange { first, last }, LETTERS_PER_STEP).await?;
                    add(&mut total, work(page).await?);
                    from = next;
                }
            }
        }
        Ok(total)
    }

    async fn find(&self, ids: &[EntryId]) -> Result<Vec<Letter>> {
        let Some(view) = self.view.clone() else { return Ok(Vec::new()) };
        let ids = ids.to_vec();
        let found = self.engine.read_with(move |reader, disk| reader.entries(&view, &ids, disk)).await?;
        Ok(found.iter().filter_map(|e| self.letter(e)).collect())
    }

    async fn redrive(&self, page: Vec<Letter>, to: RedriveTo) -> Result<Redriven> {
        if page.is_empty() {
            return Ok(Redriven::default());
        }
        let mut origins: Vec<EntryId> = page.iter().map(|l| l.read.origin_id).collect();
        origins.sort_unstable();
        origins.dedup();
        let view = self.engine.view(&self.stream)?;
        let originals = self.engine.read_with(move |reader, disk| reader.entries(&view, &origins, disk)).await?;
        let letters = page
            .into_iter()
            .map(|letter| {
                let original = originals.iter().find(|e| e.id == letter.read.origin_id);
                RedriveOne {
                    letter: DeletedEntry { id: letter.read.id, bytes: letter.stored_bytes },
                    origin: letter.read.origin_id,
                    original: original.map(|e| (e.bytes.len() as u32, candidate_key(e.kind, &e.bytes))),
                    entry: stored_as(letter.read.entry.kind, letter.read.entry.bytes),
                }
            })
            .collect();
        let key = group_key(&self.stream, &self.group);
        self.engine.ask(|reply| Command::Redrive { key, letters, to, reply }).await
    }

    async fn purge(&self, page: Vec<Letter>) -> Result<Redriven> {
        let Some(view) = self.view.as_ref().filter(|_| !page.is_empty()) else { return Ok(Redriven::default()) };
        let entries = page.iter().map(|l| DeletedEntry { id: l.read.id, bytes: l.stored_bytes }).collect();
        let stream = view.number;
        let done = self.engine.ask(|reply| Command::DeleteEntries { stream, entries, reply }).await?;
        Ok(Redriven { done, ..Redriven::default() })
    }
}

fn add(total: &mut Redriven, part: Redriven) {
    total.done += part.done;
    total.not_found.extend(part.not_found);
    total.original_gone.extend(part.original_gone);
    total.is_cut_short |= part.is_cut_short;
}
