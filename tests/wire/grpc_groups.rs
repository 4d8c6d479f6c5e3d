//! Groups over gRPC, call by call: administration, pulls and what settles them, pending entries, dead letters.

use prost_types::{Duration, FieldMask, Timestamp};
use synapse::proto::v1::dead_letter_choice::{Choice, Ids};
use synapse::proto::v1::nack_action::{Action, DeadLetter, Retry};
use synapse::proto::v1::{self, EntryId, acknowledge_request, extend_lease_request, nack_request, position};
use tonic::Code;

use crate::grpc::{Server, assert_refused, delivered_ids, event, failed, id, one, ranges};

/// A server with a stream `s` of so many entries, and its group `g`.
async fn server(entries: u32, settings: v1::GroupSettings) -> (Server, Vec<EntryId>) {
    let server = Server::start().await;
    server.group("s", "g", settings).await;
    let ids = if entries == 0 { Vec::new() } else { server.fill("s", 0..entries).await };
    (server, ids)
}

fn ack(ids: &[EntryId], holder: Option<acknowledge_request::Holder>) -> v1::AcknowledgeRequest {
    v1::AcknowledgeRequest { stream: "s".into(), group: "g".into(), ids: ranges(ids), holder, ..Default::default() }
}

fn token(delivery: &v1::PullResponse) -> String {
    delivery.delivery_token.clone()
}

async fn nack(server: &Server, ids: &[EntryId], action: Action) -> v1::NackResponse {
    let action = Some(v1::NackAction { action: Some(action) });
    let (stream, group) = ("s".into(), "g".into());
    let request = v1::NackRequest { stream, group, ids: ranges(ids), holder: None, action };
    server.consumers().nack(request).await.expect("taken").into_inner()
}

async fn pending(server: &Server) -> Vec<v1::PendingEntry> {
    let request = v1::ListPendingRequest { stream: "s".into(), group: "g".into(), ..Default::default() };
    server.consumers().list_pending(request).await.expect("listed").into_inner().entries
}

#[tokio::test]
async fn groups_are_made_shown_changed_and_deleted() {
    let (server, ids) = server(3, v1::GroupSettings::default()).await;
    let settings = v1::GroupSettings {
        description: "what it is for".into(),
        ack_wait: Some(Duration { seconds: 5, nanos: 1_000_000 }),
        max_deliveries: 3,
        backoff: vec![Duration::default(), Duration { seconds: 1, nanos: 0 }],
        dispatch: v1::Dispatch::KeyOrdered as i32,
        pending_max: 7,
        dead_letter_stream: "dead".into(),
        filter: String::new(),
    };
    let at = |position| Some(v1::Position { position: Some(position) });
    let create = v1::CreateGroupRequest {
        stream: "s".into(),
        group: "full".into(),
        start: at(position::Position::After(ids[0])),
        settings: Some(settings.clone()),
        create_stream: false,
    };
    let made = server.consumers().create_group(create).await.expect("made").into_inner().info.expect("always set");
    assert_eq!((made.stream.as_str(), made.name.as_str(), made.settings.as_ref()), ("s", "full", Some(&settings)));
    assert_eq!((made.cursor, made.undelivered, made.pending), (Some(ids[0]), 2, 0));
    assert_eq!(made.oldest_unacknowledged_time.map(|t| t.seconds as u64), Some(ids[1].ms / 1000));
    assert_eq!(server.group_info("s", "full").await, made);

    for (name, start, undelivered) in [
        ("earliest", at(position::Position::Earliest(())), 3),
        ("latest", at(position::Position::Latest(())), 0),
        ("unset", None, 3),
        ("timed", at(position::Position::Time(Timestamp::default())), 3),
        ("future", at(position::Position::After(id(u64::MAX, u64::MAX))), 0),
    ] {
        let request = v1::CreateGroupRequest { stream: "s".into(), group: name.into(), start, ..Default::default() };
        let info = server.consumers().create_group(request).await.expect("made").into_inner().info.expect("set");
        assert_eq!(info.undelivered, undelivered, "{name}");
        let settings = info.settings.expect("always set");
        assert_eq!((settings.ack_wait, settings.pending_max), (Some(Duration { seconds: 30, nanos: 0 }), 100_000));
        assert_eq!(settings.dead_letter_stream, format!("s.dlq.{name}"));
    }
    let request = v1::ListGroupsRequest { stream: "s".into() };
    let listed = server.consumers().list_groups(request).await.expect("listed").into_inner().groups;
    let names: Vec<_> = listed.iter().map(|g| g.name.as_str()).collect();
    assert_eq!(names, ["earliest", "full", "future", "g", "latest", "timed", "unset"]);

    let request = v1::UpdateGroupRequest {
        stream: "s".into(),
        group: "full".into(),
        settings: Some(v1::GroupSettings { max_deliveries: 9, ..Default::default() }),
        update_mask: Some(FieldMask { paths: vec!["max_deliveries".into(), "backoff".into()] }),
    };
    let now = server.consumers().update_group(request).await.expect("changed").into_inner();
    let wanted = v1::GroupSettings { max_deliveries: 9, backoff: vec![], ..settings };
    assert_eq!(now.info.and_then(|i| i.settings), Some(wanted.clone()));
    assert_eq!(server.group_info("s", "full").await.settings, Some(wanted));

    let delete = || v1::DeleteGroupRequest { stream: "s".into(), group: "full".into() };
    server.consumers().delete_group(delete()).await.expect("deleted");
    let status = failed("gone", server.consumers().delete_group(delete()).await);
    assert_refused("gone", &status, Code::NotFound, "GROUP_NOT_FOUND", "");
    assert_eq!(server.stream_info("s").await.groups.len(), 6);
}

