//! XADD with MAXLEN or MINID, XTRIM and XDEL from many connections at once: no reply but ids and numbers, nobody sees an
//! entry that goes in the commit that it came in, and what is left is what Redis keeps.
//!
//! `SYNAPSE_TRIM_ROUNDS` sets how many rounds the random programs have (4 unless set); with more than 4 the server is
//! killed between rounds, too, instead of stopped. `SYNAPSE_TRIM_SEED` sets the seed.

use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;
use std::time::Duration;

use crate::client::Client;
use crate::random::Random;
use crate::servers::{Redis, Synapse};

const CONNECTIONS: usize = 50;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Sends commands at once, and answers the replies.
fn together(client: &mut Client, lines: &[String]) -> Vec<String> {
    let all: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    client.send(all.as_bytes());
    lines.iter().map(|_| client.reply()).collect()
}

/// What a connection that adds sends as its n-th command.
fn adds(connection: usize, n: usize) -> String {
    match (connection + n) % 6 {
        0 => "XADD k MAXLEN ~ 300 * f v".into(),
        1 => "XADD k MAXLEN 300 * f v".into(),
        2 => "XADD k MINID ~ 1 * f v".into(),
        3 => "XADD k MAXLEN ~ 300 LIMIT 200 * f v".into(),
        4 => "XADD other MAXLEN = 5 * f v".into(),
        _ => "XADD empty MAXLEN 0 * f v".into(),
    }
}

#[test]
fn many_add_and_trim_at_once_and_are_answered_with_ids_alone() {
    let synapse = Synapse::start();
    let port = synapse.port();
    let mut first = Client::connect(port);
    assert_eq!(first.ask("XGROUP CREATE k g $ MKSTREAM"), "+OK\r\n");
    for _ in 0..400 {
        assert!(first.ask("XADD k * f v").starts_with('$'));
    }
    assert!(first.ask("XADD empty MAXLEN 0 1-1 f v").starts_with('$'));
    let over = AtomicBool::new(false);
    scope(|scope| {
        scope.spawn(|| consumes(port, &over));
        scope.spawn(|| waits_in_vain(port, &over));
        scope.spawn(|| takes_away(port, &over));
        let adding: Vec<_> = (0..CONNECTIONS)
            .map(|connection| {
                scope.spawn(move || {
                    let mut client = Client::connect(port);
                    for n in 0..60 {
                        let lines: Vec<String> =
                            (0..if n % 3 == 0 { 16 } else { 1 }).map(|m| adds(connection, n + m)).collect();
                        for (reply, line) in together(&mut client, &lines).iter().zip(&lines) {
                            assert!(reply.starts_with('$'), "{line}: {reply}");
                        }
                    }
                })
            })
            .collect();
        let failed = adding.into_iter().filter_map(|thread| thread.join().err()).count();
        over.store(true, Ordering::Relaxed);
        assert_eq!(failed, 0, "some were answered otherwise");
    });
    for _ in 0..100 {
        assert!(first.ask("XADD k MAXLEN 300 * f v").starts_with('$'));
    }
    assert_eq!(
        (first.ask("XLEN k"), first.ask("XLEN other"), first.ask("XLEN empty")),
        (":300\r\n".into(), ":5\r\n".into(), ":0\r\n".into())
    );
    assert!(!first.ask("XINFO STREAM empty").contains("$3\r\n1-1\r\n"), "the last id goes on");
}

fn consumes(port: u16, over: &AtomicBool) {
    let mut client = Client::connect(port);
    while !over.load(Ordering::Relaxed) {
        let reply = client.ask("XREADGROUP GROUP g c COUNT 50 BLOCK 20 NOACK STREAMS k >");
        assert!(reply.starts_with('*'), "{reply}");
    }
}

/// Every entry of that stream goes in the command that adds it.
fn waits_in_vain(port: u16, over: &AtomicBool) {
    let mut client = Client::connect(port);
    while !over.load(Ordering::Relaxed) {
        assert_eq!(client.ask("XREAD BLOCK 30 STREAMS empty $"), "*-1\r\n");
    }
}

