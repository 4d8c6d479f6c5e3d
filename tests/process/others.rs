//! Clients of HTTP and of the Redis port that publish, take and acknowledge until their server is gone, and record what
//! they saw, each surface on a stream of its own: requests have names, so that they can be repeated. Over the Redis port
//! nothing tells how often an entry was delivered, and an entry may be claimed from who has it, so leases are not judged.

use std::io;
use std::io::BufReader;
use std::net::TcpStream;

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::clients::Recorder;
use crate::history::{self, Acknowledged, Id, Publish, Pull, Reading};
use crate::soak_clients::{Redis, http, http_connection, is_id};

/// Where a server is: its address, and its Redis port.
pub(crate) struct At {
    pub(crate) url: String,
    pub(crate) redis_port: u16,
}

/// For how long a delivery is its consumer's alone, as with those of gRPC.
const LEASE_MS: u64 = 300;

/// A surface other than gRPC, its clients, and what they saw.
pub(crate) struct Other {
    surface: Surface,
    recorder: Recorder,
    /// Publishes that got no answer: their places in the history, their names, and their numbers.
    unanswered: Mutex<Vec<(usize, String, Vec<u64>)>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Surface {
    Http,
    Redis,
}

/// A connection of one of them.
enum Connection {
    Http(BufReader<TcpStream>),
    Redis(Redis),
}

/// What was taken: what the acknowledgement must carry, entries with their numbers, and counts where they are told.
struct Taken(String, Vec<(Id, u64)>, Vec<u32>);

impl Other {
    /// HTTP and the Redis port.
    pub(crate) fn both() -> [Self; 2] {
        [Surface::Http, Surface::Redis].map(|surface| Self {
            surface,
            recorder: Recorder::new(),
            unanswered: Mutex::default(),
        })
    }

    pub(crate) fn begin_run(&self) {
        self.recorder.begin_run();
    }

    /// How many publishes were answered.
    pub(crate) fn answered(&self) -> usize {
        self.recorder.answered()
    }

    /// Makes the stream and the group.
    pub(crate) fn prepare(&self, at: &At) {
        let mut connection = self.connect(at).expect("it listens");
        match &mut connection {
            Connection::Http(http_to) => {
                let group = json!({
                    "name": "g",
                    "create_stream": true,
                    "settings": { "ack_wait": format!("{LEASE_MS}ms") },
                });
                http(http_to, "POST", "/streams/work-http/groups", "", &group.to_string()).expect("makes the group");
            }
            Connection::Redis(redis) => {
                redis.ask("XGROUP CREATE work-redis g 0 MKSTREAM").expect("makes the group");
            }
        }
    }

    /// Publishes once more what got no answer, then reads everything.
    pub(crate) fn catch_up(&self, at: &At) {
        let mut connection = self.connect(at).expect("it listens");
        for (place, name, numbers) in std::mem::take(&mut *self.unanswered.lock()) {
            let ids = connection.publish(&name, &numbers).expect("the server lives");
            self.recorder.history.lock().publishes[place].answer = Some((self.recorder.moment(), ids));
        }
        let started = self.recorder.moment();
        let entries = connection.read_all().expect("the server lives");
        self.recorder.history.lock().readings.push(Reading { started, entries });
    }

