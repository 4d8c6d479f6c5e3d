//! Backups over gRPC: the plan, the pieces, and what is refused.

use std::time::Duration;

use synapse::proto::v1::backup_service_client::BackupServiceClient;
use synapse::proto::v1::take_backup_response::Response as Tell;
use synapse::proto::v1::{self, BackupPlan, TakeBackupRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

use crate::grpc::{Bare, Server, big, next};

struct Call {
    asks: mpsc::Sender<TakeBackupRequest>,
    answers: Streaming<v1::TakeBackupResponse>,
}

impl Call {
    async fn begin(channel: &Channel) -> Result<Self, Status> {
        let (asks, asked) = mpsc::channel(1);
        let answers = BackupServiceClient::new(channel.clone()).take_backup(ReceiverStream::new(asked)).await?;
        Ok(Self { asks, answers: answers.into_inner() })
    }

    async fn next(&mut self) -> Result<Option<Tell>, Status> {
        next(&mut self.answers).await.map(|answer| answer.and_then(|answer| answer.response))
    }

    async fn plan(&mut self) -> BackupPlan {
        match self.next().await.expect("it lives") {
            Some(Tell::Plan(plan)) => plan,
            other => panic!("no plan: {other:?}"),
        }
    }

    async fn ask(&self, file: &str, offset: u64) {
        self.asks.send(TakeBackupRequest { file: file.into(), offset }).await.expect("it listens");
    }

    /// The bytes of a file from an offset on.
    async fn file(&mut self, file: &v1::BackupFile, offset: u64) -> Vec<u8> {
        self.ask(&file.name, offset).await;
        let mut bytes = Vec::new();
        while offset + (bytes.len() as u64) < file.length {
            let Some(Tell::Piece(piece)) = self.next().await.expect("it lives") else { panic!("no piece") };
            assert_eq!((piece.file.as_str(), piece.offset), (file.name.as_str(), offset + bytes.len() as u64));
            assert_eq!(piece.crc32c, synapse::format::crc::content(&piece.data));
            assert!(!piece.data.is_empty());
            bytes.extend_from_slice(&piece.data);
        }
        bytes
    }
}

fn refusal(status: &Status) -> (Code, String) {
    let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
    (status.code(), reason.unwrap_or_default())
}

#[tokio::test]
async fn files_come_whole_and_from_any_offset() {
    let server = Server::start_with(|settings| settings.segment_bytes = 4 << 20).await;
    for _ in 0..12 {
        server.publish("s", vec![big(500_000); 2]).await;
    }
    let mut call = Call::begin(&server.channel).await.expect("begins");
    let plan = call.plan().await;
    assert_eq!(plan.store.len(), 16);
    assert!(plan.files.len() >= 3 && plan.time.is_some(), "{plan:?}");
    let mut end = 0;
    for file in &plan.files {
        let bytes = call.file(file, 0).await;
        assert_eq!((bytes.len() as u64, &bytes[..80]), (file.length, &file.head[..]));
        let from = file.length / 2;
        assert!(call.file(file, from).await == bytes[from as usize..]);
        let first: u64 = file.name.trim_end_matches(".log").parse().expect("a segment");
        end = first + file.length - 80;
    }
    assert_eq!(end, plan.end, "the last file ends where the copy does");
    // What is published meanwhile is no part of it.
    server.publish("s", vec![big(500_000)]).await;
    let last = plan.files.last().expect("some").clone();
    assert_eq!(call.file(&last, 0).await.len() as u64, last.length);
    drop(call.asks);
    assert!(next(&mut call.answers).await.expect("it ends well").is_none());
}

#[tokio::test]
async fn bad_requests_end_the_call_with_the_reason() {
    let server = Server::start().await;
    server.fill("s", 0..10).await;
    let mut call = Call::begin(&server.channel).await.expect("begins");
    let file = call.plan().await.files[0].clone();
    for (name, offset) in [
        ("nothing.log", 0),
        ("../STORE", 0),
        ("", 0),
        (file.name.as_str(), file.length),
        (file.name.as_str(), u64::MAX),
    ] {
        let mut call = Call::begin(&server.channel).await.expect("begins");
        call.plan().await;
        call.ask(name, offset).await;
        let status = call.next().await.expect_err("is refused");
        assert_eq!(refusal(&status), (Code::InvalidArgument, "INVALID_ARGUMENT".into()), "{name} {offset}: {status}");
    }
    assert_eq!(call.file(&file, 0).await.len() as u64, file.length, "the other call goes on");
}

#[tokio::test]
async fn few_are_taken_at_a_time_and_those_that_end_make_room() {
    let server = Server::start().await;
    server.fill("s", 0..10).await;
    let mut first = Call::begin(&server.channel).await.expect("begins");
    first.plan().await;
    let mut second = Call::begin(&server.channel).await.expect("begins");
    second.plan().await;
    let status = Call::begin(&server.channel).await.err().expect("no more");
    assert_eq!(refusal(&status), (Code::ResourceExhausted, "LIMIT_REACHED".into()));
    drop(first);
    for _ in 0..200 {
        if Call::begin(&server.channel).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("a client that is gone still holds files");
}

#[tokio::test]
async fn a_silent_client_holds_nothing_for_long() {
    let options = synapse::grpc::Options { backup_idle_max: Duration::from_millis(100), ..Default::default() };
    let server = Bare::start(options).await;
    let mut events = server.events();
    for _ in 0..8 {
        let publish = v1::PublishRequest { stream: "s".into(), events: vec![big(900_000)], ..Default::default() };
        events.publish(publish).await.expect("published");
    }
    let mut quiet = Call::begin(&server.channel).await.expect("begins");
    quiet.plan().await;
    let status = quiet.next().await.expect_err("is ended");
    assert_eq!(refusal(&status), (Code::ResourceExhausted, "LIMIT_REACHED".into()), "{status}");
    // One that asks and takes nothing is ended as well: two of them leave room for more.
    let mut stuck = Vec::new();
    for _ in 0..2 {
        let mut call = Call::begin(&server.channel).await.expect("begins");
        let file = call.plan().await.files[0].name.clone();
        call.ask(&file, 0).await;
        stuck.push(call);
    }
    tokio::time::sleep(Duration::from_millis(1000)).await;
    Call::begin(&server.channel).await.expect("there is room").plan().await;
}

#[tokio::test]
async fn a_server_that_drains_ends_backups() {
    let server = Bare::start(synapse::grpc::Options::default()).await;
    let mut call = Call::begin(&server.channel).await.expect("begins");
    assert!(call.plan().await.files.len() <= 1, "nothing was published");
    server.drain.cancel();
    let status = call.next().await.expect_err("is ended");
    assert_eq!(refusal(&status), (Code::Unavailable, "DRAINING".into()));
}
