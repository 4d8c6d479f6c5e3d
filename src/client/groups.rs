//! Consumer groups, one request at a time: administration, pulling, settling, dead letters.

use std::time::Duration;

use super::Client;
use super::calls::Published;
use super::entry::{Entry, StartAt, duration, ids, needed, needed_id, ranges};
use super::error::Result;
use super::streams::mask;
use crate::proto::v1::{self, ConsumerInfo, DeadLetter, GroupInfo, GroupSettings, PendingEntry, RedriveTarget};
use crate::types::EntryId;

/// Calls that concern one group of a stream. Nothing is asked until one of them is made.
#[derive(Clone)]
pub struct GroupHandle {
    pub(super) client: Client,
    pub(super) stream: String,
    pub(super) group: String,
}

/// An entry that was delivered to a consumer.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivered {
    /// The entry.
    pub entry: Entry,
    /// Times that it was delivered, this one included.
    pub deliveries: u32,
    /// Times that a delivery of it failed.
    pub failures: u32,
}

/// A delivery that was pulled or claimed, possibly empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// What settles it: see [`GroupHandle::ack`].
    pub token: String,
    /// The entries; redelivered ones first, each part in id order.
    pub entries: Vec<Delivered>,
    /// How long their lease runs from now; zero if they are claimed by hand.
    pub lease: Duration,
}

/// What to do with an entry that is given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nack {
    /// Deliver again after this delay, or after the group's back-off where unset; counts as a failure.
    Retry(Option<Duration>),
    /// Move to the dead letters, with why, for people.
    DeadLetter(String),
    /// Drop, as if acknowledged.
    Skip,
    /// Give back unprocessed: deliver again now, without counting a failure.
    HandBack,
}

impl From<Nack> for v1::NackAction {
    fn from(nack: Nack) -> Self {
        use v1::nack_action::{Action, DeadLetter, Retry};
        let action = match nack {
            Nack::Retry(delay) => Action::Retry(Retry { delay: delay.map(duration) }),
            Nack::DeadLetter(reason) => Action::DeadLetter(DeadLetter { reason }),
            Nack::Skip => Action::Skip(()),
            Nack::HandBack => Action::HandBack(()),
        };
        Self { action: Some(action) }
    }
}

/// What became of the ids of a settlement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Entries that it took effect on.
    pub done: u64,
    /// Ids that were not pending.
    pub not_pending: Vec<EntryId>,
    /// Ids that are pending, but held by another.
    pub not_owned: Vec<EntryId>,
    /// Answers to the publishes that rode along, in order.
    pub published: Vec<Published>,
}

/// Which dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Letters<'a> {
    /// All that are there when the command starts.
    All,
    /// Those of these ids of the dead-letter stream: 1 to 100,000.
    These(&'a [EntryId]),
}

/// A page of dead letters, with where the next one goes on.
pub type DeadLetterPage = (Vec<DeadLetter>, Option<EntryId>);

impl GroupHandle {
    pub(super) fn new(client: Client, stream: String, group: String) -> Self {
        Self { client, stream, group }
    }

    fn names(&self) -> (String, String) {
        (self.stream.clone(), self.group.clone())
    }

    /// Makes the group, and the stream where it is missing. `GROUP_EXISTS` where there is one of that name.
    pub async fn create(&self, start: StartAt, settings: GroupSettings) -> Result<GroupInfo> {
        let (stream, group) = self.names();
        let (start, settings) = (Some(start.into()), Some(settings));
        let request = v1::CreateGroupRequest { stream, group, start, settings, create_stream: true };
        needed(self.client.call(self.client.raw_consumers().create_group(request)).await?.info)
    }

    /// What is known of it, with its consumers.
    pub async fn get(&self) -> Result<GroupInfo> {
        let (stream, group) = self.names();
        let request = v1::GetGroupRequest { stream, group };
        needed(self.client.call(self.client.raw_consumers().get_group(request)).await?.info)
    }

    /// Its consumers, by name.
    pub async fn consumers(&self) -> Result<Vec<ConsumerInfo>> {
        Ok(self.get().await?.consumers)
    }

