//! XLEN, XRANGE, XREVRANGE, XREAD.

use std::time::Duration;

use bytes::Bytes;
use futures::future::select_all;

use crate::access::Permission;
use crate::engine::{Page, Read, Tail, TailFrom};
use crate::error::{Error, Reason};
use crate::limits::{PAGE_BYTES_DEFAULT, PAGE_ENTRIES_MAX};
use crate::resp::args::{Args, int};
use crate::resp::refusal::Refusal;
use crate::resp::reply::{Protocol, Reply};
use crate::resp::room::Share;
use crate::resp::session::Session;
use crate::resp::{entries, ids};
use crate::types::{EntryId, IdRange, StoredEntry, StreamName};

/// What an entry takes beside its bytes when it is written, about.
const ENTRY_BYTES: usize = 64;

/// What waiting for one stream takes.
const WAIT_BYTES: usize = 1 << 10;

/// Bytes of entries that one reply holds at most: nobody's question may take the server's memory.
const REPLY_BYTES_MAX: usize = 64 << 20;

/// What both XREAD and XREADGROUP are told before the streams.
pub(super) struct Options {
    /// Entries of each stream at most.
    pub(super) count: usize,
    /// How long to wait where there is nothing; zero for ever. Unset: not at all.
    pub(super) block: Option<Duration>,
    pub(super) no_ack: bool,
}

impl Options {
    pub(super) fn new() -> Self {
        Self { count: usize::MAX, block: None, no_ack: false }
    }

    /// Takes an option that both have; whether it was one.
    pub(super) fn take(&mut self, args: &mut Args<'_>) -> Result<bool, Refusal> {
        if args.next_is("count") {
            self.count = match args.int()? {
                count if count > 0 => count as usize,
                _ => usize::MAX,
            };
        } else if args.next_is("block") {
            let ms = int(args.next()?);
            let ms = ms.ok_or_else(|| Refusal::new("ERR timeout is not an integer or out of range"))?;
            let ms = u64::try_from(ms).map_err(|_| Refusal::new("ERR timeout is negative"))?;
            self.block = Some(Duration::from_millis(ms));
        } else {
            return Ok(false);
        }
        Ok(true)
    }
}

/// The keys and ids behind STREAMS: as many of the one as of the other.
pub(super) fn keys_and_ids<'a>(
    args: Args<'a>,
    command: &str,
    or: &str,
) -> Result<Vec<(&'a Bytes, &'a Bytes)>, Refusal> {
    let rest = args.rest();
    if rest.is_empty() || !rest.len().is_multiple_of(2) {
        return Err(Refusal::new(format!(
            "ERR Unbalanced '{command}' list of streams: for each stream key an ID{or} must be specified."
        )));
    }
    let (keys, ids) = rest.split_at(rest.len() / 2);
    Ok(keys.iter().zip(ids).collect())
}

/// Waits, at most so long where it is not zero; `None` when the time is over.
pub(super) async fn within<T>(wait: Duration, work: impl Future<Output = T>) -> Option<T> {
    if wait.is_zero() { Some(work.await) } else { tokio::time::timeout(wait, work).await.ok() }
}

/// What one reply may hold, and what it holds of the room of all connections.
pub(super) struct Budget {
    share: Share,
    bytes: usize,
}

impl Budget {
    /// Takes so many bytes more; refused where all connections together have no room for them.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.bytes += bytes;
        Ok(self.share.hold(self.bytes)?)
    }

    /// Counts so many bytes that are there already, whether there is room or not.
    pub(super) fn note(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Whether the reply holds as much as it may.
    pub(super) fn is_used_up(&self) -> bool {
        self.bytes >= REPLY_BYTES_MAX
    }
}

impl Session {
    /// What a command that waits for so many streams holds of the room of all connections.
    pub(super) fn room_to_wait(&self, streams: usize) -> Result<Share, Refusal> {
        let share = self.port.room.share();
        share.hold(streams * WAIT_BYTES)?;
        Ok(share)
    }

    pub(in crate::resp) async fn length(&self, mut args: Args<'_>) -> Result<Reply, Refusal> {
        let stream = self.stream(args.next()?, Permission::Read)?;
        match self.engine.stream_counts(&stream).await {
            Err(error) if error.reason() == Reason::StreamNotFound => Ok(Reply::Int(0)),
            info => Ok(Reply::count(info?.length)),
        }
    }

