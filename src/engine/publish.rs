//! Publishing through the handle: checks that need no state, then the core.

use xxhash_rust::xxh3::Xxh3;

use super::api::{Publish, Published, TrimTo};
use super::command::{Command, PreparedPublish, Run, RunPublished};
use super::core::rule;
use super::dead_letter::check_field_names;
use super::gather::Gathered;
use super::handle::Engine;
use super::options::EngineOptions;
use crate::error::{Error, Reason, Result};
use crate::limits;
use crate::types::{IdRequest, NewEntry};

impl Engine {
    /// Publishes a request: all of its entries or none. Answered when it is durable at its durability.
    pub async fn publish(&self, request: Publish) -> Result<Published> {
        let run = Run::one(prepare(request, &self.0.shared.options)?);
        let Publish { stream, entries, trim, .. } = &run.publish.request;
        if let Some(trim) = trim {
            self.find_head(stream, rule(*trim), (entries.len() as u64, run.publish.bytes as u64)).await?;
        }
        let mut answers = self.ask(|reply| Command::PublishEach { runs: vec![run], reply }).await?;
        match answers.pop() {
            Some(RunPublished::One(answer)) => answer,
            _ => Err(Error::internal("a publish without an answer of its own")),
        }
    }

    /// Publishes and waits for it on this thread, without a runtime.
    pub fn publish_blocking(&self, request: Publish) -> Result<Published> {
        futures::executor::block_on(self.publish(request))
    }

    /// Publishes several independent requests, handed over together; answers in their order.
    pub async fn publish_each(&self, requests: Vec<Publish>) -> Vec<Result<Published>> {
        let mut gathered = Gathered::default();
        let refused: Vec<Option<Error>> =
            requests.into_iter().map(|request| self.gather(&mut gathered, request).err()).collect();
        let mut results = Vec::with_capacity(gathered.requests());
        while gathered.requests() > 0 {
            let before = gathered.requests();
            results.extend(self.submit(&mut gathered).results().await);
            if gathered.requests() == before {
                break;
            }
        }
        let mut results = results.into_iter();
        let overloaded = || Err(Error::overloaded("the queue of commands"));
        let answer = |refused: Option<Error>| match refused {
            Some(error) => Err(error),
            None => results.next().unwrap_or_else(overloaded),
        };
        refused.into_iter().map(answer).collect()
    }
}

/// Checks what can be checked without the stream, and computes what the core needs to know.
pub(super) fn prepare(request: Publish, options: &EngineOptions) -> Result<PreparedPublish> {
    check_extras(&request)?;
    let bytes = check(&request.entries, request.ids, options)?;
    Ok(prepared(request, bytes))
}

pub(super) fn prepared(request: Publish, bytes: usize) -> PreparedPublish {
    let hash = if request.producer.is_some() || request.name.is_some() { content_hash(&request) } else { 0 };
    PreparedPublish { request, bytes, hash }
}

/// Checks the trim that goes with a request, and the name by which it is remembered, where it has them.
pub(super) fn check_extras(request: &Publish) -> Result<()> {
    if request.trim.is_some_and(|trim| matches!(trim.to, TrimTo::BeforeTime(_))) {
        return Err(Error::invalid("trim", "one before a time does not go with a publish"));
    }
    let Some(once) = &request.once else { return Ok(()) };
    let is_name = |name: &[u8]| (1..=limits::NAME_BYTES_MAX).contains(&name.len());
    if !is_name(&once.producer) || !is_name(&once.name) {
        return Err(Error::invalid("once", format!("names have 1 to {} bytes", limits::NAME_BYTES_MAX)));
    }
    if request.entries.len() != 1 || request.ids != IdRequest::Auto {
        return Err(Error::invalid("once", "goes with one entry whose id is given to it"));
    }
    Ok(())
}

/// Checks what can be checked without the stream; answers the bytes of all entries.
pub(super) fn check(entries: &[NewEntry], ids: IdRequest, options: &EngineOptions) -> Result<usize> {
    let count = entries.len();
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
    for (n, entry) in entries.iter().enumerate() {
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
    if matches!(ids, IdRequest::Exact(_)) && count != 1 {
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
