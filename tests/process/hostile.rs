//! Hostile clients of every kind, one after the other: what the server holds for them is bounded, they are dropped or
//! told why not, and whoever behaves beside them is served.
//!
//! The figures are printed: `cargo test --test process hostile -- --nocapture`.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use synapse::proto::v1;
use synapse::proto::v1::event_service_client::EventServiceClient;

use crate::raw::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, Raw, SETTINGS, frame, headers,
    message,
};
use crate::server::Server;
use crate::surfaces::{DONE, Surfaces};
use crate::trial::{ALONE, Trial};

const PUBLISH: &str = "/synapse.v1.EventService/Publish";
const PUBLISH_STREAM: &str = "/synapse.v1.EventService/PublishStream";
const TAIL: &str = "/synapse.v1.EventService/TailEvents";
/// Headers must come in this time, bodies in three times as much.
pub(crate) const HEADER_TIMEOUT: Duration = Duration::from_millis(300);

/// An attack: its name, what it does until the time is over (it answers what became of it), and by how many MiB the
/// server may grow meanwhile.
type Attack = (&'static str, fn(&Target) -> String, u64);

const ATTACKS: [Attack; 17] = [
    ("connect flood", connect_flood, 48),
    ("1,000 idle connections", idle_connections, 64),
    ("garbage as first bytes", garbage, 32),
    ("slow headers", slow_headers, 32),
    ("slow bodies", slow_bodies, 32),
    ("endless bodies", endless_bodies, 96),
    ("half-open streams", half_open_streams, 48),
    ("messages that are never whole", begun_messages, 256),
    ("malformed messages", malformed_messages, 48),
    ("publishers that read no answers", deaf_publishers, 96),
    ("tails that are not read", deaf_tails, 192),
    ("live views that are not read", deaf_views, 96),
    ("consumers that never acknowledge", greedy_consumers, 64),
    ("rapid resets", rapid_resets, 48),
    ("settings flood", settings_flood, 48),
    ("ping flood", ping_flood, 48),
    ("endless headers", endless_headers, 48),
];

/// What is attacked.
struct Target {
    address: String,
    url: String,
    until: Instant,
}

impl Target {
    fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }
    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(&self.address).expect("it listens");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("set");
        socket.set_write_timeout(Some(Duration::from_millis(300))).expect("set");
        socket
    }
    fn raw(&self, answer_window: u32) -> Raw {
        Raw::connect(&self.address, answer_window).expect("it listens")
    }
}

#[test]
fn hostile_clients_are_bounded_and_others_served() {
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().expect("a folder");
    let timeout = HEADER_TIMEOUT.as_millis().to_string();
    let server = Server::start_on(&folder.path().join("data"), "127.0.0.1:0", &["--header-timeout-ms", &timeout]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let surfaces = runtime.block_on(Surfaces::of(&server.url));
    runtime.block_on(async {
        assert_eq!(surfaces.create_group("held", "g").await, DONE);
        for _ in 0..100 {
            assert_eq!(surfaces.publish_unary("big", 200_000).await, DONE);
            assert_eq!(surfaces.publish_unary("held", 10_000).await, DONE);
        }
    });
    let pid = server.child.id();
    let address = server.url.strip_prefix("http://").expect("plain").to_owned();
    let mut trial = Trial::begin(pid, |until| publish_until(&server.url, until));
    for (name, attack, grows_max) in ATTACKS {
        let target = |until| Target { address: address.clone(), url: server.url.clone(), until };
        trial.attack(name, |until| attack(&target(until)), grows_max);
        assert_eq!(runtime.block_on(surfaces.publish("after", 10)), [DONE; 3], "{name}");
    }
    trial.end(256);
    drop((surfaces, runtime));
    server.terminate();
}

/// Publishes one event after the other until then; how long each took.
fn publish_until(url: &str, until: Instant) -> Vec<Duration> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut events = EventServiceClient::connect(url.to_owned()).await.expect("it listens");
        let event = v1::Event { r#type: "t".into(), data: b"x"[..].into(), ..Default::default() };
        let request = v1::PublishRequest {
            stream: "s".into(),
            events: vec![event],
            durability: v1::Durability::Os as i32,
            ..Default::default()
        };
        let mut times = Vec::new();
        while Instant::now() < until {
            let began = Instant::now();
            events.publish(request.clone()).await.expect("whoever behaves is served");
            times.push(began.elapsed());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        times
    })
}

