//! Trims by number, size or id, decided from the head windows that the core keeps of streams which are trimmed.
//!
//! A trim is one decision, alone or with the publish that it goes with. Where a window does not reach as far as it must,
//! a reader is asked to extend it, and the command waits here, before anything of it is done; it goes on as soon as more
//! is known. What is known stays known, so each attempt is nearer to the end than the one before it. Windows take a
//! bounded amount of memory: those that were made first are forgotten first.

use std::collections::VecDeque;
use std::sync::Arc;

use super::publish::PublishTask;
use super::{Admit, Core, StreamSlot};
use crate::engine::api::{PublishTrim, TrimTo};
use crate::engine::command::{Job, TrimAsked, TrimDone};
use crate::engine::commit::trim_cost;
use crate::engine::reply::Reply;
use crate::error::{Error, Reason, Result};
use crate::format::block::{BlockMeta, BlockView};
use crate::format::record::Trimmed;
use crate::limits;
use crate::stream::{Cut, Detail, Found, Head, Keep, Piece, Planned, Stream, TrimRule, Wanted};
use crate::types::{EntryId, StreamName, StreamNumber};

/// Pieces of a window that a reader is asked for first; each time twice as many, up to the bound.
const PIECES_FIRST: usize = 256;
/// After so many answers in a row that told nothing new, a window is taken to end there.
const MISSES_MAX: u32 = 3;

/// What the core keeps of the head of a stream that is trimmed.
pub(crate) struct HeadSlot {
    head: Head,
    /// What was appended since a reader was asked, and from which id on that is all.
    tail: Option<(EntryId, Vec<Piece>)>,
    is_asked: bool,
    waiting: VecDeque<Waiting>,
    pieces_max: usize,
    misses: u32,
}

/// A command that waits for a window to be extended.
pub(crate) enum Waiting {
    Publish(PublishTask),
    Trim(TrimAsked, Reply<TrimDone>),
}

/// What a window lacks: from which id on, and how finely that must be told.
pub(super) type Lack = (EntryId, Detail);

impl HeadSlot {
    fn new(stream: &Stream) -> Self {
        let head = Head::of(stream);
        Self { head, tail: None, is_asked: false, waiting: VecDeque::new(), pieces_max: PIECES_FIRST, misses: 0 }
    }

    /// Pieces that it holds.
    pub(super) fn pieces(&self) -> usize {
        self.head.len() + self.tail.as_ref().map_or(0, |(_, tail)| tail.len())
    }

    /// To be called before entries are appended.
    pub(super) fn bound(&mut self) {
        self.head.shorten(self.pieces_max);
        if self.tail.as_ref().is_some_and(|(_, tail)| tail.len() > limits::HEAD_PIECES_MAX) {
            self.tail = None;
        }
    }

    /// Takes an entry that is appended.
    pub(super) fn push(&mut self, piece: Piece) {
        self.head.push(piece);
        if let Some((_, tail)) = &mut self.tail {
            tail.push(piece);
        }
    }

    /// What waits.
    pub(super) fn take_waiting(&mut self) -> VecDeque<Waiting> {
        std::mem::take(&mut self.waiting)
    }
}

/// What a trim keeps; one before a time is told by a reader which id that is.
pub(crate) fn keep(to: TrimTo) -> Keep {
    match to {
        TrimTo::BeforeId(from) => Keep { from, ..Keep::ALL },
        TrimTo::BeforeTime(_) => Keep::ALL,
        TrimTo::KeepEntries(entries) => Keep { entries, ..Keep::ALL },
        TrimTo::KeepBytes(bytes) => Keep { bytes, ..Keep::ALL },
    }
}

/// The rule of a trim that goes with a publish.
pub(crate) fn rule(trim: PublishTrim) -> TrimRule {
    TrimRule { keep: keep(trim.to), nodes: trim.nodes }
}

