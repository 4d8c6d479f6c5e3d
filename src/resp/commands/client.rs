//! CLIENT: this connection and the others.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::help;
use crate::access::Permission;
use crate::clock::Clock;
use crate::resp::args::{Args, int};
use crate::resp::clients::{Client, Unblocked};
use crate::resp::refusal::Refusal;
use crate::resp::reply::{Protocol, Reply};
use crate::resp::session::{Replies, Session};

/// Bytes of a name that a connection gives itself.
const NAME_BYTES_MAX: usize = 1024;

impl Session {
    pub(in crate::resp) fn client(&mut self, mut args: Args<'_>) -> Result<Reply, Refusal> {
        let whole = args;
        match help::subcommand("client", &mut args)? {
            "id" => Ok(Reply::count(self.client.id)),
            "getname" => {
                let name = self.client.shown.lock().name.clone();
                Ok(if name.is_empty() { Reply::Null } else { Reply::Bulk(name) })
            }
            "setname" => {
                self.set_name(args.next()?)?;
                Ok(Reply::OK)
            }
            "setinfo" => self.set_library(args),
            "no-evict" | "no-touch" => match args.next_is("on") || args.next_is("off") {
                true => Ok(Reply::OK),
                false => Err(Refusal::syntax()),
            },
            "reply" => self.set_replies(args),
            "info" => Ok(Reply::Verbatim(self.line(&self.client) + "\n")),
            "list" => self.list_clients(args),
            "unblock" => self.unblock(&whole.rest()[0], args),
            "kill" => self.kill(args),
            _ => help::of("client", whole),
        }
    }

    /// Names this connection.
    pub(super) fn set_name(&self, name: &Bytes) -> Result<(), Refusal> {
        plain(name, "Client names")?;
        self.client.shown.lock().name = Bytes::copy_from_slice(name);
        Ok(())
    }

    fn set_library(&self, mut args: Args<'_>) -> Result<Reply, Refusal> {
        let (option, value) = (args.next()?, args.next()?);
        let mut shown = self.client.shown.lock();
        let place = match &option.to_ascii_lowercase()[..] {
            b"lib-name" => &mut shown.library,
            b"lib-ver" => &mut shown.library_version,
            _ => {
                let option = String::from_utf8_lossy(option);
                return Err(Refusal::new(format!("ERR Unrecognized option '{option}'")));
            }
        };
        plain(value, &String::from_utf8_lossy(option))?;
        *place = Bytes::copy_from_slice(value);
        Ok(Reply::OK)
    }

    fn set_replies(&mut self, mut args: Args<'_>) -> Result<Reply, Refusal> {
        self.replies = if args.next_is("on") {
            Replies::On
        } else if args.next_is("off") {
            Replies::Off
        } else if args.next_is("skip") {
            match self.replies {
                Replies::Off => Replies::Off,
                _ => Replies::SkipTwo,
            }
        } else {
            return Err(Refusal::syntax());
        };
        Ok(Reply::OK)
    }

    fn list_clients(&self, mut args: Args<'_>) -> Result<Reply, Refusal> {
        self.may(Permission::Admin, "*")?;
        let mut listed = self.port.clients.all();
        if args.rest().len() == 2 && args.next_is("type") {
            if !is_normal(args.next()?)? {
                listed.clear();
            }
        } else if args.rest().len() > 1 && args.next_is("id") {
            let ids = args.rest().iter().map(|id| int(id).and_then(|id| u64::try_from(id).ok()));
            let ids = ids.collect::<Option<Vec<_>>>().ok_or_else(|| Refusal::new("ERR Invalid client ID"))?;
            listed = ids.into_iter().filter_map(|id| self.port.clients.get(id)).collect();
        } else {
            args.end()?;
        }
        Ok(Reply::Verbatim(listed.iter().map(|client| self.line(client) + "\n").collect::<String>()))
    }

    fn unblock(&self, given: &Bytes, mut args: Args<'_>) -> Result<Reply, Refusal> {
        if args.rest().len() > 2 {
            let given = String::from_utf8_lossy(given);
            return Err(Refusal::new(format!(
                "ERR unknown subcommand or wrong number of arguments for '{given}'. Try CLIENT HELP."
            )));
        }
        let id = args.next()?;
        let how = if args.is_empty() || args.next_is("timeout") {
            Unblocked::TimedOut
        } else if args.next_is("error") {
            Unblocked::Refused
        } else {
            return Err(Refusal::new("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"));
        };
        let id = int(id).ok_or_else(Refusal::not_an_integer)?;
        self.may(Permission::Admin, "*")?;
        let client = u64::try_from(id).ok().and_then(|id| self.port.clients.get(id));
        Ok(Reply::Int(i64::from(client.is_some_and(|client| client.unblock(how)))))
    }

    /// `KILL address`, or `KILL option value ...`.
    fn kill(&mut self, mut args: Args<'_>) -> Result<Reply, Refusal> {
        self.may(Permission::Admin, "*")?;
        if let [address] = args.rest() {
            let chosen = Chosen { address: Some(address), skips_self: false, ..Chosen::default() };
            return match self.close_all(&chosen) {
                0 => Err(Refusal::new("ERR No such client")),
                _ => Ok(Reply::OK),
            };
        }
        let chosen = Chosen::parse(&mut args)?;
        Ok(Reply::count(self.close_all(&chosen)))
    }