    /// Publishes until that fails.
    pub(crate) fn publish_on(&self, at: &At) -> io::Result<()> {
        let publisher = self.recorder.moment();
        let mut connection = self.connect(at)?;
        for turn in 0.. {
            let count = if self.surface == Surface::Http { 1 + turn % 5 } else { 1 };
            let first = self.recorder.numbers(count);
            let (name, numbers) = (format!("{publisher}-{turn}"), (first..first + count).collect::<Vec<u64>>());
            let publish = Publish { started: self.recorder.moment(), events: numbers.clone(), answer: None };
            let place = {
                let publishes = &mut self.recorder.history.lock().publishes;
                publishes.push(publish);
                publishes.len() - 1
            };
            match connection.publish(&name, &numbers) {
                Ok(ids) => self.recorder.history.lock().publishes[place].answer = Some((self.recorder.moment(), ids)),
                Err(error) => {
                    self.unanswered.lock().push((place, name, numbers));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Takes and acknowledges most of what comes, until that fails.
    pub(crate) fn consume_on(&self, at: &At, consumer: &str) -> io::Result<()> {
        let mut connection = self.connect(at)?;
        for turn in 0.. {
            let Taken(token, entries, _) = self.take(&mut connection, consumer)?;
            let kept = entries.iter().enumerate().filter(|(n, _)| (n + turn) % 13 != 0).map(|(_, (id, _))| *id);
            self.acknowledge(&mut connection, &token, kept.collect())?;
        }
        Ok(())
    }

    /// Empties the group with a server that lives, and judges what was recorded.
    pub(crate) fn judge(&self, at: &At) {
        self.catch_up(at);
        let mut connection = self.connect(at).expect("it listens");
        // What others were given comes only once their leases are over.
        let mut empty = 0;
        while empty < 10 {
            let Taken(token, entries, _) = self.take(&mut connection, "last").expect("the server lives");
            empty = if entries.is_empty() { empty + 1 } else { 0 };
            let ids = entries.into_iter().map(|(id, _)| id).collect();
            self.acknowledge(&mut connection, &token, ids).expect("the server lives");
        }
        self.recorder.history.lock().drained = true;
        self.catch_up(at);
        let history = self.recorder.history.lock();
        let answered = history.publishes.iter().filter(|publish| publish.answer.is_some()).count();
        assert!(answered > 10 && history.acknowledged.len() > 10, "there was load");
        let violations = history::check(&history);
        assert!(violations.is_empty(), "{}: {violations:?}", self.name());
        eprintln!("{}: {answered} publishes answered, {} pulls", self.name(), history.pulls.len());
    }

    fn name(&self) -> &str {
        if self.surface == Surface::Http { "HTTP" } else { "Redis" }
    }

    fn connect(&self, at: &At) -> io::Result<Connection> {
        Ok(match self.surface {
            Surface::Http => Connection::Http(http_connection(&at.url)?),
            Surface::Redis => Connection::Redis(Redis::connect(at.redis_port)?),
        })
    }

    fn take(&self, connection: &mut Connection, consumer: &str) -> io::Result<Taken> {
        let (started, from_ms) = (self.recorder.moment(), self.recorder.now_ms());
        let Taken(token, entries, counts) = connection.take(consumer)?;
        let (ended, to_ms, run) = (self.recorder.moment(), self.recorder.now_ms(), self.recorder.run());
        let pull = Pull { started, ended, entries: entries.clone(), counts: counts.clone(), run, from_ms, to_ms };
        self.recorder.history.lock().pulls.push(pull);
        Ok(Taken(token, entries, counts))
    }

    fn acknowledge(&self, connection: &mut Connection, token: &str, ids: Vec<Id>) -> io::Result<()> {
        if !ids.is_empty() {
            let ids = connection.acknowledge(token, ids)?;
            let ended = self.recorder.moment();
            self.recorder.history.lock().acknowledged.push(Acknowledged { ended, ids });
        }
        Ok(())
    }
}

impl Connection {
    /// Publishes under a name; answers the ids.
    fn publish(&mut self, name: &str, numbers: &[u64]) -> io::Result<Vec<Id>> {
        match self {
            Self::Http(to) => {
                let events: Vec<Value> = numbers.iter().map(|n| json!({ "n": n, "pad": pad(*n) })).collect();
                let key = format!("idempotency-key: {name}\r\n");
                let answer = http(to, "POST", "/events/work-http", &key, &Value::from(events).to_string())?;
                Ok(answer["ids"].as_array().into_iter().flatten().filter_map(|id| parsed(id.as_str()?)).collect())
            }
            Self::Redis(redis) => {
                let number = numbers[0];
                let (publisher, name) = name.split_once('-').expect("both");
                let add = format!("XADD work-redis IDMP {publisher} {name} * n {number} pad {}", pad(number));
                Ok(redis.ask(&add)?.iter().filter_map(|line| parsed(line)).collect())
            }
        }
    }

    /// Takes what is new, and what others held for too long.
    fn take(&mut self, consumer: &str) -> io::Result<Taken> {
        match self {
            Self::Http(to) => {
                let pull = json!({ "consumer": consumer, "wait": "100ms" }).to_string();
                let pulled = http(to, "POST", "/streams/work-http/groups/g/pull", "", &pull)?;
                let delivered = || pulled["events"].as_array().into_iter().flatten();
                let counts = delivered().filter_map(|d| d["deliveries"].as_u64()).map(|n| n as u32).collect();
                let token = pulled["delivery_token"].as_str().unwrap_or_default().to_owned();
                Ok(Taken(token, delivered().filter_map(|d| shown(&d["event"])).collect(), counts))
            }
            Self::Redis(redis) => {
                let claim = format!("XAUTOCLAIM work-redis g {consumer} {LEASE_MS} 0 COUNT 20");
                let mut lines = redis.ask(&claim)?;
                if entries(&lines).is_empty() {
                    let read = format!("XREADGROUP GROUP g {consumer} COUNT 20 BLOCK 100 STREAMS work-redis >");
                    lines = redis.ask(&read)?;
                }
                Ok(Taken(String::new(), entries(&lines), Vec::new()))
            }
        }
    }

    /// Acknowledges; answers on which that took effect.
    fn acknowledge(&mut self, token: &str, ids: Vec<Id>) -> io::Result<Vec<Id>> {
        match self {
            Self::Http(to) => {
                let texts: Vec<String> = ids.iter().map(|(ms, seq)| format!("{ms}-{seq}")).collect();
                let ack = json!({ "ids": texts, "delivery_token": token }).to_string();
                let answer = http(to, "POST", "/streams/work-http/groups/g/ack", "", &ack)?;
                let refused = ["not_pending", "not_owned"].map(|list| answer[list].to_string()).concat();
                Ok(ids.into_iter().filter(|(ms, seq)| !refused.contains(&format!("\"{ms}-{seq}\""))).collect())
            }
            Self::Redis(redis) => {
                let mut done = Vec::new();
                for (ms, seq) in ids {
                    if redis.ask(&format!("XACK work-redis g {ms}-{seq}"))? == [":1"] {
                        done.push((ms, seq));
                    }
                }
                Ok(done)
            }
        }
    }

    fn read_all(&mut self) -> io::Result<Vec<(Id, u64)>> {
        let (mut all, mut from) = (Vec::new(), "0-0".to_owned());
        loop {
            match self {
                Self::Http(to) => {
                    let path = format!("/streams/work-http/messages?count=1000&from={from}");
                    let page = http(to, "GET", &path, "", "")?;
                    all.extend(page["events"].as_array().into_iter().flatten().filter_map(shown));
                    match page["next_id"].as_str() {
                        Some(next) => from = next.to_owned(),
                        None => return Ok(all),
                    }
                }
                Self::Redis(redis) => {
                    let page = entries(&redis.ask(&format!("XRANGE work-redis ({from} + COUNT 1000"))?);
                    let Some(((ms, seq), _)) = page.last() else { return Ok(all) };
                    from = format!("{ms}-{seq}");
                    all.extend(page);
                }
            }
        }
    }
}

/// More that follows from a number.
fn pad(number: u64) -> String {
    char::from(b'a' + (number % 26) as u8).to_string().repeat(1 + number as usize % 300)
}

fn parsed(id: &str) -> Option<Id> {
    let (ms, seq) = id.split_once('-')?;
    Some((ms.parse().ok()?, seq.parse().ok()?))
}

/// Id and number of an entry; a number that nobody published where the contents are not what they were.
fn entry(id: &str, number: Option<u64>, found: &str) -> Option<(Id, u64)> {
    Some((parsed(id)?, number.filter(|number| pad(*number) == found).unwrap_or(u64::MAX)))
}

fn shown(event: &Value) -> Option<(Id, u64)> {
    entry(event["_id"].as_str()?, event["n"].as_u64(), event["pad"].as_str().unwrap_or_default())
}

/// The entries of a reply, by its lines.
fn entries(lines: &[String]) -> Vec<(Id, u64)> {
    let whole = lines.windows(6).filter(|lines| is_id(&lines[0]) && lines[1] == "*4" && lines[2] == "n");
    whole.filter_map(|lines| entry(&lines[0], lines[3].parse().ok(), &lines[5])).collect()
}
