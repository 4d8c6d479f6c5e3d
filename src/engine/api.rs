//! Requests to the engine and its answers: what every front end translates to and from.
//!
//! Plain data. Times are durations or milliseconds; sizes are bytes. Defaults are those of an unconfigured client.

use std::time::Duration;

pub use crate::group::ReleaseAs;
use crate::types::{
    ConsumerName, DeliveryNumber, Durability, EntryId, GroupName, GroupSettings, IdRange, IdRequest, NewEntry,
    ProducerId, StoredEntry, StreamName, StreamSettings,
};

/// What must hold of a stream for a publish to go ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The stream exists.
    Exists,
    /// The stream exists not, or holds no entry and never did (its last id is `0-0`).
    Empty,
    /// The stream's last id is this one.
    LastId(EntryId),
}

/// A producer's own number for a request: the same number again is the same request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerSequence {
    /// Who publishes.
    pub producer: ProducerId,
    /// Rises with each request of that producer to that stream; gaps are allowed.
    pub sequence: u64,
}

/// A producer's own name for a request: the same name again is the same request, whatever is in it. Unlike numbers, names
/// come in no order; they are remembered as long, and as many of them, as `Engine::configure_once` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnceName {
    /// Who publishes: 1 to 255 bytes.
    pub producer: Vec<u8>,
    /// Its name for the request: 1 to 255 bytes.
    pub name: Vec<u8>,
}

/// One atomic publish: all entries or none, with contiguous ids.
#[derive(Clone, Debug)]
pub struct Publish {
    /// Where to.
    pub stream: StreamName,
    /// What; at least one entry.
    pub entries: Vec<NewEntry>,
    /// Which ids; [`IdRequest::Exact`] goes with one entry only.
    pub ids: IdRequest,
    /// Optimistic concurrency.
    pub expected: Option<Expected>,
    /// Deduplication by producer sequence.
    pub producer: Option<ProducerSequence>,
    /// Deduplication by a name that the request alone has: a hash of it and of who named it. The same name with the same
    /// contents is answered with the ids of the first time, as long as the stream's window is.
    pub name: Option<u128>,
    /// Deduplication by the producer's name for the request, which has one entry and an id that is given to it.
    pub once: Option<OnceName>,
    /// Deduplicate by the events' own ids, even where the stream's settings do not.
    pub dedup_by_event_id: bool,
    /// When to answer; the stream's or the server's default where unset.
    pub durability: Option<Durability>,
    /// Whether to make the stream where it is missing; the server's default where unset.
    pub create_stream: Option<bool>,
    /// What the stream drops in the same commit, once the entries are appended; a duplicate drops nothing.
    pub trim: Option<PublishTrim>,
}

/// A trim that goes with a publish. It is no reason to refuse it: where damage keeps it from going as far as it should,
/// the stream keeps more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishTrim {
    /// How far.
    pub to: TrimTo,
    /// Set where only whole logical nodes are dropped: entries that go at most.
    pub nodes: Option<u64>,
}

impl Publish {
    /// A plain publish of these entries.
    pub fn new(stream: StreamName, entries: Vec<NewEntry>) -> Self {
        Self {
            stream,
            entries,
            ids: IdRequest::Auto,
            expected: None,
            producer: None,
            name: None,
            once: None,
            dedup_by_event_id: false,
            durability: None,
            create_stream: None,
            trim: None,
        }
    }

    /// Bytes of all entries in their stored form.
    pub fn bytes(&self) -> usize {
        self.entries.iter().map(|e| e.bytes.len()).sum()
    }
}

/// Answer to a publish. The new entries have the ids `first`, `first+1`, … `last`, all of one millisecond.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Id of the first entry of the request.
    pub first: EntryId,
    /// Id of the last entry of the request.
    pub last: EntryId,
    /// Entries of the request.
    pub count: u32,
    /// The whole request was a duplicate: nothing was appended, the ids are the original ones.
    pub duplicate: bool,
    /// Set only where some, but not all, events were duplicates by their own id:
    /// for each event in order its id and whether it was a duplicate.
    pub each: Option<Vec<(EntryId, bool)>>,
}

