//! XADD, and what takes entries away: XDEL, XTRIM.

use bytes::Bytes;

use super::once::Once;
use super::remove::policy;
use crate::access::Permission;
use crate::engine::{Publish, PublishTrim, References, TransactionRoom, Trim, TrimTo};
use crate::error::Reason;
use crate::format::fields;
use crate::resp::args::{Args, int};
use crate::resp::ids;
use crate::resp::refusal::Refusal;
use crate::resp::reply::Reply;
use crate::resp::session::Session;
use crate::types::{EntryId, IdRequest, StreamName};

/// The most entries that an approximate trim takes, unless it says how many: those of so many nodes, within these bounds.
const LIMIT_NODES: u64 = 100;
const LIMIT_MAX: u64 = 1_000_000;
const LIMIT_WITHOUT_NODES: u64 = 10_000;

/// What an XADD takes in a commit beside its bytes, the key that it may make and its trim included; from above.
const ADD_COST: usize = 32 << 10;

/// What XADD and XTRIM are told to take away.
#[derive(Clone, Copy, Debug)]
struct Trimming {
    to: TrimTo,
    approximate: bool,
    /// Entries that an approximate one takes at most, where that is told; zero for any number.
    limit: Option<u64>,
    references: References,
}

/// An XADD, read.
#[derive(Clone)]
pub(in crate::resp) struct Add {
    pub(in crate::resp) publish: Publish,
    /// What it takes away with a look at what groups have of each entry.
    by_references: Option<Trimming>,
}

impl Add {
    /// Whether it is a publish and nothing else.
    pub(in crate::resp) fn is_plain(&self) -> bool {
        self.by_references.is_none()
    }
}

impl Session {
    /// Reads an XADD: key, options up to the first word that is none, id, fields with values.
    pub(in crate::resp) fn parse_add(&self, mut args: Args<'_>) -> Result<Add, Refusal> {
        let key = args.next()?;
        let (mut create, mut options, mut once) = (true, TrimOptions::default(), None);
        loop {
            if args.next_is("nomkstream") {
                create = false;
            } else if let Some(taken) = Once::take(&mut args, once.as_ref())? {
                once = Some(taken);
            } else if !options.take(&mut args)? {
                break;
            }
        }
        let id = args.next().map_err(|_| Refusal::arity("xadd"))?;
        let ids = ids::requested(id)?;
        if once.is_some() {
            Once::check_ids(ids)?;
        }
        let fields = args.rest();
        if fields.is_empty() || !fields.len().is_multiple_of(2) {
            return Err(Refusal::arity("xadd"));
        }
        if ids == IdRequest::Exact(EntryId::ZERO) {
            return Err(Refusal::new("ERR The ID specified in XADD must be greater than 0-0"));
        }
        let once = once.map(|once| once.name(fields));
        let stream = self.stream(key, Permission::Publish)?;
        let entry = fields::encode(fields.chunks_exact(2).map(|pair| (&pair[0][..], &pair[1][..])))?;
        let publish = Publish { ids, once, create_stream: Some(create), ..Publish::new(stream, vec![entry]) };
        let trimming = options.finish()?;
        let by_references = trimming.filter(|trimming| trimming.references != References::Keep);
        let trim = trimming.filter(|_| by_references.is_none()).map(|trimming| self.with_publish(trimming));
        Ok(Add { publish: Publish { trim, ..publish }, by_references })
    }

    /// An XADD that is not gathered with others. One that looks at what groups have of each entry that it takes away is a
    /// transaction of the engine, so that it is one commit.
    pub(in crate::resp) async fn add(&self, args: Args<'_>, alone: bool) -> Result<Reply, Refusal> {
        let add = self.parse_add(args)?;
        if add.is_plain() || !alone {
            return self.add_here(add).await;
        }
        let bytes = add.publish.bytes() + add.publish.stream.as_str().len() + ADD_COST;
        let mut session = self.clone();
        let work = move |engine| async move {
            session.engine = engine;
            session.add_here(add).await
        };
        self.engine.transaction(TransactionRoom { bytes, grows: true }, work).await?
    }

    async fn add_here(&self, add: Add) -> Result<Reply, Refusal> {
        let Add { publish, by_references } = add;
        let stream = publish.stream.clone();
        let published = self.engine.publish(publish).await;
        let is_new = published.as_ref().is_ok_and(|published| !published.duplicate);
        let reply = added(published)?;
        if let Some(trimming) = by_references.filter(|_| is_new)
            && let Err(Refusal(why)) = self.trim_to(&stream, trimming).await
        {
            // The entry is there: what could not be taken away stays, to be taken away by the next one.
            tracing::warn!(%stream, why = %why, "a stream keeps more than an XADD told it to");
        }
        Ok(reply)
    }

    /// What goes with the publish, in the engine.
    fn with_publish(&self, trimming: Trimming) -> PublishTrim {
        PublishTrim { to: trimming.to, nodes: trimming.approximate.then(|| self.limit_of(trimming)) }
    }

    pub(in crate::resp) async fn trim(&self, mut args: Args<'_>) -> Result<Reply, Refusal> {
        let key = args.next()?;
        let mut options = TrimOptions::default();
        while !args.is_empty() {
            if !options.take(&mut args)? {
                return Err(Refusal::syntax());
            }
        }
        let none = || Refusal::new("ERR syntax error, XTRIM must be called with a trimming strategy");
        let trimming = options.finish()?.ok_or_else(none)?;
        let stream = self.stream(key, Permission::Admin)?;
        Ok(Reply::count(self.trim_to(&stream, trimming).await?))
    }

