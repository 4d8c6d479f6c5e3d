//! Hostile clients of the Redis port, one kind after the other: what the server holds for them is bounded, they are
//! dropped or told why not, and whoever behaves beside them is served.
//!
//! The figures are printed: `cargo test --test process hostile_redis -- --nocapture`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::descriptors::busy;
use crate::hostile::{HEADER_TIMEOUT, rest};
use crate::redis::{REDIS_PORT, port};
use crate::redis_client::Client;
use crate::server::Server;
use crate::trial::{ALONE, Trial};

/// An attack: its name, what it does until the time is over (it answers what became of it), and by how many MiB the
/// server may grow meanwhile. The room is 256 MiB, the cache 64 MiB.
type Attack = (&'static str, fn(&Target) -> String, u64);

const ATTACKS: [Attack; 12] = [
    ("connect flood", connect_flood, 48),
    ("1,000 idle connections", idle_connections, 48),
    ("requests that are no requests", wrong_requests, 48),
    ("endless lines", endless_lines, 48),
    ("half requests", half_requests, 320),
    ("arguments in packets of their own", tiny_packets, 96),
    ("ranges that are not read", deaf_ranges, 400),
    ("one request for much of the same", greedy_reads, 400),
    ("replies that are not read", deaf_publishers, 96),
    ("transactions that never end", endless_transactions, 320),
    ("transactions that list all names", listing_transactions, 320),
    ("readers that vanish", vanishing_readers, 64),
];

/// What is attacked.
struct Target {
    port: u16,
    until: Instant,
}

impl Target {
    fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }
    fn wait(&self) {
        std::thread::sleep(self.until.saturating_duration_since(Instant::now()));
    }
    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        socket.set_nodelay(true).expect("set");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("set");
        socket.set_write_timeout(Some(Duration::from_millis(100))).expect("set");
        socket
    }
}

/// Streams beside those that are attacked.
const STREAMS: usize = 2_000;

/// A server with a stream of 20 MB, a group on another one, and many small streams.
fn server(folder: &std::path::Path) -> (Server, u16) {
    let timeout = HEADER_TIMEOUT.as_millis().to_string();
    let flags = [&["--header-timeout-ms", &timeout, "--drain-timeout-ms", "1000"][..], &REDIS_PORT].concat();
    let mut server = Server::start_on(&folder.join("data"), "127.0.0.1:0", &flags);
    let port = port(&mut server);
    let mut client = Client::connect(port);
    assert_eq!(client.ask("XGROUP CREATE held g 0 MKSTREAM"), "+OK\r\n");
    let small: String = (0..STREAMS).map(|n| format!("XADD small-{n} * n 1\r\n")).collect();
    client.send(small.as_bytes());
    (0..STREAMS).for_each(|_| assert!(client.reply().starts_with('$')));
    let data = "x".repeat(200_000);
    for _ in 0..100 {
        client.send(format!("*5\r\n$4\r\nXADD\r\n$3\r\nbig\r\n$1\r\n*\r\n$1\r\nd\r\n$200000\r\n{data}\r\n").as_bytes());
        assert!(client.reply().starts_with('$'));
    }
    (server, port)
}

#[test]
fn hostile_clients_of_the_redis_port_are_bounded_and_others_served() {
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().expect("a folder");
    let (server, port) = server(folder.path());
    let mut trial = Trial::begin(server.child.id(), |until| add_until(port, until));
    for (name, attack, grows_max) in ATTACKS {
        trial.attack(name, |until| attack(&Target { port, until }), grows_max);
    }
    // The cache, and what the allocator keeps of what was held.
    trial.end(384);
    let mut deaf = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    deaf.write_all(&b"XRANGE big - +\r\n".repeat(100)).expect("sent");
    std::thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    server.terminate();
    assert!(began.elapsed() < Duration::from_secs(10), "who does not read does not keep it from ending");
}

#[test]
fn readers_that_wait_cost_no_time_and_are_woken() {
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().expect("a folder");
    let (server, port) = server(folder.path());
    let mut readers: Vec<Client> = (0..800).map(|_| Client::connect(port)).collect();
    for (n, reader) in readers.iter_mut().enumerate() {
        // Half of them on one stream that there is, each of the others on many that there are not.
        let missing: String = (0..50).map(|key| format!("missing-{key} ")).collect();
        match n % 2 {
            0 => reader.send(b"XREAD BLOCK 0 STREAMS held $\r\n"),
            _ => reader.send(format!("XREAD BLOCK 0 STREAMS {missing}{}\r\n", "0 ".repeat(50)).as_bytes()),
        }
    }
    std::thread::sleep(Duration::from_millis(500));
    let before = busy(&server);
    std::thread::sleep(Duration::from_secs(1));
    let used = busy(&server) - before;
    assert!(used < 20, "waiting took {used} hundredths of a second");
    let mut client = Client::connect(port);
    assert!(client.ask("XADD missing-7 * n 1").starts_with('$') && client.ask("XADD held * n 1").starts_with('$'));
    for reader in &mut readers {
        assert!(reader.reply().starts_with("*1\r\n"), "it is woken");
    }
    server.terminate();
}

