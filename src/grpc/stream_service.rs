//! `synapse.v1.StreamService`: the catalogue of streams, trimming and deleting.

use tonic::{Request, Response, Status};

use super::convert::{bounded, id, ids, pb_id, pb_time, time_ms};
use super::pb::stream_service_server::StreamService;
use super::status::status;
use super::{Shared, pb, settings};
use crate::access::Permission;
use crate::engine::{StreamInfo, Trim, TrimTo};
use crate::error::{Error, Result};
use crate::types::StreamName;

/// Streams of a page, unless asked otherwise.
const PAGE_DEFAULT: usize = 100;
/// Streams of a page at most.
const PAGE_MAX: usize = 1000;

/// The service.
pub(super) struct Streams(pub(super) Shared);

#[tonic::async_trait]
impl StreamService for Streams {
    async fn create_stream(
        &self,
        request: Request<pb::CreateStreamRequest>,
    ) -> Result<Response<pb::CreateStreamResponse>, Status> {
        let name = self.named(&request, Permission::Admin, |r| &r.stream)?;
        let settings = settings::stream(request.into_inner().settings).map_err(status)?;
        let info = self.0.engine.create_stream(name, settings).await.map_err(status)?;
        Ok(Response::new(pb::CreateStreamResponse { info: Some(message(info)) }))
    }

    async fn get_stream(
        &self,
        request: Request<pb::GetStreamRequest>,
    ) -> Result<Response<pb::GetStreamResponse>, Status> {
        let name = self.named(&request, Permission::Read, |r| &r.stream)?;
        let info = self.0.engine.stream(&name).await.map_err(status)?;
        Ok(Response::new(pb::GetStreamResponse { info: Some(message(info)) }))
    }

    async fn list_streams(
        &self,
        request: Request<pb::ListStreamsRequest>,
    ) -> Result<Response<pb::ListStreamsResponse>, Status> {
        let caller = self.0.caller(&request).map_err(status)?;
        let request = request.into_inner();
        let max = bounded("page_size", request.page_size, PAGE_DEFAULT, PAGE_MAX).map_err(status)?;
        let after = page_token(&request.page_token).map_err(status)?;
        let found = self.0.engine.streams(&request.prefix, after.as_ref(), max).await.map_err(status)?;
        // A page that the engine filled may have more behind it, whatever of it the caller may see.
        let more = if found.len() == max { found.last().map(|info| info.name.to_string()) } else { None };
        let visible = found.into_iter().filter(|info| caller.allows(Permission::Read, info.name.as_str()));
        Ok(Response::new(pb::ListStreamsResponse {
            streams: visible.map(message).collect(),
            next_page_token: more.unwrap_or_default(),
        }))
    }

    async fn update_stream(
        &self,
        request: Request<pb::UpdateStreamRequest>,
    ) -> Result<Response<pb::UpdateStreamResponse>, Status> {
        let name = self.named(&request, Permission::Admin, |r| &r.stream)?;
        let request = request.into_inner();
        let now = self.0.engine.stream(&name).await.map_err(status)?.settings;
        let new = settings::update_stream(&now, request.settings, request.update_mask).map_err(status)?;
        let info = self.0.engine.update_stream(&name, new).await.map_err(status)?;
        Ok(Response::new(pb::UpdateStreamResponse { info: Some(message(info)) }))
    }

    async fn delete_stream(
        &self,
        request: Request<pb::DeleteStreamRequest>,
    ) -> Result<Response<pb::DeleteStreamResponse>, Status> {
        let name = self.named(&request, Permission::Admin, |r| &r.stream)?;
        self.0.engine.delete_stream(&name).await.map_err(status)?;
        Ok(Response::new(pb::DeleteStreamResponse {}))
    }

