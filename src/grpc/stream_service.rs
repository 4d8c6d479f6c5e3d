//! `synapse.v1.StreamService`: the catalogue of streams, trimming and deleting.

use prost::Message;
use tonic::{Request, Response, Status};

use super::convert::{bounded, id, ids, pb_id, pb_time, time_ms};
use super::pb::stream_service_server::StreamService;
use super::status::status;
use super::{Shared, pb, settings};
use crate::access::Permission;
use crate::engine::{StreamInfo, Trim, TrimTo};
use crate::error::{Error, Result};
use crate::limits;
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
        Ok(Response::new(page(found, max, |name| caller.allows(Permission::Read, name))))
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

/// A page of the streams that were found, of which `asked` were asked for: at least one, up to a page's bytes. A full
/// one may have more behind it, whatever of it the caller may see.
fn page(found: Vec<StreamInfo>, asked: usize, visible: impl Fn(&str) -> bool) -> pb::ListStreamsResponse {
    let (count, mut looked_at, mut bytes) = (found.len(), 0, 0);
    let (mut streams, mut last) = (Vec::new(), String::new());
    for info in found {
        let name = info.name.to_string();
        if visible(&name) {
            let stream = message(info);
            bytes += stream.encoded_len();
            if bytes > limits::PAGE_BYTES_DEFAULT && !streams.is_empty() {
                break;
            }
            streams.push(stream);
        }
        (last, looked_at) = (name, looked_at + 1);
    }
    let more = looked_at < count || count == asked;
    pb::ListStreamsResponse { streams, next_page_token: if more { last } else { String::new() } }
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
    fn pages_of_streams_have_room_in_a_message() {
        let group = |n| crate::types::GroupName::parse(&format!("{n:0200}")).expect("valid");
        let info = |n| StreamInfo {
            name: StreamName::parse(&format!("s-{n}")).expect("valid"),
            number: n,
            settings: Default::default(),
            length: 0,
            bytes: 0,
            first: None,
            last: Default::default(),
            appended: 0,
            added: 0,
            deleted_max: Default::default(),
            created_ms: 0,
            expires_ms: None,
            groups: (0..1000).map(group).collect(),
        };
        let found = || (0..9).map(info).collect::<Vec<_>>();
        let all = page(found(), 100, |_| true);
        assert_eq!((all.streams.len(), all.next_page_token.as_str()), (5, "s-4"));
        let few = page(found(), 100, |name| name > "s-4");
        assert_eq!((few.streams.len(), few.next_page_token.as_str()), (4, ""));
        let none = page(found(), 9, |_| false);
        assert_eq!((none.streams.len(), none.next_page_token.as_str()), (0, "s-8"));
    }

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
