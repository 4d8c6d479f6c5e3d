//! A client of the Redis port: it adds, remembers what was acknowledged, and tells whether all of that is there.

use std::io::{BufRead, BufReader};

use crate::redis_client::Client;
use crate::server::Server;

/// Has the port beside the other one.
pub(crate) const REDIS_PORT: [&str; 2] = ["--resp-listen", "127.0.0.1:0"];
/// Only ever added to.
const KEPT: &str = "redis-kept";
/// Taken from, deleted from and trimmed.
const WORN: &str = "redis-worn";

pub(crate) struct Redis {
    client: Client,
    /// Ids that were acknowledged, with the numbers that were added.
    acknowledged: Vec<(String, u64)>,
    next: u64,
}

impl Redis {
    /// Makes what [`Self::shrinks`] works on.
    pub(crate) fn prepare(server: &mut Server) -> Self {
        let client = Client::connect(port(server));
        let mut redis = Self { client, acknowledged: Vec::new(), next: 0 };
        assert_eq!(redis.ask(&format!("XGROUP CREATE {WORN} g 0 MKSTREAM")), "+OK\r\n");
        for n in 0..200 {
            assert!(redis.ask(&format!("XADD {WORN} {} n {n}", n + 1)).starts_with('$'));
        }
        assert_eq!(redis.add(10), None);
        redis
    }

    /// Goes on with the server that came after the one it had.
    pub(crate) fn connect(&mut self, server: &mut Server) {
        assert!(self.client.is_closed(), "that one is gone");
        self.client = Client::connect(port(server));
    }

    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.client.ask(line)
    }

    /// Adds an entry of so many bytes; answers why it was refused, where it was.
    pub(crate) fn add(&mut self, bytes: usize) -> Option<String> {
        let number = self.next;
        self.next += 1;
        let reply = self.ask(&format!("XADD {KEPT} * n {number} data {}", "x".repeat(bytes)));
        self.note(&reply, number)
    }

    /// The same within a transaction.
    pub(crate) fn add_in_transaction(&mut self, bytes: usize) -> Option<String> {
        let number = self.next;
        self.next += 1;
        assert_eq!(self.ask("MULTI"), "+OK\r\n");
        let queued = self.ask(&format!("XADD {KEPT} * n {number} data {}", "x".repeat(bytes)));
        assert_eq!(queued, "+QUEUED\r\n");
        let reply = self.ask("EXEC");
        self.note(reply.strip_prefix("*1\r\n").unwrap_or(&reply), number)
    }

    fn note(&mut self, reply: &str, number: u64) -> Option<String> {
        if !reply.starts_with('$') {
            return Some(reply.trim_end().to_owned());
        }
        let id = reply.lines().nth(1).expect("an id").to_owned();
        self.acknowledged.push((id, number));
        None
    }

    /// Takes an entry, acknowledges it, deletes it, and trims what is before it: what makes no use of more room.
    pub(crate) fn shrinks(&mut self) {
        let (id, other) = (self.take(), self.take());
        assert_eq!(self.ask(&format!("XACK {WORN} g {id}")), ":1\r\n");
        assert_eq!(self.ask("MULTI"), "+OK\r\n");
        assert_eq!(self.ask(&format!("XACK {WORN} g {other}")), "+QUEUED\r\n");
        assert_eq!(self.ask("EXEC"), "*1\r\n:1\r\n");
        assert_eq!(self.ask(&format!("XDEL {WORN} {id}")), ":1\r\n");
        assert_eq!(self.ask(&format!("XTRIM {WORN} MINID {other}")), ":0\r\n");
        assert_eq!(self.ask(&format!("XTRIM {WORN} MINID {}", next(&other))), ":1\r\n");
    }

    fn take(&mut self) -> String {
        let taken = self.ask(&format!("XREADGROUP GROUP g c COUNT 1 STREAMS {WORN} >"));
        // Behind the key.
        taken.lines().nth(7).unwrap_or_else(|| panic!("an entry: {taken}")).to_owned()
    }

    /// Whether everything is there that was acknowledged, and as it was added.
    pub(crate) fn has_all(&mut self) -> bool {
        let mut missing = Vec::new();
        for (id, number) in self.acknowledged.clone() {
            let found = self.ask(&format!("XRANGE {KEPT} {id} {id}"));
            if !found.contains(&format!("{id}\r\n*4\r\n$1\r\nn\r\n${}\r\n{number}\r\n", number.to_string().len())) {
                missing.push(id);
            }
        }
        assert!(missing.is_empty(), "missing of {}: {missing:?}", self.acknowledged.len());
        !self.acknowledged.is_empty()
    }

    /// Whether it is told how the server is, whatever that is.
    pub(crate) fn answers(&mut self) -> bool {
        self.ask("PING") == "+PONG\r\n" && self.ask("INFO").contains("redis_version")
    }
}

/// The id right behind one without a sequence.
fn next(id: &str) -> String {
    format!("{}-1", id.strip_suffix("-0").expect("the first of its millisecond"))
}

/// The Redis port of a server that has just been started so.
pub(crate) fn port(server: &mut Server) -> u16 {
    let mut line = String::new();
    BufReader::new(server.child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("its output can be read");
    let port = line.trim_end().rsplit(':').next().and_then(|port| port.parse().ok());
    port.unwrap_or_else(|| panic!("it has no such port: {line:?}"))
}
