//! `synapse.v1.BackupService`: hands out the files of a backup, one piece at a time.
//!
//! One task a call. It holds the files as long as the call lasts, and the call lasts no longer than the client keeps
//! taking: one that is silent for too long is ended, one that is gone is noticed by its closed stream.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::convert::pb_time;
use super::pb::backup_service_server::BackupService;
use super::pb::take_backup_response::Response as Tell;
use super::status::{self, status};
use super::{Shared, pb};
use crate::access::Permission;
use crate::engine::BackupSource;
use crate::error::{Error, Reason, Result};
use crate::format::crc;
use crate::limits;

/// Pieces on their way to the transport at most.
const CHANNEL_PIECES: usize = 4;

type Message = Result<pb::TakeBackupResponse, Status>;

/// The service.
pub(super) struct Backups(pub(super) Shared);

#[tonic::async_trait]
impl BackupService for Backups {
    type TakeBackupStream = ReceiverStream<Message>;

    async fn take_backup(
        &self,
        request: Request<Streaming<pb::TakeBackupRequest>>,
    ) -> Result<Response<Self::TakeBackupStream>, Status> {
        let caller = self.0.caller(&request).map_err(status)?;
        caller.may(Permission::Admin, "*").map_err(status)?;
        let source = self.0.engine.begin_backup().await.map_err(status)?;
        let (sender, receiver) = mpsc::channel(CHANNEL_PIECES);
        let copier = Copier { shared: self.0.clone(), source, requests: request.into_inner(), sender };
        tokio::spawn(copier.run());
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// The task of a call.
struct Copier {
    shared: Shared,
    source: BackupSource,
    requests: Streaming<pb::TakeBackupRequest>,
    sender: mpsc::Sender<Message>,
}

impl Copier {
    async fn run(mut self) {
        let (sender, drain) = (self.sender.clone(), self.shared.drain.clone());
        let end = tokio::select! {
            biased;
            () = sender.closed() => return,
            () = drain.cancelled() => Err(Shared::draining()),
            end = self.copy() => end,
        };
        // The files may go before the client hears why.
        drop(self.source);
        if let Err(status) = end {
            // A client that takes nothing more has no use for the reason.
            let _ = sender.try_send(Err(status));
        }
    }

    async fn copy(&mut self) -> Result<(), Status> {
        let plan = plan(&self.source);
        self.send(Tell::Plan(plan)).await?;
        let idle = self.shared.options.backup_idle_max;
        loop {
            let message = timeout(idle, self.requests.message()).await.map_err(|_| silent(idle))?;
            let max = self.shared.options.message_bytes_max;
            match message.map_err(|found| status::with_reason(found, max))? {
                Some(wanted) => self.send_file(wanted).await?,
                None => return Ok(()),
            }
        }
    }

    /// Sends a file from an offset to its end.
    async fn send_file(&self, wanted: pb::TakeBackupRequest) -> Result<(), Status> {
        let pb::TakeBackupRequest { file, mut offset } = wanted;
        let end = self.source.plan().files.iter().find(|known| known.name == file).map_or(0, |known| known.length);
        loop {
            let read = self.source.read(&file, offset, limits::BACKUP_PIECE_BYTES).await;
            let data = read.map_err(status)?;
            let (from, crc32c) = (offset, crc::content(&data));
            offset += data.len() as u64;
            self.send(Tell::Piece(pb::BackupPiece { file: file.clone(), offset: from, data, crc32c })).await?;
            if offset >= end {
                return Ok(());
            }
        }
    }

    async fn send(&self, response: Tell) -> Result<(), Status> {
        let idle = self.shared.options.backup_idle_max;
        let sent = timeout(idle, self.sender.send(Ok(pb::TakeBackupResponse { response: Some(response) }))).await;
        // Nobody takes it where the call has ended, which ends the task, too.
        sent.map_err(|_| silent(idle))?.map_err(|_| Shared::draining())
    }
}

fn silent(idle: Duration) -> Status {
    let why = format!("the client took nothing and asked for nothing for {} ms", idle.as_millis());
    status(Error::new(Reason::LimitReached, why).with("max_ms", idle.as_millis()))
}

fn plan(source: &BackupSource) -> pb::BackupPlan {
    let plan = source.plan();
    let file = |file: &crate::engine::BackupFile| pb::BackupFile {
        name: file.name.clone(),
        length: file.length,
        head: file.head.clone(),
    };
    pb::BackupPlan {
        store: plan.store.0.to_vec().into(),
        end: plan.end.0,
        time: Some(pb_time(plan.taken_ms)),
        files: plan.files.iter().map(file).collect(),
    }
}