impl Published {
    /// The id of each entry in order, with whether it was a duplicate.
    pub fn ids(&self) -> Vec<(EntryId, bool)> {
        match &self.each {
            Some(each) => each.clone(),
            None => (0..u64::from(self.count))
                .map(|n| (EntryId::new(self.first.ms, self.first.seq + n), self.duplicate))
                .collect(),
        }
    }
}

/// A page of a stream.
#[derive(Clone, Debug)]
pub struct Read {
    /// Which stream.
    pub stream: StreamName,
    /// Which ids.
    pub range: IdRange,
    /// From the greatest id down.
    pub reverse: bool,
    /// Entries at most, 1 to [`crate::limits::PAGE_ENTRIES_MAX`].
    pub entries_max: usize,
    /// Bytes after which the page ends; it holds at least one entry.
    pub bytes_max: usize,
    /// Refuse with `ID_TRIMMED` where the range starts below the trim point, instead of starting there.
    pub strict: bool,
}

impl Read {
    /// All of a stream from its first entry on, in pages of up to 1000.
    pub fn all(stream: StreamName) -> Self {
        Self {
            stream,
            range: IdRange::ALL,
            reverse: false,
            entries_max: 1000,
            bytes_max: crate::limits::PAGE_BYTES_DEFAULT,
            strict: false,
        }
    }
}

/// Answer to [`Read`].
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The entries, in the order asked for.
    pub entries: Vec<StoredEntry>,
    /// Where there is more in the range: the id to go on from (the new start, or the new end when reversed).
    pub next: Option<EntryId>,
    /// Set where the range was to start at an id below what is trimmed (when reversed also where all of it lies there): no
    /// entry below this id is left, and some that were asked for may be gone.
    pub trimmed_before: Option<EntryId>,
    /// How many entries the stream had ever been appended before the first of these, and before the last.
    pub ordinals: Option<(u64, u64)>,
}

/// What a tail brings: at least one entry, or a gap.
#[derive(Clone, Debug, Default)]
pub struct TailBatch {
    /// Entries that were trimmed before the tail got to them; they come before the others.
    pub gap: Option<Gap>,
    /// The entries, in id order.
    pub entries: Vec<StoredEntry>,
}

/// Entries that were trimmed before a tail got to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// They come after this id: where the tail was, or where it was to start.
    pub after: EntryId,
    /// They come before this id: that of the first entry behind them, or where there is none yet, below which all is trimmed.
    pub before: EntryId,
    /// How many; among them are those that were deleted singly before they would have been trimmed. Unset where that is
    /// not known, since the tail was to start below what was trimmed already: it may be none then.
    pub missed: Option<u64>,
}

/// Where a tail starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TailFrom {
    /// The first entry that is kept.
    Earliest,
    /// What comes from now on.
    Latest,
    /// The first entry after this one.
    After(EntryId),
    /// The first entry appended at this wall time (milliseconds since the Unix epoch) or later.
    Time(u64),
}

/// What is known of a stream.
#[derive(Clone, Debug)]
pub struct StreamInfo {
    /// Its name.
    pub name: StreamName,
    /// Its number in this store.
    pub number: u64,
    /// Its settings.
    pub settings: StreamSettings,
    /// Entries that can be read.
    pub length: u64,
    /// Bytes of the entries that can be read.
    pub bytes: u64,
    /// First id that can be read, where there is an entry.
    pub first: Option<EntryId>,
    /// Last id that was given out; `0-0` for a stream that never had an entry.
    pub last: EntryId,
    /// Entries ever appended.
    pub appended: u64,
    /// Entries that it tells to have been added; others than appended where that was set ([`SetLastId`]).
    pub added: u64,
    /// Greatest id that was deleted singly; `0-0` if none.
    pub deleted_max: EntryId,
    /// Wall time of its creation, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// When it goes by itself: wall time, in milliseconds since the Unix epoch.
    pub expires_ms: Option<u64>,
    /// Its groups by name.
    pub groups: Vec<GroupName>,
}

