//! A stream as simply as it can be said: every entry ever appended in a list, with a mark on those that are gone.

use std::collections::BTreeMap;

use bytes::Bytes;
use synapse::clock::Now;
use synapse::engine::{Expected, Page, Published, References, TrimTo, Trimmed};
use synapse::error::Reason;
use synapse::types::{EntryId, EntryKind, IdRange, IdRequest, Retention, StoredEntry, StreamSettings};

use crate::group::Group;

/// What a dead letter says of its origin.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Letter {
    pub(crate) origin_stream: String,
    pub(crate) origin_id: EntryId,
    pub(crate) group: String,
    pub(crate) deliveries: u32,
    pub(crate) failures: u32,
}

/// What is published.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Content {
    pub(crate) kind: EntryKind,
    pub(crate) bytes: Bytes,
    pub(crate) key: Option<u8>,
    pub(crate) event_id: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) id: EntryId,
    /// When it was appended.
    pub(crate) at: Now,
    pub(crate) content: Content,
    /// For a dead letter: what it was before, and where it came from.
    pub(crate) letter: Option<(Content, Letter)>,
    pub(crate) deleted: bool,
}

/// What is remembered of requests that have names: the producer's, the request's, and the entry that came of it.
#[derive(Debug)]
pub(crate) struct Once {
    pub(crate) window_s: u32,
    pub(crate) names_max: u32,
    /// In the order of the entries.
    pub(crate) names: Vec<(u8, u8, EntryId)>,
}

impl Once {
    fn new(window_s: u32, names_max: u32) -> Self {
        Self { window_s, names_max, names: Vec::new() }
    }

    /// What is young enough at this time.
    pub(crate) fn known(&self, wall_ms: u64) -> impl Iterator<Item = &(u8, u8, EntryId)> {
        let window_ms = u64::from(self.window_s) * 1000;
        self.names.iter().filter(move |(_, _, id)| wall_ms.saturating_sub(id.ms) <= window_ms)
    }

    fn find(&self, (producer, name): (u8, u8), wall_ms: u64) -> Option<EntryId> {
        self.known(wall_ms).find(|known| (known.0, known.1) == (producer, name)).map(|known| known.2)
    }

    fn remember(&mut self, (producer, name): (u8, u8), id: EntryId) {
        self.names.retain(|known| (known.0, known.1) != (producer, name));
        self.names.push((producer, name, id));
        let of_producer = |known: &&(u8, u8, EntryId)| known.0 == producer;
        while self.names.iter().filter(of_producer).count() > self.names_max as usize {
            let oldest = self.names.iter().position(|known| known.0 == producer).expect("there is one too many");
            self.names.remove(oldest);
        }
        while self.names.first().is_some_and(|oldest| id.ms - oldest.2.ms > u64::from(self.window_s) * 1000) {
            self.names.remove(0);
        }
    }

    /// Other settings, under which everything is forgotten.
    pub(crate) fn configure(&mut self, window_s: Option<u32>, names_max: Option<u32>) {
        let to = (window_s.unwrap_or(self.window_s), names_max.unwrap_or(self.names_max));
        if to != (self.window_s, self.names_max) {
            *self = Self::new(to.0, to.1);
        }
    }
}

/// A request that was seen before: sequence, contents, ids that it got, when.
type Seen = (u64, Vec<Bytes>, Vec<EntryId>, u64);

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) entries: Vec<Entry>,
    pub(crate) settings: StreamSettings,
    pub(crate) trimmed_before: EntryId,
    pub(crate) deleted_max: EntryId,
    pub(crate) created_ms: u64,
    producers: BTreeMap<String, Vec<Seen>>,
    events: BTreeMap<String, (EntryId, u64)>,
    pub(crate) once: Once,
    /// When it goes by itself.
    pub(crate) expires_ms: Option<u64>,
    pub(crate) groups: BTreeMap<String, Group>,
}

/// A publish as the model sees it.
pub(crate) struct Request {
    pub(crate) contents: Vec<Content>,
    pub(crate) ids: IdRequest,
    pub(crate) expected: Option<Expected>,
    pub(crate) producer: Option<(String, u64)>,
    pub(crate) once: Option<(u8, u8)>,
    pub(crate) by_event_id: bool,
    pub(crate) trim: Option<TrimTo>,
}

