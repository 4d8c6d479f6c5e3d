//! XINFO.

use std::time::Duration;

use bytes::Bytes;

use super::groups::is_missing;
use super::server::unknown_subcommand;
use crate::access::Permission;
use crate::clock::Clock;
use crate::engine::{ConsumerInfo, GroupInfo, ListPending, OnceInfo, PendingInfo, StreamInfo};
use crate::limits::PAGE_ENTRIES_MAX;
use crate::resp::args::Args;
use crate::resp::entries;
use crate::resp::refusal::Refusal;
use crate::resp::reply::Reply;
use crate::resp::session::Session;
use crate::types::{ConsumerName, EntryId, GroupName, IdRange, StreamName};

/// Entries of each list that `XINFO STREAM FULL` tells unless asked for others.
const FULL_COUNT: usize = 10;

impl Session {
    pub(in crate::resp) async fn info(&self, mut args: Args<'_>) -> Result<Reply, Refusal> {
        let given = args.next()?;
        let subcommand = given.to_ascii_lowercase();
        let wrong = || Refusal::arity(&format!("xinfo|{}", String::from_utf8_lossy(&subcommand)));
        let known = matches!(&subcommand[..], b"stream" | b"groups" | b"consumers");
        if !known {
            return Err(unknown_subcommand("XINFO", given));
        }
        let key = args.next().map_err(|_| wrong())?;
        let stream = self.stream(key, Permission::Read)?;
        match &subcommand[..] {
            b"stream" if !self.engine.has_stream(&stream) => Err(Refusal::new("ERR no such key")),
            b"stream" => match full(args)? {
                Some(count) => self.stream_in_full(&stream, count).await,
                None => self.stream_info(&stream).await,
            },
            b"groups" => {
                args.end().map_err(|_| wrong())?;
                let counts = self.counts(&stream).await?;
                let groups = self.engine.groups(&stream).await?;
                Ok(Reply::Array(groups.iter().map(|info| group(info, &counts)).collect()))
            }
            _ => {
                let name = args.next().map_err(|_| wrong())?;
                args.end().map_err(|_| wrong())?;
                self.consumers(key, &stream, name).await
            }
        }
    }

    async fn counts(&self, stream: &StreamName) -> Result<Counts, Refusal> {
        let info = self.engine.stream(stream).await?;
        let first = self.end_entry(stream, false).await?;
        let nodes = match self.engine.node_limits().entries {
            0 => info.length.min(1),
            entries => info.length.div_ceil(entries),
        };
        Ok(Counts { first: first.map(|entry| entry.id).unwrap_or_default(), info, nodes })
    }

    async fn stream_info(&self, stream: &StreamName) -> Result<Reply, Refusal> {
        let counts = self.counts(stream).await?;
        let end = |found: Option<_>| found.as_ref().map_or(Reply::Null, entries::entry);
        let (first, last) = (self.end_entry(stream, false).await?, self.end_entry(stream, true).await?);
        let mut all = counts.head(self.engine.once_info(stream).await?);
        all.push(("groups", Reply::count(counts.info.groups.len())));
        all.push(("first-entry", end(first)));
        all.push(("last-entry", end(last)));
        Ok(pairs(all))
    }

    /// `FULL`: so many entries of each list, from its beginning.
    async fn stream_in_full(&self, stream: &StreamName, count: usize) -> Result<Reply, Refusal> {
        let counts = self.counts(stream).await?;
        let (found, _) = self.gather(stream, IdRange::ALL, false, count, &mut self.budget()).await?;
        let mut groups = Vec::new();
        for info in self.engine.groups(stream).await? {
            groups.push(self.group_in_full(&info, &counts, count).await?);
        }
        let mut all = counts.head(self.engine.once_info(stream).await?);
        all.push(("entries", found));
        all.push(("groups", Reply::Array(groups)));
        Ok(pairs(all))
    }