/// When a stream is to go by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpireAt {
    /// At this wall time, in milliseconds since the Unix epoch, by whatever the wall clock says then.
    WallMs(u64),
    /// After so many milliseconds, however the wall clock is set meanwhile.
    AfterMs(u64),
}

/// When a stream is to go by itself, and on what condition that is to be set. All conditions that are set must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetExpiry {
    /// When; `None`: never.
    pub to: Option<ExpireAt>,
    /// Whether it must have had such a time before, or none.
    pub had: Option<bool>,
    /// Only where it is to stay longer than it would have; without such a time it stays for ever.
    pub later: bool,
    /// Only where it is to go earlier than it would have.
    pub earlier: bool,
}

/// Another last id for a stream, and other numbers for it to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetLastId {
    /// The id after which the next one comes: none below the last id that there is.
    pub last: EntryId,
    /// Entries that it is to tell to have been added; not fewer than there are.
    pub added: Option<u64>,
    /// What it is to tell as the greatest id that was deleted singly; not above `last`.
    pub deleted_max: Option<EntryId>,
}

/// How far to trim a stream. Exactly one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrimTo {
    /// Drop entries below this id.
    BeforeId(EntryId),
    /// Drop entries appended before this wall time, in milliseconds since the Unix epoch.
    BeforeTime(u64),
    /// Keep the last so many entries.
    KeepEntries(u64),
    /// Keep the last so many bytes of entries: the longest tail that fits.
    KeepBytes(u64),
}

/// What becomes of what groups have of an entry that is to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum References {
    /// It stays pending.
    #[default]
    Keep,
    /// It is pending nowhere any more.
    Drop,
    /// An entry stays that a group has pending, or has yet to deliver.
    Needed,
}

/// Trim a stream.
#[derive(Clone, Debug)]
pub struct Trim {
    /// Which stream.
    pub stream: StreamName,
    /// How far.
    pub to: TrimTo,
    /// Only say what would go.
    pub dry_run: bool,
}

/// Answer to [`Trim`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Entries that went, or would go.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// First id that is left, where any is.
    pub first: Option<EntryId>,
}

/// Where a group starts, or is moved to. The next delivery is the first entry after the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// The first entry that is kept.
    Earliest,
    /// What comes from now on.
    Latest,
    /// After this id: it counts as delivered.
    After(EntryId),
    /// The first entry appended at this wall time or later, in milliseconds since the Unix epoch.
    Time(u64),
}

/// Make a group.
#[derive(Clone, Debug)]
pub struct CreateGroup {
    /// Over which stream.
    pub stream: StreamName,
    /// Its name.
    pub group: GroupName,
    /// Where it starts.
    pub start: StartAt,
    /// Its settings.
    pub settings: GroupSettings,
    /// Make the stream, too, where it is missing.
    pub create_stream: bool,
}

/// What is known of a group.
#[derive(Clone, Debug)]
pub struct GroupInfo {
    /// Over which stream.
    pub stream: StreamName,
    /// Its name.
    pub name: GroupName,
    /// Its settings, with the dead-letter stream filled in.
    pub settings: GroupSettings,
    /// The last id that was delivered for the first time.
    pub cursor: EntryId,
    /// Entries not delivered yet, exactly.
    pub undelivered: u64,
    /// Entries delivered and not acknowledged.
    pub pending: u64,
    /// Of those, entries that wait for redelivery.
    pub waiting: u64,
    /// The smallest and the greatest id of those that are pending.
    pub pending_ends: Option<(EntryId, EntryId)>,
    /// Wall time of append of the oldest entry that is not acknowledged, in milliseconds since the Unix epoch.
    pub oldest_unacknowledged_ms: Option<u64>,
    /// Entries that it has read as Redis counts them, where that is known: deletions may make it unknown.
    pub reads: Option<u64>,
    /// Of those that wait, entries that were released.
    pub released: u64,
    /// Entries that were trimmed before they were delivered.
    pub skipped_by_trim: u64,
    /// Entries acknowledged since the group was made.
    pub acknowledged: u64,
    /// Entries moved to the dead letters since the group was made.
    pub dead_lettered: u64,
    /// Its consumers by name.
    pub consumers: Vec<ConsumerInfo>,
}

