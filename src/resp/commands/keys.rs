//! Commands about keys: every key is a stream.

use crate::access::{Permission, glob_matches};
use crate::resp::args::Args;
use crate::resp::refusal::Refusal;
use crate::resp::reply::Reply;
use crate::resp::session::Session;
use crate::types::StreamName;

/// Names that a scan gives at a time, unless told otherwise, and at most.
const SCAN_DEFAULT: i64 = 10;
const SCAN_MAX: i64 = 10_000;
/// Streams that a flush deletes in one commit.
const DELETED_AT_ONCE: usize = 100_000;

impl Session {
    pub(in crate::resp) fn dbsize(&self) -> Result<Reply, Refusal> {
        Ok(Reply::count(self.visible("").len()))
    }

    pub(in crate::resp) async fn delete(&self, args: Args<'_>) -> Result<Reply, Refusal> {
        let names = args.rest().iter().map(|key| self.stream(key, Permission::Admin));
        let names = names.collect::<Result<Vec<_>, _>>()?;
        Ok(Reply::count(self.engine.delete_streams(names).await?))
    }

    /// `FLUSHALL [ASYNC | SYNC]`, and FLUSHDB, for there is one database: every stream is deleted.
    pub(in crate::resp) async fn flush(&self, mut args: Args<'_>) -> Result<Reply, Refusal> {
        let _ = args.next_is("async") || args.next_is("sync");
        args.end()?;
        let names = self.visible("");
        names.iter().try_for_each(|name| self.may(Permission::Admin, name.as_str()))?;
        for names in names.chunks(DELETED_AT_ONCE) {
            self.engine.delete_streams(names.to_vec()).await?;
        }
        Ok(Reply::OK)
    }

    /// `RENAME key newkey`, in the place of what has that name, and RENAMENX, where nothing has.
    pub(in crate::resp) async fn rename(&self, mut args: Args<'_>, replace: bool) -> Result<Reply, Refusal> {
        let from = self.stream(args.next()?, Permission::Admin)?;
        let to = self.stream(args.next()?, Permission::Admin)?;
        let is_done = self.engine.rename_stream(&from, to, replace).await?;
        Ok(if replace { Reply::OK } else { Reply::Int(i64::from(is_done)) })
    }

    pub(in crate::resp) fn exists(&self, args: Args<'_>) -> Result<Reply, Refusal> {
        let names = args.rest().iter().map(|key| self.stream(key, Permission::Read));
        let names = names.collect::<Result<Vec<_>, _>>()?;
        Ok(Reply::count(names.iter().filter(|name| self.engine.has_stream(name)).count()))
    }

    pub(in crate::resp) fn key_type(&self, mut args: Args<'_>) -> Result<Reply, Refusal> {
        let name = self.stream(args.next()?, Permission::Read)?;
        Ok(Reply::Simple(if self.engine.has_stream(&name) { "stream" } else { "none" }))
    }

    pub(in crate::resp) fn keys(&self, mut args: Args<'_>) -> Result<Reply, Refusal> {
        let pattern = String::from_utf8_lossy(args.next()?).into_owned();
        // Names are in order: only those are looked at that begin as the pattern does.
        let begin = &pattern[..pattern.find(['*', '?', '[', '\\']).unwrap_or(pattern.len())];
        let names = self.visible(begin).into_iter().filter(|name| glob_matches(&pattern, name.as_str()));
        Ok(Reply::Array(names.map(|name| Reply::text(name.as_str())).collect()))
    }

    /// `SCAN cursor [MATCH pattern] [COUNT n] [TYPE type]`: the cursor is how many names were given.
    pub(in crate::resp) fn scan(&self, mut args: Args<'_>) -> Result<Reply, Refusal> {
        let invalid = |_| Refusal::new("ERR invalid cursor");
        let cursor = args.int().and_then(|n| usize::try_from(n).map_err(|_| Refusal::syntax())).map_err(invalid)?;
        let (mut pattern, mut count, mut is_stream) = (None, SCAN_DEFAULT, true);
        while !args.is_empty() {
            if args.next_is("match") {
                pattern = Some(String::from_utf8_lossy(args.next()?).into_owned());
            } else if args.next_is("count") {
                count = args.int()?;
            } else if args.next_is("type") {
                is_stream = args.next()?.eq_ignore_ascii_case(b"stream");
            } else {
                return Err(Refusal::syntax());
            }
        }
        if count < 1 {
            return Err(Refusal::syntax());
        }
        let all = self.visible("");
        let end = cursor.saturating_add(count.min(SCAN_MAX) as usize);
        let page = all.iter().skip(cursor).take(end - cursor);
        let fits = |name: &&StreamName| is_stream && pattern.as_ref().is_none_or(|p| glob_matches(p, name.as_str()));
        let names = page.filter(fits).map(|name| Reply::text(name.as_str())).collect();
        let next = if end < all.len() { end } else { 0 };
        Ok(Reply::Array(vec![Reply::text(next.to_string()), Reply::Array(names)]))
    }

    /// The streams that the caller may see, by name, whose names begin so.
    fn visible(&self, begin: &str) -> Vec<StreamName> {
        let mut names = self.engine.stream_names(begin);
        names.retain(|name| self.may(Permission::Read, name.as_str()).is_ok());
        names
    }
}
