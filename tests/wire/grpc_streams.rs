//! The catalogue of streams over gRPC: make, show, list, change, delete, trim; and reading without a group.

use prost_types::{Duration, FieldMask, Timestamp};
use synapse::proto::v1::read_events_request::{End, Start};
use synapse::proto::v1::{self, EntryId, position};
use tonic::Code;

use crate::grpc::{Server, assert_refused, big, event, failed, id, next, read_ids};

fn settings() -> v1::StreamSettings {
    v1::StreamSettings {
        description: "what it is for".into(),
        durability: v1::Durability::Os as i32,
        retention: Some(v1::Retention {
            entries_max: Some(1000),
            bytes_max: Some(1 << 30),
            age_max: Some(Duration { seconds: 3600, nanos: 5_000_000 }),
            until_acknowledged: true,
        }),
        dedup: Some(v1::DedupSettings {
            by_event_id: true,
            window: Some(Duration { seconds: 1, nanos: 0 }),
            producers_max: Some(5),
            event_ids_max: Some(0),
        }),
    }
}

async fn read(server: &Server, request: v1::ReadEventsRequest) -> v1::ReadEventsResponse {
    let request = v1::ReadEventsRequest { stream: "s".into(), ..request };
    server.events().read_events(request).await.expect("read").into_inner()
}

fn time(ms: u64) -> Timestamp {
    Timestamp { seconds: (ms / 1000) as i64, nanos: (ms % 1000) as i32 * 1_000_000 }
}

#[tokio::test]
async fn streams_are_made_shown_changed_and_deleted() {
    let server = Server::start().await;
    let create = || v1::CreateStreamRequest { stream: "s".into(), settings: Some(settings()) };
    let made = server.streams().create_stream(create()).await.expect("made").into_inner().info.expect("always set");
    assert_eq!((made.name.as_str(), made.settings.as_ref()), ("s", Some(&settings())));
    assert_eq!((made.length, made.bytes, made.appended), (0, 0, 0));
    assert_eq!((made.first_id, made.last_id, made.deleted_id_max), (None, Some(id(0, 0)), Some(id(0, 0))));
    assert!(made.create_time.is_some_and(|t| t.seconds > 1_700_000_000));
    assert_eq!(server.stream_info("s").await, made);

    let ids = server.fill("s", 0..3).await;
    server.group("s", "g", v1::GroupSettings::default()).await;
    let info = server.stream_info("s").await;
    assert_eq!((info.length, info.appended, info.groups.as_slice()), (3, 3, ["g".to_owned()].as_slice()));
    assert_eq!((info.first_id, info.last_id), (Some(ids[0]), Some(ids[2])));

    let new = v1::StreamSettings { description: "new".into(), ..Default::default() };
    let update = |paths: &[&str]| v1::UpdateStreamRequest {
        stream: "s".into(),
        settings: Some(new.clone()),
        update_mask: Some(FieldMask { paths: paths.iter().map(|p| (*p).to_owned()).collect() }),
    };
    let one = server.streams().update_stream(update(&["description"])).await.expect("changed").into_inner();
    let one = one.info.and_then(|i| i.settings).expect("always set");
    assert_eq!(one, v1::StreamSettings { description: "new".into(), ..settings() });
    let all = server.streams().update_stream(update(&[])).await.expect("changed").into_inner();
    let all = all.info.expect("always set");
    let now = all.settings.clone().expect("always set");
    assert_eq!((now.description.as_str(), now.durability, now.retention), ("new", 0, Some(v1::Retention::default())));
    assert_eq!(now.dedup.and_then(|d| d.window), Some(Duration { seconds: 120, nanos: 0 }));
    assert_eq!(server.stream_info("s").await, all);

    server.streams().delete_stream(v1::DeleteStreamRequest { stream: "s".into() }).await.expect("deleted");
    let gone = failed("gone", server.streams().get_stream(v1::GetStreamRequest { stream: "s".into() }).await);
    assert_refused("gone", &gone, Code::NotFound, "STREAM_NOT_FOUND", "");
    let again = server.streams().create_stream(create()).await.expect("made").into_inner().info.expect("always set");
    assert!(again.number > made.number && again.length == 0 && again.groups.is_empty(), "a new stream: {again:?}");
}