#[tokio::test]
async fn seeks_move_the_cursor() {
    let (server, ids) = server(5, v1::GroupSettings::default()).await;
    let seek = async |position, dry_run| {
        let to = Some(v1::Position { position: Some(position) });
        let request = v1::SeekGroupRequest { stream: "s".into(), group: "g".into(), to, dry_run };
        server.consumers().seek_group(request).await.expect("sought").into_inner()
    };
    let forward = v1::SeekGroupResponse { from: Some(id(0, 0)), to: Some(ids[2]), entries: 3, backwards: false };
    assert_eq!(seek(position::Position::After(ids[2]), true).await, forward);
    assert_eq!(server.group_info("s", "g").await.undelivered, 5, "a dry run changes nothing");
    assert_eq!(seek(position::Position::After(ids[2]), false).await, forward);
    assert_eq!(delivered_ids(&server.pull("c", 10).await.events), ids[3..]);
    server.consumers().acknowledge(ack(&ids[3..], None)).await.expect("settled");
    let back = seek(position::Position::Time(Timestamp::default()), false).await;
    assert_eq!((back.from, back.entries, back.backwards), (Some(ids[4]), 5, true));
    assert_eq!(server.pull("c", 10).await.events.len(), 5);
    let latest = seek(position::Position::Latest(()), false).await;
    assert_eq!((latest.to, latest.entries), (Some(ids[4]), 0));
}

