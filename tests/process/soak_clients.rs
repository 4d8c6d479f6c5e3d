//! Clients of a soak, on every surface: each lives for a moment, leaves something undone, and goes. What fails because the
//! server is away is an error; whether a publish that got no answer is there nobody asks.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use synapse::proto::v1;
use synapse::proto::v1::consumer_service_client::ConsumerServiceClient;
use synapse::proto::v1::event_service_client::EventServiceClient;
use synapse::proto::v1::stream_service_client::StreamServiceClient;
use tonic::transport::Channel;

/// The group of every stream of a soak.
const GROUP: &str = "g";
/// How long a client lives, and how long it rests after each thing that it did.
const LIFE: Duration = Duration::from_millis(800);
const REST: Duration = Duration::from_millis(20);
/// Beside its number, an event has so many bytes.
const PAD: usize = 500;
/// Entries that the stream of the Redis port keeps: some seconds' worth of them.
const KEPT: usize = 2_000;
/// How long a reader waits where there is nothing.
const WAIT_MS: u64 = 100;
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that soaks, and what its clients saw.
pub(crate) struct Soak {
    pub(crate) url: String,
    pub(crate) redis_port: u16,
    pub(crate) surfaces: [Tally; 3],
    /// Nothing is published any more.
    pub(crate) is_published: AtomicBool,
    /// Clients that may still publish.
    pub(crate) publishers: AtomicUsize,
    /// Everybody ends.
    pub(crate) is_over: AtomicBool,
}

/// The events of one surface: what became of each number.
#[derive(Default)]
pub(crate) struct Tally {
    fates: Mutex<Vec<Fate>>,
    lives: AtomicU64,
}

#[derive(Clone, Copy, Default)]
struct Fate {
    is_published: bool,
    is_delivered: bool,
}

impl Tally {
    /// The number of the next event.
    fn number(&self) -> usize {
        let mut fates = self.fates.lock();
        fates.push(Fate::default());
        fates.len() - 1
    }
    fn published(&self, number: usize) {
        self.fates.lock()[number].is_published = true;
    }
    fn delivered(&self, number: usize) {
        self.fates.lock()[number].is_delivered = true;
    }
    /// How many were acknowledged, how many of those came to nobody, and how many clients there were.
    pub(crate) fn count(&self) -> (usize, usize, u64) {
        let fates = self.fates.lock();
        let published = fates.iter().filter(|fate| fate.is_published);
        let missing = published.clone().filter(|fate| !fate.is_delivered).count();
        (published.count(), missing, self.lives.load(Ordering::Relaxed))
    }
}

type Life = fn(&Soak, &Tally, u64) -> io::Result<()>;

/// What clients do, by surface: gRPC, HTTP, Redis.
const LIVES: [(usize, bool, Life); 9] = [
    (0, true, grpc_publisher),
    (0, false, grpc_consumer),
    (0, false, grpc_reader),
    (1, true, http_publisher),
    (1, false, http_consumer),
    (1, false, http_reader),
    (2, true, redis_publisher),
    (2, false, redis_consumer),
    (2, false, redis_reader),
];

impl Soak {
    /// Makes the streams and groups, and answers only then.
    pub(crate) fn prepare(&self) {
        let made = grpc(self, async |channel| {
            for stream in ["grpc", "http"] {
                let retention = Some(v1::Retention { until_acknowledged: true, ..Default::default() });
                let settings = Some(v1::StreamSettings { retention, ..Default::default() });
                let stream = v1::CreateStreamRequest { stream: stream.into(), settings };
                StreamServiceClient::new(channel.clone()).create_stream(stream.clone()).await?;
                let request = v1::CreateGroupRequest {
                    stream: stream.stream,
                    group: GROUP.into(),
                    settings: Some(v1::GroupSettings { ack_wait: duration(1_000), ..Default::default() }),
                    ..Default::default()
                };
                ConsumerServiceClient::new(channel.clone()).create_group(request).await?;
            }
            Ok(())
        });
        made.expect("the server is new");
        let mut redis = Redis::connect(self.redis_port).expect("it listens");
        assert_eq!(redis.ask("XGROUP CREATE redis g 0 MKSTREAM").expect("it answers")[0], "+OK");
    }

