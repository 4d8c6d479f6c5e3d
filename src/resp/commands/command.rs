//! COMMAND: what the commands are, for clients that route or check by it.

use bytes::Bytes;

use super::help;
use crate::resp::args::Args;
use crate::resp::refusal::Refusal;
use crate::resp::reply::Reply;
use crate::resp::session::{COMMANDS, Session, find, takes};

impl Session {
    /// `COMMAND`, or one of its subcommands.
    pub(in crate::resp) fn command(mut args: Args<'_>) -> Result<Reply, Refusal> {
        if args.is_empty() {
            return Ok(Reply::Array(COMMANDS.iter().map(described).collect()));
        }
        let whole = args;
        match help::subcommand("command", &mut args)? {
            "count" => Ok(Reply::count(COMMANDS.len())),
            "list" => Ok(Reply::Array(COMMANDS.iter().map(|(name, _)| Reply::text(*name)).collect())),
            "docs" => Ok(Reply::Map(Vec::new())),
            "info" if args.is_empty() => Ok(Reply::Array(COMMANDS.iter().map(described).collect())),
            "info" => {
                Ok(Reply::Array(args.rest().iter().map(|name| find(name).map_or(Reply::Null, described)).collect()))
            }
            "getkeys" => keys_of(args.rest()),
            _ => help::of("command", whole),
        }
    }
}

/// Name, number of arguments, flags, places of keys; and four lists of which nothing is told.
fn described((name, arity): &(&str, i32)) -> Reply {
    let (first, last, step) = places(name);
    let flags = flags(name).iter().map(|flag| Reply::Simple(flag)).collect();
    let nothing = || Reply::Array(Vec::new());
    let numbers = [first, last, step].map(Reply::Int);
    let head = [Reply::text(*name), Reply::Int(i64::from(*arity)), Reply::Array(flags)];
    Reply::Array(head.into_iter().chain(numbers).chain([nothing(), nothing(), nothing(), nothing()]).collect())
}

/// Where the keys are: the first, the last (from the end where it is negative), the distance; nowhere where all are zero.
fn places(name: &str) -> (i64, i64, i64) {
    match name {
        "del" | "exists" | "unlink" => (1, -1, 1),
        "xgroup" | "xinfo" => (2, 2, 1),
        "xread" | "xreadgroup" => (0, 0, 0),
        "type" | "persist" | "ttl" | "pttl" => (1, 1, 1),
        "expire" | "expireat" | "expiretime" | "pexpire" | "pexpireat" | "pexpiretime" => (1, 1, 1),
        "rename" | "renamenx" => (1, 2, 1),
        _ if name.starts_with('x') => (1, 1, 1),
        _ => (0, 0, 0),
    }
}

fn flags(name: &str) -> &'static [&'static str] {
    match name {
        "xread" => &["readonly", "blocking", "movablekeys"],
        "xreadgroup" => &["write", "blocking", "movablekeys"],
        "xlen" | "xrange" | "xrevrange" | "xpending" | "xinfo" => &["readonly"],
        "exists" | "type" | "keys" | "scan" | "dbsize" | "ttl" | "pttl" | "expiretime" | "pexpiretime" => &["readonly"],
        "xadd" => &["write", "denyoom", "fast"],
        "del" | "unlink" | "flushall" | "flushdb" | "rename" | "renamenx" | "expire" | "expireat" | "pexpire"
        | "pexpireat" | "persist" => &["write"],
        "auth" | "hello" | "quit" | "reset" => &["noscript", "loading", "stale", "fast", "no_auth"],
        _ if name.starts_with('x') => &["write"],
        _ => &["loading", "stale"],
    }
}

/// The keys that a command names.
fn keys_of(request: &[Bytes]) -> Result<Reply, Refusal> {
    let (name, arity) = find(&request[0]).ok_or_else(|| Refusal::new("ERR Invalid command specified"))?;
    if !takes(*arity, request.len()) {
        return Err(Refusal::new("ERR Invalid number of arguments specified for command"));
    }
    let none = || Refusal::new("ERR The command has no key arguments");
    let keys: Vec<Bytes> = if matches!(*name, "xread" | "xreadgroup") {
        let streams = request.iter().position(|word| word.eq_ignore_ascii_case(b"streams")).ok_or_else(none)?;
        let rest = &request[streams + 1..];
        rest[..rest.len() / 2].to_vec()
    } else {
        let (first, last, step) = places(name);
        let last = if last < 0 { request.len() as i64 + last } else { last };
        let at = (first..=last).step_by(step.max(1) as usize).filter(|_| first > 0);
        at.filter_map(|at| request.get(at as usize).cloned()).collect()
    };
    if keys.is_empty() {
        return Err(none());
    }
    Ok(Reply::Array(keys.into_iter().map(Reply::Bulk).collect()))
}