    async fn group_in_full(&self, info: &GroupInfo, counts: &Counts, count: usize) -> Result<Reply, Refusal> {
        let now_ms = self.clock.now().wall_ms;
        let at = |idle_ms: u64| Reply::count(now_ms.saturating_sub(idle_ms));
        let pending = self.pending_of(info, None, count).await?;
        let pending = pending.iter().map(|pending| {
            let holder = pending.consumer.as_ref().map_or_else(|| Reply::text(""), |name| bytes(name.as_bytes()));
            let since = if pending.consumer.is_some() { at(pending.idle_ms) } else { Reply::Int(0) };
            Reply::Array(vec![entries::id(pending.id), holder, since, entries::deliveries(pending.deliveries)])
        });
        let pending = Reply::Array(pending.collect());
        let mut consumers = Vec::new();
        for consumer in sorted(&info.consumers) {
            let held = self.pending_of(info, Some(consumer.name.clone()), count).await?;
            let held = held.iter().map(|pending| {
                Reply::Array(vec![
                    entries::id(pending.id),
                    at(pending.idle_ms),
                    entries::deliveries(pending.deliveries),
                ])
            });
            consumers.push(pairs(vec![
                ("name", bytes(consumer.name.as_bytes())),
                ("seen-time", at(consumer.idle_ms)),
                ("active-time", consumer.inactive_ms.map_or(Reply::Int(-1), at)),
                ("pel-count", Reply::count(consumer.pending)),
                ("pending", Reply::Array(held.collect())),
            ]));
        }
        let mut all = vec![
            ("name", bytes(info.name.as_bytes())),
            ("last-delivered-id", entries::id(info.cursor)),
            ("entries-read", info.reads.map_or(Reply::Null, Reply::count)),
            ("lag", counts.lag(info).map_or(Reply::Null, Reply::Int)),
            ("pel-count", Reply::count(info.pending)),
        ];
        // Clients of the version that is told know nothing of it, and it is there only where they are not alone.
        if info.released > 0 {
            all.push(("nacked-count", Reply::count(info.released)));
        }
        all.push(("pending", pending));
        all.push(("consumers", Reply::Array(consumers)));
        Ok(pairs(all))
    }

    async fn pending_of(
        &self,
        info: &GroupInfo,
        consumer: Option<ConsumerName>,
        count: usize,
    ) -> Result<Vec<PendingInfo>, Refusal> {
        let mut found = Vec::new();
        let mut first = EntryId::ZERO;
        while found.len() < count {
            let list = ListPending {
                stream: info.stream.clone(),
                group: info.name.clone(),
                range: IdRange { first, last: EntryId::MAX },
                entries_max: (count - found.len()).min(PAGE_ENTRIES_MAX),
                consumer: consumer.clone(),
                idle_min: Duration::ZERO,
            };
            let page = self.engine.list_pending(list).await?;
            let next = page.last().and_then(|last| last.id.next());
            let is_last = page.len() < PAGE_ENTRIES_MAX;
            found.extend(page);
            match next.filter(|_| !is_last) {
                Some(next) => first = next,
                None => break,
            }
        }
        Ok(found)
    }

    async fn consumers(&self, key: &[u8], stream: &StreamName, name: &Bytes) -> Result<Reply, Refusal> {
        let found = self.engine.group(stream, &GroupName::from_bytes(name)?).await;
        let info = found.map_err(|error| match is_missing(&error) && self.engine.has_stream(stream) {
            true => Refusal::no_such_group(key, name),
            false => error.into(),
        })?;
        let consumers = sorted(&info.consumers).into_iter().map(|consumer| {
            pairs(vec![
                ("name", bytes(consumer.name.as_bytes())),
                ("pending", Reply::count(consumer.pending)),
                ("idle", Reply::count(consumer.idle_ms)),
                ("inactive", consumer.inactive_ms.map_or(Reply::Int(-1), Reply::count)),
            ])
        });
        Ok(Reply::Array(consumers.collect()))
    }
}

/// What the counters of a stream and of its groups are judged by.
struct Counts {
    info: StreamInfo,
    /// The first entry; zero where there is none.
    first: EntryId,
    /// How many nodes its entries would fill.
    nodes: u64,
}

