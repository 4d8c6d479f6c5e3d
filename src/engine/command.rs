//! Commands to the core, and what travels back.
//!
//! A command carries all that the core needs to decide from memory; what needs stored bytes was prepared before
//! (sizes, ids, candidates), with the version that the preparation saw.

use std::sync::Arc;

use super::api::{
    Before, Claim, Expected, GroupInfo, Holder, ListPending, NackAction, PendingInfo, Publish, Published, RedriveTo,
    References, Release, SetExpiry, SetLastId, Settled, StreamInfo, TrimTo,
};
use super::backup::BackupPoint;
use super::reply::Reply;
use super::retention::Retained;
use super::sealed::Replacement;
use super::ticket::{Homecoming, Ticket};
use super::transaction::Transact;
use super::view::StreamView;
use crate::format::record::{DeletedEntry, FilesReplaced};
use crate::group::{Candidate, Deliverable, DeliveryRequest};
use crate::stream::{Found, OnceInfo, TrimRule, Wanted};
use crate::types::{
    ConsumerName, DeliveryNumber, EntryId, GroupName, GroupNumber, GroupSettings, IdRange, NewEntry, StreamName,
    StreamNumber, StreamSettings,
};

/// A publish with what the handle computed of it.
#[derive(Debug)]
pub(crate) struct PreparedPublish {
    pub(crate) request: Publish,
    /// Bytes of all entries.
    pub(crate) bytes: usize,
    /// Hash of the contents, where the producer numbers its requests.
    pub(crate) hash: u128,
}

/// Publishes to one stream that are decided about together where that changes nothing, see [`super::gather`].
#[derive(Debug)]
pub(crate) struct Run {
    /// The request, or all of them as one.
    pub(crate) publish: PreparedPublish,
    /// How many entries each of the requests has; empty where it is one.
    pub(crate) counts: Vec<u32>,
    /// Whether requests that are alike may join it.
    pub(crate) joins: bool,
    /// What it takes in a commit; roughly, from above.
    pub(crate) cost: usize,
}

/// Answer to a [`Run`].
#[derive(Debug)]
pub(crate) enum RunPublished {
    /// To its one request.
    One(crate::error::Result<Published>),
    /// Its requests were appended as one: they have the ids from this one on.
    Joined { first: EntryId, counts: Vec<u32> },
    /// Its requests were taken one by one.
    Each(Vec<crate::error::Result<Published>>),
}

/// Whom a group command is about.
#[derive(Clone, Debug)]
pub(crate) struct GroupKey {
    pub(crate) stream: StreamName,
    pub(crate) group: GroupName,
}

/// Candidates that a reader prepared for a group.
#[derive(Debug)]
pub(crate) struct PreparedCandidates {
    /// The window's head for which they were prepared.
    pub(crate) after: EntryId,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) looked_to: EntryId,
}

/// Asks for entries.
#[derive(Debug)]
pub(crate) struct Deliver {
    /// Of which groups, at least one. Whoever asks several is answered with what there is in all of them.
    pub(crate) places: Vec<Place>,
    pub(crate) who: Receiver,
    pub(crate) request: DeliveryRequest,
    /// Milliseconds to wait where there is nothing.
    pub(crate) wait_ms: u64,
    /// For one of the places.
    pub(crate) prepared: Option<(usize, PreparedCandidates)>,
    pub(crate) reply: Reply<DeliverAnswer>,
}

/// A group that is asked for entries.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) key: GroupKey,
    /// What others hold for so long is taken over first, in milliseconds; unset: nothing is.
    pub(crate) claim_idle_ms: Option<u64>,
}

/// Who asks for entries.
#[derive(Clone, Debug)]
pub(crate) enum Receiver {
    /// A pull: each has a delivery number of its own.
    Consumer(ConsumerName),
    /// A consume session.
    Session(DeliveryNumber),
}

/// What a [`Deliver`] comes to.
#[derive(Debug)]
pub(crate) enum DeliverAnswer {
    /// These entries are the asker's, by the places that it asked, once it takes them.
    Granted(Vec<(usize, Grants)>),
    /// The window of one of the groups is used up: prepare candidates after this id and ask again.
    Prepare { place: usize, view: Arc<StreamView>, after: EntryId, with_keys: bool },
    /// Nothing came in time.
    Nothing,
}

/// One granted entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) id: EntryId,
    pub(crate) deliveries: u32,
    pub(crate) failures: u32,
    /// How it stood before, where that was asked for and it was pending.
    pub(crate) before: Option<Before>,
}

