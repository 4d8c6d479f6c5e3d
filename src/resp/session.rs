//! What a connection is: its protocol, its caller, what it has queued; and the way of a command to the code that runs it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::args::Args;
use super::clients::{Client, Shown};
use super::commands::{Add, Unit, help};
use super::port::Port;
use super::refusal::Refusal;
use super::reply::{Protocol, Reply};
use super::transaction::Transaction;
use crate::access::{Caller, Permission};
use crate::clock::{Clock, SystemClock};
use crate::engine::Engine;
use crate::types::StreamName;

/// One connection's state.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) engine: Engine,
    pub(super) port: Arc<Port>,
    /// This connection as others see it.
    pub(super) client: Arc<Client>,
    /// Unset until who it is has been shown.
    pub(super) caller: Option<Caller>,
    pub(super) protocol: Protocol,
    pub(super) clock: Arc<SystemClock>,
    pub(super) replies: Replies,
    /// Whether a transaction runs now, on the engine's own thread.
    pub(super) is_lent: bool,
    /// Unset outside a transaction.
    pub(super) queued: Option<Transaction>,
    /// Whether the connection is to be closed after the reply.
    pub(super) quits: bool,
}

/// Whether what comes next is answered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Replies {
    #[default]
    On,
    Off,
    /// This reply and the next one are left out.
    SkipTwo,
    /// The next reply is left out.
    SkipOne,
}

impl Replies {
    /// Whether the reply that there is now is written.
    pub(super) fn take(&mut self) -> bool {
        let is_written = matches!(self, Self::On);
        *self = match *self {
            Self::SkipTwo => Self::SkipOne,
            Self::SkipOne => Self::On,
            other => other,
        };
        is_written
    }
}

/// The longest subcommand that is shown.
const SUBCOMMAND_BYTES_MAX: usize = 32;

/// Commands that are shown with their subcommand.
const WITH_SUBCOMMANDS: [&str; 7] = ["client", "command", "config", "function", "script", "xgroup", "xinfo"];

/// Commands with the number of their arguments, the name included: exactly so many, or at least, where it is negative.
pub(super) const COMMANDS: &[(&str, i32)] = &[
    ("auth", -2),
    ("client", -2),
    ("command", -1),
    ("config", -2),
    ("dbsize", 1),
    ("del", -2),
    ("discard", 1),
    ("echo", 2),
    ("exec", 1),
    ("exists", -2),
    ("expire", -3),
    ("expireat", -3),
    ("expiretime", 2),
    ("flushall", -1),
    ("flushdb", -1),
    ("function", -2),
    ("hello", -1),
    ("info", -1),
    ("keys", 2),
    ("multi", 1),
    ("persist", 2),
    ("pexpire", -3),
    ("pexpireat", -3),
    ("pexpiretime", 2),
    ("ping", -1),
    ("pttl", 2),
    ("quit", -1),
    ("rename", 3),
    ("renamenx", 3),
    ("reset", 1),
    ("scan", -2),
    ("script", -2),
    ("select", 2),
    ("time", 1),
    ("ttl", 2),
    ("type", 2),
    ("unlink", -2),
    ("xack", -4),
    ("xackdel", -6),
    ("xadd", -5),
    ("xautoclaim", -6),
    ("xcfgset", -2),
    ("xclaim", -6),
    ("xdel", -3),
    ("xdelex", -5),
    ("xgroup", -2),
    ("xinfo", -2),
    ("xlen", 2),
    ("xnack", -7),
    ("xpending", -3),
    ("xrange", -4),
    ("xread", -4),
    ("xreadgroup", -7),
    ("xrevrange", -4),
    ("xsetid", -3),
    ("xtrim", -4),
];

impl Session {
    pub(super) fn new(port: Arc<Port>, client: Arc<Client>) -> Self {
        let caller = port.keyring.is_empty().then_some(Caller::ANYONE);
        let (engine, clock) = (port.engine.clone(), Arc::clone(&port.clock));
        let (protocol, replies) = (Protocol::default(), Replies::default());
        Self { engine, port, client, caller, protocol, clock, replies, is_lent: false, queued: None, quits: false }
    }

    /// Notes what the connection does, for others to see.
    pub(super) fn note(&self, command: &'static str, subcommand: Option<&Bytes>) {
        self.client.active_ms.store(self.clock.now().engine_ms, Ordering::Relaxed);
        let has_subcommands = WITH_SUBCOMMANDS.contains(&command);
        let mut shown = self.client.shown.lock();
        shown.protocol = self.protocol;
        shown.queued = self.queued.as_ref().map(Transaction::len);
        shown.command.clear();
        shown.command.push_str(command);
        if let Some(subcommand) = subcommand.filter(|word| has_subcommands && word.len() <= SUBCOMMAND_BYTES_MAX) {
            shown.command.push('|');
            shown.command.push_str(&String::from_utf8_lossy(subcommand).to_ascii_lowercase());
        }
    }

    /// Runs a command, or keeps it for the end of a transaction.
    pub(super) async fn run(&mut self, request: &[Bytes]) -> Reply {
        let known = self.known(request);
        match known {
            Ok(name) => self.note(name, request.get(1)),
            Err(_) => self.port.stats.rejected(request.first().map_or(&[][..], |name| name)),
        }
        let ends = matches!(known, Ok("exec" | "discard" | "multi" | "reset" | "quit"));
        match (&mut self.queued, &known) {
            (Some(transaction), Ok(name)) if !ends => {
                return transaction.queue(name, request).unwrap_or_else(Reply::from);
            }
            (Some(transaction), Err(_)) => transaction.refused = true,
            _ => {}
        }
        let name = match known {
            Ok(name) => name,
            Err(refusal) => return refusal.into(),
        };
        let began = self.clock.micros();
        let outcome = match name {
            "multi" => self.multi(),
            "discard" => self.discard(),
            "exec" => self.exec().await,
            _ => self.execute(name, Args::new(&request[1..]), true).await,
        };
        let reply = outcome.unwrap_or_else(Reply::from);
        self.port.stats.called(name, 1, self.clock.micros() - began);
        self.port.stats.answered(name, &reply);
        reply
    }