    fn close_all(&mut self, chosen: &Chosen<'_>) -> usize {
        let now_ms = self.clock.now().engine_ms;
        let mut clients = self.port.clients.all();
        clients.retain(|client| chosen.fits(client, now_ms) && !(chosen.skips_self && client.id == self.client.id));
        for client in &clients {
            if client.id == self.client.id {
                // This one is answered first.
                self.quits = true;
            } else {
                self.port.clients.close(client);
            }
        }
        clients.len()
    }

    /// What is told of a connection. What Redis tells of its buffers stands there as zero: clients rely on its being there.
    fn line(&self, client: &Arc<Client>) -> String {
        let shown = client.shown.lock().clone();
        let now_ms = self.clock.now().engine_ms;
        let seconds = |since_ms: u64| now_ms.saturating_sub(since_ms) / 1000;
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let flags = match (client.is_waiting(), shown.queued) {
            (true, _) => "b",
            (false, Some(_)) => "x",
            (false, None) => "N",
        };
        let queued = shown.queued.map_or_else(|| "-1".to_owned(), |count| count.to_string());
        format!(
            "id={} addr={} laddr={} fd=0 name={} age={} idle={} flags={flags} db=0 sub=0 psub=0 ssub=0 multi={queued} \
             qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd={} user={} redir=-1 resp={} lib-name={} lib-ver={}",
            client.id,
            peer(client),
            local(client),
            text(&shown.name),
            seconds(client.since_ms),
            seconds(client.active_ms.load(Ordering::Relaxed)),
            if shown.command.is_empty() { "NULL" } else { &shown.command },
            shown.user.as_deref().unwrap_or("default"),
            if shown.protocol == Protocol::Resp3 { 3 } else { 2 },
            text(&shown.library),
            text(&shown.library_version),
        )
    }
}

/// Which connections are meant: those that all of this is true of.
#[derive(Default)]
struct Chosen<'a> {
    id: Option<u64>,
    address: Option<&'a Bytes>,
    local_address: Option<&'a Bytes>,
    user: Option<&'a Bytes>,
    age_min_ms: u64,
    /// Set where a kind was asked for that there are none of.
    nobody: bool,
    skips_self: bool,
}

impl<'a> Chosen<'a> {
    fn parse(args: &mut Args<'a>) -> Result<Self, Refusal> {
        let mut chosen = Self { skips_self: true, ..Self::default() };
        while !args.is_empty() {
            if args.next_is("id") {
                let id = int(args.next()?).filter(|id| *id > 0);
                let id = id.ok_or_else(|| Refusal::new("ERR client-id should be greater than 0"))?;
                chosen.id = Some(id as u64);
            } else if args.next_is("addr") {
                chosen.address = Some(args.next()?);
            } else if args.next_is("laddr") {
                chosen.local_address = Some(args.next()?);
            } else if args.next_is("user") {
                chosen.user = Some(args.next()?);
            } else if args.next_is("maxage") {
                let seconds = int(args.next()?).filter(|seconds| *seconds > 0);
                let seconds = seconds.ok_or_else(|| Refusal::new("ERR maxage should be greater than 0"))?;
                chosen.age_min_ms = (seconds as u64).saturating_mul(1000);
            } else if args.next_is("type") {
                chosen.nobody |= !is_normal(args.next()?)?;
            } else if args.next_is("skipme") {
                chosen.skips_self = args.next_is("yes");
                if !chosen.skips_self && !args.next_is("no") {
                    return Err(Refusal::syntax());
                }
            } else {
                return Err(Refusal::syntax());
            }
        }
        Ok(chosen)
    }

    fn fits(&self, client: &Client, now_ms: u64) -> bool {
        let is = |wanted: Option<&Bytes>, text: &str| wanted.is_none_or(|wanted| wanted == text.as_bytes());
        !self.nobody
            && self.id.is_none_or(|id| id == client.id)
            && is(self.address, &peer(client))
            && is(self.local_address, &local(client))
            && is(self.user, client.shown.lock().user.as_deref().unwrap_or("default"))
            && now_ms.saturating_sub(client.since_ms) >= self.age_min_ms
    }
}

fn peer(client: &Client) -> String {
    client.ends.map_or_else(|| "?:0".to_owned(), |ends| ends.peer.to_string())
}

fn local(client: &Client) -> String {
    client.ends.map_or_else(|| "?:0".to_owned(), |ends| ends.local.to_string())
}

/// Whether a type of connections is the one that there is here; those of Redis are known.
fn is_normal(kind: &Bytes) -> Result<bool, Refusal> {
    match &kind.to_ascii_lowercase()[..] {
        b"normal" => Ok(true),
        b"master" | b"replica" | b"slave" | b"pubsub" => Ok(false),
        _ => Err(Refusal::new(format!("ERR Unknown client type '{}'", String::from_utf8_lossy(kind)))),
    }
}

/// Refuses what would not be one word of a line.
fn plain(text: &Bytes, what: &str) -> Result<(), Refusal> {
    if !text.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Err(Refusal::new(format!("ERR {what} cannot contain spaces, newlines or special characters.")));
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(Refusal::new(format!("ERR {what} cannot be longer than {NAME_BYTES_MAX} bytes")));
    }
    Ok(())
}
