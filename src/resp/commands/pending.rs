//! XPENDING, XCLAIM, XAUTOCLAIM.

use std::time::Duration;

use super::groups::is_missing;
use crate::access::Permission;
use crate::clock::Clock;
use crate::engine::{Claim, ClaimOptions, Claimed, ListPending, PendingInfo};
use crate::limits::PAGE_ENTRIES_MAX;
use crate::resp::args::{Args, duration};
use crate::resp::refusal::{Failed, Refusal};
use crate::resp::reply::Reply;
use crate::resp::session::Session;
use crate::resp::{entries, ids};
use crate::types::{ConsumerName, EntryId, GroupName, IdRange, StreamName};

/// Pending entries that XAUTOCLAIM looks at for each that it may take.
const EXAMINED_PER_ENTRY: usize = 10;
/// The largest count that XAUTOCLAIM of Redis takes, which makes room for so many ids of 16 bytes.
const AUTO_CLAIM_MAX: i64 = i64::MAX / 16;

impl Session {
    pub(in crate::resp) async fn pending(&self, mut args: Args<'_>) -> Result<Reply, Refusal> {
        let (key, group_text) = (args.next()?, args.next()?);
        let (stream, group) = (self.stream(key, Permission::Consume)?, GroupName::from_bytes(group_text)?);
        let outcome = if args.is_empty() {
            self.pending_summary(stream, group).await
        } else {
            self.pending_list(stream, group, args).await
        };
        outcome.map_err(|failed| match failed {
            Failed::Refused(refusal) => refusal,
            Failed::Engine(error) if is_missing(&error) => Refusal::no_group(key, group_text, ""),
            Failed::Engine(error) => error.into(),
        })
    }

    async fn pending_summary(&self, stream: StreamName, group: GroupName) -> Result<Reply, Failed> {
        let info = self.engine.group(&stream, &group).await?;
        let Some((first, last)) = info.pending_ends else {
            return Ok(Reply::Array(vec![Reply::Int(0), Reply::Null, Reply::Null, Reply::NullArray]));
        };
        let mut holders: Vec<_> = info.consumers.iter().filter(|consumer| consumer.pending > 0).collect();
        holders.sort_by(|a, b| a.name.cmp(&b.name));
        let holders = holders
            .into_iter()
            .map(|consumer| Reply::Array(vec![name(&consumer.name), Reply::text(consumer.pending.to_string())]));
        let total = Reply::count(info.pending);
        Ok(Reply::Array(vec![total, entries::id(first), entries::id(last), Reply::Array(holders.collect())]))
    }

    async fn pending_list(&self, stream: StreamName, group: GroupName, mut args: Args<'_>) -> Result<Reply, Failed> {
        let mut list = all_pending(stream, group);
        // As Redis, too, counts them: one too many is passed over where IDLE is not there.
        if !(3..=6).contains(&args.rest().len()) {
            return Err(Refusal::syntax().into());
        }
        if args.next_is("idle") {
            list.idle_min = duration(args.int()?);
        }
        if args.rest().len() < 3 {
            return Err(Refusal::syntax().into());
        }
        let (start, end, count) = (args.next()?, args.next()?, args.int()?);
        let range = ids::interval(start, end)?;
        if let Ok(consumer) = args.next() {
            list.consumer = Some(ConsumerName::from_bytes(consumer)?);
        }
        // That there is such a group is told whatever is asked for.
        let info = self.engine.group(&list.stream, &list.group).await?;
        let is_known = list.consumer.as_ref().is_none_or(|name| info.consumers.iter().any(|c| c.name == *name));
        let (Some(range), true, true) = (range, count > 0, is_known) else { return Ok(Reply::Array(Vec::new())) };
        (list.range, list.entries_max) = (range, (count as usize).min(PAGE_ENTRIES_MAX));
        let page = self.engine.list_pending(list).await?;
        Ok(Reply::Array(page.iter().map(one).collect()))
    }

    pub(in crate::resp) async fn claim(&self, mut args: Args<'_>) -> Result<Reply, Refusal> {
        let (key, group_text, consumer) = (args.next()?, args.next()?, args.next()?);
        let mut claim = self.claim_of(key, group_text, consumer)?;
        // That there is such a group is told whatever else is wrong.
        let known = self.check_group(&claim.stream, &claim.group).await;
        known.map_err(|error| refusal(key, group_text, error))?;
        let idle_min = args.int().map_err(|_| Refusal::new("ERR Invalid min-idle-time argument for XCLAIM"))?;
        claim.idle_min = duration(idle_min);
        while let Some(Ok(id)) = args.rest().first().map(|text| ids::strict(text, 0)) {
            claim.ids.push(id);
            args.next()?;
        }
        let only_ids = self.claim_options(&mut args, &mut claim.options)?;
        claim.options.keep_count = only_ids;
        if claim.ids.is_empty() {
            let made = self.engine.add_consumer(&claim.stream, &claim.group, claim.consumer).await;
            return made.map(|_| Reply::Array(Vec::new())).map_err(|error| refusal(key, group_text, error));
        }
        let claimed = self.engine.claim(claim).await.map_err(|error| refusal(key, group_text, error))?;
        Ok(Reply::Array(claimed_entries(&claimed, only_ids)))
    }

