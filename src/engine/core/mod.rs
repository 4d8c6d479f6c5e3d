//! The core: the only writer. It decides and applies commands in order, from memory, with the time it is handed.
//!
//! It does no I/O and never waits. What it decides is applied to memory at once and gathered into a commit; answers
//! ride on that commit and leave when it is durable. Invariants. **C1** an answer leaves no earlier than the commit
//! that holds its effect, and an answer without an effect no earlier than what it observed. **C2** a command's
//! effects are all in one commit. **C3** the core admits only what fits the room that is already allocated.

mod checkpoint;
mod claims;
mod clock;
mod dead_letters;
mod deliver;
mod expiry;
mod files;
mod groups;
mod heads;
mod last_id;
mod once;
mod publish;
mod reads;
mod release;
mod settle;
mod streams;
mod transaction;
mod trim_singly;
mod ungrant;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::command::{Command, GroupKey, Job};
use super::commit::{CapturedState, Commit, CommitBlock, CommitBuilder};
use super::reply::{Release, Reply};
use super::shared::Shared;
use super::view::StreamView;
use crate::clock::{EngineClock, Now};
use crate::error::{Error, Reason, Result};
use crate::format::block::BlockView;
use crate::format::record::Effect;
use crate::group::{Group, Window};
use crate::limits;
use crate::storage::{FRAME_COST_BASE, FileId, FileSet, Fit, RoomPlanner};
use crate::stream::Stream;
use crate::types::{
    ConsumerNumber, DeliveryNumber, Dispatch, EntryId, GroupName, GroupNumber, StreamName, StreamNumber,
};

pub(crate) use checkpoint::FrozenState;
pub(crate) use deliver::Waiter;
pub(crate) use heads::{keep, rule};

/// A stream with what the core keeps beside its state.
pub(crate) struct StreamSlot {
    pub(crate) stream: Stream,
    pub(crate) view: Arc<StreamView>,
    pub(crate) groups: BTreeMap<GroupName, GroupNumber>,
    /// The last durable entry.
    pub(crate) visible: EntryId,
    /// The last commit with an effect on it.
    pub(crate) dirty: u64,
    /// What is known of its oldest entries, where it is trimmed.
    pub(crate) head: Option<Box<heads::HeadSlot>>,
}

/// A group with what the core keeps beside its state.
pub(crate) struct GroupSlot {
    pub(crate) group: Group,
    pub(crate) window: Window,
    pub(crate) waiters: VecDeque<Waiter>,
    /// The consumer after which those are looked at that may be forgotten.
    pub(crate) looked_at: ConsumerNumber,
    /// Grants of which it is not known that they were taken, in the order of first deliveries.
    pub(crate) untaken: VecDeque<ungrant::Untaken>,
    pub(crate) sessions: BTreeMap<DeliveryNumber, ConsumerNumber>,
    /// The consumer that a single-active group delivers to.
    pub(crate) active: Option<ConsumerNumber>,
    /// The last commit with an effect on it other than deliveries.
    pub(crate) dirty: u64,
    /// Whether exhausted entries are being fetched.
    pub(crate) fetching: bool,
    /// When to try again to move exhausted entries.
    pub(crate) retry_ms: Option<u64>,
    /// Answers that wait until no entry is exhausted.
    pub(crate) letter_replies: Vec<Release>,
    timer: Option<u64>,
}

impl GroupSlot {
    pub(crate) fn new(group: Group) -> Self {
        let window = Window::at(group.cursor);
        Self {
            group,
            window,
            waiters: VecDeque::new(),
            looked_at: ConsumerNumber::NOBODY,
            untaken: VecDeque::new(),
            sessions: BTreeMap::new(),
            active: None,
            dirty: 0,
            fetching: false,
            retry_ms: None,
            letter_replies: Vec::new(),
            timer: None,
        }
    }
}

/// What a command needs room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admit {
    /// Publishing and making things: must leave the reserve alone.
    Growing,
    /// Deliveries, and settings and groups, by which a full disk gets room: may use half of the reserve.
    Delivering,
    /// Acknowledging, trimming, deleting: may use all of it.
    Shrinking,
}

/// So long after it was away this side has not yet heard all that was sent to it meanwhile.
const AWAY_GRACE_MS: u64 = 1000;