/// What is known of a consumer.
#[derive(Clone, Debug)]
pub struct ConsumerInfo {
    /// Its name.
    pub name: ConsumerName,
    /// Entries that it holds.
    pub pending: u64,
    /// Milliseconds of engine time since it was last heard of.
    pub idle_ms: u64,
    /// Milliseconds since it last got or claimed an entry, where it ever did.
    pub inactive_ms: Option<u64>,
    /// Whether it is the one that gets entries (single-active groups only).
    pub active: bool,
    /// Consume sessions that it has open.
    pub sessions: u32,
}

/// Answer to a seek.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeked {
    /// The cursor before.
    pub from: EntryId,
    /// The cursor after (or as it would be).
    pub to: EntryId,
    /// Entries between the two: to be delivered again when moved back, to be skipped when moved forward.
    pub entries: u64,
    /// Whether the move was (or would be) back.
    pub backwards: bool,
}

/// Who a consumer command speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Whoever: no fencing (the Redis protocol, administrators).
    Anyone,
    /// The consume session, or the pull, that got the entries: others' entries are reported as not owned.
    Delivery(DeliveryNumber),
    /// The named consumer, by whichever delivery it got the entries.
    Consumer(ConsumerName),
}

/// Ask for entries.
#[derive(Clone, Debug)]
pub struct Pull {
    /// From which stream.
    pub stream: StreamName,
    /// For which group.
    pub group: GroupName,
    /// On behalf of which consumer; it is made where it is missing.
    pub consumer: ConsumerName,
    /// Entries at most.
    pub entries_max: usize,
    /// Bytes after which the delivery ends; it holds at least one entry.
    pub bytes_max: usize,
    /// How long to wait where there is nothing.
    pub wait: Duration,
    /// Treat what is delivered as acknowledged at once.
    pub no_ack: bool,
}

/// One delivered entry.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// The entry.
    pub entry: StoredEntry,
    /// Times that it was delivered, this one included.
    pub deliveries: u32,
    /// Times that a delivery of it failed: negatively acknowledged, lease run out, or session lost.
    pub failures: u32,
    /// How it stood before, where it was pending and the delivery is one that takes over: see `Engine::pull_idle`.
    pub before: Option<Before>,
}

/// How an entry stood before it was taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// Milliseconds since it was delivered; since the Unix epoch where it was released since then.
    pub idle_ms: u64,
    /// Times that it counted as delivered.
    pub deliveries: u32,
}

/// Answer to [`Pull`] and to a session's request: possibly nothing.
#[derive(Clone, Debug, Default)]
pub struct Delivery {
    /// What the acknowledgement must carry.
    pub delivery: DeliveryNumber,
    /// The entries, redelivered ones first, each part in id order.
    pub entries: Vec<Delivered>,
    /// Engine time is left out on purpose: how long the lease runs from now, in milliseconds; zero if by hand.
    pub lease_ms: u64,
}

/// Acknowledge entries, and publish what came of them in the same commit.
#[derive(Clone, Debug)]
pub struct Acknowledge {
    /// Of which stream.
    pub stream: StreamName,
    /// For which group.
    pub group: GroupName,
    /// Which entries.
    pub ids: Vec<IdRange>,
    /// On whose behalf.
    pub holder: Holder,
    /// Published atomically with the acknowledgement; then every single id must be held, or nothing happens.
    pub publish: Vec<Publish>,
}

/// What became of the ids of an acknowledgement, a negative one, or an extension.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Entries that it took effect on.
    pub done: u64,
    /// Ids of single-id ranges that were not pending.
    pub not_pending: Vec<EntryId>,
    /// Ids that are pending, but held by another.
    pub not_owned: Vec<EntryId>,
    /// Answers to the publishes that rode along, in order.
    pub published: Vec<Published>,
}

