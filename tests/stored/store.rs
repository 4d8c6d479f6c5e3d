//! A small store with something of everything in it, the same bytes every time but for the ids of boots.

use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use synapse::clock::ManualClock;
use synapse::engine::stepped::Stepped;
use synapse::engine::{
    Acknowledge, Claim, ClaimOptions, CreateGroup, DeadLetterChoice, EngineOptions, ExpireAt, Extend, Holder, Nack,
    NackAction, OnceName, ProducerSequence, Publish, Published, Pull, RedriveTo, Release, ReleaseAs, SetExpiry,
    SetLastId, StartAt, Trim, TrimTo,
};
use synapse::error::Result;
use synapse::faults::Faults;
use synapse::format::event::Event;
use synapse::format::fields;
use synapse::format::segment::StoreId;
use synapse::storage::{Files, LogOptions};
use synapse::types::{
    ConsumerName, DedupSettings, Dispatch, EntryId, GroupName, GroupSettings, IdRange, NewEntry, ProducerId,
    StreamName, StreamSettings,
};

pub(crate) const SEGMENT_BYTES: u64 = 64 << 10;
pub(crate) const STORE: StoreId = StoreId([9; 16]);
/// Sessions in which the store is filled, each closed in order.
pub(crate) const SESSIONS: u64 = 3;
/// Wall time of the first session; the others follow a minute apart.
const BEGUN_MS: u64 = 1_700_000_000_000;
/// Wall time of every look at the store afterwards.
const LOOKED_AT_MS: u64 = BEGUN_MS + 10 * 60_000;

/// The groups that the store has in the end, with their streams.
pub(crate) const GROUPS: [(&str, &str); 3] = [("orders", "workers"), ("orders", "by-customer"), ("logs", "audit")];

/// An engine over these files, at the time of a look.
pub(crate) fn open(files: Arc<dyn Files>, id: StoreId, faults: Faults) -> Result<Stepped> {
    open_at(files, id, faults, LOOKED_AT_MS)
}

fn open_at(files: Arc<dyn Files>, id: StoreId, faults: Faults, wall_ms: u64) -> Result<Stepped> {
    let options =
        EngineOptions { segment_bytes: SEGMENT_BYTES, cache_bytes: 16 << 10, faults, ..EngineOptions::new("/nowhere") };
    let mut salt = wall_ms;
    let salts = Box::new(move || {
        salt = salt.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        salt
    });
    let log = LogOptions { must_exist: wall_ms > BEGUN_MS, ..LogOptions::new(id) };
    Stepped::open(files, log, options, ManualClock::at(wall_ms), salts)
}

/// Runs one of the sessions that fill the store.
pub(crate) fn fill(files: &Arc<dyn Files>, id: StoreId, session: u64, rounds: u64) {
    let wall_ms = BEGUN_MS + session * 60_000;
    let stepped = open_at(Arc::clone(files), id, Faults::default(), wall_ms).expect("opens");
    let mut work = Work { stepped, next: session * 1000 };
    match session {
        0 => work.begin(rounds),
        1 => work.go_on(rounds),
        _ => work.finish(),
    }
    work.stepped.stop();
}

/// The request of a producer that the store remembers, with the ids that it got.
pub(crate) fn remembered_request() -> Publish {
    let producer = Some(ProducerSequence { producer: ProducerId::parse("till").expect("valid"), sequence: 7 });
    Publish { producer, ..Publish::new(stream("orders"), vec![event(900_001, 80), event(900_002, 80)]) }
}

/// An event whose id the stream `orders` remembers.
pub(crate) fn remembered_event() -> Publish {
    Publish { dedup_by_event_id: true, ..Publish::new(stream("orders"), vec![event(1000, 120)]) }
}

struct Work {
    stepped: Stepped,
    /// The number of the next event.
    next: u64,
}