    /// Whether everything is published that ever will be, and came to somebody.
    pub(crate) fn is_delivered(&self) -> bool {
        self.publishers.load(Ordering::Relaxed) == 0 && self.surfaces.iter().all(|surface| surface.count().1 == 0)
    }

    /// Has clients come and go until it is over.
    pub(crate) fn run<T>(&self, meanwhile: impl FnOnce() -> T) -> T {
        std::thread::scope(|scope| {
            for (surface, publishes, life) in LIVES {
                let tally = &self.surfaces[surface];
                self.publishers.fetch_add(usize::from(publishes), Ordering::Relaxed);
                scope.spawn(move || {
                    let is_over = || {
                        self.is_over.load(Ordering::Relaxed) || publishes && self.is_published.load(Ordering::Relaxed)
                    };
                    while !is_over() {
                        let number = tally.lives.fetch_add(1, Ordering::Relaxed);
                        if life(self, tally, number).is_err() {
                            std::thread::sleep(REST * 5);
                        }
                    }
                    self.publishers.fetch_sub(usize::from(publishes), Ordering::Relaxed);
                });
            }
            // Whatever becomes of it, the clients end.
            let _over = Over(&self.is_over);
            meanwhile()
        })
    }
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does it again and again for the length of a life.
fn lives(mut acts: impl FnMut(u64) -> io::Result<()>) -> io::Result<()> {
    let until = Instant::now() + LIFE;
    for turn in 0.. {
        if Instant::now() >= until {
            break;
        }
        acts(turn)?;
        std::thread::sleep(REST);
    }
    Ok(())
}

fn duration(ms: u64) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(Duration::from_millis(ms)).ok()
}

/// Does it on a connection of its own.
fn grpc<T>(soak: &Soak, acts: impl AsyncFnOnce(Channel) -> Result<T, tonic::Status>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let endpoint = tonic::transport::Endpoint::from_shared(soak.url.clone()).map_err(io::Error::other)?;
        let channel = endpoint.connect().await.map_err(io::Error::other)?;
        acts(channel).await.map_err(io::Error::other)
    })
}

