//! A publisher and the consumers of two groups while their server is killed, or drains, and is started again: nothing is
//! lost, nothing is stored twice, order is kept. 100,000 events, or `SYNAPSE_CLIENT_EVENTS`.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use synapse::client::{Client, ErrorKind, Receipt, Settling, StartAt};
use synapse::proto::v1::GroupSettings;
use synapse::types::EntryId;

use crate::publisher::{event, number, read_all};
use crate::server::Server;

/// Restarts after SIGKILL; one more follows in which the server drains first.
const KILLS: u64 = 3;
const RESTARTS: u64 = KILLS + 1;
const GROUPS: [&str; 2] = ["g1", "g2"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_doubled_or_reordered_when_the_server_is_killed() {
    let count = std::env::var("SYNAPSE_CLIENT_EVENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let server = Server::start(&data);
    let address = server.url.trim_start_matches("http://").to_owned();
    let client = Client::connect(&server.url).await.expect("it listens");
    for group in GROUPS {
        let ack_wait = Some(prost_types::Duration { seconds: 2, nanos: 0 });
        let settings = GroupSettings { ack_wait, ..Default::default() };
        client.group("s", group).create(StartAt::Earliest, settings).await.expect("made");
    }
    let started = Instant::now();
    let answered = Arc::new(AtomicU64::new(0));
    let publishing = tokio::spawn(publish(client.clone(), count, answered.clone()));
    let consuming: Vec<_> = GROUPS.map(|group| tokio::spawn(consume(client.clone(), group, count))).into();
    let server = restart_on_the_way(server, data, address, count, &answered).await;

    let ids = publishing.await.expect("it ran");
    let published_in = started.elapsed();
    for (group, consuming) in GROUPS.into_iter().zip(consuming) {
        let seen = consuming.await.expect("it ran");
        assert!(seen.first == ids, "{group} saw other entries than were published");
        assert!(seen.descents <= RESTARTS, "{group}: first deliveries came out of order {} times", seen.descents);
        eprintln!("{group}: {} deliveries, {} acknowledgements lost with their session", seen.deliveries, seen.lost);
    }
    let stored = read_all(&client, "s").await;
    assert!(stored == ids.into_iter().zip(0..count).collect::<Vec<_>>(), "the stream is not what was published");
    eprintln!("{count} events: published in {published_in:?}, consumed twice in {:?}", started.elapsed());
    server.kill();
}

/// Publishes all events, and says their ids.
async fn publish(client: Client, count: u64, answered: Arc<AtomicU64>) -> Vec<EntryId> {
    let publisher = client.publisher("s").start().expect("valid");
    let (mut ids, mut receipts) = (Vec::new(), VecDeque::<Receipt>::new());
    for n in 0..count {
        receipts.push_back(publisher.publish(event(n)).await.expect("accepted"));
        if receipts.len() >= 5_000 {
            let receipt = receipts.pop_front().expect("there are some");
            ids.push(receipt.await.expect("appended").id);
            answered.store(ids.len() as u64, Ordering::Relaxed);
        }
    }
    for receipt in receipts {
        ids.push(receipt.await.expect("appended").id);
    }
    publisher.close().await.expect("everything was appended");
    answered.store(count, Ordering::Relaxed);
    ids
}

/// What a group saw.
struct Seen {
    /// The id under which each number was seen first.
    first: Vec<EntryId>,
    /// First deliveries below the one before.
    descents: u64,
    deliveries: u64,
    /// Acknowledgements that were told as lost.
    lost: u64,
}

/// Consumes until the group has nothing left.
async fn consume(client: Client, group: &'static str, count: u64) -> Seen {
    let mut consumer = client.consumer("s", group).window(10_000, 8 << 20).start().expect("valid");
    let mut seen = Seen { first: vec![EntryId::ZERO; count as usize], descents: 0, deliveries: 0, lost: 0 };
    let (mut last, mut left) = (EntryId::ZERO, count);
    let mut settling = VecDeque::<Settling>::new();
    loop {
        let next = tokio::time::timeout(Duration::from_millis(500), consumer.next()).await;
        if let Ok(next) = next {
            let message = next.expect("it goes on").expect("a message");
            let slot = &mut seen.first[number(message.event()) as usize];
            assert!(*slot == EntryId::ZERO || *slot == message.id(), "one number, two entries");
            left -= u64::from(*slot == EntryId::ZERO);
            *slot = message.id();
            if message.deliveries() == 1 {
                seen.descents += u64::from(message.id() < last);
                last = message.id();
            }
            seen.deliveries += 1;
            settling.push_back(message.ack());
        }
        // Everything was seen: what is to be settled is all there is to do.
        while settling.len() > 2_000 || (left == 0 && !settling.is_empty()) {
            let told = settling.pop_front().expect("there are some").await;
            if let Err(error) = told {
                assert_eq!(error.kind(), ErrorKind::NotHeld, "{error:?}");
                seen.lost += 1;
            }
        }
        if left == 0 && settling.is_empty() {
            let info = client.group("s", group).get().await.expect("there");
            if info.pending == 0 && info.undelivered == 0 {
                return seen;
            }
        }
    }
}

/// Ends the server and starts it again whenever another part of the events was answered.
async fn restart_on_the_way(
    mut server: Server,
    data: PathBuf,
    address: String,
    count: u64,
    answered: &AtomicU64,
) -> Server {
    for part in 1..=RESTARTS {
        while answered.load(Ordering::Relaxed) < count * part / (RESTARTS + 1) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let (data, address) = (data.clone(), address.clone());
        let restart = move || {
            if part <= KILLS {
                server.kill()
            } else {
                server.terminate()
            }
            Server::start_on(&data, &address, &[])
        };
        server = tokio::task::spawn_blocking(restart).await.expect("it starts again");
    }
    server
}