impl Request {
    /// Whether it asks for what does not go together.
    pub(crate) fn is_bad(&self) -> bool {
        let is_exact = matches!(self.ids, IdRequest::Exact(_));
        let is_named = self.once.is_some();
        (is_exact || is_named) && self.contents.len() != 1 || is_named && self.ids != IdRequest::Auto
    }
}

impl Stream {
    pub(crate) fn new(settings: StreamSettings, now: Now) -> Self {
        Self {
            entries: Vec::new(),
            settings,
            trimmed_before: EntryId::ZERO,
            deleted_max: EntryId::ZERO,
            created_ms: now.wall_ms,
            producers: BTreeMap::new(),
            events: BTreeMap::new(),
            once: Once::new(100, 100),
            expires_ms: None,
            groups: BTreeMap::new(),
        }
    }

    pub(crate) fn last(&self) -> EntryId {
        self.entries.last().map_or(EntryId::ZERO, |e| e.id)
    }
    /// Entries ever appended up to and with this id.
    pub(crate) fn ordinal(&self, id: EntryId) -> usize {
        self.entries.partition_point(|e| e.id <= id)
    }
    /// Entries ever appended below the trim point.
    pub(crate) fn trimmed(&self) -> usize {
        self.entries.partition_point(|e| e.id < self.trimmed_before)
    }
    pub(crate) fn get(&self, id: EntryId) -> Option<&Entry> {
        let at = self.entries.binary_search_by_key(&id, |e| e.id).ok()?;
        Some(&self.entries[at]).filter(|e| !e.deleted && e.id >= self.trimmed_before)
    }
    pub(crate) fn exists(&self, id: EntryId) -> bool {
        self.get(id).is_some()
    }
    /// Existing entries above an id.
    pub(crate) fn after(&self, id: EntryId) -> impl Iterator<Item = &Entry> {
        self.entries[self.ordinal(id).max(self.trimmed())..].iter().filter(|e| !e.deleted)
    }
    pub(crate) fn existing(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries[self.trimmed()..].iter().filter(|e| !e.deleted)
    }

    pub(crate) fn page(&self, range: IdRange, reverse: bool, max: usize, bytes_max: usize) -> Page {
        let mut found: Vec<&Entry> = self.existing().filter(|e| range.contains(e.id)).collect();
        if reverse {
            found.reverse();
        }
        let (mut page, mut bytes) = (Page::default(), 0);
        for entry in found {
            bytes += entry.content.bytes.len();
            if page.entries.len() == max || (!page.entries.is_empty() && bytes > bytes_max) {
                page.next = Some(entry.id);
                break;
            }
            page.entries.push(stored(entry));
        }
        page
    }

    /// What a trim would take, and the new trim point where it takes anything.
    pub(crate) fn plan_trim(&self, to: TrimTo) -> (Trimmed, Option<EntryId>) {
        let beyond = self.last().next().unwrap_or(EntryId::MAX);
        let tail = |fits: &dyn Fn(u64, u64) -> bool| {
            let (mut count, mut bytes, mut first) = (0, 0, beyond);
            for entry in self.existing().rev() {
                count += 1;
                bytes += entry.content.bytes.len() as u64;
                if !fits(count, bytes) {
                    break;
                }
                first = entry.id;
            }
            first
        };
        let before = match to {
            TrimTo::BeforeId(id) => id.min(beyond),
            TrimTo::BeforeTime(ms) => self.existing().find(|e| e.at.wall_ms >= ms).map_or(beyond, |e| e.id),
            TrimTo::KeepEntries(max) => tail(&|count, _| count <= max),
            TrimTo::KeepBytes(max) => tail(&|_, bytes| bytes <= max),
        };
        let gone: Vec<&Entry> = self.existing().take_while(|e| e.id < before).collect();
        let trimmed = Trimmed {
            entries: gone.len() as u64,
            bytes: gone.iter().map(|e| e.content.bytes.len() as u64).sum(),
            first: self.existing().nth(gone.len()).map(|e| e.id),
        };
        (trimmed, (!gone.is_empty()).then_some(before))
    }