/// What a socket says until it ends or so much time is over; whether it ended.
pub(crate) fn rest(socket: &mut TcpStream, until: Instant) -> (String, bool) {
    let (mut said, mut chunk) = (Vec::new(), vec![0; 16 << 10]);
    loop {
        let ended = match socket.read(&mut chunk) {
            Ok(0) => true,
            Ok(count) => {
                said.extend_from_slice(&chunk[..count]);
                false
            }
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        };
        if ended || Instant::now() > until {
            return (String::from_utf8_lossy(&said).into_owned(), ended);
        }
    }
}

fn connect_flood(target: &Target) -> String {
    let mut count = 0;
    while target.goes_on() {
        // Not all are taken at once; that is the kernel's to say.
        count += usize::from(TcpStream::connect(&target.address).is_ok());
    }
    format!("{count} connections taken and closed")
}

fn idle_connections(target: &Target) -> String {
    let silent: Vec<TcpStream> = (0..500).map(|_| target.connect()).collect();
    let held: Vec<Raw> = (0..500).map(|_| target.raw(65_535)).collect();
    std::thread::sleep(target.until.saturating_duration_since(Instant::now()));
    let late = Instant::now() + HEADER_TIMEOUT * 2;
    let ended = silent.into_iter().filter_map(|mut s| rest(&mut s, late).1.then_some(())).count();
    assert_eq!(ended, 500, "who says nothing is closed");
    let open = held.into_iter().filter_map(|mut raw| raw.receive().is_ok().then_some(())).count();
    assert_eq!(open, 500, "who speaks HTTP/2 and answers pings stays");
    "500 that said nothing closed, 500 of HTTP/2 kept".into()
}

fn garbage(target: &Target) -> String {
    let mut count = 0;
    while target.goes_on() {
        let mut socket = target.connect();
        let bytes: Vec<u8> = (0..200).map(|_| getrandom::u64().expect("a number") as u8).collect();
        // It may be closed before all is said.
        let _ = socket.write_all(&bytes).and_then(|()| socket.write_all(b"\r\n\r\n"));
        let (_, ended) = rest(&mut socket, Instant::now() + HEADER_TIMEOUT * 4);
        assert!(ended, "it is closed");
        count += 1;
    }
    format!("{count} closed")
}

fn slow_headers(target: &Target) -> String {
    let mut sockets: Vec<TcpStream> = (0..100).map(|_| target.connect()).collect();
    let line =
        b"GET /health HTTP/1.1\r\nhost: x\r\nx-slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    for byte in line.chunks(1) {
        for socket in &mut sockets {
            // Closed meanwhile.
            let _ = socket.write_all(byte);
        }
        std::thread::sleep(Duration::from_millis(12));
    }
    let ended = sockets.into_iter().filter_map(|mut s| rest(&mut s, Instant::now()).1.then_some(())).count();
    assert_eq!(ended, 100, "all are closed in time");
    "100 closed".into()
}

fn slow_bodies(target: &Target) -> String {
    let head = b"POST /events/s HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n{\"data\":\"";
    let mut sockets: Vec<TcpStream> = (0..100).map(|_| target.connect()).collect();
    sockets.iter_mut().for_each(|socket| socket.write_all(head).expect("sent"));
    let until = Instant::now() + HEADER_TIMEOUT * 3;
    while Instant::now() < until {
        sockets.iter_mut().for_each(|socket| drop(socket.write_all(b"x")));
        std::thread::sleep(Duration::from_millis(50));
    }
    let told = sockets.into_iter().map(|mut socket| rest(&mut socket, Instant::now() + Duration::from_secs(2)));
    let refused = told.filter(|(said, _)| said.starts_with("HTTP/1.1 408")).count();
    assert_eq!(refused, 100, "all are told");
    "100 answered 408".into()
}

