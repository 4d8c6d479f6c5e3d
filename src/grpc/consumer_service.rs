//! `synapse.v1.ConsumerService`: groups, delivery, acknowledgement, dead letters.
//!
//! Settling entries for whoever holds them (neither token nor consumer given) needs the admin permission beside that to
//! consume. What is known of a group is shown to whoever may read its stream or consume from it.

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::convert::{bounded, group_of, start_at};
use super::pb::consumer_service_server::ConsumerService;
use super::request_end::RequestEnd;
use super::status::status;
use super::{Shared, consume_session, dead_letters, delivery, groups, pb, settings};
use crate::access::{Caller, Permission};
use crate::engine::{CreateGroup, Holder, StartAt};
use crate::error::{Error, Result};
use crate::types::{ConsumerName, GroupName, GroupSettings, StreamName};

/// Dead letters of a page, unless asked otherwise.
const DEAD_LETTERS_DEFAULT: usize = 100;
/// Dead letters of a page at most.
const DEAD_LETTERS_MAX: usize = 1000;
/// Permissions of which one is enough to see what is known of a group.
const SEE: [Permission; 2] = [Permission::Read, Permission::Consume];

/// The service.
pub(super) struct Consumers(pub(super) Shared);

#[tonic::async_trait]
impl ConsumerService for Consumers {
    type ConsumeStream = ReceiverStream<Result<pb::ConsumeResponse, Status>>;

    async fn consume(
        &self,
        request: Request<Streaming<pb::ConsumeRequest>>,
    ) -> Result<Response<Self::ConsumeStream>, Status> {
        let caller = self.0.caller(&request).map_err(status)?;
        let end = request.extensions().get::<RequestEnd>().cloned().unwrap_or_default();
        Ok(Response::new(consume_session::start(self.0.clone(), caller, request.into_inner(), end)))
    }

    async fn pull(&self, request: Request<pb::PullRequest>) -> Result<Response<pb::PullResponse>, Status> {
        self.allowed(&request, &[Permission::Consume], |r| &r.stream)?;
        let pull = delivery::pull(request.into_inner()).map_err(status)?;
        let (stream, no_ack) = (pull.stream.clone(), pull.no_ack);
        let delivered = tokio::select! {
            biased;
            () = self.0.drain.cancelled(), if !pull.wait.is_zero() => return Err(Shared::draining()),
            delivered = self.0.engine.pull(pull.clone()) => delivered.map_err(status)?,
        };
        Ok(Response::new(delivery::pulled(&stream, delivered, no_ack)))
    }

    async fn acknowledge(
        &self,
        request: Request<pb::AcknowledgeRequest>,
    ) -> Result<Response<pb::AcknowledgeResponse>, Status> {
        let caller = self.allowed(&request, &[Permission::Consume], |r| &r.stream)?;
        let request = delivery::acknowledge(request.into_inner(), caller.clone()).map_err(status)?;
        fenced(&caller, &request.holder, &request.stream)?;
        let settled = self.0.engine.acknowledge(request).await.map_err(status)?;
        Ok(Response::new(delivery::acknowledged(settled)))
    }

    async fn nack(&self, request: Request<pb::NackRequest>) -> Result<Response<pb::NackResponse>, Status> {
        let caller = self.allowed(&request, &[Permission::Consume], |r| &r.stream)?;
        let request = delivery::nack(request.into_inner()).map_err(status)?;
        fenced(&caller, &request.holder, &request.stream)?;
        let settled = self.0.engine.nack(request).await.map_err(status)?;
        Ok(Response::new(delivery::nacked(settled)))
    }

    async fn extend_lease(
        &self,
        request: Request<pb::ExtendLeaseRequest>,
    ) -> Result<Response<pb::ExtendLeaseResponse>, Status> {
        let caller = self.allowed(&request, &[Permission::Consume], |r| &r.stream)?;
        let request = delivery::extend(request.into_inner()).map_err(status)?;
        fenced(&caller, &request.holder, &request.stream)?;
        let settled = self.0.engine.extend(request).await.map_err(status)?;
        Ok(Response::new(delivery::extended(settled)))
    }

