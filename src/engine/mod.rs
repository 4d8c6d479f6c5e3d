//! The engine: one log, one core thread that decides, one log thread that makes it durable, readers beside them.
//!
//! [`Engine`] is the handle that front ends and library users hold. It is cheap to clone.

mod api;

pub use api::*;

use crate::error::Result;
use crate::types::*;

/// Handle to a running engine.
#[derive(Clone)]
pub struct Engine {}

/// A tail of one stream: catches up, then waits for what comes.
pub struct Tail {}

impl Tail {
    /// The next entries, at least one; waits where there is none yet. Fails when the stream is deleted.
    /// A later call continues after the last entry returned. Cancel-safe.
    pub async fn next(&mut self, _entries_max: usize, _bytes_max: usize) -> Result<Vec<StoredEntry>> {
        unimplemented!()
    }
    /// The id after which the next call continues.
    pub fn position(&self) -> EntryId {
        unimplemented!()
    }
}

/// An open consume session: what it is handed is fenced by it. Dropping it counts as losing it.
pub struct Session {}

impl Session {
    /// Its number, for [`Holder::Delivery`].
    pub fn number(&self) -> DeliveryNumber {
        unimplemented!()
    }
    /// More entries for this session; waits where there are none. Cancel-safe in that what a dropped call was granted
    /// is handed back without counting a failure.
    pub async fn next(&mut self, _entries_max: usize, _bytes_max: usize) -> Result<Delivery> {
        unimplemented!()
    }
    /// Ends the session and hands back what it still holds, without counting failures.
    pub async fn drain(self) -> Result<u64> {
        unimplemented!()
    }
}

#[allow(missing_docs, unused_variables)]
impl Engine {
    pub async fn publish(&self, request: Publish) -> Result<Published> {
        unimplemented!()
    }
    /// Several independent publishes of one connection, handed over together; answers in order.
    pub async fn publish_each(&self, requests: Vec<Publish>) -> Vec<Result<Published>> {
        unimplemented!()
    }
    pub async fn read(&self, request: Read) -> Result<Page> {
        unimplemented!()
    }
    pub async fn tail(&self, stream: &StreamName, from: TailFrom) -> Result<Tail> {
        unimplemented!()
    }

    pub async fn create_stream(&self, name: StreamName, settings: StreamSettings) -> Result<StreamInfo> {
        unimplemented!()
    }
    pub async fn stream(&self, name: &StreamName) -> Result<StreamInfo> {
        unimplemented!()
    }
    /// Streams in name order, after the given name, with names that start with the prefix.
    pub async fn streams(&self, prefix: &str, after: Option<&StreamName>, max: usize) -> Result<Vec<StreamInfo>> {
        unimplemented!()
    }
    pub async fn update_stream(&self, name: &StreamName, settings: StreamSettings) -> Result<StreamInfo> {
        unimplemented!()
    }
    pub async fn delete_stream(&self, name: &StreamName) -> Result<()> {
        unimplemented!()
    }
    pub async fn trim(&self, request: Trim) -> Result<Trimmed> {
        unimplemented!()
    }
    /// Deletes single entries; answers how many existed.
    pub async fn delete_entries(&self, stream: &StreamName, ids: Vec<EntryId>) -> Result<u64> {
        unimplemented!()
    }

    pub async fn create_group(&self, request: CreateGroup) -> Result<GroupInfo> {
        unimplemented!()
    }
    pub async fn group(&self, stream: &StreamName, group: &GroupName) -> Result<GroupInfo> {
        unimplemented!()
    }
    pub async fn groups(&self, stream: &StreamName) -> Result<Vec<GroupInfo>> {
        unimplemented!()
    }
    pub async fn update_group(
        &self,
        stream: &StreamName,
        group: &GroupName,
        settings: GroupSettings,
    ) -> Result<GroupInfo> {
        unimplemented!()
    }
    pub async fn delete_group(&self, stream: &StreamName, group: &GroupName) -> Result<()> {
        unimplemented!()
    }
    pub async fn seek_group(
        &self,
        stream: &StreamName,
        group: &GroupName,
        to: StartAt,
        dry_run: bool,
    ) -> Result<Seeked> {
        unimplemented!()
    }
    pub async fn pull(&self, request: Pull) -> Result<Delivery> {
        unimplemented!()
    }
    pub async fn open_session(
        &self,
        stream: &StreamName,
        group: &GroupName,
        consumer: ConsumerName,
    ) -> Result<Session> {
        unimplemented!()
    }
    pub async fn acknowledge(&self, request: Acknowledge) -> Result<Settled> {
        unimplemented!()
    }
    pub async fn nack(&self, request: Nack) -> Result<Settled> {
        unimplemented!()
    }
    pub async fn extend(&self, request: Extend) -> Result<Settled> {
        unimplemented!()
    }
    pub async fn list_pending(&self, request: ListPending) -> Result<Vec<PendingInfo>> {
        unimplemented!()
    }
    pub async fn claim(&self, request: Claim) -> Result<Claimed> {
        unimplemented!()
    }
    /// Removes a consumer and hands its pending entries back to the group; answers how many.
    pub async fn remove_consumer(
        &self,
        stream: &StreamName,
        group: &GroupName,
        consumer: &ConsumerName,
    ) -> Result<u64> {
        unimplemented!()
    }
    pub async fn dead_letters(
        &self,
        stream: &StreamName,
        group: &GroupName,
        after: Option<EntryId>,
        max: usize,
    ) -> Result<Vec<DeadLetter>> {
        unimplemented!()
    }
    pub async fn redrive(
        &self,
        stream: &StreamName,
        group: &GroupName,
        which: DeadLetterChoice,
        to: RedriveTo,
    ) -> Result<Redriven> {
        unimplemented!()
    }
    pub async fn purge_dead_letters(
        &self,
        stream: &StreamName,
        group: &GroupName,
        which: DeadLetterChoice,
    ) -> Result<Redriven> {
        unimplemented!()
    }

    pub fn health(&self) -> Health {
        unimplemented!()
    }
    pub fn stats(&self) -> Stats {
        unimplemented!()
    }
    /// Refuses new commands, ends waits, syncs, leaves the clean mark and stops the threads.
    pub async fn shutdown(&self) -> Result<()> {
        unimplemented!()
    }
}