impl Work {
    fn begin(&mut self, rounds: u64) {
        self.create_stream("orders");
        self.create_stream("emptied");
        let leased = GroupSettings { max_deliveries: 2, ack_wait_ms: 3_600_000, ..GroupSettings::default() };
        self.create_group("orders", "workers", leased);
        let ordered = GroupSettings { dispatch: Dispatch::KeyOrdered, ..GroupSettings::by_hand() };
        self.create_group("orders", "by-customer", ordered);
        self.create_group("logs", "audit", GroupSettings::by_hand());
        for round in 0..rounds {
            self.round(round);
        }
        self.work_on_groups();
        self.remove_things();
        let engine = self.stepped.engine().clone();
        self.stepped.run(engine.publish(remembered_request())).expect("publishes");
    }

    fn round(&mut self, round: u64) {
        self.publish("orders", 1 + round % 4, 120);
        self.publish("logs", 1, 1500 + 40 * (round as usize % 7));
        if round.is_multiple_of(3) {
            self.publish_rows(2);
        }
        if round.is_multiple_of(5) {
            self.publish("emptied", 2, 60);
        }
    }

    /// Deliveries, acknowledgements, failures, leases, dead letters, some of them redriven.
    fn work_on_groups(&mut self) {
        let (s, g) = (stream("orders"), group("workers"));
        let got = self.pull("orders", "workers", "w1", 12);
        self.acknowledge("orders", "workers", &got[..4]);
        self.nack(&got[4..6], NackAction::DeadLetter { reason: "broken".into() });
        self.nack(&got[6..8], NackAction::Retry { delay: Some(Duration::from_secs(86_400)) });
        let (ids, holder) = (ranges(&got[8..10]), Holder::Anyone);
        let lease = Some(Duration::from_secs(7200));
        let engine = self.stepped.engine().clone();
        let extend = Extend { stream: s.clone(), group: g.clone(), ids, holder, lease };
        assert_eq!(self.stepped.run(engine.extend(extend)).expect("extends").done, 2);
        let letters = self.stepped.run(engine.dead_letters(&s, &g, None, 10)).expect("lists").letters;
        let first = DeadLetterChoice::Ids(vec![letters[0].id]);
        let redriven = self.stepped.run(engine.redrive(&s, &g, first, RedriveTo::Group)).expect("redrives");
        assert_eq!((letters.len(), redriven.done), (2, 1));
        let got = self.pull("orders", "by-customer", "c1", 8);
        self.acknowledge("orders", "by-customer", &got[1..3]);
        let got = self.pull("logs", "audit", "a1", 6);
        self.acknowledge("logs", "audit", &got[..2]);
        self.pull("logs", "audit", "a-gone", 1);
        let consumer = ConsumerName::parse("a-gone").expect("valid");
        let (s, g) = (stream("logs"), group("audit"));
        let options = ClaimOptions { deliveries: Some(9), ..ClaimOptions::default() };
        let claim = Claim {
            stream: s.clone(),
            group: g.clone(),
            consumer: ConsumerName::parse("a2").expect("valid"),
            idle_min: Duration::ZERO,
            ids: got[4..].to_vec(),
            from: EntryId::ZERO,
            entries_max: 0,
            options,
        };
        let claimed = self.stepped.run(engine.claim(claim)).expect("claims").delivery;
        assert_eq!(claimed.entries.iter().map(|d| d.deliveries).collect::<Vec<_>>(), [9, 9]);
        let (stream, group, ids) = (s.clone(), g.clone(), vec![got[3], got[2]]);
        let release = Release { stream, group, ids, how: ReleaseAs::NotDelivered, force: false };
        assert_eq!(self.stepped.run(engine.release(release)).expect("releases"), 2);
        assert_eq!(self.stepped.run(engine.remove_consumer(&s, &g, &consumer)).expect("removes"), 1);
    }

