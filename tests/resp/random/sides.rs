//! Both servers with the same clients, a command at a time: what Redis answers at once, Synapse answers; who waits there
//! waits here; and who is woken there is woken here before anything else is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::value::Value;
use crate::client::Client;
use crate::servers::Synapse;

const CLIENTS: usize = 3;
/// Nothing takes as long, also where everything is synced.
const PATIENCE: Duration = Duration::from_secs(3);

/// The clients of one server.
struct Side {
    clients: Vec<Client>,
    ids: Vec<String>,
    control: Client,
}

impl Side {
    fn connect(port: u16, resp3: bool) -> Self {
        let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(port)).collect();
        let mut control = Client::connect(port);
        let ids = clients.iter_mut().map(|client| client.ask("CLIENT ID")[1..].trim().to_owned()).collect();
        if resp3 {
            clients.iter_mut().for_each(|client| drop(client.ask("HELLO 3")));
        }
        control.ask("FLUSHALL");
        // So that nodes are the same on both sides, and small.
        control.ask("CONFIG SET stream-node-max-entries 4 stream-node-max-bytes 0");
        Self { clients, ids, control }
    }

    /// Which clients wait.
    fn waiting(&mut self) -> BTreeSet<usize> {
        let list = self.control.ask("CLIENT LIST");
        let waits = |id: &str| {
            list.lines().any(|line| {
                let mut words = line.split(' ');
                words.any(|word| word == format!("id={id}")) && words.any(|word| word.starts_with("flags=b"))
            })
        };
        (0..CLIENTS).filter(|n| waits(&self.ids[*n])).collect()
    }
}

pub(crate) struct Sides {
    redis: Side,
    synapse: Side,
    /// Who waits, with what was asked for.
    waiting: BTreeMap<usize, String>,
    not_compared: Vec<String>,
    /// Errors of Redis that are others here.
    other_texts: Vec<String>,
}

impl Sides {
    pub(crate) fn connect(redis: u16, synapse: &Synapse, resp3: bool) -> Self {
        let (not_compared, other_texts) = (rows("value"), rows("error"));
        let (redis, synapse) = (Side::connect(redis, resp3), Side::connect(synapse.port(), resp3));
        Self { redis, synapse, waiting: BTreeMap::new(), not_compared, other_texts }
    }

    pub(crate) fn someone_waits_for_two(&self) -> bool {
        self.waiting
            .values()
            .any(|line| line.split_once("STREAMS ").is_some_and(|(_, rest)| rest.split(' ').count() > 2))
    }

    /// Asks both, by this client or, where it waits, by another one.
    pub(crate) fn run(&mut self, client: usize, line: &str) -> Result<(), String> {
        let free = (0..CLIENTS).map(|n| (client + n) % CLIENTS).find(|n| !self.waiting.contains_key(n));
        // One is always left to go on with.
        let may_wait = self.waiting.len() + 1 < CLIENTS;
        let Some(client) = free else { return Ok(()) };
        if line.contains("BLOCK") && !may_wait {
            return Ok(());
        }
        // Who waits is served here once a cursor was moved back, and in Redis with what comes next; where a last id was
        // raised, version 7.0 may wake with nothing.
        let moves = line.starts_with("XGROUP SETID") || line.starts_with("XSETID");
        if (moves && !self.waiting.is_empty()) || self.ends_a_group_beside_one_waited_in(line) {
            return Ok(());
        }
        let bytes = format!("{line}\r\n");
        self.redis.clients[client].send(bytes.as_bytes());
        let want =
            if line.contains("BLOCK") { self.reply_unless_it_waits(client) } else { Some(self.redis_reply(client)) };
        self.synapse.clients[client].send(bytes.as_bytes());
        let Some(want) = want else {
            self.waiting.insert(client, line.to_owned());
            return self.wait_until_it_waits(client, line);
        };
        self.compare(client, line, &want)?;
        self.woken(line)
    }

