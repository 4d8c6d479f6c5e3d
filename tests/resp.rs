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
