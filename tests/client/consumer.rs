//! The consumer: leases, handing back, draining, lost sessions.

use std::time::Duration;

use futures::StreamExt;
use synapse::client::{Client, Consumer, ErrorKind, Message, Nack, StartAt};
use synapse::error::Reason;
use synapse::proto::v1::GroupSettings;
use synapse::types::EntryId;

use crate::publisher::{event, number};
use crate::server::Server;

const PATIENCE: Duration = Duration::from_secs(30);

/// A server whose stream has so many events, and a group with that lease over them.
async fn start(count: u64, ack_wait: Duration) -> (tempfile::TempDir, Server, Client) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder.path().join("data"));
    let client = Client::connect(&server.url).await.expect("it listens");
    client.publish("s", (0..count).map(event).collect()).await.expect("published");
    let ack_wait = prost_types::Duration::try_from(ack_wait).ok();
    let settings = GroupSettings { ack_wait, ..Default::default() };
    client.group("s", "g").create(StartAt::Earliest, settings).await.expect("made");
    (folder, server, client)
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it does not hang")
}

async fn next(consumer: &mut Consumer) -> Message {
    soon(consumer.next()).await.expect("it goes on").expect("a message")
}

/// Entries delivered and not acknowledged, waiting ones among them.
async fn pending(client: &Client) -> (u64, u64) {
    let info = client.group("s", "g").get().await.expect("there");
    (info.pending, info.waiting)
}

#[tokio::test]
async fn messages_are_settled_by_value() {
    let (_folder, server, client) = start(5, Duration::from_secs(30)).await;
    let mut consumer = client.consumer("s", "g").name("c").start().expect("valid");
    let mut messages = Vec::new();
    for n in 0..5 {
        let message = next(&mut consumer).await;
        assert_eq!((number(message.event()), message.deliveries(), message.failures()), (n, 1, 0));
        messages.push(message);
    }
    let mut messages = messages.into_iter();
    let mut one = || messages.next().expect("five");
    soon(one().ack()).await.expect("acknowledged");
    soon(one().nack(Nack::Skip)).await.expect("skipped");
    soon(one().nack(Nack::DeadLetter("bad".into()))).await.expect("moved");
    soon(one().nack(Nack::HandBack)).await.expect("handed back");
    let again = next(&mut consumer).await;
    assert_eq!((number(again.event()), again.deliveries(), again.failures()), (3, 2, 0));
    soon(one().nack(Nack::Retry(None))).await.expect("to be tried again");
    let failed = next(&mut consumer).await;
    assert_eq!((number(failed.event()), failed.deliveries(), failed.failures()), (4, 2, 1));
    soon(futures::future::try_join(again.ack(), failed.ack())).await.expect("acknowledged");
    assert_eq!(pending(&client).await, (0, 0));
    let (letters, _) = client.group("s", "g").dead_letters(EntryId::ZERO, 0).await.expect("listed");
    assert_eq!(letters.len(), 1);
    server.kill();
}

#[tokio::test]
async fn a_held_message_keeps_its_lease_and_a_dropped_one_loses_it() {
    let (_folder, server, client) = start(2, Duration::from_millis(400)).await;
    let mut consumer = client.consumer("s", "g").start().expect("valid");
    let held = next(&mut consumer).await;
    drop(next(&mut consumer).await);
    let again = next(&mut consumer).await;
    assert_eq!((number(again.event()), again.failures()), (1, 1), "the dropped one came again");
    soon(again.ack()).await.expect("acknowledged");
    // Several leases later.
    tokio::time::timeout(Duration::from_millis(1500), consumer.next()).await.err().expect("nothing comes again");
    soon(held.ack()).await.expect("held all the time");
    assert_eq!(pending(&client).await, (0, 0));
    server.kill();
}

#[tokio::test]
async fn extension_ends_and_a_late_acknowledgement_is_told() {
    let (_folder, server, client) = start(1, Duration::from_millis(300)).await;
    let mut consumer = client.consumer("s", "g").extend_for(Duration::ZERO).start().expect("valid");
    let slow = next(&mut consumer).await;
    let again = next(&mut consumer).await;
    assert_eq!((again.id(), again.failures()), (slow.id(), 1));
    soon(again.ack()).await.expect("acknowledged");
    let error = soon(slow.ack()).await.expect_err("too late");
    assert_eq!(error.kind(), ErrorKind::NotHeld, "{error:?}");
    server.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_waits_for_handlers_and_hands_back_the_rest() {
    let (_folder, server, client) = start(10, Duration::from_secs(30)).await;
    let mut consumer = client.consumer("s", "g").window(10, 1 << 20).start().expect("valid");
    let (first, second) = (next(&mut consumer).await, next(&mut consumer).await);
    let draining = tokio::spawn(consumer.drain(Duration::from_secs(1)));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(pending(&client).await, (10, 8), "what nobody took was handed back");
    soon(first.ack()).await.expect("still held");
    let drained = soon(draining).await.expect("it ran").expect("drained");
    assert_eq!(drained.handed_back, 9);
    assert_eq!(soon(second.ack()).await.expect_err("handed back").kind(), ErrorKind::NotHeld);
    let mut other = client.consumer("s", "g").start().expect("valid");
    for _ in 0..9 {
        let message = next(&mut other).await;
        assert_eq!(message.failures(), 0);
        soon(message.ack()).await.expect("acknowledged");
    }
    drop(other);
    server.terminate();
}

#[tokio::test]
async fn acknowledgements_of_a_lost_session_are_told_as_lost() {
    let (folder, server, client) = start(3, Duration::from_millis(500)).await;
    let address = server.url.trim_start_matches("http://").to_owned();
    let mut consumer = client.consumer("s", "g").start().expect("valid");
    let held = next(&mut consumer).await;
    soon(next(&mut consumer).await.ack()).await.expect("acknowledged");
    let third = next(&mut consumer).await;
    server.kill();
    let server = Server::start_on(&folder.path().join("data"), &address, &[]);
    let mut seen: Vec<u64> = Vec::new();
    for _ in 0..2 {
        let message = next(&mut consumer).await;
        seen.push(number(message.event()));
        soon(message.ack()).await.expect("the new session holds it");
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 2], "what was not acknowledged came again");
    for message in [held, third] {
        let error = soon(message.ack()).await.expect_err("its session is lost");
        assert_eq!(error.kind(), ErrorKind::NotHeld, "{error:?}");
    }
    assert_eq!(pending(&client).await, (0, 0));
    server.kill();
}

#[tokio::test]
async fn what_trying_again_cannot_help_ends_the_stream() {
    let (_folder, server, client) = start(1, Duration::from_secs(1)).await;
    let mut consumer = client.consumer("s", "none").start().expect("valid");
    let error = soon(consumer.next()).await.expect("told").err().expect("no such group");
    assert_eq!(error.reason(), Some(Reason::GroupNotFound));
    assert!(soon(consumer.next()).await.is_none(), "it is the last item");
    soon(consumer.drain(Duration::ZERO)).await.expect_err("it has ended");

    let mut consumer = client.consumer("s", "g").reconnect_for(Duration::from_secs(1)).start().expect("valid");
    soon(next(&mut consumer).await.ack()).await.expect("acknowledged");
    server.kill();
    let error = soon(consumer.next()).await.expect("told").err().expect("the server stays away");
    assert!(matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Lost), "{error:?}");
}