    async fn trim_stream(
        &self,
        request: Request<pb::TrimStreamRequest>,
    ) -> Result<Response<pb::TrimStreamResponse>, Status> {
        let stream = self.named(&request, Permission::Admin, |r| &r.stream)?;
        let request = request.into_inner();
        let to = trim_to(&request).map_err(status)?;
        let trim = Trim { stream, to, dry_run: request.dry_run };
        let trimmed = self.0.engine.trim(trim).await.map_err(status)?;
        Ok(Response::new(pb::TrimStreamResponse {
            entries: trimmed.entries,
            bytes: trimmed.bytes,
            first_id: trimmed.first.map(pb_id),
        }))
    }

    async fn delete_events(
        &self,
        request: Request<pb::DeleteEventsRequest>,
    ) -> Result<Response<pb::DeleteEventsResponse>, Status> {
        let stream = self.named(&request, Permission::Admin, |r| &r.stream)?;
        let ids = ids("ids", request.into_inner().ids).map_err(status)?;
        let deleted = self.0.engine.delete_entries(&stream, ids).await.map_err(status)?;
        Ok(Response::new(pb::DeleteEventsResponse { deleted }))
    }
}

impl Streams {
    /// The stream that a request names, where the caller may do that to it.
    fn named<T>(
        &self,
        request: &Request<T>,
        permission: Permission,
        name: impl Fn(&T) -> &str,
    ) -> Result<StreamName, Status> {
        let name = name(request.get_ref());
        self.0.allowed(request, &[permission], name).map_err(status)?;
        StreamName::parse(name).map_err(status)
    }
}

/// A page token is the last name of the page before.
fn page_token(token: &str) -> Result<Option<StreamName>> {
    if token.is_empty() {
        return Ok(None);
    }
    StreamName::parse(token).map(Some).map_err(|_| Error::invalid("page_token", "is not one that this server gave"))
}

fn trim_to(request: &pb::TrimStreamRequest) -> Result<TrimTo> {
    let before_time = request.before_time.as_ref().map(|time| time_ms("before_time", time)).transpose()?;
    let set = [
        request.before_id.map(|before| ("before_id", TrimTo::BeforeId(id(before)))),
        before_time.map(|ms| ("before_time", TrimTo::BeforeTime(ms))),
        request.keep_entries.map(|n| ("keep_entries", TrimTo::KeepEntries(n))),
        request.keep_bytes.map(|n| ("keep_bytes", TrimTo::KeepBytes(n))),
    ];
    let mut set = set.into_iter().flatten();
    let Some((_, to)) = set.next() else {
        return Err(Error::invalid(
            "keep_entries",
            "one of before_id, before_time, keep_entries, keep_bytes is needed",
        ));
    };
    match set.next() {
        None => Ok(to),
        Some((second, _)) => {
            Err(Error::invalid(second, "only one of before_id, before_time, keep_entries, keep_bytes may be set"))
        }
    }
}

fn message(info: StreamInfo) -> pb::StreamInfo {
    pb::StreamInfo {
        name: info.name.to_string(),
        number: info.number,
        settings: Some(settings::pb_stream(&info.settings)),
        length: info.length,
        bytes: info.bytes,
        first_id: info.first.map(pb_id),
        last_id: Some(pb_id(info.last)),
        appended: info.appended,
        deleted_id_max: Some(pb_id(info.deleted_max)),
        create_time: Some(pb_time(info.created_ms)),
        groups: info.groups.iter().map(ToString::to_string).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trim_has_one_goal() {
        let none = pb::TrimStreamRequest::default();
        trim_to(&none).expect_err("nothing set");
        let keep = pb::TrimStreamRequest { keep_entries: Some(0), ..none };
        assert_eq!(trim_to(&keep).expect("zero is a number"), TrimTo::KeepEntries(0));
        let both = pb::TrimStreamRequest { keep_bytes: Some(1), ..keep };
        let error = trim_to(&both).expect_err("contradiction");
        assert_eq!(error.violations()[0].0, "keep_bytes");
    }
}
