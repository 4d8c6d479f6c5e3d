//! XREADGROUP.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::groups::is_missing;
use super::read::{Options, keys_and_ids};
use crate::access::Permission;
use crate::engine::{Delivered, Delivery, ListPending, Pull};
use crate::limits::{PAGE_BYTES_DEFAULT, PAGE_ENTRIES_MAX, PULL_WAIT_MAX};
use crate::resp::args::{Args, int};
use crate::resp::refusal::Refusal;
use crate::resp::reply::Reply;
use crate::resp::session::Session;
use crate::resp::{entries, ids};
use crate::types::{ConsumerName, EntryId, GroupName, IdRange, StreamName};

/// What makes a time one of whole milliseconds that is no shorter.
const ALMOST_MS: Duration = Duration::from_nanos(999_999);

/// One stream of a call.
struct Wanted<'a> {
    key: &'a Bytes,
    stream: StreamName,
    /// Unset: new entries; else what the consumer holds after this id.
    history_after: Option<EntryId>,
    /// What others hold for so long is taken over first, where that is asked for.
    claim_idle: Option<Duration>,
}

/// Who reads.
struct Reader<'a> {
    group_text: &'a Bytes,
    group: GroupName,
    consumer: ConsumerName,
    options: Options,
}

impl Session {
    pub(in crate::resp) async fn read_group(&self, mut args: Args<'_>, may_block: bool) -> Result<Reply, Refusal> {
        let (mut options, mut group, mut claim_idle) = (Options::new(), None, None);
        while !args.next_is("streams") {
            if args.next_is("group") {
                group = Some((args.next()?, args.next()?));
            } else if args.next_is("noack") {
                options.no_ack = true;
            } else if args.next_is("claim") {
                claim_idle = Some(idle_min(&mut args)?);
            } else if !options.take(&mut args)? {
                return Err(Refusal::syntax());
            }
        }
        let streams = keys_and_ids(args, "xreadgroup", " or '>'")?;
        let (group_text, consumer) = group.ok_or_else(|| Refusal::new("ERR Missing GROUP option for XREADGROUP"))?;
        let (group, consumer) = (GroupName::from_bytes(group_text)?, ConsumerName::from_bytes(consumer)?);
        let mut wanted = Vec::new();
        for (key, id) in streams {
            let stream = self.stream(key, Permission::Consume)?;
            let history_after = match &id[..] {
                b">" => None,
                b"$" | b"+" => return Err(meaningless(id)),
                _ => Some(ids::strict(id, 0)?),
            };
            // Nothing is taken over of a stream whose history is asked for, nor of those named behind it.
            claim_idle = claim_idle.filter(|_| history_after.is_none());
            wanted.push(Wanted { key, stream, history_after, claim_idle });
        }
        let block = options.block.filter(|_| may_block);
        let reader = Reader { group_text, group, consumer, options };
        // A single pull makes its consumer and fails before it delivers anything; of several, each is looked at first.
        let is_single_pull = wanted.len() == 1 && wanted[0].history_after.is_none();
        for wanted in wanted.iter().filter(|_| !is_single_pull) {
            let known = self.check_group(&wanted.stream, &reader.group).await;
            known.map_err(|error| reader.refusal(wanted, error))?;
        }
        for wanted in wanted.iter().filter(|_| !is_single_pull) {
            let made = self.engine.add_consumer(&wanted.stream, &reader.group, reader.consumer.clone()).await;
            made.map_err(|error| reader.refusal(wanted, error))?;
        }
        let _room = self.room_to_wait(if block.is_some() { wanted.len() } else { 0 })?;
        let reply = self.read_group_now(&wanted, &reader).await?;
        if reply.is_some() || block.is_none() {
            return Ok(reply.unwrap_or(Reply::NullArray));
        }
        let _wait = self.client.wait();
        Ok(self.wait_for_group(&wanted, &reader, block.unwrap_or_default()).await?.unwrap_or(Reply::NullArray))
    }