fn endless_bodies(target: &Target) -> String {
    let mut count = 0;
    while target.goes_on() {
        let mut socket = target.connect();
        socket.write_all(b"POST /events/s HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n").expect("sent");
        let (said, _) = rest(&mut socket, Instant::now() + Duration::from_millis(60));
        assert!(said.starts_with("HTTP/1.1 413"), "{said}");
        let mut socket = target.connect();
        socket.write_all(b"POST /events/s HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").expect("sent");
        let chunk = [b"10000\r\n".as_slice(), &[b' '; 65536], b"\r\n"].concat();
        let sent = (0..10_000).take_while(|_| socket.write_all(&chunk).is_ok()).count();
        assert!(sent < 1000, "so much is not taken: {sent} chunks");
        count += 1;
    }
    format!("{count} of each kind refused")
}

/// The streams on which a call ended.
fn ended_calls(raw: &mut Raw, until: Instant, all: usize) -> usize {
    let mut ended = std::collections::BTreeSet::new();
    while Instant::now() < until && ended.len() < all {
        let Ok(frames) = raw.receive() else { break };
        let ends = |f: &&crate::raw::Frame| f.kind == RST_STREAM || (f.kind == HEADERS && f.flags & END_STREAM != 0);
        ended.extend(frames.iter().filter(ends).map(|f| f.stream));
    }
    ended.len()
}

fn half_open_streams(target: &Target) -> String {
    let mut raw = target.raw(65_535);
    for _ in 0..1000 {
        raw.call(PUBLISH).expect("it is taken");
    }
    let ended = ended_calls(&mut raw, Instant::now() + HEADER_TIMEOUT * 3 + Duration::from_secs(2), 1000);
    assert_eq!(ended, 1000, "all are ended in time");
    "1,000 ended in time".into()
}

fn begun_messages(target: &Target) -> String {
    let mut connections: Vec<Raw> = (0..4).map(|_| target.raw(65_535)).collect();
    for raw in &mut connections {
        while raw.window < 1_000_000 {
            raw.receive().expect("it greets");
        }
    }
    let (piece, mut sent, mut refused) = (vec![b'x'; 16_000], 0, 0);
    while target.goes_on() {
        connections.retain_mut(|raw| {
            let Ok(frames) = raw.receive() else { return false };
            refused += frames.iter().filter(|f| f.kind == HEADERS).count();
            if raw.window < 1_000_000 {
                return true;
            }
            let Ok(stream) = raw.call(PUBLISH) else { return false };
            let begun = raw.data(stream, &message(3_000_000, b"")).is_ok();
            begun && (0..60).all(|_| raw.data(stream, &piece).inspect(|()| sent += piece.len()).is_ok())
        });
    }
    assert!(sent > 100 << 20, "it is much: {sent}");
    assert!(refused > 0, "what is too much is refused");
    format!("{} MiB sent, {refused} refused", sent >> 20)
}

fn malformed_messages(target: &Target) -> String {
    let mut count = 0;
    while target.goes_on() {
        let mut raw = target.raw(65_535);
        let bodies =
            [message(u32::MAX, b"xx"), vec![7, 0, 0, 0, 1, 0], vec![1, 0, 0, 0, 1, 0], message(3, &[0xff; 3]), vec![0]];
        for body in &bodies {
            let stream = raw.call(PUBLISH).expect("it lives");
            raw.send(DATA, END_STREAM, stream, body).expect("it lives");
        }
        let ended = ended_calls(&mut raw, Instant::now() + Duration::from_secs(2), bodies.len());
        assert_eq!(ended, bodies.len(), "each is answered");
        count += ended;
    }
    format!("{count} answered")
}

fn deaf_publishers(target: &Target) -> String {
    let publish = [&[0x0a, 1, b's', 0x12, 103, 0x42, 101][..], &[b'x'; 101]].concat();
    let request = [&[0x08, 1, 0x12, publish.len() as u8][..], &publish].concat();
    let many = message(request.len() as u32, &request).repeat(3000);
    let (mut sent, mut stuck) = (0, 0);
    let mut connections: Vec<(Raw, u32)> = Vec::new();
    for _ in 0..20 {
        let mut raw = target.raw(0);
        let stream = raw.call(PUBLISH_STREAM).expect("it lives");
        connections.push((raw, stream));
    }
    while target.goes_on() && stuck < connections.len() {
        stuck = 0;
        for (raw, stream) in &mut connections {
            let alive = raw.receive().is_ok();
            if !alive || raw.window < many.len() as i64 || sent > 400 << 20 {
                stuck += 1;
                continue;
            }
            let pieces = many.chunks(16_000).all(|piece| raw.data(*stream, piece).is_ok());
            sent += usize::from(pieces) * many.len();
        }
    }
    format!("{} MiB sent, {stuck} of 20 not read from any more", sent >> 20)
}