/// Adds one entry after the other until then; how long each took.
fn add_until(port: u16, until: Instant) -> Vec<Duration> {
    let mut client = Client::connect(port);
    let mut times = Vec::new();
    while Instant::now() < until {
        let began = Instant::now();
        assert!(client.ask("XADD s * n 1").starts_with('$'), "whoever behaves is served");
        assert!(client.ask("XRANGE held - + COUNT 10").starts_with('*'), "reads, too");
        times.push(began.elapsed());
        std::thread::sleep(Duration::from_millis(1));
    }
    times
}

/// Transactions that list all names again and again: those that would take too long are refused as a whole.
fn listing_transactions(target: &Target) -> String {
    let (mut run, mut refused) = (0, 0);
    while target.goes_on() {
        for (request, times) in [("KEYS zz*\r\n", 40_000), ("KEYS *\r\n", 250), ("SCAN 0 COUNT 10000\r\n", 2_000)] {
            let mut client = Client::connect(target.port);
            client.send(format!("MULTI\r\n{}EXEC\r\n", request.repeat(times)).as_bytes());
            assert_eq!(client.reply(), "+OK\r\n");
            (0..times).for_each(|_| assert_eq!(client.reply(), "+QUEUED\r\n"));
            match client.reply() {
                reply if reply.starts_with("-EXECABORT") => refused += 1,
                _ => run += 1,
            }
        }
    }
    assert!(refused > 0, "what takes seconds is refused");
    format!("{run} run, {refused} refused")
}

fn connect_flood(target: &Target) -> String {
    let mut count = 0;
    while target.goes_on() {
        count += usize::from(TcpStream::connect(("127.0.0.1", target.port)).is_ok());
    }
    format!("{count} connections taken and closed")
}

fn idle_connections(target: &Target) -> String {
    let mut idle: Vec<TcpStream> = (0..1000).map(|_| target.connect()).collect();
    idle.iter_mut().take(500).for_each(|socket| socket.write_all(b"PING\r\n").expect("sent"));
    target.wait();
    let mut pong = [0; 7];
    for socket in idle.iter_mut().rev().take(500) {
        socket.write_all(b"PING\r\n").expect("it is open");
        socket.read_exact(&mut pong).expect("it is served");
    }
    "kept, as with Redis".into()
}

fn wrong_requests(target: &Target) -> String {
    let mut count = 0;
    while target.goes_on() {
        for (bytes, why) in [
            (&b"*1048577\r\n"[..], "invalid multibulk length"),
            (b"*2\r\n$999999999\r\n", "invalid bulk length"),
            (b"*9223372036854775807\r\n", "invalid multibulk length"),
            (b"*1\r\n$99999999999999999999\r\n", "invalid bulk length"),
            (b"*2\r\n$4000000\r\n", ""),
        ] {
            let mut socket = target.connect();
            socket.write_all(bytes).expect("sent");
            let within = if why.is_empty() { HEADER_TIMEOUT * 4 } else { Duration::from_secs(2) };
            let (said, ended) = rest(&mut socket, Instant::now() + within);
            assert!(ended && said.contains(why) && said.starts_with('-'), "{why}: {said}");
            count += 1;
        }
    }
    format!("{count} refused and closed")
}

fn endless_lines(target: &Target) -> String {
    let (piece, mut count) = ([b'a'; 4096], 0);
    while target.goes_on() {
        let mut socket = target.connect();
        let sent = (0..10_000).take_while(|_| socket.write_all(&piece).is_ok()).count();
        assert!(sent < 5000, "so much is not taken");
        count += 1;
    }
    format!("{count} closed")
}