    /// Changes these of its settings, by their field names; all where none is named.
    pub async fn update(&self, settings: GroupSettings, fields: &[&str]) -> Result<GroupInfo> {
        let (stream, group) = self.names();
        let request = v1::UpdateGroupRequest { stream, group, settings: Some(settings), update_mask: mask(fields) };
        needed(self.client.call(self.client.raw_consumers().update_group(request)).await?.info)
    }

    /// Deletes it with its cursor and pending entries.
    pub async fn delete(&self) -> Result<()> {
        let (stream, group) = self.names();
        let request = v1::DeleteGroupRequest { stream, group };
        self.client.call(self.client.raw_consumers().delete_group(request)).await.map(drop)
    }

    /// Moves its cursor, forward or back, or says what that would do.
    pub async fn seek(&self, to: StartAt, dry_run: bool) -> Result<v1::SeekGroupResponse> {
        let (stream, group) = self.names();
        let request = v1::SeekGroupRequest { stream, group, to: Some(to.into()), dry_run };
        self.client.call(self.client.raw_consumers().seek_group(request)).await
    }

    /// Asks for entries once, waiting up to so long (300 s at most) where there are none. 0 entries stand for 100.
    pub async fn pull(&self, consumer: &str, entries_max: u32, wait: Duration) -> Result<Batch> {
        let (stream, group) = self.names();
        let consumer = consumer.to_owned();
        let request =
            v1::PullRequest { stream, group, consumer, entries_max, wait: Some(duration(wait)), ..Default::default() };
        let answer = self.client.call_with(wait, self.client.raw_consumers().pull(request)).await?;
        batch(answer.delivery_token, answer.events, answer.lease)
    }

    /// Acknowledges entries of a delivery.
    pub async fn ack(&self, token: &str, entries: &[EntryId]) -> Result<Settled> {
        self.ack_and_publish(token, entries, Vec::new()).await
    }

    /// Acknowledges entries of a delivery, and publishes what came of them in the same commit: all or nothing.
    pub async fn ack_and_publish(
        &self,
        token: &str,
        entries: &[EntryId],
        publish: Vec<v1::PublishRequest>,
    ) -> Result<Settled> {
        let (stream, group) = self.names();
        let holder = Some(v1::acknowledge_request::Holder::DeliveryToken(token.into()));
        let request = v1::AcknowledgeRequest { stream, group, ids: ranges(entries), holder, publish };
        let answer = self.client.call(self.client.raw_consumers().acknowledge(request)).await?;
        Ok(Settled {
            done: answer.done,
            not_pending: ids(answer.not_pending),
            not_owned: ids(answer.not_owned),
            published: answer.published.into_iter().map(Published::try_from).collect::<Result<_>>()?,
        })
    }

    /// Gives entries of a delivery back.
    pub async fn nack(&self, token: &str, entries: &[EntryId], action: Nack) -> Result<Settled> {
        let (stream, group) = self.names();
        let holder = Some(v1::nack_request::Holder::DeliveryToken(token.into()));
        let request = v1::NackRequest { stream, group, ids: ranges(entries), holder, action: Some(action.into()) };
        let answer = self.client.call(self.client.raw_consumers().nack(request)).await?;
        Ok(Settled {
            done: answer.done,
            not_pending: ids(answer.not_pending),
            not_owned: ids(answer.not_owned),
            published: Vec::new(),
        })
    }

    /// Extends the leases of entries of a delivery, from now; by the group's `ack_wait` where unset.
    pub async fn extend(&self, token: &str, entries: &[EntryId], lease: Option<Duration>) -> Result<Settled> {
        let (stream, group) = self.names();
        let holder = Some(v1::extend_lease_request::Holder::DeliveryToken(token.into()));
        let lease = lease.map(duration);
        let request = v1::ExtendLeaseRequest { stream, group, ids: ranges(entries), holder, lease };
        let answer = self.client.call(self.client.raw_consumers().extend_lease(request)).await?;
        Ok(Settled {
            done: answer.done,
            not_pending: ids(answer.not_pending),
            not_owned: ids(answer.not_owned),
            published: Vec::new(),
        })
    }

    /// Entries that were delivered and not acknowledged, in id order from this one on; 0 entries stand for 1000.
    pub async fn pending(&self, from: EntryId, entries_max: u32) -> Result<Vec<PendingEntry>> {
        let (stream, group) = self.names();
        let range = Some(v1::IdRange { first: Some(from.into()), last: Some(EntryId::MAX.into()) });
        let request = v1::ListPendingRequest { stream, group, range, entries_max, ..Default::default() };
        Ok(self.client.call(self.client.raw_consumers().list_pending(request)).await?.entries)
    }