/// What a negative acknowledgement asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NackAction {
    /// Deliver again, after this delay, or after the group's back-off where unset. Counts as a failure.
    Retry {
        /// Zero: now.
        delay: Option<Duration>,
    },
    /// Move to the dead letters, with this reason.
    DeadLetter {
        /// Text for people.
        reason: String,
    },
    /// Drop: as if acknowledged.
    Skip,
    /// Give back unprocessed: deliver again now, without counting a failure.
    HandBack,
}

/// Negative acknowledgement.
#[derive(Clone, Debug)]
pub struct Nack {
    /// Of which stream.
    pub stream: StreamName,
    /// For which group.
    pub group: GroupName,
    /// Which entries.
    pub ids: Vec<IdRange>,
    /// On whose behalf.
    pub holder: Holder,
    /// What to do with them.
    pub action: NackAction,
}

/// Extend leases: they end this long from now.
#[derive(Clone, Debug)]
pub struct Extend {
    /// Of which stream.
    pub stream: StreamName,
    /// For which group.
    pub group: GroupName,
    /// Which entries.
    pub ids: Vec<IdRange>,
    /// On whose behalf.
    pub holder: Holder,
    /// From now; the group's `ack_wait` where unset.
    pub lease: Option<Duration>,
}

/// List pending entries, in id order.
#[derive(Clone, Debug)]
pub struct ListPending {
    /// Of which stream.
    pub stream: StreamName,
    /// For which group.
    pub group: GroupName,
    /// Which ids.
    pub range: IdRange,
    /// Entries at most.
    pub entries_max: usize,
    /// Only this consumer's.
    pub consumer: Option<ConsumerName>,
    /// Only those delivered at least so long ago.
    pub idle_min: Duration,
}

/// One pending entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingInfo {
    /// Its id.
    pub id: EntryId,
    /// Who holds it; nobody while it waits for redelivery.
    pub consumer: Option<ConsumerName>,
    /// Milliseconds since it was delivered last.
    pub idle_ms: u64,
    /// Milliseconds until the lease ends, or until it may be delivered again; `None` if by hand.
    pub due_ms: Option<u64>,
    /// Times delivered.
    pub deliveries: u32,
    /// Times failed.
    pub failures: u32,
}

/// Take over pending entries.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Of which stream.
    pub stream: StreamName,
    /// For which group.
    pub group: GroupName,
    /// Who takes them.
    pub consumer: ConsumerName,
    /// Only those delivered at least so long ago.
    pub idle_min: Duration,
    /// Which: these ids, or where empty any from `from` on.
    pub ids: Vec<EntryId>,
    /// Where to start when no ids are named.
    pub from: EntryId,
    /// Entries at most when no ids are named.
    pub entries_max: usize,
    /// What is told of the delivery that a claim is, and which entries it is about.
    pub options: ClaimOptions,
}

/// What a claim may say beside whose entries it takes; nothing of it by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimOptions {
    /// The entries count as delivered so long ago, rather than now.
    pub idle: Option<Duration>,
    /// They count as delivered so often, rather than once more.
    pub deliveries: Option<u32>,
    /// They count as delivered as often as before, unless `deliveries` is set.
    pub keep_count: bool,
    /// Named entries that exist are taken even if they are not pending.
    pub force: bool,
    /// The group's cursor stands at this id at least.
    pub cursor_min: Option<EntryId>,
    /// Pending entries that are looked at, at most, when no ids are named.
    pub examined_max: Option<usize>,
}

/// Take entries from whoever holds them, so that others may take them over at once: whoever claims, whatever they are
/// idle, and first of all pulls that take over. In a group with leases they are delivered again by themselves, too.
#[derive(Clone, Debug)]
pub struct Release {
    /// Of which stream.
    pub stream: StreamName,
    /// For which group.
    pub group: GroupName,
    /// Which, in the order in which they are to be taken over.
    pub ids: Vec<EntryId>,
    /// How often they count as delivered afterwards.
    pub how: ReleaseAs,
    /// Those that exist become pending where they are not, as never delivered.
    pub force: bool,
}