fn deaf_tails(target: &Target) -> String {
    // From the beginning of a stream that is larger than a message.
    let request = [&[0x0a, 3][..], b"big", &[0x12, 2, 0x0a, 0]].concat();
    let mut raw = target.raw(65_535);
    for _ in 0..100 {
        let stream = raw.call(TAIL).expect("it lives");
        raw.send(DATA, END_STREAM, stream, &message(request.len() as u32, &request)).expect("it lives");
    }
    std::thread::sleep(target.until.saturating_duration_since(Instant::now()));
    "100 tails held on one connection".into()
}

fn deaf_views(target: &Target) -> String {
    let mut sockets: Vec<TcpStream> = (0..200).map(|_| target.connect()).collect();
    for socket in &mut sockets {
        socket.write_all(b"GET /streams/big/live?from=earliest HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
    }
    std::thread::sleep(target.until.saturating_duration_since(Instant::now()));
    "200 views held".into()
}

fn greedy_consumers(target: &Target) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut consumers =
            v1::consumer_service_client::ConsumerServiceClient::connect(target.url.clone()).await.expect("it listens");
        let (mut taken, mut n) = (0, 0);
        while target.goes_on() {
            let pull = v1::PullRequest {
                stream: "held".into(),
                group: "g".into(),
                consumer: format!("c{n}"),
                entries_max: 100,
                ..Default::default()
            };
            match consumers.pull(pull).await {
                Ok(pulled) => taken += pulled.into_inner().events.len(),
                Err(status) => {
                    assert!(status.message().contains("10000 consumers"), "{status:?}");
                    break;
                }
            }
            n += 1;
        }
        assert_eq!(taken, 100, "each entry is delivered once within its lease");
        format!("{n} consumers, {taken} entries held")
    })
}

/// Sends such frames until the time is over or the connection is ended; how many, and how it ended.
fn flood(target: &Target, mut next: impl FnMut(u32) -> Vec<u8>) -> String {
    let (mut sent, mut connections, mut dropped) = (0_u64, 0, 0);
    while target.goes_on() {
        let mut raw = target.raw(65_535);
        connections += 1;
        let mut number = 1;
        while target.goes_on() {
            let batch: Vec<u8> = (0..100).flat_map(|n| next(number + 2 * n)).collect();
            number += 200;
            if raw.socket.write_all(&batch).is_err() {
                dropped += 1;
                break;
            }
            sent += 100;
            let Ok(frames) = raw.receive() else {
                dropped += 1;
                break;
            };
            dropped += frames.iter().filter(|f| f.kind == GOAWAY && !f.payload.is_empty()).count();
        }
    }
    format!("{sent} on {connections} connections, dropped {dropped} times")
}

fn rapid_resets(target: &Target) -> String {
    flood(target, |stream| {
        let reset = frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
        [frame(HEADERS, END_HEADERS, stream, &headers(PUBLISH)), reset].concat()
    })
}

fn settings_flood(target: &Target) -> String {
    flood(target, |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]))
}

fn ping_flood(target: &Target) -> String {
    flood(target, |_| frame(PING, 0, 0, &[1; 8]))
}

fn endless_headers(target: &Target) -> String {
    let mut count = 0;
    while target.goes_on() {
        let mut raw = target.raw(65_535);
        raw.send(HEADERS, 0, 1, &headers(PUBLISH)).expect("it listens");
        let field = [&[0, 1, b'x', 0x7f, 0x81, 0x7d][..], &[b'a'; 16_000]].concat();
        let sent = (0..1000).take_while(|_| raw.send(CONTINUATION, 0, 1, &field).is_ok()).count();
        assert!(sent < 1000, "so much is not taken");
        count += 1;
    }
    format!("{count} connections dropped")
}