    /// Takes over these pending entries for a consumer, if they were delivered at least so long ago.
    pub async fn claim(&self, consumer: &str, entries: &[EntryId], idle_min: Duration) -> Result<Batch> {
        let (stream, group) = self.names();
        let request = v1::ClaimPendingRequest {
            stream,
            group,
            consumer: consumer.into(),
            idle_min: Some(duration(idle_min)),
            ids: entries.iter().map(|id| (*id).into()).collect(),
            ..Default::default()
        };
        let answer = self.client.call(self.client.raw_consumers().claim_pending(request)).await?;
        batch(answer.delivery_token, answer.events, answer.lease)
    }

    /// Removes a consumer, and says how many entries it held, which go to others now.
    pub async fn remove_consumer(&self, consumer: &str) -> Result<u64> {
        let (stream, group) = self.names();
        let request = v1::RemoveConsumerRequest { stream, group, consumer: consumer.into() };
        Ok(self.client.call(self.client.raw_consumers().remove_consumer(request)).await?.handed_back)
    }

    /// A page of its dead letters, after this id of the dead-letter stream, with where the next page goes on.
    pub async fn dead_letters(&self, after: EntryId, entries_max: u32) -> Result<DeadLetterPage> {
        let (stream, group) = self.names();
        let request = v1::ListDeadLettersRequest { stream, group, after: Some(after.into()), entries_max };
        let answer = self.client.call(self.client.raw_consumers().list_dead_letters(request)).await?;
        let next = answer.next_after.map(|id| needed_id(Some(id))).transpose()?;
        Ok((answer.dead_letters, next))
    }

    /// Sends dead letters back.
    pub async fn redrive(&self, letters: Letters<'_>, target: RedriveTarget) -> Result<v1::RedriveDeadLettersResponse> {
        let (stream, group) = self.names();
        let request = v1::RedriveDeadLettersRequest {
            stream,
            group,
            which: Some(choice(letters)),
            target: target.into(),
            ..Default::default()
        };
        self.client.call(self.client.raw_consumers().redrive_dead_letters(request)).await
    }

    /// Deletes dead letters.
    pub async fn purge(&self, letters: Letters<'_>) -> Result<v1::PurgeDeadLettersResponse> {
        let (stream, group) = self.names();
        let request = v1::PurgeDeadLettersRequest { stream, group, which: Some(choice(letters)) };
        self.client.call(self.client.raw_consumers().purge_dead_letters(request)).await
    }
}

impl super::StreamHandle {
    /// Its groups by name, without their consumers.
    pub async fn list_groups(&self) -> Result<Vec<GroupInfo>> {
        let request = v1::ListGroupsRequest { stream: self.stream.clone() };
        Ok(self.client.call(self.client.raw_consumers().list_groups(request)).await?.groups)
    }
}

fn choice(letters: Letters<'_>) -> v1::DeadLetterChoice {
    use v1::dead_letter_choice::{Choice, Ids};
    let choice = match letters {
        Letters::All => Choice::All(()),
        Letters::These(ids) => Choice::Ids(Ids { ids: ids.iter().map(|id| (*id).into()).collect() }),
    };
    v1::DeadLetterChoice { choice: Some(choice) }
}

fn batch(token: String, events: Vec<v1::DeliveredEvent>, lease: Option<prost_types::Duration>) -> Result<Batch> {
    let entries = events.into_iter().map(Delivered::try_from).collect::<Result<_>>()?;
    Ok(Batch { token, entries, lease: lease_of(lease) })
}

/// A lease as messages have it; zero is by hand.
pub(super) fn lease_of(lease: Option<prost_types::Duration>) -> Duration {
    lease.and_then(|lease| lease.try_into().ok()).unwrap_or_default()
}

impl TryFrom<v1::DeliveredEvent> for Delivered {
    type Error = super::Error;

    fn try_from(delivered: v1::DeliveredEvent) -> Result<Self> {
        let entry = needed(delivered.event)?.try_into()?;
        Ok(Self { entry, deliveries: delivered.deliveries, failures: delivered.failures })
    }
}
