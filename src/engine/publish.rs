//! Publishing through the handle: checks that need no state, then the core.

use xxhash_rust::xxh3::Xxh3;

use super::api::{Publish, Published};
use super::command::{Command, PreparedPublish};
use super::dead_letter::check_field_names;
use super::handle::Engine;
use super::options::EngineOptions;
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
        let options = &self.0.shared.options;
        let mut refused = Vec::new();
        let mut prepared = Vec::with_capacity(requests.len());
        for (n, request) in requests.into_iter().enumerate() {
            match prepare(request, options) {
                Ok(request) => prepared.push(request),
                Err(error) => refused.push((n, error)),
            }
        }
        let mut answers = Vec::with_capacity(prepared.len());
        let mut waiting = prepared.into_iter().peekable();
        while waiting.peek().is_some() {
            let requests = piece(&mut waiting, options);
            let count = requests.len();
            match self.ask(|reply| Command::PublishEach { requests, reply }).await {
                Ok(piece) => answers.extend(piece),
                // Nothing after it may overtake it.
                Err(error) => answers.resize(answers.len() + count + waiting.by_ref().count(), Err(error)),
            }
        }
        for (n, error) in refused {
            answers.insert(n, Err(error));
        }
        answers
    }
}

/// The next requests that the core can take together: it looks for room before a command, not within one.
fn piece(
    waiting: &mut std::iter::Peekable<std::vec::IntoIter<PreparedPublish>>,
    options: &EngineOptions,
) -> Vec<PreparedPublish> {
    let cost_max = (options.segment_bytes / 8).min(limits::FRAME_BYTES_MAX as u64 / 2);
    let mut cost = 0;
    let mut requests = Vec::new();
    while let Some(next) = waiting.next_if(|next| {
        cost += (next.bytes + next.request.entries.len() * ENTRY_COST + REQUEST_COST) as u64;
        requests.is_empty() || cost <= cost_max
    }) {
        requests.push(next);
    }
    requests
}

/// What an entry takes in a commit beside its bytes, and a request beside its entries; roughly, from above.
const ENTRY_COST: usize = 64;
const REQUEST_COST: usize = 1_024;

/// Checks what can be checked without the stream.
pub(super) fn prepare(request: Publish, options: &EngineOptions) -> Result<PreparedPublish> {
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
        ));
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
        ));
    }
    if matches!(request.ids, IdRequest::Exact(_)) && count != 1 {
        return Err(Error::invalid("ids", "an exact id goes with one entry only"));
    }
    let hash = if request.producer.is_some() { content_hash(&request) } else { 0 };
    Ok(PreparedPublish { request, bytes, hash })
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