    /// Trims, and answers how many entries went.
    async fn trim_to(&self, stream: &StreamName, trimming: Trimming) -> Result<u64, Refusal> {
        if trimming.references != References::Keep {
            // Each entry is looked at, so that nothing is to be had from whole nodes.
            let dropped_max = if trimming.approximate { self.limit_of(trimming) } else { u64::MAX };
            let trimmed = self.engine.trim_by_references(stream, trimming.to, trimming.references, dropped_max).await;
            return match trimmed {
                Err(error) if error.reason() == Reason::StreamNotFound => Ok(0),
                trimmed => Ok(trimmed?),
            };
        }
        let trim = Trim { stream: stream.clone(), to: trimming.to, dry_run: false };
        let trimmed = if trimming.approximate {
            self.engine.trim_nodes(trim, self.limit_of(trimming)).await
        } else {
            self.engine.trim(trim).await
        };
        match trimmed {
            Err(error) if error.reason() == Reason::StreamNotFound => Ok(0),
            trimmed => Ok(trimmed?.entries),
        }
    }

    /// Entries that an approximate trim takes at most.
    fn limit_of(&self, trimming: Trimming) -> u64 {
        match trimming.limit {
            Some(0) => u64::MAX,
            Some(limit) => limit,
            None => match self.engine.node_limits().entries.saturating_mul(LIMIT_NODES) {
                0 => LIMIT_WITHOUT_NODES,
                limit => limit.min(LIMIT_MAX),
            },
        }
    }

    pub(in crate::resp) async fn delete_entries(&self, mut args: Args<'_>) -> Result<Reply, Refusal> {
        let key = args.next()?;
        let stream = self.stream(key, Permission::Admin)?;
        // Where there is no such key, ids are not looked at.
        if !self.engine.has_stream(&stream) {
            return Ok(Reply::Int(0));
        }
        let ids = args.rest().iter().map(|id| ids::strict(id, 0)).collect::<Result<Vec<_>, _>>()?;
        match self.engine.delete_entries(&stream, ids).await {
            Err(error) if error.reason() == Reason::StreamNotFound => Ok(Reply::Int(0)),
            deleted => Ok(Reply::count(deleted?)),
        }
    }
}

/// The reply to an XADD: the id, or nothing where the stream is missing and was not to be made.
pub(in crate::resp) fn added(published: crate::error::Result<crate::engine::Published>) -> Result<Reply, Refusal> {
    match published {
        Ok(published) => Ok(Reply::text(published.first.to_string())),
        Err(error) if error.reason() == Reason::StreamNotFound => Ok(Reply::Null),
        Err(error) => Err(error.into()),
    }
}

/// Options that trim, as they come.
#[derive(Default)]
struct TrimOptions {
    to: Option<TrimTo>,
    approximate: bool,
    limit: Option<u64>,
    references: Option<References>,
}

impl TrimOptions {
    /// Takes an option, where the next word begins one.
    fn take(&mut self, args: &mut Args<'_>) -> Result<bool, Refusal> {
        if let Some(references) = policy(args) {
            let is_first = self.references.replace(references).is_none();
            return if is_first { Ok(true) } else { Err(Refusal::syntax()) };
        }
        // A last word is no option that wants another.
        if args.rest().len() < 2 {
            return Ok(false);
        }
        let by_length = args.next_is("maxlen");
        if by_length || args.next_is("minid") {
            if matches!(self.to, Some(TrimTo::KeepEntries(_))) != by_length && self.to.is_some() {
                return Err(Refusal::new(
                    "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
                ));
            }
            let more = args.rest().len() > 1;
            self.approximate = more && args.next_is("~");
            if more && !self.approximate {
                args.next_is("=");
            }
            let threshold = args.next()?;
            self.to = Some(if by_length { keep(threshold)? } else { TrimTo::BeforeId(ids::strict(threshold, 0)?) });
            return Ok(true);
        }
        if args.next_is("limit") {
            let limit = u64::try_from(args.int()?);
            self.limit = Some(limit.map_err(|_| Refusal::new("ERR The LIMIT argument must be >= 0."))?);
            return Ok(true);
        }
        Ok(false)
    }

    fn finish(self) -> Result<Option<Trimming>, Refusal> {
        match self.to {
            None if self.limit.is_some() => {
                Err(Refusal::new("ERR syntax error, LIMIT cannot be used without specifying a trimming strategy"))
            }
            Some(_) if self.limit.is_some() && !self.approximate => {
                Err(Refusal::new("ERR syntax error, LIMIT cannot be used without the special ~ option"))
            }
            to => Ok(to.map(|to| Trimming {
                to,
                approximate: self.approximate,
                limit: self.limit,
                references: self.references.unwrap_or_default(),
            })),
        }
    }
}

fn keep(threshold: &Bytes) -> Result<TrimTo, Refusal> {
    let count = int(threshold).ok_or_else(Refusal::not_an_integer)?;
    let count = u64::try_from(count).map_err(|_| Refusal::new("ERR The MAXLEN argument must be >= 0."))?;
    Ok(TrimTo::KeepEntries(count))
}
