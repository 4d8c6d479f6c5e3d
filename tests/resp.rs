//! The Redis protocol, beside Redis itself: the same commands to both, and every reply compared byte by byte.
//!
//! Needs `redis-server` (Debian's package of that name); where it is missing the comparison is skipped with a message,
//! but not in CI.

#[path = "resp/client.rs"]
mod client;
#[path = "resp/connections.rs"]
mod connections;
#[path = "resp/later.rs"]
mod later;
#[path = "resp/once.rs"]
mod once;
#[path = "resp/programs.rs"]
mod programs;
#[path = "resp/random.rs"]
mod random;
#[path = "resp/servers.rs"]
mod servers;
#[path = "model/shrink.rs"]
mod shrink;
#[path = "resp/transactions.rs"]
mod transactions;
#[path = "resp/trims.rs"]
mod trims;
#[path = "resp/ungranted.rs"]
mod ungranted;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use client::Client;
use servers::{Redis, Synapse};
use sha2::Digest;
use synapse::access::{ApiKey, Grant, Keyring, Permission};
use synapse::proto::v1;
use synapse::proto::v1::event_service_client::EventServiceClient;
use synapse::server::settings::OptionalAddress;
use synapse::server::{Server, Settings};

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

/// What Redis 8 has and the one beside us lacks, by its documentation.
#[test]
fn entries_go_with_what_groups_have_of_them() {
    let synapse = Synapse::start();
    let mut client = Client::connect(synapse.port());
    for n in 1..=6 {
        client.ask(&format!("XADD s {n}-0 n {n}"));
    }
    client.ask("XGROUP CREATE s g 0");
    client.ask("XGROUP CREATE s h 0");
    client.ask("XREADGROUP GROUP g alice COUNT 4 STREAMS s >");
    client.ask("XREADGROUP GROUP h bob COUNT 3 STREAMS s >");
    let pending = |client: &mut Client, group: &str| {
        let reply = client.ask(&format!("XPENDING s {group} - + 10"));
        (1..=9).filter(|n| reply.contains(&format!("\r\n{n}-0\r\n"))).collect::<Vec<_>>()
    };
    let ints =
        |codes: &[i64]| codes.iter().fold(format!("*{}\r\n", codes.len()), |text, code| text + &format!(":{code}\r\n"));
    assert_eq!(client.ask("XDELEX missing IDS 2 1-0 2-0"), ints(&[-1, -1]));
    assert_eq!(client.ask("XACKDEL missing g IDS 1 1-0"), ints(&[-1]));
    assert_eq!(client.ask("XACKDEL s missing IDS 1 1-0"), ints(&[-1]));
    assert_eq!(client.ask("XDELEX s IDS 2 1-0 9-0"), ints(&[1, -1]));
    assert_eq!(pending(&mut client, "g"), [1, 2, 3, 4], "references stay unless told otherwise");
    assert_eq!(client.ask("XDELEX s DELREF IDS 2 1-0 2-0"), ints(&[-1, 1]));
    assert_eq!((pending(&mut client, "g"), pending(&mut client, "h")), (vec![3, 4], vec![3]));
    assert_eq!(client.ask("XDELEX s ACKED IDS 3 3-0 5-0 9-0"), ints(&[2, 2, -1]), "pending, not delivered, missing");
    assert_eq!(client.ask("XACKDEL s g ACKED IDS 3 3-0 4-0 5-0"), ints(&[2, 2, -1]));
    assert_eq!((pending(&mut client, "g"), pending(&mut client, "h")), (vec![], vec![3]));
    assert_eq!(client.ask("XACKDEL s h ACKED IDS 1 3-0"), ints(&[1]), "the last one to acknowledge it");
    assert_eq!(client.ask("XLEN s"), ":3\r\n");
    client.ask("XREADGROUP GROUP g alice STREAMS s >");
    client.ask("XREADGROUP GROUP h bob STREAMS s >");
    assert_eq!(client.ask("XACKDEL s g DELREF IDS 1 4-0"), ints(&[-1]), "it is not pending in this group");
    client.ask("XDEL s 6-0");
    assert_eq!(client.ask("XACKDEL s g IDS 2 5-0 6-0"), ints(&[1, 1]), "also what was gone before");
    assert_eq!(pending(&mut client, "h"), [4, 5, 6]);
    client.ask("MULTI");
    client.ask("XADD s 7-0 n 7");
    client.ask("XREADGROUP GROUP g alice STREAMS s >");
    client.ask("XACKDEL s g DELREF IDS 1 7-0");
    client.ask("XDELEX s DELREF IDS 2 4-0 5-0");
    let replies = client.ask("EXEC");
    assert!(replies.ends_with(&(ints(&[1]) + &ints(&[1, -1]))), "{replies}");
    assert_eq!((pending(&mut client, "h"), client.ask("XLEN s")), (vec![6], ":0\r\n".to_owned()));
    for (wrong, why) in [
        ("XDELEX s IDS 0 1-0", "Number of IDs must be a positive integer"),
        ("XDELEX s IDS 2 1-0", "The `numids` parameter must match the number of arguments"),
        ("XDELEX s IDS 99999999999 1-0", "The `numids` parameter must match the number of arguments"),
        ("XDELEX s DELREF IDS 1", "The `numids` parameter must match the number of arguments"),
        ("XDELEX missing IDS 2 x", "The `numids` parameter must match the number of arguments"),
        ("XDELEX s IDS 1 1-0 2-0", "syntax error"),
        ("XDELEX s IDS 1 x NONSENSE", "syntax error"),
        ("XDELEX s KEEPREF ACKED IDS 1 1-0", "syntax error"),
        ("XDELEX s IDS 1 1-0 KEEPREF KEEPREF", "syntax error"),
        ("XDELEX s KEEPREF DELREF 1-0", "syntax error"),
        ("XDELEX s IDS 2 x 1-0", "Invalid stream ID specified as stream command argument"),
        ("XDELEX s IDS 2 1-0 KEEPREF", "Invalid stream ID specified as stream command argument"),
        ("XACKDEL s g IDS 1 1-0 2-0", "syntax error"),
        ("XACKDEL s g IDS 3 1-0 2-0", "The `numids` parameter must match the number of arguments"),
        ("XACKDEL s g KEEPREF IDS 1 x", "Invalid stream ID specified as stream command argument"),
    ] {
        assert_eq!(client.ask(wrong), format!("-ERR {why}\r\n"), "{wrong}");
    }
    for missing in ["XDELEX missing IDS 1 x", "XACKDEL s missing IDS 1 x", "XDELEX s IDS 1 x ACKED IDS 1 99-0"] {
        assert_eq!(client.ask(missing), ints(&[-1]), "ids are looked at last: {missing}");
    }
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
fn what_one_front_end_writes_the_others_read() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let settings = Settings {
        data_dir: folder.path().join("data"),
        listen: any,
        resp_listen: OptionalAddress(Some(any)),
        ..Settings::default()
    };
    let server = runtime.block_on(Server::start(settings)).expect("starts");
    let url = server.resp_url().expect("it has that port");
    let port = url.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port");
    let mut redis = Client::connect(port);
    assert!(redis.ask("XADD inference-events 5-0 event done data {}").contains("5-0"));
    let (added, published) = runtime.block_on(async {
        let mut events = EventServiceClient::connect(server.url()).await.expect("connects");
        let read = v1::ReadEventsRequest { stream: "inference-events".into(), ..Default::default() };
        let added = events.read_events(read).await.expect("reads").into_inner();
        let event = v1::Event {
            r#type: "inference-complete".into(),
            source: "cyrex".into(),
            data: "{}".into(),
            ..Default::default()
        };
        let publish =
            v1::PublishRequest { stream: "inference-events".into(), events: vec![event], ..Default::default() };
        let published = events.publish(publish).await.expect("publishes").into_inner();
        (added, published.first_id.expect("an id"))
    });
    let fields: Vec<(Vec<u8>, Vec<u8>)> =
        added.events[0].fields.iter().map(|field| (field.name.to_vec(), field.value.to_vec())).collect();
    assert_eq!(fields, [(b"event".to_vec(), b"done".to_vec()), (b"data".to_vec(), b"{}".to_vec())]);
    let shown = redis.ask("XREVRANGE inference-events + - COUNT 1");
    let id = format!("{}-{}", published.ms, published.seq);
    let want = format!(
        "*1\r\n*2\r\n${}\r\n{id}\r\n*6\r\n$4\r\ntype\r\n$18\r\ninference-complete\r\n$6\r\nsource\r\n$5\r\ncyrex\r\n$4\r\ndata\r\n$2\r\n{{}}\r\n",
        id.len()
    );
    assert_eq!(shown, want);
    runtime.block_on(server.shutdown()).expect("stops");
    assert!(redis.is_closed());
}