fn grpc_publisher(soak: &Soak, tally: &Tally, _: u64) -> io::Result<()> {
    grpc(soak, async |channel| {
        let (mut events, mut streams) = (EventServiceClient::new(channel.clone()), StreamServiceClient::new(channel));
        let until = Instant::now() + LIFE;
        while Instant::now() < until {
            let number = tally.number();
            let data = format!("{number} {}", "x".repeat(PAD)).into();
            let event = v1::Event { r#type: "t".into(), data, ..Default::default() };
            let request = v1::PublishRequest { stream: "grpc".into(), events: vec![event], ..Default::default() };
            events.publish(request).await?;
            tally.published(number);
            let event = v1::Event { r#type: "t".into(), data: vec![7; 10_000].into(), ..Default::default() };
            let churn = v1::PublishRequest { stream: "churn".into(), events: vec![event], ..Default::default() };
            events.publish(churn).await?;
            tokio::time::sleep(REST).await;
        }
        let trim = v1::TrimStreamRequest { stream: "churn".into(), keep_entries: Some(50), ..Default::default() };
        streams.trim_stream(trim).await?;
        Ok(())
    })
}

fn grpc_consumer(soak: &Soak, tally: &Tally, life: u64) -> io::Result<()> {
    grpc(soak, async |channel| {
        let mut consumers = ConsumerServiceClient::new(channel);
        let until = Instant::now() + LIFE;
        while Instant::now() < until {
            let request = v1::PullRequest {
                stream: "grpc".into(),
                group: GROUP.into(),
                consumer: format!("c{}", life % 3),
                wait: duration(WAIT_MS),
                ..Default::default()
            };
            let pulled = consumers.pull(request).await?.into_inner();
            let entries = pulled.events.iter().filter_map(|delivered| delivered.event.as_ref());
            let mut ids = Vec::new();
            for entry in entries {
                if let Some(event) = &entry.event {
                    let text = String::from_utf8_lossy(&event.data);
                    tally.delivered(text.split(' ').next().and_then(|n| n.parse().ok()).expect("a number"));
                }
                ids.push(v1::IdRange { first: entry.id, last: None });
            }
            // The last thing that it was given it leaves undone.
            if Instant::now() < until && !ids.is_empty() {
                let holder = Some(v1::acknowledge_request::Holder::DeliveryToken(pulled.delivery_token));
                let (stream, group) = ("grpc".into(), GROUP.into());
                let request = v1::AcknowledgeRequest { stream, group, ids, holder, ..Default::default() };
                consumers.acknowledge(request).await?;
            }
        }
        Ok(())
    })
}

/// Follows a stream for a moment and vanishes.
fn grpc_reader(soak: &Soak, _: &Tally, _: u64) -> io::Result<()> {
    grpc(soak, async |channel| {
        let from = Some(v1::Position { position: Some(v1::position::Position::Earliest(())) });
        let request = v1::TailEventsRequest { stream: "grpc".into(), from, ..Default::default() };
        let mut tail = EventServiceClient::new(channel).tail_events(request).await?.into_inner();
        let until = tokio::time::Instant::now() + LIFE;
        while let Ok(message) = tokio::time::timeout_at(until, tail.message()).await {
            message?;
        }
        Ok(())
    })
}

pub(crate) fn http_connection(url: &str) -> io::Result<BufReader<TcpStream>> {
    let socket = TcpStream::connect(url.trim_start_matches("http://"))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(BufReader::new(socket))
}

/// Asks over a connection that stays; answers the body, which must be JSON.
pub(crate) fn http(
    to: &mut BufReader<TcpStream>,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> io::Result<serde_json::Value> {
    let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {}\r\n\r\n", body.len());
    to.get_mut().write_all(format!("{head}{body}").as_bytes())?;
    let (mut length, mut status, mut line) = (0, String::new(), String::new());
    loop {
        line.clear();
        if to.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = line.trim_end().to_ascii_lowercase();
        match text.strip_prefix("content-length: ") {
            Some(n) => length = n.parse().map_err(io::Error::other)?,
            None if text.is_empty() => break,
            None if status.is_empty() => status = text,
            None => {}
        }
    }
    let mut body = vec![0; length];
    to.read_exact(&mut body)?;
    match status.split(' ').nth(1) {
        Some("200" | "201") => serde_json::from_slice(&body).map_err(io::Error::other),
        _ => Err(io::Error::other(String::from_utf8_lossy(&body).into_owned())),
    }
}

fn http_publisher(soak: &Soak, tally: &Tally, life: u64) -> io::Result<()> {
    let mut connection = http_connection(&soak.url)?;
    lives(|turn| {
        let number = tally.number();
        let body = serde_json::json!({ "n": number, "pad": "x".repeat(PAD) }).to_string();
        let key = format!("idempotency-key: {life}-{turn}\r\n");
        http(&mut connection, "POST", "/events/http", &key, &body)?;
        tally.published(number);
        Ok(())
    })
}

fn http_consumer(soak: &Soak, tally: &Tally, life: u64) -> io::Result<()> {
    let mut connection = http_connection(&soak.url)?;
    lives(|turn| {
        let pull = serde_json::json!({ "consumer": format!("c{}", life % 3), "wait": format!("{WAIT_MS}ms") });
        let pulled = http(&mut connection, "POST", "/streams/http/groups/g/pull", "", &pull.to_string())?;
        let entries = pulled["events"].as_array().map_or(&[][..], Vec::as_slice);
        entries.iter().for_each(|entry| tally.delivered(entry["event"]["n"].as_u64().expect("a number") as usize));
        // Now and then it leaves what it was given undone.
        if !entries.is_empty() && turn % 16 != 15 {
            let ids: Vec<_> = entries.iter().map(|entry| &entry["id"]).collect();
            let ack = serde_json::json!({ "ids": ids, "delivery_token": pulled["delivery_token"] });
            http(&mut connection, "POST", "/streams/http/groups/g/ack", "", &ack.to_string())?;
        }
        Ok(())
    })
}

/// Follows a stream for a moment and vanishes.
fn http_reader(soak: &Soak, _: &Tally, _: u64) -> io::Result<()> {
    let mut connection = http_connection(&soak.url)?;
    connection.get_ref().set_read_timeout(Some(LIFE))?;
    connection.get_mut().write_all(b"GET /streams/http/live?from=earliest HTTP/1.1\r\nhost: x\r\n\r\n")?;
    let (until, mut bytes) = (Instant::now() + LIFE, [0; 1 << 14]);
    while Instant::now() < until && connection.read(&mut bytes).is_ok_and(|read| read > 0) {}
    Ok(())
}

/// A connection to the Redis port whose replies are lines.
pub(crate) struct Redis(BufReader<TcpStream>);

impl Redis {
    pub(crate) fn connect(port: u16) -> io::Result<Self> {
        let socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(socket)))
    }

    /// Asks; answers the lines of the reply, whose first one is no error.
    pub(crate) fn ask(&mut self, command: &str) -> io::Result<Vec<String>> {
        self.0.get_mut().write_all(format!("{command}\r\n").as_bytes())?;
        let (mut lines, mut missing) = (Vec::new(), 1);
        while missing > 0 {
            let mut line = String::new();
            if self.0.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            missing -= 1;
            let count = line[1..].trim().parse::<i64>().unwrap_or(0).max(0);
            match line.as_bytes()[0] {
                b'*' => missing += count,
                b'$' if !line.starts_with("$-") => {
                    line.clear();
                    self.0.read_line(&mut line)?;
                }
                b'-' => return Err(io::Error::other(line)),
                _ => {}
            }
            lines.push(line.trim_end().to_owned());
        }
        Ok(lines)
    }
}

fn redis_publisher(soak: &Soak, tally: &Tally, _: u64) -> io::Result<()> {
    let mut redis = Redis::connect(soak.redis_port)?;
    lives(|turn| {
        let number = tally.number();
        let add =
            format!("XADD redis MAXLEN {} {KEPT} * n {number} pad {}", ["~", "="][turn as usize % 2], "x".repeat(PAD));
        if turn % 4 == 0 {
            redis.ask("MULTI")?;
            redis.ask(&add)?;
            redis.ask("EXEC")?;
        } else {
            redis.ask(&add)?;
        }
        tally.published(number);
        Ok(())
    })?;
    redis.ask(&format!("XTRIM redis MAXLEN {KEPT}")).map(drop)
}

fn redis_consumer(soak: &Soak, tally: &Tally, life: u64) -> io::Result<()> {
    let mut redis = Redis::connect(soak.redis_port)?;
    // What another left undone, so far as it was not trimmed.
    let claimed = redis.ask(&format!("XAUTOCLAIM redis g c{} 1000 0 COUNT 1000 JUSTID", life % 3))?;
    acknowledge(&mut redis, claimed.iter().filter(|line| is_id(line) && *line != "0-0"))?;
    lives(|turn| {
        let read = redis.ask(&format!("XREADGROUP GROUP g c{} COUNT 100 BLOCK {WAIT_MS} STREAMS redis >", life % 3))?;
        let mut numbers = read.windows(2).filter(|pair| pair[0] == "n").filter_map(|pair| pair[1].parse().ok());
        numbers.by_ref().for_each(|number| tally.delivered(number));
        if turn % 16 == 15 {
            return Ok(());
        }
        acknowledge(&mut redis, read.iter().filter(|line| is_id(line)))
    })
}

pub(crate) fn is_id(line: &str) -> bool {
    line.split_once('-').is_some_and(|(ms, seq)| ms.parse::<u64>().is_ok() && seq.parse::<u64>().is_ok())
}

fn acknowledge<'a>(redis: &mut Redis, ids: impl Iterator<Item = &'a String>) -> io::Result<()> {
    let ids: Vec<&str> = ids.map(String::as_str).collect();
    if ids.is_empty() { Ok(()) } else { redis.ask(&format!("XACK redis g {}", ids.join(" "))).map(drop) }
}

/// Waits for what comes for a moment and vanishes, amid a wait.
fn redis_reader(soak: &Soak, _: &Tally, _: u64) -> io::Result<()> {
    let mut redis = Redis::connect(soak.redis_port)?;
    lives(|_| redis.ask(&format!("XREAD COUNT 10 BLOCK {WAIT_MS} STREAMS redis $")).map(drop))?;
    redis.0.get_mut().write_all(b"XREAD BLOCK 0 STREAMS nothing $\r\n")
}