/// The core's state.
pub(crate) struct Core {
    pub(crate) shared: Arc<Shared>,
    pub(crate) streams: HashMap<StreamNumber, StreamSlot>,
    pub(crate) names: HashMap<StreamName, StreamNumber>,
    /// The same names in order.
    pub(crate) names_in_order: BTreeSet<StreamName>,
    pub(crate) groups: HashMap<GroupNumber, GroupSlot>,
    pub(crate) next_stream: u64,
    pub(crate) next_group: u64,
    pub(crate) next_delivery: u64,
    /// The first delivery of this run: leases of earlier ones end without a failure.
    first_delivery: DeliveryNumber,
    /// Engine time of the start, in milliseconds.
    began_ms: u64,
    /// When this side was last away (stopped, asleep, held up), in engine time: leases that ended then count no failure.
    away: Option<(u64, u64)>,
    commit: CommitBuilder,
    /// Set by [`Core::start`], once the log is recovered.
    room: Option<RoomPlanner>,
    /// Number of the commit that is being filled.
    number: u64,
    /// All commits up to this one are durable.
    durable: u64,
    in_flight: VecDeque<(u64, Vec<CommitBlock>)>,
    /// Commits closed because the next command did not fit into them.
    ready: VecDeque<Commit>,
    /// The moment of the command that is being handled.
    now: Now,
    /// Answers without an effect that wait for a commit.
    held: VecDeque<(u64, Release)>,
    jobs: Vec<Job>,
    /// When groups want to be looked at again.
    timers: BTreeSet<(u64, GroupNumber)>,
    /// The streams that go by themselves.
    expiries: expiry::Expiries,
    draining: bool,
    stopped: bool,
    /// Upper bound of what was written since the state was captured, in bytes.
    since_capture: u64,
    /// A captured state that goes with the next commit.
    captured: Option<CapturedState>,
    /// Pieces of all head windows, and the streams that have one, in the order in which they got it.
    head_pieces: usize,
    head_order: VecDeque<StreamNumber>,
    /// Commands that waited for more of a stream's head, and can go on.
    woken: VecDeque<heads::Waiting>,
    /// The transaction that runs.
    together: Option<transaction::Together>,
    /// How engine time follows from the boot clock, as far as the log knows.
    pub(crate) engine_clock: Option<EngineClock>,
    /// By how much wall time was ahead of engine time in the last commit.
    wall_ahead_ms: Option<i64>,
    /// Which files make up the log.
    pub(crate) files: FileSet,
    pub(crate) next_file: u64,
}