impl Core {
    /// What a trim comes to, and whether damage keeps more than is asked for, once so many more entries of so many bytes
    /// are appended; otherwise what the stream's window lacks.
    pub(super) fn plan_trim(
        &mut self,
        number: StreamNumber,
        rule: &TrimRule,
        coming: (u64, u64),
    ) -> std::result::Result<(Option<Cut>, bool), Lack> {
        if self.streams.get(&number).is_none_or(|slot| slot.head.is_none() && rule.keeps_all(&slot.stream, coming)) {
            return Ok((None, false));
        }
        self.begin_head(number);
        let Some(StreamSlot { stream, head: Some(kept), .. }) = self.streams.get_mut(&number) else {
            return Ok((None, false));
        };
        match kept.head.plan(stream, rule, coming) {
            Planned::Done { cut, short } => Ok((cut, short)),
            Planned::More(from, detail) => {
                if from < kept.head.to() {
                    let before = kept.head.len();
                    kept.head.leave_from(from);
                    self.head_pieces -= before - kept.head.len();
                }
                Err((from, detail))
            }
        }
    }

    /// Makes a stream's window, where it has none.
    pub(super) fn begin_head(&mut self, number: StreamNumber) {
        if let Some(slot) = self.streams.get_mut(&number).filter(|slot| slot.head.is_none()) {
            slot.head = Some(Box::new(HeadSlot::new(&slot.stream)));
            self.head_order.push_back(number);
        }
    }

    /// Drops what a trim comes to. Room was admitted.
    pub(super) fn apply_cut(&mut self, number: StreamNumber, cut: &Cut) {
        let record = Trimmed { stream: number, before: cut.before, ordinal: cut.ordinal, bytes: cut.bytes };
        self.apply_trimmed(&record);
    }

    /// Drops the oldest entries of a stream. Room was admitted.
    pub(super) fn apply_trimmed(&mut self, record: &Trimmed) {
        let Some(slot) = self.streams.get_mut(&record.stream) else { return };
        match self.commit.trim(&slot.view, record) {
            true => slot.stream.apply_trim(record),
            false => slot.stream.go_on_trimming(record),
        }
        slot.dirty = self.number;
        if let Some(kept) = &mut slot.head {
            let before = kept.head.len();
            kept.head.forget_below(&slot.stream);
            self.head_pieces -= before - kept.head.len();
        }
    }

    /// Trims after a publish, as often as there were requests of it. Room was admitted, and the window reaches as far as
    /// it must.
    pub(super) fn trim_published(&mut self, number: StreamNumber, trim: Option<PublishTrim>, times: usize) {
        let Some(rule) = trim.map(rule) else { return };
        for _ in 0..times {
            let Ok((cut, short)) = self.plan_trim(number, &rule, (0, 0)) else { break };
            self.count_short(short);
            let Some(cut) = cut else { break };
            self.apply_cut(number, &cut);
        }
        self.look_ahead_of_trims(number, &rule);
    }

    fn count_short(&self, short: bool) {
        self.count(|c| &c.trims_short, u64::from(short));
    }

    /// Has a window extended before it is used up.
    fn look_ahead_of_trims(&mut self, number: StreamNumber, rule: &TrimRule) {
        let Some(kept) = self.streams.get(&number).and_then(|slot| slot.head.as_ref()) else { return };
        let is_low = kept.head.len() < kept.pieces_max / 2 && !kept.head.is_whole() && !kept.is_asked;
        if is_low && self.together.is_none() {
            let from = kept.head.to();
            self.ask_for_more(number, rule, (from, Detail::File));
        }
    }

    pub(super) fn trim(&mut self, asked: TrimAsked, reply: Reply<TrimDone>) {
        match self.try_trim(&asked) {
            Ok(Ok(done)) => {
                let dirty = self.streams.get(&asked.stream).map_or_else(|| self.last_effect(), |slot| slot.dirty);
                self.answer_observed(reply, Ok(done), dirty);
            }
            Ok(Err((rule, lack))) => self.let_wait(asked.stream, &rule, lack, Waiting::Trim(asked, reply)),
            Err(error) => self.refuse(reply, error),
        }
    }