    /// Whether a command ends a group while someone waits in another one of its stream: version 7.0 looks again then, and
    /// wakes with nothing where the stream has run dry.
    fn ends_a_group_beside_one_waited_in(&self, line: &str) -> bool {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["XGROUP", "DESTROY", key, group] = words[..] else { return false };
        let waits_beside = |line: &String| {
            let mut words = line.split_whitespace();
            words.next() == Some("XREADGROUP")
                && words.nth(1).is_some_and(|other| other != group)
                && words.any(|word| word == key)
        };
        self.waiting.values().any(waits_beside)
    }

    fn redis_reply(&mut self, client: usize) -> String {
        self.redis.clients[client].reply()
    }

    /// What Redis answers; `None` once it lists the client among those who wait.
    fn reply_unless_it_waits(&mut self, client: usize) -> Option<String> {
        loop {
            if let Some(reply) = self.redis.clients[client].reply_within(Duration::from_millis(2)) {
                return Some(reply);
            }
            if self.redis.waiting().contains(&client) {
                return None;
            }
        }
    }

    fn wait_until_it_waits(&mut self, client: usize, line: &str) -> Result<(), String> {
        for _ in 0..200 {
            if self.synapse.waiting().contains(&client) {
                // It is told to wait a moment before it stands in the queue.
                std::thread::sleep(Duration::from_millis(2));
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(format!("{line}: it waits in Redis, and not in Synapse"))
    }

    /// Who no longer waits in Redis is answered in both.
    fn woken(&mut self, line: &str) -> Result<(), String> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let still = self.redis.waiting();
        let woken: Vec<usize> = self.waiting.keys().copied().filter(|client| !still.contains(client)).collect();
        self.waiting.retain(|client, _| still.contains(client));
        woken.into_iter().try_for_each(|client| {
            let want = self.redis_reply(client);
            self.compare(client, &format!("(woken by {line})"), &want)
        })
    }

    fn compare(&mut self, client: usize, line: &str, want: &str) -> Result<(), String> {
        let got = self.synapse.clients[client].reply_within(PATIENCE);
        let got = got.ok_or_else(|| format!("{line}\n  redis:   {want:?}\n  synapse: does not answer"))?;
        if want == got {
            return Ok(());
        }
        let (want, got) = (self.compared(line, want), self.compared(line, &got));
        if let (Value::Error(theirs), Value::Error(_)) = (&want, &got)
            && self.other_texts.contains(theirs)
        {
            return Ok(());
        }
        if want == got { Ok(()) } else { Err(format!("{line}\n  redis:   {want:?}\n  synapse: {got:?}")) }
    }

    fn compared(&self, line: &str, reply: &str) -> Value {
        let value = Value::parse(reply);
        let value = value.without(&self.not_compared);
        let within = |value: Value| if is_pending(&value) { value.without_idle() } else { value };
        match value {
            Value::List(values) if line == "EXEC" => Value::List(values.into_iter().map(within).collect()),
            value if line.starts_with("XPENDING") => value.without_idle(),
            value => value,
        }
    }

    /// Everything that can be asked, at the end.
    pub(crate) fn compare_all(&mut self) -> Result<(), String> {
        for key in ["a", "b", "c"] {
            self.run(0, &format!("XRANGE {key} - +"))?;
            self.run(0, &format!("XINFO STREAM {key} FULL COUNT 0"))?;
        }
        Ok(())
    }
}

/// Whether a reply is that of an extended XPENDING.
fn is_pending(value: &Value) -> bool {
    let is_row = |row: &Value| matches!(row, Value::List(parts) if matches!(parts[..], [Value::Text(_), Value::Text(_), Value::Int(_), Value::Int(_)]));
    matches!(value, Value::List(rows) if !rows.is_empty() && rows.iter().all(is_row))
}

/// What rows of the document's tables begin with, behind this word.
fn rows(word: &str) -> Vec<String> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/REDIS.md")).expect("is there");
    let prefix = format!("| {word} `");
    let rows = page.lines().filter_map(|line| line.strip_prefix(&prefix)?.split_once('`'));
    rows.map(|(name, _)| name.to_owned()).collect()
}