/// Entries granted to one asker.
#[derive(Debug)]
pub(crate) struct Grants {
    pub(crate) view: Arc<StreamView>,
    pub(crate) group: GroupNumber,
    pub(crate) delivery: DeliveryNumber,
    pub(crate) entries: Vec<Grant>,
    pub(crate) lease_ms: u64,
    /// Whether they were taken, and where to send them back; unset for what is the asker's at once.
    pub(crate) way: Option<Way>,
}

/// How grants come to be their asker's.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) ticket: Arc<Ticket>,
    /// The grant before it in the order of first deliveries, where that was not taken yet.
    pub(crate) after: Option<Arc<Ticket>>,
    pub(crate) home: Arc<Homecoming>,
}

impl Grants {
    /// Whether whoever was granted the entries before these has taken them, once that is known.
    pub(crate) async fn turn(&self) -> bool {
        match self.way.as_ref().and_then(|way| way.after.as_ref()) {
            Some(before) => before.taken().await,
            None => true,
        }
    }

    /// Makes them the asker's; `false` where the core has taken them back.
    pub(crate) fn take(&mut self) -> bool {
        self.way.take().is_none_or(|way| way.ticket.take())
    }
}

impl Drop for Grants {
    fn drop(&mut self) {
        let Some(way) = self.way.take() else { return };
        way.home.grant(self.group, &way.ticket);
    }
}

/// A trim, to be decided from what the core knows of the stream's head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrimAsked {
    pub(crate) stream: StreamNumber,
    pub(crate) rule: TrimRule,
    /// Nothing goes that some group has not acknowledged, and all before that does.
    pub(crate) unacknowledged: bool,
    /// Only say what would go.
    pub(crate) dry_run: bool,
}

/// What went, or would go, by a trim.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TrimDone {
    /// The smallest id that is kept; zero where nothing goes.
    pub(crate) before: EntryId,
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

/// A batch of a trim that looks at what groups have of each entry.
#[derive(Debug)]
pub(crate) struct SingleTrim {
    pub(crate) stream: StreamNumber,
    pub(crate) to: TrimTo,
    pub(crate) references: References,
    /// Entries that go at most.
    pub(crate) dropped_max: u64,
    /// The id after which the candidates come; nothing is left out between them.
    pub(crate) after: EntryId,
    pub(crate) candidates: Vec<Candidate>,
}

/// What came of a [`SingleTrim`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct SingleTrimmed {
    pub(crate) dropped: u64,
    /// The candidate after which to go on; `None` where nothing more is to go.
    pub(crate) next: Option<EntryId>,
}

/// Where a group's cursor is to stand, found by a reader.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cursor {
    /// Before everything that is kept.
    Earliest,
    /// After everything that the core has appended.
    Latest,
    /// At an id of a stream that there was not when it was looked for.
    OfNew { id: EntryId },
    /// At an id, with the number of entries ever appended up to it.
    At { stream: StreamNumber, id: EntryId, ordinal: u64 },
}

/// A dead letter or a redriven entry, with its bytes fetched.
#[derive(Clone, Debug)]
pub(crate) struct Fetched {
    /// Its id where it is now.
    pub(crate) id: EntryId,
    /// What is to be appended; `None` where it no longer exists.
    pub(crate) entry: Option<NewEntry>,
}

/// One dead letter to be sent back.
#[derive(Clone, Debug)]
pub(crate) struct RedriveOne {
    /// Its id and size in the dead-letter stream.
    pub(crate) letter: DeletedEntry,
    /// Its id in the stream that it came from.
    pub(crate) origin: EntryId,
    /// Size and key hash of the original entry there, where it exists.
    pub(crate) original: Option<(u32, u64)>,
    /// The entry as it was.
    pub(crate) entry: NewEntry,
}

