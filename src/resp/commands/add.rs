//! XADD, and what takes entries away: XDEL, XTRIM.

use bytes::Bytes;

use crate::access::Permission;
use crate::engine::{Publish, Trim, TrimTo};
use crate::error::Reason;
use crate::format::fields;
use crate::resp::args::{Args, int};
use crate::resp::ids;
use crate::resp::refusal::Refusal;
use crate::resp::reply::Reply;
use crate::resp::session::Session;
use crate::types::StreamName;

/// Entries that an approximate trim may leave beyond its threshold: those of a node, as Redis has them by default.
const NODE_ENTRIES: u64 = 100;

/// What XADD and XTRIM are told to take away.
#[derive(Clone, Copy, Debug)]
struct Trimming {
    to: TrimTo,
    approximate: bool,
}

/// An XADD, read.
pub(in crate::resp) struct Add {
    pub(in crate::resp) publish: Publish,
    trimming: Option<Trimming>,
}

impl Add {
    /// Whether nothing is to be done after the publish.
    pub(in crate::resp) fn is_plain(&self) -> bool {
        self.trimming.is_none()
    }
}

impl Session {
    /// Reads an XADD: key, options up to the first word that is none, id, fields with values.
    pub(in crate::resp) fn parse_add(&self, mut args: Args<'_>) -> Result<Add, Refusal> {
        let key = args.next()?;
        let (mut create, mut options) = (true, TrimOptions::default());
        loop {
            if args.next_is("nomkstream") {
                create = false;
            } else if !options.take(&mut args)? {
                break;
            }
        }
        let id = args.next().map_err(|_| Refusal::arity("xadd"))?;
        let ids = ids::requested(id)?;
        let fields = args.rest();
        if fields.is_empty() || !fields.len().is_multiple_of(2) {
            return Err(Refusal::arity("xadd"));
        }
        let stream = self.stream(key, Permission::Publish)?;
        let entry = fields::encode(fields.chunks_exact(2).map(|pair| (&pair[0][..], &pair[1][..])))?;
        let publish = Publish { ids, create_stream: Some(create), ..Publish::new(stream, vec![entry]) };
        Ok(Add { publish, trimming: options.finish()? })
    }

    pub(in crate::resp) async fn add(&self, args: Args<'_>) -> Result<Reply, Refusal> {
        let Add { publish, trimming } = self.parse_add(args)?;
        let stream = publish.stream.clone();
        let reply = added(self.engine.publish(publish).await)?;
        if let Some(trimming) = trimming
            && reply != Reply::Null
        {
            self.trim_to(&stream, trimming).await?;
        }
        Ok(reply)
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
        if let (true, TrimTo::KeepEntries(keep)) = (trimming.approximate, trimming.to) {
            let length = match self.engine.stream_counts(stream).await {
                Err(error) if error.reason() == Reason::StreamNotFound => return Ok(0),
                info => info?.length,
            };
            if length < keep.saturating_add(NODE_ENTRIES) {
                return Ok(0);
            }
        }
        let trim = Trim { stream: stream.clone(), to: trimming.to, dry_run: false };
        match self.engine.trim(trim).await {
            Err(error) if error.reason() == Reason::StreamNotFound => Ok(0),
            trimmed => Ok(trimmed?.entries),
        }
    }

    pub(in crate::resp) async fn delete_entries(&self, mut args: Args<'_>) -> Result<Reply, Refusal> {
        let key = args.next()?;
        let ids = args.rest().iter().map(|id| ids::strict(id, 0)).collect::<Result<Vec<_>, _>>()?;
        let stream = self.stream(key, Permission::Admin)?;
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
    limit: bool,
}

impl TrimOptions {
    /// Takes an option, where the next word begins one.
    fn take(&mut self, args: &mut Args<'_>) -> Result<bool, Refusal> {
        let by_length = args.next_is("maxlen");
        if by_length || args.next_is("minid") {
            if matches!(self.to, Some(TrimTo::KeepEntries(_))) != by_length && self.to.is_some() {
                return Err(Refusal::new(
                    "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
                ));
            }
            self.approximate = args.next_is("~");
            if !self.approximate {
                args.next_is("=");
            }
            let threshold = args.next()?;
            self.to = Some(if by_length { keep(threshold)? } else { TrimTo::BeforeId(ids::strict(threshold, 0)?) });
            return Ok(true);
        }
        if args.next_is("limit") {
            if args.int()? < 0 {
                return Err(Refusal::new("ERR The LIMIT argument must be >= 0."));
            }
            self.limit = true;
            return Ok(true);
        }
        Ok(false)
    }

    fn finish(self) -> Result<Option<Trimming>, Refusal> {
        match self.to {
            None if self.limit => {
                Err(Refusal::new("ERR syntax error, LIMIT cannot be used without specifying a trimming strategy"))
            }
            Some(_) if self.limit && !self.approximate => {
                Err(Refusal::new("ERR syntax error, LIMIT cannot be used without the special ~ option"))
            }
            to => Ok(to.map(|to| Trimming { to, approximate: self.approximate })),
        }
    }
}

fn keep(threshold: &Bytes) -> Result<TrimTo, Refusal> {
    let count = int(threshold).ok_or_else(Refusal::not_an_integer)?;
    let count = u64::try_from(count).map_err(|_| Refusal::new("ERR The MAXLEN argument must be >= 0."))?;
    Ok(TrimTo::KeepEntries(count))
}