impl Counts {
    /// What both forms begin with; what is remembered of requests that are added once where there is anything to tell.
    fn head(&self, once: Option<OnceInfo>) -> Vec<(&'static str, Reply)> {
        let Self { info, first, nodes } = self;
        let mut head = vec![
            ("length", Reply::count(info.length)),
            // There is no such tree: what one of full nodes would have, and its root.
            ("radix-tree-keys", Reply::count(*nodes)),
            ("radix-tree-nodes", Reply::count(nodes + 1)),
            ("last-generated-id", entries::id(info.last)),
            ("max-deleted-entry-id", entries::id(info.deleted_max)),
            ("entries-added", Reply::count(info.added)),
            ("recorded-first-entry-id", entries::id(*first)),
        ];
        // Clients of the version that is told know nothing of these.
        if let Some(once) = once {
            head.push(("idmp-duration", Reply::count(once.settings.window_s)));
            head.push(("idmp-maxsize", Reply::count(once.settings.names_max)));
            head.push(("pids-tracked", Reply::count(once.producers)));
            head.push(("iids-tracked", Reply::count(once.names)));
            head.push(("iids-added", Reply::count(once.added)));
            head.push(("iids-duplicates", Reply::count(once.duplicates)));
        }
        head
    }

    /// Entries that a group has yet to read, where Redis would know that: rule 52 of Redis Streams.
    fn lag(&self, group: &GroupInfo) -> Option<i64> {
        let Self { info, first, .. } = self;
        if info.added == 0 || info.length == 0 {
            return Some(0);
        }
        if group.cursor < *first && info.deleted_max < *first {
            return Some(info.length as i64);
        }
        let reads = group.reads.filter(|_| info.deleted_max == EntryId::ZERO || group.cursor > info.deleted_max);
        // More may have been told to be read than there ever was.
        Some(info.added as i64 - reads.or_else(|| self.estimate(group.cursor))? as i64)
    }

    /// Entries ever added up to an id, where that is certain: rule 51.
    fn estimate(&self, id: EntryId) -> Option<u64> {
        let Self { info, first, .. } = self;
        if id != EntryId::ZERO && id < info.deleted_max {
            return None;
        }
        if id == info.last {
            return Some(info.added);
        }
        if id > info.last || (info.deleted_max != EntryId::ZERO && info.deleted_max >= *first) {
            return None;
        }
        match id.cmp(first) {
            std::cmp::Ordering::Less => Some(info.added - info.length),
            std::cmp::Ordering::Equal => Some(info.added - info.length + 1),
            std::cmp::Ordering::Greater => None,
        }
    }
}

/// `[FULL [COUNT n]]`: how many of each, where it is to be in full.
fn full(mut args: Args<'_>) -> Result<Option<usize>, Refusal> {
    if args.is_empty() {
        return Ok(None);
    }
    let wrong = "ERR unknown subcommand or wrong number of arguments for 'STREAM'. Try XINFO HELP.";
    let wrong = || Refusal::new(wrong);
    if !args.next_is("full") {
        return Err(wrong());
    }
    if args.is_empty() {
        return Ok(Some(FULL_COUNT));
    }
    if args.rest().len() != 2 || !args.next_is("count") {
        return Err(wrong());
    }
    Ok(Some(match args.int()? {
        0 => usize::MAX,
        count => usize::try_from(count).unwrap_or(FULL_COUNT),
    }))
}

fn sorted(consumers: &[ConsumerInfo]) -> Vec<&ConsumerInfo> {
    let mut sorted: Vec<&ConsumerInfo> = consumers.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    sorted
}

fn group(info: &GroupInfo, counts: &Counts) -> Reply {
    pairs(vec![
        ("name", bytes(info.name.as_bytes())),
        ("consumers", Reply::count(info.consumers.len())),
        ("pending", Reply::count(info.pending)),
        ("last-delivered-id", entries::id(info.cursor)),
        ("entries-read", info.reads.map_or(Reply::Null, Reply::count)),
        ("lag", counts.lag(info).map_or(Reply::Null, Reply::Int)),
    ])
}

fn bytes(text: &[u8]) -> Reply {
    Reply::Bulk(Bytes::copy_from_slice(text))
}

fn pairs(pairs: Vec<(&str, Reply)>) -> Reply {
    Reply::Map(pairs.into_iter().map(|(name, value)| (Reply::text(name), value)).collect())
}