/// Everything that the core can be asked.
#[derive(Debug)]
pub(crate) enum Command {
    PublishEach {
        runs: Vec<Run>,
        reply: Reply<Vec<RunPublished>>,
    },
    CreateStream {
        name: StreamName,
        settings: StreamSettings,
        reply: Reply<StreamInfo>,
    },
    StreamInfo {
        name: StreamName,
        reply: Reply<StreamInfo>,
    },
    UpdateStream {
        name: StreamName,
        settings: StreamSettings,
        reply: Reply<StreamInfo>,
    },
    /// Answers whether it was done: not where only a new name is wanted, and the name is taken.
    RenameStream {
        name: StreamName,
        to: StreamName,
        replace: bool,
        reply: Reply<bool>,
    },
    SetLastId {
        name: StreamName,
        to: SetLastId,
        reply: Reply<()>,
    },
    /// Seconds, and names of one producer, that are remembered of requests that are to be appended once.
    ConfigureOnce {
        name: StreamName,
        to: (Option<u32>, Option<u32>),
        reply: Reply<()>,
    },
    OnceInfo {
        name: StreamName,
        reply: Reply<Option<OnceInfo>>,
    },
    /// Answers whether it was set: the stream may be gone, or the condition may not hold.
    SetExpiry {
        name: StreamName,
        to: SetExpiry,
        reply: Reply<bool>,
    },
    DeleteStream {
        name: StreamName,
        reply: Reply<()>,
    },
    Trim {
        asked: TrimAsked,
        reply: Reply<TrimDone>,
    },
    /// In a transaction: answers what has to be found before such a trim can be decided, of a stream to which so many
    /// entries of so many bytes come before it.
    HeadWanted {
        stream: StreamName,
        rule: TrimRule,
        coming: (u64, u64),
        reply: Reply<Option<Wanted>>,
    },
    /// A reader found out about the head of a stream.
    HeadFound {
        stream: StreamNumber,
        found: crate::error::Result<Found>,
    },
    TrimSingly {
        trim: SingleTrim,
        reply: Reply<SingleTrimmed>,
    },
    /// Answers how many still existed.
    DeleteEntries {
        stream: StreamNumber,
        entries: Vec<DeletedEntry>,
        reply: Reply<u64>,
    },
    CreateGroup {
        key: GroupKey,
        cursor: Option<Cursor>,
        /// Entries that count as read, where that is told.
        reads: Option<u64>,
        settings: GroupSettings,
        create_stream: bool,
        reply: Reply<GroupInfo>,
    },
    /// The streams that are not to keep everything.
    BeginSegment {
        reply: Reply<()>,
    },
    /// Answers how many there were.
    DeleteStreams {
        names: Vec<StreamName>,
        reply: Reply<u64>,
    },
    /// Answers the set of files with the position up to which the log is synced then.
    BackupPoint {
        reply: Reply<BackupPoint>,
    },
    ReplaceFiles {
        change: FilesReplaced,
        replacement: Replacement,
        reply: Reply<()>,
    },
    Retained {
        reply: Reply<Vec<Retained>>,
    },
    GroupInfo {
        key: GroupKey,
        /// With the oldest pending entry that still exists.
        reply: Reply<(GroupInfo, Option<EntryId>)>,
    },
    UpdateGroup {
        key: GroupKey,
        settings: GroupSettings,
        reply: Reply<GroupInfo>,
    },
    DeleteGroup {
        key: GroupKey,
        reply: Reply<()>,
    },
    /// Answers the cursor before and after with their ordinals; moves it unless it is a dry run.
    Seek {
        key: GroupKey,
        cursor: Cursor,
        /// Entries that count as read afterwards, where that is told.
        reads: Option<u64>,
        dry_run: bool,
        reply: Reply<SeekAnswer>,
    },
    Deliver(Box<Deliver>),
    OpenSession {
        key: GroupKey,
        consumer: ConsumerName,
        reply: Reply<DeliveryNumber>,
    },
    /// Ends a session that drains; answers how many entries it hands back.
    CloseSession {
        key: GroupKey,
        session: DeliveryNumber,
        reply: Reply<u64>,
    },
    /// Something came back by itself: see [`Homecoming`].
    LookAtHomecoming,
    Acknowledge {
        key: GroupKey,
        ids: Vec<IdRange>,
        holder: Holder,
        publish: Vec<PreparedPublish>,
        reply: Reply<Settled>,
    },
    Nack {
        key: GroupKey,
        ids: Vec<IdRange>,
        holder: Holder,
        action: NackAction,
        reply: Reply<Settled>,
    },
    Extend {
        key: GroupKey,
        ids: Vec<IdRange>,
        holder: Holder,
        lease_ms: Option<u64>,
        reply: Reply<Settled>,
    },
    ListPending {
        request: ListPending,
        reply: Reply<Vec<PendingInfo>>,
    },
    Claim {
        prepared: Box<PreparedClaim>,
        reply: Reply<ClaimAnswer>,
    },
    /// Answers how many were released.
    Release {
        prepared: Box<PreparedRelease>,
        reply: Reply<u64>,
    },
    /// Shows a consumer, which is made where it is missing, once more what it holds.
    Reread {
        request: ListPending,
        reply: Reply<RereadAnswer>,
    },
    /// Makes a consumer where it is missing; answers whether it was.
    AddConsumer {
        key: GroupKey,
        consumer: ConsumerName,
        reply: Reply<bool>,
    },
    RemoveConsumer {
        key: GroupKey,
        consumer: ConsumerName,
        held: HeldEntries,
        reply: Reply<u64>,
    },
    /// A reader fetched what exhausted entries hold.
    DeadLetter {
        group: GroupNumber,
        fetched: crate::error::Result<Vec<Fetched>>,
    },
    Redrive {
        key: GroupKey,
        letters: Vec<RedriveOne>,
        to: RedriveTo,
        reply: Reply<super::api::Redriven>,
    },
    Transact(Box<dyn Transact>),
    Shutdown {
        reply: Reply<()>,
    },
}

