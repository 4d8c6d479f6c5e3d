//! Publishing through the handle: checks that need no state, then the core.

use std::collections::VecDeque;

use xxhash_rust::xxh3::Xxh3;

use super::api::{Publish, Published};
use super::command::{Command, PreparedPublish};
use super::dead_letter::check_field_names;
use super::handle::Engine;
use super::options::EngineOptions;
use super::reply::{self, Answer};
use crate::error::{Error, Reason, Result};
use crate::limits;
use crate::types::IdRequest;

impl Engine {
    /// Publishes a request: all of its entries or none. Answered when it is durable at its durability.
    pub async fn publish(&self, request: Publish) -> Result<Published> {
        let prepared = prepare(request, &self.0.shared.options)?;
        let mut answers = self.ask(|reply| Command::PublishEach { requests: vec![prepared], reply }).await?;
        answers.pop().unwrap_or_else(|| Err(Error::internal("a publish without an answer")))
    }

    /// Publishes and waits for it on this thread, without a runtime.
    pub fn publish_blocking(&self, request: Publish) -> Result<Published> {
        futures::executor::block_on(self.publish(request))
    }

    /// Publishes several independent requests, handed over together; answers in their order.
    pub async fn publish_each(&self, requests: Vec<Publish>) -> Vec<Result<Published>> {
        let mut waiting = VecDeque::from(requests);
        let mut results = Vec::with_capacity(waiting.len());
        while !waiting.is_empty() {
            let before = waiting.len();
            let submitted = self.submit_each(&mut waiting);
            results.extend(submitted.results().await);
            if waiting.len() == before {
                break;
            }
        }
        results.extend(waiting.iter().map(|_| Err(Error::overloaded("the queue of commands"))));
        results
    }

    /// Hands independent requests to the core, in order, as far as its queue has room. What it has no room for stays
    /// in `waiting`: who hands it over later, before anything else, keeps its order.
    pub fn submit_each(&self, waiting: &mut VecDeque<Publish>) -> SubmittedEach {
        let mut parts = Vec::new();
        while !waiting.is_empty() {
            let requests = match next_piece(waiting, &self.0.shared.options) {
                Ok(requests) => requests,
                Err(error) => {
                    parts.push(Part::Refused { count: 1, error });
                    continue;
                }
            };
            let (count, (reply, answer)) = (requests.len(), reply::channel());
            match self.0.shared.offer(Command::PublishEach { requests, reply }) {
                Ok(None) => parts.push(Part::Asked { count, answer }),
                Ok(Some(command)) => {
                    let Command::PublishEach { requests, .. } = command else { break };
                    requests.into_iter().rev().for_each(|r| waiting.push_front(r.request));
                    break;
                }
                Err(error) => parts.push(Part::Refused { count: count + waiting.drain(..).count(), error }),
            }
        }
        SubmittedEach { engine: self.clone(), parts }
    }
}

/// Independent requests that were handed over. Dropping it leaves them to happen.
pub struct SubmittedEach {
    engine: Engine,
    parts: Vec<Part>,
}

enum Part {
    Refused { count: usize, error: Error },
    Asked { count: usize, answer: Answer<Vec<Result<Published>>> },
}

impl SubmittedEach {
    /// The answers, in the order of the requests, once each is durable at its durability.
    pub async fn results(self) -> Vec<Result<Published>> {
        let mut results = Vec::new();
        for part in self.parts {
            match part {
                Part::Refused { count, error } => results.resize(results.len() + count, Err(error)),
                Part::Asked { count, answer } => match self.engine.wait(answer).await {
                    Ok(answers) => results.extend(answers),
                    Err(error) => results.resize(results.len() + count, Err(error)),
                },
            }
        }
        results
    }
}

/// Takes the next requests that the core can take together: it looks for room before a command, not within one. Fails
/// with why the first one is refused, and drops that one.
fn next_piece(waiting: &mut VecDeque<Publish>, options: &EngineOptions) -> Result<Vec<PreparedPublish>> {
    let cost_max = (options.segment_bytes / 8).min(limits::FRAME_BYTES_MAX as u64 / 2);
    let mut cost = 0;
    let mut piece = Vec::new();
    while let Some(next) = waiting.pop_front() {
        let checked = check(&next, options);
        cost += (next.bytes() + next.entries.len() * ENTRY_COST + REQUEST_COST) as u64;
        if !piece.is_empty() && (checked.is_err() || cost > cost_max) {
            waiting.push_front(next);
            break;
        }
        piece.push(prepared(next, checked?));
    }
    Ok(piece)
}

/// What an entry takes in a commit beside its bytes, and a request beside its entries; roughly, from above.
const ENTRY_COST: usize = 64;
const REQUEST_COST: usize = 1_024;

/// Checks what can be checked without the stream, and computes what the core needs to know.
pub(super) fn prepare(request: Publish, options: &EngineOptions) -> Result<PreparedPublish> {
    let bytes = check(&request, options)?;
    Ok(prepared(request, bytes))
}

fn prepared(request: Publish, bytes: usize) -> PreparedPublish {
    let hash = if request.producer.is_some() { content_hash(&request) } else { 0 };
    PreparedPublish { request, bytes, hash }
}

/// Checks what can be checked without the stream; answers the bytes of all entries.
fn check(request: &Publish, options: &EngineOptions) -> Result<usize> {
    let count = request.entries.len();
    if count == 0 {
        return Err(Error::invalid("events", "at least one is needed"));
    }
    if count > limits::PUBLISH_EVENTS_MAX {
        let max = limits::PUBLISH_EVENTS_MAX;
        return Err(too_large(
            Reason::BatchTooLarge,
            format!("{count} events in one request, at most {max} are allowed"),
            count,
            max,
        )
        .violation("events", format!("at most {max}")));
    }
    let mut bytes = 0;
    for (n, entry) in request.entries.iter().enumerate() {
        let (size, max) = (entry.bytes.len(), options.event_bytes_max);
        if size > max {
            let message = format!("event {n} has {size} bytes, at most {max} are allowed");
            return Err(
                too_large(Reason::EventTooLarge, message, size, max).violation(format!("events[{n}]"), "too large")
            );
        }
        check_field_names(entry)?;
        bytes += size;
    }
    if bytes > options.publish_bytes_max {
        let max = options.publish_bytes_max;
        return Err(too_large(
            Reason::BatchTooLarge,
            format!("the request has {bytes} bytes, at most {max} are allowed"),
            bytes,
            max,
        )
        .violation("events", format!("at most {max} bytes together")));
    }
    if matches!(request.ids, IdRequest::Exact(_)) && count != 1 {
        return Err(Error::invalid("ids", "an exact id goes with one entry only"));
    }
    Ok(bytes)
}

fn too_large(reason: Reason, message: String, size: usize, max: usize) -> Error {
    Error::new(reason, message).with("size", size).with("max", max)
}

fn content_hash(request: &Publish) -> u128 {
    let mut hash = Xxh3::new();
    for entry in &request.entries {
        hash.update(&(entry.bytes.len() as u64).to_le_bytes());
        hash.update(&entry.bytes);
    }
    hash.digest128()
}
