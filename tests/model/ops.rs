//! Operations of a random program. They name things by small numbers that are looked up when they run, so that a
//! program stays meaningful when operations are dropped from it.

use synapse::engine::{References, ReleaseAs};
use synapse::types::Dispatch;

/// A small generator: the same seed gives the same program everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bf0_3635)
    }
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }
}

/// An id of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pick {
    Zero,
    Max,
    /// One of those that were ever appended.
    Nth(u16),
    /// The last one.
    Last,
    /// The first of the millisecond so far from now.
    Now(i32),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Ids {
    Auto,
    AutoSeq(i32),
    Exact(Pick, u8),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Expect {
    Exists,
    Empty,
    LastId,
    Other,
}

#[derive(Clone, Debug)]
pub(crate) struct PublishOp {
    pub(crate) count: u8,
    pub(crate) ids: Ids,
    pub(crate) expect: Option<Expect>,
    /// Producer and sequence; the content follows from them, unless spoiled.
    pub(crate) producer: Option<(u8, u8)>,
    pub(crate) spoiled: bool,
    /// A producer's name, and its name for the request.
    pub(crate) once: Option<(u8, u8)>,
    /// First of the events' own ids, and whether the request asks for deduplication by them.
    pub(crate) event_ids: Option<(u8, bool)>,
    pub(crate) create: Option<bool>,
    pub(crate) fields: bool,
    pub(crate) size: u16,
    pub(crate) keys: u8,
    /// What the stream drops in the same commit.
    pub(crate) trim: Option<TrimOp>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum TrimOp {
    BeforeId(Pick),
    BeforeTime(i32),
    KeepEntries(u16),
    KeepBytes(u16),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    Earliest,
    Latest,
    After(Pick),
    Time(i32),
}

#[derive(Clone, Debug)]
pub(crate) struct SettingsOp {
    pub(crate) ack_wait_ms: u64,
    pub(crate) max_deliveries: u32,
    pub(crate) backoff_ms: Vec<u64>,
    pub(crate) dispatch: Dispatch,
    pub(crate) pending_max: u32,
    pub(crate) common_letters: bool,
}

/// Some pending entries of a group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Which {
    pub(crate) from: u16,
    pub(crate) count: u8,
    /// As ranges that overlap, not one by one.
    pub(crate) span: bool,
    /// And an id of the stream that may not be pending.
    pub(crate) stray: Option<u16>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Who {
    Anyone,
    Consumer(u8),
    /// The delivery that holds the first of the entries.
    Own,
    /// A delivery that does not.
    Foreign,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    Acknowledge,
    Retry(Option<u16>),
    DeadLetter,
    Skip,
    HandBack,
    Extend(Option<u16>),
}

/// One operation; `s`, `g`, `c` are numbers of a stream, a group, a consumer.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    CreateStream {
        s: u8,
        by_event_id: bool,
        window_ms: u64,
    },
    DeleteStream {
        s: u8,
    },
    ConfigureOnce {
        s: u8,
        window_s: Option<u32>,
        names_max: Option<u32>,
    },
    /// The stream is to go so far from now, or never.
    Expire {
        s: u8,
        by: Option<i32>,
        had: Option<bool>,
        later: bool,
        earlier: bool,
    },
    Publish {
        s: u8,
        publish: PublishOp,
    },
    Read {
        s: u8,
        ends: (Pick, Pick),
        reverse: bool,
        max: u16,
        bytes_max: u16,
        strict: bool,
    },
    Trim {
        s: u8,
        to: TrimOp,
        dry_run: bool,
    },
    /// With a look at what groups have of each entry.
    TrimSingly {
        s: u8,
        to: TrimOp,
        references: References,
        max: u16,
    },
    /// The stream is to keep only so much, just this once.
    Retain {
        s: u8,
        entries_max: Option<u16>,
        bytes_max: Option<u16>,
        age_max_ms: Option<u32>,
        until_acknowledged: bool,
    },
    Delete {
        s: u8,
        picks: Vec<u16>,
    },
    /// The space of what no longer exists is given back: where it is worth it, or all of it.
    Reclaim {
        all: bool,
    },
    CreateGroup {
        s: u8,
        g: u8,
        start: Start,
        settings: SettingsOp,
        create_stream: bool,
    },
    UpdateGroup {
        s: u8,
        g: u8,
        settings: SettingsOp,
    },
    DeleteGroup {
        s: u8,
        g: u8,
    },
    Seek {
        s: u8,
        g: u8,
        to: Start,
        dry_run: bool,
    },
    Pull {
        s: u8,
        g: u8,
        c: u8,
        max: u8,
        bytes_max: u16,
        no_ack: bool,
        claim_ms: Option<u16>,
    },
    Release {
        s: u8,
        g: u8,
        which: Which,
        how: ReleaseAs,
        force: bool,
    },
    Settle {
        s: u8,
        g: u8,
        which: Which,
        who: Who,
        action: Action,
    },
    AckAndPublish {
        s: u8,
        g: u8,
        which: Which,
        to: u8,
        publish: PublishOp,
    },
    Claim {
        s: u8,
        g: u8,
        c: u8,
        idle_ms: u16,
        ids: Option<Which>,
        from: Pick,
        max: u8,
    },
    RemoveConsumer {
        s: u8,
        g: u8,
        c: u8,
    },
    OpenSession {
        slot: u8,
        s: u8,
        g: u8,
        c: u8,
    },
    Next {
        slot: u8,
        max: u8,
        bytes_max: u16,
    },
    Drain {
        slot: u8,
    },
    Lose {
        slot: u8,
    },
    Redrive {
        s: u8,
        g: u8,
        which: Option<Vec<u16>>,
        to_stream: bool,
    },
    Purge {
        s: u8,
        g: u8,
        which: Option<Vec<u16>>,
    },
    Advance {
        ms: u32,
    },
    Wall {
        by: i32,
    },
    Restart {
        clean: bool,
        index: IndexFate,
    },
    /// The operation is decided but not written when the engine goes.
    Torn(Box<Op>),
}

