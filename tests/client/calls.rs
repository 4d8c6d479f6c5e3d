//! Single calls: publish, read, tail, the catalogue, groups, dead letters.

use std::time::Duration;

use futures::StreamExt;
use synapse::client::{Client, Event, Gap, Letters, Nack, ReadRange, StartAt};
use synapse::error::Reason;
use synapse::proto::v1::{self, GroupSettings, RedriveTarget, StreamSettings, TrimStreamRequest};
use synapse::types::EntryId;

use crate::server::Server;

fn events(numbers: std::ops::Range<u32>) -> Vec<Event> {
    numbers.map(|n| Event::new("counted", n.to_string()).with_source("test")).collect()
}

async fn start() -> (tempfile::TempDir, Server, Client) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder.path().join("data"));
    let client = Client::connect(&server.url).await.expect("it listens");
    (folder, server, client)
}

#[tokio::test]
async fn events_are_published_read_and_tailed() {
    let (_folder, server, client) = start().await;
    let stream = client.stream("s");
    let published = stream.publish(events(0..5)).await.expect("published");
    assert_eq!((published.ids.len(), published.duplicate), (5, false));
    let page = stream.read(ReadRange { entries_max: 3, ..Default::default() }).await.expect("read");
    let seen: Vec<EntryId> = page.entries.iter().map(|e| e.id).collect();
    assert_eq!(seen, published.ids[..3]);
    assert_eq!((&page.entries[1].event.data[..], page.entries[1].event.source.as_str()), (&b"1"[..], "test"));
    let rest = stream.read(page.next.expect("there is more")).await.expect("read");
    assert_eq!((rest.entries.len(), rest.next), (2, None));
    let back = stream.read(ReadRange { reverse: true, entries_max: 1, ..Default::default() }).await.expect("read");
    assert_eq!(back.entries[0].id, published.ids[4]);

    let mut all = stream.tail(StartAt::After(published.first())).await.expect("opened");
    let mut new = stream.tail(StartAt::Latest).await.expect("opened");
    let more = client.publish("s", events(5..6)).await.expect("published");
    for id in published.ids[1..].iter().chain(&more.ids) {
        assert_eq!(all.next().await.expect("goes on").expect("an entry").id, *id);
    }
    assert_eq!(new.next().await.expect("goes on").expect("an entry").id, more.first());
    server.kill();
}

#[tokio::test]
async fn a_tail_tells_what_was_trimmed_before_it_got_there() {
    let (_folder, server, client) = start().await;
    let stream = client.stream("s");
    let ids = stream.publish(events(0..5)).await.expect("published").ids;
    let trim = TrimStreamRequest { before_id: Some(ids[3].into()), ..Default::default() };
    stream.trim(trim).await.expect("trimmed");
    let mut tail = stream.tail(StartAt::After(ids[0])).await.expect("opened");
    assert_eq!(tail.next().await.expect("goes on").expect("an entry").id, ids[3]);
    assert_eq!(tail.take_gap(), Some(Gap { after: ids[0], before: ids[3], missed: None }));
    assert_eq!(tail.next().await.expect("goes on").expect("an entry").id, ids[4]);
    assert_eq!(tail.take_gap(), None);
    let page = stream.read(ReadRange { first: Some(ids[1]), ..Default::default() }).await.expect("read");
    assert_eq!((page.entries.len(), page.trimmed_before), (2, Some(ids[3])));
    server.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_administered() {
    let (_folder, server, client) = start().await;
    let stream = client.stream("s");
    let settings = StreamSettings { description: "first".into(), ..Default::default() };
    assert_eq!(stream.create(settings.clone()).await.expect("made").name, "s");
    assert_eq!(stream.create(settings).await.expect_err("exists").reason(), Some(Reason::StreamExists));
    let settings = StreamSettings { description: "second".into(), ..Default::default() };
    let info = stream.update(settings, &["description"]).await.expect("changed");
    assert_eq!(info.settings.expect("settings").description, "second");
    let ids = stream.publish(events(0..10)).await.expect("published").ids;
    assert_eq!(stream.delete_events(&ids[8..9]).await.expect("deleted"), 1);
    let trim = TrimStreamRequest { keep_entries: Some(4), ..Default::default() };
    assert_eq!(stream.trim(trim).await.expect("trimmed").entries, 5);
    assert_eq!(stream.get().await.expect("there").length, 4);
    let names: Vec<String> = client.list_streams("s").await.expect("listed").into_iter().map(|s| s.name).collect();
    assert_eq!(names, ["s"]);
    stream.delete().await.expect("deleted");
    assert_eq!(stream.get().await.expect_err("gone").reason(), Some(Reason::StreamNotFound));
    server.terminate();
}

#[tokio::test]
async fn groups_are_administered_and_pulled_from() {
    let (_folder, server, client) = start().await;
    let ids = client.publish("s", events(0..4)).await.expect("published").ids;
    let group = client.group("s", "g");
    group.create(StartAt::Earliest, GroupSettings::default()).await.expect("made");
    let settings = GroupSettings { description: "work".into(), ..Default::default() };
    group.update(settings, &["description"]).await.expect("changed");

    let batch = group.pull("c", 10, Duration::ZERO).await.expect("pulled");
    assert_eq!(batch.entries.iter().map(|d| d.entry.id).collect::<Vec<_>>(), ids);
    assert_eq!((batch.lease, batch.entries[0].deliveries), (Duration::from_secs(30), 1));
    assert_eq!(group.ack(&batch.token, &ids[..1]).await.expect("settled").done, 1);
    let again = group.ack(&batch.token, &ids[..1]).await.expect("settled");
    assert_eq!((again.done, again.not_pending), (0, ids[..1].to_vec()));
    let derived = v1::PublishRequest { stream: "out".into(), events: events(9..10), ..Default::default() };
    let settled = group.ack_and_publish(&batch.token, &ids[1..2], vec![derived]).await.expect("settled");
    assert_eq!((settled.done, settled.published[0].ids.len()), (1, 1));
    let lease = Some(Duration::from_secs(60));
    assert_eq!(group.extend(&batch.token, &ids[2..3], lease).await.expect("extended").done, 1);
    let bad = Nack::DeadLetter("no use".into());
    assert_eq!(group.nack(&batch.token, &ids[2..4], bad).await.expect("settled").done, 2);
    assert!(group.pending(EntryId::ZERO, 0).await.expect("listed").is_empty());

    let (letters, _) = group.dead_letters(EntryId::ZERO, 0).await.expect("listed");
    assert_eq!(letters.iter().map(|l| l.reason.as_str()).collect::<Vec<_>>(), ["no use", "no use"]);
    let first = letters[0].event.as_ref().and_then(|e| e.id).expect("an id").into();
    group.purge(Letters::These(&[first])).await.expect("purged");
    assert_eq!(group.redrive(Letters::All, RedriveTarget::Group).await.expect("sent back").done, 1);
    let batch = group.pull("c", 10, Duration::ZERO).await.expect("pulled");
    assert_eq!(batch.entries[0].entry.id, ids[3]);
    let claimed = group.claim("d", &ids[3..], Duration::ZERO).await.expect("claimed");
    assert_eq!(claimed.entries.len(), 1);
    assert_eq!(group.remove_consumer("d").await.expect("removed"), 1);
    assert_eq!(group.consumers().await.expect("listed").len(), 1);
    assert!(group.seek(StartAt::Earliest, true).await.expect("looked").backwards);
    assert_eq!(client.stream("s").list_groups().await.expect("listed").len(), 1);
    group.delete().await.expect("deleted");
    server.kill();
}