#[tokio::test]
async fn lists_come_in_pages() {
    let server = Server::start().await;
    let mut names: Vec<String> = (0..7).map(|n| format!("a-{n}")).chain(["b".into(), "ä".into()]).collect();
    for name in names.iter().rev() {
        server.fill(name, 0..1).await;
    }
    names.sort();
    for page_size in [1, 2, 3, 9, 100, 1000] {
        let (mut found, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = v1::ListStreamsRequest { prefix: String::new(), page_size, page_token };
            let page = server.streams().list_streams(request).await.expect("listed").into_inner();
            assert!(page.streams.len() <= page_size as usize);
            assert!(page.streams.iter().all(|s| s.length == 1));
            found.extend(page.streams.into_iter().map(|s| s.name));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(found, names, "{page_size} a page");
    }
    for (prefix, count) in [("a-", 7), ("b", 1), ("ä", 1), ("c", 0), ("a-7", 0)] {
        let request = v1::ListStreamsRequest { prefix: prefix.into(), ..Default::default() };
        assert_eq!(server.streams().list_streams(request).await.expect("listed").into_inner().streams.len(), count);
    }
}

#[tokio::test]
async fn trims_do_what_they_said() {
    let server = Server::start().await;
    let ids = server.fill("s", 0..10).await;
    let trim = async |request: v1::TrimStreamRequest| {
        let dry = v1::TrimStreamRequest { stream: "s".into(), dry_run: true, ..request.clone() };
        let before = server.snapshot().await;
        let said = server.streams().trim_stream(dry).await.expect("said").into_inner();
        assert_eq!(server.snapshot().await, before, "a dry run changes nothing");
        let request = v1::TrimStreamRequest { stream: "s".into(), ..request };
        let done = server.streams().trim_stream(request).await.expect("trimmed").into_inner();
        assert_eq!(said, done);
        done
    };
    let by_id = trim(v1::TrimStreamRequest { before_id: Some(ids[2]), ..Default::default() }).await;
    assert_eq!((by_id.entries, by_id.first_id), (2, Some(ids[2])));
    assert!(by_id.bytes > 0);
    let by_time = trim(v1::TrimStreamRequest { before_time: Some(time(ids[2].ms)), ..Default::default() }).await;
    assert_eq!((by_time.entries, by_time.bytes, by_time.first_id), (0, 0, Some(ids[2])));
    let by_count = trim(v1::TrimStreamRequest { keep_entries: Some(5), ..Default::default() }).await;
    assert_eq!((by_count.entries, by_count.first_id), (3, Some(ids[5])));
    let bytes = server.stream_info("s").await.bytes;
    let by_bytes = trim(v1::TrimStreamRequest { keep_bytes: Some(bytes - 1), ..Default::default() }).await;
    assert_eq!((by_bytes.entries, by_bytes.first_id), (1, Some(ids[6])));
    let all = trim(v1::TrimStreamRequest { keep_entries: Some(0), ..Default::default() }).await;
    assert_eq!((all.entries, all.first_id), (4, None));
    let info = server.stream_info("s").await;
    assert_eq!((info.length, info.bytes, info.first_id, info.last_id), (0, 0, None, Some(ids[9])));
    let strict = v1::ReadEventsRequest { stream: "s".into(), strict: true, ..Default::default() };
    let status = failed("a strict read", server.events().read_events(strict).await);
    assert_refused("a strict read", &status, Code::OutOfRange, "ID_TRIMMED", "");
    assert!(read(&server, v1::ReadEventsRequest::default()).await.events.is_empty());
    let (last, new) = (ids[9], server.fill("s", 0..1).await[0]);
    assert!((new.ms, new.seq) > (last.ms, last.seq), "a trim lowers no id");
}

#[tokio::test]
async fn deleted_events_are_gone_from_every_read() {
    let server = Server::start().await;
    let ids = server.fill("s", 0..5).await;
    let delete = async |ids| {
        let request = v1::DeleteEventsRequest { stream: "s".into(), ids };
        server.streams().delete_events(request).await.expect("deleted").into_inner().deleted
    };
    assert_eq!(delete(vec![ids[3], ids[1], ids[1], id(1, 1), id(u64::MAX, u64::MAX)]).await, 2);
    assert_eq!(delete(vec![ids[1]]).await, 0);
    let left = [ids[0], ids[2], ids[4]];
    assert_eq!(read_ids(&read(&server, v1::ReadEventsRequest::default()).await.events), left);
    let info = server.stream_info("s").await;
    assert_eq!((info.length, info.deleted_id_max), (3, Some(ids[3])));
    let from = Some(v1::Position { position: Some(position::Position::Earliest(())) });
    let tail = v1::TailEventsRequest { stream: "s".into(), from, ..Default::default() };
    let mut tail = server.events().tail_events(tail).await.expect("it opens").into_inner();
    assert_eq!(read_ids(&next(&mut tail).await.expect("it lives").expect("entries").events), left);
}

#[tokio::test]
async fn reads_go_both_ways_in_pages() {
    let server = Server::start().await;
    let mut ids = Vec::new();
    for ms in [1_000, 2_000, 3_000] {
        let request = v1::PublishRequest {
            stream: "s".into(),
            events: vec![event("x"); 3],
            ids: Some(v1::publish_request::Ids::IdMs(ms)),
            ..Default::default()
        };
        ids.extend(crate::grpc::ids_of(server.events().publish(request).await.expect("published").get_ref()));
    }
    let mut backwards = ids.clone();
    backwards.reverse();
    for entries_max in [1, 2, 4, 9, 10] {
        for (reverse, wanted) in [(false, &ids), (true, &backwards)] {
            let (mut found, mut at): (Vec<EntryId>, Option<EntryId>) = (Vec::new(), None);
            loop {
                let request = v1::ReadEventsRequest {
                    entries_max,
                    reverse,
                    start: at.filter(|_| !reverse).map(Start::FirstId),
                    end: at.filter(|_| reverse).map(End::LastId),
                    ..Default::default()
                };
                let page = read(&server, request).await;
                assert!(page.events.len() <= entries_max as usize);
                found.extend(read_ids(&page.events));
                at = page.next_id;
                if at.is_none() {
                    break;
                }
            }
            assert_eq!(&found, wanted, "{entries_max} a page, reverse: {reverse}");
        }
    }
    let range = async |start, end| {
        read_ids(&read(&server, v1::ReadEventsRequest { start, end, ..Default::default() }).await.events)
    };
    assert_eq!(range(Some(Start::FirstId(ids[1])), Some(End::LastId(ids[4]))).await, ids[1..5]);
    assert_eq!(range(Some(Start::FirstTime(time(2_000))), Some(End::LastTime(time(2_000)))).await, ids[3..6]);
    assert_eq!(range(Some(Start::FirstTime(time(2_001))), None).await, ids[6..]);
    assert_eq!(range(None, Some(End::LastTime(time(1_999)))).await, ids[..3]);
    assert!(range(Some(Start::FirstId(id(3_000, 3))), None).await.is_empty());
    assert!(range(Some(Start::FirstId(id(u64::MAX, u64::MAX))), None).await.is_empty());
}

#[tokio::test]
async fn pages_end_where_bytes_do() {
    let server = Server::start().await;
    for _ in 0..3 {
        server.publish("s", vec![big(1_000_000), big(1_000)]).await;
    }
    let count = async |bytes_max| {
        let page = read(&server, v1::ReadEventsRequest { bytes_max, ..Default::default() }).await;
        (page.events.len(), page.next_id.is_some())
    };
    assert_eq!(count(1).await, (1, true), "one entry of any size");
    assert_eq!(count(1_002_000).await, (2, true));
    assert_eq!(count(0).await, (2, true), "1 MiB by default");
}

#[tokio::test]
async fn readers_are_told_what_was_trimmed() {
    let server = Server::start().await;
    let ids = server.fill("s", 0..10).await;
    let from = Some(v1::Position { position: Some(position::Position::After(ids[1])) });
    let request = v1::TailEventsRequest { stream: "s".into(), from, entries_max: 2, ..Default::default() };
    let mut tail = server.events().tail_events(request.clone()).await.expect("it opens").into_inner();
    assert_eq!(next(&mut tail).await.expect("it lives").expect("entries").gap, None);
    let trim = v1::TrimStreamRequest { stream: "s".into(), before_id: Some(ids[9]), ..Default::default() };
    server.streams().trim_stream(trim).await.expect("trimmed");
    let gap = |after: EntryId, missed| Some(v1::Gap { after: Some(after), before: Some(ids[9]), missed });
    let mut at = ids[3];
    while at != ids[9] {
        // What was on its way may come before.
        let message = next(&mut tail).await.expect("it lives").expect("entries");
        let at_now = ids.iter().position(|id| *id == at).expect("one of them");
        match message.gap {
            None => assert_eq!(message.events[0].id, Some(ids[at_now + 1])),
            told => assert_eq!(told, gap(at, Some(8 - at_now as u64))),
        }
        at = message.position.expect("set");
    }
    let mut resumed = server.events().tail_events(request).await.expect("it opens").into_inner();
    assert_eq!(next(&mut resumed).await.expect("it lives").expect("entries").gap, gap(ids[1], None));

    let page = async |start, reverse, end| {
        let request = v1::ReadEventsRequest { start, reverse, end, ..Default::default() };
        read(&server, request).await.trimmed_before
    };
    assert_eq!(page(Some(Start::FirstId(ids[2])), false, None).await, Some(ids[9]));
    assert_eq!(page(Some(Start::FirstId(ids[9])), false, None).await, None);
    assert_eq!(page(None, false, None).await, None, "who asks for what there is misses nothing");
    assert_eq!(page(None, true, None).await, None);
    assert_eq!(page(None, true, Some(End::LastId(ids[4]))).await, Some(ids[9]), "a page of what is gone");
}

#[tokio::test]
async fn tails_catch_up_then_follow() {
    let server = Server::start().await;
    let mut ids = server.fill("s", 0..5).await;
    let tail = async |from, entries_max| {
        let from = Some(v1::Position { position: Some(from) });
        let request = v1::TailEventsRequest { stream: "s".into(), from, entries_max, ..Default::default() };
        server.events().tail_events(request).await.expect("it opens").into_inner()
    };
    let mut earliest = tail(position::Position::Earliest(()), 2).await;
    let mut latest = tail(position::Position::Latest(()), 0).await;
    let mut after = tail(position::Position::After(ids[2]), 0).await;
    let mut timed = tail(position::Position::Time(time(ids[0].ms)), 0).await;
    let mut future = tail(position::Position::After(id(u64::MAX, 0)), 0).await;
    let request = v1::TailEventsRequest { stream: "s".into(), ..Default::default() };
    let mut unset = server.events().tail_events(request).await.expect("it opens").into_inner();
    ids.extend(server.fill("s", 5..8).await);
    for (tail, from) in [(&mut earliest, 0), (&mut timed, 0), (&mut after, 3), (&mut latest, 5), (&mut unset, 5)] {
        let mut found = Vec::new();
        while found.len() < ids.len() - from {
            let message = next(tail).await.expect("it lives").expect("entries");
            found.extend(read_ids(&message.events));
            assert_eq!(message.position, found.last().copied());
        }
        assert_eq!(found, ids[from..]);
    }
    let request = v1::PublishRequest {
        stream: "s".into(),
        events: vec![event("x")],
        ids: Some(v1::publish_request::Ids::ExactId(id(u64::MAX, 1))),
        ..Default::default()
    };
    server.events().publish(request).await.expect("published");
    let message = next(&mut future).await.expect("it lives").expect("the first after that id");
    assert_eq!(read_ids(&message.events), [id(u64::MAX, 1)]);

    server.streams().delete_stream(v1::DeleteStreamRequest { stream: "s".into() }).await.expect("deleted");
    assert_eq!(read_ids(&next(&mut earliest).await.expect("what came before").expect("entries").events).len(), 1);
    let status = next(&mut earliest).await.expect_err("the stream is gone");
    assert_refused("a tail of a deleted stream", &status, Code::NotFound, "STREAM_NOT_FOUND", "");
}