#[tokio::test]
async fn deliveries_are_settled_by_their_token() {
    use acknowledge_request::Holder;
    let (server, ids) = server(6, v1::GroupSettings::default()).await;
    let (a, b) = (server.pull("a", 2).await, server.pull("b", 2).await);
    assert_eq!((delivered_ids(&a.events), delivered_ids(&b.events)), (ids[..2].to_vec(), ids[2..4].to_vec()));
    assert_eq!(a.lease, Some(Duration { seconds: 30, nanos: 0 }));
    let first = &a.events[0];
    assert_eq!((first.deliveries, first.failures), (1, 0));
    let recorded = first.event.as_ref().expect("always set");
    assert_eq!((recorded.stream.as_str(), recorded.event.as_ref()), ("s", Some(&event("0"))));

    let settle = async |request| server.consumers().acknowledge(request).await.expect("settled").into_inner();
    let by_token = |delivery: &v1::PullResponse| Some(Holder::DeliveryToken(token(delivery)));
    let foreign = settle(ack(&[ids[0], ids[2], ids[5], id(9, 9)], by_token(&a))).await;
    assert_eq!(
        (foreign.done, &foreign.not_owned[..], &foreign.not_pending[..]),
        (1, &ids[2..3], &[id(9, 9), ids[5]][..])
    );
    let wrong = settle(ack(&ids[1..4], Some(Holder::DeliveryToken("999".into())))).await;
    assert_eq!((wrong.done, &wrong.not_owned[..]), (0, &ids[1..4]));
    let stranger = settle(ack(&ids[1..4], Some(Holder::Consumer("nobody".into())))).await;
    assert_eq!((stranger.done, stranger.not_owned.len()), (0, 3));
    let own = settle(ack(&ids[..4], Some(Holder::Consumer("b".into())))).await;
    assert_eq!((own.done, &own.not_owned[..], &own.not_pending[..]), (2, &ids[1..2], &ids[..1]));
    let range = v1::IdRange { first: Some(id(0, 0)), last: Some(id(u64::MAX, u64::MAX)) };
    let anyone = settle(v1::AcknowledgeRequest { ids: vec![range], ..ack(&[], None) }).await;
    assert_eq!((anyone.done, anyone.not_owned.len(), anyone.not_pending.len()), (1, 0, 0));
    let info = server.group_info("s", "g").await;
    assert_eq!((info.acknowledged, info.pending, info.undelivered), (4, 0, 2));
    assert_eq!(info.consumers.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);

    let no_ack = v1::PullRequest {
        stream: "s".into(),
        group: "g".into(),
        consumer: "a".into(),
        no_ack: true,
        ..Default::default()
    };
    let taken = server.consumers().pull(no_ack).await.expect("pulled").into_inner();
    assert_eq!((taken.events.len(), taken.delivery_token.as_str()), (2, ""));
    assert_eq!(server.group_info("s", "g").await.pending, 0);
    let empty = server.pull("a", 10).await;
    assert_eq!((empty.events.len(), empty.delivery_token.as_str()), (0, ""));
}

#[tokio::test]
async fn pulls_wait_for_what_comes() {
    let (server, _) = server(0, v1::GroupSettings::default()).await;
    let wait = |nanos, seconds| v1::PullRequest {
        stream: "s".into(),
        group: "g".into(),
        consumer: "c".into(),
        wait: Some(Duration { seconds, nanos }),
        ..Default::default()
    };
    let nothing = server.consumers().pull(wait(20_000_000, 0)).await.expect("pulled").into_inner();
    assert!(nothing.events.is_empty());
    let mut client = server.consumers();
    let waiting = tokio::spawn(async move { client.pull(wait(0, 30)).await.expect("pulled").into_inner() });
    // Whether the pull stands there already or not: it gets the entry.
    let ids = server.fill("s", 0..1).await;
    assert_eq!(delivered_ids(&waiting.await.expect("no panic").events), ids);
}

#[tokio::test]
async fn what_rides_on_an_acknowledgement_is_one_with_it() {
    use acknowledge_request::Holder;
    let (server, ids) = server(3, v1::GroupSettings::default()).await;
    let delivery = server.pull("c", 2).await;
    let publish = |stream: &str| v1::PublishRequest {
        stream: stream.into(),
        events: vec![event("out"); 2],
        ..Default::default()
    };
    let riding = |ids: &[EntryId]| v1::AcknowledgeRequest {
        publish: vec![publish("out"), publish("s")],
        ..ack(ids, Some(Holder::DeliveryToken(token(&delivery))))
    };
    let before = server.snapshot().await;
    let status = failed("not held", server.consumers().acknowledge(riding(&ids)).await);
    assert_refused("not held", &status, Code::FailedPrecondition, "NOT_HELD", "");
    assert_eq!(server.snapshot().await, before, "neither acknowledged nor published");
    let done = server.consumers().acknowledge(riding(&ids[..2])).await.expect("held").into_inner();
    assert_eq!((done.done, done.published.len()), (2, 2));
    assert_eq!(done.published[0].last_id, server.stream_info("out").await.last_id);
    assert_eq!((server.stream_info("out").await.length, server.stream_info("s").await.length), (2, 5));
    let status = failed("a second time", server.consumers().acknowledge(riding(&ids[..2])).await);
    assert_refused("a second time", &status, Code::FailedPrecondition, "NOT_HELD", "");
    assert_eq!(server.stream_info("out").await.length, 2);
}