    /// Trims entry by entry, so many at most; answers how many went.
    pub(crate) fn trim_singly(&mut self, to: TrimTo, references: References, max: u64) -> u64 {
        let all: Vec<(EntryId, u64)> = self.existing().map(|e| (e.id, e.content.bytes.len() as u64)).collect();
        let (mut length, mut bytes) = (all.len() as u64, all.iter().map(|(_, bytes)| bytes).sum::<u64>());
        let (mut dropped, mut at_head) = (0, true);
        for (id, size) in all {
            let is_over = match to {
                TrimTo::BeforeId(bound) => id < bound,
                TrimTo::BeforeTime(ms) => id.ms < ms,
                TrimTo::KeepEntries(count) => length > count,
                TrimTo::KeepBytes(count) => bytes > count,
            };
            if !is_over || dropped >= max {
                break;
            }
            let needs = |group: &crate::group::Group| group.cursor < id || group.pending.contains_key(&id);
            if references == References::Needed && self.groups.values().any(needs) {
                at_head = false;
                continue;
            }
            if references == References::Drop {
                self.groups.values_mut().for_each(|group| drop(group.pending.remove(&id)));
            }
            if at_head {
                self.trimmed_before = id.next().expect("below the greatest");
            } else {
                let at = self.entries.binary_search_by_key(&id, |e| e.id).expect("it is there");
                self.entries[at].deleted = true;
            }
            (length, bytes, dropped) = (length - 1, bytes - size, dropped + 1);
        }
        dropped
    }

    /// The new trim point, where what the stream is to keep moves it.
    pub(crate) fn plan_retention(&self, retention: &Retention, engine_ms: u64) -> Option<EntryId> {
        let first_unacknowledged = self.groups.values().map(|group| {
            let undelivered = group.cursor.next().unwrap_or(EntryId::MAX);
            group.pending.keys().next().map_or(undelivered, |pending| undelivered.min(*pending))
        });
        if let Some(before) = first_unacknowledged.min().filter(|_| retention.until_acknowledged) {
            return self.plan_trim(TrimTo::BeforeId(before)).1;
        }
        let entries = retention.entries_max.and_then(|max| self.plan_trim(TrimTo::KeepEntries(max)).1);
        let bytes = retention.bytes_max.and_then(|max| self.plan_trim(TrimTo::KeepBytes(max)).1);
        let age = retention.age_max_ms.and_then(|max| {
            let young = |e: &&Entry| engine_ms - e.at.engine_ms <= max;
            let first = self.existing().find(young).map_or(EntryId::MAX, |e| e.id);
            self.plan_trim(TrimTo::BeforeId(first)).1
        });
        [entries, bytes, age].into_iter().flatten().max()
    }

    pub(crate) fn delete(&mut self, ids: &[EntryId]) -> u64 {
        let mut done = 0;
        for id in ids {
            if self.exists(*id) {
                let at = self.ordinal(*id) - 1;
                self.entries[at].deleted = true;
                self.deleted_max = self.deleted_max.max(*id);
                done += 1;
            }
        }
        done
    }

    pub(crate) fn append(&mut self, id: EntryId, at: Now, content: Content, letter: Option<(Content, Letter)>) {
        assert!(id > self.last(), "the model keeps ids rising");
        self.entries.push(Entry { id, at, content, letter, deleted: false });
    }

    /// The ids that so many entries get.
    pub(crate) fn plan_ids(&self, ids: IdRequest, count: usize, wall_ms: u64) -> Result<Vec<EntryId>, Reason> {
        let last = self.last();
        let first = match ids {
            IdRequest::Auto if wall_ms > last.ms => EntryId::new(wall_ms, 0),
            IdRequest::Auto => EntryId::new(last.ms, last.seq + 1),
            IdRequest::AutoSeq(ms) if ms == last.ms => EntryId::new(ms, last.seq + 1),
            IdRequest::AutoSeq(ms) => EntryId::new(ms, 0),
            IdRequest::Exact(_) if count != 1 => return Err(Reason::InvalidArgument),
            IdRequest::Exact(id) => id,
        };
        if first <= last {
            return Err(Reason::IdNotGreater);
        }
        Ok((0..count as u64).map(|n| EntryId::new(first.ms, first.seq + n)).collect())
    }

