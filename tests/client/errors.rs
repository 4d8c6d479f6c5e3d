//! What goes wrong is told precisely, and in time.

use std::time::Duration;

use futures::StreamExt;
use synapse::client::{Client, ErrorKind, Event, StartAt};
use synapse::error::Reason;

use crate::server::Server;

/// A key with its digest, which may do everything to the streams that begin with `a`.
const KEY: &str = "syn_test";
const GRANTS: &str = r#"[{"name":"tester","sha256":"DIGEST","grants":[{"streams":"a*","permissions":["publish","consume","read","admin"]}]}]"#;

fn start(folder: &tempfile::TempDir, flags: &[&str]) -> Server {
    Server::start_on(&folder.path().join("data"), "127.0.0.1:0", flags)
}

/// Runs a future that must end on its own.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("it does not hang")
}

fn tls(name: &str) -> String {
    format!("{}/tests/cli/tls/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn pem(name: &str) -> Vec<u8> {
    std::fs::read(tls(name)).expect("the file is there")
}

#[tokio::test]
async fn nobody_listening_is_unreachable() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(&folder, &[]);
    let url = server.url.clone();
    let client = Client::connect(&url).await.expect("it listens");
    server.kill();
    let error = soon(Client::connect(&url)).await.err().expect("nobody listens");
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unreachable, true), "{error:?}");
    // A connection that was there, and one that is made with the first request.
    soon(client.publish("s", vec![Event::new("t", "")])).await.expect_err("gone");
    let lazy = Client::builder(&url).connect_lazily().expect("valid");
    let error = soon(lazy.publish("s", vec![Event::new("t", "")])).await.expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
}

#[tokio::test]
async fn a_server_that_says_nothing_times_out() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("bound"));
    let limit = Duration::from_millis(300);
    let client = Client::builder(url).connect_timeout(limit).request_timeout(limit).connect_lazily().expect("valid");
    let error = soon(client.publish("s", vec![Event::new("t", "")])).await.expect_err("no answer");
    assert!(matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Unreachable), "{error:?}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn what_is_no_server_of_ours_is_told_in_time_and_never_as_a_refusal() {
    use std::io::{Read, Write};
    for answer in [&b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"[..], b"-ERR unknown command\r\n", b""] {
        let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", other.local_addr().expect("bound"));
        std::thread::spawn(move || {
            for mut stream in other.incoming().flatten() {
                // Whoever asked may be gone already.
                let _ = stream.read(&mut [0; 24]).and_then(|_| stream.write_all(answer));
            }
        });
        let client = Client::builder(&url).connect_lazily().expect("valid");
        let error = soon(client.publish("s", vec![Event::new("t", "")])).await.expect_err("nobody published it");
        assert!(matches!(error.kind(), ErrorKind::Lost | ErrorKind::Unreachable), "{error:?}");
        assert!((error.reason(), error.message().is_empty()) == (None, false), "{error:?}");
        let tail = soon(client.stream("s").tail(StartAt::Earliest)).await;
        assert!(tail.err().is_some_and(|error| error.kind() != ErrorKind::Refused), "a tail of nothing");
    }
}

#[tokio::test]
async fn refusals_have_reasons() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(&folder, &[]);
    let client = Client::connect(&server.url).await.expect("it listens");
    let missing = client.group("none", "g").get().await.expect_err("no such stream");
    assert_eq!((missing.kind(), missing.reason()), (ErrorKind::Refused, Some(Reason::StreamNotFound)));
    assert!(!missing.is_retryable());
    let bad = client.publish("s", vec![Event::new("t\n", "")]).await.expect_err("bad event");
    assert_eq!((bad.reason(), bad.violations()[0].field.as_str()), (Some(Reason::InvalidEvent), "events[0].type"));
    let tail = client.stream("none").tail(StartAt::Latest).await.err().expect("no such stream");
    assert_eq!(tail.reason(), Some(Reason::StreamNotFound));
    server.kill();
}

#[tokio::test]
async fn keys_are_checked() {
    use sha2::Digest;
    let digest: String = sha2::Sha256::digest(KEY).iter().map(|b| format!("{b:02x}")).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(&folder, &["--api-keys", &GRANTS.replace("DIGEST", &digest)]);
    let event = || vec![Event::new("t", "")];
    for key in [None, Some("syn_wrong")] {
        let builder = Client::builder(&server.url);
        let builder = key.into_iter().fold(builder, |b, key| b.api_key(key));
        let error = builder.connect().await.expect("it listens").publish("a", event()).await.expect_err("no key");
        assert_eq!(error.reason(), Some(Reason::Unauthenticated), "{key:?}");
    }
    let client = Client::builder(&server.url).api_key(KEY).connect().await.expect("it listens");
    client.publish("a", event()).await.expect("allowed");
    let error = client.publish("b", event()).await.expect_err("not allowed");
    assert_eq!(error.reason(), Some(Reason::PermissionDenied));
    server.kill();
}

#[tokio::test]
async fn tls_is_checked_both_ways() {
    let folder = tempfile::tempdir().expect("a folder");
    let (cert, key, ca) = (tls("server.pem"), tls("server.key"), tls("ca.pem"));
    let server = start(&folder, &["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &ca]);
    let with_ca = || Client::builder(&server.url).ca_certificate(pem("ca.pem"));
    let client = with_ca().client_certificate(pem("client.pem"), pem("client.key")).connect().await;
    client.expect("known").publish("s", vec![Event::new("t", "")]).await.expect("published");
    let other = soon(Client::builder(&server.url).ca_certificate(pem("client.pem")).connect()).await;
    assert_eq!(other.err().expect("another authority").kind(), ErrorKind::Unreachable);
    // The server may tell of the missing certificate only after the handshake.
    if let Ok(client) = soon(with_ca().connect()).await {
        soon(client.publish("s", vec![Event::new("t", "")])).await.expect_err("no certificate");
    }
    server.kill();
}

#[tokio::test]
async fn a_tail_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let server = Server::start(&data);
    let address = server.url.trim_start_matches("http://").to_owned();
    let client = Client::connect(&server.url).await.expect("it listens");
    client.publish("s", vec![Event::new("t", "0")]).await.expect("published");
    let mut tail = client.stream("s").tail(StartAt::Earliest).await.expect("opened");
    assert_eq!(tail.next().await.expect("goes on").expect("an entry").event.data, "0");
    server.kill();
    let server = Server::start_on(&data, &address, &[]);
    let client = Client::connect(&server.url).await.expect("it listens");
    client.publish("s", vec![Event::new("t", "1")]).await.expect("published");
    assert_eq!(soon(tail.next()).await.expect("goes on").expect("an entry").event.data, "1");
    server.kill();
}