#[tokio::test]
async fn negative_acknowledgements_say_what_is_to_become_of_entries() {
    let (server, ids) = server(5, v1::GroupSettings::default()).await;
    server.pull("c", 5).await;
    let hour = Some(Duration { seconds: 3600, nanos: 0 });
    assert_eq!(nack(&server, &ids[..1], Action::Retry(Retry { delay: None })).await.done, 1);
    assert_eq!(nack(&server, &ids[1..2], Action::Retry(Retry { delay: hour })).await.done, 1);
    assert_eq!(nack(&server, &ids[2..3], Action::HandBack(())).await.done, 1);
    assert_eq!(nack(&server, &ids[3..4], Action::Skip(())).await.done, 1);
    let dead = nack(&server, &[ids[4], id(9, 9)], Action::DeadLetter(DeadLetter { reason: "broken".into() })).await;
    assert_eq!((dead.done, &dead.not_pending[..]), (1, &[id(9, 9)][..]));
    let again = server.pull("d", 10).await;
    assert_eq!(delivered_ids(&again.events), [ids[0], ids[2]]);
    let counts: Vec<_> = again.events.iter().map(|e| (e.deliveries, e.failures)).collect();
    assert_eq!(counts, [(2, 1), (2, 0)], "what is handed back has not failed");
    let left = pending(&server).await;
    let held: Vec<_> = left.iter().map(|e| (e.id, e.consumer.as_str(), e.failures)).collect();
    assert_eq!(held, [(Some(ids[0]), "d", 1), (Some(ids[1]), "", 1), (Some(ids[2]), "d", 0)]);
    assert!(left[1].due.is_some_and(|due| due.seconds > 3000), "{left:?}");
    let info = server.group_info("s", "g").await;
    assert_eq!((info.pending, info.waiting, info.acknowledged, info.dead_lettered), (3, 1, 1, 1));

    // By whom: what another holds is left alone.
    let request = v1::NackRequest {
        stream: "s".into(),
        group: "g".into(),
        ids: ranges(&ids[..3]),
        holder: Some(nack_request::Holder::Consumer("c".into())),
        action: Some(v1::NackAction { action: Some(Action::Skip(())) }),
    };
    let foreign = server.consumers().nack(request).await.expect("taken").into_inner();
    assert_eq!((foreign.done, &foreign.not_owned[..]), (0, &ids[..3]));
}

#[tokio::test]
async fn leases_are_extended_by_who_holds_them() {
    let (server, ids) = server(2, v1::GroupSettings::default()).await;
    let delivery = server.pull("c", 1).await;
    let extend = async |holder, lease| {
        let (stream, group) = ("s".into(), "g".into());
        let request = v1::ExtendLeaseRequest { stream, group, ids: ranges(&ids), holder: Some(holder), lease };
        server.consumers().extend_lease(request).await.expect("taken").into_inner()
    };
    let hours = |n: i64| Some(Duration { seconds: n * 3600, nanos: 0 });
    let by_token = extend_lease_request::Holder::DeliveryToken(token(&delivery));
    let extended = extend(by_token.clone(), hours(2)).await;
    assert_eq!((extended.done, &extended.not_pending[..]), (1, &ids[1..]));
    assert!(pending(&server).await[0].due.is_some_and(|due| (7_000..=7_200).contains(&due.seconds)));
    let foreign = extend(extend_lease_request::Holder::Consumer("d".into()), hours(9)).await;
    assert_eq!((foreign.done, &foreign.not_owned[..]), (0, &ids[..1]));
    assert!(pending(&server).await[0].due.is_some_and(|due| due.seconds <= 7_200));
    assert_eq!(extend(by_token.clone(), None).await.done, 1);
    assert!(pending(&server).await[0].due.is_some_and(|due| due.seconds <= 30), "back to the group's");

    server.group("s", "by-hand", v1::GroupSettings { ack_wait: Some(Duration::default()), ..Default::default() }).await;
    let pull =
        v1::PullRequest { stream: "s".into(), group: "by-hand".into(), consumer: "c".into(), ..Default::default() };
    let by_hand = server.consumers().pull(pull).await.expect("pulled").into_inner();
    assert_eq!(by_hand.lease, Some(Duration::default()));
    let request = v1::ExtendLeaseRequest {
        stream: "s".into(),
        group: "by-hand".into(),
        ids: vec![one(ids[0])],
        ..Default::default()
    };
    let status = failed("there are no leases", server.consumers().extend_lease(request).await);
    assert_refused("there are no leases", &status, Code::InvalidArgument, "INVALID_ARGUMENT", "");
}

