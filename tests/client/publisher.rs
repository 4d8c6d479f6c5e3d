//! The publisher: bounds, errors, and what it keeps of its promises when its server is killed.

use std::time::Duration;

use synapse::client::{Client, ErrorKind, Event, ReadRange};
use synapse::error::Reason;
use synapse::types::EntryId;

use crate::server::Server;

/// Everything that is in the stream: ids and data.
pub(crate) async fn read_all(client: &Client, stream: &str) -> Vec<(EntryId, u64)> {
    let (mut found, mut range) = (Vec::new(), Some(ReadRange { entries_max: 10_000, ..Default::default() }));
    while let Some(next) = range {
        let page = client.stream(stream).read(next).await.expect("read");
        found.extend(page.entries.iter().map(|entry| (entry.id, number(&entry.event))));
        range = page.next;
    }
    found
}

pub(crate) fn event(number: u64) -> Event {
    Event::new("counted", number.to_string()).with_source("publisher")
}

pub(crate) fn number(event: &Event) -> u64 {
    std::str::from_utf8(&event.data).ok().and_then(|text| text.parse().ok()).expect("a number")
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("it does not hang")
}

#[tokio::test]
async fn events_are_appended_in_order_and_receipts_tell_their_ids() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder.path().join("data"));
    let client = Client::connect(&server.url).await.expect("it listens");
    let publisher = client.publisher("s").start().expect("valid");
    let mut receipts = Vec::new();
    for n in 0..5000 {
        receipts.push(publisher.publish(event(n)).await.expect("accepted"));
    }
    publisher.close().await.expect("published");
    let mut ids = Vec::new();
    for receipt in receipts {
        ids.push(soon(receipt).await.expect("appended").id);
    }
    let found = read_all(&client, "s").await;
    assert_eq!(found, ids.into_iter().zip(0..5000).collect::<Vec<_>>());
    server.kill();
}

#[tokio::test]
async fn a_full_publisher_waits_and_a_closed_one_refuses() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let server = Server::start(&data);
    let address = server.url.trim_start_matches("http://").to_owned();
    let client = Client::connect(&server.url).await.expect("it listens");
    server.kill();
    let publisher = client.publisher("s").in_flight(3, 1 << 20).start().expect("valid");
    for n in 0..3 {
        drop(publisher.publish(event(n)).await.expect("there is room"));
    }
    tokio::time::timeout(Duration::from_millis(100), publisher.publish(event(9))).await.err().expect("no room");
    let server = Server::start_on(&data, &address, &[]);
    drop(soon(publisher.publish(event(3))).await.expect("there is room again"));
    soon(publisher.clone().close()).await.expect("published");
    let error = publisher.publish(event(4)).await.err().expect("closed");
    assert_eq!(error.kind(), ErrorKind::Closed);
    let numbers: Vec<u64> = read_all(&client, "s").await.into_iter().map(|(_, n)| n).collect();
    assert_eq!(numbers, [0, 1, 2, 3], "what was taken back is not there");
    server.kill();
}

#[tokio::test]
async fn a_server_that_stays_away_is_told_in_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder.path().join("data"));
    let client = Client::connect(&server.url).await.expect("it listens");
    let publisher = client.publisher("s").retry_for(Duration::from_secs(1)).start().expect("valid");
    soon(publisher.publish(event(0)).await.expect("accepted")).await.expect("appended");
    server.kill();
    let receipt = publisher.publish(event(1)).await.expect("accepted");
    let error = soon(receipt).await.expect_err("nobody is there");
    assert!(matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Lost), "{error:?}");
    soon(publisher.close()).await.expect_err("it failed");
}

#[tokio::test]
async fn refused_events_are_told_from_their_neighbours() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder.path().join("data"));
    let client = Client::connect(&server.url).await.expect("it listens");
    let publisher = client.publisher("s").linger(Duration::from_secs(60)).start().expect("valid");
    let mut receipts = Vec::new();
    for event in [event(0), event(1).with_attribute("id", "reserved"), event(2)] {
        receipts.push(publisher.publish(event).await.expect("accepted"));
    }
    let failed = soon(publisher.flush()).await.expect_err("one is bad");
    assert_eq!(failed.reason(), Some(Reason::InvalidEvent), "{failed:?}");
    let mut retryable = Vec::new();
    for receipt in receipts {
        retryable.push(receipt.await.expect_err("one request").is_retryable());
    }
    assert_eq!(retryable, [true, false, true]);
    drop(publisher.publish(event(3)).await.expect("accepted"));
    soon(publisher.flush()).await.expect("one failure is told once");
    server.kill();
}