    fn try_trim(&mut self, asked: &TrimAsked) -> Result<std::result::Result<TrimDone, (TrimRule, Lack)>> {
        self.check_open()?;
        let slot = self.streams.get(&asked.stream).ok_or_else(|| Error::stream_not_found("(deleted meanwhile)"))?;
        let mut rule = asked.rule;
        if asked.unacknowledged {
            let Some(first) = self.first_unacknowledged(slot) else { return Ok(Ok(TrimDone::default())) };
            rule.keep.from = first;
        }
        let (cut, short) = match self.plan_trim(asked.stream, &rule, (0, 0)) {
            Ok(planned) => planned,
            Err(_) if self.together.is_some() => return Err(unprepared()),
            Err(lack) => return Ok(Err((rule, lack))),
        };
        self.count_short(short);
        let Some(cut) = cut else { return Ok(Ok(TrimDone::default())) };
        if !asked.dry_run {
            self.admit(trim_cost(), Admit::Shrinking)?;
            self.apply_cut(asked.stream, &cut);
            self.commit.require_sync();
            self.look_ahead_of_trims(asked.stream, &rule);
        }
        Ok(Ok(TrimDone { before: cut.before, entries: cut.entries, bytes: cut.bytes }))
    }

    /// Keeps a command until more is known of the head of a stream. In a transaction nothing waits: it is refused.
    pub(super) fn let_wait(&mut self, number: StreamNumber, rule: &TrimRule, lack: Lack, waiting: Waiting) {
        if let Some(kept) = self.streams.get_mut(&number).and_then(|slot| slot.head.as_mut()) {
            kept.waiting.push_back(waiting);
            if !kept.is_asked {
                self.ask_for_more(number, rule, lack);
            }
        }
    }

    fn ask_for_more(&mut self, number: StreamNumber, rule: &TrimRule, lack: Lack) {
        let Some(wanted) = self.want(number, rule, lack) else { return };
        let view = Arc::clone(&self.streams[&number].view);
        self.jobs.push(Job::FindHead { view, wanted });
    }

    /// What a reader is to look for; what is appended from now on is gathered meanwhile.
    fn want(&mut self, number: StreamNumber, rule: &TrimRule, (from, detail): Lack) -> Option<Wanted> {
        let slot = self.streams.get(&number)?;
        let begin_tail = slot.head.as_ref()?.tail.is_none();
        let tail = if begin_tail { self.tail_of(slot) } else { None };
        let slot = self.streams.get_mut(&number)?;
        let (length, kept) = (slot.stream.length(), slot.head.as_mut()?);
        if begin_tail {
            self.head_pieces += tail.as_ref().map_or(0, |(_, tail)| tail.len());
            kept.tail = tail;
        }
        kept.is_asked = true;
        kept.pieces_max = (kept.pieces_max * 2).min(limits::HEAD_PIECES_MAX);
        Some(Wanted { stream: number, from, rule: *rule, length, detail, pieces: kept.pieces_max })
    }

    /// What was appended to a stream and is not durable yet: all from an id on.
    fn tail_of(&self, slot: &StreamSlot) -> Option<(EntryId, Vec<Piece>)> {
        let from = slot.visible.next()?;
        let in_flight = self.in_flight.iter().flat_map(|(_, blocks)| blocks);
        let in_flight = in_flight.filter(|block| block.view.number == slot.stream.number);
        let blocks = in_flight.map(|block| (block.meta, block.content.clone()));
        let mut pieces = Vec::new();
        for (meta, content) in blocks.chain(self.commit.blocks_of(slot.stream.number)) {
            pieces.extend(pieces_of(&meta, content)?.filter(|piece| piece.first >= from));
        }
        Some((from, pieces))
    }