    /// Publishes, or says why not, changing nothing then.
    pub(crate) fn publish(&mut self, request: &Request, now: Now) -> Result<Published, Reason> {
        let hash: Vec<Bytes> = request.contents.iter().map(|c| c.bytes.clone()).collect();
        if let Some((producer, sequence)) = &request.producer
            && let Some(published) = self.seen(producer, *sequence, &hash, now.engine_ms)?
        {
            return Ok(published);
        }
        if let Some(id) = request.once.and_then(|once| self.once.find(once, now.wall_ms)) {
            return Ok(published(vec![(id, true)], true));
        }
        let holds = match request.expected {
            None | Some(Expected::Exists) => true,
            Some(Expected::Empty) => self.last() == EntryId::ZERO,
            Some(Expected::LastId(id)) => self.last() == id,
        };
        if !holds {
            return Err(Reason::IdConflict);
        }
        let by_id =
            (request.by_event_id || self.settings.dedup.by_event_id) && !matches!(request.ids, IdRequest::Exact(_));
        let known: Vec<Option<EntryId>> = request
            .contents
            .iter()
            .map(|c| {
                let (id, at) = self.events.get(c.event_id.as_ref().filter(|_| by_id)?)?;
                (now.engine_ms - at <= self.settings.dedup.window_ms).then_some(*id)
            })
            .collect();
        let fresh = known.iter().filter(|k| k.is_none()).count();
        if fresh == 0 {
            return Ok(published(known.iter().flatten().map(|id| (*id, true)).collect(), true));
        }
        let ids = self.plan_ids(request.ids, fresh, now.wall_ms)?;
        let mut next = ids.iter().copied();
        let mut each = Vec::new();
        for (content, known) in request.contents.iter().zip(&known) {
            if let Some(known) = known {
                each.push((*known, true));
                continue;
            }
            let id = next.next().expect("as many as are fresh");
            self.append(id, now, content.clone(), None);
            if let Some(event_id) = content.event_id.as_ref().filter(|_| by_id) {
                self.events.insert(event_id.clone(), (id, now.engine_ms));
            }
            each.push((id, false));
        }
        if let Some(once) = request.once {
            self.once.remember(once, ids[0]);
        }
        if let Some(before) = request.trim.and_then(|to| self.plan_trim(to).1) {
            self.trimmed_before = before;
        }
        if let Some((producer, sequence)) = &request.producer {
            let seen = self.producers.entry(producer.clone()).or_default();
            seen.push((*sequence, hash, ids.clone(), now.engine_ms));
            if seen.len() > 5 {
                seen.remove(0);
            }
        }
        let mut answer = published(each, false);
        (answer.first, answer.last) = (ids[0], ids[ids.len() - 1]);
        Ok(answer)
    }

    fn seen(&self, producer: &str, sequence: u64, hash: &[Bytes], now_ms: u64) -> Result<Option<Published>, Reason> {
        let Some(seen) = self.producers.get(producer) else { return Ok(None) };
        let alive: Vec<&Seen> = seen.iter().filter(|s| now_ms - s.3 <= self.settings.dedup.window_ms).collect();
        if let Some((_, contents, ids, _)) = alive.iter().find(|s| s.0 == sequence) {
            if contents != hash {
                return Err(Reason::DuplicateMismatch);
            }
            return Ok(Some(published(ids.iter().map(|id| (*id, true)).collect(), true)));
        }
        if alive.iter().any(|s| s.0 > sequence) { Err(Reason::ProducerSequenceOld) } else { Ok(None) }
    }
}

fn published(each: Vec<(EntryId, bool)>, duplicate: bool) -> Published {
    let is_run = each.windows(2).all(|p| p[0].0.ms == p[1].0.ms && p[0].0.seq + 1 == p[1].0.seq);
    let some_known = each.iter().any(|(_, known)| *known);
    Published {
        first: each[0].0,
        last: each[each.len() - 1].0,
        count: each.len() as u32,
        duplicate,
        each: if duplicate { (!is_run).then_some(each) } else { some_known.then_some(each) },
    }
}

pub(crate) fn stored(entry: &Entry) -> StoredEntry {
    StoredEntry {
        id: entry.id,
        append_ms: entry.at.wall_ms,
        kind: entry.content.kind,
        bytes: entry.content.bytes.clone(),
    }
}