    pub(in crate::resp) async fn range(&self, mut args: Args<'_>, reverse: bool) -> Result<Reply, Refusal> {
        let key = args.next()?;
        let (one, other) = (args.next()?, args.next()?);
        let range = if reverse { ids::interval(other, one)? } else { ids::interval(one, other)? };
        let mut count = None;
        while !args.is_empty() {
            if !args.next_is("count") {
                return Err(Refusal::syntax());
            }
            count = Some(args.int()?);
        }
        let stream = self.stream(key, Permission::Read)?;
        if !self.engine.has_stream(&stream) {
            return Ok(Reply::Array(Vec::new()));
        }
        let count = match count {
            Some(count) if count <= 0 => return Ok(Reply::NullArray),
            Some(count) => count as usize,
            None => usize::MAX,
        };
        let Some(range) = range else { return Ok(Reply::Array(Vec::new())) };
        let mut budget = self.budget();
        let (reply, is_all) = self.gather(&stream, range, reverse, count, &mut budget).await?;
        if !is_all {
            return Err(Refusal::new("ERR the reply would be larger than 64 MiB: ask for fewer entries with COUNT"));
        }
        Ok(reply)
    }

    /// What one reply may hold.
    pub(super) fn budget(&self) -> Budget {
        Budget { share: self.port.room.share(), bytes: 0 }
    }

    /// The first entry of a stream, or the last.
    pub(super) async fn end_entry(&self, stream: &StreamName, is_last: bool) -> Result<Option<StoredEntry>, Refusal> {
        let page = self.page(stream, IdRange::ALL, is_last, 1).await?;
        Ok(page.and_then(|page| page.entries.into_iter().next()))
    }

    /// A page of a stream; `None` where there is no such stream.
    pub(super) async fn page(
        &self,
        stream: &StreamName,
        range: IdRange,
        reverse: bool,
        count: usize,
    ) -> Result<Option<Page>, Refusal> {
        let (entries_max, bytes_max) = (count.min(PAGE_ENTRIES_MAX), PAGE_BYTES_DEFAULT);
        let read = Read { stream: stream.clone(), range, reverse, entries_max, bytes_max, strict: false };
        match self.engine.read(read).await {
            Err(error) if error.reason() == Reason::StreamNotFound => Ok(None),
            page => Ok(Some(page?)),
        }
    }

    /// The entries of a range, so many at most, as they are written, and whether that is all that was asked for: what is
    /// too much for one reply is left out. None where there is no such stream.
    pub(super) async fn gather(
        &self,
        stream: &StreamName,
        mut range: IdRange,
        reverse: bool,
        count: usize,
        budget: &mut Budget,
    ) -> Result<(Reply, bool), Refusal> {
        let (mut found, mut pieces, mut is_all) = (0, Vec::new(), true);
        while let Some(page) = self.page(stream, range, reverse, count - found).await? {
            let bytes: usize = page.entries.iter().map(|entry| entry.bytes.len() + ENTRY_BYTES).sum();
            let mut written = Vec::with_capacity(bytes);
            page.entries.iter().for_each(|entry| entries::entry(entry).write(Protocol::Resp2, &mut written));
            found += page.entries.len();
            budget.take(written.len())?;
            pieces.push(written);
            if page.next.is_some() && !self.is_lent {
                // What the cache answers never waits: others are to be served in between.
                tokio::task::yield_now().await;
            }
            match page.next.filter(|_| found < count) {
                Some(_) if budget.is_used_up() => is_all = false,
                Some(next) if reverse => {
                    range.last = next;
                    continue;
                }
                Some(next) => {
                    range.first = next;
                    continue;
                }
                None => {}
            }
            break;
        }
        Ok((Reply::Written(found, pieces), is_all))
    }