    /// What the transaction that runs has to find before a trim can be decided.
    pub(super) fn head_wanted(
        &mut self,
        name: &StreamName,
        rule: &TrimRule,
        coming: (u64, u64),
        reply: Reply<Option<Wanted>>,
    ) {
        let number = self.names.get(name).copied();
        let wanted = number.and_then(|number| {
            let lack = self.plan_trim(number, rule, coming).err()?;
            self.want(number, rule, lack)
        });
        reply.send(Ok(wanted));
    }

    /// Takes what a reader found; what waited for it goes on.
    pub(super) fn head_found(&mut self, number: StreamNumber, found: Result<Found>) {
        let Some(slot) = self.streams.get_mut(&number) else { return };
        let StreamSlot { stream, head: Some(kept), .. } = slot else { return };
        let before = kept.pieces();
        let tail = kept.tail.take();
        kept.is_asked = false;
        let mut refused = None;
        match found {
            Ok(found) => {
                let tail = tail.as_ref().map(|(from, tail)| (*from, &tail[..]));
                kept.misses = if kept.head.extend(stream, &found, tail) { 0 } else { kept.misses + 1 };
                if kept.misses >= MISSES_MAX {
                    kept.head.block();
                }
            }
            Err(error) if error.reason() == Reason::Corrupt => kept.head.block(),
            Err(error) => refused = Some(error),
        }
        kept.head.forget_below(stream);
        let waiting = kept.take_waiting();
        self.head_pieces = self.head_pieces + kept.pieces() - before;
        match refused {
            None => self.woken.extend(waiting),
            Some(error) => waiting.into_iter().for_each(|waiting| self.refuse_waiting(waiting, &error)),
        }
        self.bound_heads(number);
    }

    fn refuse_waiting(&mut self, waiting: Waiting, error: &Error) {
        match waiting {
            Waiting::Publish(task) => self.refuse_publishing(task, error),
            Waiting::Trim(_, reply) => self.refuse(reply, error.clone()),
        }
    }

    /// Forgets windows until all together are within their bound.
    fn bound_heads(&mut self, but: StreamNumber) {
        for _ in 0..self.head_order.len() {
            if self.head_pieces <= limits::HEAD_PIECES_ALL_MAX {
                return;
            }
            let Some(number) = self.head_order.pop_front() else { return };
            let Some(slot) = self.streams.get_mut(&number) else { continue };
            let Some(kept) = &slot.head else { continue };
            if number == but || kept.is_asked || !kept.waiting.is_empty() {
                self.head_order.push_back(number);
                continue;
            }
            self.head_pieces -= kept.pieces();
            slot.head = None;
        }
    }

    /// Takes what is known of the head of a stream that goes; what waited for more goes on without it.
    pub(super) fn forget_head(&mut self, slot: &mut StreamSlot) {
        let Some(mut kept) = slot.head.take() else { return };
        self.head_pieces -= kept.pieces();
        self.woken.extend(kept.take_waiting());
    }

    /// Whether commands that waited can go on.
    pub(crate) fn has_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    /// Goes on with one of the commands that waited, in their order.
    pub(crate) fn go_on(&mut self, now: crate::clock::Now) {
        self.now = now;
        match self.woken.pop_front() {
            Some(Waiting::Publish(task)) => self.go_on_publishing(task, now),
            Some(Waiting::Trim(asked, reply)) => self.trim(asked, reply),
            None => {}
        }
    }
}

/// The error of a trim in a transaction that was not prepared for it.
pub(super) fn unprepared() -> Error {
    Error::internal("a trim in a transaction whose stream was not looked at before")
}

fn pieces_of(meta: &BlockMeta, content: bytes::Bytes) -> Option<impl Iterator<Item = Piece>> {
    let place = meta.at(crate::storage::FileId(0), 0, content.len() as u32, 0);
    let view = BlockView::new(content, &place).ok()?;
    Some(view.entries().map(|e| Piece::entry(e.id, e.ordinal, e.bytes.len() as u32, e.node_start)))
}