    /// Deletes, trims, streams and groups that go.
    fn remove_things(&mut self) {
        let published = self.publish("orders", 5, 90);
        let engine = self.stepped.engine().clone();
        let ids = vec![published.ids()[1].0, published.ids()[3].0];
        assert_eq!(self.stepped.run(engine.delete_entries(&stream("orders"), ids)).expect("deletes"), 2);
        self.trim("logs", 12);
        self.trim("emptied", 0);
        let info = self.stepped.run(engine.stream_counts(&stream("emptied"))).expect("is there");
        let to = SetLastId { last: info.last.next().expect("below the last"), added: Some(100), deleted_max: None };
        self.stepped.run(engine.set_last_id(&stream("emptied"), to)).expect("sets");
        self.stepped.run(engine.configure_once(&stream("emptied"), Some(1000), None)).expect("configures");
        let once = Some(OnceName { producer: b"p".to_vec(), name: b"first".to_vec() });
        for duplicate in [false, true] {
            let request = Publish { once: once.clone(), ..Publish::new(stream("logs"), vec![event(1, 50)]) };
            assert_eq!(self.stepped.run(engine.publish(request)).expect("publishes").duplicate, duplicate);
        }
        for duplicate in [false, true] {
            let request = Publish { name: Some(5), ..Publish::new(stream("logs"), vec![event(2, 50)]) };
            assert_eq!(self.stepped.run(engine.publish(request)).expect("publishes").duplicate, duplicate);
        }
        self.create_stream("short-lived");
        self.create_group("short-lived", "by-then", GroupSettings::default());
        self.publish("short-lived", 3, 50);
        self.ask_and_leave("short-lived", "by-then", "hasty");
        let (s, g) = (stream("short-lived"), group("by-then"));
        self.stepped.run(engine.delete_group(&s, &g)).expect("deletes");
        let renamed = stream("renamed");
        assert_eq!(self.stepped.run(engine.rename_stream(&s, renamed.clone(), false)).ok(), Some(true));
        let s = renamed;
        let to = SetExpiry { to: Some(ExpireAt::WallMs(LOOKED_AT_MS + 1_000_000)), ..SetExpiry::default() };
        assert_eq!(self.stepped.run(engine.set_expiry(&stream("emptied"), to)).ok(), Some(true));
        self.stepped.run(engine.delete_stream(&s)).expect("deletes");
    }

    fn go_on(&mut self, rounds: u64) {
        for round in 0..rounds / 2 {
            self.round(round);
        }
        let (s, g) = (stream("orders"), group("by-customer"));
        let got = self.pull("orders", "workers", "w2", 5);
        self.acknowledge("orders", "workers", &got[..1]);
        let engine = self.stepped.engine().clone();
        self.stepped.run(engine.update_stream(&s, settings("orders, kept"))).expect("updates");
        let settings = GroupSettings { pending_max: 500, dispatch: Dispatch::KeyOrdered, ..GroupSettings::by_hand() };
        self.stepped.run(engine.update_group(&s, &g, settings)).expect("updates");
        let logs = self.publish("logs", 1, 300);
        let to = StartAt::After(logs.first.prev().expect("above zero"));
        self.stepped.run(engine.seek_group(&stream("logs"), &group("audit"), to, false)).expect("moves");
    }

    fn finish(&mut self) {
        self.publish("orders", 3, 100);
        self.pull("logs", "audit", "a2", 2);
        self.publish("logs", 1, 200);
    }

    /// Publishes events; those of `orders` are remembered by their ids.
    fn publish(&mut self, name: &str, count: u64, size: usize) -> Published {
        let entries = (self.next..self.next + count).map(|n| event(n, size)).collect();
        self.next += count;
        let request = Publish { dedup_by_event_id: name == "orders", ..Publish::new(stream(name), entries) };
        let engine = self.stepped.engine().clone();
        self.stepped.run(engine.publish(request)).expect("publishes")
    }

    fn publish_rows(&mut self, count: u64) {
        let rows = (self.next..self.next + count).map(|n| {
            let number = n.to_string();
            fields::encode([(&b"row"[..], number.as_bytes()), (&b"value"[..], &[0, 1, 2, 255][..])]).expect("valid")
        });
        let request = Publish::new(stream("rows"), rows.collect());
        self.next += count;
        let engine = self.stepped.engine().clone();
        self.stepped.run(engine.publish(request)).expect("publishes");
    }

