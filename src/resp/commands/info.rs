//! XINFO.

use bytes::Bytes;

use super::groups::is_missing;
use super::server::unknown_subcommand;
use crate::access::Permission;
use crate::engine::GroupInfo;
use crate::resp::args::Args;
use crate::resp::entries;
use crate::resp::refusal::Refusal;
use crate::resp::reply::Reply;
use crate::resp::session::Session;
use crate::types::{GroupName, IdRange, StreamName};

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
            b"stream" => {
                args.end()?;
                self.stream_info(&stream).await
            }
            b"groups" => {
                args.end().map_err(|_| wrong())?;
                let groups = self.engine.groups(&stream).await?;
                Ok(Reply::Array(groups.iter().map(group).collect()))
            }
            _ => {
                let name = args.next().map_err(|_| wrong())?;
                self.consumers(key, &stream, name).await
            }
        }
    }

    async fn stream_info(&self, stream: &StreamName) -> Result<Reply, Refusal> {
        let info = self.engine.stream(stream).await?;
        let ends = |reverse| self.entries(stream, IdRange::ALL, reverse, 1);
        let end = |found: Vec<_>| found.first().map_or(Reply::Null, entries::entry);
        let ((first, _), (last, _)) = (ends(false).await?, ends(true).await?);
        let first_id = first.first().map(|entry| entry.id).unwrap_or_default();
        Ok(pairs([
            ("length", Reply::count(info.length)),
            ("radix-tree-keys", Reply::Int(1)),
            ("radix-tree-nodes", Reply::Int(2)),
            ("last-generated-id", entries::id(info.last)),
            ("max-deleted-entry-id", entries::id(info.deleted_max)),
            ("entries-added", Reply::count(info.appended)),
            ("recorded-first-entry-id", entries::id(first_id)),
            ("groups", Reply::count(info.groups.len())),
            ("first-entry", end(first)),
            ("last-entry", end(last)),
        ]))
    }

    async fn consumers(&self, key: &[u8], stream: &StreamName, name: &Bytes) -> Result<Reply, Refusal> {
        let found = self.engine.group(stream, &GroupName::from_bytes(name)?).await;
        let info = found.map_err(|error| match is_missing(&error) && self.engine.has_stream(stream) {
            true => Refusal::no_such_group(key, name),
            false => error.into(),
        })?;
        let mut consumers = info.consumers;
        consumers.sort_by(|a, b| a.name.cmp(&b.name));
        let consumers = consumers.iter().map(|consumer| {
            pairs([
                ("name", Reply::Bulk(Bytes::copy_from_slice(consumer.name.as_bytes()))),
                ("pending", Reply::count(consumer.pending)),
                ("idle", Reply::count(consumer.idle_ms)),
                ("inactive", consumer.inactive_ms.map_or(Reply::Int(-1), Reply::count)),
            ])
        });
        Ok(Reply::Array(consumers.collect()))
    }
}

fn group(info: &GroupInfo) -> Reply {
    pairs([
        ("name", Reply::Bulk(Bytes::copy_from_slice(info.name.as_bytes()))),
        ("consumers", Reply::count(info.consumers.len())),
        ("pending", Reply::count(info.pending)),
        ("last-delivered-id", entries::id(info.cursor)),
        ("entries-read", Reply::Null),
        ("lag", Reply::count(info.undelivered)),
    ])
}

fn pairs<const N: usize>(pairs: [(&str, Reply); N]) -> Reply {
    Reply::Map(pairs.into_iter().map(|(name, value)| (Reply::text(name), value)).collect())
}
