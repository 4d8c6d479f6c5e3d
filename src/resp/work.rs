//! What the commands of a transaction have the core do, estimated before it starts: nobody else is served meanwhile, and
//! what was done is not taken back.
//!
//! Estimates are in nanoseconds and from above, as measured on two cores of a small machine.

use std::collections::HashMap;

use bytes::Bytes;

use super::refusal::Refusal;
use super::session::Session;
use crate::limits::PAGE_ENTRIES_MAX;
use crate::types::StreamName;

/// What a transaction may take by these estimates; what is estimated to take longer is refused as a whole.
pub(super) const WORK_MAX_MS: u64 = 200;
/// How long a transaction runs before commands of it that only read are refused, where an estimate falls short.
pub(super) const READS_MAX_MS: u64 = 100;

/// A command by itself.
const COMMAND_NS: u64 = 4_000;
/// A name that is listed, an entry that is read, and an id that is settled, claimed or deleted.
const NAME_NS: u64 = 300;
const ENTRY_NS: u64 = 1_000;
const ID_NS: u64 = 1_500;
/// A stream that is deleted.
const DELETED_NS: u64 = 4_000;
/// Blocks that are looked at to find where a trim ends.
const TRIM_NS: u64 = 50_000;
/// Entries that XREADGROUP and XAUTOCLAIM look at, unless asked for others, and for each that XAUTOCLAIM takes.
const READ_DEFAULT: u64 = PAGE_ENTRIES_MAX as u64;
const CLAIM_DEFAULT: u64 = 100;
const EXAMINED_PER_ENTRY: u64 = 10;

impl Session {
    /// Refuses commands that are estimated to hold the core for too long together.
    pub(super) async fn check_work(&self, requests: &[Vec<Bytes>]) -> Result<(), Refusal> {
        let (streams, mut lengths, mut total) = (self.engine.stats().streams, HashMap::new(), 0);
        for request in requests {
            let Some((name, args)) = request.split_first() else { continue };
            total += COMMAND_NS + self.work(&name.to_ascii_lowercase(), args, streams, &mut lengths).await;
        }
        let (ms, max) = (total / 1_000_000, WORK_MAX_MS);
        if ms > max {
            let why = format!("its commands would hold up all others for about {ms} ms, and {max} ms is the most");
            return Err(Refusal::new(format!("EXECABORT Transaction discarded because of: {why}")));
        }
        Ok(())
    }

    async fn work(&self, name: &[u8], args: &[Bytes], streams: u64, lengths: &mut HashMap<Bytes, u64>) -> u64 {
        match name {
            b"keys" if args.first().is_some_and(|pattern| is_plain(pattern)) => 0,
            b"keys" | b"scan" | b"dbsize" => NAME_NS * streams,
            b"flushall" | b"flushdb" => (NAME_NS + DELETED_NS) * streams,
            b"del" | b"unlink" => DELETED_NS * args.len() as u64,
            b"xrange" | b"xrevrange" => match args.first() {
                Some(key) => ENTRY_NS * self.entries(key, count(args), lengths).await,
                None => 0,
            },
            b"xread" => ENTRY_NS * self.entries_of_each(args, count(args), lengths).await,
            b"xreadgroup" => {
                let count = count(args).unwrap_or(READ_DEFAULT);
                ENTRY_NS * self.entries_of_each(args, Some(count), lengths).await
            }
            b"xautoclaim" => ID_NS * EXAMINED_PER_ENTRY * count(args).unwrap_or(CLAIM_DEFAULT).min(READ_DEFAULT),
            b"xpending" => ENTRY_NS * args.get(4..).map_or(1, numbers_max).min(READ_DEFAULT),
            b"xtrim" => TRIM_NS,
            _ => ID_NS * args.len() as u64 / 4,
        }
    }

    /// Entries that a read of a stream gives at most.
    async fn entries(&self, key: &Bytes, count: Option<u64>, lengths: &mut HashMap<Bytes, u64>) -> u64 {
        if let Some(known) = lengths.get(key) {
            return count.map_or(*known, |count| count.min(*known));
        }
        let name = std::str::from_utf8(key).ok().and_then(|name| StreamName::parse(name).ok());
        let length = match name {
            Some(name) => self.engine.stream_counts(&name).await.map_or(0, |info| info.length),
            None => 0,
        };
        lengths.insert(key.clone(), length);
        count.map_or(length, |count| count.min(length))
    }

    /// The same for all streams that are named after `STREAMS`.
    async fn entries_of_each(&self, args: &[Bytes], count: Option<u64>, lengths: &mut HashMap<Bytes, u64>) -> u64 {
        let named = args.iter().position(|arg| arg.eq_ignore_ascii_case(b"streams")).map_or(args.len(), |at| at + 1);
        let keys = &args[named..named + (args.len() - named) / 2];
        let mut entries = 0;
        for key in keys {
            entries += self.entries(key, count, lengths).await;
        }
        entries
    }
}

/// The number after `COUNT`.
fn count(args: &[Bytes]) -> Option<u64> {
    let at = args.iter().position(|arg| arg.eq_ignore_ascii_case(b"count"))?;
    args.get(at + 1).and_then(number)
}

fn number(arg: &Bytes) -> Option<u64> {
    std::str::from_utf8(arg).ok()?.parse().ok()
}

fn numbers_max(args: &[Bytes]) -> u64 {
    args.iter().filter_map(number).max().unwrap_or(1)
}

/// Whether a pattern stands for itself alone.
fn is_plain(pattern: &[u8]) -> bool {
    !pattern.iter().any(|byte| b"*?[\\".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_where_they_stand() {
        let args = |text: &str| text.split(' ').map(|arg| Bytes::copy_from_slice(arg.as_bytes())).collect::<Vec<_>>();
        assert_eq!(count(&args("k - + Count 7")), Some(7));
        assert_eq!(count(&args("k - +")), None);
        assert_eq!(count(&args("k - + COUNT x")), None);
        assert_eq!(numbers_max(&args("- + 10 c")), 10);
        assert!(is_plain(b"abc") && !is_plain(b"a*") && !is_plain(b"[a]"));
    }
}
