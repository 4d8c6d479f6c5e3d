//! Commands about the connection and the server.

use bytes::Bytes;

use crate::clock::Clock;
use crate::resp::args::{Args, int};
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
        if self.port.keyring.is_empty() {
            return Err(Refusal::new(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                 configuration is correct?",
            ));
        }
        let text = std::str::from_utf8(password).unwrap_or_default();
        let caller = self.port.keyring.authenticate(Some(text))?;
        self.client.shown.lock().user = caller.name().map(str::to_owned);
        self.caller = Some(caller);
        Ok(())
    }

    /// `HELLO [version [AUTH user password] [SETNAME name]]`.
    pub(in crate::resp) fn hello(&mut self, mut args: Args<'_>) -> Result<Reply, Refusal> {
        let mut protocol = self.protocol;
        if let Ok(version) = args.next() {
            protocol = match int(version) {
                Some(2) => Protocol::Resp2,
                Some(3) => Protocol::Resp3,
                Some(_) => return Err(Refusal::new("NOPROTO unsupported protocol version")),
                None => return Err(Refusal::new("ERR Protocol version is not an integer or out of range")),
            };
        }
        let mut name = None;
        while let [option, values @ ..] = args.rest() {
            if values.len() > 1 && args.next_is("auth") {
                let _user = args.next()?;
                self.authenticate(args.next()?)?;
            } else if !values.is_empty() && args.next_is("setname") {
                name = Some(args.next()?);
            } else {
                let option = String::from_utf8_lossy(option);
                return Err(Refusal::new(format!("ERR Syntax error in HELLO option '{option}'")));
            }
        }
        if self.caller.is_none() {
            return Err(Refusal::new(
                "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
                 <user> <pass> option can be used to authenticate the client and select the RESP protocol version at \
                 the same time",
            ));
        }
        name.map_or(Ok(()), |name| self.set_name(name))?;
        self.protocol = protocol;
        let text = |key: &str, value: &str| (Reply::text(key), Reply::text(value));
        Ok(Reply::Map(vec![
            text("server", "redis"),
            text("version", REDIS_VERSION),
            (Reply::text("proto"), Reply::Int(if protocol == Protocol::Resp3 { 3 } else { 2 })),
            (Reply::text("id"), Reply::count(self.client.id)),
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

    /// `INFO [section ...]`: what is known here of what Redis tells.
    pub(in crate::resp) fn server_info(&self, args: Args<'_>) -> Reply {
        let wanted: Vec<String> =
            args.rest().iter().map(|section| String::from_utf8_lossy(section).to_ascii_lowercase()).collect();
        let is_wanted = |name: &str| {
            let is_default = name != "commandstats";
            let is = |word: &String| match &word[..] {
                "all" | "everything" => true,
                "default" => is_default,
                word => word == name,
            };
            wanted.is_empty() && is_default || wanted.iter().any(is)
        };
        let mut text = String::new();
        for (title, lines) in self.sections() {
            if is_wanted(&title.to_ascii_lowercase()) {
                text += if text.is_empty() { "# " } else { "\r\n# " };
                text += &format!("{title}\r\n{lines}");
            }
        }
        Reply::Verbatim(text)
    }

    fn sections(&self) -> [(&'static str, String); 10] {
        let (stats, clients) = (self.engine.stats(), self.port.clients.all());
        let up_seconds = self.clock.now().engine_ms / 1000;
        let blocked = clients.iter().filter(|client| client.is_waiting()).count();
        let counts = &self.port.stats;
        let keyspace = match stats.streams {
            0 => String::new(),
            streams => format!("db0:keys={streams},expires=0,avg_ttl=0\r\n"),
        };
        [
            (
                "Server",
                format!(
                    "redis_version:{REDIS_VERSION}\r\nredis_mode:standalone\r\nserver_name:synapse\r\n\
                     synapse_version:{}\r\narch_bits:{}\r\nprocess_id:{}\r\ntcp_port:{}\r\n\
                     uptime_in_seconds:{up_seconds}\r\nuptime_in_days:{}\r\n",
                    env!("CARGO_PKG_VERSION"),
                    usize::BITS,
                    std::process::id(),
                    self.client.ends.map_or(0, |ends| ends.local.port()),
                    up_seconds / 86_400,
                ),
            ),
            ("Clients", format!("connected_clients:{}\r\nblocked_clients:{blocked}\r\n", clients.len())),
            ("Memory", "maxmemory:0\r\nmaxmemory_policy:noeviction\r\n".to_owned()),
            ("Persistence", "loading:0\r\naof_enabled:1\r\naof_last_write_status:ok\r\n".to_owned()),
            (
                "Stats",
                format!("total_commands_processed:{}\r\ntotal_error_replies:{}\r\n", counts.calls(), counts.errors()),
            ),
            ("Replication", "role:master\r\nconnected_slaves:0\r\n".to_owned()),
            ("Commandstats", counts.command_lines()),
            ("Errorstats", counts.error_lines()),
            ("Cluster", "cluster_enabled:0\r\n".to_owned()),
            ("Keyspace", keyspace),
        ]
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
    let (command, subcommand) = (command.to_ascii_uppercase(), String::from_utf8_lossy(subcommand));
    Refusal::new(format!("ERR unknown subcommand '{subcommand}'. Try {command} HELP."))
}