    async fn create_group(
        &self,
        request: Request<pb::CreateGroupRequest>,
    ) -> Result<Response<pb::CreateGroupResponse>, Status> {
        let caller = self.allowed(&request, &[Permission::Admin], |r| &r.stream)?;
        let request = request.into_inner();
        let (stream, group) = group_of(&request.stream, &request.group).map_err(status)?;
        let start = start_at("start", request.start).map_err(status)?.unwrap_or(StartAt::Earliest);
        let settings = settings::group(request.settings).map_err(status)?;
        may_dead_letter(&caller, &settings)?;
        let create = CreateGroup { stream, group, start, settings, create_stream: request.create_stream };
        let info = self.0.engine.create_group(create).await.map_err(status)?;
        Ok(Response::new(pb::CreateGroupResponse { info: Some(groups::info(info)) }))
    }

    async fn get_group(&self, request: Request<pb::GetGroupRequest>) -> Result<Response<pb::GetGroupResponse>, Status> {
        let (stream, group) = self.named(&request, &SEE, |r| (&r.stream, &r.group))?;
        let info = self.0.engine.group(&stream, &group).await.map_err(status)?;
        Ok(Response::new(pb::GetGroupResponse { info: Some(groups::info(info)) }))
    }

    async fn list_groups(
        &self,
        request: Request<pb::ListGroupsRequest>,
    ) -> Result<Response<pb::ListGroupsResponse>, Status> {
        self.allowed(&request, &SEE, |r| &r.stream)?;
        let stream = StreamName::parse(&request.get_ref().stream).map_err(status)?;
        let found = self.0.engine.groups(&stream).await.map_err(status)?;
        Ok(Response::new(pb::ListGroupsResponse { groups: found.into_iter().map(groups::summary).collect() }))
    }

    async fn update_group(
        &self,
        request: Request<pb::UpdateGroupRequest>,
    ) -> Result<Response<pb::UpdateGroupResponse>, Status> {
        let caller = self.allowed(&request, &[Permission::Admin], |r| &r.stream)?;
        let request = request.into_inner();
        let (stream, group) = group_of(&request.stream, &request.group).map_err(status)?;
        let now = self.0.engine.group(&stream, &group).await.map_err(status)?.settings;
        let new = settings::update_group(&now, request.settings, request.update_mask).map_err(status)?;
        if new.dead_letter_stream != now.dead_letter_stream {
            may_dead_letter(&caller, &new)?;
        }
        let info = self.0.engine.update_group(&stream, &group, new).await.map_err(status)?;
        Ok(Response::new(pb::UpdateGroupResponse { info: Some(groups::info(info)) }))
    }

    async fn delete_group(
        &self,
        request: Request<pb::DeleteGroupRequest>,
    ) -> Result<Response<pb::DeleteGroupResponse>, Status> {
        let (stream, group) = self.named(&request, &[Permission::Admin], |r| (&r.stream, &r.group))?;
        self.0.engine.delete_group(&stream, &group).await.map_err(status)?;
        Ok(Response::new(pb::DeleteGroupResponse {}))
    }

    async fn seek_group(
        &self,
        request: Request<pb::SeekGroupRequest>,
    ) -> Result<Response<pb::SeekGroupResponse>, Status> {
        let (stream, group) = self.named(&request, &[Permission::Admin], |r| (&r.stream, &r.group))?;
        let request = request.into_inner();
        let to = start_at("to", request.to).map_err(status)?;
        let to = to.ok_or_else(|| status(Error::invalid("to", "is needed")))?;
        let seeked = self.0.engine.seek_group(&stream, &group, to, request.dry_run).await.map_err(status)?;
        Ok(Response::new(groups::seeked(seeked)))
    }

    async fn list_pending(
        &self,
        request: Request<pb::ListPendingRequest>,
    ) -> Result<Response<pb::ListPendingResponse>, Status> {
        self.allowed(&request, &SEE, |r| &r.stream)?;
        let list = delivery::list_pending(request.into_inner()).map_err(status)?;
        let asked = list.entries_max;
        let found = self.0.engine.list_pending(list).await.map_err(status)?;
        Ok(Response::new(delivery::listed(found, asked)))
    }