#[test]
fn no_reply_takes_more_than_its_bound() {
    let synapse = Synapse::start();
    let mut client = Client::connect(synapse.port());
    let value = "x".repeat(60_000);
    (1..=1200).for_each(|n| client.send(format!("XADD s {n}-0 v {value}\r\n").as_bytes()));
    (1..=1200).for_each(|n| assert!(client.reply().contains(&format!("{n}-0"))));
    assert!(client.ask("XRANGE s - +").starts_with("-ERR the reply would be larger than 64 MiB"));
    let read = client.ask("XREAD STREAMS s 0");
    assert!(read.len() > 60 << 20 && read.len() < 70 << 20, "{} bytes", read.len());
    assert!(client.ask("XRANGE s - + COUNT 2").contains("2-0"));
}

#[test]
fn keys_are_asked_for_and_bound_what_may_be_done() {
    let grant = Grant { streams: "mine*".into(), permissions: vec![Permission::Publish, Permission::Read] };
    let digest = sha2::Sha256::digest(b"secret");
    let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let keyring = Keyring::new(vec![ApiKey { name: "me".into(), sha256, grants: vec![grant] }]).expect("a key");
    let synapse = Synapse::with_keys(keyring);
    let mut client = Client::connect(synapse.port());
    assert_eq!(client.ask("XLEN mine"), "-NOAUTH Authentication required.\r\n");
    assert!(client.ask("HELLO 3").starts_with("-NOAUTH"));
    assert!(client.ask("AUTH wrong").starts_with("-WRONGPASS"));
    assert_eq!(client.ask("AUTH default secret"), "+OK\r\n");
    assert!(client.ask("XADD mine 1-0 a 1").contains("1-0"));
    assert!(client.ask("XADD other 1-0 a 1").starts_with("-NOPERM"));
    assert!(client.ask("XTRIM mine MAXLEN 0").starts_with("-NOPERM"));
    assert_eq!(client.ask("XLEN mine"), ":1\r\n");
    let mut other = Client::connect(synapse.port());
    assert!(other.ask("HELLO 3 AUTH default secret").starts_with("%7"));
}

#[test]
fn malformed_requests_are_refused_and_end_the_connection() {
    let synapse = Synapse::start();
    for (bytes, want) in [
        (&b"*1\r\n:1\r\n"[..], "-ERR Protocol error: expected '$', got ':'\r\n"),
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