/// Answer to a seek.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SeekAnswer {
    pub(crate) from: (EntryId, u64),
    pub(crate) to: (EntryId, u64),
    pub(crate) entries: u64,
}

/// Answer to a claim.
#[derive(Debug)]
pub(crate) struct ClaimAnswer {
    pub(crate) grants: Grants,
    pub(crate) gone: Vec<EntryId>,
    pub(crate) next: Option<EntryId>,
}

/// A claim with what stored bytes tell of it.
#[derive(Debug)]
pub(crate) struct PreparedClaim {
    pub(crate) request: Claim,
    /// Named entries that exist, in id order, where they are to be taken even if they are not pending.
    pub(crate) forced: Vec<Deliverable>,
    /// Where the cursor is to stand at least.
    pub(crate) cursor: Option<Cursor>,
}

/// A release with what stored bytes tell of it.
#[derive(Debug)]
pub(crate) struct PreparedRelease {
    pub(crate) request: Release,
    /// Named entries that exist, in id order, where they are to be released even if they are not pending.
    pub(crate) forced: Vec<Deliverable>,
}

/// Answer to a [`Command::Reread`].
#[derive(Debug)]
pub(crate) struct RereadAnswer {
    pub(crate) grants: Grants,
    pub(crate) gone: Vec<EntryId>,
}

/// What becomes of the entries that a removed consumer held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeldEntries {
    /// They go back to the group.
    Back,
    /// They are no longer pending, and do not come again.
    Dropped,
}

/// What the core wants read from stored bytes, to come back as a command.
#[derive(Debug)]
pub(crate) enum Job {
    /// Fetch exhausted entries, ready to be appended to the dead letters.
    FetchDeadLetters { view: Arc<StreamView>, group: GroupNumber, letters: Vec<LetterToFetch> },
    /// Find out about the head of a stream.
    FindHead { view: Arc<StreamView>, wanted: Wanted },
}

/// An exhausted entry with what its dead letter says.
#[derive(Clone, Debug)]
pub(crate) struct LetterToFetch {
    pub(crate) id: EntryId,
    pub(crate) origin: crate::engine::dead_letter::Origin,
}

impl Job {
    /// How the core is told that nobody can do it.
    pub(crate) fn refusal(&self) -> Box<dyn FnOnce(crate::error::Error) -> Command> {
        match self {
            Self::FetchDeadLetters { group, .. } => {
                let group = *group;
                Box::new(move |error| Command::DeadLetter { group, fetched: Err(error) })
            }
            Self::FindHead { wanted, .. } => {
                let stream = wanted.stream;
                Box::new(move |error| Command::HeadFound { stream, found: Err(error) })
            }
        }
    }
}

impl PreparedPublish {
    /// Bytes that it holds.
    pub(crate) fn held_bytes(&self) -> usize {
        self.bytes + size_of_val(&self.request.entries[..])
    }

    /// Whether the request may make its stream.
    pub(crate) fn may_create(&self, default: bool) -> bool {
        self.request.create_stream.unwrap_or(default) && !matches!(self.request.expected, Some(Expected::Exists))
    }
}

impl Run {
    /// Bytes that it holds.
    pub(crate) fn held_bytes(&self) -> usize {
        self.publish.held_bytes() + size_of_val(&self.counts[..])
    }

    /// A run of one request that none joins.
    pub(crate) fn one(publish: PreparedPublish) -> Self {
        Self { publish, counts: Vec::new(), joins: false, cost: 0 }
    }

    /// How many requests it is.
    pub(crate) fn requests(&self) -> usize {
        self.counts.len().max(1)
    }

    /// Its requests.
    pub(crate) fn split(self) -> impl Iterator<Item = PreparedPublish> {
        let Self { publish: PreparedPublish { request, hash, .. }, counts, .. } = self;
        let Publish { stream, entries, durability, create_stream, trim, .. } = request;
        let mut entries = entries.into_iter();
        counts.into_iter().map(move |count| {
            let entries = entries.by_ref().take(count as usize).collect();
            let request = Publish { durability, create_stream, trim, ..Publish::new(stream.clone(), entries) };
            PreparedPublish { bytes: request.bytes(), request, hash }
        })
    }
}
