//! XLEN, XRANGE, XREVRANGE, XREAD.

use std::time::Duration;

use bytes::Bytes;
use futures::future::select_all;

use crate::access::Permission;
use crate::engine::{Read, TailFrom};
use crate::error::Reason;
use crate::limits::{PAGE_BYTES_DEFAULT, PAGE_ENTRIES_MAX};
use crate::resp::args::{Args, int};
use crate::resp::refusal::Refusal;
use crate::resp::reply::Reply;
use crate::resp::session::Session;
use crate::resp::{entries, ids};
use crate::types::{EntryId, IdRange, StoredEntry, StreamName};

/// How often it is looked whether a stream that is waited for exists by now.
const LOOK_FOR_STREAM: Duration = Duration::from_millis(50);

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

impl Session {
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
        let mut count = None;
        while !args.is_empty() {
            if !args.next_is("count") {
                return Err(Refusal::syntax());
            }
            count = Some(args.int()?);
        }
        let range = if reverse { ids::interval(other, one)? } else { ids::interval(one, other)? };
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
        let (found, is_all) = self.entries(&stream, range, reverse, count).await?;
        if !is_all {
            return Err(Refusal::new("ERR the reply would be larger than 64 MiB: ask for fewer entries with COUNT"));
        }
        Ok(Reply::Array(found.iter().map(entries::entry).collect()))
    }

    /// The entries of a range, so many at most, and whether that is all that was asked for: what is too much for one
    /// reply is left out. None where there is no such stream.
    pub(super) async fn entries(
        &self,
        stream: &StreamName,
        mut range: IdRange,
        reverse: bool,
        count: usize,
    ) -> Result<(Vec<StoredEntry>, bool), Refusal> {
        let mut found: Vec<StoredEntry> = Vec::new();
        let mut bytes = 0;
        loop {
            let entries_max = (count - found.len()).min(PAGE_ENTRIES_MAX);
            let bytes_max = PAGE_BYTES_DEFAULT;
            let read = Read { stream: stream.clone(), range, reverse, entries_max, bytes_max, strict: false };
            let page = match self.engine.read(read).await {
                Err(error) if error.reason() == Reason::StreamNotFound => return Ok((found, true)),
                page => page?,
            };
            bytes += page.entries.iter().map(|entry| entry.bytes.len()).sum::<usize>();
            found.extend(page.entries);
            match page.next {
                Some(_) if found.len() < count && bytes >= REPLY_BYTES_MAX => return Ok((found, false)),
                Some(next) if found.len() < count && reverse => range.last = next,
                Some(next) if found.len() < count => range.first = next,
                _ => return Ok((found, true)),
            }
        }
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
        let reading = async {
            loop {
                let reply = self.read_now(&wanted, options.count).await?;
                if reply.is_some() || block.is_none() {
                    return Ok::<_, Refusal>(reply);
                }
                self.wait_for_any(&wanted).await;
            }
        };
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
                let (last, _) = self.entries(stream, IdRange::ALL, true, 1).await?;
                Ok(last.first().and_then(|entry| entry.id.prev()).unwrap_or_default())
            }
            b">" => Err(Refusal::new(
                "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
            )),
            _ => ids::strict(id, 0),
        }
    }

    /// What there is after these ids; `None` where there is nothing at all.
    async fn read_now(&self, wanted: &[(StreamName, EntryId)], count: usize) -> Result<Option<Reply>, Refusal> {
        let mut found = Vec::new();
        for (stream, after) in wanted {
            let Some(first) = after.next() else { continue };
            // What is left out comes with the next call.
            let (entries, _) = self.entries(stream, IdRange { first, last: EntryId::MAX }, false, count).await?;
            if !entries.is_empty() {
                found.push((stream.as_str(), entries.iter().map(entries::entry).collect()));
            }
        }
        Ok((!found.is_empty()).then(|| self.by_stream(found)))
    }

    /// Entries by stream: pairs in version 2 of the protocol, a map in version 3.
    pub(super) fn by_stream(&self, found: Vec<(&str, Vec<Reply>)>) -> Reply {
        let found = found.into_iter().map(|(stream, entries)| (Reply::text(stream), Reply::Array(entries)));
        match self.protocol {
            crate::resp::reply::Protocol::Resp2 => {
                Reply::Array(found.map(|(stream, entries)| Reply::Array(vec![stream, entries])).collect())
            }
            crate::resp::reply::Protocol::Resp3 => Reply::Map(found.collect()),
        }
    }

    /// Waits until one of these streams may have more than it had.
    async fn wait_for_any(&self, wanted: &[(StreamName, EntryId)]) {
        let waits = wanted.iter().map(|(stream, after)| {
            Box::pin(async move {
                let tail = self.engine.tail(stream, TailFrom::After(*after)).await;
                match tail {
                    Ok(mut tail) => drop(tail.next(1, 1).await),
                    Err(_) => tokio::time::sleep(LOOK_FOR_STREAM).await,
                }
            })
        });
        select_all(waits).await;
    }
}

/// The refusal of an option that XREAD lacks.
fn only_of_groups(option: &[u8]) -> Refusal {
    let option = String::from_utf8_lossy(option).to_ascii_uppercase();
    match &option[..] {
        "GROUP" | "NOACK" => {
            Refusal::new(format!("ERR The {option} option is only supported by XREADGROUP. You called XREAD instead."))
        }
        _ => Refusal::syntax(),
    }
}
