//! `synapse backup`: a whole and consistent copy of a running server's store, which can be taken up again where it was
//! interrupted, and brought up to date later.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, bail};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::client::{Connect, refused};
use super::progress::Progress;
use super::render::{Output, moment};
use crate::format::segment::StoreId;
use crate::proto::v1::{self, take_backup_response::Response};
use crate::storage::{BackupFile, BackupFolder, BackupPlan, Covered, Receiving, Taken};
use crate::types::LogPosition;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder of the backup: made where it is missing, brought up to date where it holds one of this store.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let mut folder = BackupFolder::open(&args.to)?;
    // Before the server is asked: it keeps its files from the plan on.
    let progress = Progress::bytes("checking what is there", folder.noted_bytes());
    folder.check(&mut |done| progress.set(done))?;
    drop(progress);
    let mut call = Call::begin(&args.connect).await?;
    let plan = call.plan().await?;
    folder.begin(&plan)?;
    let fetched = fetch(&mut call, &mut folder, &plan).await?;
    drop(call);
    let taken = folder.finish(&plan)?;
    print(&args, taken, fetched)?;
    Ok(())
}

/// Fetches what is not there yet; answers how many bytes that was.
async fn fetch(call: &mut Call, folder: &mut BackupFolder, plan: &BackupPlan) -> anyhow::Result<u64> {
    let progress = Progress::bytes("copying", plan.files.iter().map(|file| file.length).sum());
    let (mut done, mut fetched) = (0, 0);
    for file in &plan.files {
        if let Some(mut receiving) = folder.receive(file)? {
            let from = receiving.next_offset();
            call.ask(&file.name, from).await?;
            while !receiving.is_whole() {
                call.piece(&mut receiving, &file.name).await?;
                progress.set(done + receiving.next_offset());
            }
            folder.keep(receiving)?;
            fetched += file.length - from;
        }
        done += file.length;
        progress.set(done);
    }
    Ok(fetched)
}

/// The call that the files come over. The server keeps them as long as it lasts.
struct Call {
    requests: mpsc::Sender<v1::TakeBackupRequest>,
    answers: Streaming<v1::TakeBackupResponse>,
}

impl Call {
    async fn begin(connect: &Connect) -> anyhow::Result<Self> {
        let (requests, asked) = mpsc::channel(1);
        let answers = connect.backups().await?.take_backup(ReceiverStream::new(asked)).await;
        Ok(Self { requests, answers: answers.map_err(refused)?.into_inner() })
    }

    async fn next(&mut self) -> anyhow::Result<Response> {
        let answer = self.answers.message().await.map_err(refused)?;
        answer.and_then(|answer| answer.response).context("the server ended the backup before it was whole")
    }

    async fn plan(&mut self) -> anyhow::Result<BackupPlan> {
        let Response::Plan(plan) = self.next().await? else { bail!("the server sent something before the plan") };
        let file = |file: v1::BackupFile| BackupFile { name: file.name, length: file.length, head: file.head };
        let Ok(store) = plan.store.as_ref().try_into() else { bail!("the plan names no store") };
        let time = plan.time.unwrap_or_default();
        Ok(BackupPlan {
            store: StoreId(store),
            end: LogPosition(plan.end),
            taken_ms: time.seconds as u64 * 1000 + time.nanos as u64 / 1_000_000,
            files: plan.files.into_iter().map(file).collect(),
        })
    }

    async fn ask(&mut self, file: &str, offset: u64) -> anyhow::Result<()> {
        // Where the server has ended the call, the next answer says why.
        let _ = self.requests.send(v1::TakeBackupRequest { file: file.into(), offset }).await;
        Ok(())
    }

    async fn piece(&mut self, receiving: &mut Receiving, name: &str) -> anyhow::Result<()> {
        match self.next().await? {
            Response::Piece(piece) if piece.file == name => {
                Ok(receiving.take(piece.offset, &piece.data, piece.crc32c)?)
            }
            _ => bail!("the server sent something else than {name}"),
        }
    }
}

fn print(args: &Args, taken: Taken, fetched: u64) -> io::Result<()> {
    let Taken { covered, files, bytes } = taken;
    let mut out = io::stdout().lock();
    if args.output.json {
        let mut object = json!({ "files": files, "bytes": bytes, "fetched_bytes": fetched });
        add_covered(&mut object, covered);
        return writeln!(out, "{object}");
    }
    writeln!(out, "{files} files, {bytes} bytes, {fetched} of them fetched now")?;
    write_covered(&mut out, covered)
}

/// The range of moments as lines.
pub(super) fn write_covered(out: &mut impl Write, Covered { oldest, end }: Covered) -> io::Result<()> {
    writeln!(out, "from  position {}  {}", oldest.position, moment(oldest.wall_ms))?;
    writeln!(out, "to    position {}  {}", end.position, moment(end.wall_ms))
}

/// The range of moments as members of an object.
pub(super) fn add_covered(object: &mut serde_json::Value, Covered { oldest, end }: Covered) {
    object["oldest_position"] = oldest.position.0.into();
    object["oldest_time"] = moment(oldest.wall_ms).into();
    object["end_position"] = end.position.0.into();
    object["end_time"] = moment(end.wall_ms).into();
}