    /// What comes first to any of the streams, with what there is then in the others, in turn with all others that wait;
    /// `None` when the time is over, where it is not zero.
    async fn wait_for_group(
        &self,
        wanted: &[Wanted<'_>],
        reader: &Reader<'_>,
        block: Duration,
    ) -> Result<Option<Reply>, Refusal> {
        let until = tokio::time::Instant::now().checked_add(block).filter(|_| !block.is_zero());
        loop {
            // The engine counts whole milliseconds.
            let left = until.map(|until| until.saturating_duration_since(tokio::time::Instant::now()) + ALMOST_MS);
            let found = self.pull_new(wanted, reader, left.unwrap_or(PULL_WAIT_MAX).min(PULL_WAIT_MAX)).await?;
            if !found.is_empty() {
                let found = found.into_iter().map(|(at, entries)| (wanted[at].stream.as_str(), Reply::Array(entries)));
                return Ok(Some(self.by_stream(found.collect())));
            }
            if until.is_some_and(|until| until <= tokio::time::Instant::now()) {
                return Ok(None);
            }
        }
    }

    /// What there is; `None` where there is nothing new and nothing else was asked for.
    async fn read_group_now(&self, wanted: &[Wanted<'_>], reader: &Reader<'_>) -> Result<Option<Reply>, Refusal> {
        let (mut found, mut budget) = (BTreeMap::new(), self.budget());
        for (at, wanted) in wanted.iter().enumerate() {
            // What is left out comes with the next call.
            let Some(after) = wanted.history_after.filter(|_| !budget.is_used_up()) else { continue };
            let entries = self.history(wanted, reader, after).await?;
            budget.note(entries.iter().map(Reply::bytes).sum());
            found.insert(at, entries);
        }
        // New entries are asked for last and all at once: from there on nothing is waited for.
        if !budget.is_used_up() {
            found.extend(self.pull_new(wanted, reader, Duration::ZERO).await?);
        }
        let found = found.into_iter().map(|(at, entries)| (wanted[at].stream.as_str(), Reply::Array(entries)));
        let found: Vec<_> = found.collect();
        Ok((!found.is_empty()).then(|| self.by_stream(found)))
    }

    /// New entries of those streams of which they are wanted, by their places.
    async fn pull_new(
        &self,
        wanted: &[Wanted<'_>],
        reader: &Reader<'_>,
        wait: Duration,
    ) -> Result<Vec<(usize, Vec<Reply>)>, Refusal> {
        let new = wanted.iter().enumerate().filter(|(_, wanted)| wanted.history_after.is_none());
        let (places, streams): (Vec<usize>, Vec<_>) =
            new.map(|(at, wanted)| (at, (wanted.stream.clone(), wanted.claim_idle))).unzip();
        let Some(first) = places.first() else { return Ok(Vec::new()) };
        let pulled = self.engine.pull_several(reader.pull(&wanted[*first], wait), streams).await;
        let pulled = match pulled {
            Ok(pulled) => pulled,
            Err(error) => return Err(self.refusal(wanted, reader, error).await),
        };
        let replies = pulled.iter().map(|(n, delivery)| (places[*n], delivered(&wanted[places[*n]], delivery)));
        Ok(replies.collect())
    }

    /// The refusal of an error of several streams: where a group is missing, of the first whose group that is.
    async fn refusal(&self, wanted: &[Wanted<'_>], reader: &Reader<'_>, error: crate::error::Error) -> Refusal {
        if is_missing(&error) {
            for wanted in wanted {
                if let Err(missing) = self.check_group(&wanted.stream, &reader.group).await {
                    return reader.refusal(wanted, missing);
                }
            }
        }
        reader.refusal(&wanted[0], error)
    }

    /// What a consumer holds after an id, delivered to it once more; what no longer exists shows without fields.
    async fn history(&self, wanted: &Wanted<'_>, reader: &Reader<'_>, after: EntryId) -> Result<Vec<Reply>, Refusal> {
        let Some(first) = after.next() else { return Ok(Vec::new()) };
        let list = ListPending {
            stream: wanted.stream.clone(),
            group: reader.group.clone(),
            range: IdRange { first, last: EntryId::MAX },
            entries_max: reader.options.count.min(PAGE_ENTRIES_MAX),
            consumer: Some(reader.consumer.clone()),
            idle_min: Duration::ZERO,
        };
        let held = self.engine.reread(list).await.map_err(|error| reader.refusal(wanted, error))?;
        let live = held.delivery.entries.iter().map(|delivered| (delivered.entry.id, entries::entry(&delivered.entry)));
        let gone = held.gone.iter().map(|id| (*id, entries::gone(*id)));
        let mut all: Vec<(EntryId, Reply)> = live.chain(gone).collect();
        all.sort_by_key(|(id, _)| *id);
        Ok(all.into_iter().map(|(_, reply)| reply).collect())
    }
}

impl Reader<'_> {
    fn pull(&self, wanted: &Wanted<'_>, wait: Duration) -> Pull {
        Pull {
            stream: wanted.stream.clone(),
            group: self.group.clone(),
            consumer: self.consumer.clone(),
            entries_max: self.options.count.min(PAGE_ENTRIES_MAX),
            bytes_max: PAGE_BYTES_DEFAULT,
            wait,
            no_ack: self.options.no_ack,
        }
    }

    fn refusal(&self, wanted: &Wanted<'_>, error: crate::error::Error) -> Refusal {
        if is_missing(&error) {
            return Refusal::no_group(wanted.key, self.group_text, " in XREADGROUP with GROUP option");
        }
        error.into()
    }
}

/// What was delivered; where entries are taken over, each with how it stood before: a new one with zeros.
fn delivered(wanted: &Wanted<'_>, delivery: &Delivery) -> Vec<Reply> {
    let tells_before = wanted.claim_idle.is_some();
    let one = |delivered: &Delivered| match entries::entry(&delivered.entry) {
        Reply::Array(mut parts) if tells_before => {
            let before = delivered.before.unwrap_or_default();
            parts.extend([Reply::count(before.idle_ms), entries::deliveries(before.deliveries)]);
            Reply::Array(parts)
        }
        entry => entry,
    };
    delivery.entries.iter().map(one).collect()
}

/// How long others must have held what is taken over.
fn idle_min(args: &mut Args<'_>) -> Result<Duration, Refusal> {
    let idle = int(args.next()?);
    let idle = idle.ok_or_else(|| Refusal::new("ERR min-idle-time is not an integer or out of range"))?;
    let idle = u64::try_from(idle).map_err(|_| Refusal::new("ERR min-idle-time must be a positive integer"))?;
    Ok(Duration::from_millis(idle))
}

fn meaningless(id: &[u8]) -> Refusal {
    let id = String::from_utf8_lossy(id);
    Refusal::new(format!(
        "ERR The {id} ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by \
         specifying a proper ID, or use the > ID to get new messages. The {id} ID would just return an empty result set."
    ))
}