/// What becomes of the index between two runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum IndexFate {
    Kept,
    Lost,
    /// A copy of an earlier time is put back.
    Old,
    /// That of another store is put there.
    Foreign,
}

/// A random program.
pub(crate) fn program(seed: u64, count: usize) -> Vec<Op> {
    let mut r = Random::new(seed);
    (0..count).map(|_| op(&mut r)).collect()
}

fn op(r: &mut Random) -> Op {
    let (s, g, c) = (stream(r), r.below(2) as u8, r.below(3) as u8);
    match r.below(1000) {
        0..200 => Op::Publish { s, publish: publish(r) },
        200..460 => pull(r, s, g, c, true),
        460..480 => Op::Release {
            s,
            g,
            which: which(r),
            how: r.one(&[
                ReleaseAs::NotDelivered,
                ReleaseAs::Delivered,
                ReleaseAs::Hopeless,
                ReleaseAs::DeliveredTimes(2),
            ]),
            force: r.chance(30),
        },
        480..640 => Op::Settle { s, g, which: which(r), who: who(r), action: action(r) },
        640..650 => {
            Op::AckAndPublish { s, g, which: which(r), to: stream(r), publish: PublishOp { trim: None, ..publish(r) } }
        }
        650..700 => {
            let (reverse, strict) = (r.chance(40), r.chance(20));
            let bytes_max = r.one(&[1, 500, 60_000]);
            Op::Read { s, ends: (pick(r), pick(r)), reverse, max: r.one(&[1, 3, 50, 2000]), bytes_max, strict }
        }
        700..716 => Op::Trim { s, to: trim(r), dry_run: r.chance(25) },
        716..722 => Op::TrimSingly {
            s,
            to: trim(r),
            references: r.one(&[References::Keep, References::Drop, References::Needed, References::Needed]),
            max: r.one(&[0, 1, 30, 2_000, 2_000]),
        },
        722..726 => Op::Retain {
            s,
            entries_max: r.chance(40).then(|| r.one(&[1, 10, 60, 200])),
            bytes_max: r.chance(30).then(|| r.one(&[100, 2_000, 20_000])),
            age_max_ms: r.chance(30).then(|| r.one(&[100, 2_000, 30_000])),
            until_acknowledged: r.chance(30),
        },
        726..740 => Op::Delete { s, picks: (0..1 + r.below(5)).map(|_| r.next() as u16).collect() },
        740..742 => Op::ConfigureOnce {
            s,
            window_s: r.one(&[None, Some(1), Some(7), Some(100)]),
            names_max: r.one(&[None, Some(1), Some(4), Some(100)]),
        },
        742..745 => Op::CreateStream { s, by_event_id: r.chance(50), window_ms: r.one(&[0, 100, 5_000, 120_000]) },
        745..747 => Op::DeleteStream { s },
        747..762 => Op::CreateGroup { s, g, start: start(r), settings: settings(r), create_stream: r.chance(50) },
        762..772 => Op::UpdateGroup { s, g, settings: settings(r) },
        772..774 => Op::DeleteGroup { s, g },
        774..786 => Op::Seek { s, g, to: start(r), dry_run: r.chance(40) },
        786..806 => {
            let ids = r.chance(50).then(|| which(r));
            Op::Claim { s, g, c, idle_ms: r.one(&[0, 50, 2000]), ids, from: pick(r), max: 1 + r.below(10) as u8 }
        }
        806..812 => Op::RemoveConsumer { s, g, c },
        812..822 => Op::OpenSession { slot: r.below(4) as u8, s, g, c },
        822..862 => {
            Op::Next { slot: r.below(4) as u8, max: 1 + r.below(12) as u8, bytes_max: r.one(&[1, 400, 60_000]) }
        }
        862..866 => Op::Drain { slot: r.below(4) as u8 },
        866..870 => Op::Lose { slot: r.below(4) as u8 },
        870..882 => Op::Redrive { s, g, which: some(r), to_stream: r.chance(40) },
        882..886 => Op::Purge { s, g, which: some(r) },
        886..889 => Op::Reclaim { all: r.chance(60) },
        889 => Op::Expire {
            s,
            by: r.one(&[None, None, Some(-1), Some(0), Some(40), Some(3_000), Some(900_000), Some(90_000_000)]),
            had: r.one(&[None, None, Some(false), Some(true)]),
            later: r.chance(20),
            earlier: r.chance(20),
        },
        890..990 => Op::Advance { ms: r.one(&[1, 1, 10, 60, 150, 1_000, 6_000, 40_000]) },
        990..994 => Op::Wall { by: r.one(&[-5_000, -1, 3, 900]) },
        994..998 => {
            let fates = [IndexFate::Kept, IndexFate::Kept, IndexFate::Lost, IndexFate::Old, IndexFate::Foreign];
            Op::Restart { clean: r.chance(50), index: r.one(&fates) }
        }
        _ => Op::Torn(Box::new(match r.below(3) {
            0 => Op::Publish { s, publish: publish(r) },
            1 => pull(r, s, g, c, false),
            _ => Op::Settle { s, g, which: which(r), who: Who::Anyone, action: Action::Acknowledge },
        })),
    }
}

