//! Commands about the connection and the server.

use bytes::Bytes;

use crate::clock::Clock;
use crate::resp::args::Args;
use crate::resp::refusal::Refusal;
use crate::resp::reply::{Protocol, Reply};
use crate::resp::session::Session;

/// The version of Redis whose replies we give.
pub(crate) const REDIS_VERSION: &str = "7.2.0";

impl Session {
    /// `AUTH [user] password`: the password is an API key, the user is not looked at.
    pub(in crate::resp) fn auth(&mut self, args: Args<'_>) -> Result<Reply, Refusal> {
        let rest = args.rest();
        if rest.len() > 2 {
            return Err(Refusal::syntax());
        }
        self.authenticate(&rest[rest.len() - 1])?;
        Ok(Reply::OK)
    }

    fn authenticate(&mut self, password: &Bytes) -> Result<(), Refusal> {
        if self.keyring.is_empty() {
            return Err(Refusal::new(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                 configuration is correct?",
            ));
        }
        let text = std::str::from_utf8(password).unwrap_or_default();
        self.caller = Some(self.keyring.authenticate(Some(text))?);
        Ok(())
    }

    /// `HELLO [version [AUTH user password] [SETNAME name]]`.
    pub(in crate::resp) fn hello(&mut self, mut args: Args<'_>) -> Result<Reply, Refusal> {
        let mut protocol = self.protocol;
        if let Ok(version) = args.next() {
            protocol = match &version[..] {
                b"2" => Protocol::Resp2,
                b"3" => Protocol::Resp3,
                _ => return Err(Refusal::new("NOPROTO unsupported protocol version")),
            };
        }
        let mut name = None;
        while !args.is_empty() {
            if args.next_is("auth") {
                let _user = args.next()?;
                self.authenticate(args.next()?)?;
            } else if args.next_is("setname") {
                name = Some(args.next()?.clone());
            } else {
                return Err(Refusal::syntax());
            }
        }
        if self.caller.is_none() {
            return Err(Refusal::new(
                "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
                 <user> <pass> option can be used to authenticate the client and select the RESP protocol version at \
                 the same time",
            ));
        }
        (self.protocol, self.name) = (protocol, name.unwrap_or_else(|| self.name.clone()));
        let text = |key: &str, value: &str| (Reply::text(key), Reply::text(value));
        Ok(Reply::Map(vec![
            text("server", "redis"),
            text("version", REDIS_VERSION),
            (Reply::text("proto"), Reply::Int(if protocol == Protocol::Resp3 { 3 } else { 2 })),
            (Reply::text("id"), Reply::count(self.id)),
            text("mode", "standalone"),
            text("role", "master"),
            (Reply::text("modules"), Reply::Array(Vec::new())),
        ]))
    }

    pub(in crate::resp) fn ping(mut args: Args<'_>) -> Result<Reply, Refusal> {
        let Ok(text) = args.next() else { return Ok(Reply::Simple("PONG")) };
        args.end().map_err(|_| Refusal::arity("ping"))?;
        Ok(Reply::Bulk(text.clone()))
    }

    /// There is one database.
    pub(in crate::resp) fn select(mut args: Args<'_>) -> Result<Reply, Refusal> {
        match args.int()? {
            0 => Ok(Reply::OK),
            _ => Err(Refusal::new("ERR DB index is out of range")),
        }
    }

    pub(in crate::resp) fn client(&mut self, mut args: Args<'_>) -> Result<Reply, Refusal> {
        let given = args.next()?;
        let subcommand = given.to_ascii_lowercase();
        match &subcommand[..] {
            b"id" => Ok(Reply::count(self.id)),
            b"getname" if self.name.is_empty() => Ok(Reply::Null),
            b"getname" => Ok(Reply::Bulk(self.name.clone())),
            b"setname" => {
                self.name = args.next()?.clone();
                Ok(Reply::OK)
            }
            b"setinfo" | b"no-evict" | b"no-touch" => Ok(Reply::OK),
            b"list" | b"info" => {
                let name = String::from_utf8_lossy(&self.name);
                Ok(Reply::text(format!("id={} name={name} db=0\n", self.id)))
            }
            _ => Err(unknown_subcommand("CLIENT", given)),
        }
    }

    /// Settings that clients ask for; there are none of Redis' here.
    pub(in crate::resp) fn config(mut args: Args<'_>) -> Result<Reply, Refusal> {
        if args.next_is("get") {
            return Ok(Reply::Map(Vec::new()));
        }
        if args.next_is("set") {
            let name = args.next()?;
            let name = String::from_utf8_lossy(name);
            return Err(Refusal::new(format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'")));
        }
        Err(unknown_subcommand("CONFIG", args.next()?))
    }

    pub(in crate::resp) fn server_info(&self) -> Reply {
        let stats = self.engine.stats();
        Reply::text(format!(
            "# Server\r\nredis_version:{REDIS_VERSION}\r\nredis_mode:standalone\r\nserver_name:synapse\r\n\
             synapse_version:{}\r\n\r\n# Clients\r\nblocked_clients:0\r\n\r\n# Persistence\r\nloading:0\r\n\
             \r\n# Replication\r\nrole:master\r\nconnected_slaves:0\r\n\r\n# Keyspace\r\n\
             db0:keys={},expires=0,avg_ttl=0\r\n",
            env!("CARGO_PKG_VERSION"),
            stats.streams,
        ))
    }

    /// Seconds, and microseconds of the second: the clock counts milliseconds.
    pub(in crate::resp) fn time(&self) -> Reply {
        let now_ms = self.clock.now().wall_ms;
        let part = |number: u64| Reply::text(number.to_string());
        Reply::Array(vec![part(now_ms / 1000), part(now_ms % 1000 * 1000)])
    }
}

/// The refusal of a subcommand that there is not.
pub(in crate::resp) fn unknown_subcommand(command: &str, subcommand: &[u8]) -> Refusal {
    let subcommand = String::from_utf8_lossy(subcommand);
    Refusal::new(format!("ERR unknown subcommand '{subcommand}'. Try {command} HELP."))
}