fn takes_away(port: u16, over: &AtomicBool) {
    let mut client = Client::connect(port);
    while !over.load(Ordering::Relaxed) {
        let id = client.ask("XREVRANGE k + - COUNT 1").lines().nth(3).map(str::to_owned);
        let mut lines = vec!["XTRIM k MAXLEN ~ 250".to_owned(), "XTRIM k MAXLEN 280".to_owned()];
        lines.extend(id.map(|id| format!("XDEL k {id}")));
        for line in lines {
            let reply = client.ask(&line);
            assert!(reply.starts_with(':'), "{line}: {reply}");
        }
    }
}

/// A reader that waits is given what an XADD leaves, and in time.
#[test]
fn who_waits_is_given_what_stays() {
    let synapse = Synapse::start();
    let (mut reader, mut writer) = (Client::connect(synapse.port()), Client::connect(synapse.port()));
    writer.ask("XADD s 1-1 f v");
    reader.send(b"XREAD BLOCK 0 STREAMS s $\r\n");
    assert_eq!(reader.reply_within(Duration::from_millis(100)), None);
    writer.ask("XADD s MAXLEN 0 2-1 f gone");
    assert_eq!(reader.reply_within(Duration::from_millis(200)), None, "nothing stays");
    writer.ask("XADD s MAXLEN 1 3-1 f kept");
    let reply = reader.reply();
    assert!(reply.contains("3-1") && !reply.contains("gone"), "{reply}");
}

#[test]
fn a_duplicate_trims_nothing() {
    let synapse = Synapse::start();
    let mut client = Client::connect(synapse.port());
    for n in 1..=5 {
        client.ask(&format!("XADD s {n}-1 f v"));
    }
    let first = client.ask("XADD s IDMP p i MAXLEN 4 * f v");
    assert_eq!(client.ask("XLEN s"), ":4\r\n");
    assert_eq!(client.ask("XADD s IDMP p i MAXLEN 1 * f v"), first);
    assert_eq!(client.ask("XLEN s"), ":4\r\n");
    assert!(client.ask("XADD s MAXLEN 2 1-1 f v").starts_with("-ERR The ID"), "what is refused trims nothing, either");
    assert_eq!(client.ask("XLEN s"), ":4\r\n");
}

#[test]
fn a_transaction_trims_what_it_added() {
    let synapse = Synapse::start();
    let mut client = Client::connect(synapse.port());
    for n in 1..=500 {
        client.ask(&format!("XADD s {n}-1 f v"));
    }
    for line in [
        "MULTI",
        "XADD s MAXLEN 3 501-1 f v",
        "XLEN s",
        "XADD s MAXLEN 2 502-1 f v",
        "XTRIM s MAXLEN 1",
        "XADD s MAXLEN ~ 0 503-1 f v",
        "XADD s 504-1 f v",
    ] {
        client.ask(line);
    }
    assert_eq!(client.ask("EXEC"), "*6\r\n$5\r\n501-1\r\n:3\r\n$5\r\n502-1\r\n:1\r\n$5\r\n503-1\r\n$5\r\n504-1\r\n");
    assert_eq!(client.ask("XRANGE s - +"), "*1\r\n*2\r\n$5\r\n504-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n");
}