    /// An XADD that does nothing but add, outside a transaction, so that it can go to the engine with others.
    pub(super) fn plain_add(&self, request: &[Bytes]) -> Option<Result<Add, Refusal>> {
        let is_add = self.queued.is_none() && request.first()?.eq_ignore_ascii_case(b"xadd");
        if !is_add || self.known(request).is_err() {
            return None;
        }
        match self.parse_add(Args::new(&request[1..])) {
            Ok(add) if !add.is_plain() => None,
            parsed => Some(parsed),
        }
    }

    /// The command's name, in small letters, where it is one, has enough arguments and the caller is known.
    pub(super) fn known(&self, request: &[Bytes]) -> Result<&'static str, Refusal> {
        let name = request.first().map_or(&[][..], |name| name);
        let Some(&(name, arity)) = find(name) else { return Err(unknown(request)) };
        if !takes(arity, request.len()) {
            return Err(Refusal::arity(name));
        }
        if self.caller.is_none() && !matches!(name, "auth" | "hello" | "quit" | "reset") {
            return Err(Refusal::new("NOAUTH Authentication required."));
        }
        Ok(name)
    }

    pub(super) async fn execute(&mut self, name: &str, args: Args<'_>, may_block: bool) -> Result<Reply, Refusal> {
        match name {
            "auth" => self.auth(args),
            "hello" => self.hello(args),
            "ping" => Session::ping(args),
            "echo" => Ok(Reply::Bulk(args.rest()[0].clone())),
            "select" => Session::select(args),
            "client" => self.client(args),
            "command" => Session::command(args),
            "config" => self.config(args),
            "function" => Session::function(args),
            "script" => Session::script(args),
            "info" => Ok(self.server_info(args)),
            "time" => Ok(self.time()),
            "quit" => {
                self.quits = true;
                Ok(Reply::OK)
            }
            "reset" => Ok(self.reset()),
            "dbsize" => self.dbsize(),
            "del" | "unlink" => self.delete(args).await,
            "rename" => self.rename(args, true).await,
            "renamenx" => self.rename(args, false).await,
            "persist" => self.persist(args).await,
            "expire" | "pexpire" | "expireat" | "pexpireat" => self.expire(args, Unit::of(name)).await,
            "ttl" | "pttl" | "expiretime" | "pexpiretime" => self.expiry(args, Unit::of(name)).await,
            "exists" => self.exists(args),
            "flushall" | "flushdb" => self.flush(args).await,
            "type" => self.key_type(args),
            "keys" => self.keys(args),
            "scan" => self.scan(args),
            "xadd" => self.add(args, may_block).await,
            "xlen" => self.length(args).await,
            "xdel" => self.delete_entries(args).await,
            "xsetid" => self.set_last_id(args).await,
            "xdelex" => self.remove(args, false, may_block).await,
            "xackdel" => self.remove(args, true, may_block).await,
            "xtrim" => self.trim(args).await,
            "xrange" => self.range(args, false).await,
            "xrevrange" => self.range(args, true).await,
            "xread" => self.read(args, may_block).await,
            "xgroup" | "xinfo" if help::is_asked(args) => help::of(name, args),
            "xgroup" => self.group(args).await,
            "xreadgroup" => self.read_group(args, may_block).await,
            "xack" => self.acknowledge(args).await,
            "xcfgset" => self.configure_stream(args).await,
            "xnack" => self.release(args).await,
            "xpending" => self.pending(args).await,
            "xclaim" => self.claim(args).await,
            "xautoclaim" => self.auto_claim(args).await,
            "xinfo" => self.info(args).await,
            _ => Err(Refusal::new(format!("ERR unknown command '{name}'"))),
        }
    }

    fn reset(&mut self) -> Reply {
        *self.client.shown.lock() = Shown::default();
        *self = Self::new(Arc::clone(&self.port), Arc::clone(&self.client));
        Reply::Simple("RESET")
    }

    /// The stream of a key that the caller may do this with.
    pub(super) fn stream(&self, key: &[u8], permission: Permission) -> Result<StreamName, Refusal> {
        let text = std::str::from_utf8(key).map_err(|_| Refusal::new("ERR a key must be text in UTF-8"))?;
        let name = StreamName::parse(text)?;
        self.may(permission, text)?;
        Ok(name)
    }

    pub(super) fn may(&self, permission: Permission, stream: &str) -> Result<(), Refusal> {
        let caller = self.caller.as_ref().ok_or_else(|| Refusal::new("NOAUTH Authentication required."))?;
        Ok(caller.may(permission, stream)?)
    }
}

/// The command of this name, in whatever letters.
pub(super) fn find(name: &[u8]) -> Option<&'static (&'static str, i32)> {
    COMMANDS.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// Whether a command takes so many arguments, its name included.
pub(super) fn takes(arity: i32, count: usize) -> bool {
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    if arity < 0 { count >= -arity } else { count == arity }
}

fn unknown(request: &[Bytes]) -> Refusal {
    let text = |bytes: &Bytes| String::from_utf8_lossy(&bytes[..bytes.len().min(128)]).into_owned();
    let name = request.first().map(text).unwrap_or_default();
    let args: String = request.iter().skip(1).take(10).map(|arg| format!("'{}' ", text(arg))).collect();
    Refusal::new(format!("ERR unknown command '{name}', with args beginning with: {args}"))
}