fn stream(r: &mut Random) -> u8 {
    if r.chance(92) { r.below(2) as u8 } else { 2 + r.below(3) as u8 }
}

fn pick(r: &mut Random) -> Pick {
    match r.below(10) {
        0 => Pick::Zero,
        1 => Pick::Max,
        2 => Pick::Last,
        3 => Pick::Now(r.one(&[-1_000, -20, 0, 5, 500])),
        _ => Pick::Nth(r.next() as u16),
    }
}

fn publish(r: &mut Random) -> PublishOp {
    let once = r.chance(20).then(|| (r.below(2) as u8, r.below(8) as u8));
    // What is named has one entry, and no id of its own.
    let is_plain = once.is_some() && r.chance(90);
    let ids = match r.below(12) {
        _ if is_plain => Ids::Auto,
        0 => Ids::Exact(Pick::Last, r.below(3) as u8),
        1 => Ids::Exact(pick(r), 1),
        2 => Ids::AutoSeq(r.one(&[-50, 0, 2])),
        _ => Ids::Auto,
    };
    PublishOp {
        count: if is_plain || r.chance(60) { 1 } else { 1 + r.below(15) as u8 },
        ids,
        expect: r.chance(10).then(|| r.one(&[Expect::Exists, Expect::Empty, Expect::LastId, Expect::Other])),
        producer: r.chance(20).then(|| (r.below(3) as u8, r.below(12) as u8)),
        spoiled: r.chance(10),
        once,
        event_ids: r.chance(25).then(|| (r.below(30) as u8, r.chance(70))),
        create: r.one(&[None, None, Some(true), Some(false)]),
        fields: r.chance(15),
        size: r.one(&[1, 20, 60, 300]),
        keys: r.below(5) as u8,
        // One before a time is for a reader to find.
        trim: r.chance(15).then(|| trim(r)).filter(|to| !matches!(to, TrimOp::BeforeTime(_))),
    }
}

