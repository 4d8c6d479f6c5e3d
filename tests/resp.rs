//! The Redis protocol, beside Redis itself: the same commands to both, and every reply compared byte by byte.
//!
//! Needs `redis-server` (Debian's package of that name); where it is missing the comparison is skipped with a message,
//! but not in CI.

#[path = "resp/client.rs"]
mod client;
#[path = "resp/programs.rs"]
mod programs;
#[path = "resp/servers.rs"]
mod servers;

use std::time::{Duration, Instant};

use client::Client;
use servers::{Redis, Synapse};

#[test]
fn replies_are_those_of_redis() {
    let Some(redis) = Redis::start() else { return };
    let synapse = Synapse::start();
    let on_purpose = documented_differences();
    let mut differences = Vec::new();
    for (name, program) in programs::ALL {
        for hello in [false, true] {
            let (mut theirs, mut ours) = (Client::connect(redis.port()), Client::connect(synapse.port()));
            theirs.ask("FLUSHALL");
            synapse.clear();
            if hello {
                theirs.ask("HELLO 3");
                ours.ask("HELLO 3");
            }
            for line in program.lines().map(str::trim).filter(|line| !line.is_empty()) {
                let (want, got) = (theirs.ask(line), ours.ask(line));
                if want != got && !on_purpose.iter().any(|known| known == line) {
                    differences.push(format!("{name}: {line}\n  redis:   {want:?}\n  synapse: {got:?}"));
                }
            }
        }
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

/// The commands of the table in `docs/REDIS.md` whose replies differ on purpose.
fn documented_differences() -> Vec<String> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/REDIS.md")).expect("is there");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(command, _)| command.to_owned()).collect()
}

#[test]
fn a_pipeline_is_answered_in_order() {
    let synapse = Synapse::start();
    let mut client = Client::connect(synapse.port());
    let mut text = String::new();
    for n in 1..=2000 {
        text += &format!("XADD s {n}-0 n {n}\r\n");
        if n % 100 == 0 {
            text += "XLEN s\r\n";
        }
    }
    client.send(text.as_bytes());
    for n in 1..=2000 {
        assert_eq!(client.reply(), format!("${}\r\n{n}-0\r\n", format!("{n}-0").len()));
        if n % 100 == 0 {
            assert_eq!(client.reply(), format!(":{n}\r\n"));
        }
    }
}

#[test]
fn blocked_readers_are_woken_in_turn_and_in_time() {
    let synapse = Synapse::start();
    let mut writer = Client::connect(synapse.port());
    writer.ask("XGROUP CREATE s g $ MKSTREAM");
    let (mut reader, mut worker) = (Client::connect(synapse.port()), Client::connect(synapse.port()));
    let mut second = Client::connect(synapse.port());
    reader.send(b"XREAD BLOCK 5000 STREAMS other s 0 $\r\n");
    worker.send(b"XREADGROUP GROUP g w1 COUNT 1 BLOCK 5000 STREAMS s >\r\n");
    std::thread::sleep(Duration::from_millis(200));
    second.send(b"XREADGROUP GROUP g w2 COUNT 1 BLOCK 5000 STREAMS s >\r\n");
    std::thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    writer.ask("XADD s 7-0 a 1");
    let entry = |id: &str| format!("*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n{id}\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n");
    assert_eq!(reader.reply(), entry("7-0"));
    assert_eq!(worker.reply(), entry("7-0"), "who waited first is served first");
    writer.ask("XADD s 8-0 a 1");
    assert_eq!(second.reply(), entry("8-0"));
    assert!(began.elapsed() < Duration::from_secs(2), "took {:?}", began.elapsed());
    let began = Instant::now();
    assert_eq!(reader.ask("XREAD BLOCK 100 STREAMS s $"), "*-1\r\n");
    assert!(began.elapsed() >= Duration::from_millis(100));
    assert_eq!(reader.ask("XREADGROUP GROUP g w1 BLOCK 50 STREAMS s >"), "*-1\r\n");
}

#[test]
fn a_reader_that_goes_away_leaves_its_turn() {
    let synapse = Synapse::start();
    let mut writer = Client::connect(synapse.port());
    writer.ask("XGROUP CREATE s g $ MKSTREAM");
    let mut gone = Client::connect(synapse.port());
    gone.send(b"XREADGROUP GROUP g w1 BLOCK 0 STREAMS s >\r\n");
    std::thread::sleep(Duration::from_millis(200));
    drop(gone);
    std::thread::sleep(Duration::from_millis(200));
    writer.ask("XADD s 7-0 a 1");
    assert!(writer.ask("XREADGROUP GROUP g w2 STREAMS s >").contains("7-0"));
}

#[test]
fn malformed_requests_are_refused_and_end_the_connection() {
    let synapse = Synapse::start();
    for (bytes, want) in [
        (&b"*1\r\n:1\r\n"[..], "-ERR Protocol error: expected '$'\r\n"),
        (b"*2000000\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*1\r\n$99999999999\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
    ] {
        let mut client = Client::connect(synapse.port());
        client.send(bytes);
        assert_eq!(client.reply(), want);
        assert!(client.is_closed());
    }
    let mut client = Client::connect(synapse.port());
    assert_eq!(client.ask("NONSENSE a b"), "-ERR unknown command 'NONSENSE', with args beginning with: 'a' 'b' \r\n");
    assert_eq!(client.ask("PING"), "+PONG\r\n", "the connection goes on");
}