/// A server of its own process, which can be killed.
struct Server {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Server {
    fn over(folder: tempfile::TempDir) -> Self {
        let free =
            || std::net::TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port").port();
        let (port, other) = (free(), free());
        let mut command = Command::new(env!("CARGO_BIN_EXE_synapse"));
        command.args(["serve", "--data-dir"]).arg(folder.path().join("data"));
        command.args(["--listen", &format!("127.0.0.1:{other}"), "--resp-listen", &format!("127.0.0.1:{port}")]);
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        let until = std::time::Instant::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(std::time::Instant::now() < until, "the server does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { process, port, folder }
    }

    /// Ends it, in order or by a kill, and starts another over what it left.
    fn again(mut self, kill: bool) -> Self {
        if !kill {
            let done = Command::new("kill").arg(self.process.id().to_string()).status();
            assert!(done.is_ok_and(|done| done.success()), "it is asked to stop");
        } else {
            self.process.kill().expect("it is killed");
        }
        self.process.wait().expect("it ends");
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a folder"));
        Self::over(folder)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The commands of one connection in one round: on a stream of its own with ids that it gives, and on two that all share.
fn program(rng: &mut Random, connection: usize, next: &mut u64) -> Vec<String> {
    let about = |rng: &mut Random| if rng.below(2) == 0 { "~" } else { "=" };
    let mut lines = Vec::new();
    for _ in 0..12 {
        let some = |rng: &mut Random, next: u64| next.saturating_sub(rng.below(60)).max(1);
        let limit = |rng: &mut Random| match rng.below(4) {
            0 => format!(" LIMIT {}", rng.below(30)),
            _ => String::new(),
        };
        lines.push(match rng.below(12) {
            0 => format!("XDEL k{connection} {}-1 {}-1", some(rng, *next), some(rng, *next)),
            1 => format!("XTRIM k{connection} MAXLEN {} {}", about(rng), rng.below(60)),
            2 => format!("XTRIM k{connection} MINID ~ {}{}", some(rng, *next), limit(rng)),
            3 => "XADD shared MAXLEN 70 * f v".to_owned(),
            4 => "XADD about MAXLEN ~ 70 * f v".to_owned(),
            kind => {
                *next += 1;
                let trim = match kind {
                    5 => format!("MAXLEN {} {}", about(rng), rng.below(60)),
                    6 => format!("MAXLEN ~ {}{}", rng.below(60), limit(rng)),
                    7 => format!("MINID {} {}", about(rng), some(rng, *next)),
                    8 => format!("MINID ~ {}{}", some(rng, *next), limit(rng)),
                    _ => String::new(),
                };
                format!("XADD k{connection} {trim} {next}-1 f v{next}")
            }
        });
    }
    lines
}

/// Runs each program on a connection of its own, all at once, one command after the other or all that it has together.
fn run_all(port: u16, programs: &[Vec<String>], piped: bool) -> Vec<Vec<String>> {
    let begin = Barrier::new(programs.len());
    scope(|scope| {
        let run = |program: &Vec<String>| {
            let mut client = Client::connect(port);
            begin.wait();
            match piped {
                true => together(&mut client, program),
                false => program.iter().map(|line| client.ask(line)).collect(),
            }
        };
        let threads: Vec<_> = programs.iter().map(|program| scope.spawn(move || run(program))).collect();
        threads.into_iter().map(|thread| thread.join().expect("it is answered")).collect()
    })
}

#[test]
fn what_many_leave_is_what_redis_keeps() {
    let Some(redis) = Redis::start() else { return };
    let mut server = Server::over(tempfile::tempdir().expect("a folder"));
    let (rounds, seed) = (setting("SYNAPSE_TRIM_ROUNDS", 4), setting("SYNAPSE_TRIM_SEED", 1));
    let mut rng = Random::new(seed);
    let mut next = vec![0; CONNECTIONS];
    for round in 0..rounds {
        let nodes = ["CONFIG SET stream-node-max-entries 10", "CONFIG SET stream-node-max-bytes 0"];
        for line in nodes {
            let replies = [redis.port(), server.port].map(|port| Client::connect(port).ask(line));
            assert_eq!(replies, ["+OK\r\n", "+OK\r\n"]);
        }
        let programs: Vec<Vec<String>> =
            next.iter_mut().enumerate().map(|(connection, next)| program(&mut rng, connection, next)).collect();
        let [theirs, ours] = [redis.port(), server.port].map(|port| run_all(port, &programs, round % 2 == 1));
        for ((program, theirs), ours) in programs.iter().zip(&theirs).zip(&ours) {
            for ((line, theirs), ours) in program.iter().zip(theirs).zip(ours) {
                match line.starts_with("XADD shared") || line.starts_with("XADD about") {
                    true => assert!(ours.starts_with('$'), "round {round} of seed {seed}: {line}: {ours}"),
                    false => assert_eq!(ours, theirs, "round {round} of seed {seed}: {line} in {program:?}"),
                }
            }
        }
        if round % 2 == 0 || round > 3 {
            server = server.again(rounds > 4 || round == 2);
        }
        let (mut theirs, mut ours) = (Client::connect(redis.port()), Client::connect(server.port));
        let own = (0..CONNECTIONS).flat_map(|k| [format!("XLEN k{k}"), format!("XRANGE k{k} - +")]);
        for line in own.chain(["XLEN shared", "XLEN about"].map(str::to_owned)) {
            assert_eq!(ours.ask(&line), theirs.ask(&line), "round {round} of seed {seed}: {line}");
        }
    }
}
