//! XREADGROUP.

use std::time::Duration;

use bytes::Bytes;
use futures::future::select_all;

use super::groups::is_missing;
use super::read::{Options, keys_and_ids, within};
use crate::access::Permission;
use crate::engine::{Delivered, Delivery, ListPending, Pull};
use crate::limits::{PAGE_BYTES_DEFAULT, PAGE_ENTRIES_MAX, PULL_WAIT_MAX};
use crate::resp::args::{Args, int};
use crate::resp::refusal::Refusal;
use crate::resp::reply::Reply;
use crate::resp::session::Session;
use crate::resp::{entries, ids};
use crate::types::{ConsumerName, EntryId, GroupName, IdRange, StreamName};

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
        let waiting = self.first_delivery(&wanted, &reader);
        match within(block.unwrap_or_default(), waiting).await.transpose()? {
            None => Ok(Reply::NullArray),
            Some((at, delivery)) => {
                let entries = delivered(&wanted[at], &delivery);
                self.beside(&wanted, &reader, at, entries).await
            }
        }
    }

    /// What came to one stream, with what there is now in the others: who waited is answered with all there is.
    async fn beside(
        &self,
        wanted: &[Wanted<'_>],
        reader: &Reader<'_>,
        at: usize,
        mut entries: Vec<Reply>,
    ) -> Result<Reply, Refusal> {
        let mut found = Vec::new();
        for (n, wanted) in wanted.iter().enumerate() {
            let entries = match n == at {
                true => std::mem::take(&mut entries),
                false => {
                    let pulled = self.pull(wanted, reader, Duration::ZERO).await;
                    pulled.map_or(Vec::new(), |pulled| delivered(wanted, &pulled))
                }
            };
            if !entries.is_empty() {
                found.push((wanted.stream.as_str(), Reply::Array(entries)));
            }
        }
        Ok(self.by_stream(found))
    }

    /// What there is; `None` where there is nothing new and nothing else was asked for.
    async fn read_group_now(&self, wanted: &[Wanted<'_>], reader: &Reader<'_>) -> Result<Option<Reply>, Refusal> {
        let (mut found, mut budget) = (Vec::new(), self.budget());
        for wanted in wanted {
            // What is left out comes with the next call.
            if budget.is_used_up() {
                break;
            }
            let entries = match wanted.history_after {
                Some(after) => self.history(wanted, reader, after).await?,
                None => {
                    let pulled = self.pull(wanted, reader, Duration::ZERO).await;
                    delivered(wanted, &pulled.map_err(|error| reader.refusal(wanted, error))?)
                }
            };
            budget.note(entries.iter().map(Reply::bytes).sum());
            if !entries.is_empty() || wanted.history_after.is_some() {
                found.push((wanted.stream.as_str(), Reply::Array(entries)));
            }
        }
        Ok((!found.is_empty()).then(|| self.by_stream(found)))
    }

    async fn pull(&self, wanted: &Wanted<'_>, reader: &Reader<'_>, wait: Duration) -> crate::error::Result<Delivery> {
        let pull = reader.pull(wanted, wait);
        match wanted.claim_idle {
            Some(idle) => self.engine.pull_idle(pull, idle).await,
            None => self.engine.pull(pull).await,
        }
    }

    /// Waits for the first entries that come to any of the streams, in turn with all others that wait.
    async fn first_delivery(&self, wanted: &[Wanted<'_>], reader: &Reader<'_>) -> Result<(usize, Delivery), Refusal> {
        loop {
            let pulls = wanted.iter().map(|wanted| Box::pin(self.pull(wanted, reader, PULL_WAIT_MAX)));
            // Those that are dropped hand back what they were granted meanwhile.
            let (outcome, at, _) = select_all(pulls).await;
            let delivery = outcome.map_err(|error| reader.refusal(&wanted[at], error))?;
            if !delivery.entries.is_empty() {
                return Ok((at, delivery));
            }
        }
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
