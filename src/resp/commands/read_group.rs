//! XREADGROUP.

use bytes::Bytes;
use futures::future::select_all;

use super::groups::is_missing;
use super::read::{Options, keys_and_ids, within};
use crate::access::Permission;
use crate::engine::{Claim, Delivery, ListPending, Pull};
use crate::limits::{PAGE_BYTES_DEFAULT, PAGE_ENTRIES_MAX, PULL_WAIT_MAX};
use crate::resp::args::Args;
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
        let (mut options, mut group) = (Options::new(), None);
        while !args.next_is("streams") {
            if args.next_is("group") {
                group = Some((args.next()?, args.next()?));
            } else if args.next_is("noack") {
                options.no_ack = true;
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
            wanted.push(Wanted { key, stream, history_after });
        }
        let block = options.block.filter(|_| may_block);
        let reader = Reader { group_text, group, consumer, options };
        // A single pull makes its consumer and fails before it delivers anything; of several, each is looked at first.
        let is_single_pull = wanted.len() == 1 && wanted[0].history_after.is_none();
        for wanted in wanted.iter().filter(|_| !is_single_pull) {
            let made = self.engine.add_consumer(&wanted.stream, &reader.group, reader.consumer.clone()).await;
            made.map_err(|error| reader.refusal(wanted, error))?;
        }
        let reply = self.read_group_now(&wanted, &reader).await?;
        if reply.is_some() || block.is_none() {
            return Ok(reply.unwrap_or(Reply::NullArray));
        }
        let waiting = self.first_delivery(&wanted, &reader);
        match within(block.unwrap_or_default(), waiting).await.transpose()? {
            None => Ok(Reply::NullArray),
            Some((at, delivery)) => Ok(self.by_stream(vec![(wanted[at].stream.as_str(), delivered(&delivery))])),
        }
    }

    /// What there is; `None` where there is nothing new and nothing else was asked for.
    async fn read_group_now(&self, wanted: &[Wanted<'_>], reader: &Reader<'_>) -> Result<Option<Reply>, Refusal> {
        let mut found = Vec::new();
        for wanted in wanted {
            let entries = match wanted.history_after {
                Some(after) => self.history(wanted, reader, after).await?,
                None => {
                    let pull = reader.pull(wanted, std::time::Duration::ZERO);
                    let pulled = self.engine.pull(pull).await.map_err(|error| reader.refusal(wanted, error))?;
                    delivered(&pulled)
                }
            };
            if !entries.is_empty() || wanted.history_after.is_some() {
                found.push((wanted.stream.as_str(), entries));
            }
        }
        Ok((!found.is_empty()).then(|| self.by_stream(found)))
    }

    /// Waits for the first entries that come to any of the streams, in turn with all others that wait.
    async fn first_delivery(&self, wanted: &[Wanted<'_>], reader: &Reader<'_>) -> Result<(usize, Delivery), Refusal> {
        loop {
            let pulls = wanted.iter().map(|wanted| Box::pin(self.engine.pull(reader.pull(wanted, PULL_WAIT_MAX))));
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
            idle_min: std::time::Duration::ZERO,
        };
        let pending = self.engine.list_pending(list).await.map_err(|error| reader.refusal(wanted, error))?;
        let held: Vec<EntryId> = pending.iter().map(|pending| pending.id).collect();
        if held.is_empty() {
            return Ok(Vec::new());
        }
        let claim = Claim {
            stream: wanted.stream.clone(),
            group: reader.group.clone(),
            consumer: reader.consumer.clone(),
            idle_min: std::time::Duration::ZERO,
            ids: held,
            from: EntryId::ZERO,
            entries_max: PAGE_ENTRIES_MAX,
        };
        let claimed = self.engine.claim(claim).await.map_err(|error| reader.refusal(wanted, error))?;
        let live =
            claimed.delivery.entries.iter().map(|delivered| (delivered.entry.id, entries::entry(&delivered.entry)));
        let gone = claimed.gone.iter().map(|id| (*id, entries::gone(*id)));
        let mut all: Vec<(EntryId, Reply)> = live.chain(gone).collect();
        all.sort_by_key(|(id, _)| *id);
        Ok(all.into_iter().map(|(_, reply)| reply).collect())
    }
}

impl Reader<'_> {
    fn pull(&self, wanted: &Wanted<'_>, wait: std::time::Duration) -> Pull {
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

fn delivered(delivery: &Delivery) -> Vec<Reply> {
    delivery.entries.iter().map(|delivered| entries::entry(&delivered.entry)).collect()
}

fn meaningless(id: &[u8]) -> Refusal {
    let id = String::from_utf8_lossy(id);
    Refusal::new(format!(
        "ERR The {id} ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by \
         specifying a proper ID, or use the > ID to get new messages. The {id} ID would just return an empty result set."
    ))
}