/// What a consumer holds, told once more.
#[derive(Clone, Debug, Default)]
pub struct Reread {
    /// What exists, as a delivery.
    pub delivery: Delivery,
    /// What does not; it stays pending.
    pub gone: Vec<EntryId>,
}

/// Answer to [`Claim`].
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    /// The entries, as a delivery.
    pub delivery: Delivery,
    /// Entries that no longer exist; they are no longer pending.
    pub gone: Vec<EntryId>,
    /// Where there is more than one answer holds (10,000 entries, 1 MiB): the first id that was left as it was.
    pub next: Option<EntryId>,
}

/// A page of dead letters.
#[derive(Clone, Debug, Default)]
pub struct DeadLetterPage {
    /// In the order of their stream.
    pub letters: Vec<DeadLetter>,
    /// Where there may be more: the id after which the next page begins.
    pub next_after: Option<EntryId>,
}

/// A dead letter: the original entry with what is known of its end.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Its place in the dead-letter stream.
    pub id: EntryId,
    /// The entry as it was, with its place in the dead-letter stream as id.
    pub entry: StoredEntry,
    /// The stream that it came from.
    pub origin_stream: String,
    /// Its id there.
    pub origin_id: EntryId,
    /// The group that gave it up.
    pub group: String,
    /// Deliveries before that.
    pub deliveries: u32,
    /// Failed ones among them.
    pub failures: u32,
    /// Why.
    pub reason: String,
    /// When, in milliseconds since the Unix epoch.
    pub failed_ms: u64,
}

/// Which dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadLetterChoice {
    /// These, by their ids in the dead-letter stream.
    Ids(Vec<EntryId>),
    /// All that are there when the command starts.
    All,
}

/// Where redriven dead letters go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedriveTo {
    /// Back to the group alone: pending again, to be delivered at once. The original entry must still exist.
    Group,
    /// To the stream, as a new entry for every group.
    Stream,
}

/// Answer to a redrive or purge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redriven {
    /// Dead letters that went.
    pub done: u64,
    /// Ids that are not (or no longer) dead letters of that group.
    pub not_found: Vec<EntryId>,
    /// Ids whose original entry is gone, so that the group alone cannot get it.
    pub original_gone: Vec<EntryId>,
    /// The group's bound on pending entries left no room for the others: they are dead letters still.
    pub is_cut_short: bool,
}

/// The state of the engine as health checks see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Everything works.
    Serving,
    /// Publishing is refused until there is room.
    StorageFull,
    /// Shutting down.
    Draining,
    /// A write or sync failed, or a thread died: reads only, with the reason.
    Failed(String),
}

/// Figures of the engine at one moment.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Streams.
    pub streams: u64,
    /// Groups.
    pub groups: u64,
    /// Entries appended since start.
    pub appended_entries: u64,
    /// Bytes of entries appended since start.
    pub appended_bytes: u64,
    /// Commits written since start.
    pub commits: u64,
    /// Syncs since start.
    pub syncs: u64,
    /// Entries delivered to groups since start.
    pub delivered: u64,
    /// Of those, redelivered.
    pub redelivered: u64,
    /// Entries acknowledged since start.
    pub acknowledged: u64,
    /// Entries dead-lettered since start.
    pub dead_lettered: u64,
    /// Askers who were told that their group has as many pending entries as it may, since start.
    pub held_back: u64,
    /// Publishes answered as duplicates since start.
    pub duplicates: u64,
    /// Trims since start that damage kept from going as far as they should.
    pub trims_short: u64,
    /// Commands waiting for the core.
    pub queued: u64,
    /// Bytes of log files.
    pub log_bytes: u64,
    /// Log position up to which everything is synced.
    pub synced_to: u64,
    /// Blocks found in memory since start.
    pub cache_hits: u64,
    /// Blocks read from disk since start.
    pub cache_misses: u64,
}
