//! What a connection is: its protocol, its caller, its transaction; and the way of a command to the code that runs it.

use std::sync::Arc;

use bytes::Bytes;

use super::args::Args;
use super::commands::Add;
use super::refusal::Refusal;
use super::reply::{Protocol, Reply};
use crate::access::{Caller, Keyring, Permission};
use crate::clock::SystemClock;
use crate::engine::Engine;
use crate::types::StreamName;

/// One connection's state.
pub(super) struct Session {
    pub(super) engine: Engine,
    pub(super) keyring: Keyring,
    /// Unset until who it is has been shown.
    pub(super) caller: Option<Caller>,
    pub(super) protocol: Protocol,
    pub(super) id: u64,
    pub(super) clock: Arc<SystemClock>,
    pub(super) name: Bytes,
    queued: Option<Transaction>,
    /// Whether the connection is to be closed after the reply.
    pub(super) quits: bool,
}

/// A transaction that was begun.
#[derive(Default)]
struct Transaction {
    requests: Vec<Vec<Bytes>>,
    /// Bytes that they take, with what a list takes.
    bytes: usize,
    /// Whether one of them was refused: then none is run.
    refused: bool,
}

impl Transaction {
    fn queue(&mut self, request: &[Bytes]) -> Result<Reply, Refusal> {
        let bytes: usize = request.iter().map(|argument| argument.len() + size_of::<Bytes>()).sum();
        if self.bytes + bytes > TRANSACTION_BYTES_MAX {
            self.refused = true;
            return Err(Refusal::new("ERR the transaction is larger than 64 MiB"));
        }
        self.bytes += bytes;
        self.requests.push(request.to_vec());
        Ok(Reply::Simple("QUEUED"))
    }
}

/// Bytes of the commands of one transaction.
const TRANSACTION_BYTES_MAX: usize = 64 << 20;

/// Commands with the number of their arguments, the name included: exactly so many, or at least, where it is negative.
const COMMANDS: &[(&str, i32)] = &[
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
    ("hello", -1),
    ("info", -1),
    ("keys", 2),
    ("multi", 1),
    ("ping", -1),
    ("quit", -1),
    ("reset", 1),
    ("scan", -2),
    ("select", 2),
    ("time", 1),
    ("type", 2),
    ("unlink", -2),
    ("xack", -4),
    ("xadd", -5),
    ("xautoclaim", -6),
    ("xclaim", -6),
    ("xdel", -3),
    ("xgroup", -2),
    ("xinfo", -2),
    ("xlen", 2),
    ("xpending", -3),
    ("xrange", -4),
    ("xread", -4),
    ("xreadgroup", -7),
    ("xrevrange", -4),
    ("xtrim", -4),
];

impl Session {
    pub(super) fn new(engine: Engine, keyring: Keyring, id: u64) -> Self {
        let caller = keyring.is_empty().then_some(Caller::ANYONE);
        let (protocol, name) = (Protocol::default(), Bytes::new());
        let clock = SystemClock::new();
        Self { engine, keyring, caller, protocol, id, clock, name, queued: None, quits: false }
    }

    /// Runs a command, or keeps it for the end of a transaction.
    pub(super) async fn run(&mut self, request: &[Bytes]) -> Reply {
        let known = self.known(request);
        let ends = matches!(known, Ok("exec" | "discard" | "multi" | "reset" | "quit"));
        match (&mut self.queued, &known) {
            (Some(transaction), Ok(_)) if !ends => {
                return transaction.queue(request).unwrap_or_else(Reply::from);
            }
            (Some(transaction), Err(_)) => transaction.refused = true,
            _ => {}
        }
        let outcome = match known {
            Ok("multi") => self.multi(),
            Ok("discard") => self.discard(),
            Ok("exec") => return self.exec().await,
            Ok(name) => self.execute(name, Args::new(&request[1..]), true).await,
            Err(refusal) => Err(refusal),
        };
        outcome.unwrap_or_else(Reply::from)
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
    fn known(&self, request: &[Bytes]) -> Result<&'static str, Refusal> {
        let name = request.first().map_or(&[][..], |name| name);
        let found = COMMANDS.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
        let Some((name, arity)) = found else { return Err(unknown(request)) };
        let count = i32::try_from(request.len()).unwrap_or(i32::MAX);
        if if *arity < 0 { count < -arity } else { count != *arity } {
            return Err(Refusal::arity(name));
        }
        if self.caller.is_none() && !matches!(*name, "auth" | "hello" | "quit" | "reset") {
            return Err(Refusal::new("NOAUTH Authentication required."));
        }
        Ok(name)
    }