#[tokio::test]
async fn pending_entries_are_listed_and_claimed() {
    let (server, ids) = server(10, v1::GroupSettings::default()).await;
    let first = server.pull("a", 6).await;
    server.pull("b", 2).await;
    let list = async |request: v1::ListPendingRequest| {
        let request = v1::ListPendingRequest { stream: "s".into(), group: "g".into(), ..request };
        let page = server.consumers().list_pending(request).await.expect("listed").into_inner();
        (page.entries.iter().filter_map(|e| e.id).collect::<Vec<_>>(), page.next_id)
    };
    assert_eq!(list(v1::ListPendingRequest::default()).await, (ids[..8].to_vec(), None));
    let (page, at) = list(v1::ListPendingRequest { entries_max: 5, ..Default::default() }).await;
    assert_eq!(page, ids[..5]);
    let range = Some(v1::IdRange { first: at, last: Some(id(u64::MAX, 0)) });
    assert_eq!(list(v1::ListPendingRequest { range, ..Default::default() }).await.0, ids[5..8]);
    assert_eq!(list(v1::ListPendingRequest { consumer: "b".into(), ..Default::default() }).await.0, ids[6..8]);
    assert!(list(v1::ListPendingRequest { consumer: "z".into(), ..Default::default() }).await.0.is_empty());
    let idle_min = Some(Duration { seconds: 60, nanos: 0 });
    assert!(list(v1::ListPendingRequest { idle_min, ..Default::default() }).await.0.is_empty());

    let claim = async |request: v1::ClaimPendingRequest| {
        let (stream, group, consumer) = ("s".into(), "g".into(), "new".into());
        let request = v1::ClaimPendingRequest { stream, group, consumer, ..request };
        server.consumers().claim_pending(request).await.expect("claimed").into_inner()
    };
    let none = claim(v1::ClaimPendingRequest { idle_min, ..Default::default() }).await;
    assert_eq!((none.events.len(), none.delivery_token.as_str(), none.next_id), (0, "", None));
    let request = v1::DeleteEventsRequest { stream: "s".into(), ids: vec![ids[2]] };
    server.streams().delete_events(request).await.expect("deleted");
    let some =
        claim(v1::ClaimPendingRequest { ids: vec![ids[3], ids[2], ids[9], id(9, 9)], ..Default::default() }).await;
    assert_eq!((delivered_ids(&some.events), &some.gone[..]), (vec![ids[3]], &ids[2..3]));
    assert_eq!((some.events[0].deliveries, some.next_id), (2, None));
    let from = claim(v1::ClaimPendingRequest { first_id: Some(ids[1]), entries_max: 3, ..Default::default() }).await;
    assert_eq!((delivered_ids(&from.events), from.next_id), (vec![ids[1], ids[3], ids[4]], Some(ids[5])));

    // The claim fences out the delivery before.
    let holder = Some(acknowledge_request::Holder::DeliveryToken(token(&first)));
    let late = server.consumers().acknowledge(ack(&[ids[0], ids[1]], holder)).await.expect("taken").into_inner();
    assert_eq!((late.done, &late.not_owned[..]), (1, &ids[1..2]));
    let holder = Some(acknowledge_request::Holder::DeliveryToken(from.delivery_token));
    let own = server.consumers().acknowledge(ack(&ids[1..2], holder)).await.expect("taken").into_inner();
    assert_eq!(own.done, 1);
}

