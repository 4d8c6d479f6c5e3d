//! Publishes of one connection, gathered to be handed to the core together.
//!
//! Requests that follow each other to one stream and ask for nothing but to be appended are joined to one [`Run`], about
//! which the core decides once. Each stays a request of its own: it is refused by itself, and answered with its own ids.
//! What is joined is in one commit; where the core cannot take a run as a whole, it takes its requests one by one.

use std::collections::VecDeque;
use std::vec;

use super::api::{Publish, PublishTrim, Published, TrimTo};
use super::command::{Command, PreparedPublish, Run, RunPublished};
use super::handle::Engine;
use super::publish::{check, check_extras, prepared};
use super::reply::{self, Answer};
use crate::error::{Error, Result};
use crate::limits;
use crate::types::{Durability, EntryId, IdRequest, NewEntry, StreamName};

/// Publishes that were checked and are not yet with the core, in order.
#[derive(Debug, Default)]
pub struct Gathered {
    runs: VecDeque<Run>,
    requests: usize,
    bytes: usize,
}

/// What a publish says that only appends.
#[derive(Clone, Copy, Debug)]
pub struct Plain<'a> {
    /// Where to.
    pub stream: &'a StreamName,
    /// When to answer; the stream's or the server's default where unset.
    pub durability: Option<Durability>,
    /// Whether to make the stream where it is missing; the server's default where unset.
    pub create_stream: Option<bool>,
    /// What the stream drops afterwards.
    pub trim: Option<PublishTrim>,
}

impl Gathered {
    /// How many requests it holds.
    pub fn requests(&self) -> usize {
        self.requests
    }
    /// Bytes of all their entries.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn push(&mut self, run: Run) {
        self.requests += run.requests();
        self.bytes += run.publish.bytes;
        self.runs.push_back(run);
    }

    /// The next runs that the core can take together: it looks for room before a command, not within one.
    fn next_piece(&mut self, cost_max: usize) -> Vec<Run> {
        let (mut cost, mut piece) = (0, Vec::new());
        while let Some(run) = self.runs.pop_front() {
            cost += run.cost;
            if !piece.is_empty() && cost > cost_max {
                self.runs.push_front(run);
                break;
            }
            self.requests -= run.requests();
            self.bytes -= run.publish.bytes;
            piece.push(run);
        }
        piece
    }

    fn put_back(&mut self, piece: Vec<Run>) {
        for run in piece.into_iter().rev() {
            self.requests += run.requests();
            self.bytes += run.publish.bytes;
            self.runs.push_front(run);
        }
    }
}

impl Engine {
    /// Checks a request and puts it behind the others; a refused one leaves them as they are.
    pub fn gather(&self, gathered: &mut Gathered, mut publish: Publish) -> Result<()> {
        check_extras(&publish)?;
        if let Publish {
            ids: IdRequest::Auto,
            expected: None,
            producer: None,
            name: None,
            once: None,
            dedup_by_event_id: false,
            ..
        } = publish
        {
            let Publish { stream, entries, durability, create_stream, trim, .. } = &mut publish;
            let plain = Plain { stream, durability: *durability, create_stream: *create_stream, trim: *trim };
            return self.gather_plain(gathered, plain, entries);
        }
        let bytes = check(&publish.entries, publish.ids, &self.0.shared.options)?;
        let cost = cost(publish.entries.len(), bytes);
        gathered.push(Run { publish: prepared(publish, bytes), counts: Vec::new(), joins: false, cost });
        Ok(())
    }

    /// [`Engine::gather`] for a request that only appends; takes its entries out of `entries`.
    pub fn gather_plain(&self, gathered: &mut Gathered, plain: Plain<'_>, entries: &mut Vec<NewEntry>) -> Result<()> {
        let bytes = check(entries, IdRequest::Auto, &self.0.shared.options)?;
        let cost = cost(entries.len(), bytes);
        let cost_max = self.piece_cost_max();
        match gathered.runs.back_mut() {
            Some(run) if run.joins && run.cost + cost <= cost_max && run.is_alike(plain) => {
                gathered.requests += 1;
                gathered.bytes += bytes;
                run.join(entries, bytes, cost);
            }
            _ => {
                let Plain { stream, durability, create_stream, trim } = plain;
                let entries = std::mem::take(entries);
                let request = Publish { durability, create_stream, trim, ..Publish::new(stream.clone(), entries) };
                let publish = PreparedPublish { request, bytes, hash: 0 };
                gathered.push(Run { publish, counts: Vec::new(), joins: trim.is_none_or(is_same_at_last), cost });
            }
        }
        Ok(())
    }