    fn multi(&mut self) -> Result<Reply, Refusal> {
        if self.queued.is_some() {
            return Err(Refusal::new("ERR MULTI calls can not be nested"));
        }
        self.queued = Some(Transaction::default());
        Ok(Reply::OK)
    }

    fn discard(&mut self) -> Result<Reply, Refusal> {
        self.queued.take().map(|_| Reply::OK).ok_or_else(|| Refusal::new("ERR DISCARD without MULTI"))
    }

    async fn exec(&mut self) -> Reply {
        let Some(transaction) = self.queued.take() else { return Refusal::new("ERR EXEC without MULTI").into() };
        if transaction.refused {
            return Refusal::new("EXECABORT Transaction discarded because of previous errors.").into();
        }
        let mut replies = Vec::with_capacity(transaction.requests.len());
        for request in transaction.requests {
            let outcome = match self.known(&request) {
                Ok(name) => self.execute(name, Args::new(&request[1..]), false).await,
                Err(refusal) => Err(refusal),
            };
            replies.push(outcome.unwrap_or_else(Reply::from));
        }
        Reply::Array(replies)
    }

    async fn execute(&mut self, name: &str, args: Args<'_>, may_block: bool) -> Result<Reply, Refusal> {
        match name {
            "auth" => self.auth(args),
            "hello" => self.hello(args),
            "ping" => Session::ping(args),
            "echo" => Ok(Reply::Bulk(args.rest()[0].clone())),
            "select" => Session::select(args),
            "client" => self.client(args),
            "command" => Ok(Reply::Array(Vec::new())),
            "config" => Session::config(args),
            "info" => Ok(self.server_info()),
            "time" => Ok(self.time()),
            "quit" => {
                self.quits = true;
                Ok(Reply::OK)
            }
            "reset" => Ok(self.reset()),
            "dbsize" => self.dbsize(),
            "del" | "unlink" => self.delete(args).await,
            "exists" => self.exists(args),
            "type" => self.key_type(args),
            "keys" => self.keys(args),
            "scan" => self.scan(args),
            "xadd" => self.add(args).await,
            "xlen" => self.length(args).await,
            "xdel" => self.delete_entries(args).await,
            "xtrim" => self.trim(args).await,
            "xrange" => self.range(args, false).await,
            "xrevrange" => self.range(args, true).await,
            "xread" => self.read(args, may_block).await,
            "xgroup" => self.group(args).await,
            "xreadgroup" => self.read_group(args, may_block).await,
            "xack" => self.acknowledge(args).await,
            "xpending" => self.pending(args).await,
            "xclaim" => self.claim(args).await,
            "xautoclaim" => self.auto_claim(args).await,
            "xinfo" => self.info(args).await,
            _ => Err(Refusal::new(format!("ERR unknown command '{name}'"))),
        }
    }

    fn reset(&mut self) -> Reply {
        *self = Self::new(self.engine.clone(), self.keyring.clone(), self.id);
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

fn unknown(request: &[Bytes]) -> Refusal {
    let text = |bytes: &Bytes| String::from_utf8_lossy(&bytes[..bytes.len().min(128)]).into_owned();
    let name = request.first().map(text).unwrap_or_default();
    let args: String = request.iter().skip(1).take(10).map(|arg| format!("'{}' ", text(arg))).collect();
    Refusal::new(format!("ERR unknown command '{name}', with args beginning with: {args}"))
}