#[tokio::test]
async fn removed_consumers_hand_back_what_they_hold() {
    let (server, ids) = server(4, v1::GroupSettings::default()).await;
    server.pull("a", 3).await;
    let remove = || v1::RemoveConsumerRequest { stream: "s".into(), group: "g".into(), consumer: "a".into() };
    let removed = server.consumers().remove_consumer(remove()).await.expect("removed").into_inner();
    assert_eq!(removed.handed_back, 3);
    assert!(server.group_info("s", "g").await.consumers.is_empty());
    let status = failed("gone", server.consumers().remove_consumer(remove()).await);
    assert_refused("gone", &status, Code::NotFound, "CONSUMER_NOT_FOUND", "");
    let again = server.pull("b", 10).await;
    assert_eq!(delivered_ids(&again.events), ids);
    assert!(again.events[..3].iter().all(|e| (e.deliveries, e.failures) == (2, 0)));
}

#[tokio::test]
async fn dead_letters_are_listed_sent_back_and_deleted() {
    let (server, ids) = server(5, v1::GroupSettings::default()).await;
    server.pull("c", 5).await;
    nack(&server, &ids, Action::DeadLetter(DeadLetter { reason: "broken".into() })).await;
    let list = async |after, entries_max| {
        let (stream, group) = ("s".into(), "g".into());
        let request = v1::ListDeadLettersRequest { stream, group, after, entries_max };
        server.consumers().list_dead_letters(request).await.expect("listed").into_inner()
    };
    // Letters are moved by the engine after the answer.
    let mut listed = list(None, 0).await;
    for _ in 0..1000 {
        if listed.dead_letters.len() == 5 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        listed = list(None, 0).await;
    }
    let letters = listed.dead_letters;
    assert_eq!(letters.iter().map(|l| l.origin_id.expect("always set")).collect::<Vec<_>>(), ids);
    let letter = &letters[0];
    assert_eq!((letter.origin_stream.as_str(), letter.group.as_str(), letter.reason.as_str()), ("s", "g", "broken"));
    assert_eq!((letter.deliveries, letter.failed_time.is_some()), (1, true));
    let recorded = letter.event.as_ref().expect("always set");
    assert_eq!(recorded.stream, "s.dlq.g");
    assert_eq!(recorded.event.as_ref().map(|e| &e.data), Some(&event("0").data));
    let at: Vec<EntryId> = letters.iter().map(|l| l.event.as_ref().and_then(|e| e.id).expect("always set")).collect();
    let page = list(Some(at[0]), 2).await;
    assert_eq!((page.dead_letters.len(), page.next_after), (2, Some(at[2])));
    assert_eq!(page.dead_letters[0].origin_id, Some(ids[1]));

    let which = |choice| Some(v1::DeadLetterChoice { choice: Some(choice) });
    let redrive = async |choice, target: v1::RedriveTarget| {
        let request = v1::RedriveDeadLettersRequest {
            stream: "s".into(),
            group: "g".into(),
            which: which(choice),
            target: target as i32,
            ..Default::default()
        };
        server.consumers().redrive_dead_letters(request).await.expect("redriven").into_inner()
    };
    let delete = v1::DeleteEventsRequest { stream: "s".into(), ids: vec![ids[1]] };
    server.streams().delete_events(delete).await.expect("deleted");
    let some = Choice::Ids(Ids { ids: vec![at[0], at[1], id(9, 9)] });
    let back = redrive(some, v1::RedriveTarget::Group).await;
    assert_eq!((back.done, &back.not_found[..], &back.original_gone[..]), (1, &[id(9, 9)][..], &at[1..2]));
    let again = server.pull("d", 10).await;
    assert_eq!(delivered_ids(&again.events), ids[..1]);
    let some = redrive(Choice::Ids(Ids { ids: at[1..3].to_vec() }), v1::RedriveTarget::Stream).await;
    assert_eq!((some.done, some.is_cut_short), (2, false));
    assert_eq!(server.pull("d", 10).await.events.len(), 2, "new entries of the stream");
    assert_eq!(server.stream_info("s").await.length, 6);

    let purge = async |choice| {
        let request = v1::PurgeDeadLettersRequest { stream: "s".into(), group: "g".into(), which: which(choice) };
        server.consumers().purge_dead_letters(request).await.expect("purged").into_inner()
    };
    let one = purge(Choice::Ids(Ids { ids: vec![at[3], at[0]] })).await;
    assert_eq!((one.done, &one.not_found[..]), (1, &at[..1]));
    assert_eq!(purge(Choice::All(())).await.done, 1);
    assert!(list(None, 0).await.dead_letters.is_empty());
}