    fn create_stream(&mut self, name: &str) {
        let engine = self.stepped.engine().clone();
        let settings = settings(&format!("all {name}"));
        self.stepped.run(engine.create_stream(stream(name), settings)).expect("creates");
    }

    fn create_group(&mut self, name: &str, of: &str, settings: GroupSettings) {
        let engine = self.stepped.engine().clone();
        let (stream, group) = (stream(name), group(of));
        let request = CreateGroup { stream, group, start: StartAt::Earliest, settings, create_stream: true };
        self.stepped.run(engine.create_group(request)).expect("creates");
    }

    fn pull(&mut self, name: &str, of: &str, who: &str, max: usize) -> Vec<EntryId> {
        let engine = self.stepped.engine().clone();
        let delivery = self.stepped.run(engine.pull(pull(name, of, who, max))).expect("pulls");
        delivery.entries.iter().map(|d| d.entry.id).collect()
    }

    /// Asks for entries and goes away before they come.
    fn ask_and_leave(&mut self, name: &str, of: &str, who: &str) {
        let (engine, request) = (self.stepped.engine().clone(), pull(name, of, who, 2));
        let mut asked = Box::pin(async move { engine.pull(request).await });
        assert!(asked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        self.stepped.settle();
        drop(asked);
        self.stepped.settle();
    }

    fn acknowledge(&mut self, name: &str, of: &str, ids: &[EntryId]) {
        let engine = self.stepped.engine().clone();
        let done = self.stepped.run(engine.acknowledge(acknowledge(name, of, ids))).expect("acknowledges").done;
        assert_eq!(done, ids.len() as u64);
    }

    /// Hands entries of the group `workers` back.
    fn nack(&mut self, ids: &[EntryId], action: NackAction) {
        let (stream, group, ids) = (stream("orders"), group("workers"), ranges(ids));
        let engine = self.stepped.engine().clone();
        self.stepped.run(engine.nack(Nack { stream, group, ids, holder: Holder::Anyone, action })).expect("is taken");
    }

    fn trim(&mut self, name: &str, keep: u64) {
        let engine = self.stepped.engine().clone();
        let request = Trim { stream: stream(name), to: TrimTo::KeepEntries(keep), dry_run: false };
        assert!(self.stepped.run(engine.trim(request)).expect("trims").entries > 0);
    }
}

/// Settings of a stream that remembers what it got until it is looked at.
fn settings(description: &str) -> StreamSettings {
    let dedup = DedupSettings { window_ms: 3_600_000, ..DedupSettings::default() };
    StreamSettings { description: description.into(), dedup, ..StreamSettings::default() }
}

/// The event of this number.
pub(crate) fn event(n: u64, size: usize) -> NewEntry {
    let data: Vec<u8> = (0..size).map(|i| (n as usize * 31 + i * 7) as u8).collect();
    let kind = ["ordered", "paid", "sent"][n as usize % 3];
    let event = Event::new(kind, data).source("/shop").id(format!("e{n}")).key(format!("k{}", n % 5));
    event.attribute("n", n.to_string()).into_entry().expect("valid")
}

pub(crate) fn pull(name: &str, of: &str, who: &str, max: usize) -> Pull {
    Pull {
        stream: stream(name),
        group: group(of),
        consumer: ConsumerName::parse(who).expect("valid"),
        entries_max: max,
        bytes_max: 1 << 20,
        wait: Duration::ZERO,
        no_ack: false,
    }
}

pub(crate) fn acknowledge(name: &str, of: &str, ids: &[EntryId]) -> Acknowledge {
    let (stream, group, ids) = (stream(name), group(of), ranges(ids));
    Acknowledge { stream, group, ids, holder: Holder::Anyone, publish: vec![] }
}

fn ranges(ids: &[EntryId]) -> Vec<IdRange> {
    ids.iter().map(|id| IdRange::one(*id)).collect()
}

pub(crate) fn stream(name: &str) -> StreamName {
    StreamName::parse(name).expect("valid")
}

pub(crate) fn group(name: &str) -> GroupName {
    GroupName::parse(name).expect("valid")
}