    /// Takes the options of XCLAIM; whether only ids are to be answered.
    fn claim_options(&self, args: &mut Args<'_>, options: &mut ClaimOptions) -> Result<bool, Refusal> {
        let mut only_ids = false;
        while !args.is_empty() {
            let is_last = args.rest().len() == 1;
            if args.next_is("justid") {
                only_ids = true;
            } else if args.next_is("force") {
                options.force = true;
            } else if !is_last && args.next_is("idle") {
                options.idle = Some(duration(number_of(args, "IDLE")?));
            } else if !is_last && args.next_is("time") {
                let now_ms = self.clock.now().wall_ms.min(i64::MAX as u64) as i64;
                options.idle = Some(match number_of(args, "TIME")? {
                    time if time < 0 => Duration::ZERO,
                    time => duration(now_ms - time),
                });
            } else if !is_last && args.next_is("retrycount") {
                options.deliveries = u64::try_from(number_of(args, "RETRYCOUNT")?).ok().map(clamped);
            } else if !is_last && args.next_is("lastid") {
                options.cursor_min = Some(ids::strict(args.next()?, 0)?);
            } else {
                let text = String::from_utf8_lossy(args.next()?).into_owned();
                return Err(Refusal::new(format!("ERR Unrecognized XCLAIM option '{text}'")));
            }
        }
        Ok(only_ids)
    }

    pub(in crate::resp) async fn auto_claim(&self, mut args: Args<'_>) -> Result<Reply, Refusal> {
        let (key, group_text, consumer) = (args.next()?, args.next()?, args.next()?);
        let idle_min = args.int().map_err(|_| Refusal::new("ERR Invalid min-idle-time argument for XAUTOCLAIM"))?;
        let mut claim = self.claim_of(key, group_text, consumer)?;
        claim.idle_min = duration(idle_min);
        claim.from = ids::interval(args.next()?, b"+")?.map_or(EntryId::MAX, |range| range.first);
        let mut only_ids = false;
        while !args.is_empty() {
            if args.next_is("justid") {
                only_ids = true;
            } else if args.rest().len() > 1 && args.next_is("count") {
                let count = args.int().ok().filter(|count| (1..=AUTO_CLAIM_MAX).contains(count));
                claim.entries_max = count.ok_or_else(|| Refusal::new("ERR COUNT must be > 0"))? as usize;
            } else {
                return Err(Refusal::syntax());
            }
        }
        claim.entries_max = claim.entries_max.min(PAGE_ENTRIES_MAX);
        claim.options.keep_count = only_ids;
        claim.options.examined_max = Some(EXAMINED_PER_ENTRY * claim.entries_max);
        let claimed = self.engine.claim(claim).await.map_err(|error| refusal(key, group_text, error))?;
        let gone = claimed.gone.iter().map(|id| entries::id(*id)).collect();
        let next = entries::id(claimed.next.unwrap_or_default());
        Ok(Reply::Array(vec![next, Reply::Array(claimed_entries(&claimed, only_ids)), Reply::Array(gone)]))
    }

    fn claim_of(&self, key: &[u8], group: &[u8], consumer: &[u8]) -> Result<Claim, Refusal> {
        Ok(Claim {
            stream: self.stream(key, Permission::Consume)?,
            group: GroupName::from_bytes(group)?,
            consumer: ConsumerName::from_bytes(consumer)?,
            idle_min: Duration::ZERO,
            ids: Vec::new(),
            from: EntryId::ZERO,
            entries_max: 100,
            options: ClaimOptions::default(),
        })
    }
}

/// The number behind an option of XCLAIM.
fn number_of(args: &mut Args<'_>, option: &str) -> Result<i64, Refusal> {
    args.int().map_err(|_| Refusal::new(format!("ERR Invalid {option} option argument for XCLAIM")))
}

/// A delivery count: counted no further than the engine does.
fn clamped(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn refusal(key: &[u8], group: &[u8], error: crate::error::Error) -> Refusal {
    if is_missing(&error) { Refusal::no_group(key, group, "") } else { error.into() }
}

fn all_pending(stream: StreamName, group: GroupName) -> ListPending {
    let (range, entries_max) = (IdRange::ALL, PAGE_ENTRIES_MAX);
    ListPending { stream, group, range, entries_max, consumer: None, idle_min: Duration::ZERO }
}

fn claimed_entries(claimed: &Claimed, only_ids: bool) -> Vec<Reply> {
    let delivered = claimed.delivery.entries.iter();
    delivered.map(|d| if only_ids { entries::id(d.entry.id) } else { entries::entry(&d.entry) }).collect()
}

/// A pending entry; nobody's has no name and no age.
fn one(pending: &PendingInfo) -> Reply {
    let holder = pending.consumer.as_ref().map_or_else(|| Reply::text(""), name);
    let idle = if pending.consumer.is_some() { Reply::count(pending.idle_ms) } else { Reply::Int(-1) };
    Reply::Array(vec![entries::id(pending.id), holder, idle, entries::deliveries(pending.deliveries)])
}

fn name(name: &ConsumerName) -> Reply {
    Reply::Bulk(bytes::Bytes::copy_from_slice(name.as_bytes()))
}