    async fn claim_pending(
        &self,
        request: Request<pb::ClaimPendingRequest>,
    ) -> Result<Response<pb::ClaimPendingResponse>, Status> {
        self.allowed(&request, &[Permission::Consume], |r| &r.stream)?;
        let claim = delivery::claim(request.into_inner()).map_err(status)?;
        let stream = claim.stream.clone();
        let claimed = self.0.engine.claim(claim).await.map_err(status)?;
        Ok(Response::new(delivery::claimed(&stream, claimed)))
    }

    async fn remove_consumer(
        &self,
        request: Request<pb::RemoveConsumerRequest>,
    ) -> Result<Response<pb::RemoveConsumerResponse>, Status> {
        let (stream, group) = self.named(&request, &[Permission::Admin], |r| (&r.stream, &r.group))?;
        let consumer = ConsumerName::parse(&request.get_ref().consumer).map_err(status)?;
        let handed_back = self.0.engine.remove_consumer(&stream, &group, &consumer).await.map_err(status)?;
        Ok(Response::new(pb::RemoveConsumerResponse { handed_back }))
    }

    async fn list_dead_letters(
        &self,
        request: Request<pb::ListDeadLettersRequest>,
    ) -> Result<Response<pb::ListDeadLettersResponse>, Status> {
        let (stream, group) = self.named(&request, &[Permission::Read], |r| (&r.stream, &r.group))?;
        let request = request.into_inner();
        let max =
            bounded("entries_max", request.entries_max, DEAD_LETTERS_DEFAULT, DEAD_LETTERS_MAX).map_err(status)?;
        let after = request.after.map(super::convert::id);
        let info = self.0.engine.group(&stream, &group).await.map_err(status)?;
        let place = info.settings.dead_letter_stream.unwrap_or(stream.clone());
        let found = self.0.engine.dead_letters(&stream, &group, after, max).await.map_err(status)?;
        Ok(Response::new(dead_letters::page(&place, found)))
    }

    async fn redrive_dead_letters(
        &self,
        request: Request<pb::RedriveDeadLettersRequest>,
    ) -> Result<Response<pb::RedriveDeadLettersResponse>, Status> {
        let (stream, group) = self.named(&request, &[Permission::Admin], |r| (&r.stream, &r.group))?;
        let (which, to) = dead_letters::redrive(request.into_inner()).map_err(status)?;
        let redriven = self.0.engine.redrive(&stream, &group, which, to).await.map_err(status)?;
        Ok(Response::new(dead_letters::redriven(&redriven)))
    }

    async fn purge_dead_letters(
        &self,
        request: Request<pb::PurgeDeadLettersRequest>,
    ) -> Result<Response<pb::PurgeDeadLettersResponse>, Status> {
        let (stream, group) = self.named(&request, &[Permission::Admin], |r| (&r.stream, &r.group))?;
        let which = dead_letters::choice(request.into_inner().which).map_err(status)?;
        let purged = self.0.engine.purge_dead_letters(&stream, &group, which).await.map_err(status)?;
        Ok(Response::new(dead_letters::purged(&purged)))
    }
}

impl Consumers {
    fn allowed<T>(
        &self,
        request: &Request<T>,
        any_of: &[Permission],
        stream: impl Fn(&T) -> &str,
    ) -> Result<Caller, Status> {
        self.0.allowed(request, any_of, stream(request.get_ref())).map_err(status)
    }

    /// The stream and group that a request names, where the caller may do one of these to the stream.
    fn named<T>(
        &self,
        request: &Request<T>,
        any_of: &[Permission],
        names: impl Fn(&T) -> (&str, &str),
    ) -> Result<(StreamName, GroupName), Status> {
        let (stream, group) = names(request.get_ref());
        self.0.allowed(request, any_of, stream).map_err(status)?;
        group_of(stream, group).map_err(status)
    }
}

/// Settling what anyone holds is for administrators.
fn fenced(caller: &Caller, holder: &Holder, stream: &StreamName) -> Result<(), Status> {
    match holder {
        Holder::Anyone => caller.may(Permission::Admin, stream.as_str()).map_err(status),
        Holder::Delivery(_) | Holder::Consumer(_) => Ok(()),
    }
}

/// A group that sends its dead letters to a stream of the caller's choice publishes there.
fn may_dead_letter(caller: &Caller, settings: &GroupSettings) -> Result<(), Status> {
    let Some(stream) = &settings.dead_letter_stream else { return Ok(()) };
    caller.may(Permission::Publish, stream.as_str()).map_err(status)
}