fn half_requests(target: &Target) -> String {
    let (piece, mut sent) = (vec![b'x'; 500_000], 0);
    let mut sockets: Vec<TcpStream> = (0..200).map(|_| target.connect()).collect();
    for socket in &mut sockets {
        // Refused meanwhile.
        let _ = socket.write_all(b"*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n$1\r\n*\r\n$1\r\nd\r\n$4000000\r\n");
        sent += (0..7).take_while(|_| socket.write_all(&piece).is_ok()).count() * piece.len();
    }
    let until = Instant::now() + HEADER_TIMEOUT * 3 + Duration::from_secs(2);
    let outcomes: Vec<(String, bool)> = sockets.iter_mut().map(|socket| rest(socket, until)).collect();
    assert!(outcomes.iter().all(|(_, ended)| *ended), "all are closed in time");
    let refused = outcomes.iter().filter(|(said, _)| said.starts_with("-LOADING OVERLOADED: ")).count();
    format!("{} MiB sent, {refused} of 200 refused, all closed", sent >> 20)
}

fn tiny_packets(target: &Target) -> String {
    let mut sockets: Vec<TcpStream> = (0..20).map(|_| target.connect()).collect();
    sockets.iter_mut().for_each(|socket| socket.write_all(b"*1048576\r\n").expect("sent"));
    let mut sent = 0;
    while target.goes_on() {
        // Closed once it took too long.
        sent += sockets.iter_mut().filter_map(|socket| socket.write_all(b"$1\r\na\r\n").ok()).count();
    }
    format!("{sent} arguments")
}

fn deaf_ranges(target: &Target) -> String {
    let mut sockets: Vec<TcpStream> = (0..40).map(|_| target.connect()).collect();
    let many = b"XRANGE big - +\r\n".repeat(100);
    sockets.iter_mut().for_each(|socket| socket.write_all(&many).expect("sent"));
    target.wait();
    std::thread::sleep(HEADER_TIMEOUT * 2);
    "40 held".into()
}

fn greedy_reads(target: &Target) -> String {
    let mut sockets: Vec<TcpStream> = (0..4).map(|_| target.connect()).collect();
    let line = format!("XREAD STREAMS {}{}\r\n", "big ".repeat(40), "0 ".repeat(40));
    sockets.iter_mut().for_each(|socket| socket.write_all(line.as_bytes()).expect("sent"));
    target.wait();
    "4 held".into()
}

fn deaf_publishers(target: &Target) -> String {
    let mut sockets: Vec<TcpStream> = (0..50).map(|_| target.connect()).collect();
    let (many, mut sent) = (b"XADD s * n 1\r\nXRANGE held - + COUNT 3\r\n".repeat(500), 0);
    while target.goes_on() && !sockets.is_empty() {
        sockets.retain_mut(|socket| {
            let goes_on = socket.set_nonblocking(true).is_ok() && matches!(socket.write(&many), Ok(n) if n > 0);
            sent += usize::from(goes_on) * many.len();
            goes_on
        });
    }
    target.wait();
    format!("{} MiB sent at most, {} still taken from", sent >> 20, sockets.len())
}

fn endless_transactions(target: &Target) -> String {
    let mut sockets: Vec<TcpStream> = (0..100).map(|_| target.connect()).collect();
    let value = "x".repeat(600_000);
    let queued = format!("*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n$1\r\n*\r\n$1\r\nd\r\n$600000\r\n{value}\r\n").repeat(11);
    for socket in &mut sockets {
        // Refused meanwhile.
        let _ = socket.write_all(b"MULTI\r\n").and_then(|()| socket.write_all(queued.as_bytes()));
    }
    target.wait();
    let said = sockets.iter_mut().map(|socket| rest(socket, Instant::now()).0);
    let refused = said.filter(|said| said.contains("OVERLOADED")).count();
    format!("{refused} of 100 refused")
}

fn vanishing_readers(target: &Target) -> String {
    let mut count = 0;
    while target.goes_on() {
        let mut some: Vec<TcpStream> = (0..50).map(|_| target.connect()).collect();
        for (n, socket) in some.iter_mut().enumerate() {
            let line = format!("XREADGROUP GROUP g gone{n} BLOCK 0 STREAMS held >\r\n");
            socket.write_all(line.as_bytes()).expect("sent");
        }
        count += some.len();
    }
    std::thread::sleep(Duration::from_millis(300));
    let mut reader = Client::connect(target.port);
    reader.send(b"XREADGROUP GROUP g here BLOCK 0 STREAMS held >\r\n");
    let id = Client::connect(target.port).ask("XADD held * n 1");
    let told = reader.reply();
    assert!(told.contains(id.lines().nth(1).expect("an id")), "who is there is served: {told}");
    format!("{count} gone")
}