impl Core {
    /// A core over an empty state, which recovery fills.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            streams: HashMap::new(),
            names: HashMap::new(),
            names_in_order: BTreeSet::new(),
            groups: HashMap::new(),
            next_stream: 1,
            next_group: 1,
            next_delivery: 1,
            first_delivery: DeliveryNumber(1),
            began_ms: 0,
            away: None,
            commit: CommitBuilder::default(),
            room: None,
            number: 1,
            durable: 0,
            in_flight: VecDeque::new(),
            ready: VecDeque::new(),
            now: Now::default(),
            held: VecDeque::new(),
            jobs: Vec::new(),
            timers: BTreeSet::new(),
            expiries: expiry::Expiries::default(),
            draining: false,
            stopped: false,
            since_capture: 0,
            captured: None,
            head_pieces: 0,
            head_order: VecDeque::new(),
            woken: VecDeque::new(),
            together: None,
            engine_clock: None,
            wall_ahead_ms: None,
            files: FileSet::default(),
            next_file: 1,
        }
    }

    /// Begins, after replay of so many bytes: windows stand at their cursors, leases and dead letters go on where they
    /// were.
    pub(crate) fn start(&mut self, room: RoomPlanner, replayed_bytes: u64, now: Now) {
        self.room = Some(room);
        self.now = now;
        self.first_delivery = DeliveryNumber(self.next_delivery);
        self.began_ms = now.engine_ms;
        // What the last checkpoint lacks counts, or runs that write little would let it grow.
        self.since_capture = replayed_bytes;
        self.capture_where_due();
        self.count(|c| &c.groups, self.groups.len() as u64);
        let mut numbers: Vec<GroupNumber> = self.groups.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            let slot = self.slot_mut(number);
            slot.window = Window::at(slot.group.cursor);
            // Sessions did not survive: what they held comes back when its lease ends.
            self.fetch_dead_letters(number, now);
            self.dispatch(number, now);
        }
    }

    /// Takes note that nothing was decided between these engine times, though there may have been something to decide.
    pub(crate) fn was_away(&mut self, from_ms: u64, to_ms: u64) {
        self.away = Some((from_ms, to_ms.saturating_add(AWAY_GRACE_MS)));
    }

    fn room(&mut self) -> &mut RoomPlanner {
        self.room.as_mut().expect("the core was started")
    }

    fn frame_cost_max(&self) -> u64 {
        self.room.as_ref().map_or(0, |room| room.frame_cost_max(limits::RESERVE_BYTES))
    }

    /// Decides and applies one command.
    pub(crate) fn handle(&mut self, command: Command, now: Now) {
        self.now = now;
        self.take_back(now);
        match command {
            Command::PublishEach { runs, reply } => self.publish_each(runs, reply, now),
            Command::CreateStream { name, settings, reply } => self.create_stream(name, settings, reply, now),
            Command::StreamInfo { name, reply } => self.stream_info(&name, reply),
            Command::UpdateStream { name, settings, reply } => self.update_stream(&name, settings, reply),
            Command::RenameStream { name, to, replace, reply } => self.rename_stream(&name, to, replace, reply),
            Command::DeleteStreams { names, reply } => self.delete_streams(&names, reply),
            Command::SetLastId { name, to, reply } => self.set_last_id(&name, to, reply),
            Command::ConfigureOnce { name, to, reply } => self.configure_once(&name, to, reply),
            Command::OnceInfo { name, reply } => self.once_info(&name, reply, now),
            Command::SetExpiry { name, to, reply } => self.set_expiry(&name, to, reply, now),
            Command::DeleteStream { name, reply } => self.delete_stream(&name, reply),
            Command::Trim { asked, reply } => self.trim(asked, reply),
            Command::HeadWanted { stream, rule, coming, reply } => self.head_wanted(&stream, &rule, coming, reply),
            Command::HeadFound { stream, found } => self.head_found(stream, found),
            Command::TrimSingly { trim, reply } => self.trim_singly(&trim, reply),
            Command::Retained { reply } => self.retained(reply),
            Command::DeleteEntries { stream, entries, reply } => self.delete_entries(stream, entries, reply),
            Command::CreateGroup { key, cursor, reads, settings, create_stream, reply } => {
                self.create_group(&key, (cursor, reads), settings, create_stream, reply, now);
            }
            Command::GroupInfo { key, reply } => self.group_info(&key, reply, now),
            Command::UpdateGroup { key, settings, reply } => self.update_group(&key, settings, reply, now),
            Command::DeleteGroup { key, reply } => self.delete_group(&key, reply),
            Command::Seek { key, cursor, reads, dry_run, reply } => self.seek(&key, (cursor, reads), dry_run, reply),
            Command::Deliver(deliver) => self.deliver(*deliver, now),
            Command::OpenSession { key, consumer, reply } => self.open_session(&key, &consumer, reply, now),
            Command::CloseSession { key, session, reply } => self.close_session(&key, session, reply, now),
            // That was done before.
            Command::LookAtHomecoming => {}
            Command::Acknowledge { key, ids, holder, publish, reply } => {
                self.acknowledge(&key, &ids, &holder, publish, reply, now);
            }
            Command::Nack { key, ids, holder, action, reply } => self.nack(&key, &ids, &holder, action, reply, now),
            Command::Extend { key, ids, holder, lease_ms, reply } => {
                self.extend(&key, &ids, &holder, lease_ms, reply, now);
            }
            Command::ListPending { request, reply } => self.list_pending(&request, reply, now),
            Command::Claim { prepared, reply } => self.claim(&prepared, reply, now),
            Command::Release { prepared, reply } => self.release(&prepared, reply, now),
            Command::Reread { request, reply } => self.reread(&request, reply, now),
            Command::AddConsumer { key, consumer, reply } => self.add_consumer(&key, &consumer, reply, now),
            Command::RemoveConsumer { key, consumer, held, reply } => {
                self.remove_consumer(&key, &consumer, held, reply, now);
            }
            Command::DeadLetter { group, fetched } => self.dead_letter(group, fetched, now),
            Command::BeginSegment { reply } => self.begin_segment(reply),
            Command::BackupPoint { reply } => self.backup_point(reply),
            Command::ReplaceFiles { change, replacement, reply } => self.replace_files(&change, replacement, reply),
            Command::Redrive { key, letters, to, reply } => self.redrive(&key, letters, to, reply, now),
            Command::Transact(transaction) => {
                let lent = std::mem::replace(self, Self::new(Arc::clone(&self.shared)));
                *self = transaction.run(lent);
            }
            Command::Shutdown { reply } => self.begin_shutdown(reply),
        }
    }

    /// Takes the commit that was filled, where there is one to be written.
    pub(crate) fn take_commit(&mut self, now: Now) -> Option<Commit> {
        if self.shared.failure().is_some() {
            self.on_failed();
            return None;
        }
        if !self.commit.is_empty() {
            self.close_commit(now, false);
            self.capture_where_due();
        }
        if let Some(commit) = self.ready.pop_front() {
            return Some(commit);
        }
        // The clean mark goes into a commit of its own, after everything else is durable.
        if self.draining && !self.stopped && self.in_flight.is_empty() {
            self.stopped = true;
            self.capture(false);
            self.commit.require_sync();
            self.close_commit(now, true);
        }
        self.ready.pop_front()
    }

    fn close_commit(&mut self, now: Now, clean_stop: bool) {
        if self.commit.records() > 0 || self.commit.begins_segment() || clean_stop {
            let cost = self.commit.cost();
            self.wall_ahead_ms = Some(now.wall_ahead_ms());
            self.room().take(cost);
            self.since_capture += cost;
        }
        let mut commit = self.commit.finish(self.number, now, clean_stop);
        if !commit.frame.records.is_empty() || clean_stop {
            commit.before = self.captured.take();
            if commit.before.is_some() {
                self.shared.set_indexing(true);
            }
            // The index must not know of a frame that the log may lose.
            commit.sync |= commit.before.is_some();
        }
        self.in_flight.push_back((self.number, commit.blocks.clone()));
        self.ready.push_back(commit);
        self.number += 1;
    }

    /// Bytes that the commit being filled will take.
    pub(crate) fn commit_cost(&self) -> u64 {
        self.commit.cost() + if self.ready.is_empty() { 0 } else { limits::FRAME_BYTES_MAX as u64 }
    }
    /// Commits handed over and not known to be durable.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len() - self.ready.len()
    }
    /// Whether the files that are allocated could not take another full commit, but soon will.
    pub(crate) fn is_room_short(&mut self) -> bool {
        let filling = if self.commit.is_empty() { 0 } else { self.commit.cost() };
        // Whatever comes next must be admitted with the reserve left, or it would be refused as if the disk were full.
        let room = self.room();
        room.refresh();
        room.is_short(filling, limits::RESERVE_BYTES)
    }
    /// Whether the clean mark is durable and nothing is left to do.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped && self.in_flight.is_empty()
    }
    /// What is to be read for the core.
    pub(crate) fn take_jobs(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.jobs)
    }

    /// All commits up to this one are durable (each at its durability).
    pub(crate) fn on_durable(&mut self, number: u64, now: Now) {
        self.durable = self.durable.max(number);
        while self.in_flight.front().is_some_and(|(n, _)| *n <= number) {
            let Some((_, blocks)) = self.in_flight.pop_front() else { break };
            for block in &blocks {
                self.block_became_visible(block, now);
            }
        }
        while self.held.front().is_some_and(|(n, _)| *n <= number) {
            if let Some((_, release)) = self.held.pop_front() {
                release();
            }
        }
    }

    /// The log failed: nothing that waits will become durable, and nothing more is written.
    pub(crate) fn on_failed(&mut self) {
        self.commit = CommitBuilder::default();
        self.captured = None;
        self.ready.clear();
        self.in_flight.clear();
        self.held.clear();
        for slot in self.groups.values_mut() {
            slot.waiters.clear();
            slot.letter_replies.clear();
        }
        self.woken.clear();
        self.streams.values_mut().filter_map(|slot| slot.head.as_mut()).for_each(|head| drop(head.take_waiting()));
        if self.draining {
            self.stopped = true;
        }
    }

    fn block_became_visible(&mut self, block: &CommitBlock, now: Now) {
        let Some(slot) = self.streams.get_mut(&block.view.number) else { return };
        let seen_before = slot.visible;
        slot.visible = slot.visible.max(block.meta.last);
        let groups: Vec<GroupNumber> = slot.groups.values().copied().collect();
        if groups.is_empty() {
            return;
        }
        let place = block.meta.at(FileId(0), 0, block.content.len() as u32, 0);
        let Ok(view) = BlockView::new(block.content.clone(), &place) else { return };
        for number in groups {
            if let Some(group) = self.groups.get_mut(&number) {
                offer(group, &view, seen_before);
            }
            self.dispatch(number, now);
        }
    }

    /// Does what fell due.
    pub(crate) fn on_timer(&mut self, now: Now) {
        self.now = now;
        self.note_wall_step(now);
        self.take_back(now);
        self.expire_streams(now);
        while let Some((due, number)) = self.timers.first().copied() {
            if due > now.engine_ms {
                break;
            }
            self.timers.pop_first();
            if let Some(slot) = self.groups.get_mut(&number) {
                slot.timer = None;
            }
            self.group_timer(number, now);
        }
    }

    /// When [`Core::on_timer`] has something to do next, in engine time.
    pub(crate) fn next_timer(&self, now: Now) -> Option<u64> {
        let group = self.timers.first().map(|(due, _)| *due);
        group.into_iter().chain(self.next_expiry(now)).min()
    }

    fn set_timer(&mut self, number: GroupNumber, due: Option<u64>) {
        let Some(slot) = self.groups.get_mut(&number) else { return };
        if slot.timer == due {
            return;
        }
        if let Some(old) = slot.timer.take() {
            self.timers.remove(&(old, number));
        }
        slot.timer = due;
        if let Some(due) = due {
            self.timers.insert((due, number));
        }
    }

    /// Whether a command may go on: the engine is neither failed nor draining.
    fn check_open(&self) -> Result<()> {
        if let Some(failed) = self.shared.failure() {
            return Err(failed);
        }
        if self.draining { Err(Error::draining()) } else { Ok(()) }
    }

    /// Whether so much more fits the room that is allocated, beside what the commit holds already (C3).
    fn admit(&mut self, cost: u64, what: Admit) -> Result<()> {
        let largest = self.frame_cost_max();
        if cost + FRAME_COST_BASE > largest {
            return Err(Error::new(
                Reason::BatchTooLarge,
                format!("a request of {cost} bytes fits no commit of {largest}"),
            )
            .with("max", largest));
        }
        if self.commit.cost() + cost > largest {
            if self.together.is_some() {
                let message = format!("another {cost} bytes do not fit the transaction's commit of {largest}");
                return Err(Error::new(Reason::BatchTooLarge, message).with("max", largest));
            }
            self.close_commit(self.now, false);
        }
        let reserve = self.room().keep(limits::RESERVE_BYTES);
        let reserve = match what {
            Admit::Growing => reserve,
            Admit::Delivering => reserve / 2,
            Admit::Shrinking => 0,
        };
        let whole = self.commit.cost() + cost;
        let mut fit = self.room().fits(whole, reserve);
        if fit == Fit::Soon && self.commit.records() > 0 && self.together.is_none() {
            // Together they may fit no rest of a file that each of them fits by itself.
            self.close_commit(self.now, false);
            fit = self.room().fits(FRAME_COST_BASE + cost, reserve);
        }
        match fit {
            Fit::Yes => Ok(()),
            // The next file is on its way; the core's thread takes commands only once it is there.
            Fit::Soon => Err(Error::overloaded("the allocated room")),
            Fit::Full => Err(Error::new(Reason::StorageFull, "there is no room on the disk for more")
                .retry_after(std::time::Duration::from_secs(1))),
        }
    }

    /// Closes the commit being filled unless so much more fits into it. What is admitted bit by bit afterwards, up to
    /// this sum, is in one commit: it never closes one that has a spare of its own and then needs another.
    fn begin_commit_for(&mut self, cost: u64) {
        if self.together.is_none() && self.commit.records() > 0 && self.commit.cost() + cost > self.frame_cost_max() {
            self.close_commit(self.now, false);
        }
    }

    /// Refuses a command: once everything before it is durable, since that is what the refusal may rest on.
    pub(crate) fn refuse<T: Send + 'static>(&mut self, reply: Reply<T>, error: Error) {
        let observed = self.last_effect();
        self.answer_observed(reply, Err(error), observed);
    }

    /// The last commit with an effect in it.
    fn last_effect(&self) -> u64 {
        self.number - u64::from(self.commit.records() == 0)
    }

    /// Answers with the commit that is being filled, or refuses.
    fn answer_or_refuse<T: Send + 'static>(&mut self, reply: Reply<T>, result: Result<T>) {
        match result {
            Ok(value) => self.answer(reply, Ok(value)),
            Err(error) => self.refuse(reply, error),
        }
    }

    /// Writes an effect into the commit; it must be synced before it is answered.
    fn record(&mut self, effect: impl Into<Effect>, on: Option<StreamNumber>) {
        self.record_lazily(effect, on);
        self.commit.require_sync();
    }

    /// Writes an effect into the commit that nothing waits for (deliveries).
    fn record_lazily(&mut self, effect: impl Into<Effect>, on: Option<StreamNumber>) {
        self.commit.push_effect(&effect.into(), on);
    }

    /// Answers once the commit being filled is durable.
    fn answer<T: Send + 'static>(&mut self, reply: Reply<T>, value: Result<T>) {
        if let Some(failure) = self.shared.failure() {
            return reply.send(Err(failure));
        }
        if self.together.is_some() {
            return reply.send(value);
        }
        self.commit.on_durable(Box::new(move || reply.send(value)));
    }

    /// Answers without an effect of its own: once what it observed is durable.
    fn answer_observed<T: Send + 'static>(&mut self, reply: Reply<T>, value: Result<T>, observed: u64) {
        if let Some(failure) = self.shared.failure() {
            reply.send(Err(failure));
        } else if self.together.is_some() || observed <= self.durable {
            reply.send(value);
        } else {
            self.hold(observed, Box::new(move || reply.send(value)));
        }
    }

    fn hold(&mut self, until: u64, release: Release) {
        if until == self.number {
            self.commit.on_durable(release);
        } else {
            let at = self.held.partition_point(|(n, _)| *n <= until);
            self.held.insert(at, (until, release));
        }
    }

    fn stream_number(&self, name: &StreamName) -> Result<StreamNumber> {
        self.names.get(name).copied().ok_or_else(|| Error::stream_not_found(name))
    }

    fn group_number(&self, key: &GroupKey) -> Result<GroupNumber> {
        let stream = self.stream_number(&key.stream)?;
        let found = self.streams.get(&stream).and_then(|s| s.groups.get(&key.group));
        found.copied().ok_or_else(|| Error::group_not_found(&key.stream, &key.group))
    }

    fn slot(&self, number: GroupNumber) -> &GroupSlot {
        &self.groups[&number]
    }

    fn slot_mut(&mut self, number: GroupNumber) -> &mut GroupSlot {
        self.groups.get_mut(&number).expect("a group number that was just looked up")
    }

    fn begin_shutdown(&mut self, reply: Reply<()>) {
        self.draining = true;
        let numbers: Vec<GroupNumber> = self.groups.keys().copied().collect();
        for number in numbers {
            let slot = self.slot_mut(number);
            for waiter in std::mem::take(&mut slot.waiters) {
                waiter.asker.answer(Err(Error::draining()));
            }
            slot.letter_replies.clear();
        }
        // What waits for more of a stream's head is refused when it goes on.
        let heads = self.streams.values_mut().filter_map(|slot| slot.head.as_mut());
        self.woken.extend(heads.flat_map(|head| head.take_waiting()));
        self.shared.stopped.lock().push(Box::new(move || reply.send(Ok(()))));
    }

    fn count(&self, counter: fn(&super::shared::Counters) -> &std::sync::atomic::AtomicU64, by: u64) {
        counter(&self.shared.counters).fetch_add(by, Ordering::Relaxed);
    }
}

/// Adds a newly visible block to a group's window, if the window had looked at everything before it.
fn offer(slot: &mut GroupSlot, block: &BlockView, seen_before: EntryId) {
    if slot.window.head() < seen_before || slot.window.is_full() {
        return;
    }
    let with_keys = slot.group.settings.dispatch == Dispatch::KeyOrdered;
    for entry in block.entries() {
        if entry.id > slot.window.head() && !slot.window.push(super::reader::candidate(&entry, with_keys)) {
            return;
        }
    }
}