fn pull(r: &mut Random, s: u8, g: u8, c: u8, claims: bool) -> Op {
    let max = r.one(&[1, 2, 5, 20, 100]);
    let claim_ms = (claims && r.chance(25)).then(|| r.one(&[0, 0, 40, 1_000]));
    Op::Pull { s, g, c, max, bytes_max: r.one(&[1, 300, 60_000, 60_000]), no_ack: r.chance(8), claim_ms }
}

fn which(r: &mut Random) -> Which {
    let count = r.one(&[1, 1, 3, 10, 60]);
    Which { from: r.next() as u16, count, span: r.chance(30), stray: r.chance(20).then(|| r.next() as u16) }
}

fn who(r: &mut Random) -> Who {
    match r.below(10) {
        0..3 => Who::Anyone,
        3..5 => Who::Consumer(r.below(4) as u8),
        5..9 => Who::Own,
        _ => Who::Foreign,
    }
}

fn action(r: &mut Random) -> Action {
    match r.below(20) {
        0..10 => Action::Acknowledge,
        10..14 => Action::Retry(r.one(&[None, None, Some(0), Some(40), Some(3_000)])),
        14 => Action::DeadLetter,
        15 => Action::Skip,
        16..18 => Action::HandBack,
        _ => Action::Extend(r.one(&[None, Some(1), Some(500), Some(20_000)])),
    }
}

fn trim(r: &mut Random) -> TrimOp {
    match r.below(4) {
        0 => TrimOp::BeforeId(pick(r)),
        1 => TrimOp::BeforeTime(r.one(&[-30_000, -2_000, -100, 50])),
        2 => TrimOp::KeepEntries(r.one(&[0, 1, 10, 60, 200])),
        _ => TrimOp::KeepBytes(r.one(&[0, 100, 2_000, 20_000])),
    }
}

fn start(r: &mut Random) -> Start {
    match r.below(5) {
        0 | 1 => Start::Earliest,
        2 => Start::Latest,
        3 => Start::After(pick(r)),
        _ => Start::Time(r.one(&[-5_000, -100, 0, 300])),
    }
}

fn settings(r: &mut Random) -> SettingsOp {
    SettingsOp {
        ack_wait_ms: r.one(&[0, 100, 1_000, 30_000]),
        max_deliveries: r.one(&[0, 0, 1, 2, 3]),
        backoff_ms: r.one(&[vec![], vec![50], vec![10, 200, 3_000]]),
        dispatch: r.one(&[Dispatch::Shared, Dispatch::KeyOrdered, Dispatch::SingleActive]),
        pending_max: r.one(&[4, 25, 1_000]),
        common_letters: r.chance(15),
    }
}

fn some(r: &mut Random) -> Option<Vec<u16>> {
    r.chance(60).then(|| (0..1 + r.below(4)).map(|_| r.next() as u16).collect())
}