    /// Hands what was gathered to the core, in order, as far as its queue has room. What it has no room for stays: who
    /// hands it over later, before anything else, keeps its order.
    pub fn submit(&self, gathered: &mut Gathered) -> Submitted {
        let mut parts = Vec::new();
        while !gathered.runs.is_empty() {
            let piece = gathered.next_piece(self.piece_cost_max());
            // It may have to wait for a reader: what follows is not to come before it.
            let is_last = piece.iter().any(|run| run.publish.request.trim.is_some());
            let (count, (reply, answer)) = (piece.iter().map(Run::requests).sum(), reply::channel());
            match self.offer(Command::PublishEach { runs: piece, reply }) {
                Ok(None) => {
                    parts.push(Part::Asked { count, answer });
                    if is_last {
                        break;
                    }
                }
                Ok(Some(command)) => {
                    let Command::PublishEach { runs, .. } = command else { break };
                    gathered.put_back(runs);
                    break;
                }
                Err(error) => {
                    let rest = std::mem::take(gathered).requests;
                    parts.push(Part::Refused { count: count + rest, error });
                }
            }
        }
        Submitted { engine: self.clone(), parts }
    }

    fn piece_cost_max(&self) -> usize {
        (self.0.shared.options.segment_bytes / 8).min(limits::FRAME_BYTES_MAX as u64 / 2) as usize
    }
}

/// Whether requests that are trimmed like that leave the same where it is done once, after the last of them: not where
/// the stream may be empty in between, since a node begins then.
fn is_same_at_last(trim: PublishTrim) -> bool {
    match trim.to {
        TrimTo::KeepEntries(entries) => trim.nodes.is_none() || entries > 0,
        TrimTo::KeepBytes(_) | TrimTo::BeforeId(_) | TrimTo::BeforeTime(_) => trim.nodes.is_none(),
    }
}

/// What a request takes in a commit; roughly, from above.
fn cost(entries: usize, bytes: usize) -> usize {
    bytes + entries * ENTRY_COST + REQUEST_COST
}

impl Run {
    fn is_alike(&self, plain: Plain<'_>) -> bool {
        let own = &self.publish.request;
        let is_made_alike = own.durability == plain.durability && own.create_stream == plain.create_stream;
        is_made_alike && own.trim == plain.trim && own.stream == *plain.stream
    }

    fn join(&mut self, entries: &mut Vec<NewEntry>, bytes: usize, cost: usize) {
        let own = &mut self.publish.request.entries;
        if self.counts.is_empty() {
            self.counts.push(own.len() as u32);
        }
        self.counts.push(entries.len() as u32);
        own.append(entries);
        self.publish.bytes += bytes;
        self.cost += cost;
    }
}

/// Requests that were handed over. Dropping it leaves them to happen.
pub struct Submitted {
    engine: Engine,
    parts: Vec<Part>,
}

enum Part {
    Refused { count: usize, error: Error },
    Asked { count: usize, answer: Answer<Vec<RunPublished>> },
}

impl Submitted {
    /// The answers, in the order of the requests, once each is durable at its durability.
    pub async fn results(self) -> EachPublished {
        let mut runs = Vec::new();
        for part in self.parts {
            match part {
                Part::Refused { count, error } => runs.push(RunPublished::Each(vec![Err(error); count])),
                Part::Asked { count, answer } => match self.engine.wait(answer).await {
                    Ok(answers) if runs.is_empty() => runs = answers,
                    Ok(answers) => runs.extend(answers),
                    Err(error) => runs.push(RunPublished::Each(vec![Err(error); count])),
                },
            }
        }
        EachPublished {
            runs: runs.into_iter(),
            each: Vec::new().into_iter(),
            next: EntryId::ZERO,
            joined: Vec::new().into_iter(),
        }
    }
}

/// The answer to each request, in order.
pub struct EachPublished {
    runs: vec::IntoIter<RunPublished>,
    /// Answers of the last run.
    each: vec::IntoIter<Result<Published>>,
    /// The first id of the next request of the last run, and how many entries each has.
    next: EntryId,
    joined: vec::IntoIter<u32>,
}

impl Iterator for EachPublished {
    type Item = Result<Published>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(count) = self.joined.next() {
                let first = self.next;
                let last = EntryId::new(first.ms, first.seq + u64::from(count) - 1);
                self.next.seq = last.seq.wrapping_add(1);
                return Some(Ok(Published { first, last, count, duplicate: false, each: None }));
            }
            if let Some(answer) = self.each.next() {
                return Some(answer);
            }
            match self.runs.next()? {
                RunPublished::One(answer) => return Some(answer),
                RunPublished::Joined { first, counts } => (self.next, self.joined) = (first, counts.into_iter()),
                RunPublished::Each(answers) => self.each = answers.into_iter(),
            }
        }
    }
}

/// What an entry takes in a commit beside its bytes, and a request beside its entries; roughly, from above.
const ENTRY_COST: usize = 64;
const REQUEST_COST: usize = 1_024;
