//! A drain waits for work that is under way and for nobody who does not read, and costs clients no more than a restart.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use synapse::proto::v1;
use synapse::proto::v1::consumer_service_client::ConsumerServiceClient;
use synapse::proto::v1::event_service_client::EventServiceClient;
use synapse::proto::v1::{consume_request, position};
use tonic_types::StatusExt;

use crate::redis::{REDIS_PORT, port};
use crate::redis_client::Client;
use crate::server::Server;

/// A drain without work under way, on a machine that is busy. The server's own bound is ten seconds.
const SOON: Duration = Duration::from_secs(4);

fn server(folder: &Path) -> (Server, u16) {
    let mut server = Server::start_on(&folder.join("data"), "127.0.0.1:0", &REDIS_PORT);
    let port = port(&mut server);
    (server, port)
}

/// How long it takes from the signal to the end of the process.
fn drained(server: Server) -> Duration {
    let began = Instant::now();
    server.terminate();
    began.elapsed()
}

/// A stream that is more than what is on its way to a reader who reads nothing: 24 MB.
fn fill(port: u16) {
    let mut client = Client::connect(port);
    let data = "x".repeat(900_000);
    for _ in 0..27 {
        client.send(
            format!("*5\r\n$4\r\nXADD\r\n$3\r\nbig\r\n$1\r\n*\r\n$4\r\ndata\r\n$900000\r\n{data}\r\n").as_bytes(),
        );
        assert!(client.reply().starts_with('$'));
    }
}

fn http(server: &Server, request: &str) -> TcpStream {
    let address = server.url.strip_prefix("http://").expect("plain");
    let mut socket = TcpStream::connect(address).expect("it listens");
    socket.write_all(request.as_bytes()).expect("sent");
    socket
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

#[test]
fn readers_that_do_not_read_do_not_keep_a_server_from_ending() {
    let folder = tempfile::tempdir().expect("a folder");
    for deaf in ["view", "tail", "replies", "page"] {
        let (server, port) = server(folder.path());
        if deaf == "view" {
            fill(port);
        }
        let runtime = runtime();
        let (mut sockets, mut tails) = (Vec::new(), Vec::new());
        match deaf {
            "view" => {
                sockets.push(http(&server, "GET /streams/big/live?from=earliest HTTP/1.1\r\nhost: x\r\n\r\n"));
            }
            "page" => {
                for _ in 0..16 {
                    let ask = "GET /streams/big/messages HTTP/1.1\r\nhost: x\r\n\r\n".repeat(16);
                    sockets.push(http(&server, &ask));
                }
            }
            "replies" => {
                let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
                socket.write_all(&b"XRANGE big - +\r\n".repeat(4)).expect("sent");
                sockets.push(socket);
            }
            _ => tails.push(runtime.block_on(async {
                let mut events = EventServiceClient::connect(server.url.clone()).await.expect("it listens");
                let from = Some(v1::Position { position: Some(position::Position::Earliest(())) });
                let request = v1::TailEventsRequest { stream: "big".into(), from, ..Default::default() };
                events.tail_events(request).await.expect("it opens").into_inner()
            })),
        }
        std::thread::sleep(Duration::from_millis(500));
        let took = drained(server);
        assert!(took < SOON, "{deaf}: the drain took {took:?}");
        drop((sockets, tails));
    }
}

#[test]
fn whoever_waits_is_told_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, port) = server(folder.path());
    fill(port);
    let mut redis = Client::connect(port);
    assert_eq!(redis.ask("XGROUP CREATE big g $"), "+OK\r\n");
    redis.send(b"XREADGROUP GROUP g c BLOCK 0 STREAMS big >\r\n");
    let mut idle = Client::connect(port);
    assert_eq!(idle.ask("PING"), "+PONG\r\n");
    let pull = r#"{"consumer":"c","wait":"30s"}"#;
    let head = format!("POST /streams/big/groups/g/pull HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", pull.len());
    let mut pulling = http(&server, &format!("{head}{pull}"));
    let runtime = runtime();
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let mut session = runtime.block_on(async {
        let mut consumers = ConsumerServiceClient::connect(server.url.clone()).await.expect("it listens");
        let start =
            v1::ConsumeOpen { stream: "big".into(), group: "g".into(), consumer: "d".into(), ..Default::default() };
        let start = v1::ConsumeRequest { request: Some(consume_request::Request::Open(start)) };
        sender.send(start).await.expect("room");
        consumers.consume(tokio_stream::wrappers::ReceiverStream::new(receiver)).await.expect("it opens").into_inner()
    });
    std::thread::sleep(Duration::from_millis(300));
    let took = drained(server);
    assert!(took < SOON, "the drain took {took:?}");
    let mut told = String::new();
    pulling.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
    pulling.read_to_string(&mut told).expect("an answer and the end");
    assert!(told.contains("DRAINING"), "{told}");
    let ended = runtime.block_on(async {
        loop {
            match session.message().await {
                Ok(Some(_)) => {}
                ended => return ended,
            }
        }
    });
    let ended = ended.expect_err("a reason");
    let reason = ended.get_error_details().error_info().map(|info| info.reason.clone());
    assert_eq!(reason.as_deref(), Some("DRAINING"), "{ended}");
    assert!(redis.is_closed() && idle.is_closed());
}

#[test]
fn a_request_under_way_is_finished() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, _) = server(folder.path());
    let body = r#"{"event":"late"}"#;
    let head = format!("POST /events/s HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{}", body.len(), &body[..4]);
    let mut publishing = http(&server, &head);
    std::thread::sleep(Duration::from_millis(200));
    let rest = std::thread::spawn(move || {
        // Longer than who reads nothing is waited for.
        std::thread::sleep(Duration::from_millis(1500));
        publishing.write_all(&body.as_bytes()[4..]).expect("sent");
        let mut answer = String::new();
        publishing.read_to_string(&mut answer).expect("an answer and the end");
        answer
    });
    std::thread::sleep(Duration::from_millis(200));
    server.terminate();
    let answer = rest.join().expect("no panic");
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}