    pub(in crate::resp) async fn read(&self, mut args: Args<'_>, may_block: bool) -> Result<Reply, Refusal> {
        let mut options = Options::new();
        while !args.next_is("streams") {
            if !options.take(&mut args)? {
                return Err(only_of_groups(args.next()?));
            }
        }
        let mut wanted = Vec::new();
        for (key, id) in keys_and_ids(args, "xread", ", '+', or '$'")? {
            let stream = self.stream(key, Permission::Read)?;
            let after = self.after(&stream, id).await?;
            wanted.push((stream, after));
        }
        let block = options.block.filter(|_| may_block);
        let _room = self.room_to_wait(if block.is_some() { wanted.len() } else { 0 })?;
        let reading = async {
            loop {
                let reply = self.read_now(&wanted, options.count).await?;
                if reply.is_some() || block.is_none() {
                    return Ok::<_, Refusal>(reply);
                }
                self.wait_for_any(&wanted).await?;
            }
        };
        let _wait = block.map(|_| self.client.wait());
        let reply = within(block.unwrap_or_default(), reading).await.transpose()?.flatten();
        Ok(reply.unwrap_or(Reply::NullArray))
    }

    /// The id after which an XREAD begins; `$` is where the stream ends now.
    async fn after(&self, stream: &StreamName, id: &[u8]) -> Result<EntryId, Refusal> {
        match id {
            b"$" => match self.engine.stream_counts(stream).await {
                Err(error) if error.reason() == Reason::StreamNotFound => Ok(EntryId::ZERO),
                info => Ok(info?.last),
            },
            b"+" => {
                let last = self.end_entry(stream, true).await?;
                Ok(last.and_then(|entry| entry.id.prev()).unwrap_or_default())
            }
            b">" => Err(Refusal::new(
                "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
            )),
            _ => ids::strict(id, 0),
        }
    }

    /// What there is after these ids; `None` where there is nothing at all.
    async fn read_now(&self, wanted: &[(StreamName, EntryId)], count: usize) -> Result<Option<Reply>, Refusal> {
        let (mut found, mut budget) = (Vec::new(), self.budget());
        for (stream, after) in wanted {
            let Some(first) = after.next() else { continue };
            // What is left out comes with the next call.
            if budget.is_used_up() {
                break;
            }
            let range = IdRange { first, last: EntryId::MAX };
            let (entries, _) = self.gather(stream, range, false, count, &mut budget).await?;
            if !matches!(entries, Reply::Written(0, _)) {
                found.push((stream.as_str(), entries));
            }
        }
        Ok((!found.is_empty()).then(|| self.by_stream(found)))
    }

    /// Entries by stream: pairs in version 2 of the protocol, a map in version 3.
    pub(super) fn by_stream(&self, found: Vec<(&str, Reply)>) -> Reply {
        let found = found.into_iter().map(|(stream, entries)| (Reply::text(stream), entries));
        match self.protocol {
            Protocol::Resp2 => {
                Reply::Array(found.map(|(stream, entries)| Reply::Array(vec![stream, entries])).collect())
            }
            Protocol::Resp3 => Reply::Map(found.collect()),
        }
    }

    /// Waits until one of these streams may have more than it had.
    async fn wait_for_any(&self, wanted: &[(StreamName, EntryId)]) -> Result<(), Refusal> {
        let waits = wanted.iter().map(|(stream, after)| {
            Box::pin(async move {
                let more = match self.engine.tail(stream, TailFrom::After(*after)).await {
                    Ok(tail) => any_entry(tail).await,
                    Err(error) => Err(error),
                };
                match more {
                    Err(error) if error.reason() == Reason::StreamNotFound => self.engine.appears(stream).await,
                    more => more,
                }
            })
        });
        Ok(select_all(waits).await.0?)
    }
}

/// Waits until a tail has an entry. Redis does not tell of what was trimmed before it was read.
async fn any_entry(mut tail: Tail) -> Result<(), Error> {
    while tail.next(1, 1).await?.entries.is_empty() {}
    Ok(())
}

/// The refusal of an option that XREAD lacks.
fn only_of_groups(option: &[u8]) -> Refusal {
    let option = String::from_utf8_lossy(option).to_ascii_uppercase();
    match &option[..] {
        "GROUP" | "NOACK" | "CLAIM" => {
            Refusal::new(format!("ERR The {option} option is only supported by XREADGROUP. You called XREAD instead."))
        }
        _ => Refusal::syntax(),
    }
}
